"""One stream by several definitions, against what the tools themselves reported for it."""

import math

import pytest

from helpers.latency import Delta, Record
from helpers.widgets import timeline

# The stream of `helpers.latency`, whose figures are by the tools themselves.
RECORD = Record(
    sent=10.0,
    role_only=10.1,
    deltas=[Delta(10.3, "content", "A"), Delta(10.34, "content", "BCD")],
    usage=10.346,
    end=10.35,
    output_tokens=4,
)


def test_the_definitions_are_the_tools():
    found = timeline.definitions(RECORD)
    in_ms = {name: (1000 * first, 1000 * each) for name, (first, each) in found.items()}
    assert in_ms["this kit, AIPerf, GuideLLM's ITL"] == pytest.approx((300, 13.33), abs=0.01)
    assert in_ms["SGLang bench"] == pytest.approx((300, 16.67), abs=0.01)
    assert in_ms["LLMPerf, GuideLLM's TPOT"] == pytest.approx((300, 85), abs=0.01)
    # It reported 81.7: its last event is the finish reason's, 5 ms before the stream's end.
    assert in_ms["vLLM bench"] == pytest.approx((100, 81.7), abs=2)


def test_the_page_has_every_piece():
    made = timeline.explore(RECORD)
    assert [piece["text"] for piece in made.data["pieces"]] == ["A", "BCD"]
    assert [piece["at"] for piece in made.data["pieces"]] == pytest.approx([300, 340], abs=0.01)
    assert made.data["end"] == pytest.approx(350, abs=0.01)
    assert made.table.loc["SGLang bench", "per token (ms)"] == 16.7


@pytest.mark.parametrize(
    "record", [Record(), Record(sent=1.0, error="no"), Record(sent=1.0, deltas=RECORD.deltas)]
)
def test_half_an_answer_is_refused(record):
    assert math.isnan(record.tpot_s)
    with pytest.raises(ValueError, match="no whole answer"):
        timeline.explore(record)
