"""TODO."""

import math
from typing import Any

from labkit.exercises.engine import exercise, number


@exercise(
    "06-stream",
    hint="the role-only delta is not a token; TPOT divides by the tokens after the first.",
    solution='answer = {"ttft": 300, "tpot": (340 - 300) / (4 - 1), "e2e": 350}',
)
def _stream(answer: Any) -> str | None:
    if not isinstance(answer, dict) or set(answer) != {"ttft", "tpot", "e2e"}:
        return 'A dict with the keys "ttft", "tpot" and "e2e" is wanted, in milliseconds.'
    if answer["ttft"] == 100:
        return "At 100 ms only the role came: nothing to read yet."
    if answer["ttft"] != 300:
        return "TTFT: when did the first delta with something in it come?"
    if math.isclose(answer["tpot"], 40):
        return "TPOT: the second delta carries three tokens, and usage says four in all."
    if math.isclose(answer["tpot"], 10):
        return "TPOT: the first token is where the clock starts, so divide by n - 1."
    if not math.isclose(answer["tpot"], 40 / 3, rel_tol=0.01):
        return "TPOT: (last - first) / (n - 1), from the first token to the last."
    if answer["e2e"] != 350:
        return "End to end: until the stream is over, [DONE] included."
    return None


exercise(
    "06-rate",
    hint="each stream gives a token every 25 ms, and there are eight of them.",
    solution="answer = 8 / 0.025",
)(
    number(
        320,
        {
            40: "That is one stream; there are eight at once.",
            5: "Eight streams share nothing here: each gives 40 tokens a second.",
            0.2: "That is seconds; tokens per second are wanted.",
        },
    )
)
