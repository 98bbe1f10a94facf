"""Exercises of notebook 09, Fine-tune it."""

import re
from typing import Any

from labkit.exercises.answers import call, items
from labkit.exercises.engine import build, exercise, number_exercise, test

build(
    "09-labels",
    hint=(
        "Which tokens should the model learn to write, and which does it only read?",
        'Look at "Labels, token by token": what is only read has the label -100.',
        "Half of it: begin with labels = [-100] * len(ids).",
    ),
    example="answer([1, 5, 9, 7, 2], [(3, 5)]) → [-100, -100, -100, 7, 2]",
)


def _labels(answer: Any, ids: list[int], turns: list[tuple[int, int]]) -> str | None:
    given = list(ids)
    found = items(call(answer, given, list(turns)), "a list of labels")
    learned = {place for start, stop in turns for place in range(start, stop)}
    wanted = [id_ if place in learned else -100 for place, id_ in enumerate(ids)]
    if given != ids:
        return "It changes the list of ids, which is also the model's input: make a new list."
    if len(found) != len(ids):
        return f"There is one label for each token: {len(ids)}, and you return {len(found)}."
    if found == wanted:
        return None
    if found == ids:
        return "You learn the whole prompt. What is only read has the label -100."
    if found == [id_ if place in learned else 0 for place, id_ in enumerate(ids)]:
        return "0 is the id of a token and would be learned. Use -100."
    if any({*found[start:stop]} == {-100} for start, stop in turns):
        return "A whole turn is not learned: copy the ids of every turn."
    if any(found[stop - 1] == -100 for _, stop in turns):
        return "The last token of a turn is its end: it is learned too, or the model never stops."
    return f"answer({ids}, {turns}) should give {wanted}."


@test("09-labels", "one turn, and its end")
def one_turn(answer: Any) -> str | None:
    """The end token is learned too."""
    return _labels(answer, [1, 5, 9, 7, 2], [(3, 5)])


@test("09-labels", "two turns: both are learned")
def two_turns(answer: Any) -> str | None:
    """A conversation goes on."""
    return _labels(answer, [1, 5, 9, 7, 2, 5, 8, 6, 2], [(3, 5), (7, 9)])


@test("09-labels", "no turn of the assistant's: nothing is learned")
def no_turn(answer: Any) -> str | None:
    """There may be nothing to learn."""
    return _labels(answer, [1, 5, 9], [])


@test("09-labels", "equal tokens: their places count")
def equal_tokens(answer: Any) -> str | None:
    """A token of the answer may be in the question too."""
    return _labels(answer, [4, 4, 4, 4], [(1, 3)])


number_exercise(
    "09-rank",
    303_104,
    hint=(
        "What shapes have the two matrices that LoRA adds to a layer?",
        'Look at "QLoRA: what is trained": A has r rows, B has r columns.',
        "Half of it: A has 8 × 5,120 numbers.",
    ),
    mistakes={
        167_772_160: "That is the layer itself, which is frozen.",
        1_342_177_280: "A and B are two matrices: add their sizes, do not multiply them.",
        40_960: "That is A alone. B is trained too.",
        262_144: "That is B alone. A is trained too.",
        37_888: "That is for r = 1.",
        606_208: "A and B have r × (inputs + outputs) numbers together: you counted twice.",
    },
    tolerance=0.0001,
    units=("parameters",),
)

number_exercise(
    "09-memory",
    1.472,
    hint=(
        "What is kept in memory for each number that is trained?",
        'Look at "Will training fit?": the adapter, its gradients, and two numbers for AdamW.',
        "Half of it: the adapter alone takes 92e6 × 4 bytes.",
    ),
    mistakes={
        0.368: "That is the adapter alone.",
        0.736: "That is without AdamW, or without adapter and gradients.",
        1.104: "AdamW keeps two numbers for each parameter, beside adapter and gradients.",
        1.371: "That is in GiB. The question asks for GB.",
        1472: "That is in MB.",
        0.184: "float32 takes 4 bytes, not 2, and there is more than the adapter.",
    },
    tolerance=0.01,
    units=("GB",),
)

_WEAK = {
    "A": "A is weak: a low training loss can be learned by heart.",
    "C": "C speaks against it: the control gained as much, so the content was not learned.",
    "E": "E is weak: these messages were trained on.",
}


@exercise(
    "09-evidence",
    hint=(
        "On which messages is it measured, and could luck or the form alone explain it?",
        'Look at "A control, and another seed": evidence comes from messages not trained on.',
        "Half of it: B is one of them, and A is not.",
    ),
)
def judge_evidence(answer: Any) -> str | None:
    """The facts that are good evidence for a gain."""
    letters = {str(each).strip().strip(".").upper() for each in items(answer, "a list of letters")}
    if len(letters) == 1 and re.fullmatch("[A-F]{2,}", whole := next(iter(letters))):
        letters = set(whole)  # "BDF"
    if unknown := letters - {*"ABCDEF"}:
        return f"{sorted(unknown)[0][:20]!r} is not one of the letters A to F."
    for letter in sorted(letters & _WEAK.keys()):
        return _WEAK[letter]
    missing = 3 - len(letters)
    if missing == 1:
        return "One more is good evidence: think of luck, and of what the form alone gains."
    return f"{missing} more are good evidence." if missing else None
