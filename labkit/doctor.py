"""What this machine can do, and what to do about each gap. Keys are named, never shown."""

import os
import platform
import shutil
import sys
from importlib import metadata

import psutil

from helpers import backends
from helpers.paths import ROOT
from pocket_model import build
from pocket_model.cache import CACHE_VARIABLE, CacheError, cache_dir

GIB = 2**30
# Weights 270 MB, libraries 450 MB, a batch's cache 377 MB: what the pocket server may take.
POCKET_BYTES = 1.5 * GIB
# The 24B in 4 bits: 14 GiB of weights (computed in notebook 02) and room to work.
SMALL_4BIT_BYTES = 20 * GIB

OK, NOTE, GAP = "ok", "note", "gap"


def report():
    """The doctor's findings as a pandas DataFrame: check, status, detail, what to do.

    `status` is "ok", "note" (something optional is absent) or "gap" (the kit will not work well).
    """
    import pandas as pd

    rows = [
        _python(),
        _versions(),
        _cores(),
        _memory(),
        _disk(),
        _gpu(),
        _pocket(),
        _chromium(),
        *(_backend(name) for name in backends.BACKENDS if name not in ("pocket", "custom")),
    ]
    columns = ["check", "status", "detail", "what to do"]
    return pd.DataFrame(rows, columns=columns).set_index("check")


def _python() -> tuple[str, str, str, str]:
    return "Python", OK, f"{platform.python_version()} on {platform.system()}", ""


def _versions() -> tuple[str, str, str, str]:
    """Installed packages against constraints.txt, the versions that the tests ran on."""
    pinned, other, missing = 0, [], []
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        name, _, wanted = line.split("#")[0].strip().partition("==")
        if not wanted:
            continue
        pinned += 1
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if found.split("+")[0] != wanted:
            other.append(f"{name} {found} (tested {wanted})")
    if not other and not missing:
        return "packages", OK, f"all {pinned} as tested", ""
    parts = other[:4] + ([f"{len(other) - 4} more"] if len(other) > 4 else [])
    parts += [f"not installed: {', '.join(missing[:6])}"] if missing else []
    advice = "for the tested versions: pip install -r requirements.txt -c constraints.txt"
    return "packages", NOTE, "; ".join(parts), advice


def _cores() -> tuple[str, str, str, str]:
    cores = os.cpu_count() or 1
    advice = "" if cores >= 2 else "the kit is timed on two cores; expect twice the time"
    return "processor", OK if cores >= 2 else NOTE, f"{cores} cores, {platform.machine()}", advice


def _memory() -> tuple[str, str, str, str]:
    memory = psutil.virtual_memory()
    detail = f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free"
    if memory.available < POCKET_BYTES:
        return "memory", GAP, detail, "the pocket server needs up to 1.5 GiB: close something"
    return "memory", OK, detail, ""


def _disk() -> tuple[str, str, str, str]:
    try:
        free = shutil.disk_usage(cache_dir()).free
    except CacheError as error:
        return "disk", GAP, "the cache folder is not writable", str(error)
    detail = f"{free / 1e9:.0f} GB free for the cache"
    if not build.model_folder().is_dir() and free < build.FREE_BYTES_NEEDED:
        return "disk", GAP, detail, f"free 1.2 GB, or set {CACHE_VARIABLE} to another disk"
    return "disk", OK, detail, ""


def _gpu() -> tuple[str, str, str, str]:
    import torch

    none = "not needed for the pocket model; notebook 02 says what the 24B wants"
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        detail = f"{card.name}, {card.total_memory / GIB:.1f} GiB"
        if card.total_memory < SMALL_4BIT_BYTES:
            return "GPU", NOTE, detail, "too small for the 24B in 4 bits (20 GiB); a 7B fits"
        return "GPU", OK, detail, ""
    if torch.backends.mps.is_available():
        return "GPU", NOTE, "Apple GPU", "bitsandbytes needs CUDA; use Ollama for the 24B"
    name = _driver_sees()
    if name:
        advice = "install the CUDA build of torch: https://pytorch.org/get-started"
        return "GPU", NOTE, f"{name}, but this torch is built without CUDA", advice
    return "GPU", NOTE, "none", none


def _driver_sees() -> str | None:
    """The first GPU that NVIDIA's driver reports, whether or not torch can use it."""
    import pynvml

    try:
        pynvml.nvmlInit()
        name = pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0))
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return None
    return name


def _pocket() -> tuple[str, str, str, str]:
    if build.model_folder().is_dir():
        return "backend pocket", OK, f"{build.MODEL_ID} is built", ""
    advice = "it is built when first used (93 MB download), or: python -m pocket_model build"
    return "backend pocket", NOTE, "not built yet", advice


def _chromium() -> tuple[str, str, str, str]:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
    found = next((name for name in names if shutil.which(name)), None)
    if found:
        return "Chromium", OK, found, ""
    return "Chromium", NOTE, "not found", "only the browser tests need it (apt install chromium)"


def _backend(name: str) -> tuple[str, str, str, str]:
    missing = backends.readiness(name)
    row = backends.BACKENDS[name]
    if missing is None:
        detail = f"key found in {row.key_variable}" if row.key_variable else "server answers"
        return f"backend {name}", OK, detail, ""
    advice = f"{row.setup_hint}; set {row.key_variable}" if row.key_variable else row.setup_hint
    return f"backend {name}", NOTE, "not set up (optional)", advice


def main(argv: list[str]) -> int:
    """Print the report; 1 when there is a gap."""
    import pandas as pd

    if argv:
        print("usage: python -m helpers doctor", file=sys.stderr)
        return 2
    found = report()
    for check, row in found.iterrows():
        print(f"{row['status']:>4}  {check:<20} {row['detail']}")
        if row["what to do"]:
            print(f"{'':>4}  {'':<20} → {row['what to do']}")
    gaps = int(pd.Series(found["status"]).eq(GAP).sum())
    print(f"\n{gaps} gaps." if gaps else "\nNothing is missing that the kit needs.")
    return 1 if gaps else 0
