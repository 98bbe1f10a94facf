"""Runs a learner's function in a process of its own, with limits, and judges it there.

The tests of a build exercise run one after another. After each, the process prints a line with the
outcome, so a loop without an end in the third test does not hide the first two.
"""

import base64
import contextlib
import json
import os
import pickle
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from labkit.exercises import answers, portable
from labkit.exercises.answers import WrongForm

SECONDS, MEGABYTES = 6.0, 512
# Libraries that are slow to import, or that need what the limits forbid: imported before them.
# With each, more seconds and more megabytes. `helpers` means all of them.
LIBRARIES = {
    "numpy": (2, 512),
    "pandas": (10, 512),
    "scipy": (10, 512),
    "torch": (60, 7168),
    "transformers": (60, 1024),
    "helpers": (0, 0),
}
PRINTED_LINES = 6
ALL_DONE = -1  # in the place of a test's number

CHILD = """
import sys
sys.path.insert(0, {root!r})
from labkit.exercises import apart
apart.main({mark!r}, {data!r})
"""


@dataclass(frozen=True)
class Outcome:
    """What one test found: None for right, a sentence for a mistake, or `...` if it did not run."""

    test: str
    hint: Any


@dataclass(frozen=True)
class Trial:
    """The outcomes of all tests, and the first lines that the function printed."""

    outcomes: list[Outcome]
    printed: str

    @property
    def hint(self) -> str | None:
        """What to say about the first test that failed; None if all passed."""
        return next((outcome.hint for outcome in self.outcomes if outcome.hint), None)


def run(name: str, answer: Any, tests: list[str], libraries: tuple[str, ...] = ()) -> Trial:
    """Judge `answer` to the exercise `name` in a new process.

    Args:
        tests: the names of the exercise's tests; [""] for one without names.
        libraries: what the tests import, of `LIBRARIES`.

    Raises:
        WrongForm: the answer cannot be sent there.
    """
    from helpers.compare.code_runs import run_code
    from helpers.paths import ROOT

    try:
        sent = portable.dumps((name, answer))
    except portable.NotPortable as error:
        raise WrongForm(str(error)) from None
    mark = f"outcome {os.urandom(8).hex()}"  # so that an answer cannot print its own verdict
    source = CHILD.format(root=str(ROOT), mark=mark, data=base64.b64encode(sent).decode())
    named = [library for library in LIBRARIES if re.search(rb"\b%b\b" % library.encode(), sent)]
    if "helpers" in named:
        named = [*LIBRARIES]
    used = list(dict.fromkeys([*named, *libraries]))
    extra = [LIBRARIES[library] for library in used]
    ended = run_code(
        source,
        seconds=SECONDS + sum(seconds for seconds, _ in extra),
        megabytes=MEGABYTES + sum(megabytes for _, megabytes in extra),
        libraries=used,
    )
    found, printed = {}, []
    for line in ended.output.splitlines():
        if line.startswith(mark):
            number, hint = json.loads(line.removeprefix(mark))
            found[number] = hint
        elif line.strip():
            printed.append(line)
    outcomes = [Outcome(test, found.get(number, ...)) for number, test in enumerate(tests)]
    missing = next((number for number, each in enumerate(outcomes) if each.hint is ...), None)
    if missing is not None and ALL_DONE not in found:
        outcomes[missing] = Outcome(tests[missing], _why(ended.problem))
    return Trial(outcomes, "\n".join(printed[:PRINTED_LINES]))


def main(mark: str, data: str) -> None:
    """The new process: run the tests, and print a line for each outcome."""
    from labkit.exercises import engine

    answers.is_apart = True
    name, answer = pickle.loads(base64.b64decode(data))
    exercise = engine.find(name)
    for number, test in enumerate(exercise.tests.values() or [exercise.judge]):
        hint = judged(test, answer, exercise.hint)
        with contextlib.suppress(Exception):  # the answer may have closed or replaced it
            sys.stdout.flush()
        # Below Python's own output, which the answer may have closed.
        os.write(1, f"\n{mark} {json.dumps([number, hint])}\n".encode())
        if hint == answers.TOO_MUCH_MEMORY:  # it takes seconds, and so it would in each test
            break
    os.write(1, f"\n{mark} {json.dumps([ALL_DONE, None])}\n".encode())


def judged(judge: Callable[[Any], str | None], answer: Any, hint: str) -> str | None:
    """What `judge` says of `answer`. No answer ends in a traceback of a judge.

    Raises:
        RunApart: the judge calls the answer, and this is not the process for it.
    """
    try:
        return judge(answer)
    except WrongForm as wrong:
        return str(wrong)
    except answers.RunApart:
        raise
    except Exception:
        return f"The answer has another form than the question asks for. {hint}"


def _why(problem: str | None) -> str:
    if problem is None:
        return "Your function ended the program before the tests were done. Remove `exit`."
    if "did not end" in problem or "too long" in problem:
        return (
            "Your function did not end in time, so it was stopped. Does a loop have an end? "
            "Is the value that ends it changed?"
        )
    if "memory" in problem:
        return answers.TOO_MUCH_MEMORY
    if "writes too much" in problem:
        return "Your function prints without an end, so it was stopped."
    return (
        "Your function cannot run in a process of its own. Import in it what it needs, and use "
        "only its arguments."
    )
