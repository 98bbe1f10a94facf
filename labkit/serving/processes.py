"""A server as a process: started, waited for, ended with all that it started."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from labkit.serving.commands import Command
from labkit.serving.errors import ServingError
from labkit.serving.telling import PREFIX, telling_line
from pocket_model.build import OWN_SESSION

START_TIMEOUT_S = 1800.0  # a first start downloads the weights
PROGRESS_S = 10.0
END_S = 30.0
# What the end of a process says if its log does not.
SIGNALS = {
    -9: "the system ended it, most likely because the memory ran out",
    -4: "it used an instruction that this CPU does not have",
    -11: "it crashed (segmentation fault)",
}
PR_SET_PDEATHSIG = 1


def check_port(host: str, port: int) -> None:
    """Raise `ServingError` if a port cannot be had: vLLM would notice only half a minute later."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ServingError(
                f"Port {port} of {host} cannot be used ({reason}). End the program that has it, or "
                "choose another with --port (with make: PORT=…)."
            ) from error


def _end_with_parent() -> None:
    """On Linux: the process gets SIGTERM when this one ends, however that happens.

    More exactly: when the thread ends that started it. So servers are started by the main thread.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Server:
    """One process that serves.

    Attributes:
        command: what it runs.
        log: the file with what it prints.
        starts: how often it was started.
    """

    def __init__(self, command: Command, folder: Path, python_path: str | None = None):
        self.command = command
        self.log = folder / f"serve-{command.name}-{command.port}.log"
        self.starts = 0
        self._python_path = python_path
        self._process: subprocess.Popen | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        """Start it, with an empty log the first time. What is left of an earlier start is ended."""
        self._end_group()
        environment = os.environ | self.command.variables
        if self._python_path is not None:  # and nothing of the kit's own environment
            environment["PYTHONPATH"] = self._python_path
        options = dict(OWN_SESSION)  # Ctrl-C reaches the kit only, which then ends the server
        if sys.platform == "linux":
            options["preexec_fn"] = _end_with_parent
        with self.log.open("ab" if self.starts else "wb") as sink:
            self._process = subprocess.Popen(
                self.command.arguments,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                **options,
            )
        self.starts += 1

    def has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def is_healthy(self) -> bool:
        """Whether it answers `/health` with success."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.command.url}/health", timeout=5):
                return True
        except (urllib.error.URLError, TimeoutError, ConnectionError, OSError):
            return False

    def wait_until_healthy(self, say: Callable[[str], None]) -> float:
        """Return the seconds until it answers; `say` gets a line of progress now and then.

        Raises:
            ServingError: it ended, or it is not ready after half an hour.
        """
        start = told = time.monotonic()
        while time.monotonic() - start < START_TIMEOUT_S:
            if self.has_ended():
                raise ServingError(f"{self.why_ended('during its start')} Its log: {self.log}")
            if self.is_healthy():
                return time.monotonic() - start
            if time.monotonic() - told >= PROGRESS_S:
                told = time.monotonic()
                say(f"  {told - start:.0f} s: {self.last_line()}")
            time.sleep(0.5)
        raise ServingError(
            f"{self.command.name} was not ready within {START_TIMEOUT_S / 60:.0f} minutes; its "
            f"last line was: {self.last_line()}. Its log: {self.log}"
        )

    def wait_until_ended(self) -> None:
        """Wait until it has done its work. Raises `ServingError` if it fails."""
        if self._process.wait():
            raise ServingError(f"{self.why_ended('before its work was done')} Its log: {self.log}")

    def last_line(self) -> str:
        """The last line of its log, without what is the same in all."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        bare = [PREFIX.sub("", line).strip()[:90] for line in lines]
        return next(filter(None, reversed(bare)), "nothing in its log yet")

    def why_ended(self, when: str) -> str:
        """Why it is no longer running: the telling line of its log, in a sentence."""
        code = self._process.wait(10)
        reason = telling_line(self.log.read_text(encoding="utf-8", errors="replace"))
        if code in SIGNALS:
            reason = SIGNALS[code]
        said = reason or f"its exit code is {code}; its last line: {self.last_line()}"
        return f"{self.command.name} ended {when}: {said.rstrip('.')}."

    def memory_bytes(self) -> int:
        """The memory of the process and of all that it started, shared parts counted once."""
        total = 0
        own = psutil.Process(self.pid)
        for process in [own, *own.children(recursive=True)]:
            with suppress(psutil.Error):  # one that has ended meanwhile
                info = process.memory_full_info()
                total += getattr(info, "pss", info.rss)
        return total

    def end(self) -> None:
        """End it and everything that it started, and wait for that."""
        if self._process is None:
            return
        family = []
        with suppress(psutil.Error):
            family = psutil.Process(self.pid).children(recursive=True)
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(END_S)
        self._end_group()
        _, alive = psutil.wait_procs(family, timeout=5)
        for process in alive:
            process.kill()

    def _end_group(self) -> None:
        """End what the process has started and left behind."""
        if self._process is not None and os.name != "nt":
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
