"""Where the kit's files are, how files are written and compared, how a model id becomes a name."""

import hashlib
import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
NOTEBOOKS = ROOT / "notebooks"


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8. A reader sees the old file or the new one, never a half of it."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8", newline="\n")
    os.replace(part, path)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_name(model_id: str) -> str:
    """A model id as a part of a file name: what some file systems refuse becomes a hyphen."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", model_id)
