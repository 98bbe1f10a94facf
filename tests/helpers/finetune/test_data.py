"""Training files: faults are told with their lines; the kit's files are as they should be."""

import ast
import json
import re

import papermill
import pytest

from helpers import wire
from helpers.finetune import data, support
from helpers.paths import DATA, ROOT

FOLDER = DATA / "finetune"
USER, SYSTEM = ({"role": role, "content": "Hello"} for role in ("user", "system"))
TOLD = {"role": "assistant", "content": "Hi"}


def write(path, *conversations):
    lines = [c if isinstance(c, str) else json.dumps({"messages": c}) for c in conversations]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_the_measurements_train_as_notebook_09_does():
    parameters = papermill.inspect_notebook(ROOT / "notebooks" / "09_fine_tune.ipynb")
    names = ("STEPS", "BATCH", "RATE")
    notebook = [ast.literal_eval(parameters[name]["default"]) for name in names]
    assert notebook == [getattr(support, name) for name in names]
    text = (ROOT / "notebooks" / "09_fine_tune.ipynb").read_text("utf-8")
    assert f'rank={support.RANK}, alpha={support.ALPHA}, name=\\"main\\"' in text


@pytest.mark.parametrize(
    ("conversation", "says"),
    [
        ([USER, USER, TOLD], "turn 2 is the user's where the assistant's is expected"),
        ([TOLD, USER], "turn 1 is the assistant's"),
        ([USER, SYSTEM, TOLD], "turn 2 is the system's"),
        ([SYSTEM, USER, {"role": "tool", "content": "x"}, TOLD], "turn 2 is the tool's"),
        ([USER], "no assistant turn, so there is nothing to learn"),
        ([USER, TOLD, USER], "it ends with the user"),
        ([USER, TOLD | {"content": " "}], "the assistant's message is empty"),
        ([USER, {"role": "assistant", "content": None}], "is empty or no text"),
        ([], "there are no messages"),
        ("[1]", "there are no messages"),
        ('{"messages": ["a"]}', "not an object with role and content"),
        ("{not JSON", "is not JSON"),
    ],
)
def test_each_fault_is_told_with_its_line(tmp_path, conversation, says):
    path = write(tmp_path / "bad.jsonl", [USER, TOLD], conversation)
    with pytest.raises(data.DataError) as error:
        data.read(path)
    assert says in str(error.value)
    assert "line 2" in str(error.value)
    assert "bad.jsonl" in str(error.value)


def test_all_faults_are_told_at_once_up_to_a_number(tmp_path):
    path = write(tmp_path / "bad.jsonl", *[[USER]] * 20)
    with pytest.raises(data.DataError, match="and 12 more") as error:
        data.read(path)
    assert str(error.value).count("nothing to learn") == 8


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_file_is_told(tmp_path, content):
    (tmp_path / "empty.jsonl").write_text(content)
    with pytest.raises(data.DataError, match="has no line"):
        data.read(tmp_path / "empty.jsonl")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(data.DataError, match=r"none\.jsonl cannot be read"):
        data.read(tmp_path / "none.jsonl")


def test_lines_without_an_id_get_one_and_several_turns_are_read(tmp_path):
    path = write(tmp_path / "good.jsonl", [SYSTEM, USER, TOLD, USER, TOLD], "", [USER, TOLD])
    assert [line["id"] for line in data.read(path)] == ["line 1", "line 3"]


def test_an_example_that_is_too_long_is_refused_and_not_cut(model_folder):
    tokenizer = wire.from_file(model_folder / "tekken.json")
    lines = [{"id": "a", "messages": [USER, TOLD]}]
    (example,) = data.encode(lines, tokenizer, longest=96)
    length = len(example.ids)
    assert len(data.encode(lines, tokenizer, longest=length)) == 1
    with pytest.raises(data.DataError, match=rf"a has {length} tokens, more than {length - 1}"):
        data.encode(lines, tokenizer, longest=length - 1)


