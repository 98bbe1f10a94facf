"""What this machine can do, and what to do about each gap. Keys are named, never shown."""

import os
import platform
import re
import shutil
from importlib import metadata
from typing import NamedTuple

import pandas as pd
import psutil
import pynvml
import torch

from helpers import backends, machine
from helpers.paths import ROOT
from pocket_model import build
from pocket_model.cache import CACHE_VARIABLE, CacheError, cache_dir

GIB = 2**30
# The pocket server: weights 270 MB, libraries 450 MB, the KV cache of a batch 252 MB.
POCKET_BYTES = 1.5 * GIB
# The 24B in 4 bits: 14 GiB of weights (computed in notebook 02), and memory to work with.
SMALL_4BIT_BYTES = 20 * GIB
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")

OK, NOTE, GAP = "ok", "note", "gap"


class Finding(NamedTuple):
    """One row of the report: what was checked, its status, and what to do about a gap."""

    check: str
    status: str
    detail: str
    advice: str = ""


def report() -> pd.DataFrame:
    """The findings: index `check`; columns `status`, `detail`, `what to do`.

    `status` is "ok", "note" (something optional is missing) or "gap" (the kit will not work well).
    """
    findings = [
        Finding("Python", OK, platform.python_version()),
        check_packages(),
        check_machine(),
        check_memory(),
        check_disk(),
        check_gpu(),
        check_pocket(),
        check_browser(),
        *(check_backend(name) for name in backends.BACKENDS if name not in ("pocket", "custom")),
    ]
    columns = ["check", "status", "detail", "what to do"]
    return pd.DataFrame(findings, columns=columns).set_index("check")


def check_packages() -> Finding:
    """Installed packages compared with constraints.txt, the versions that the tests ran on."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = re.findall(r"^([\w.-]+)==([^\s#]+)", text, re.M)
    required = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    compared, differing = 0, []
    for name, tested in pins:
        try:
            version = metadata.version(name).split("+")[0]
        except metadata.PackageNotFoundError:
            if not re.search(rf"^{re.escape(name)}\b", required, re.M | re.I):
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
        return Finding("machine", OK, machine.hardware())
    advice = "times in the kit are for two cores; expect twice the time"
    return Finding("machine", NOTE, machine.hardware(), advice)


def check_memory() -> Finding:
    """Whether the pocket server has enough memory."""
    memory = psutil.virtual_memory()
    detail = f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free"
    if memory.available < POCKET_BYTES:
        advice = "the pocket server needs up to 1.5 GiB: close other programs"
        return Finding("memory", GAP, detail, advice)
    return Finding("memory", OK, detail)


def check_disk() -> Finding:
    """Whether the pocket model has space in the cache folder."""
    try:
        free = shutil.disk_usage(cache_dir()).free
        is_built = build.is_built()
    except CacheError as error:
        return Finding("disk", GAP, "the cache folder is not writable", str(error))
    except build.BuildError:  # `check_pocket` reports it
        is_built = False
    detail = f"{free / 1e9:.0f} GB free for the cache"
    if not is_built and free < build.FREE_BYTES_NEEDED:
        needed = f"{build.FREE_BYTES_NEEDED / 1e9:.1f} GB"
        advice = f"free {needed}, or set {CACHE_VARIABLE} to a folder on another disk"
        return Finding("disk", GAP, detail, advice)
    return Finding("disk", OK, detail)


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


def check_pocket() -> Finding:
    """Whether the pocket model is built."""
    try:
        if build.is_built():
            return Finding("backend pocket", OK, f"{build.MODEL_ID} is built")
    except CacheError:
        pass  # `check_disk` reports it
    except build.BuildError as error:
        return Finding("backend pocket", GAP, "it cannot be built", str(error))
    advice = "it is built at first use (93 MB download), or by: python -m pocket_model build"
    return Finding("backend pocket", NOTE, "not built yet", advice)


def check_browser() -> Finding:
    """Whether the browser tests can run."""
    command = next(filter(shutil.which, BROWSERS), None)
    if command:
        return Finding("Chromium", OK, command)
    advice = "only the browser tests need it (apt install chromium)"
    return Finding("Chromium", NOTE, "not found", advice)


def check_backend(name: str) -> Finding:
    """Whether a backend has its key or its server."""
    row = backends.BACKENDS[name]
    missing = backends.readiness(name)
    if missing is None:
        detail = f"key found in {row.key_variable}" if row.paid else "server answers"
        if name == "openrouter-sim" and not os.environ.get(backends.variable(name, "URL")):
            detail = "starts when it is used; needs no key"
        return Finding(f"backend {name}", OK, detail)
    if row.paid and not os.environ.get(row.key_variable):  # the usual case, in fewer words
        missing = f"{row.setup_hint}; set {row.key_variable}"
    return Finding(f"backend {name}", NOTE, "not set up (optional)", missing)
