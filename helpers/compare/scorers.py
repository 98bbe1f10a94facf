"""Scorers without a judge model: small rules that say whether an answer is right.

Each one takes an answer and returns None if it is right, else what is wrong, in words. A rule is
quick, free and the same every time. It is also blind: notebook 08 shows answers that each of these
judges wrongly. `SCORERS` names them for a file of questions; `judge` calls one by its name.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jsonschema import Draft202012Validator

from helpers.compare.code_runs import code_works
from helpers.instructions import INSTRUCTIONS

WORDS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen twenty""".split()  # noqa: SIM905
DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)"  # commas between thousands only
NUMBER = re.compile(
    rf"(?<![\w.])-?{DIGITS}(?:\.\d+)?(?:e[-+]?\d{{1,2}})?|\b(?:{'|'.join(WORDS)})\b", re.IGNORECASE
)
LONGEST_NUMBER = 40  # digits: a longer one is no number that was asked for
DENIED = re.compile(r"(\bnot|n't|\bnever|\bneither|\bnor)( (a|an|the|in|on))*\s*$")

# Frequent short words of each language. Words that two of these languages share are left out.
FREQUENT = {
    "English": "the and is of to that it was with for are this you they from have not",
    "French": "le les est et des une dans pour que qui vous avec sur pas nous ce au",
    "German": "der die das und ist nicht ein eine mit sie ich auf für den dem sich wir von",
    "Spanish": "el los las y es una con para por su como más pero del está muy",
    "Italian": "il gli è di che una per non con sono della nel questo anche più",
    "Japanese": "",  # known by its script, like the next ones
    "Chinese": "",
    "Russian": "",
    "Korean": "",
}
# The first word of a letter's Unicode name is its script.
SCRIPTS = {
    "HIRAGANA": "Japanese",
    "KATAKANA": "Japanese",
    "CJK": "Chinese",
    "CYRILLIC": "Russian",
    "HANGUL": "Korean",
}
# (polite, familiar) ways to address a person.
FORMS = {
    "German": (r"\b(Sie|Ihnen|Ihre?[nmrs]?)\b", r"\b([Dd]u|[Dd]ich|[Dd]ir|[Dd]eine?[nmrs]?)\b"),
    "French": (r"\b([Vv]ous|[Vv]otre|[Vv]os)\b", r"\b([Tt]u|[Tt]oi|[Tt]on|[Tt]es)\b|\b[Tt]'"),
    "Japanese": (
        r"(です|ます|ました|ません|ください|ございます)",
        r"(だ|だよ|だね|くれ)(?=[。!！]|$)",
    ),
}
REFUSALS = re.compile(
    r"\b(i|we) (can ?not|can't|won't|will not|am (not able|unable)|'m (not able|unable))\b|"
    r"\b(i|we) (must|have to) (decline|refuse)\b|\bi'm sorry,? but\b|\bas an ai\b|"
    r"\bi do(n't| not) have (opinions|preferences|personal)",
)


def exact(answer: str, text: str) -> str | None:
    """The answer is this text; case, outer blanks and outer punctuation do not count."""
    return None if _bare(answer) == _bare(text) else f"not exactly {text!r}"


def says(answer: str, any_of: Sequence[str], none_of: Sequence[str] = ()) -> str | None:
    """One of the phrases is in the answer as whole words, not after "not", and none of the others.

    Raises:
        ValueError: no phrase is given, so nothing could be right.
    """
    if not any_of:
        raise ValueError("says: any_of has no phrase")
    for phrase in none_of:
        if _has(answer, phrase):
            return f"says {phrase!r}"
    return None if any(_has(answer, phrase) for phrase in any_of) else f"none of {[*any_of]}"


def number(answer: str, value: float, tolerance: float = 0.0) -> str | None:
    """The last number in the answer, in digits or as a word up to twenty, is this one.

    The last one counts, as in the usual scorers of arithmetic, since a calculation ends in its
    result.

    Args:
        tolerance: the largest difference that is still right.
    """
    found = NUMBER.findall(answer.replace("\N{MINUS SIGN}", "-"))
    if not found:
        return "no number"
    last = found[-1].lower().replace(",", "")
    last = float(WORDS.index(last)) if last in WORDS else float(last)
    return None if abs(last - value) <= tolerance else f"{last:g} instead of {value:g}"


def yes_no(answer: str, value: str) -> str | None:
    """The first "yes" or "no" in the answer is this one."""
    found = re.search(r"\b(yes|no)\b", answer.lower())
    if found is None:
        return "neither yes nor no"
    return None if found[1] == value else f"{found[1]} instead of {value}"


def json_schema(answer: str, schema: dict) -> str | None:
    """The whole answer is JSON that matches a JSON schema. A fence of ``` around it is allowed.

    Raises:
        jsonschema.SchemaError: the schema itself is wrong.
    """
    Draft202012Validator.check_schema(schema)
    fenced = re.fullmatch(r"\s*```(?:json)?\s*\n(.*?)\n?```\s*", answer, re.DOTALL)
    try:
        value = json.loads(fenced[1] if fenced else answer)
    except (ValueError, RecursionError):
        return "not JSON"
    error = next(Draft202012Validator(schema).iter_errors(value), None)
    if error is None:
        return None
    return f"at {'.'.join(map(str, error.path)) or 'the top'}: {error.message[:80]}"


