"""A learner's progress: which exercises are solved, in a small file beside the working copy.

Nothing about it may stop a lesson. A file that is broken is set aside, one of another version stays
as it is, and on a disk that cannot be written the progress counts until the notebook is closed.
"""

import json
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

VARIABLE = "MISTRAL_LAB_PROGRESS"
FILE = Path(__file__).resolve().parents[2] / "my" / ".lab" / "progress.json"
VERSION = 1

_unsaved: dict[str, dict] = {}  # what could not be written, or not yet


@dataclass(frozen=True)
class Progress:
    """The exercises' entries by name: {"tries": int, "solved": a date or None}.

    `note` says what is wrong with the file, or it is empty.
    """

    entries: dict[str, Any]
    note: str = ""

    def solved(self, name: str) -> bool:
        """Whether an answer to this exercise was right once."""
        entry = self.entries.get(name)
        return isinstance(entry, dict) and bool(entry.get("solved"))

    def tries(self, name: str) -> int:
        """How many answers to this exercise were checked, right ones included."""
        entry = self.entries.get(name)
        tries = entry.get("tries") if isinstance(entry, dict) else 0
        return tries if isinstance(tries, int) else 0


def file() -> Path:
    """Where the progress is kept: `MISTRAL_LAB_PROGRESS`, else `my/.lab/progress.json`."""
    from pocket_model.cache import path_from

    return path_from(VARIABLE) or FILE


def read() -> Progress:
    """The progress so far. It never raises an error."""
    on_file, note, _ = _read()
    return Progress(_merged(on_file, _unsaved), note)


def add(name: str, right: bool) -> Progress:
    """Count one more answer to the exercise `name`, and return all progress."""
    from helpers.paths import write_text
    from pocket_model.cache import CacheError, locked

    entry = _unsaved.setdefault(name, {"tries": 0, "solved": None})
    entry["tries"] += 1
    if right:
        entry["solved"] = entry["solved"] or date.today().isoformat()
    path = file()
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Two notebooks may check an answer at the same moment.
            stack.enter_context(locked(path.with_suffix(".lock")))
        except (OSError, CacheError):
            pass  # without locks two notebooks may lose a count, and no more
        on_file, note, may_write = _read()
        entries = _merged(on_file, _unsaved)
        if may_write:
            try:
                text = json.dumps({"version": VERSION, "exercises": entries}, indent=1)
                write_text(path, f"{text}\n")
                _unsaved.clear()
            except OSError as error:
                note = (
                    f"The progress cannot be saved in {path} ({error.strerror}). It counts until "
                    f"you close the notebook. Set {VARIABLE} to a file that you may write."
                )
    return Progress(entries, note)


def _read() -> tuple[dict[str, Any], str, bool]:
    """The file's entries, what is wrong with it, and whether it may be replaced."""
    path = file()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, entries = content["version"], content["exercises"]
        if not isinstance(version, int) or not isinstance(entries, dict):
            raise TypeError
    except FileNotFoundError:
        return {}, "", True
    except OSError as error:
        note = f"The progress in {path} cannot be read ({error.strerror})."
        return {}, f"{note} It counts anew, until you close the notebook.", False
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}, *_set_aside(path)
    if version != VERSION:
        note = f"{path} was written by another version of the kit, so it stays as it is."
        return {}, f"{note} The progress counts anew, until you close the notebook.", False
    return entries, "", True


def _set_aside(path: Path) -> tuple[str, bool]:
    number = 1
    while (kept := path.with_name(f"{path.stem}-broken-{number}.json")).exists():
        number += 1
    try:
        path.rename(kept)
    except OSError:
        return f"{path} is damaged. The progress counts until you close the notebook.", False
    return f"The progress was damaged. It is now in {kept.name}, and counts anew.", True


def _merged(first: dict[str, Any], second: dict[str, dict]) -> dict[str, Any]:
    """Both, with their tries added. Entries of unknown exercises or forms stay as they are."""
    merged = dict(first)
    for name, entry in second.items():
        before = merged.get(name)
        before = before if isinstance(before, dict) else {}
        tries = before.get("tries")
        merged[name] = before | {
            "tries": entry["tries"] + (tries if isinstance(tries, int) else 0),
            "solved": before.get("solved") or entry["solved"],
        }
    return merged
