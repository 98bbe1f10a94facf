"""This machine in words, and the versions of the packages that matter for speed and memory."""

import os
import platform
import re
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "transformers", "bitsandbytes")


def hardware() -> str:
    """This machine in words: number of cores, name of the CPU, GPU.

    On Linux and x86-64 it also says whether the CPU has bf16 instructions (AVX512-BF16),
    since the speed of 4-bit weights depends on them.
    """
    import torch

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        text = cpuinfo.read_text()
        match = re.search(r"model name\s*:\s*(.+)", text)
        name = match[1].strip() if match else name
        if platform.machine() == "x86_64":
            name += " with AVX512-BF16" if "avx512_bf16" in text else " without AVX512-BF16"
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    return f"{os.cpu_count()} cores of {name} ({platform.system()}, {platform.machine()}), {gpu}"


def versions() -> dict[str, str]:
    """The versions of Python and of `PACKAGES`."""
    installed = {name: metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **installed}
