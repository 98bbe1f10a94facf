"""The model card says what the evaluation's files say, about the adapter that is there."""

import json

from pocket_model.build import ADAPTER_FILE, DEFAULT_QUANTIZATION, POCKET_DATA
from pocket_model.cache import sha256_of
from pocket_training import exam_cases, score_tables
from pocket_training.chat_tasks import HELD_OUT_REPLIES
from pocket_training.stranger import evaluate

CARD = (POCKET_DATA / "README.md").read_text(encoding="utf-8")
RESULT, INT8_RESULT, NF4_RESULT, STRANGERS_RESULT, MORE_RESULT, INT4_RESULT = RESULTS = tuple(
    json.loads((POCKET_DATA / f"{name}.json").read_text(encoding="utf-8"))
    for name in (
        "evaluation",
        "evaluation-int8",
        "evaluation-nf4",
        "evaluation-stranger",
        "evaluation-int8-more",
        "evaluation-int4",
    )
)


def test_the_cards_tables_are_the_evaluations():
    for result in (RESULT, STRANGERS_RESULT):
        assert score_tables.as_markdown(score_tables.table(result)) in CARD
    for result in (INT8_RESULT, NF4_RESULT, MORE_RESULT, INT4_RESULT):
        paired = score_tables.paired_table(result["against"]["rows"])
        assert score_tables.as_markdown(paired) in CARD
    for result in RESULTS:
        assert result["command"] in CARD
        assert result["date"] in CARD


def test_the_evaluations_are_of_the_committed_adapter():
    for result in RESULTS:
        assert result["adapter_sha256"] == sha256_of(ADAPTER_FILE)


def test_int8_is_the_servers_default_if_it_costs_no_skill_a_point():
    """Compared case by case with bf16, on the same cases.

    Some skills were asked 900 cases, since one of 300 moves by more than a point if four turn.
    """
    rows = score_tables.paired(INT8_RESULT, RESULT)
    assert rows == INT8_RESULT["against"]["rows"]
    assert {row["skill"] for row in rows} == set(RESULT["right"])
    more = {row["skill"]: row for row in MORE_RESULT["against"]["rows"]}
    assert {row["of"] for row in more.values()} == {900}
    least = min(more.get(row["skill"], row)["difference"] for row in rows)
    assert ("int8" if least >= -0.01 else "bf16") == DEFAULT_QUANTIZATION


def test_the_first_of_more_cases_are_those_of_the_evaluation():
    for skill, marks in MORE_RESULT["right"].items():
        same = [a == b for a, b in zip(marks, INT8_RESULT["right"][skill], strict=False)]
        # But for near ties: other rows in a batch round differently.
        assert sum(same) >= 297, skill


def test_every_count_follows_from_the_scores():
    for result, skills in (
        (RESULT, exam_cases.SKILLS),
        (INT8_RESULT, exam_cases.SKILLS),
        (NF4_RESULT, exam_cases.SKILLS),
        (INT4_RESULT, exam_cases.SKILLS),
        (STRANGERS_RESULT, evaluate.SKILLS),
    ):
        labels = [label for label, _ in skills.values()]
        rows = [row for row in result["rows"] if "right" in row]
        assert {row["skill"] for row in rows} == set(result["right"]) == set(labels)
        for row in rows:
            marks = result["right"][row["skill"]]
            assert (row["right"], row["of"]) == (marks.count("1"), len(marks)), row["skill"]


def test_what_is_committed_stays_small():
    assert ADAPTER_FILE.stat().st_size + HELD_OUT_REPLIES.stat().st_size <= 32_000_000
