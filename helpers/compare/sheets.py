"""A comparison's sheet: one JSON file beside the answers that says how they were made.

It has the models with revision and precision, the way of asking, the sampling, the date, the
hardware and a hash of the prompts. `python -m helpers compare --sheet FILE` asks everything again.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from helpers import jsonl
from helpers.backends import connect
from helpers.compare import questions as question_files
from helpers.compare import runs, ways
from helpers.compare.questions import Question
from helpers.connection import choices
from helpers.connection.client import is_local
from helpers.connection.rows import BACKENDS
from helpers.machine import hardware, versions
from helpers.paths import ROOT, write_text

FIELDS = ("title", "questions", "prompts_sha256", "entrants", "date", "hardware", "versions",
          "right", "of")  # fmt: skip


class SheetError(ValueError):
    """A sheet cannot be replayed; the message says why and what to do."""


def make(
    title: str,
    questions: str | Path,
    entrants: Sequence[runs.Entrant],
    scored: runs.Scored,
) -> dict[str, Any]:
    """The sheet of a comparison that was just made on this machine.

    Args:
        questions: the file of the questions.
    """
    path = Path(questions).resolve()
    inside = path.is_relative_to(ROOT)
    first = next(iter(scored.rights.values()), {})
    return {
        "title": title,
        "questions": path.relative_to(ROOT).as_posix() if inside else str(path),
        "prompts_sha256": question_files.prompts_hash(question_files.load(path)),
        "entrants": [entrant.spec() for entrant in entrants],
        "date": date.today().isoformat(),
        "hardware": hardware(),
        "versions": versions(),
        "right": {name: sum(right.values()) for name, right in scored.rights.items()},
        "of": len(first),
    }


def save(sheet: dict[str, Any], path: str | Path) -> Path:
    """Write a sheet; returns its path. The answers belong beside it, as the same name `.jsonl`."""
    path = Path(path)
    write_text(path, json.dumps(sheet, indent=2, ensure_ascii=False) + "\n")
    return path


def read(path: str | Path) -> tuple[dict[str, Any], list[Question]]:
    """A sheet and its questions.

    Raises:
        SheetError: the file is missing or no sheet, or the questions are not those of the sheet.
    """
    path = Path(path)
    try:
        sheet = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SheetError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise SheetError(f"{path} is not JSON: {error}.") from error
    missing = [name for name in FIELDS if name not in sheet] if isinstance(sheet, dict) else FIELDS
    if missing:
        raise SheetError(f"{path} is no sheet of a comparison: it lacks {', '.join(missing)}.")
    for spec in sheet["entrants"] if isinstance(sheet["entrants"], list) else [None]:
        _source(spec)
    try:
        questions = question_files.load(ROOT / sheet["questions"])
    except (OSError, ValueError) as error:
        raise SheetError(f"The questions of {path.name} cannot be read: {error}") from error
    if question_files.prompts_hash(questions) != sheet["prompts_sha256"]:
        raise SheetError(
            f"{sheet['questions']} has changed since {sheet['date']}, so new answers would not be "
            "comparable. Restore that version of it, or make a new comparison."
        )
    return sheet, questions


def recorded(path: str | Path) -> dict[str, dict[str, str]]:
    """The answers beside a sheet: for each entrant, question id → answer.

    Raises:
        OSError: there is no such file.
        ValueError: a line is damaged (see `jsonl.read`).
    """
    answers: dict[str, dict[str, str]] = {}
    for record in jsonl.read(Path(path).with_suffix(".jsonl")):
        answers.setdefault(record["entrant"], {})[record["question"]] = record["answer"]
    return answers


def _source(spec: dict[str, Any]) -> dict[str, str]:
    """Where an entrant's answers come from.

    Raises:
        SheetError: it says nothing of that, or names a server that the user has not chosen. The
            user's key would go to that server, and a sheet may be another person's.
    """
    source = spec.get("source") if isinstance(spec, dict) else None
    if not isinstance(source, dict) or not {"memory", "backend"} & source.keys():
        raise SheetError(f"An entrant of the sheet is incomplete: it has no source: {spec!r:.80}.")
    address, backend = source.get("address"), source.get("backend")
    if address and backend in BACKENDS and not is_local(address):
        own = choices.own_setting(backend, "URL").value
        if own.rstrip("/") != address.rstrip("/"):
            raise SheetError(
                f"The sheet asks the server {address}, which would get your key of {backend!r}. If "
                f"that is what you want, set {choices.variable(backend, 'URL')} to this address."
            )
    return source


@contextmanager
def entrants(
    sheet: dict[str, Any], load: Callable[[str], ways.InMemory] = ways.load
) -> Iterator[list[runs.Entrant]]:
    """The entrants of a sheet, loaded or connected again; the connections end with the block.

    Raises:
        SheetError: an entry names no model that can be had again.
        helpers.backends.BackendError: a backend is not ready.
    """
    made, loaded = [], {}
    with ExitStack() as stack:
        for spec in sheet["entrants"]:
            try:
                source, sampling = _source(spec), dict(spec["sampling"])
                examples = tuple(tuple(pair) for pair in spec["way"]["examples"])
                way = ways.Way(spec["way"]["template"], spec["way"]["system"], examples)
                place = source.get("memory") or source["backend"], source.get("precision")
            except (KeyError, TypeError, ValueError) as error:
                raise SheetError(f"An entrant of the sheet is incomplete: {error!r}.") from error
            if place not in loaded and "memory" in source:
                loaded[place] = load(source["memory"])
            elif place not in loaded:
                pocket = source["backend"] == "pocket"
                loaded[place] = connect(
                    source["backend"],
                    model=None if pocket else source.get("model"),
                    base_url=source.get("address"),
                    quantization=source.get("precision") if pocket else None,
                )
                stack.callback(loaded[place].close)
            if "memory" in source:
                limit = sampling["max_tokens"]
                made.append(runs.in_memory(spec["name"], loaded[place], way, max_tokens=limit))
            else:
                made.append(runs.on_server(spec["name"], loaded[place], way, **sampling))
        yield made


def replay(path: str | Path, out: str | Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Ask everything again, and compare with what is on file.

    Args:
        path: the sheet.
        out: the file for the new answers. It resumes if it is there.

    Returns:
        a DataFrame, index: the entrants; columns `on file` and `here` (right answers), `of`, and
        `same answers` (share; nan if the file beside the sheet lacks them). And the new sheet.

    Raises:
        SheetError: see `read` and `entrants`.
        runs.BrokenOff: an entrant stopped half-way.
    """
    sheet, questions = read(path)
    old = runs.read(Path(path).with_suffix(".jsonl"))
    with entrants(sheet) as again:
        answers = runs.collect(questions, again, out)
        scored = runs.score(questions, answers)
        new = make(sheet["title"], ROOT / sheet["questions"], again, scored)
    rows = {}
    for entrant in again:
        texts = answers[entrant.name]
        kept = {question.id: old.get(runs.key(entrant, question)) for question in questions}
        pairs = [(kept[id_], text) for id_, text in texts.items() if kept[id_] is not None]
        same = sum(a == b for a, b in pairs) / len(pairs) if pairs else float("nan")
        here = new["right"][entrant.name]
        row = {"on file": sheet["right"].get(entrant.name), "here": here, "of": new["of"]}
        rows[entrant.name] = row | {"same answers": same}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("entrant"), new
