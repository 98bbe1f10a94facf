"""What the text of a notebook says is what its committed outputs show."""

import random
import re

import pandas as pd
import pytest

from labkit import notebooks

# Of each demonstration: the notebook, a part of its cell's source, and what its output must show.
SHOWN = [
    ("04", "compare(questions, picture, other)", r"^(?!.*✗).*✓"),
    ("04", "compare(questions, chart, other_chart)", r"^(?!.*✗).*✓"),
    ("04", "compare(questions, island, other_island)", r"^(?!.*✗).*✓"),
    ("04", "Which picture has the red circle", r"other: .*first.*picture: .*second"),
    ("04", "extract(Bars", r"blue.*red"),
    ("05", "ask(messages, [exchange_rate])", r'"base": "EUR", "quote": "CHF"'),
    ("05", "traces.append", r"Russia.*Ukraine"),
    ("05", "import jsonschema", r'Extract.*"Rosa Parks".*"Tuskegee".*1913}'),
    ("07", "ask(lab, '", r"pocket-small: .*Tokyo"),
]


def outputs(number: str, part: str) -> str:
    """What the one cell with that part in its source shows."""
    (path,) = notebooks.select([number])
    cells = notebooks.code_cells(notebooks.read(path))
    (cell,) = [cell for cell in cells if part in cell.source]
    return "\n".join(notebooks.output_text(output) for output in cell.outputs)


@pytest.mark.parametrize(("number", "part", "pattern"), SHOWN)
def test_a_demonstration_demonstrates(number, part, pattern):
    text = outputs(number, part)
    assert re.search(pattern, text, re.DOTALL), text


def ratio(part: str, pattern: str) -> float:
    return float(re.search(pattern, outputs("06", part))[1])


def test_the_latencies_of_06_agree_with_its_text():
    """Its comparisons are paired, so a busy machine should not change them."""
    assert ratio("def first_text_s", r"comes ([\d.]+) times as late") > 1.5
    ttft = ratio("def growth", r"TTFT: +([\d.]+) times")
    assert ttft > 2 * ratio("def growth", r"TPOT: +([\d.]+) times")
    end_to_end = ratio("def answer_of", r"end to end: +([\d.]+) times")
    assert end_to_end > 2 * ratio("def answer_of", r"TTFT: +([\d.]+) times")
    assert 0.6 < ratio('rates["several"]', r"users: ([\d.]+) times") < 1.6
    assert ratio("open_loop", r"waited (\d+) times as long") > 2
    assert ratio("cases = {", r"Batching gave ([\d.]+) times") > 1.2


def test_measuring_in_turn_ignores_a_busy_round():
    """Other work slows whole rounds down: both cases of a round, here by up to 50 times."""
    (path,) = notebooks.select(["06"])
    cells = notebooks.code_cells(notebooks.read(path))
    (source,) = [cell.source for cell in cells if "def in_turn" in cell.source]
    defined = {"ROUNDS": 3, "pd": pd}
    exec(source, defined)
    busy = random.Random(0)
    slowness = [busy.uniform(1, 50) for _ in range(9)]
    cases = {"a": lambda n: 2 * slowness[n], "b": lambda n: 3 * slowness[n]}
    measured = defined["in_turn"](cases, rounds=9)
    assert list(map(len, measured.values())) == [9, 9]
    assert defined["times"](measured["a"], measured["b"]) == pytest.approx(1.5)
