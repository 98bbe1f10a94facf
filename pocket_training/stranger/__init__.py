"""The pictures and the judge of the test set in `data/stranger`, which another author wrote."""
