"""Instructions whose obedience a program can check, and a model's score on them.

The idea is IFEval's (Zhou and others, 2023, arXiv:2311.07911): no judge is needed where a rule
decides. The instructions and rules here are this kit's own, and too few for a ranking: the score's
interval says how few.
"""

import json
import re
import string
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from scipy.stats import binomtest


@dataclass(frozen=True)
class Instruction:
    """A prompt and the rule that decides about the answer: None if kept, else what is wrong."""

    name: str
    prompt: str
    broken: Callable[[str], str | None]


def _words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z]+(?:['’-][A-Za-z]+)*", text)


def alphabet(text: str) -> str | None:
    """The rule of "every word starts with the next letter": 26 words in a row, from a to z.

    Marks and capitals do not matter, nor do words around it, such as "Here is a sentence:".
    """
    firsts = [word[0].lower() for word in _words(text)]
    longest, broke = 0, None
    for start in range(len(firsts)):
        run = 0
        for letter, wanted in zip(firsts[start:], string.ascii_lowercase, strict=False):
            if letter != wanted:
                break
            run += 1
        if run > longest:
            longest = run
            broke = firsts[start + run] if start + run < len(firsts) else None
    if longest == 26:
        return None
    follows = f"a word with {broke!r}" if broke else "nothing"
    return f"{longest} of 26 words, then {follows} instead of {string.ascii_lowercase[longest]!r}"


def _exactly(count: int) -> Callable[[str], str | None]:
    def rule(text: str) -> str | None:
        found = len(_words(text))
        return None if found == count else f"{found} words instead of {count}"

    return rule


def _lower_case(text: str) -> str | None:
    capitals = sorted({letter for letter in text if letter.isupper()})
    if not _words(text):
        return "no words"
    return f"capitals: {''.join(capitals)}" if capitals else None


def _without(letter: str) -> Callable[[str], str | None]:
    def rule(text: str) -> str | None:
        if not _words(text):
            return "no words"
        found = text.lower().count(letter)
        return f"{found} times {letter!r}" if found else None

    return rule


def _ends_with(end: str) -> Callable[[str], str | None]:
    return lambda text: None if text.rstrip().endswith(end) else f"does not end with {end!r}"


def _contains(*wanted: str) -> Callable[[str], str | None]:
    def rule(text: str) -> str | None:
        missing = [word for word in wanted if word not in map(str.lower, _words(text))]
        return f"without {', '.join(missing)}" if missing else None

    return rule


def _json_object(*keys: str) -> Callable[[str], str | None]:
    def rule(text: str) -> str | None:
        try:
            found = json.loads(text)
        except ValueError:
            return "not JSON"
        if not isinstance(found, dict) or set(found) != set(keys):
            return f"not an object with the keys {', '.join(keys)}"
        return None

    return rule


def _bullets(count: int) -> Callable[[str], str | None]:
    def rule(text: str) -> str | None:
        lines = [line for line in text.splitlines() if line.strip()]
        right = [line for line in lines if re.match(r"\s*-\s+\S", line)]
        if len(right) != len(lines):
            return "other lines beside the bullets"
        return None if len(right) == count else f"{len(right)} bullets instead of {count}"

    return rule


def _equals(wanted: str) -> Callable[[str], str | None]:
    return lambda text: None if text.strip() == wanted else f"not exactly {wanted!r}"


INSTRUCTIONS = [
    Instruction(
        "a to z",  # the model card of Mistral Small 3.2 shows this one
        "Write me a sentence where every word starts with the next letter in the alphabet - "
        "start with 'a' and end with 'z'.",
        alphabet,
    ),
    Instruction("one word", "What is the capital of France? Answer with one word.", _exactly(1)),
    Instruction("five words", "Describe the sea in exactly five words.", _exactly(5)),
    Instruction("lower case", "Name two planets. Use lower case letters only.", _lower_case),
    Instruction("no letter e", "Say something about a dog without the letter e.", _without("e")),
    Instruction(
        "last words",
        "Thank a friend for a gift. End your answer with the words: See you soon!",
        _ends_with("See you soon!"),
    ),
    Instruction(
        "two given words",
        "Write one sentence with the words river and lantern.",
        _contains("river", "lantern"),
    ),
    Instruction(
        "JSON",
        'Give the name and the age of a cat as a JSON object with the keys "name" and "age", '
        "and nothing else.",
        _json_object("name", "age"),
    ),
    Instruction(
        "three bullets",
        'List three fruits, each on a line of its own that starts with "- ". Nothing else.',
        _bullets(3),
    ),
    Instruction("repeat", "Repeat exactly: blue kites fly low", _equals("blue kites fly low")),
]


def score(
    ask: Callable[[str], str], instructions: list[Instruction] = INSTRUCTIONS
) -> tuple[pd.DataFrame, tuple[float, float, float]]:
    """Put every instruction to a model.

    Args:
        ask: takes a prompt, returns the answer.

    Returns:
        a DataFrame with a row for each instruction (kept, what is broken, the answer), and the
        share kept with Wilson's 95 % interval, as (share, low, high).
    """
    rows = []
    for one in instructions:
        answer = ask(one.prompt)
        wrong = one.broken(answer)
        rows.append((one.name, wrong is None, wrong or "", answer))
    table = pd.DataFrame(rows, columns=["instruction", "kept", "broken", "answer"])
    test = binomtest(int(table["kept"].sum()), len(table))
    low, high = test.proportion_ci(method="wilson")
    return table.set_index("instruction"), (float(table["kept"].mean()), low, high)
