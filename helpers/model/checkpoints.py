"""A checkpoint's files: find them, fetch what is needed, tell a whole checkpoint from a broken one.

A repository on the Hugging Face Hub often holds the same weights twice (`model-*.safetensors` for
transformers, `consolidated.safetensors` for vLLM): 48 GB each for the 24B. Only the first is
fetched here.
"""

import json
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

WANTED = ("*.json", "model*.safetensors", "tokenizer.model", "*.jinja", "SYSTEM_PROMPT.txt")
MANIFEST = "saved_in_4_bits.json"
SPARE_BYTES = 2_000_000_000  # disk that a download leaves free
QUANT_STATE = ".weight.quant_state.bitsandbytes__"


class LoadError(RuntimeError):
    """A model cannot be loaded: what happened, what it means, what to do."""


def config_folder(model_id_or_path: str | Path, *, revision: str | None = None) -> Path:
    """The folder with the model's `config.json`: the given one, or the cache, fetched if need be.

    Raises:
        LoadError: no such folder or model, no permission, no network.
    """
    if is_local(model_id_or_path):
        folder = Path(model_id_or_path)
        if not (folder / "config.json").is_file():
            raise LoadError(
                f"{folder} has no config.json, so it is no model in transformers' format. Give "
                "the folder that holds config.json and model.safetensors, or a model id."
            )
        return folder
    with _hub_errors(str(model_id_or_path)):
        return Path(hf_hub_download(str(model_id_or_path), "config.json", revision=revision)).parent


def is_local(model_id_or_path: str | Path) -> bool:
    """Whether a folder is meant, and no id on the Hub."""
    return isinstance(model_id_or_path, Path) or os.path.isdir(model_id_or_path)


def fetch(model_id: str, *, revision: str | None = None, workers: int = 4) -> Path:
    """Fetch what transformers needs of a model into the Hub's cache, and return its folder.

    Progress is shown, and the disk is asked first. A cut connection is taken up where it broke off;
    after an end of the process whole files are kept, and the one under way begins anew (that is
    huggingface_hub's rule since 2.0: half a file may be another process's).

    Raises:
        LoadError: no such model, no permission, no network, or a disk too small.
    """
    options = {"revision": revision, "allow_patterns": [*WANTED, "tekken.json"]}
    with _hub_errors(model_id):
        files = snapshot_download(model_id, dry_run=True, **options)
        missing = sum(file.file_size or 0 for file in files if file.will_download)
        check_disk(missing, Path(constants.HF_HUB_CACHE), model_id)
        folder = Path(snapshot_download(model_id, max_workers=workers, **options))
    check_whole(folder)
    return folder


def check_disk(needed: int, folder: Path, what: str) -> None:
    """Raise LoadError where ``needed`` bytes and a reserve do not fit on a folder's disk."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed and needed + SPARE_BYTES > free:
        raise LoadError(
            f"{what} needs {needed / 1e9:.1f} GB on the disk of {folder}, which has "
            f"{free / 1e9:.1f} GB left. Free some, or set HF_HOME to a folder on another disk. "
            "Nothing was fetched."
        )


def check_whole(folder: Path) -> None:
    """Raise LoadError unless every file that a checkpoint names is there in its full length.

    Reads the index, each safetensors header and, for a save of `loading.save_4bit`, its list of
    files; not the weights themselves.
    """
    unfinished = "Fetch or save it again: what is whole is kept."
    index = folder / "model.safetensors.index.json"
    names = {"model.safetensors"}
    if index.is_file():
        names = set(_json(index)["weight_map"].values())
    for name in sorted(names):
        path = folder / name
        if not path.is_file():
            raise LoadError(
                f"{folder} is incomplete: {name} is missing, one of {len(names)} files with "
                f"weights. {unfinished}"
            )
        _check_length(path, unfinished)
    if not any((folder / name).is_file() for name in ("tekken.json", "tokenizer.json")):
        raise LoadError(f"{folder} is incomplete: it has no tokenizer. {unfinished}")
    if (folder / MANIFEST).is_file():
        for name, size in _json(folder / MANIFEST)["bytes"].items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != size:
                raise LoadError(f"{folder} is incomplete: {name} is not as saved. {unfinished}")


def _check_length(path: Path, advice: str) -> None:
    header = _header(path)
    if header is not None:
        tensors = [entry for name, entry in header[1].items() if name != "__metadata__"]
        end = max((entry["data_offsets"][1] for entry in tensors), default=0)
        if path.stat().st_size == header[0] + end:
            return
    raise LoadError(f"{path} is broken: not as long as its own header says. {advice}")


def _header(path: Path) -> tuple[int, dict] | None:
    """Where a safetensors file's data begin, and its header; None where there is none."""
    with path.open("rb") as file:
        size = file.read(8)
        if len(size) < 8:
            return None
        length = struct.unpack("<Q", size)[0]
        if length > path.stat().st_size:
            return None
        try:
            return 8 + length, json.loads(file.read(length))
        except ValueError:
            return None


def quantised_in(folder: Path) -> set[str]:
    """The modules that a checkpoint holds in bitsandbytes' 4 bits, by their names in its files."""
    found = set()
    for path in folder.glob("model*.safetensors"):
        header = _header(path)
        names = header[1] if header else {}
        found |= {name.split(QUANT_STATE)[0] for name in names if QUANT_STATE in name}
    return found


def _json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LoadError(f"{path} is broken: {error}. Fetch or save it again.") from error


@contextmanager
def _hub_errors(model_id: str) -> Iterator[None]:
    """Turns the Hub's exceptions into a LoadError with the next step."""
    try:
        yield
    except (OSError, HFValidationError) as error:  # the Hub's errors are OSErrors
        raise LoadError(_explained(model_id, error)) from error


def _explained(model_id: str, error: Exception) -> str:
    page = f"https://huggingface.co/{model_id}"
    if isinstance(error, GatedRepoError):
        return (
            f"{model_id} is gated: its owner asks you to accept terms first. Open {page}, accept "
            "them, then log in here with `hf auth login` (or set HF_TOKEN)."
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{model_id} has no such revision; {page} lists them."
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"There is no model {model_id}, or it is private. Look for it at {page}; the id is "
            "needed in full, such as mistralai/Mistral-Small-3.2-24B-Instruct-2506, or a folder "
            "that exists. For a private model log in with `hf auth login`."
        )
    if isinstance(error, HFValidationError):
        return (
            f"{model_id!r} is neither a folder that exists nor a model id such as "
            "mistralai/Mistral-Small-3.2-24B-Instruct-2506."
        )
    if isinstance(error, RemoteEntryNotFoundError):
        return f"{model_id} has no config.json, so it is no model for transformers; see {page}."
    if isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled):
        return (
            f"{model_id} is not on this machine, and the Hub cannot be reached (or HF_HUB_OFFLINE "
            "is set). With a network, run this again: what is already fetched is kept. Without "
            'one, use MODEL_ID = "pocket".'
        )
    return (
        f"{model_id} was not delivered ({error}). Run this again: what is already fetched is kept."
    )
