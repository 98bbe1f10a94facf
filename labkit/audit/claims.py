"""What public articles say about these models, judged: ``data/claims.yaml`` as a table.

``table()`` shows and filters it, ``recompute()`` computes again what can be computed. A verdict
that the computation contradicts fails a test.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from datetime import date
from functools import cache
from typing import Any, Literal

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from helpers.paths import DATA
from labkit.audit.claim_checks import CHECKS, Finding

FILE = DATA / "claims.yaml"

VERDICTS = {
    "right": "it holds",
    "plausible": "it fits what can be computed, and was not tried here",
    "half true": "a part holds, or it holds of something else",
    "misleading": "the numbers or the code may be real; what they suggest is not",
    "outdated": "it was so once, or was overtaken",
    "wrong": "it does not hold",
    "vendor claim": "the maker says so and nobody else can check it from what is public",
    "unverifiable": "no source, no setup, nothing to check",
}
Verdict = Literal[
    "right",
    "plausible",
    "half true",
    "misleading",
    "outdated",
    "wrong",
    "vendor claim",
    "unverifiable",
]
Topic = Literal[
    "size",
    "speed",
    "memory",
    "attention",
    "context",
    "quality",
    "languages",
    "licence and training",
    "API",
    "software",
    "price",
    "use",
    "roadmap",
]


class Source(BaseModel):
    """A public article, by what its text shows of itself."""

    model_config = ConfigDict(extra="forbid")

    title: str
    site: str
    language: str
    date: str
    about: str


class Claim(BaseModel):
    """One claim and its verdict. ``check`` and ``given`` belong to computed ones only."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    sources: list[str] = Field(min_length=1)
    topic: Topic
    claim: str
    quote: str
    verdict: Verdict
    value: str
    evidence: str
    date: date
    how: Literal["computed", "sourced", "read"]
    check: str | None = None
    given: dict[str, Any] = {}

    @model_validator(mode="after")
    def _check_exists(self) -> Claim:
        if (self.how == "computed") != (self.check is not None):
            raise ValueError("a computed claim names its check, and no other does")
        if self.check is not None and self.check not in CHECKS:
            raise ValueError(f"labkit/audit/claim_checks.py has no check {self.check!r}")
        return self

    def compute(self) -> Finding:
        """Recompute the claim; ValueError if it is not a computed one."""
        if self.check is None:
            raise ValueError(f"{self.id} cannot be computed: its verdict is {self.how}")
        return CHECKS[self.check](**self.given)


class Claims(BaseModel):
    """The whole file: the articles by a short name, and the claims in them."""

    model_config = ConfigDict(extra="forbid")

    sources: dict[str, Source]
    claims: list[Claim]

    @model_validator(mode="after")
    def _consistent(self) -> Claims:
        twice = [name for name, n in Counter(claim.id for claim in self.claims).items() if n > 1]
        if twice:
            raise ValueError(f"more than one claim is called {', '.join(twice)}")
        used = {name for claim in self.claims for name in claim.sources}
        if used != set(self.sources):
            raise ValueError(f"sources unknown or unused: {sorted(used ^ set(self.sources))}")
        return self


