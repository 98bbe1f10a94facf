"""The exercises' verdicts on answers of an author who knew only the exercises' texts.

The functions are judged in this process, since a process for each would take minutes.
"""

import contextlib
import pickle
import signal

import pytest
from built_answers import endless
from obedient_model import serving
from other_answers import CASES

from labkit.exercises import answers, apart, portable
from labkit.exercises.engine import assess, load_all

EXERCISES = load_all()
SECONDS = 60  # for all tests of an answer
IDS = [f"{name}-{number}" for number, (name, *_) in enumerate(CASES)]


def run_here(name, answer, tests, libraries=()):
    """As `apart.run`, with what another process would get, but in this one."""
    name, answer = pickle.loads(portable.dumps((name, answer)))
    exercise = EXERCISES[name]
    judges = list(exercise.tests.values()) or [exercise.judge]
    hints = [apart.judged(judge, answer, exercise.hint) for judge in judges]
    return apart.Trial([apart.Outcome(*each) for each in zip(tests, hints, strict=True)], "")


@contextlib.contextmanager
def time_limit(seconds):
    """Fail what takes longer, again and again in case an answer catches the failure."""

    def stop(*_):
        pytest.fail("The answer did not end in time.")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def lab():
    with serving() as (lab, _), pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "is_apart", True)
        patch.setattr(apart, "run", run_here)
        yield lab


@pytest.mark.parametrize(("name", "answer", "expected", "why"), CASES, ids=IDS)
def test_the_verdict_is_the_other_authors(name, answer, expected, why, lab):
    with time_limit(SECONDS):
        found = assess(name, answer, lab if EXERCISES[name].needs_reply else None)
    assert ("right" if found.right else "wrong") == expected, f"{why} {found.message}"
    assert len(found.message) <= 300


def test_an_answer_without_an_end_is_stopped(lab):
    with pytest.raises(pytest.fail.Exception, match="in time"), time_limit(0.3):
        assess("01-kv", endless)


def test_every_answer_belongs_to_an_exercise():
    assert {name for name, *_ in CASES} <= set(EXERCISES)
