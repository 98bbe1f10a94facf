"""The model card says what the evaluation's file says, about the parts that are there."""

import hashlib
import json

from helpers.paths import DATA
from pocket_model.build import ADAPTER_FILE
from pocket_training import exam_cases, score_tables
from pocket_training.chat_tasks import HELD_OUT_REPLIES

CARD = DATA / "pocket" / "README.md"
RESULT = json.loads((DATA / "pocket" / "evaluation.json").read_text(encoding="utf-8"))


def test_the_cards_table_is_the_evaluations():
    card = CARD.read_text(encoding="utf-8")
    assert score_tables.markdown(RESULT) in card
    assert RESULT["command"] in card
    assert RESULT["date"] in card


def test_the_evaluation_is_of_the_committed_parts():
    assert RESULT["parts_sha256"] == hashlib.sha256(ADAPTER_FILE.read_bytes()).hexdigest()


def test_every_count_follows_from_the_verdicts():
    verdicts = RESULT["right"]
    lines = [line for line in RESULT["rows"] if "right" in line]
    assert {line["skill"] for line in lines} == set(verdicts) >= set(exam_cases.TARGETS)
    for line in lines:
        marks = verdicts[line["skill"]]
        assert (line["right"], line["of"]) == (marks.count("1"), len(marks)), line["skill"]


def test_what_is_committed_stays_small():
    assert ADAPTER_FILE.stat().st_size + HELD_OUT_REPLIES.stat().st_size <= 32_000_000
