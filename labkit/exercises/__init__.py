"""The exercises of the notebooks, graded on this machine: one file for each notebook."""

from labkit.exercises.engine import check

__all__ = ["check"]
