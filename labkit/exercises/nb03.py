"""TODO."""

import math
from typing import Any

from labkit.exercises.engine import exercise


@exercise(
    "03-cost",
    hint="prices are per million tokens, and reading is priced apart from writing.",
    solution="""def answer(prompt_tokens, completion_tokens, price_in, price_out):
    return (prompt_tokens * price_in + completion_tokens * price_out) / 1e6""",
)
def _cost(answer: Any) -> str | None:
    if not callable(answer):
        return "A function of four numbers is wanted."
    got = answer(1000, 500, 0.075, 0.20)
    if math.isclose(got, 0.000175):
        return None
    for wrong, words in {
        175.0: "Prices are per million tokens.",
        0.175: "Prices are per million tokens, not per thousand.",
        0.0002375: "The prices are the wrong way round: the first is for what you send.",
        0.0004125: "Both kinds of token got both prices.",
    }.items():
        if math.isclose(got, wrong):
            return words
    return f"1,000 tokens in and 500 out at 0.075 and 0.20 cost 0.000175, not {got}."


@exercise(
    "03-retry",
    hint="ask of each: could the very same request succeed a little later?",
    solution="answer = {408, 429, 502, 503}",
)
def _retry(answer: Any) -> str | None:
    given, right = set(answer), {408, 429, 502, 503}
    if unknown := given - {400, 401, 402, 404, 408, 429, 502, 503}:
        return f"{sorted(unknown)} are not in the list."
    if wrong := given - right:
        return f"{min(wrong)} stays the same however often you ask: something must change first."
    if missing := right - given:
        return f"{len(missing)} more can pass by itself."
    return None
