"""Exercises of notebook 08, Compare models."""

import math
import re
from typing import Any

from labkit.exercises.answers import WrongForm, alone, call, items, number
from labkit.exercises.asking import Model
from labkit.exercises.engine import build, exercise, test

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


@exercise(
    "08-fair",
    hint=(
        "Which facts are not the same for both models?",
        'Look at "A comparison, taken apart". What is the same for both is fair.',
        "Half of it: B and C are unfair. There are more.",
    ),
)
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


build(
    "08-bootstrap",
    hint=(
        "If the questions were drawn again, how far would the mean difference move?",
        'Look at "Is the difference real?": the questions are drawn again, thousands of times.',
        "Half of it: one draw is rng.choice(differences, size=len(differences)). What do you keep "
        "of each draw?",
    ),
    example="answer([1, 0, 0, -1, 1, 0, 1, 0], 2000) → about (-0.25, 0.75)",
)

# One model right, the other wrong: 1 or -1. Both alike: 0.
_DIFFERENCES = [1] * 30 + [-1] * 14 + [0] * 56


def _interval(answer: Any, differences: list[int], draws: int) -> tuple[float, float]:
    result = call(answer, list(differences), draws, shown="answer(differences, draws)")
    if isinstance(result, dict):
        result = list(result.values())
    if not isinstance(result, list | tuple) or len(result) != 2:
        raise WrongForm("It should return two numbers: the low and the high end.")
    low, high = (number(alone(each), "Each end") for each in result)
    if low > high:
        raise WrongForm("The low end comes first.")
    return low, high


@test("08-bootstrap", "the interval holds the mean difference")
def interval_holds_the_mean(answer: Any) -> str | None:
    """The mean of 100 differences is 0.16."""
    low, high = _interval(answer, _DIFFERENCES, 1000)
    if low <= 0.16 <= high:
        low, high = _interval(answer, [-each for each in _DIFFERENCES], 1000)
        if low <= -0.16 <= high:
            return None
        return "The sign is lost: a negative difference says that model B is better."
    if max(abs(low), abs(high)) > 1:
        return "The mean of a draw is from -1 to 1. Was the sum taken, and not the mean?"
    return "The mean difference is 0.16, and it is not in the interval."


@test("08-bootstrap", "it is as wide as 100 questions make it")
def interval_is_wide_enough(answer: Any) -> str | None:
    """About four standard errors: 0.25."""
    low, high = _interval(answer, _DIFFERENCES, 2000)
    width, deviation = high - low, math.sqrt(0.44 - 0.16**2)
    normal = 2 * 1.96 * deviation / 10
    if width < 0.01:
        return "Each draw has the same mean: draw with replacement."
    if width > 5 * normal:
        return "That is the spread of single differences. Take the mean of each draw."
    if math.isclose(width, normal, rel_tol=0.11):
        return None
    if math.isclose(width, normal * 1.645 / 1.96, rel_tol=0.08):
        return "That holds 90 %. For 95 % leave out 2.5 % at each end."
    much = "wide" if width > normal else "narrow"
    return f"From {low:.3f} to {high:.3f} is too {much}: about {normal:.2f} is right."


@test("08-bootstrap", "more questions make it narrower")
def interval_gets_narrower(answer: Any) -> str | None:
    """Sixteen times as many questions: a quarter of the width."""
    low, high = _interval(answer, _DIFFERENCES * 16, 1000)
    if 0.045 < high - low < 0.085:
        return None
    return "Of 1,600 questions draw 1,600. The interval should be a quarter as wide as of 100."


@test("08-bootstrap", "equal differences leave nothing to chance")
def interval_of_equals(answer: Any) -> str | None:
    """All differences are 1."""
    low, high = _interval(answer, [1] * 20, 200)
    return None if low == high == 1 else "If every difference is 1, both ends are 1."


_ANSWERS = [
    ("Paris", True, "one word"),
    ("Paris.", True, "punctuation around the word does not matter"),
    ("\n\n  Paris  \n", True, "empty lines and blanks do not matter"),
    ("don't", True, "it has no blank in it"),
    ("Zürich", True, "a word can have any letters"),
    ("42", True, "a number is a word too"),
    ("Paris\nIt is the capital of France.", True, "only the first line counts"),
    ("The capital is Paris", False, "four words"),
    ("New York", False, "two words"),
    ("\nParis, France\nParis", False, "two words in the first line that is not empty"),
    ("", False, "there is no word"),
    ("   \n", False, "there is no word"),
    ("“Paris” !", True, "punctuation alone is no word"),
]


def _send_scored(answer: Any, model: Model) -> None:
    for country in ("Japan", "Italy", "Norway"):
        messages = [
            {"role": "system", "content": "Answer with one word."},
            {"role": "user", "content": f"What is the capital of {country}?"},
        ]
        reply = model.ask(country, messages, max_tokens=24).choices[0].message.content or ""
        model.replies[-1] = (country, f"{reply}   your scorer: {bool(answer(reply))}")


build(
    "08-scorer",
    hint=(
        "Which line counts, and what in it is a word?",
        'Look at "Score by rule": a scorer reads a text and returns True or False.',
        "Half of it: lines = [line for line in text.splitlines() if line.strip()]. If there are "
        "none, return False.",
    ),
    example='answer("Paris.") → True',
    send=_send_scored,
)


def _scored(answer: Any, texts: slice) -> str | None:
    for text, expected, why in _ANSWERS[texts]:
        result = alone(call(answer, text))
        if result not in (True, False):
            return "It should return True or False."
        if bool(result) is not expected:
            return f"{text!r} should give {expected}: {why}."
    return None


@test("08-scorer", "one word, with and without punctuation")
def one_word(answer: Any) -> str | None:
    """The rule is kept."""
    return _scored(answer, slice(0, 6))


@test("08-scorer", "only the first line that is not empty counts")
def first_line(answer: Any) -> str | None:
    """What follows is not read."""
    return _scored(answer, slice(6, 7))


@test("08-scorer", "more words")
def more_words(answer: Any) -> str | None:
    """The rule is broken."""
    return _scored(answer, slice(7, 10))


@test("08-scorer", "no word at all")
def no_word(answer: Any) -> str | None:
    """An empty answer, blanks, punctuation alone."""
    return _scored(answer, slice(10, None))


@exercise(
    "08-seat",
    hint=(
        "How would you see whether a seat, and not a model, wins?",
        'Look at "Vote blind": `bradley_terry` takes seat=True.',
        'Half of it: fitted = votes.bradley_terry(session, seat=True). The row "left seat" of its '
        "table has the gain.",
    ),
)
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
