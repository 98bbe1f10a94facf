"""Where the kit's files are, and writing them so that no reader sees half of one."""

from __future__ import annotations

import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically as UTF-8."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8", newline="\n")
    os.replace(part, path)


ROOT = Path(__file__).resolve().parent.parent


DATA = ROOT / "data"
NOTEBOOKS = ROOT / "notebooks"
