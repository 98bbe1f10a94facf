"""Wordings composed by a grammar, and the ways in which people type.

Templates are in `data/pocket/words/*.yaml`. `(a|b|)` means a, b or nothing. `{name}` means a rule
of that name, or what the caller gives for it.
"""

import re
from collections.abc import Mapping
from random import Random

from pocket_training import words

_ALTERNATIVES = re.compile(r"\(([^()|]*\|[^()]*)\)")  # the innermost
_FIELD = re.compile(r"\{(\w+)\}")

COURTESY_SHARE = 0.25  # of the training requests: with words of courtesy before or after
LOWER_SHARE = 0.1  # all in lower case
UNENDED_SHARE = 0.1  # without the last full stop or question mark
TYPO_SHARE = 0.04  # with a typing error; in training alone


def write(template: str, rules: Mapping, split: str, rng: Random, **slots: str) -> str:
    """A template in words: alternatives chosen, rules written out, what is given put in.

    Args:
        rules: lists of templates by name, or `words.Split` of lists.
        slots: texts by name; they go before rules of the same name.

    Raises:
        KeyError: a field is neither a rule nor given.
    """
    template = choose(template, rng)

    def put(field: re.Match) -> str:
        name = field[1]
        if name in slots:
            return slots[name]
        return write(pick(rules[name], split, rng), rules, split, rng, **slots)

    return _FIELD.sub(put, template)


def choose(template: str, rng: Random) -> str:
    """A template with its alternatives chosen; its fields stay."""
    while found := _ALTERNATIVES.search(template):
        chosen = rng.choice(found[1].split("|"))
        template = template[: found.start()] + chosen + template[found.end() :]
    return template


def fields(template: str) -> set[str]:
    """The names of a template's fields."""
    return set(_FIELD.findall(template))


def pick(rule, split: str, rng: Random) -> str:
    """One of a rule's templates."""
    return rng.choice(rule[split] if isinstance(rule, words.Split) else rule)


def tidy(text: str) -> str:
    """A sentence with its first letter a capital, and no blanks too many."""
    text = re.sub(r"\s+([?.,!])", r"\1", re.sub(r" {2,}", " ", text)).strip()
    return re.sub(r"(^|[.?!] )([a-z])", lambda m: m[1] + m[2].upper(), text)


def typed(text: str, split: str, rng: Random) -> str:
    """A question as somebody types it: with courtesies, in lower case, unended, with an error.

    What is in braces does not change.
    """
    text = with_courtesy(text, split, rng)
    if rng.random() < UNENDED_SHARE:
        text = text.rstrip(".?")
    if rng.random() < LOWER_SHARE:
        text = _outside_fields(text, str.lower)
    if split == "train" and rng.random() < TYPO_SHARE:
        text = _outside_fields(text, lambda part: _with_typo(part, rng))
    return text


def careless(text: str, shortened: Mapping[str, str], rng: Random) -> str:
    """A text as somebody types it in a hurry: up to three errors, often no capitals and no end.

    Args:
        shortened: how some words are typed then, as `u` for `you`; each is, half of the time.
    """

    def shorten(word: re.Match) -> str:
        short = shortened.get(word[0].lower())
        return short if short and rng.random() < 0.5 else word[0]

    if rng.random() < 0.4:
        text = re.sub(r"[A-Za-z']+", shorten, text)
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        text = _with_typo(text, rng)
    if rng.random() < 0.5:
        text = text.lower()
    return text.rstrip("?.") if rng.random() < 0.5 else text


def _outside_fields(text: str, change) -> str:
    parts = re.split(r"(\{\w+\})", text)
    return "".join(part if part.startswith("{") else change(part) for part in parts)


def _with_typo(text: str, rng: Random) -> str:
    """Two letters exchanged, one left out, or one twice, in one of the longer words."""
    found = [m for m in re.finditer(r"[A-Za-z]{4,}", text)]
    if not found:
        return text
    word = rng.choice(found)
    at = rng.randrange(word.start() + 1, word.end() - 1)
    kind = rng.randrange(3)
    if kind == 0:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text[:at] + (text[at] * 2 if kind == 1 else "") + text[at + 1 :]


def with_courtesy(template: str, split: str, rng: Random) -> str:
    """A training request, at times as people begin and end one; a held-out one as it is.

    Words that follow a text without quotation marks would become part of that text.
    """
    if split != "train" or rng.random() >= COURTESY_SHARE:
        return template
    lists = words.courtesies()
    if rng.random() < 0.4 and template.endswith((".", "?")):
        return f"{template} {rng.choice(lists.closings)}"
    return f"{rng.choice(lists.openings)} {template}"
