"""Save a model in 4 bits as a checkpoint that `loading.load_4bit` loads again in seconds."""

import json
import os
import shutil
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from bitsandbytes.nn import Linear4bit

from helpers.model.checkpoints import MANIFEST, LoadError, check_disk
from helpers.paths import sha256_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from helpers.model.loading import Loaded


def save_4bit(loaded: "Loaded", folder: str | Path) -> Path:
    """Save a model in 4 bits with its tokenizer; `load_4bit` then needs nothing else.

    The files are written to another folder first, which is renamed when it is complete. A list of
    them with their sizes and SHA-256 is saved too. Returns the folder, with links followed.

    Raises:
        LoadError: the CPU has rearranged the weights, the folder is not empty or cannot be
            written, or the disk is too small.
    """
    if not can_save(loaded.model):
        raise LoadError(
            "This model has computed on a CPU for which bitsandbytes rearranged its weights and "
            "rounded their scales, so the saved model would be another one. Load it again, and "
            "save it before its first answer."
        )
    folder = Path(folder).expanduser().resolve()  # a link stays, and leads to the new folder
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise LoadError(f"{folder} is not an empty folder. Choose another, or delete it first.")
    size = sum(loaded.placement.values())
    check_disk(size, folder, f"Saving {loaded.source} in 4 bits")
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)  # found out now, and not when all is written
    except OSError as error:
        reason = error.strerror
        raise LoadError(f"{folder} cannot be written ({reason}). Choose another folder.") from error
    try:
        loaded.model.save_pretrained(unfinished)
        loaded.tokenizer.save_pretrained(unfinished)
        files = {path.name: path for path in sorted(unfinished.iterdir())}
        manifest = {
            "source": loaded.source,
            "date": f"{date.today()}",
            "versions": {name: version(name) for name in ("torch", "transformers", "bitsandbytes")},
            "bytes": {name: path.stat().st_size for name, path in files.items()},
            "sha256": {name: sha256_of(path) for name, path in files.items()},
        }
        (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def can_save(model: "PreTrainedModel") -> bool:
    """Whether the 4-bit weights are still as they were quantized.

    bitsandbytes rearranges them at the first forward pass on a CPU with bf16 instructions. The
    scales lose their second level and are rounded to bf16. Turning the weights back before a save
    does not restore what was rounded.
    """
    wanted = getattr(model.config, "quantization_config", None)
    nested = bool(getattr(wanted, "bnb_4bit_use_double_quant", False))
    states = [
        module.weight.quant_state for module in model.modules() if isinstance(module, Linear4bit)
    ]
    return all(
        not getattr(state, "packing_format_for_cpu", False)
        and bool(state.nested) == nested
        and state.absmax.dtype == (torch.uint8 if nested else torch.float32)
        for state in states
    )
