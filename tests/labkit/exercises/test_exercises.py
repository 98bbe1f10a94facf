"""Every exercise: its stub fails, its solution passes, and typical mistakes get their hint."""

import json
import re
import subprocess
import sys

import pytest
from obedient_model import serving
from solutions import CELLS, solve

from helpers.paths import ROOT
from labkit.exercises import check, portable
from labkit.exercises.engine import load_all, verdict

EXERCISES = load_all()


@pytest.mark.parametrize("name", EXERCISES)
def test_the_stub_does_not_pass_and_says_so(name):
    right, message = verdict(name, ...)
    assert not right
    assert "not answered yet" in message
    assert EXERCISES[name].hint in message


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_passes(name):
    with serving() as (lab, _):
        assert verdict(name, solve(name), lab) == (True, f"{name}: right!")


@pytest.mark.parametrize("name", EXERCISES)
@pytest.mark.parametrize("nonsense", [None, "nonsense", -1, [], {}, object(), lambda *_: None])
def test_nonsense_never_passes_and_never_raises(name, nonsense):
    assert not verdict(name, nonsense)[0]


def test_notebooks_and_exercises_belong_together():
    assert set(CELLS) == set(EXERCISES)
    for name, (notebook, source, below) in CELLS.items():
        assert name[:2] == notebook[:2]
        assert "answer = ..." in source, f"{name}: the cell in {notebook} is not a stub"
        assert "<details>" in below, f"{name}: no folded solution below it in {notebook}"


