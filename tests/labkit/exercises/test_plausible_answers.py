"""The exercises' verdicts on answers that learners would give."""

import re
from collections import Counter

import pytest
from built_answers import CASES as BUILT
from plausible_answers import CASES

from labkit.exercises.engine import load_all, verdict

# What only a programmer understands.
JARGON = re.compile(r"\w*(Error|Exception)\b|NoneType|Traceback|<class|object at 0x|instance of")
COUNTS = Counter((name, right) for name, _, right in CASES)
COUNTS.update((name, hint is None) for name, _, hint in BUILT)
IDS = [f"{name}-{number}" for number, (name, _, _) in enumerate(CASES)]


# One call for each case: an answer may be a generator.
@pytest.mark.parametrize(("name", "answer", "expected"), CASES, ids=IDS)
def test_verdict_is_a_fair_teachers(name, answer, expected):
    right, message = verdict(name, answer)
    assert right is expected, f"{answer!r}: {message}"
    if not right:
        assert not JARGON.search(message), message
        assert len(message) <= 300, message
        assert message.endswith((".", "!", "?", "…")), message


@pytest.mark.parametrize("name", load_all())
def test_every_exercise_has_cases_of_both_kinds(name):
    assert COUNTS[name, True] >= 3
    assert COUNTS[name, False] >= 3
    assert COUNTS[name, True] + COUNTS[name, False] >= 8


def test_every_case_belongs_to_an_exercise():
    assert {name for name, _, _ in [*CASES, *BUILT]} == set(load_all())
