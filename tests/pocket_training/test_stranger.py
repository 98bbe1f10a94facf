"""The exam of `data/stranger/`: the judge's rules on planted replies, and the files themselves."""

import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pocket_training.stranger import draw, judge

EXAM = Path(__file__).resolve().parents[2] / "data" / "stranger"


@pytest.fixture(scope="module")
def cases():
    """All cases by skill."""
    found = {}
    for path in sorted((EXAM / "cases").glob("*.jsonl")):
        lines = path.read_text(encoding="utf-8").splitlines()
        found[path.stem] = [json.loads(line) for line in lines]
    return found


def right(expect, content, calls=(), question="?"):
    case = {"messages": [{"role": "user", "content": question}], "expect": expect}
    made = [{"function": {"name": n, "arguments": a}} for n, a in calls]
    return not judge.faults(case, {"content": content, "tool_calls": made or None})


RED = {"any_of": ["red"], "none_of": ["blue", "green"]}
CORNER = {"all_of": [["top", "upper"], ["left"]], "none_of": ["right", "bottom"]}
ABOUT = {"not_about": ["picture", "the bars"]}


@pytest.mark.parametrize(
    ("expect", "good", "bad"),
    [
        (RED, ["Red.", "It is **red**, not blue.", "red"],
         ["blue", "It is not red.", "redder", "red or blue", "", None]),
        (CORNER, ["Top-left.", "in the upper left corner"], ["top", "left", "top right"]),
        ({"any_of": ["18"]}, ["18 °C", "It is 18."], ["18.5", "180", "1.18"]),
        ({"any_of": ["06:30", "6:30"]}, ["At 6:30 am.", "06:30"], ["16:30", "6:300"]),
        ({"number": 3}, ["3", "Three.", "There are three of them."],
         ["4", "3 or 4", "none", "I see some"]),
        ({"number": 1}, ["One.", "There is 1 star."], ["2", "no"]),
        ({"number": 0}, ["0", "There are no stars.", "None."], ["1", "no, there are 2"]),
        ({"number": 2405}, ["2405", "2,405", "two thousand four hundred and five"], ["245"]),
        ({"yes_no": "yes"}, ["Yes.", "yes, there is no doubt", "There is a red star.", "True"],
         ["No", "There isn't one.", "Red"]),
        ({"yes_no": "no"}, ["No.", "There is no star.", "I don't see one.", "False."],
         ["Yes", "There is one.", "star"]),
        ({"declines": True},
         ["I do not see a dog.", "There's no dog here.", "I can't tell.", "No dog is shown."],
         ["It is brown.", "The dog is red."]),
        (ABOUT, ["Hello! How can I help?"], ["The picture is nice.", "See the bars.", ""]),
        ({"no_call": True, "any_of": ["paris"]}, ["Paris."], ["Rome", "[TOOL_CALLS]paris"]),
    ],
)  # fmt: skip
def test_answers(expect, good, bad):
    assert [text for text in good if not right(expect, text)] == []
    assert [text for text in bad if right(expect, text)] == []


def test_an_answer_is_no_call_and_a_call_is_no_answer():
    assert not right({"no_call": True}, "Paris.", [("f", "{}")])
    assert not right(RED, "red", [("f", "{}")])
    assert not right({"calls": [{"name": "f", "arguments": {}}]}, "f()")


def test_numbers_of_the_question_do_not_count():
    assert right({"number": 5}, "5 of the 3 kinds", question="How many of the 3 kinds?")
    assert right({"number": 2}, "The red one has 2 corners.")
    assert not right({"number": 2}, "one or two")


TEN = {"any_of": [10], "optional": True}
WHO = {"name": {"any_of": ["Li", "Ms Li"]}}
WANT = {"to": "Oslo", "days": 3, "tags": ["a", "b"], "who": WHO, "size": TEN, "now": True}
BOOK = {"calls": [{"name": "book", "arguments": WANT}]}
GOOD = {"to": "oslo", "days": 3.0, "tags": ["b", "a"], "who": {"name": "Ms Li"}, "now": True}


@pytest.mark.parametrize(
    ("change", "fine"),
    [({}, True), ({"size": 10}, True), ({"size": 11}, False), ({"days": "3"}, False),
     ({"now": "true"}, False), ({"extra": 1}, False), ({"tags": ["a"]}, False),
     ({"who": {"name": "Wu"}}, False), ({"to": "Rome"}, False)],
)  # fmt: skip
def test_arguments(change, fine):
    assert right(BOOK, None, [("book", json.dumps(GOOD | change))]) == fine


