"""Memory to come takes none, and freed memory goes back to the system."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pocket_model import memory

glibc = pytest.mark.skipif(not memory._malloc_trim, reason="not glibc")
PROGRAM = """
import numpy as np, psutil
from pocket_model import memory

BLOCK = 20 << 20

def used():
    return psutil.Process().memory_info().rss

{start}
first = np.ones(BLOCK, np.uint8)
del first  # glibc raises its limit now, unless it was set
before = used()
blocks = [np.ones(BLOCK, np.uint8) for _ in range(4)]
above = np.ones(1 << 20, np.uint8)  # on top of the heap: what is below stays
del blocks
{end}
print((used() - before) // BLOCK)
"""


def number_of(program: str, **settings: str) -> int:
    """What a new process prints, with these settings of glibc's and none of the user's."""
    own = ("MALLOC_", "GLIBC_TUNABLES")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(own)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, timeout=60, check=True, env=environment | settings,
    )  # fmt: skip
    return int(done.stdout)


def blocks_kept(start: str = "", end: str = "") -> int:
    """How many of four freed blocks of 20 MB a new process keeps."""
    return number_of(textwrap.dedent(PROGRAM).format(start=start, end=end))


@glibc
def test_large_blocks_go_back_when_they_are_freed():
    assert blocks_kept() > 0, "glibc gives them back by itself: nothing is needed"
    assert blocks_kept("memory.return_large_blocks()") <= 0


@glibc
def test_freed_memory_goes_back_when_that_is_asked_for():
    assert blocks_kept(end="memory.give_back()") <= 0


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(memory, "_mallopt", None)
    monkeypatch.setattr(memory, "_malloc_trim", None)
    memory.return_large_blocks()
    memory.give_back()


PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
asked_for = pytest.mark.skipif(
    not (PAGES.exists() and "[madvise]" in PAGES.read_text()),
    reason="Linux gives large pages to every program or to none here",
)
CONVERSATION = """
import psutil, torch
from pocket_model import memory
from pocket_model.server.decoder import KeyValues

memory.return_large_blocks()
{start}
before = psutil.Process().memory_info().rss
cache = KeyValues((30, 2, 3, 8192, 64), torch.bfloat16)
cache.append(torch.ones(30, 2, 3, 10, 64))
print((psutil.Process().memory_info().rss - before) >> 20)
"""


def megabytes_of_ten_tokens(start: str = "") -> int:
    """By how much a process grows that has room for 8,192 tokens, 189 MB, and uses that of ten."""
    # As on a system that gives large pages unasked.
    return number_of(CONVERSATION.format(start=start), GLIBC_TUNABLES="glibc.malloc.hugetlb=1")


@glibc
@asked_for
def test_tokens_to_come_take_no_memory():
    without = "memory.keep_small_pages = lambda address, size: None"
    if megabytes_of_ten_tokens(without) < 100:
        pytest.skip("no large pages are free")
    assert megabytes_of_ten_tokens() < 20
