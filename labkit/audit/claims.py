"""What public articles say about these models, judged: `data/claims.yaml` as a table.

`table()` shows and filters the claims; `recompute()` computes again what can be computed. A test
fails if a verdict or value on file is not the computed one.
"""

from __future__ import annotations

from collections import Counter
from datetime import date
from functools import cache
from typing import Any, Literal

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from helpers.paths import DATA
from labkit.audit.claim_checks import CHECKS, Finding

FILE = DATA / "claims.yaml"

VERDICTS = {
    "right": "the claim is true",
    "plausible": "the claim agrees with what can be computed, and was not tried here",
    "half true": "a part is true, or it is true of something else",
    "misleading": "the numbers or the code may be real, but they suggest something wrong",
    "outdated": "it was true once, or something newer has replaced it",
    "wrong": "the claim is not true",
    "vendor claim": "the maker says so, and nobody else can check it from public sources",
    "unverifiable": "no source and no setup, so there is nothing to check",
}


class Source(BaseModel):
    """A public article, described by what its own text shows."""

    model_config = ConfigDict(extra="forbid")

    title: str
    site: str
    language: str
    date: str
    about: str


class Claim(BaseModel):
    """One claim and its verdict; the head of `data/claims.yaml` explains each field."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    sources: list[str] = Field(min_length=1)
    topic: str
    claim: str
    quote: str
    verdict: Literal[*VERDICTS]
    value: str
    evidence: str
    date: date
    how: Literal["computed", "sourced", "read"]
    check: str | None = None
    given: dict[str, Any] = {}

    @model_validator(mode="after")
    def _check_exists(self) -> Claim:
        if (self.how == "computed") != (self.check is not None):
            raise ValueError("a computed claim names its check, and no other claim does")
        if self.check is not None and self.check not in CHECKS:
            raise ValueError(f"labkit/audit/claim_checks has no check {self.check!r}")
        return self

    def compute(self) -> Finding:
        """Compute the claim again.

        Raises:
            ValueError: the claim is not a computed one.
        """
        if self.check is None:
            raise ValueError(f"{self.id} cannot be computed: its verdict is {self.how}")
        return CHECKS[self.check](**self.given)


class Claims(BaseModel):
    """The whole file: the topics, the articles by a short name, and the claims in them."""

    model_config = ConfigDict(extra="forbid")

    topics: list[str]
    sources: dict[str, Source]
    claims: list[Claim]

    @model_validator(mode="after")
    def _consistent(self) -> Claims:
        counts = Counter(claim.id for claim in self.claims)
        if repeated := [claim_id for claim_id, number in counts.items() if number > 1]:
            raise ValueError(f"more than one claim is called {', '.join(repeated)}")
        used_sources = {name for claim in self.claims for name in claim.sources}
        if different := used_sources ^ set(self.sources):
            raise ValueError(f"sources unknown or unused: {', '.join(sorted(different))}")
        if different := {claim.topic for claim in self.claims} ^ set(self.topics):
            raise ValueError(f"topics unknown or unused: {', '.join(sorted(different))}")
        return self


@cache
def read() -> Claims:
    """The file, validated.

    Raises:
        pydantic.ValidationError: the message names the row and the field.
    """
    return Claims.model_validate(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def load(claim_id: str) -> Claim:
    """The claim called `claim_id`.

    Raises:
        KeyError: no claim has this id. The message lists the ids.
    """
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
    """The claims as a frame, filtered: index `id`; who says it, what, the verdict and why.

    Args:
        verdict: one of `VERDICTS`, or a list of them.
        source: part of a source's short name, title, language or subject, such as `"Chinese"`.
        topic: one of the topics in the table, such as `"memory"`.
        how: how the verdict was found: `"computed"`, `"sourced"` or `"read"`.

    Raises:
        ValueError: a filter's value does not exist. The message lists those that do.
    """
    claims = read()
    everything = pd.DataFrame([_row(claim) for claim in claims.claims]).set_index("id")
    frame = everything
    if source is not None:
        articles = {name for name in claims.sources if _mentions(name, source)}
        if not articles:
            known = ", ".join(claims.sources)
            raise ValueError(f"no source matches {source!r}; there are: {known}")
        frame = everything[[bool(articles & set(claim.sources)) for claim in claims.claims]]
    for column, wanted in {"verdict": verdict, "topic": topic, "how": how}.items():
        if wanted is None:
            continue
        values = [wanted] if isinstance(wanted, str) else list(wanted)
        known = VERDICTS if column == "verdict" else set(everything[column])
        if not set(values) <= set(known):
            raise ValueError(f"no {column} {wanted!r}; there are: {', '.join(sorted(known))}")
        frame = frame[frame[column].isin(values)]
    return frame


def _row(claim: Claim) -> dict[str, Any]:
    languages = (read().sources[name].language for name in claim.sources)
    return {
        "id": claim.id,
        "source": ", ".join(claim.sources),
        "language": ", ".join(languages),
        "topic": claim.topic,
        "claim": claim.claim,
        "verdict": claim.verdict,
        "right value": claim.value,
        "how": claim.how,
        "evidence": claim.evidence,
        "date": claim.date,
    }


def _mentions(name: str, text: str) -> bool:
    """Whether an article's short name or its description contains `text`."""
    article = read().sources[name]
    return text.lower() in " ".join([name, *article.model_dump().values()]).lower()


def recompute() -> pd.DataFrame:
    """Compute every computed claim again: what the file says, the result, and if they agree."""
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
