"""The small package that the notebooks share. `from helpers import connect` is the beginning."""

__all__ = ["BackendError", "Lab", "connect"]


def __getattr__(name: str):
    # Imported at first use: `helpers.model` and its users need no openai client.
    if name in __all__:
        from helpers import backends

        return getattr(backends, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
