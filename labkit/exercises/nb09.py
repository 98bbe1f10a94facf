"""Exercises of notebook 09, Fine-tune it."""

import re
from typing import Any

from labkit.exercises.answers import call, items
from labkit.exercises.engine import exercise, number_exercise

_LABELS = [
    ([1, 5, 9, 7, 2], [(3, 5)], "one turn, and its end"),
    ([1, 5, 9, 7, 2, 5, 8, 6, 2], [(3, 5), (7, 9)], "two turns: both are learned"),
    ([1, 5, 9], [], "no turn of the assistant's: nothing is learned"),
    ([4, 4, 4, 4], [(1, 3)], "equal tokens: their places count"),
]


@exercise("09-labels", hint="Begin with -100 at every place. Then copy the ids of each turn.")
def judge_labels(answer: Any) -> str | None:
    """Labels from ids and the places of the assistant's turns."""
    for ids, turns, why in _LABELS:
        given = list(ids)
        found = items(call(answer, given, list(turns)), "a list of labels")
        learned = {place for start, stop in turns for place in range(start, stop)}
        wanted = [id_ if place in learned else -100 for place, id_ in enumerate(ids)]
        if given != ids:
            return "It changes the list of ids, which is also the model's input: make a new list."
        if len(found) != len(ids):
            return f"There is one label for each token: {len(ids)}, and you return {len(found)}."
        if found == wanted:
            continue
        if found == ids:
            return "You learn the whole prompt. What is only read has the label -100."
        if all(label == (0 if place not in learned else ids[place])
               for place, label in enumerate(found)):  # fmt: skip
            return "0 is the id of a token and would be learned. Use -100."
        if any(found[stop - 1] == -100 for _, stop in turns):
            return (
                "The last token of a turn is its end: it is learned too, or the model never stops."
            )
        return f"answer({ids}, {turns}) should give {wanted}: {why}."
    return None


number_exercise(
    "09-rank",
    303_104,
    hint="A has r rows and a column for each input; B has a row for each output and r columns.",
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
    hint="float32 takes 4 bytes. Count the adapter, its gradients, and two numbers for AdamW.",
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


@exercise("09-evidence", hint="Evidence comes from messages that were not trained on.")
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
