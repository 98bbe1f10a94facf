"""How many threads the engine computes with: as many as the cores that it gets.

A product is divided among threads, and takes as long as the slowest of them. Where another program
keeps a core busy, the system may put two threads on one core, and each waits for the other. Then
fewer threads are faster: one thread on a free core of two has most of the speed (measured:
`pocket-thread-spin`). So it is where a container may use fewer cores than the machine has. The
results of new tokens are the same, except where `linears.Linear` says so.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

WINDOW_S = 0.1  # so long the engine computes before the cores are counted
RETRY_S = 2.0  # so long it keeps to fewer threads before it tries all again


class Threads:
    """Counts the cores that the process gets while it computes, and computes with so many threads.

    Without other programs these are all: a thread computes, or waits in a loop. It is made in the
    thread that computes, because torch's setting is that thread's own.

    Attributes:
        most: what torch takes without it: one for each core, or what the user has set.
    """

    def __init__(self) -> None:
        self.most = torch.get_num_threads()
        self._wall = self._used = self._retry = 0.0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Computing in here counts."""
        wall, used = time.perf_counter(), time.process_time()
        yield
        now = time.perf_counter()
        self._wall += now - wall
        self._used += time.process_time() - used
        if self._wall >= WINDOW_S:
            self.choose(self._used / self._wall, now)
            self._wall = self._used = 0.0

    def choose(self, cores: float, now: float) -> None:
        """Set the number of threads.

        Args:
            cores: that the process had, on average.
            now: seconds of a clock.
        """
        threads, fitting = torch.get_num_threads(), max(1, round(cores))
        if fitting < threads:
            torch.set_num_threads(fitting)
            self._retry = now + RETRY_S
        elif threads < self.most and now >= self._retry:
            torch.set_num_threads(self.most)
