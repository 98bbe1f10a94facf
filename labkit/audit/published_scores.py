"""Published benchmark tables from `data/published_scores`: whose, and when they were read.

This kit measured none of these figures. Most are a vendor's own.
"""

from __future__ import annotations

from datetime import date

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from helpers.paths import DATA

FOLDER = DATA / "published_scores"


class Benchmark(BaseModel):
    """One benchmark and the score of each model, in `unit`."""

    model_config = ConfigDict(extra="forbid")

    group: str
    benchmark: str
    unit: str
    higher_is_better: bool = True
    scores: dict[str, float] = Field(min_length=1)


class ScoreTable(BaseModel):
    """A table and its origin: published `by` someone on `date`, and `read` there on another day."""

    model_config = ConfigDict(extra="forbid")

    title: str
    by: str
    source: str
    url: str | None
    date: date
    read: date
    note: str
    rows: list[Benchmark] = Field(min_length=1)


def names() -> list[str]:
    """The names of the tables, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load(name: str) -> ScoreTable:
    """The table called `name`, such as `"small-3.2-2506"`, with its origin.

    Raises:
        KeyError: no table has this name. The message lists the names.
    """
    if name not in names():
        raise KeyError(f"no table of scores is called {name!r}; there are: {', '.join(names())}")
    return ScoreTable.model_validate_json((FOLDER / f"{name}.json").read_bytes())


def table(name: str) -> pd.DataFrame:
    """The table called `name` as a frame: index `benchmark`; `group`, `unit`, one column per model.

    `attrs["source"]` names the origin in one line, for use below a plot.
    """
    scores = load(name)
    frame = pd.DataFrame(
        [{"group": row.group, "unit": row.unit, **row.scores} for row in scores.rows],
        index=pd.Index([row.benchmark for row in scores.rows], name="benchmark"),
    )
    frame.attrs["source"] = f"{scores.by}, {scores.date}, read {scores.read}: {scores.source}"
    return frame
