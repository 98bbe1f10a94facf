"""Where the built pocket model is, and that it exists. `builder` does the work.

Every client imports this module, so it imports no torch and no transformers.
"""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal, get_args

from pocket_model.cache import cache_dir, path_from, sha256_of
from pocket_model.progress import Progress

MODEL_ID = "pocket-small"
# Mistral's own recommendation for Small 3.x (model card), and the server's default.
DEFAULT_TEMPERATURE = 0.15
# How the server holds the text model's weights; see `server.linears`.
Quantization = Literal["int8", "bf16", "int4", "nf4"]
QUANTIZATIONS: tuple[Quantization, ...] = get_args(Quantization)
# int8 is faster for one user, and the default while no skill loses more than a point by it
# (`data/pocket/README.md`). Else bf16 is. A test compares this with the evaluation.
DEFAULT_QUANTIZATION: Quantization = "int8"

POCKET_DATA = Path(__file__).resolve().parent.parent / "data" / "pocket"
ADAPTER_FILE = POCKET_DATA / "adapter.safetensors"
# Names another adapter file, such as one from a training run of your own.
ADAPTER_VARIABLE = "POCKET_ADAPTER"

# A part of the folder's name. Change it when the same inputs would be built into other files.
RECIPE = "multimodal-1"
FREE_BYTES_NEEDED = 1_200_000_000
# Written last: the sizes of all the other files of the folder.
MANIFEST = "files.json"
TITLE = "Building the small model, once: a 93 MB download, then about a minute of work"
BUILDER = [sys.executable, "-m", "pocket_model.builder"]
# Arguments of `Popen` for a program that the terminal's Ctrl-C and its end do not reach.
OWN_SESSION = (
    {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    if os.name == "nt"
    else {"start_new_session": True}
)
SECONDS_TO_END = 20
OUT_OF_MEMORY = (
    "The system ended the build, most likely because the memory ran out: it needs about 2 GB. "
    "Close other programs and notebooks, and try again."
)


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


def find_damage(folder: Path) -> str | None:
    """The first file of a built model that is missing or cut short; None if it is complete.

    The build itself never leaves half a folder, but a copy from another machine can be one.
    """
    try:
        sizes = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return MANIFEST
    for name, size in sizes.items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != size:
            return name
    return None


def is_built() -> bool:
    """Whether the pocket model is complete. Raises as `model_folder` does."""
    return find_damage(model_folder()) is None


def ensure_built() -> Path:
    """Build the pocket model unless it is complete; return its folder.

    The build runs in a process of its own, so that its memory is freed afterwards and its
    libraries' messages go to a log. Its progress is shown. Two callers at once wait for one
    another. If this process is interrupted or ends, so does the build, and it leaves no folder.

    Raises:
        BuildError: the model cannot be built.
        CacheError: the cache folder cannot be used.
    """
    folder = model_folder()
    damage = find_damage(folder)
    if damage is None:
        return folder
    log = cache_dir("pocket") / "build.log"
    with log.open("ab") as sink:  # another build may be writing to it
        start = sink.tell()
        reason = _run_builder(sink)
    if find_damage(folder) is None:
        return folder
    if reason is None:
        tail = log.read_bytes()[start:].decode(errors="replace").strip().splitlines()[-3:]
        reason = "\n".join([f"The build ended early. The last lines of {log}:", *tail])
    elif not reason:  # it built another folder than this process expects
        reason = "The kit has changed since this program began: start it (or its kernel) again."
    if folder.exists():
        reason = f"{folder} is incomplete: {damage} is missing or cut short. {reason}"
    raise BuildError(f"The pocket model could not be built. {reason}")


def _run_builder(log: IO[bytes]) -> str | None:
    """Run `builder` and show its progress.

    Returns:
        why it failed; an empty string if it did not; None if it does not know.
    """
    progress = Progress(TITLE)
    process = subprocess.Popen(
        BUILDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, **OWN_SESSION
    )
    reason = None
    try:
        for message in _messages(process.stdout, progress):
            if "reason" in message:
                reason = message["reason"]
            else:
                progress.update(message["doing"], message["done"])
    finally:
        process.stdin.close()  # an interrupted builder ends and cleans up
        try:
            process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
        progress.end("The small model is built." if reason == "" else "")
    if process.returncode == -9:  # by SIGKILL
        return OUT_OF_MEMORY
    return reason


def _messages(stream: IO[bytes], progress: Progress) -> Iterator[dict]:
    """The builder's messages, one JSON object a line; `progress` counts the seconds meanwhile."""
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        for line in stream:
            lines.put(line)
        lines.put(b"")

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=1)
        except queue.Empty:
            progress.refresh()
            continue
        if not line:
            return
        yield json.loads(line)
