"""`check(name, answer)` grades an exercise: it shows whether the answer is right, or a hint.

There are three kinds. A *recall* exercise asks for a value. One to *use* the model sends the answer
to it, `check(name, answer, lab)`, and shows the reply beside the verdict. One to *build* asks for a
function, and named tests run it in a process of its own, with limits.

Each exercise has a judge or tests: small functions that return None for a right answer, and
otherwise a hint for the mistake that they recognize. `answers.py` reads an answer by its content: a
numpy number is as good as a float, a tuple as good as a list. An untouched exercise holds
`answer = ...` and gets the first of three hints, so a notebook runs from top to bottom.

The exercises of notebook 01 are in `nb01.py`, and so on. A file is imported when one of its
exercises is checked for the first time. Solutions are only in the notebooks, folded.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

from labkit.exercises import apart, record, view
from labkit.exercises.answers import RunApart, WrongForm, alone, number, shown
from labkit.exercises.asking import Model, NoReply

RECALL, USE, BUILD = "recall", "use the model", "build"

Judge = Callable[[Any], str | None]
Send = Callable[[Any, Model], str | None]


@dataclass(frozen=True)
class Exercise:
    """What an exercise has beside its text in the notebook.

    Attributes:
        hints: in three steps: a question, the place in the notebook, half of the answer.
        judge: returns None or a hint. For a build exercise it runs all tests.
        kind: RECALL, USE or BUILD.
        example: a call and what it returns, or what the answer should look like.
        tests: of a build exercise, by name: each is given the function, and returns None or a hint.
        send: sends the answer to a model, and returns None or a hint.
        needs_reply: whether only the reply can tell if the answer is right.
        libraries: what the tests themselves import; see `apart.LIBRARIES`.
    """

    hints: tuple[str, ...]
    judge: Judge
    kind: str = RECALL
    example: str = ""
    tests: dict[str, Judge] = field(default_factory=dict)
    send: Send | None = None
    needs_reply: bool = False
    libraries: tuple[str, ...] = ()

    @property
    def hint(self) -> str:
        """The first hint, for an empty or an unreadable answer."""
        return self.hints[0]


_FILES = sorted(Path(__file__).parent.glob("nb[0-9][0-9].py"))
_MODULES = [path.stem for path in _FILES]
_REGISTERED = re.compile(r'\b(?:(?:number_)?exercise|build)\(\s*"(\d\d-[^"]+)"')
_exercises: dict[str, Exercise] = {}
# How often an exercise was answered in this session. An untouched `answer = ...` is no answer.
_tries: Counter[str] = Counter()


def check(name: str, answer: Any, lab: Any = None) -> None:
    """Show whether `answer` solves the exercise `name`, with hints if it does not.

    Each further wrong answer gets one more hint, and those from before a restart count. A wrong
    or right answer counts in the progress; see `python -m helpers progress`.

    Args:
        lab: what `connect` returned. An exercise that uses the model sends the answer there.

    Raises:
        KeyError: No exercise has this name. The message lists the names.
    """
    exercise = find(name)
    answered = answer is not ...
    found = assess(name, answer, lab)
    _tries[name] += answered
    standing = record.add(name, found.right) if answered else None
    if not found.right:
        # Who solved it once and tries again begins with the first hint.
        before = standing.tries(name) if standing and not standing.solved(name) else 0
        found.hints = exercise.hints[: max(_tries[name], before, 1)]
    found.example = "" if found.right else exercise.example
    view.show(found, standing, names())


def verdict(name: str, answer: Any, lab: Any = None) -> tuple[bool, str]:
    """Whether `answer` is right, and the message for the learner, with the first hint if needed.

    Raises:
        KeyError: No exercise has this name. The message lists the names.
    """
    found = assess(name, answer, lab)
    return found.right, found.message


def assess(name: str, answer: Any, lab: Any = None) -> view.Verdict:
    """Judge `answer` and, if there is a `lab`, send it.

    Raises:
        KeyError: No exercise has this name. The message lists the names.
    """
    exercise = find(name)
    if answer is ...:
        message = f"{name}: not answered yet. Hint: {exercise.hint}"
        untried = [(test, ...) for test in exercise.tests]
        return view.Verdict(name, False, message, untried, untouched=True)
    found = view.Verdict(name, False, "", [])
    hint = _judge(exercise, name, answer, found)
    # A function is sent from this process, where nothing would stop it: only one that passed.
    failed = bool(exercise.tests and hint)
    if lab is not None and exercise.send and not found.unreadable and not failed:
        model = Model(lab)
        try:
            said = exercise.send(answer, model)
            hint = hint or said
        except NoReply as error:
            if error.refused:
                hint = hint or str(error)
            elif exercise.needs_reply:
                hint = f"It is not judged yet, because there is no reply. {error}"
            else:
                model.note(str(error))
        except Exception:  # only a wrong answer can have a form that `send` does not expect
            hint = hint or f"The answer cannot be sent in this form. {exercise.hint}"
        found.replies, found.notes = model.replies, model.notes
    elif exercise.needs_reply and not hint:
        hint = f'Only a reply can tell. Give it the model, too: check("{name}", answer, lab)'
    found.right = not hint
    found.message = f"{name}: not yet. {hint}" if hint else f"{name}: right!"
    return found


def _judge(exercise: Exercise, name: str, answer: Any, found: view.Verdict) -> str | None:
    try:
        if exercise.tests and not callable(answer):
            exercise.judge(answer)  # it says what the answer is instead of a function
            raise RunApart
        if not exercise.tests:
            return exercise.judge(answer)
    except WrongForm as wrong:
        found.unreadable = True
        return str(wrong)
    except RunApart:
        pass
    except Exception:  # no answer may end in a traceback of this file
        found.unreadable = True
        return f"The answer has another form than the question asks for. {exercise.hint}"
    try:
        trial = apart.run(name, answer, list(exercise.tests) or [""], exercise.libraries)
    except WrongForm as wrong:
        return str(wrong)
    found.printed = trial.printed
    if exercise.tests:
        found.tests = [(outcome.test, outcome.hint) for outcome in trial.outcomes]
    return trial.hint


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
    return {name: _exercises[name] for name in names()}


@cache
def names() -> tuple[str, ...]:
    """The name of every exercise, in order, without an import of the notebooks' files."""
    sources = [path.read_text(encoding="utf-8") for path in _FILES]
    return tuple(name for source in sources for name in _REGISTERED.findall(source))


