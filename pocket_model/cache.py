"""TODO."""

import os
from pathlib import Path

from platformdirs import user_cache_path

CACHE_VARIABLE = "MISTRAL_LAB_CACHE"


def cache_dir() -> Path:
    """The folder for built models and running servers; `MISTRAL_LAB_CACHE` overrides it.

    Raises `CacheError` when it cannot be created or written to.
    """
    folder = Path(os.environ.get(CACHE_VARIABLE) or user_cache_path("mistral-small-lab"))
    folder = folder.expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink(missing_ok=True)  # another thread may have been quicker
    except OSError as error:
        raise CacheError(
            f"The cache folder {folder} cannot be written to ({error.strerror}). The small model "
            f"is kept there. Set {CACHE_VARIABLE} to a folder you may write to and try again."
        ) from error
    return folder


class CacheError(RuntimeError):
    """The cache folder cannot be used; the message says which and what to do."""
