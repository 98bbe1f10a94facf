"""TODO."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "transformers", "bitsandbytes")


def hardware() -> str:
    """This machine in words: cores, processor, graphics card.

    On Linux also whether the processor multiplies bf16 itself: that decides how fast 4 bits are.
    """
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        text = Path("/proc/cpuinfo").read_text()
        match = re.search(r"model name\s*:\s*(.+)", text)
        name = match[1].strip() if match else name
        if platform.machine() == "x86_64":
            name += " with AVX512-BF16" if "avx512_bf16" in text else " without AVX512-BF16"
    words = f"{os.cpu_count()} cores of {name} ({platform.system()}, {platform.machine()})"
    import torch

    card = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no graphics card"
    return f"{words}, {card}"


def versions() -> dict[str, str]:
    """Python's version and those of the packages that do the work."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
