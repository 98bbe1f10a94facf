"""Published benchmark tables, from ``data/published_scores``: whose, and when they were read.

Nothing here was measured by this kit. Most figures are a vendor's own.
"""

from __future__ import annotations

import json
from datetime import date

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from helpers.paths import DATA

FOLDER = DATA / "benchmarks"


class Row(BaseModel):
    """One benchmark and what each model scored."""

    model_config = ConfigDict(extra="forbid")

    group: str
    benchmark: str
    unit: str
    higher_is_better: bool = True
    scores: dict[str, float] = Field(min_length=1)


class Scores(BaseModel):
    """A table and where it comes from: ``by`` whom, published on ``date``, ``read`` on another."""

    model_config = ConfigDict(extra="forbid")

    title: str
    by: str
    source: str
    url: str | None
    date: date
    read: date
    note: str
    rows: list[Row] = Field(min_length=1)


def names() -> list[str]:
    """The tables there are, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load(name: str) -> Scores:
    """The table called ``name``, such as ``"small-3.2-2506"``, with its source.

    Raises KeyError, with the names there are, for an unknown one.
    """
    path = FOLDER / f"{name}.json"
    if not path.exists():
        raise KeyError(f"no benchmark table named {name!r}; there are: {', '.join(names())}")
    return Scores.model_validate(json.loads(path.read_text(encoding="utf-8")))


def table(name: str) -> pd.DataFrame:
    """The same as a frame: index ``benchmark``; ``group``, ``unit``, then one column a model.

    ``attrs["source"]`` says where it is from, in one line for under a plot.
    """
    scores = load(name)
    frame = pd.DataFrame(
        [{"group": row.group, "unit": row.unit, **row.scores} for row in scores.rows],
        index=pd.Index([row.benchmark for row in scores.rows], name="benchmark"),
    )
    frame.attrs["source"] = f"{scores.by}, {scores.date}, read {scores.read}: {scores.source}"
    return frame
