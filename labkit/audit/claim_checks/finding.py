"""What a check returns."""

from collections.abc import Iterable
from typing import NamedTuple


class Finding(NamedTuple):
    """The right value in words, and the verdict on the claim (see `labkit.audit.claims`)."""

    value: str
    verdict: str


def enumerate_in_words(items: Iterable[object]) -> str:
    """Join items as text: `80, 64 and 46`."""
    *first, last = map(str, items)
    return f"{', '.join(first)} and {last}" if first else last
