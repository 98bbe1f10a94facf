"""A streamed answer on a time axis, by the definitions of some tools, and at other speeds."""

import math

import pandas as pd

from helpers.latency import Record
from helpers.widgets.explorer import Explorer

SPEEDS = (10, 30, 70, 150)  # tokens per second, to feel


def definitions(record: Record) -> dict[str, tuple[float, float]]:
    """Time to first token and time per token in seconds, as tools define them (late 2026).

    vLLM's benchmark begins with the first event, even if it has a role only, and ends with the
    last; SGLang's ends with the stream. LLMPerf and GuideLLM's TPOT divide the whole time by all
    tokens. `helpers.latency` has the figures that these tools reported for one stream.

    Args:
        record: a whole answer of two tokens or more, with the server's count.

    Raises:
        ValueError: there is no such answer in the record.
    """
    if math.isnan(record.tpot_s) or math.isnan(record.e2e_s):
        raise ValueError("The record has no whole answer with a count of its tokens.")
    number, first, last = record.output_tokens, record.ttft_s, record.deltas[-1].at - record.start
    begun = first if record.role_only is None else record.role_only - record.start
    return {
        "this kit, AIPerf, GuideLLM's ITL": (first, record.tpot_s),
        "vLLM bench": (begun, (record.e2e_s - begun) / (number - 1)),
        "SGLang bench": (first, (record.e2e_s - first) / (number - 1)),
        "LLMPerf, GuideLLM's TPOT": (first, last / number),
    }


def explore(record: Record) -> Explorer:
    """Look at one streamed answer: when its pieces came, and how other speeds feel.

    Args:
        record: of `latency.stream_once`.
    """
    found = definitions(record)
    rows = {
        name: {"TTFT (ms)": 1000 * first, "per token (ms)": 1000 * each}
        for name, (first, each) in found.items()
    }
    table = pd.DataFrame(rows).T.round(1)
    data = {
        "pieces": [
            {"at": round(1000 * (delta.at - record.start), 2), "text": delta.text}
            for delta in record.deltas
        ],
        "end": round(1000 * record.e2e_s, 2),
        "tokens": record.output_tokens,
        "definitions": [
            {"name": name, "first": round(1000 * first, 2), "each": round(1000 * each, 2)}
            for name, (first, each) in found.items()
        ],
        "speeds": list(SPEEDS),
    }
    return Explorer("A stream on the time axis", table, data, "timeline.js")
