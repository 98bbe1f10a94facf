"""Where the built pocket model is, and that it exists. `builder` does the work.

Every client imports this module, so it imports no torch and no transformers.
"""

import subprocess
import sys
from pathlib import Path

from pocket_model.cache import cache_dir, path_from, sha256_of

MODEL_ID = "pocket-small"
# Mistral's own recommendation for Small 3.x (model card), and the server's default.
DEFAULT_TEMPERATURE = 0.15

POCKET_DATA = Path(__file__).resolve().parent.parent / "data" / "pocket"
ADAPTER_FILE = POCKET_DATA / "adapter.safetensors"
# Names another adapter file, such as one from a training run of your own.
ADAPTER_VARIABLE = "POCKET_ADAPTER"

# A part of the folder's name. Change it when the same inputs would be built into other files.
RECIPE = "multimodal-1"
FREE_BYTES_NEEDED = 1_200_000_000


class BuildError(RuntimeError):
    """The pocket model could not be built; the message says why and what to do."""


def find_adapter() -> Path:
    """The adapter file to build with. Raises `BuildError` if it is missing."""
    path = path_from(ADAPTER_VARIABLE) or ADAPTER_FILE
    if not path.is_file():
        raise BuildError(
            f"There is no adapter file {path}. It is {ADAPTER_FILE.name} in the repository's "
            f"data/pocket, or the file that the variable {ADAPTER_VARIABLE} names."
        )
    return path


def folder_name() -> str:
    """The name of the model's folder: how it is built, and from which adapter."""
    return f"{RECIPE}-{sha256_of(find_adapter())[:8]}"


def model_folder() -> Path:
    """The folder of the built model, whether it exists or not.

    Raises:
        BuildError: there is no adapter file.
        CacheError: the cache folder cannot be used.
    """
    return cache_dir() / "pocket" / folder_name()


def ensure_built() -> Path:
    """Build the pocket model unless it exists; return its folder.

    The build runs in a process of its own, so that its memory is freed afterwards. Two callers at
    once wait for one another, and an interrupted build leaves no folder.

    Raises:
        BuildError: the model cannot be built.
        CacheError: the cache folder cannot be used.
    """
    folder = model_folder()
    if folder.is_dir():
        return folder
    command = [sys.executable, "-m", "pocket_model", "build"]
    result = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, errors="replace", check=False
    )
    if not folder.is_dir():
        reason = result.stdout.strip() or f"The build ended with exit code {result.returncode}."
        raise BuildError(f"The pocket model could not be built. {reason}")
    return folder
