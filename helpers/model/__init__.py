"""A model in your own memory: its sizes, whether it fits, loading it, measuring it."""
