"""As many threads as the process gets cores."""

import subprocess
import sys

import psutil
import pytest
import torch

from helpers.paths import ROOT
from labkit.thread_spin import BUSY, environment
from pocket_model.server.threads import RETRY_S, WINDOW_S, Threads


@pytest.fixture
def four_threads():
    """torch computes with four threads in this test."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("cores", "threads"), [(4.0, 4), (3.6, 4), (3.4, 3), (2.0, 2), (1.6, 2), (1.2, 1), (0.3, 1)]
)
def test_there_are_as_many_threads_as_cores(cores, threads, four_threads):
    Threads().choose(cores, now=0.0)
    assert torch.get_num_threads() == threads


def test_all_are_tried_again_after_a_while_and_kept_if_they_get_their_cores(four_threads):
    threads = Threads()
    threads.choose(2.0, now=10.0)
    threads.choose(2.0, now=10.0 + RETRY_S / 2)
    assert torch.get_num_threads() == 2
    threads.choose(2.0, now=10.0 + RETRY_S)
    assert torch.get_num_threads() == 4
    threads.choose(3.9, now=10.0 + RETRY_S + WINDOW_S)
    assert torch.get_num_threads() == 4
    threads.choose(1.0, now=20.0)
    assert torch.get_num_threads() == 1


def test_no_more_threads_than_the_user_has_set(four_threads):
    torch.set_num_threads(1)
    threads = Threads()
    for now in (0.0, RETRY_S, 2 * RETRY_S):
        threads.choose(1.0, now)
        assert torch.get_num_threads() == 1


# It computes as the engine does, and prints how many threads there are in the end.
COMPUTES = """
import time, torch
from pocket_model.server.threads import Threads
threads, rows, weights = Threads(), torch.ones(32, 1024), torch.ones(1024, 1024)
end = time.monotonic() + 60
while time.monotonic() < end and torch.get_num_threads() == threads.most:
    with threads.counted():
        rows @ weights
print(threads.most, torch.get_num_threads())
"""


@pytest.mark.skipif(psutil.cpu_count() < 2, reason="one core has one thread")
def test_beside_busy_processes_there_are_fewer():
    busy = [
        subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(2 * (psutil.cpu_count() or 2))
    ]
    try:
        done = subprocess.run(
            [sys.executable, "-c", COMPUTES],
            cwd=ROOT,
            env=environment({}),  # as many threads as there are cores
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        for process in busy:
            process.kill()
            process.wait()
    most, threads = map(int, done.stdout.split())
    assert threads < most
