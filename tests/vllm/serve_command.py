"""`python -m helpers serve` as a process of its own."""

import re
import subprocess
import sys
from dataclasses import dataclass, field

import psutil

from helpers.paths import ROOT
from labkit.serving import processes
from labkit.serving.errors import ServingError


def free_ports(number: int) -> int:
    """The first of so many free ports in a row."""
    for first in range(18_000, 60_000, 7):
        try:
            for port in range(first, first + number):
                processes.check_port("127.0.0.1", port)
        except ServingError:
            continue
        return first
    raise RuntimeError("no free ports")


@dataclass
class Served:
    """`python -m helpers serve` as a process, and what it printed."""

    process: subprocess.Popen
    port: int
    printed: list[str] = field(default_factory=list)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def text(self) -> str:
        return "".join(self.printed)

    def read_until(self, pattern: str) -> re.Match | None:
        """Read its output until a line matches; None if it has ended."""
        for line in self.process.stdout:
            self.printed.append(line)
            if found := re.search(pattern, line):
                return found
        return None

    def end(self, number: int) -> list[psutil.Process]:
        """Send it a signal and wait; returns what it had started and what still runs."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        assert family
        self.process.send_signal(number)
        self.printed.append(self.process.stdout.read())
        self.process.wait(60)
        return [each for each in family if each.is_running()]


def serve(*arguments: str, port: int | None = None) -> Served:
    port = port or free_ports(4)
    command = [sys.executable, "-u", "-m", "helpers", "serve", "--port", f"{port}", *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return Served(process, port)