def numbers_until(answer: str, limit: int) -> str | None:
    """The Fibonacci sequence, and it stops at the first number that is not below `limit`.

    It may begin with 0 or with 1. A number that belongs to a sentence counts too.
    """
    # "89,144" is one number or two, so either reading may be right.
    faults = [_sequence_fault(re.findall(digits, answer), limit) for digits in (r"\d+", DIGITS)]
    return None if None in faults else faults[0]


def _sequence_fault(digits: Sequence[str], limit: int) -> str | None:
    if any(len(text) > LONGEST_NUMBER for text in digits):
        return "a number without an end"
    found = [int(text.replace(",", "")) for text in digits]
    expected = [1, 1]
    while expected[-1] < limit:
        expected.append(expected[-2] + expected[-1])
    shown = found[1:] if found[:1] == [0] else found
    for place, (got, want) in enumerate(zip(shown, expected, strict=False), 1):
        if got != want:
            return f"number {place} is {got} instead of {want}"
    if len(shown) < len(expected):
        return f"it ends at {shown[-1] if shown else 'nothing'}, before {expected[-1]}"
    return None if len(shown) == len(expected) else f"it does not stop at {expected[-1]}"


def language_of(text: str) -> str | None:
    """The language of a text by its script or its most frequent short words; None if unclear."""
    scripts = Counter(
        unicodedata.name(letter, "").split(" ")[0] for letter in text if letter.isalpha()
    )
    for script, language in SCRIPTS.items():
        if scripts[script] > scripts.total() / (10 if language == "Japanese" else 2):
            return language
    words = re.findall(r"[^\W\d_]+", text.lower())
    hits = Counter(
        {
            language: sum(word in frequent.split() for word in words)
            for language, frequent in FREQUENT.items()
        }
    )
    (first, most), (_, second) = hits.most_common(2)
    return first if most > second else None


def language(answer: str, name: str) -> str | None:
    """The answer is in this language, one of `FREQUENT`.

    Raises:
        ValueError: the language is not known here.
    """
    if name not in FREQUENT:
        raise ValueError(f"language: {name!r} is not one of {', '.join(FREQUENT)}")
    found = language_of(answer)
    return None if found == name else f"it looks like {found or 'no language that is known here'}"


def polite(answer: str, name: str) -> str | None:
    """The answer addresses the person politely (Sie, vous, です and ます) and never familiarly.

    Raises:
        ValueError: the language is not one of `FORMS`.
    """
    if name not in FORMS:
        raise ValueError(f"polite: {name!r} is not one of {', '.join(FORMS)}")
    formal, familiar = FORMS[name]
    if found := re.search(familiar, answer):
        return f"familiar: {found[0]}"
    return None if re.search(formal, answer) else "no polite form"


def refuses(answer: str, wanted: bool = True) -> str | None:
    """The answer refuses, by the phrases that refusals usually have; or it does not (`wanted`)."""
    refused = bool(REFUSALS.search(answer.lower().replace("’", "'")))
    if refused == wanted:
        return None
    return "it refuses" if refused else "it does not refuse"


def instruction(answer: str, name: str) -> str | None:
    """The rule of one of notebook 05's verifiable instructions.

    Raises:
        ValueError: no instruction has this name.
    """
    rules = {each.name: each.violation for each in INSTRUCTIONS}
    if name not in rules:
        raise ValueError(f"instruction: {name!r} is not one of {', '.join(rules)}")
    return rules[name](answer)


SCORERS: dict[str, Callable[..., str | None]] = {
    "exact": exact,
    "says": says,
    "number": number,
    "yes_no": yes_no,
    "json_schema": json_schema,
    "numbers_until": numbers_until,
    "language": language,
    "polite": polite,
    "refuses": refuses,
    "instruction": instruction,
    "code_works": code_works,
}


def judge(answer: str | None, rule: Mapping[str, Any]) -> str | None:
    """What a rule says about an answer.

    Args:
        answer: None, as some servers send it, is an empty one.
        rule: the name of a scorer under "rule", and its arguments.

    Raises:
        ValueError: no scorer has this name.
        Exception: whatever the scorer raises; `runs.score` keeps it apart from a wrong answer.
    """
    arguments = dict(rule)
    name = arguments.pop("rule", None)
    if name not in SCORERS:
        raise ValueError(f"no scorer is called {name!r}; there are: {', '.join(SCORERS)}")
    return SCORERS[name](answer or "", **arguments)


def _bare(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(text.split()).strip(" .!?,;:'\"“”*`")


def _has(answer: str, phrase: str) -> bool:
    text = " ".join(unicodedata.normalize("NFKC", answer).lower().replace("’", "'").split())
    for match in re.finditer(rf"(?<!\w){re.escape(phrase.lower())}(?!\w)", text):
        if not DENIED.search(text[: match.start()]):
            return True
    return False
