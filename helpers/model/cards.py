"""GPUs and Macs by name: the memory that a program can use, bandwidth and arithmetic speed."""

import json
import re
from dataclasses import dataclass
from functools import cache

from helpers.model.configs import unknown
from helpers.paths import DATA

GIB = 1024**3


@dataclass(frozen=True)
class GPU:
    """One entry of `data/accelerators.json`, which names the source of each figure.

    Attributes:
        memory_bytes: nominal memory.
        usable_bytes: memory that a program can use; on a Mac the limit of its GPU.
        bandwidth: of that memory, in bytes per second.
        flops: dense bf16 operations per second; None if the maker publishes no figure.
        note: what the GPU cannot do, or an empty string.
    """

    name: str
    memory_bytes: int
    usable_bytes: int
    bandwidth: float
    flops: float | None
    note: str


@cache
def gpus() -> dict[str, GPU]:
    """All GPUs and Macs of `data/accelerators.json` by name, smallest usable memory first."""
    entries = json.loads((DATA / "accelerators.json").read_text(encoding="utf-8"))["accelerators"]
    table = [
        GPU(
            name=name,
            memory_bytes=entry["memory_gib"] * GIB,
            usable_bytes=int(entry["usable_gib"] * GIB),
            bandwidth=entry["bandwidth_gb_per_s"] * 1e9,
            flops=entry["bf16_tflops"] and entry["bf16_tflops"] * 1e12,
            note=entry.get("note", ""),
        )
        for name, entry in entries.items()
    ]
    return {entry.name: entry for entry in sorted(table, key=lambda entry: entry.usable_bytes)}


def gpu(name: str) -> GPU:
    """Look up a GPU or Mac by a part of its name that fits no other: `"4090"`, `"m4 max 128"`.

    Raises:
        ValueError: no name fits, or several do. The message lists the nearest names.
    """

    def normalized(text: str) -> str:
        return re.sub(r"[^a-z0-9]", "", text.lower().removeprefix("nvidia "))

    wanted = normalized(name)
    matches = [entry for entry in gpus().values() if wanted and wanted in normalized(entry.name)]
    exact = [entry for entry in matches if normalized(entry.name) == wanted]
    if len(exact or matches) == 1:
        return (exact or matches)[0]
    if matches:
        names = ", ".join(entry.name for entry in matches)
        raise ValueError(f"GPU: {name!r} fits {names}. Give more of the name.")
    raise unknown("GPU", name, list(gpus()))
