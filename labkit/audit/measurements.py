"""Every measured figure that the kit uses, with the command that measures it again.

Each figure is a file in `data/measurements`. Code takes it with `load("pocket-kv-bytes").value`;
a comment or a text names its id in backticks: "measured: `pocket-kv-bytes`". The tests find faulty
files, unknown ids and measured figures in texts that name no id.

The last line that a command prints is that of `report`: the value and where it was measured.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from datetime import date
from typing import NamedTuple

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from helpers.machine import hardware, versions
from helpers.paths import DATA, ROOT, write_text

FOLDER = DATA / "measurements"
TIMEOUT_S = 1800
PACKAGES = ("helpers", "labkit", "openrouter_sim", "pocket_model", "pocket_training")

# Only this repository's own code can be a command, so that `verify` runs nothing else.
COMMAND = rf"^python (-m ({'|'.join(PACKAGES)})|benchmarks/measure_\w+\.py)( [\w./=-]+)*$"


class MeasurementError(RuntimeError):
    """A figure could not be measured again; the message says why."""


class Measurement(BaseModel):
    """A measured figure.

    Attributes:
        value: in `unit`. Speeds are kept as ratios where possible (their unit is `ratio`),
            because absolute speeds differ from machine to machine.
        command: measures the value again.
        spread: the relative difference that another run of the command may have.
    """

    model_config = ConfigDict(extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)+$")
    what: str = Field(min_length=1)
    value: float
    unit: str = Field(min_length=1)
    command: str = Field(pattern=COMMAND)
    spread: float = Field(ge=0, lt=1)
    hardware: str = Field(min_length=1)
    versions: dict[str, str] = Field(min_length=1)
    date: date
    note: str = ""


class Verification(NamedTuple):
    """A figure on file, and as it was measured here just now."""

    on_file: Measurement
    here: Measurement

    @property
    def ratio(self) -> float:
        """The value here divided by the value on file; nan if that is 0."""
        return self.here.value / self.on_file.value if self.on_file.value else float("nan")

    @property
    def agrees(self) -> bool:
        """Whether the two differ by no more than the spread on file."""
        allowed = self.on_file.spread * abs(self.on_file.value) + 1e-9
        return abs(self.here.value - self.on_file.value) <= allowed


def ids() -> list[str]:
    """The ids of the figures, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load(figure_id: str) -> Measurement:
    """The figure called `figure_id`.

    Raises:
        KeyError: no figure has this id. The message lists the ids.
        ValueError: its file lacks a field, such as the command, or a field is wrong.
    """
    if figure_id not in ids():
        raise KeyError(f"no measured figure is called {figure_id!r}; there are: {', '.join(ids())}")
    name = f"data/measurements/{figure_id}.json"
    try:
        entry = Measurement.model_validate_json((FOLDER / f"{figure_id}.json").read_bytes())
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ValueError(f"{name}: {'; '.join(faults)}") from error
    if entry.id != figure_id:
        raise ValueError(f"{name}: the id in it is {entry.id!r}")
    return entry


def table() -> pd.DataFrame:
    """All figures: index `id`; what, value, unit, hardware, date, command."""
    columns = ["what", "value", "unit", "hardware", "date", "command"]
    rows = {figure_id: load(figure_id).model_dump(include=set(columns)) for figure_id in ids()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("id")


def report(value: float, unit: str, **detail: object) -> None:
    """Print the last line of a measuring command: JSON with the value and where it was measured."""
    origin = {"hardware": hardware(), "versions": versions(), "date": date.today().isoformat()}
    print(json.dumps({"value": value, "unit": unit, **origin, "detail": detail}), flush=True)


def measure(entry: Measurement) -> Measurement:
    """Run the command of `entry` in the kit's folder; the same entry with the new value.

    Raises:
        MeasurementError: the command fails, takes more than half an hour or reports no value.
    """
    command = [sys.executable, *shlex.split(entry.command)[1:]]
    try:
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise MeasurementError(f"`{entry.command}` took more than {TIMEOUT_S // 60} min") from error
    if done.returncode != 0:
        raise MeasurementError(f"`{entry.command}` ended with exit code {done.returncode}")
    try:
        result = json.loads(done.stdout.splitlines()[-1])
        fresh = {key: result[key] for key in ("value", "unit", "hardware", "versions", "date")}
        new = Measurement.model_validate(entry.model_dump() | fresh)
    except (IndexError, ValueError, KeyError, TypeError) as error:
        raise MeasurementError(
            f"`{entry.command}` did not report a value in its last line"
        ) from error
    if new.unit != entry.unit:
        raise MeasurementError(
            f"`{entry.command}` measures {new.unit!r}, the entry says {entry.unit!r}"
        )
    return new


def verify(figure_id: str) -> Verification:
    """Measure a figure again on this machine.

    Raises:
        KeyError, ValueError: see `load`.
        MeasurementError: see `measure`.
    """
    entry = load(figure_id)
    return Verification(entry, measure(entry))


def record(figure_id: str) -> Measurement:
    """Measure a figure again and write it into its file. Raises the errors of `verify`."""
    entry = measure(load(figure_id))
    text = json.dumps(entry.model_dump(mode="json"), indent=2, ensure_ascii=False)
    write_text(FOLDER / f"{figure_id}.json", text + "\n")
    return entry
