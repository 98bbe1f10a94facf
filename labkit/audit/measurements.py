"""Every measured figure that the kit uses, with the command that measures it again.

One file each in ``data/measurements``. Code takes a figure with ``evidence.load("its-id").value``;
prose either has it filled in (``evidence.fill("… {{its-id}} …")``) or names it behind the number:
``45 tokens/s <!-- measured: its-id -->``. ``problems()`` finds figures without an entry.

A command prints as its last line what ``report`` prints: the value and where it was measured.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from helpers.machine import hardware, versions
from helpers.paths import DATA, ROOT

FOLDER = DATA / "measurements"


TIMEOUT_S = 1800


ID = r"[a-z0-9]+(?:-[a-z0-9]+)+"


# Only this repository's own code can be a command, so that `verify` runs nothing else.
COMMAND = r"^python (-m helpers(\.\w+)*|benchmarks/measure_\w+\.py)( [\w./=-]+)*$"


REFERENCE = re.compile(
    rf"""evidence\.(?:load|verify)\(\s*["']([^"']*)["']"""
    rf"""|\{{\{{\s*({ID})\s*\}}\}}"""
    rf"""|<!--\s*measured:\s*(\S+?)\s*-->"""
)


NUMBER_BEFORE = re.compile(r"(\d[\d,]*(?:\.\d+)?)[^\d\n]*<!--\s*measured:\s*(\S+?)\s*-->")


FIGURE = re.compile(
    r"\d\s*(tokens/s|tokens per second|tok/s|ms|s|seconds|minutes|[KMGT]i?B|bits|%|×)(?!\w)"
)


class EvidenceError(RuntimeError):
    """A figure could not be measured again; the message says why."""


class Measurement(BaseModel):
    """A measured figure. ``spread``: how far, relatively, another run of the same command may be.

    ``value`` is in ``unit``; a ratio's unit is ``ratio``. Speeds are kept as ratios where possible,
    because absolute ones differ from machine to machine.
    """

    model_config = ConfigDict(extra="forbid")

    id: str = Field(pattern=rf"^{ID}$")
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
    """The figure on file beside the one measured here."""

    entry: Measurement
    here: float
    hardware: str

    @property
    def ratio(self) -> float:
        """Here over on file."""
        return self.here / self.entry.value if self.entry.value else float("nan")

    @property
    def agrees(self) -> bool:
        """Within the entry's own spread."""
        return abs(self.here - self.entry.value) <= self.entry.spread * abs(self.entry.value) + 1e-9


def ids() -> list[str]:
    """The figures there are, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load(figure_id: str) -> Measurement:
    """The entry called ``figure_id``.

    Raises KeyError, with the ids there are, for an unknown one, and pydantic's ValidationError for
    an entry that lacks something, such as its command.
    """
    path = FOLDER / f"{figure_id}.json"
    if figure_id not in ids():
        raise KeyError(f"no measured figure is called {figure_id!r}; there are: {', '.join(ids())}")
    entry = Measurement.model_validate(json.loads(path.read_text(encoding="utf-8")))
    if entry.id != figure_id:
        raise ValueError(f"{path.name} holds an entry called {entry.id!r}")
    return entry


def table() -> pd.DataFrame:
    """All entries: index ``id``; what, value, unit, hardware, date, command."""
    columns = ["id", "what", "value", "unit", "hardware", "date", "command"]
    rows = [{column: getattr(load(one), column) for column in columns} for one in ids()]
    return pd.DataFrame(rows, columns=columns).set_index("id")


def fill(text: str) -> str:
    """Replace each ``{{id}}`` by the figure on file and its unit. Raises KeyError."""

    def figure(match: re.Match) -> str:
        entry = load(match[1])
        return f"{entry.value:g}" if entry.unit == "ratio" else f"{entry.value:g} {entry.unit}"

    return re.sub(rf"\{{\{{\s*({ID})\s*\}}\}}", figure, text)


def report(value: float, unit: str, **detail: object) -> None:
    """What a measuring command prints last: one line of JSON with its value and where it ran."""
    where = {"hardware": hardware(), "versions": versions(), "date": date.today().isoformat()}
    print(json.dumps({"value": value, "unit": unit, **where, "detail": detail}), flush=True)


def measure(entry: Measurement) -> dict:
    """Run an entry's command here, in the kit's folder; what its last line says.

    Raises EvidenceError when it fails, takes more than half an hour or prints no value.
    """
    command = [sys.executable, *shlex.split(entry.command)[1:]]
    try:
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise EvidenceError(f"`{entry.command}` took more than {TIMEOUT_S // 60} min") from error
    if done.returncode != 0:
        raise EvidenceError(f"`{entry.command}` ended with exit code {done.returncode}")
    try:
        result = json.loads(done.stdout.splitlines()[-1])
        float(result["value"])
    except (IndexError, ValueError, KeyError, TypeError) as error:
        raise EvidenceError(f"`{entry.command}` printed no value as its last line") from error
    if result.get("unit") != entry.unit:
        unit = result.get("unit")
        raise EvidenceError(f"`{entry.command}` measures {unit!r}, the entry says {entry.unit!r}")
    return result


def verify(figure_id: str) -> Verification:
    """Measure a figure again on this machine. Raises KeyError or EvidenceError."""
    entry = load(figure_id)
    result = measure(entry)
    return Verification(entry, float(result["value"]), result.get("hardware", "this machine"))


def record(figure_id: str) -> Measurement:
    """Measure a figure again and write it, with this machine and today's date, into its file."""
    entry = load(figure_id)
    result = measure(entry)
    fresh = {key: result[key] for key in ("value", "hardware", "versions", "date")}
    entry = Measurement.model_validate(entry.model_dump() | fresh)
    text = json.dumps(entry.model_dump(mode="json"), indent=2, ensure_ascii=False)
    (FOLDER / f"{figure_id}.json").write_text(text + "\n", encoding="utf-8")
    return entry


def references(text: str) -> list[str]:
    """The ids that a text names, in either notation."""
    return [next(filter(None, match.groups()), "") for match in REFERENCE.finditer(text)]


def text_problems(text: str, prose: bool = True) -> list[str]:
    """What is wrong with the measured figures of a text.

    An id without an entry; a number that differs from its entry; and, in prose, a paragraph that
    says "measured", shows a figure and names no entry.
    """
    problems = []
    for figure_id in references(text):
        try:
            load(figure_id)
        except (KeyError, ValueError) as error:
            problems.append(str(error.args[0] if isinstance(error, KeyError) else error))
    for number, figure_id in NUMBER_BEFORE.findall(text):
        if figure_id in ids() and not _same(number, load(figure_id).value):
            problems.append(f"{number} is written, {figure_id} is {load(figure_id).value:g}")
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*[-*|])", text) if prose else []:
        says = re.search(r"\bmeasured\b", re.sub(r"<!--.*?-->", "", paragraph, flags=re.S))
        if says and FIGURE.search(paragraph) and not references(paragraph):
            problems.append(f"a measured figure without an entry: {paragraph.strip()[:80]!r}")
    return problems


