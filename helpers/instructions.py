"""Instructions that a program can verify, and a model's score on them.

The idea is from IFEval (Zhou and others, 2023, arXiv:2311.07911): a rule decides, so no judge is
needed. The instructions and rules here are this kit's own. They are too few for a ranking: the
interval of the score shows how few.
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
    """A prompt and the rule for its answer: `violation` returns what is wrong, None if nothing."""

    name: str
    prompt: str
    violation: Callable[[str], str | None]


def _words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z]+(?:['’-][A-Za-z]+)*", text)


def alphabet(text: str) -> str | None:
    """The rule of "every word starts with the next letter": 26 words in a row, from a to z.

    Punctuation and capitals do not matter, nor do words around it, such as "Here is a sentence:".
    """
    initials = "".join(word[0].lower() for word in _words(text))
    letters = string.ascii_lowercase
    longest = max(count for count in range(27) if letters[:count] in initials)
    if longest == 26:
        return None
    next_initial = initials.partition(letters[:longest])[2][:1] if longest else initials[:1]
    follows = f"a word with {next_initial!r}" if next_initial else "nothing"
    return f"{longest} of 26 words, then {follows} instead of {letters[longest]!r}"


def _exactly(count: int) -> Callable[[str], str | None]:
    def rule(text: str) -> str | None:
        actual = len(_words(text))
        return None if actual == count else f"{actual} words instead of {count}"

    return rule


def _lower_case(text: str) -> str | None:
    if not _words(text):
        return "no words"
    capitals = sorted({letter for letter in text if letter.isupper()})
    return f"capitals: {''.join(capitals)}" if capitals else None


def _no_letter_e(text: str) -> str | None:
    if not _words(text):
        return "no words"
    count = text.lower().count("e")
    return f"{count} times 'e'" if count else None


def _see_you_soon(text: str) -> str | None:
    return None if text.rstrip().endswith("See you soon!") else "does not end with 'See you soon!'"


def _river_and_lantern(text: str) -> str | None:
    words = [word.lower() for word in _words(text)]
    missing = [word for word in ("river", "lantern") if word not in words]
    return f"without {', '.join(missing)}" if missing else None


def _cat_as_json(text: str) -> str | None:
    try:
        value = json.loads(text)
    except ValueError:
        return "not JSON"
    if not isinstance(value, dict) or set(value) != {"name", "age"}:
        return "not an object with the keys name, age"
    return None


def _three_bullets(text: str) -> str | None:
    lines = [line for line in text.splitlines() if line.strip()]
    if not all(re.match(r"\s*-\s+\S", line) for line in lines):
        return "other lines beside the bullets"
    return None if len(lines) == 3 else f"{len(lines)} bullets instead of 3"


def _blue_kites(text: str) -> str | None:
    return None if text.strip() == "blue kites fly low" else "not exactly 'blue kites fly low'"


INSTRUCTIONS = [
    Instruction(
        "a to z",  # from the model card of Mistral Small 3.2
        "Write me a sentence where every word starts with the next letter in the alphabet - "
        "start with 'a' and end with 'z'.",
        alphabet,
    ),
    Instruction("one word", "What is the capital of France? Answer with one word.", _exactly(1)),
    Instruction("five words", "Describe the sea in exactly five words.", _exactly(5)),
    Instruction("lower case", "Name two planets. Use lower case letters only.", _lower_case),
    Instruction("no letter e", "Say something about a dog without the letter e.", _no_letter_e),
    Instruction(
        "last words",
        "Thank a friend for a gift. End your answer with the words: See you soon!",
        _see_you_soon,
    ),
    Instruction(
        "two given words",
        "Write one sentence with the words river and lantern.",
        _river_and_lantern,
    ),
    Instruction(
        "JSON",
        'Give the name and the age of a cat as a JSON object with the keys "name" and "age", '
        "and nothing else.",
        _cat_as_json,
    ),
    Instruction(
        "three bullets",
        'List three fruits, each on a line of its own that starts with "- ". Nothing else.',
        _three_bullets,
    ),
    Instruction("repeat", "Repeat exactly: blue kites fly low", _blue_kites),
]


def score(
    ask: Callable[[str], str | None], instructions: list[Instruction] = INSTRUCTIONS
) -> tuple[pd.DataFrame, tuple[float, float, float]]:
    """Give every instruction to a model and count how many it follows.

    Args:
        ask: takes a prompt, returns the answer; None, as some servers send it, is an empty one.

    Returns:
        a DataFrame, index `instruction`, columns `followed`, `violation` and `answer`; and the
        share followed with Wilson's 95 % interval, as (share, low, high).
    """
    rows = []
    for instruction in instructions:
        answer = ask(instruction.prompt) or ""
        violation = instruction.violation(answer)
        rows.append((instruction.name, violation is None, violation or "", answer))
    columns = ["instruction", "followed", "violation", "answer"]
    table = pd.DataFrame(rows, columns=columns).set_index("instruction")
    test = binomtest(int(table["followed"].sum()), len(table))
    return table, (test.statistic, *test.proportion_ci(method="wilson"))
