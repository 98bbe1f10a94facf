"""Machines on which the kit does not run now."""

from labkit.serving.machine import Machine

LAPTOP = Machine("Linux", "x86_64", frozenset({"sse4_2", "avx2"}), 2, 16 * 2**30)
