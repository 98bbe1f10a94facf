"""What a CPU computes fast, and how torch's threads wait for each other on it."""

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# libgomp is torch's OpenMP runtime on Linux, libomp on macOS, and Intel's on Windows.
# Between two products their threads wait in a loop. With a core each, that is the fastest way.
# But where other programs need the cores, a waiting thread keeps the one that it waits for from
# running. After so many rounds, or milliseconds, a thread sleeps instead (measured:
# `pocket-thread-spin`). The server also takes fewer threads then: see `server.threads`.
SHORT_WAIT = {"GOMP_SPINCOUNT": "20000", "KMP_BLOCKTIME": "1"}
# oneDNN compiles a kernel for each new number of rows, and keeps 1,024 of them, which take memory.
# A decoding step mostly has as many rows as the last one, so few are enough.
FEW_KERNELS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}
CHOSEN_BY_USER = {*SHORT_WAIT, "OMP_WAIT_POLICY", "KMP_LIBRARY"}


def wait_briefly() -> None:
    """Let torch's threads sleep soon when they wait; without effect once torch is imported.

    What the user has set stays.
    """
    if not CHOSEN_BY_USER & os.environ.keys():
        os.environ.update(SHORT_WAIT)


def keep_few_kernels() -> None:
    """Let oneDNN keep few compiled kernels; without effect once torch is imported.

    For a server, which is sent prompts of every length. What the user has set stays.
    """
    for name, value in FEW_KERNELS.items():
        os.environ.setdefault(name, value)


def bf16_matmul_is_fast() -> bool:
    """Whether torch multiplies bf16 through oneDNN on this CPU.

    Its fallback multiplies many rows several times slower than float32 (measured:
    `pocket-bf16-prompt` in data/measurements). Timing it here instead would give different
    answers on a busy machine.
    """
    import torch

    onednn = torch.backends.mkldnn.is_available()
    return onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def dtype_for_many_rows() -> "torch.dtype":
    """In which dtype this CPU multiplies many rows fastest.

    AMX is for bf16. With AVX512 alone it depends on who made the CPU. On AMD's Zen 5, bf16 takes a
    quarter of the time of float32 (measured: `pocket-rows-bf16-amd`); Zen 4 has the same
    instructions and was not measured. On Intel's, bf16 is slower (measured: `pocket-rows-float32`).
    """
    import torch

    has_amx = torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if has_amx or (is_from_amd() and bf16_matmul_is_fast()) else torch.float32


def is_from_amd() -> bool:
    """Whether the CPU is one of AMD's."""
    cpuinfo = Path("/proc/cpuinfo")  # Linux alone has it; Windows says it in `platform`
    words = cpuinfo.read_text() if cpuinfo.exists() else platform.processor()
    return "AuthenticAMD" in words