def _same(written: str, value: float) -> bool:
    """Equal at the precision that is written."""
    decimals = len(written.partition(".")[2])
    return round(value, decimals) == float(written.replace(",", ""))


def documents() -> Iterator[tuple[str, str, bool]]:
    """Where figures may stand: (place, text, whether it is prose)."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
            text = "".join(cell["source"])
            yield f"{path.name}, cell {number}", text, cell["cell_type"] == "markdown"
    for path in (*sorted(ROOT.glob("*.md")), DATA / "claims.yaml"):
        yield path.name, path.read_text(encoding="utf-8"), True
    for path in sorted((ROOT / "helpers").rglob("*.py")):
        if path != Path(__file__).resolve():
            yield f"helpers/{path.name}", path.read_text(encoding="utf-8"), False


def problems() -> list[str]:
    """Everything that is wrong with the entries and with the texts that use them."""
    found = []
    for figure_id in ids():
        try:
            entry = load(figure_id)
        except ValueError as error:  # pydantic's ValidationError is one
            found.append(f"data/measurements/{figure_id}.json: {_short(error)}")
            continue
        script = entry.command.split()[1]
        if script.endswith(".py") and not (ROOT / script).exists():
            found.append(f"data/measurements/{figure_id}.json: there is no {script}")
    for place, text, prose in documents():
        found += [f"{place}: {problem}" for problem in text_problems(text, prose)]
    return found


def _short(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())


def main(argv: list[str] | None = None) -> int:
    """`python -m helpers verify [id]`: measure it again and show both; without id, the list."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers verify",
        description="Measure one of the kit's figures again on this machine and show both.",
    )
    parser.add_argument("id", nargs="?", help="which figure (default: list them)")
    parser.add_argument("--write", action="store_true", help="and keep the new one in the file")
    options = parser.parse_args(argv)
    if options.id is None:
        for figure_id, row in table().iterrows():
            print(f"{figure_id}: {row['value']:g} {row['unit']} ({row['date']})\n    {row['what']}")
        return 0
    try:
        if options.write:
            entry = record(options.id)
            print(f"{entry.id} = {entry.value:g} {entry.unit}, written")
            return 0
        entry = load(options.id)
        print(f"{entry.what}\n$ {entry.command}", flush=True)
        result = verify(options.id)
    except (KeyError, ValueError, EvidenceError) as error:
        print(f"error: {error.args[0] if error.args else error}", file=sys.stderr)
        return 2
    print(f"on file  {entry.value:<12g} {entry.unit}  {entry.date}, {entry.hardware}")
    print(f"here     {result.here:<12g} {entry.unit}  {result.hardware}")
    spread = "within" if result.agrees else "outside"
    print(f"ratio    {result.ratio:.3f}: {spread} the expected ±{100 * entry.spread:g} %")
    return 0