@cache
def read() -> Claims:
    """The file, checked. Raises pydantic's ValidationError, which names the row and the field."""
    return Claims.model_validate(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def load(claim_id: str) -> Claim:
    """The claim called ``claim_id``. Raises KeyError, with close names, for an unknown one."""
    claims = {claim.id: claim for claim in read().claims}
    if claim_id not in claims:
        raise KeyError(f"no claim is called {claim_id!r}; there are: {', '.join(claims)}")
    return claims[claim_id]


def table(
    verdict: str | list[str] | None = None,
    source: str | None = None,
    topic: str | None = None,
    how: str | None = None,
) -> pd.DataFrame:
    """The claims as a frame, filtered: index ``id``; who says it, what, the verdict and why.

    ``source`` is a part of a source's short name, title, language or subject, such as
    ``"Chinese"``. ``verdict`` may be a list. Raises ValueError, with what there is, for a word
    that no claim could have.
    """
    claims = read()
    rows = [
        {
            "id": claim.id,
            "source": ", ".join(claim.sources),
            "language": ", ".join(claims.sources[name].language for name in claim.sources),
            "topic": claim.topic,
            "claim": claim.claim,
            "verdict": claim.verdict,
            "right value": claim.value,
            "how": claim.how,
            "evidence": claim.evidence,
            "date": claim.date,
        }
        for claim in claims.claims
        if source is None or any(_about(source, name) for name in claim.sources)
    ]
    if not rows:
        raise ValueError(f"no source matches {source!r}; there are: {', '.join(claims.sources)}")
    frame = pd.DataFrame(rows).set_index("id")
    for column, wanted in {"verdict": verdict, "topic": topic, "how": how}.items():
        if wanted is None:
            continue
        words = [wanted] if isinstance(wanted, str) else list(wanted)
        known = {getattr(claim, column) for claim in claims.claims}
        known |= set(VERDICTS) if column == "verdict" else set()
        if set(words) - known:
            raise ValueError(f"no {column} {wanted!r}; there are: {', '.join(sorted(known))}")
        frame = frame[frame[column].isin(words)]
    return frame


def _about(word: str, name: str) -> bool:
    source = read().sources[name]
    return word.lower() in " ".join([name, *source.model_dump().values()]).lower()


def sources() -> pd.DataFrame:
    """The articles: index their short names; title, site, language, date, about."""
    rows = {name: source.model_dump() for name, source in read().sources.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("source")


def recompute() -> pd.DataFrame:
    """Every computed claim, computed again: what the file says, what came out, if they agree."""
    rows = []
    for claim in read().claims:
        if claim.check is None:
            continue
        finding = claim.compute()
        rows.append(
            {
                "id": claim.id,
                "claim": claim.claim,
                "value": claim.value,
                "verdict": claim.verdict,
                "computed value": finding.value,
                "computed verdict": finding.verdict,
                "agrees": finding == (claim.value, claim.verdict),
            }
        )
    return pd.DataFrame(rows).set_index("id")


def main(argv: list[str] | None = None) -> int:
    """`python -m helpers claims`: show the table, filtered; 1 if a verdict is contradicted."""
    parser = argparse.ArgumentParser(prog="python -m helpers claims", description=__doc__)
    parser.add_argument("--verdict", help=", ".join(VERDICTS))
    parser.add_argument("--source", help="such as Japanese, Chinese or 3.2")
    parser.add_argument("--topic", help="such as memory or speed")
    parser.add_argument("--how", help="computed, sourced or read")
    parser.add_argument("--recompute", action="store_true", help="compute what can be computed")
    options = parser.parse_args(argv)
    try:
        if options.recompute:
            return _show_recomputed(recompute())
        frame = table(options.verdict, options.source, options.topic, options.how)
    except ValidationError as error:
        print(f"error: {FILE.name}: {error}", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for claim_id, row in frame.iterrows():
        print(f"{row['verdict'].upper():<13} {row['claim']}")
        print(f"{'':<13} → {row['right value']}  [{row['how']}; {row['language']}; {claim_id}]")
    counts = frame["verdict"].value_counts()
    words = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if verdict in counts)
    print(f"\n{len(frame)} claims: {words or 'none'}")
    return 0


def _show_recomputed(frame: pd.DataFrame) -> int:
    for claim_id, row in frame[~frame["agrees"]].iterrows():
        print(f"{claim_id}: the file says {row['verdict']} ({row['value']}),")
        print(f"  computed: {row['computed verdict']} ({row['computed value']})")
    print(f"{len(frame)} recomputed, {int(frame['agrees'].sum())} as the file says")
    return 0 if frame["agrees"].all() else 1
