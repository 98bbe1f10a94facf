"""What vLLM needs of a machine: the system, the CPU, the GPUs, the free memory."""

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

import psutil
import pynvml

from labkit.serving.errors import ServingError

INSTEAD = (
    "Ollama and llama.cpp serve the same models there (README, table of backends). "
    "`--engine pocket` serves the embedded model on every system."
)


@dataclass(frozen=True)
class Machine:
    """The facts that decide how vLLM is started.

    Attributes:
        system, architecture: as `platform` names them, such as "Linux" and "x86_64".
        cpu_flags: what Linux says of the CPU, such as "avx2".
        cores: that this process may use.
        free_bytes: memory that programs can still take.
        gpu_bytes: the memory of each NVIDIA GPU.
    """

    system: str
    architecture: str
    cpu_flags: frozenset[str]
    cores: int
    free_bytes: int
    gpu_bytes: tuple[int, ...] = ()


def this_machine() -> Machine:
    """The machine that this runs on."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else ""
    flags = re.search(r"^(?:flags|Features)\s*:(.*)", text, re.MULTILINE)
    affinity = getattr(os, "sched_getaffinity", None)
    return Machine(
        platform.system(),
        platform.machine(),
        frozenset(flags[1].split()) if flags else frozenset(),
        len(affinity(0)) if affinity else os.cpu_count() or 1,
        psutil.virtual_memory().available,
        _gpu_bytes(),
    )


def _gpu_bytes() -> tuple[int, ...]:
    try:
        pynvml.nvmlInit()
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        return tuple(pynvml.nvmlDeviceGetMemoryInfo(handle).total for handle in handles)
    except pynvml.NVMLError:
        return ()


def check_platform(machine: Machine) -> None:
    """Raise `ServingError` if there is no vLLM for this machine."""
    if machine.system == "Windows":
        raise ServingError(
            "vLLM does not run on Windows. In WSL 2 it does: install Ubuntu there, and this kit in "
            f"it. {INSTEAD}"
        )
    if machine.system == "Darwin":
        raise ServingError(f"vLLM has no package for macOS that this kit could install. {INSTEAD}")
    if machine.system != "Linux":
        raise ServingError(f"vLLM runs on Linux, and this is {machine.system}. {INSTEAD}")
    if machine.gpu_bytes:
        return
    if machine.architecture not in ("x86_64", "AMD64"):
        raise ServingError(
            f"This machine has no NVIDIA GPU, and its CPU is of the kind {machine.architecture}. "
            f"Without a GPU, the kit can install vLLM for x86-64 only. {INSTEAD}"
        )
    if "avx2" not in machine.cpu_flags:
        raise ServingError(
            "This CPU has no AVX2 instructions, and vLLM for CPUs is compiled with them. "
            f"llama.cpp can be compiled without them. {INSTEAD}"
        )
