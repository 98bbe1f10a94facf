"""`check(name, answer)` grades an exercise: it shows whether the answer is right, or a hint.

Nothing is sent anywhere. Each exercise has a judge: a small function that returns None for a right
answer, and otherwise a hint for the mistake that it recognizes. `answers.py` reads an answer by its
content: a numpy number is as good as a float, a tuple as good as a list. An untouched exercise
holds `answer = ...` and gets the exercise's first hint, so a notebook runs from top to bottom.

The exercises of notebook 01 are in `nb01.py`, and so on. A file is imported when one of its
exercises is checked for the first time. Solutions are only in the notebooks, folded.
"""

import html
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from labkit.display import GRAY, show_html
from labkit.exercises.answers import WrongForm, alone, number

GREEN, RED = "#2e9e4f", "#d64545"  # the sign and the words say the same without the color

Judge = Callable[[Any], str | None]


@dataclass(frozen=True)
class Exercise:
    """`judge` returns None or a hint. `hint` is for an empty or an unreadable answer."""

    hint: str
    judge: Judge


_MODULES = sorted(path.stem for path in Path(__file__).parent.glob("nb[0-9][0-9].py"))
_exercises: dict[str, Exercise] = {}


def check(name: str, answer: Any) -> None:
    """Show whether `answer` solves the exercise `name`, with a hint if it does not.

    Raises:
        KeyError: No exercise has this name. The message lists the names.
    """
    right, message = verdict(name, answer)
    sign, color = ("✓", GREEN) if right else ("○", GRAY) if answer is ... else ("✗", RED)
    result, stop, hint = html.escape(message).partition(". ")
    show_html(
        f'<div style="border-left: 4px solid {color}; padding: 0.3em 0.8em; max-width: 50em">'
        f'<b><span style="color: {color}">{sign}</span> {result}{stop}</b>{hint}</div>',
        textwrap.fill(f"{sign} {message}", 80),
    )


def verdict(name: str, answer: Any) -> tuple[bool, str]:
    """Whether `answer` is right, and the message for the learner.

    Raises:
        KeyError: No exercise has this name. The message lists the names.
    """
    exercise = find(name)
    if answer is ...:
        return False, f"{name}: not answered yet. Hint: {exercise.hint}"
    try:
        hint = exercise.judge(answer)
    except WrongForm as wrong:
        hint = str(wrong)
    except Exception:  # no answer may end in a traceback of this file
        hint = f"The answer has another form than the question asks for. {exercise.hint}"
    if hint:
        return False, f"{name}: not yet. {hint}"
    return True, f"{name}: right!"


def find(name: str) -> Exercise:
    """The exercise called `name`, such as `"01-kv"`. Only its own notebook's file is imported.

    Raises:
        KeyError: No exercise has this name. The message lists the names.
    """
    module = f"nb{str(name)[:2]}"
    if module in _MODULES:
        import_module(f"labkit.exercises.{module}")
    if str(name) not in _exercises:
        raise KeyError(f"no exercise is called {name!r}; there are: {', '.join(load_all())}")
    return _exercises[name]


def load_all() -> dict[str, Exercise]:
    """Every exercise by its name, in the order of the notebooks."""
    for module in _MODULES:
        import_module(f"labkit.exercises.{module}")
    return dict(sorted(_exercises.items(), key=lambda item: item[0][:2]))


def exercise(name: str, hint: str) -> Callable[[Judge], Judge]:
    """Register the decorated function as the judge of exercise `name`."""

    def register(judge: Judge) -> Judge:
        _exercises[name] = Exercise(hint, judge)
        return judge

    return register


def number_exercise(
    name: str,
    expected: float,
    *,
    hint: str,
    mistakes: dict[float, str],
    tolerance: float = 0.005,
    units: Sequence[str] = (),
) -> None:
    """Register an exercise whose answer is a number; see `judge_number` for the arguments."""
    judge = partial(
        judge_number, expected=expected, mistakes=mistakes, tolerance=tolerance, units=units
    )
    exercise(name, hint)(judge)


def judge_number(
    answer: Any,
    expected: float,
    mistakes: dict[float, str],
    tolerance: float,
    units: Sequence[str] = (),
) -> str | None:
    """None if `answer` is `expected` within a relative `tolerance`, or else a hint.

    Args:
        mistakes: wrong numbers that are to be expected, with the hint for each.
        units: what may follow the number in a text.

    Raises:
        WrongForm: the answer is no number.
    """
    value = number(alone(answer), units=units)
    if math.isclose(value, expected, rel_tol=tolerance):
        return None
    for wrong, hint in mistakes.items():
        if math.isclose(value, wrong, rel_tol=tolerance):
            return hint
    shown = f"{value:,.6f}".rstrip("0").rstrip(".")
    return f"{shown} is too {'small' if value < expected else 'large'}."