def exercise(
    name: str,
    hint: str | Sequence[str],
    *,
    kind: str = RECALL,
    example: str = "",
    send: Send | None = None,
    needs_reply: bool = False,
) -> Callable[[Judge], Judge]:
    """Register the decorated function as the judge of exercise `name`; see `Exercise`."""
    hints = (hint,) if isinstance(hint, str) else tuple(hint)

    def register(judge: Judge) -> Judge:
        _exercises[name] = Exercise(hints, judge, kind, example, send=send, needs_reply=needs_reply)
        return judge

    return register


def build(
    name: str,
    hint: str | Sequence[str],
    *,
    example: str,
    send: Send | None = None,
    libraries: tuple[str, ...] = (),
) -> None:
    """Register an exercise whose answer is a function; `test` adds its tests."""
    tests: dict[str, Judge] = {}

    def judge(answer: Any) -> str | None:
        return next(filter(None, (each(answer) for each in tests.values())), None)

    hints = (hint,) if isinstance(hint, str) else tuple(hint)
    _exercises[name] = Exercise(hints, judge, BUILD, example, tests, send, libraries=libraries)


def test(name: str, what: str) -> Callable[[Judge], Judge]:
    """Register the decorated function as a test of the build exercise `name`.

    Args:
        what: what it checks, in some words, as the learner sees it.
    """

    def register(judge: Judge) -> Judge:
        _exercises[name].tests[what] = judge
        return judge

    return register


test.__test__ = False  # pytest collects what begins with "test"


def number_exercise(
    name: str,
    expected: float,
    *,
    hint: str | Sequence[str],
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
    return f"{shown(value)} is too {'small' if value < expected else 'large'}."
