"""Memory that is reserved but not used takes none; freed memory is given back to the system."""

import ctypes
import mmap
import os

LARGE_BLOCK = 8 << 20  # bytes; temporary tensors of a decoding step are smaller
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's numbers for them

# Freed memory stays with the process in glibc: after 16 pictures of 20 MB each, 1.2 GB. Other C
# libraries lack these functions.
_libc = None if os.name == "nt" else ctypes.CDLL(None)
_mallopt = getattr(_libc, "mallopt", None)
_malloc_trim = getattr(_libc, "malloc_trim", None)

_NO_LARGE_PAGES = 15  # Linux's MADV_NOHUGEPAGE


def keep_small_pages(address: int, size: int) -> None:
    """No pages of 2 MB for a block of `size` bytes, of which little may be used.

    Some systems give such pages unasked, and a page takes memory as a whole once it is used.
    """
    if _malloc_trim and size >= LARGE_BLOCK:  # a smaller one shares its pages with others
        gap = -address % mmap.PAGESIZE
        start, length = ctypes.c_void_p(address + gap), ctypes.c_size_t(size - gap)
        _libc.madvise(start, length, _NO_LARGE_PAGES)


def return_large_blocks() -> None:
    """From now on blocks of `LARGE_BLOCK` or more go back to the system when they are freed.

    Otherwise glibc raises this limit to 32 MB as a process frees larger ones.
    """
    if _mallopt and _malloc_trim:  # both: glibc
        _mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK)
        # Set alone, that would leave this one at 128 KB, and each step would give memory back.
        _mallopt(_M_TRIM_THRESHOLD, 2 * LARGE_BLOCK)


def give_back() -> None:
    """Give freed memory back to the system, where that can be asked for; takes up to 0.3 s."""
    if _malloc_trim:
        _malloc_trim(0)
