"""The exercises of the notebooks: ``check(name, answer)`` says if an answer is right, or why not.

Nothing is sent anywhere: each exercise is a small function that looks at the answer and returns
None when it is right, or else a hint for the mistake it recognises. An untouched exercise holds
``answer = ...`` and is answered with its first hint, so that a notebook runs from top to bottom.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Exercise:
    """``hint`` opens the way, ``judge`` returns None or what is wrong, ``solution`` is code."""

    hint: str
    judge: Callable[[Any], str | None]
    solution: str


EXERCISES: dict[str, Exercise] = {}


def check(name: str, answer: Any) -> None:
    """Print whether ``answer`` solves exercise ``name``, with a hint when it does not."""
    print(verdict(name, answer)[1])


def verdict(name: str, answer: Any) -> tuple[bool, str]:
    """Whether an answer is right, and the words for it.

    Raises KeyError, with the names there are, for an unknown exercise.
    """
    if name not in EXERCISES:
        raise KeyError(f"no exercise named {name!r}; there are: {', '.join(EXERCISES)}")
    exercise = EXERCISES[name]
    if answer is ...:
        return False, f"{name}: not answered yet. Hint: {exercise.hint}"
    try:
        mistake = exercise.judge(answer)
    except Exception as error:  # an answer may be any code of the learner's
        mistake = f"checking it raised {type(error).__name__}: {error}"
    if mistake:
        return False, f"{name}: not yet. {mistake}"
    return True, f"{name}: right!"


def exercise(name: str, hint: str, solution: str) -> Callable:
    """Register the decorated judge as an exercise."""

    def register(judge: Callable[[Any], str | None]) -> Callable:
        EXERCISES[name] = Exercise(hint, judge, solution)
        return judge

    return register


def number(expected: float, mistakes: dict[float, str], tolerance: float = 0.005) -> Callable:
    """A judge for a number within a relative tolerance; known wrong numbers have their own hint."""

    def judge(answer: Any) -> str | None:
        if isinstance(answer, bool) or not isinstance(answer, int | float):
            return f"A number is wanted, not {type(answer).__name__}."
        if math.isclose(answer, expected, rel_tol=tolerance):
            return None
        for wrong, words in mistakes.items():
            if math.isclose(answer, wrong, rel_tol=tolerance):
                return words
        return f"{answer:,} is too {'small' if answer < expected else 'large'}."

    return judge
