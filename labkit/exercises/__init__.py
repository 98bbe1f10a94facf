"""The exercises of the notebooks, graded offline."""