def test_a_duplicate_is_found_whatever_its_case_and_punctuation():
    train = [{"id": "t", "messages": [USER | {"content": "Where is it?"}, TOLD]}]
    same = [{"id": "h", "messages": [SYSTEM, USER | {"content": "where  is it"}, TOLD]}]
    with pytest.raises(data.DataError, match="h is held out, and t is the same"):
        data.check_apart(train, same)
    other = [{**train[0], "id": "u", "messages": [train[0]["messages"][0], USER]}]
    with pytest.raises(data.DataError, match="u asks the same as t, with another answer"):
        data.check_apart(train + other, [])
    data.check_apart(train * 2, [{"id": "h", "messages": [USER | {"content": "Why?"}, TOLD]}])


ORDER = r"(?:#|\b(?:order|purchase)(?: is| number| no\.)? ?#?)(\d{4})\b"


def test_the_committed_files_are_right_and_apart():
    train, held_out = (data.read(FOLDER / f"{name}.jsonl") for name in ("train", "held_out"))
    assert train == support.generate(300)
    assert 200 <= len(train) <= 400
    assert 40 <= len(held_out) <= 100
    data.check_apart(train, held_out)
    for line in [*train, *held_out]:
        asked, told = line["messages"][1]["content"], line["messages"][2]["content"]
        assert support.record_fault(told, line["messages"]) is None
        record = json.loads(told)
        # A year or a price has four digits as well, so what stands before the number decides.
        orders = [int(digits) for digits in re.findall(ORDER, asked, re.IGNORECASE)]
        assert orders == ([] if record["order"] is None else [record["order"]]), asked
    # Other wordings: no sentence of the program is in a held-out message.
    said = " ".join(line["messages"][1]["content"].lower() for line in held_out)
    for sentence in sum(support.SENTENCES.values(), ()):
        longest = max(sentence.lower().split("{item}"), key=len).strip()
        assert len(longest) < 12 or longest not in said, sentence


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ('{"topic": "refund", "order": 4812}', None),
        ('{"order": 4812, "topic": "refund"}', None),
        ('{"topic": "refund", "order": null}', "order is None"),
        ('{"topic": "repair", "order": 1}', "topic is 'repair', order is 1"),
        ('{"topic": "refund", "order": "4812"}', "order"),
        ('{"topic": "refund"}', "order"),
        ('{"topic": "money", "order": 4812}', "topic"),
        ('{"topic": "refund", "order": 4812, "urgent": true}', "urgent"),
        ("Your refund is on its way.", "not JSON"),
        ("", "not JSON"),
    ],
)
def test_a_record_is_exactly_right_or_says_what_is_wrong(answer, says):
    messages = support.conversation("x", {"topic": "refund", "order": 4812})
    fault = support.record_fault(answer, messages)
    assert fault is None if says is None else says in fault


def test_the_control_has_the_same_records_and_nobody_keeps_their_own():
    lines = support.generate(50)
    for line, record in zip(lines, range(50), strict=True):  # all different
        line["messages"][-1]["content"] = str(record)
    moved = support.shuffled(lines)
    before, after = ([line["messages"][-1]["content"] for line in each] for each in (lines, moved))
    assert sorted(before) == sorted(after)
    assert not any(a == b for a, b in zip(before, after, strict=True))
    assert [line["messages"][:-1] for line in lines] == [line["messages"][:-1] for line in moved]
    assert support.shuffled(lines) == moved


def test_a_line_ends_at_a_line_feed_alone(tmp_path):
    """JSON allows U+2028 and U+0085 in a string; a byte-order mark may begin the file."""
    asked = USER | {"content": "one\u2028two\u0085three"}
    path = tmp_path / "a.jsonl"
    text = json.dumps({"messages": [asked, TOLD]}, ensure_ascii=False)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n")
    (line,) = data.read(path)
    assert line["messages"][0] == asked
