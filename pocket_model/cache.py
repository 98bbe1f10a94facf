"""The cache folder, and files in it that are complete whenever they exist."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

CACHE_VARIABLE = "MISTRAL_LAB_CACHE"
KIT = Path(__file__).resolve().parent.parent


class CacheError(RuntimeError):
    """The cache folder cannot be used; the message says which and what to do."""


def path_from(variable: str) -> Path | None:
    """The path that a variable of the environment names; None if it names none.

    A relative path is below the kit's folder, where `make` runs. Kernels and servers have other
    working directories, and all of them must find the same file.

    Raises:
        CacheError: it begins with `~` and the name of a user who does not exist.
    """
    value = os.environ.get(variable, "").strip()
    if not value:
        return None
    path = os.path.expanduser(value)
    if path.startswith("~"):
        raise CacheError(f"{variable} is {value!r}, and that user has no home folder here.")
    return KIT / path


def cache_dir(part: str = "") -> Path:
    """The folder for models, servers, checkpoints and results; `MISTRAL_LAB_CACHE` overrides it.

    Args:
        part: the name of a folder in it, to have that one.

    Raises:
        CacheError: the folder cannot be created or written to.
    """
    folder = path_from(CACHE_VARIABLE) or user_cache_path("mistral-small-lab").expanduser()
    folder = folder / part
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink(missing_ok=True)  # another thread may have removed it already
    except OSError as error:
        reason = "it is a file" if os.path.isfile(folder) else error.strerror
        raise CacheError(
            f"The cache folder {folder} cannot be written to ({reason}). The small model "
            f"is kept there. Set {CACHE_VARIABLE} to a folder you may write to and try again."
        ) from error
    return folder


@contextmanager
def locked(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock file `path`; `on_wait` is called if another process holds it.

    Raises:
        CacheError: the file cannot be written, or its disk has no locks, as some network drives.
    """
    lock = FileLock(path)
    try:
        try:
            held = lock.acquire(timeout=0)
        except Timeout:
            on_wait()
            held = lock.acquire()
    except (OSError, NotImplementedError) as error:
        raise CacheError(
            f"The lock file {path} cannot be used ({error}). Set {CACHE_VARIABLE} to a folder on "
            "this machine's own disk that you may write to."
        ) from error
    with held:
        yield


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; afterwards that file replaces `path`."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    yield unfinished
    os.replace(unfinished, path)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