def test_calls_as_a_whole():
    two = {"calls": [{"name": "a", "arguments": {"x": 1}}, {"name": "b", "arguments": {}}]}
    assert right(two, "", [("b", "{}"), ("a", '{"x": 1}')])
    assert not right(two, "", [("a", '{"x": 1}')])
    assert not right(two, "", [("a", '{"x": 1}'), ("b", "{}"), ("b", "{}")])
    assert not right(two, "", [("b", "{}"), ("a", '{"x": 1')])
    assert not right(two, "", [("b", "{}"), ("c", '{"x": 1}')])


def answer(expect):
    """What counts as the same answer, for the balance of a skill."""
    if "calls" in expect:
        return expect["calls"][0]["name"]
    if "all_of" in expect:
        return "+".join(group[0] for group in expect["all_of"])
    if "any_of" in expect:
        return expect["any_of"][0]
    return expect.get("number", expect.get("yes_no"))


def test_cases_are_many_and_varied(cases):
    ids = [case["id"] for group in cases.values() for case in group]
    assert len(ids) == len(set(ids))
    assert len(cases) == 20
    for skill, group in cases.items():
        assert {case["skill"] for case in group} == {skill}
        assert len(group) >= (200 if skill == "leakage" else 100), skill
        assert len({case["wording"].lower().strip(" ?.!") for case in group}) >= 40, skill
        assert len({case["voice"] for case in group}) >= 3, skill
        answers = Counter(answer(case["expect"]) for case in group)
        del answers[None]
        verdicts = [case["expect"].get("yes_no") for case in group]
        said = Counter(v for v in verdicts if v)
        if said.total() >= 5:
            assert 0.45 <= said["yes"] / said.total() <= 0.55, skill
        if skill != "yes_no" and answers:
            assert max(answers.values()) <= 0.35 * len(group), skill


def test_cases_are_well_formed(cases):
    kinds = {"any_of", "all_of", "none_of", "number", "yes_no", "calls", "order", "no_call"}
    kinds |= {"declines", "not_about"}
    for case in (case for group in cases.values() for case in group):
        expect, tools = case["expect"], {t["function"]["name"] for t in case.get("tools", [])}
        assert set(expect) <= kinds, case["id"]
        assert case["messages"][-1]["role"] in ("user", "tool")
        assert not set(expect.get("any_of", [])) & set(expect.get("none_of", [])), case["id"]
        assert {call["name"] for call in expect.get("calls", [])} <= tools, case["id"]
        assert len(tools) <= 8
        for part in re.findall(r"\{\w*\}", json.dumps(case["messages"])):
            assert part == "{}", case["id"]


def test_twins_differ(cases):
    pairs = defaultdict(list)
    for case in cases["counterfactual"]:
        pairs[case["pair"]].append(case)
    for a, b in pairs.values():
        asked = [[p.get("text") for p in case["messages"][0]["content"]] for case in (a, b)]
        assert asked[0] == asked[1]
        assert answer(a["expect"]) != answer(b["expect"])


def test_pictures_are_there_and_used(cases):
    used = re.findall(r'"pictures/([^"]+)"', json.dumps(list(cases.values())))
    files = {path.name: path.stat().st_size for path in (EXAM / "pictures").iterdir()}
    lines = (EXAM / "pictures.jsonl").read_text(encoding="utf-8").splitlines()
    assert set(used) == set(files) == {json.loads(line)["file"] for line in lines}
    assert sum(files.values()) <= 6_000_000


def test_a_sample_is_drawn_again_the_same(tmp_path):
    specs = draw.read_specs()
    small = [name for name, spec in specs.items() if max(spec.get("size", [0])) <= 260]
    charts = [name for name, spec in specs.items() if spec["kind"] == "bars"]
    for name in [*small[:: len(small) // 6], charts[0]]:
        stored = np.asarray(Image.open(EXAM / "pictures" / name).convert("RGB"), float)
        draw.save(specs[name], tmp_path)
        again = np.asarray(Image.open(tmp_path / name).convert("RGB"), float)
        assert stored.shape == again.shape, name
        assert np.abs(stored - again).mean() < 2, name