@pytest.mark.parametrize(
    ("name", "wrong", "hint"),
    [
        ("00-seed", {"temperature": 0, "seed": 1}, "above 0"),
        ("00-messages", [{"role": "user", "content": "x"}], "system"),
        ("01-claim", {"B", "D"}, "1 more"),
        ("01-claim", {"A", "B", "D"}, "A is true"),
        ("01-roofline", 1008 / 48, "vision encoder"),
        ("01-claim", {"B", "C", "D", "E"}, "C is true"),
        ("01-roofline", 1008 / 22.901, "two bytes"),
        ("02-bits", 4 + 8 / 64 + 32 / (64 * 256), "with double quantization"),
        ("02-skip", ["vision_tower", "multi_modal_projector", "lm_head"], "start of the path"),
        ("02-skip", ["model.vision_tower", "model.multi_modal_projector"], "defaults"),
        ("03-cost", lambda a, b, i, o: a * i + b * o, "per million"),
        ("03-cost", lambda a, b, i, o: (a * o + b * i) / 1e6, "wrong way round"),
        ("04-tokens", lambda w, h: -(-h // 28) * (-(-w // 28) + 1), "shrunk"),
        ("04-message", {"role": "user", "content": "look"}, "list of parts"),
        ("04-pairs", lambda pairs: sum(a or b for a, b in pairs) / len(pairs), "may be a guess"),
        ("04-pairs", lambda pairs: sum(map(sum, pairs)) / 2 / len(pairs), "single answers"),
        ("05-id", ["call_abc1"], "neither a letter"),
        ("05-schema", {"type": "function", "function": {"name": "convert"}}, "description"),
        ("05-check", lambda text, allowed, required: text.startswith("{"), "no JSON"),
        ("05-check", lambda text, allowed, required: "Oslo" in text, "JSON has null"),
        ("06-rate", 40, "eight"),
        ("07-flag", "image=4", "JSON"),
        ("08-fair", ["B", "C", "G"], "One more makes it unfair"),
        ("08-fair", "B C E F G", "F is right as it is"),
        ("08-scorer", lambda text: len(text.split()) == 1, "only the first line counts"),
        (
            "08-scorer",
            lambda t: len(t.strip().splitlines()[0].split()) == 1,
            "stopped with an error",
        ),
        ("08-seat", 0.58, "Which seat gains?"),
        ("08-seat", 0.27, "share of the votes"),
        ("09-labels", lambda ids, turns: ids, "whole prompt"),
        ("09-labels", lambda ids, turns: [-100] * len(ids), "every turn"),
        ("09-rank", 8 * 5120 * 32768, "add their sizes"),
        ("09-memory", 1.104, "two numbers"),
        ("09-evidence", ["B", "D"], "One more"),
        ("09-evidence", "BCDF", "speaks against"),
        ("10-memory", 1100, "last request alone"),
        ("10-memory", 6600, "own prompt"),
        ("10-edit", lambda messages, number, text: [*messages, {"content": text}], "follows"),
    ],
)
def test_mistakes_get_their_hint(name, wrong, hint):
    right, message = verdict(name, wrong)
    assert not right
    assert hint in message


def test_check_prints_and_returns_nothing(capsys):
    assert check("02-bits", 4.5) is None
    assert capsys.readouterr().out.splitlines()[0] == "✓ 02-bits: right!"


@pytest.mark.parametrize("name", ["99-none", "01-none", "01", "", "..-kv", "kv", 1, ..., None, []])
def test_an_unknown_exercise_lists_the_known_ones(name):
    with pytest.raises(KeyError, match=r"no exercise is called .*01-kv.*02-bits"):
        check(name, 1)


def test_exercises_are_listed_in_the_order_of_the_notebooks():
    assert list(EXERCISES)[:4] == ["00-messages", "00-seed", "00-history", "01-kv"]
    assert [name[:2] for name in EXERCISES] == sorted(name[:2] for name in EXERCISES)


def test_a_check_imports_its_own_notebooks_exercises_only():
    code = (
        "import sys; from labkit.exercises import check; check('02-bits', 4.5);"
        "print(sorted(name[-4:] for name in sys.modules if name.startswith('labkit.exercises.nb')))"
    )
    command = [sys.executable, "-c", code]
    output = subprocess.run(
        command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    ).stdout
    assert output.splitlines()[0] == "✓ 02-bits: right!"
    assert output.splitlines()[-1] == "['nb02']"


def test_an_answer_that_raises_is_a_hint_not_a_crash():
    def broken(*_):
        raise ZeroDivisionError("mine")

    message = verdict("03-cost", broken)[1]
    assert "answer(1000, 500, 0.075, 0.2) stopped with an error" in message
    assert "ZeroDivisionError" not in message


@pytest.mark.parametrize("name", [n for n, e in EXERCISES.items() if e.send and e.tests])
def test_a_function_that_fails_is_never_called_in_this_process(name):
    """Nothing would stop it here. Its tests run in another process, with a copy of the list."""
    calls = []

    def wrong(*_):
        calls.append(1)

    with serving() as (lab, _):
        assert not verdict(name, wrong, lab)[0]
    assert calls == []


client = object()  # a global of the name of an attribute below


def test_the_name_of_an_attribute_is_no_global():
    def mine(status, attempt, retry_after):
        if hasattr(status, "client"):
            return status.client
        return solve("03-retry")(status, attempt, retry_after)

    assert "client" not in portable._used_globals(mine)
    assert "solve" in portable._used_globals(mine)


def test_names_keep_the_modules_that_transformers_keeps():
    from transformers.quantizers.quantizers_utils import should_convert_module

    from labkit.exercises import nb02

    names = [
        "model",
        "model.vision_tower",
        ".*vision_tower",
        "q_proj",
        "lm_head",
        "head",
        "model.vis",
    ]
    for name in names:
        for path in (*nb02._VISION, *nb02._PROJECTOR, *nb02._LANGUAGE, "lm_head"):
            assert nb02._keeps(name, path) is not should_convert_module(path, [name])


def test_the_lines_of_the_streams_text_give_the_expected_text():
    from helpers.paths import NOTEBOOKS

    cells = json.loads((NOTEBOOKS / "03_openrouter.ipynb").read_text(encoding="utf-8"))["cells"]
    text = "".join(next(each["source"] for each in cells if each["id"] == "exercise-3"))
    namespace = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], namespace)
    assert solve("03-stream")(namespace["lines"]) == "Hello there"
