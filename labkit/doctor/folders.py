"""The folders that the kit reads and writes."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import psutil

from helpers.connection.settings import on_colab
from helpers.paths import ROOT
from labkit import working_copy
from labkit.doctor.finding import GAP, NOTE, OK, Finding
from pocket_model import build
from pocket_model.cache import CACHE_VARIABLE, CacheError, cache_dir

PACKAGES = ("helpers", "labkit", "openrouter_sim", "pocket_model", "pocket_training")
DRIVE = Path("/content/drive")  # where Colab mounts Google Drive


def findings() -> list[Finding]:
    """The kit's own folder, the cache, the working folder and the working copy."""
    return [check_kit(), check_cache(), check_working_folder(), check_working_copy()]


def check_kit() -> Finding:
    """Whether all packages come from one folder, and have not changed since this process began."""
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or not Path(spec.origin or ".").is_relative_to(ROOT):
            found = f"comes from {spec.origin}" if spec else "cannot be imported"
            advice = f"in {ROOT}: pip install -e . --no-deps"
            return Finding("kit", GAP, f"the package {name} {found}", advice)
    if changed := changed_modules():
        detail = f"{changed[0]} has changed since this program or kernel was started"
        return Finding("kit", GAP, detail, "in a notebook: Kernel > Restart Kernel")
    return Finding("kit", OK, f"one copy, in its folder {ROOT}")


def changed_modules() -> list[str]:
    """Modules of the kit whose files are newer than this process, so that it has the old code.

    On Colab the kit arrives after the kernel has started, so there the answer is not known.
    """
    if on_colab():
        return []
    started = psutil.Process().create_time() + 2  # the clock of processes is not exact
    loaded = [
        (name, module.__file__)
        for name, module in sys.modules.copy().items()
        if name.partition(".")[0] in PACKAGES and getattr(module, "__file__", None)
    ]
    return sorted(
        name
        for name, file in loaded
        if not os.path.exists(file) or os.path.getmtime(file) > started
    )


def check_cache() -> Finding:
    """Whether the cache folder can be written, and has space for the pocket model."""
    try:
        folder = cache_dir()
        free = shutil.disk_usage(folder).free
        is_built = build.is_built()
    except CacheError as error:
        return Finding("cache", GAP, "it cannot be written", str(error))
    except build.BuildError:  # `servers.check_pocket` reports it
        is_built = False
    detail = f"{folder}: {free / 1e9:.0f} GB free"
    if not is_built and free < build.FREE_BYTES_NEEDED:
        needed = f"{build.FREE_BYTES_NEEDED / 1e9:.1f} GB"
        advice = f"free {needed}, or set {CACHE_VARIABLE} to a folder on another disk"
        return Finding("cache", GAP, detail, advice)
    if folder.is_relative_to(DRIVE):
        advice = f"Google Drive is slow and has no locks: set {CACHE_VARIABLE} to another folder"
        return Finding("cache", NOTE, detail, advice)
    return Finding("cache", OK, detail)


def check_working_folder() -> Finding:
    """Whether the working folder is this kit's or nobody's, and can be written."""
    try:
        folder = Path.cwd()
    except OSError:
        return Finding("working folder", GAP, "it was deleted", "start again from another folder")
    for kit in (folder, *folder.parents):
        if (kit / "labkit" / "cli.py").is_file() and not kit.samefile(ROOT):
            detail = f"{folder} is in another copy of the kit; this code comes from {ROOT}"
            return Finding("working folder", NOTE, detail, f"in {kit}: make lab")
    if not os.access(folder, os.W_OK):
        advice = "results cannot be saved here: start from another folder"
        return Finding("working folder", NOTE, f"{folder} cannot be written", advice)
    if folder.is_relative_to(DRIVE):
        advice = "the kit works here, but slowly: copy only your results to Drive"
        return Finding("working folder", NOTE, f"{folder} is in Google Drive", advice)
    return Finding("working folder", OK, f"{folder}")


def check_working_copy() -> Finding:
    """How many notebooks of the working copy were changed, and how many have a newer version."""
    copy = working_copy.compare()
    if not copy:
        return Finding("my/", OK, "not made yet; make lab makes it")
    changed = [name for name, (own, _) in copy.items() if own]
    older = [name for name, (_, newer) in copy.items() if newer]
    detail = f"{len(copy)} notebooks, {len(changed)} with changes of your own"
    if older:
        detail += f"; a newer version of {', '.join(name[:2] for name in older)}"
        return Finding("my/", NOTE, detail, "python -m helpers lab says how to get it")
    return Finding("my/", OK, detail)
