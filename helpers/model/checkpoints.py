"""The files of a checkpoint: find them, download them, check that they are complete.

A repository on the Hugging Face Hub often holds the same weights twice: `model-*.safetensors` for
transformers and `consolidated.safetensors` for vLLM, 48 GB each for the 24B. Only the first is
downloaded here.
"""

import json
import os
import shutil
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
from safetensors import SafetensorError, safe_open

DOWNLOAD_PATTERNS = (
    "*.json",
    "model*.safetensors",
    "tokenizer.model",
    "*.jinja",
    "SYSTEM_PROMPT.txt",
)
MANIFEST = "saved_in_4_bits.json"
SPARE_BYTES = 2_000_000_000  # disk space that a download leaves free
QUANT_STATE = ".weight.quant_state.bitsandbytes__"
ADVICE = "Download or save it again: complete files are kept."


class LoadError(RuntimeError):
    """A model cannot be loaded. The message says what happened, what it means and what to do."""


def config_folder(model_id_or_path: str | Path, *, revision: str | None = None) -> Path:
    """The folder with the model's `config.json`: the given folder, or one in the Hub's cache.

    The file is downloaded if it is not in the cache. `revision` is a branch, tag or commit.

    Raises:
        LoadError: no such folder or model, no permission, no network.
    """
    if is_local(model_id_or_path):
        folder = Path(model_id_or_path)
        if not (folder / "config.json").is_file():
            raise LoadError(
                f"{folder} has no config.json, so it does not hold a model in transformers' "
                "format. Give the folder with config.json and model.safetensors, or a model id."
            )
        return folder
    with _hub_errors(str(model_id_or_path)):
        return Path(hf_hub_download(str(model_id_or_path), "config.json", revision=revision)).parent


def is_local(model_id_or_path: str | Path) -> bool:
    """Whether this is a folder and not a model id on the Hub."""
    return isinstance(model_id_or_path, Path) or os.path.isdir(model_id_or_path)


def fetch(model_id: str, *, revision: str | None = None, workers: int = 4) -> Path:
    """Download the files that transformers needs into the Hub's cache; returns their folder.

    Progress is shown. A download continues after a lost connection. If the process ends, complete
    files are kept; the unfinished one starts again, because since huggingface_hub 2.0 a half file
    may belong to another process.

    Raises:
        LoadError: no such model, no permission, no network, or not enough disk space.
    """
    options = {"revision": revision, "allow_patterns": list(DOWNLOAD_PATTERNS)}
    with _hub_errors(model_id):
        files = snapshot_download(model_id, dry_run=True, **options)
        missing = sum(file.file_size or 0 for file in files if file.will_download)
        check_disk(missing, Path(constants.HF_HUB_CACHE), model_id)
        folder = Path(snapshot_download(model_id, max_workers=workers, **options))
    check_complete(folder)
    return folder


def check_disk(needed: int, folder: Path, what: str) -> None:
    """Check that `needed` bytes and a reserve of 2 GB fit on the disk of `folder`.

    Raises:
        LoadError: they do not. The message begins with `what`.
    """
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed and needed + SPARE_BYTES > free:
        raise LoadError(
            f"{what} needs {needed / 1e9:.1f} GB on the disk of {folder}, which has "
            f"{free / 1e9:.1f} GB left. Free some, or set HF_HOME to a folder on another disk. "
            "Nothing was downloaded or saved."
        )


def check_complete(folder: Path) -> None:
    """Check that every file that a checkpoint names is present and has its full length.

    Reads the index, each safetensors header and the file list of `saving.save_4bit` if there is
    one, but not the weights themselves.

    Raises:
        LoadError: a file is missing or broken. The message names it.
    """
    index = folder / "model.safetensors.index.json"
    names = {"model.safetensors"}
    if index.is_file():
        names = set(_read_table(index, "weight_map").values())
    for name in sorted(map(str, names)):
        if not (folder / name).is_file():
            raise LoadError(
                f"{folder} is incomplete: {name} is missing, one of {len(names)} files with "
                f"weights. {ADVICE}"
            )
        _tensor_names(folder / name)
    if not any((folder / name).is_file() for name in ("tekken.json", "tokenizer.json")):
        raise LoadError(f"{folder} is incomplete: it has no tokenizer. {ADVICE}")
    if (folder / MANIFEST).is_file():
        for name, size in _read_table(folder / MANIFEST, "bytes").items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != size:
                raise LoadError(f"{folder} is incomplete: {name} is not as saved. {ADVICE}")


def _tensor_names(path: Path) -> list[str]:
    """The names of the tensors in a safetensors file, which must be as long as its header says."""
    try:
        with safe_open(path, framework="np") as file:
            return list(file.keys())
    except SafetensorError as error:
        raise LoadError(
            f"{path} is broken: cut short, or not a safetensors file ({error}). {ADVICE}"
        ) from error


def quantized_in(folder: Path) -> set[str]:
    """The modules that a checkpoint holds in bitsandbytes' 4 bits, as its files name them.

    Raises:
        LoadError: a file with weights is broken.
    """
    names = (name for path in folder.glob("model*.safetensors") for name in _tensor_names(path))
    return {name.split(QUANT_STATE)[0] for name in names if QUANT_STATE in name}


def _read_table(path: Path, key: str) -> dict:
    """The object under `key` of a JSON file."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))[key]
        return dict(table.items())
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise LoadError(
            f"{path} is broken: it has no object {key!r} ({error}). Download or save it again."
        ) from error


@contextmanager
def _hub_errors(model_id: str) -> Iterator[None]:
    """Turn the Hub's exceptions into a LoadError that names the next step."""
    try:
        yield
    except (OSError, HFValidationError) as error:  # the Hub's errors are OSErrors
        raise LoadError(_explain(model_id, error)) from error


def _explain(model_id: str, error: Exception) -> str:
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
            f"There is no model {model_id}, or it is private. Look for it at {page}. Give the "
            "full id, such as mistralai/Mistral-Small-3.2-24B-Instruct-2506, or a folder that "
            "exists. For a private model log in with `hf auth login`."
        )
    if isinstance(error, HFValidationError):
        return (
            f"{model_id!r} is neither a folder that exists nor a model id such as "
            "mistralai/Mistral-Small-3.2-24B-Instruct-2506."
        )
    if isinstance(error, RemoteEntryNotFoundError):
        return f"{model_id} has no config.json, so transformers cannot load it; see {page}."
    if isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled):
        return (
            f"{model_id} is not on this machine, and the Hub cannot be reached (or HF_HUB_OFFLINE "
            "is set). With a network, run this again: downloaded files are kept. Without a "
            'network, use MODEL_ID = "pocket".'
        )
    return f"Downloading {model_id} failed ({error}). Run this again: downloaded files are kept."
