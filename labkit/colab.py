"""The set-up on Colab. The first cell of each notebook fetches the kit, and runs `set_up`.

It runs before anything of the kit is installed, and by its path, so that an older copy in this
kernel cannot answer in its place. So it imports only Python's own library.
"""

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from importlib import invalidate_caches
from importlib.metadata import distributions, version
from pathlib import Path

KIT = Path(__file__).resolve().parent.parent
PACKAGES = ("helpers", "labkit", "openrouter_sim", "pocket_model", "pocket_training")
# Colab's versions of these are older than the kit needs. All other packages of Colab stay: its
# front end, its kernel and its CUDA libraries are made for exactly those.
REPLACED = ("transformers", "tokenizers", "huggingface-hub", "openai", "httpx2", "httpcore2")
# A version that pip accepts as a pin. Some of the system's own packages have others.
VERSION = re.compile(r"\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?(\+[\w.]+)?")


class SetupError(RuntimeError):
    """The set-up did not end well; the message says why and what to do."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: these words, and no traceback."""
        return [str(self)]


def canonical(name: str) -> str:
    """A package's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """The versions in lines such as `name==version`, by name. Other lines are left out."""
    lines = (line.split("#")[0].split(";")[0].strip() for line in text.splitlines())
    pairs = (line.partition("==")[::2] for line in lines if "==" in line)
    return {canonical(name): pin for name, pin in pairs if VERSION.fullmatch(pin)}


def installed() -> dict[str, str]:
    """The version of each package that is installed here, by name."""
    invalidate_caches()
    found: dict[str, str] = {}
    for each in distributions():
        if each.metadata["Name"]:  # None in what an interrupted pip left
            found.setdefault(canonical(each.metadata["Name"]), each.version)
    return found


def constraints(present: dict[str, str], tested: dict[str, str]) -> dict[str, str]:
    """The version that pip must take of each package.

    What is present stays, except REPLACED. All else comes in the version that the kit was tested
    with.
    """
    stays = {
        name: kept
        for name, kept in present.items()
        if name not in REPLACED and VERSION.fullmatch(kept)
    }
    return tested | stays


def set_up(tag: str, kit: Path = KIT) -> None:
    """Install what the notebooks need, make the kit importable, and go to its notebooks.

    A second call finds everything in place, and is done at once.

    Args:
        tag: the version of the kit that the notebook belongs to.

    Raises:
        SetupError: pip failed, or the runtime must be restarted.
    """
    start = time.monotonic()
    done, state = kit / ".installed-on-colab", "already set up"
    if not done.exists():
        before = installed()
        if not _git(kit, "tag", "--list", tag):
            print(f"There is no tag {tag}: this is the default branch, which may change.")
        print(
            "Installing what the notebooks need beside Colab's own packages: about a minute. "
            f"torch {before.get('torch', '')} and all others stay, except "
            f"{', '.join(name for name in REPLACED if name in before)}.",
            flush=True,
        )
        _pip_install(kit, constraints(before, pins((kit / "constraints.txt").read_text())))
        done.touch()
        state = "set up"
        print(f"{changes(before, installed())} It took {time.monotonic() - start:.0f} s.")
    _make_importable(kit)
    os.chdir(kit / "notebooks")
    if loaded := _must_restart(kit):
        raise SetupError(
            "Please restart now: menu Runtime, Restart session. Then run this cell again. "
            f"This session has already imported another version of {', '.join(loaded)}."
        )
    print(f"The kit is {state}. Working folder: {Path.cwd()}")


def changes(before: dict[str, str], after: dict[str, str]) -> str:
    """What was replaced and how many packages were added, in two sentences."""
    pairs = [(name, before[name], after.get(name)) for name in sorted(before)]
    replaced = [f"{name} {old} → {new}" for name, old, new in pairs if new and new != old]
    return f"Replaced: {', '.join(replaced) or 'nothing'}. Added: {len(after.keys() - before)}."


def _git(kit: Path, *arguments: str) -> str:
    git = ["git", "-C", str(kit), *arguments]
    return subprocess.run(git, capture_output=True, text=True).stdout.strip()


def _pip_install(kit: Path, versions: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "constraints.txt")
        file.write_text("\n".join(f"{name}=={pin}" for name, pin in versions.items()))
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        lists = ["-c", str(file), "-r", str(kit / "requirements-colab.txt")]
        done = subprocess.run([*pip, *lists], capture_output=True, text=True, cwd=kit)
    if done.returncode == 0:
        return
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
    if "conflict" in done.stderr:
        advice = (
            "Colab's packages have changed since this version of the kit was tested. Choose an "
            "older one: menu Runtime, Change runtime type, Runtime version. Or open a newer "
            "version of this notebook."
        )
    else:
        advice = "Check the network, then run this cell again: it continues where it stopped."
    said = f" pip said: {errors[0].removeprefix('ERROR: ').rstrip('.')}." if errors else ""
    raise SetupError(f"The packages could not be installed.{said} {advice}")


def _make_importable(kit: Path) -> None:
    """For this kernel, for the processes that it starts, and after a restart."""
    Path(sysconfig.get_path("purelib"), "mistral_small_lab.pth").write_text(f"{kit}\n")
    if str(kit) not in sys.path:
        sys.path.insert(0, str(kit))
    invalidate_caches()


def _must_restart(kit: Path) -> list[str]:
    """Packages of which this kernel has imported another version than the installed one."""
    found = []
    for name in REPLACED:
        module = sys.modules.get(name.replace("-", "_"))
        if module and getattr(module, "__version__", None) != version(name):
            found.append(name)
    for name in PACKAGES:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and kit not in Path(file).resolve().parents:
            found.append(name)
    return found
