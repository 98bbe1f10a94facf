"""Exercises of notebook 08, Compare models."""

import math
import re
from typing import Any

from labkit.exercises.answers import alone, call, items, number
from labkit.exercises.engine import exercise, number_exercise

_WHY = {
    "B": "B is unfair: the same weights score otherwise without their chat template.",
    "C": "C is unfair: a base model was never trained to follow instructions.",
    "E": "E is unfair: who may write more can calculate first.",
    "G": "G is unfair: who sees the names is no longer blind.",
}
_FAIR = {
    "A": "A is right as it is: the same questions for both make pairs.",
    "D": "D is right as it is: one rule for both.",
    "F": "F is right as it is: the same sampling for both.",
}


@exercise("08-fair", hint="What is the same for both models is fair. What differs is not.")
def judge_unfair(answer: Any) -> str | None:
    """The facts that make a comparison unfair."""
    letters = {
        str(letter).strip().strip(".").upper() for letter in items(answer, "a list of letters")
    }
    if len(letters) == 1 and re.fullmatch("[A-G]{2,}", whole := next(iter(letters))):
        letters = set(whole)  # "BCEG"
    if unknown := letters - {*"ABCDEFG"}:
        return f"{sorted(unknown)[0][:20]!r} is not one of the letters A to G."
    for letter in sorted(letters & _FAIR.keys()):
        return _FAIR[letter]
    missing = _WHY.keys() - letters
    if len(missing) == 1:
        return "One more makes it unfair: think of what each model may do, and of the judge."
    return f"{len(missing)} more make it unfair." if missing else None


number_exercise(
    "08-mcnemar",
    0.0308837890625,
    hint="Only 4 + 14 questions count. Were it a coin, how often would it fall 4 to 14 or worse?",
    mistakes={
        0.01544189453125: "That is one side only. Equal models can differ in favor of either one.",
        0.018421892717: "That is chi-square, an approximation. The exact one is the binomial test.",
        0.033894853524689: "That is chi-square, corrected. The exact one is the binomial test.",
        0.0116729736328125: "That is one case alone: 4 to 14. More extreme ones count too.",
        0.1: "That is the difference of the two shares. The question is about chance.",
        3.08837890625: "Give it as a number from 0 to 1 and not in percent.",
    },
    tolerance=0.02,
    units=(),
)

_ANSWERS = [
    ("Paris", True, "one word"),
    ("Paris.", True, "punctuation around the word does not matter"),
    ("\n\n  Paris  \n", True, "empty lines and blanks do not matter"),
    ("Paris\nIt is the capital of France.", True, "only the first line counts"),
    ("The capital is Paris", False, "four words"),
    ("New York", False, "two words"),
    ("\nParis, France\nParis", False, "two words in the first line that is not empty"),
    ("", False, "there is no word"),
    ("   \n", False, "there is no word"),
    ("“Paris” !", True, "punctuation alone is no word"),
]


@exercise("08-scorer", hint="Take the lines that are not empty, split the first one, and count.")
def judge_scorer(answer: Any) -> str | None:
    """A scorer: whether the first line of a text has exactly one word."""
    for text, expected, why in _ANSWERS:
        result = alone(call(answer, text))
        if result not in (True, False):
            return "It should return True or False."
        if bool(result) is not expected:
            return f"{text!r} should give {expected}: {why}."
    return None


@exercise("08-seat", hint='Fit with seat=True. The row "left seat" of the table has the gain.')
def judge_seat(answer: Any) -> str | None:
    """The gain of the left seat in the recorded votes, in log-odds."""
    from helpers.compare import votes
    from helpers.paths import DATA

    value = number(alone(answer), units=("log-odds",))
    session = votes.read(DATA / "compare" / "votes.jsonl")
    fitted = votes.bradley_terry(session).table().loc[votes.SEAT, "strength"]
    if abs(value - fitted) <= 0.03:
        return None
    choices = [vote.choice for vote in session]
    left, right = choices.count("left"), choices.count("right")
    if abs(value + fitted) <= 0.03:
        return "The size is right. Which seat gains? A negative number means the right one."
    if abs(value - math.log(left / right)) <= 0.02:
        return "That leaves the ties out, and who sat where. Fit with seat=True."
    if any(abs(value - share) <= 0.01 for share in (left / len(choices), left / (left + right))):
        return "That is a share of the votes. The question asks for log-odds: fit with seat=True."
    return f'{value:g} is not it. Fit with seat=True, and read the row "{votes.SEAT}".'
