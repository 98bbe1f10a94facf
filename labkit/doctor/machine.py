"""What this machine can do: Python, packages, CPU, memory, GPU."""

import os
import platform
import re
import sys
from importlib import metadata

import psutil
import pynvml
import torch

from helpers import machine
from helpers.paths import ROOT
from labkit import colab
from labkit.doctor.finding import GAP, NOTE, OK, Finding

GIB = 2**30
# The pocket server: weights 270 MB in bf16, libraries 450 MB, the KV cache of a batch 283 MB.
POCKET_BYTES = 1.5 * GIB
# The 24B in 4 bits: 14 GiB of weights (computed in notebook 02), and memory to work with.
SMALL_4BIT_BYTES = 20 * GIB

# The versions of Python that the tests run on: the first and the last.
TESTED = (3, 11), (3, 13)


def findings() -> list[Finding]:
    """Python, its packages, the CPU, the memory and the GPU."""
    return [check_python(), check_packages(), check_machine(), check_memory(), check_gpu()]


def check_python() -> Finding:
    """Whether the tests ran on this version of Python."""
    first, last = (".".join(map(str, version)) for version in TESTED)
    if TESTED[0] <= sys.version_info[:2] <= TESTED[1]:
        return Finding("Python", OK, platform.python_version())
    detail = f"{platform.python_version()}; the tests ran on {first} to {last}"
    return Finding("Python", NOTE, detail, f"if something fails: make lab PYTHON=python{last}")


def check_packages() -> Finding:
    """Installed packages compared with constraints.txt, the versions that the tests ran on."""
    pins = colab.pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    required = {colab.canonical(name[0]) for line in lines if (name := re.match(r"[\w.-]+", line))}
    compared, differing = 0, []
    for name, tested in pins.items():
        try:
            version = metadata.version(name).split("+")[0]
        except metadata.PackageNotFoundError:
            if name not in required:
                continue  # a developer's tool, or what another package no longer needs
            version = "not installed"
        compared += 1
        if version != tested:
            differing.append(f"{name} {version} (tested {tested})")
    if not differing:
        return Finding("packages", OK, f"all {compared} have the tested versions")
    parts = differing[:6] + ([f"{len(differing) - 6} more"] if len(differing) > 6 else [])
    advice = "for the tested versions: pip install -r requirements.txt -c constraints.txt"
    return Finding("packages", NOTE, "; ".join(parts), advice)


def check_machine() -> Finding:
    """The CPU and the GPU in words, and whether there are enough cores."""
    if (os.cpu_count() or 1) >= 2:
        return Finding("CPU", OK, machine.hardware())
    advice = "times in the kit are for two cores; expect twice the time"
    return Finding("CPU", NOTE, machine.hardware(), advice)


def check_memory() -> Finding:
    """Whether the pocket server has enough memory."""
    memory = psutil.virtual_memory()
    detail = f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free"
    if memory.available < POCKET_BYTES:
        advice = "the pocket server needs up to 1.5 GiB: close other programs"
        return Finding("memory", GAP, detail, advice)
    return Finding("memory", OK, detail)


def check_gpu() -> Finding:
    """Whether the 24B fits on a GPU of this machine in 4 bits."""
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        detail = f"{gpu.name}, {gpu.total_memory / GIB:.1f} GiB"
        if gpu.total_memory < SMALL_4BIT_BYTES:
            advice = "too small for the 24B in 4 bits (20 GiB); a 7B fits"
            return Finding("GPU", NOTE, detail, advice)
        return Finding("GPU", OK, detail)
    if torch.backends.mps.is_available():
        return Finding("GPU", NOTE, "Apple GPU", "bitsandbytes needs CUDA; use Ollama for the 24B")
    try:
        pynvml.nvmlInit()
        name = pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0))
    except pynvml.NVMLError:
        advice = "not needed for the pocket model; notebook 02 shows what the 24B needs"
        return Finding("GPU", NOTE, "none", advice)
    advice = "install the CUDA build of torch: https://pytorch.org/get-started"
    return Finding("GPU", NOTE, f"{name}, but this torch is built without CUDA", advice)
