"""Exercises of notebook 03, Call OpenRouter."""

import math
from typing import Any

from labkit.exercises.answers import call, items, number
from labkit.exercises.engine import exercise, judge_number


@exercise(
    "03-cost", hint="Prices are per million tokens. Prompt and completion have different prices."
)
def judge_cost(answer: Any) -> str | None:
    """A function from tokens and prices to USD."""
    cost = call(answer, 1000, 500, 0.075, 0.20)
    mistakes = {
        175.0: "Prices are per million tokens.",
        0.175: "Prices are per million tokens, not per thousand.",
        0.0002375: "The prices are the wrong way round: the first is for what you send.",
        0.0004125: "You applied both prices to all tokens.",
        0.0002: "You rounded it: return all digits.",
    }
    hint = judge_number(cost, 0.000175, mistakes, tolerance=1e-9)
    if hint:
        return f"1,000 tokens in and 500 out at 0.075 and 0.20 cost 0.000175. {hint}"
    if not math.isclose(number(call(answer, 120, 30, 0.1, 0.3)), 0.000021, rel_tol=1e-9):
        return "120 tokens in and 30 out at 0.10 and 0.30 cost 0.000021."
    return None


@exercise("03-retry", hint="Ask for each status: could the same request succeed a little later?")
def judge_retried_statuses(answer: Any) -> str | None:
    """The HTTP statuses after which the same request can succeed."""
    right = {408, 429, 502, 503}
    statuses = {int(number(item, "Each status")) for item in items(answer, "a set of statuses")}
    if unknown := statuses - {400, 401, 402, 404, 408, 429, 502, 503}:
        return f"{min(unknown)} is not in the list."
    if wrong := statuses - right:
        return f"{min(wrong)} comes again however often you ask: change something first."
    if missing := right - statuses:
        return f"{len(missing)} more can succeed later without a change."
    return None
