"""TODO."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from helpers.model.configs import unknown
from helpers.paths import DATA

if TYPE_CHECKING:
    pass


GIB = 1024**3


@dataclass(frozen=True)
class Card:
    """One entry of ``data/accelerators.json``, where each figure's source stands.

    ``bandwidth`` is in bytes per second, ``flops`` in bf16 operations per second (None where the
    maker publishes none).
    """

    name: str
    memory_bytes: int
    usable_bytes: int
    bandwidth: float
    flops: float | None
    note: str


@cache
def cards() -> dict[str, Card]:
    """The cards and Macs of ``data/accelerators.json`` by name, smallest usable memory first."""
    entries = json.loads((DATA / "accelerators.json").read_text(encoding="utf-8"))["accelerators"]
    found = [
        Card(
            name=name,
            memory_bytes=entry["memory_gib"] * GIB,
            usable_bytes=int(entry["usable_gib"] * GIB),
            bandwidth=entry["bandwidth_gb_per_s"] * 1e9,
            flops=entry["bf16_tflops"] and entry["bf16_tflops"] * 1e12,
            note=entry.get("note", ""),
        )
        for name, entry in entries.items()
    ]
    return {place.name: place for place in sorted(found, key=lambda place: place.usable_bytes)}


def card(name: str) -> Card:
    """A card by its name or a part of it that fits one only: ``"4090"``, ``"m4 max 128"``.

    Raises ValueError with the nearest names, or with all that fit.
    """

    def squeezed(text: str) -> str:
        return re.sub(r"[^a-z0-9]", "", text.lower().removeprefix("nvidia "))

    wanted = squeezed(name)
    found = [c for c in cards().values() if wanted and wanted in squeezed(c.name)]
    exact = [c for c in found if squeezed(c.name) == wanted]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if found:
        raise ValueError(f"card: {name!r} may be {', '.join(c.name for c in found)}: which one?")
    raise unknown("card", name, list(cards()))
