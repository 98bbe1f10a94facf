"""Exercises of notebook 06, Latency."""

import math
from typing import Any

from labkit.exercises.answers import mapping, number
from labkit.exercises.engine import exercise, number_exercise


@exercise(
    "06-stream",
    hint="A delta with only the role is not a token. TPOT divides by the tokens after the first.",
)
def judge_stream_times(answer: Any) -> str | None:
    """TTFT, TPOT and end-to-end time of one stream, in milliseconds."""
    given = {str(key).strip().lower(): value for key, value in mapping(answer).items()}
    if not {"ttft", "tpot", "e2e"} <= set(given):
        return 'Answer with a dict with the keys "ttft", "tpot" and "e2e", in milliseconds.'
    units = ("ms", "milliseconds")
    ttft, tpot, e2e = (number(given[key], key, units) for key in ("ttft", "tpot", "e2e"))
    if max(ttft, e2e) < 1:
        return "That is in seconds; the question asks for milliseconds."
    if ttft == 100:
        return "At 100 ms only the role came: there is no text to read yet."
    if ttft != 300:
        return "TTFT: when did the first delta with content come?"
    if math.isclose(tpot, 40):
        return "TPOT: the second delta has three tokens, and usage reports four in all."
    if math.isclose(tpot, 10):
        return "TPOT: the clock starts at the first token, so divide by n - 1."
    if not math.isclose(tpot, 40 / 3, rel_tol=0.01):
        return "TPOT: (last - first) / (n - 1), from the first token to the last."
    if e2e != 350:
        return "End to end: until the stream is over, [DONE] included."
    return None


number_exercise(
    "06-rate",
    320,
    hint="Each stream gives a token every 25 ms, and there are eight of them.",
    mistakes={
        40: "That is one stream; there are eight at once.",
        5: "The streams do not share a rate: each gives 40 tokens per second.",
        0.2: "That is in seconds; the question asks for tokens per second.",
    },
    units=("tokens per second", "tokens/s", "tokens/second", "tok/s", "t/s"),
)
