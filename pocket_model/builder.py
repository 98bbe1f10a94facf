"""Build the pocket model into the cache folder.

The base is SmolLM2-135M-Instruct (Apache-2.0). Its weights fit Mistral's text model unchanged:
both are decoders with RMSNorm, rotary embeddings, grouped-query attention and SwiGLU, and even
their tensors have the same names. The trained part comes from `data/pocket`.

The folder holds the model three times, each with its own `tekken.json`:

- at its root, transformers' format in bfloat16;
- `mistral/`, Mistral's own format, which vLLM reads;
- `nf4/`, transformers' format in 4 bits (NF4 with double quantization).
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError
from tqdm import tqdm
from transformers import AutoTokenizer, BitsAndBytesConfig, Mistral3ForConditionalGeneration

from pocket_model import mistral_format, tekken
from pocket_model.adapter import merge_adapter
from pocket_model.architecture import assemble, pad_heads
from pocket_model.base_weights import FetchError, fetch_gguf, load_base
from pocket_model.build import (
    DEFAULT_TEMPERATURE,
    FREE_BYTES_NEEDED,
    BuildError,
    find_adapter,
    model_folder,
)
from pocket_model.cache import CACHE_VARIABLE

# transformers matches these names from the start of a module's path. They replace its defaults,
# so `lm_head` must be among them.
NOT_QUANTIZED = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]


def build() -> Path:
    """Build in this process, with progress on stderr; return the folder.

    Raises:
        BuildError: the base cannot be downloaded, the adapter does not fit, the disk is full.
        CacheError: the cache folder cannot be used.
    """
    folder = model_folder()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f"{folder.name}.lock"):
            if folder.is_dir():
                return folder
            check_free_space(folder.parent)
            # A killed build leaves its scratch folder. Under the lock, no other build owns one.
            for leftover in folder.parent.glob(f".{folder.name}-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            with tempfile.TemporaryDirectory(
                prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True
            ) as scratch:
                build_into(Path(scratch, "model"), Path(scratch))
                os.replace(Path(scratch, "model"), folder)
    except (FetchError, OSError, SafetensorError) as error:
        raise BuildError(f"{error}") from error
    return folder


def check_free_space(folder: Path) -> None:
    """Raise `BuildError` if the disk of `folder` is too full to build there."""
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES_NEEDED:
        raise BuildError(
            f"The disk of {folder} has {free / 1e9:.2f} GB left. The build needs "
            f"{FREE_BYTES_NEEDED / 1e9:.1f} GB, of which the model keeps 0.7 GB. Free some space, "
            f"or set {CACHE_VARIABLE} to a folder on another disk."
        )


def build_into(target: Path, scratch: Path) -> None:
    """Write the model in its three formats to `target`; `scratch` takes temporary files."""
    with tqdm(total=6, desc="pocket model", unit="step", file=sys.stderr) as steps:

        def next_step(name: str) -> None:
            steps.update()
            steps.set_postfix_str(name)

        steps.set_postfix_str("downloading the base, 93 MB")
        gguf = fetch_gguf(scratch)
        next_step("dequantizing the base from Q4_1")
        tokenizer = AutoTokenizer.from_pretrained(scratch, gguf_file=gguf.name)
        tekken_content, base_ids = tekken.convert(tokenizer)
        model = assemble(load_base(gguf), tokenizer, base_ids)
        next_step("merging the adapter")
        adapter = find_adapter()
        try:
            merge_adapter(model, adapter)
        except (ValueError, RuntimeError, SafetensorError) as error:
            raise BuildError(f"The adapter {adapter} cannot be used: {error}") from error
        model = pad_heads(model).to(torch.bfloat16)
        model.generation_config.temperature = DEFAULT_TEMPERATURE
        model.generation_config.do_sample = True
        next_step("saving in transformers' format, 290 MB")
        model.save_pretrained(target)
        tekken_file = tekken.write(tekken_content, target)
        next_step("saving in Mistral's format, 290 MB")
        mistral_format.write(model, target / "mistral")
        del model
        next_step("quantizing to 4 bits, 130 MB")
        load_in_nf4(target).save_pretrained(target / "nf4")
        for folder in (target / "mistral", target / "nf4"):
            shutil.copy(tekken_file, folder)
        next_step("ready")


def load_in_nf4(folder: Path) -> Mistral3ForConditionalGeneration:
    """Load the built model with its text model's linear layers quantized to NF4.

    It must be saved before it computes anything: bitsandbytes may rearrange the weights for this
    CPU at their first use. For the same reason it is always quantized on the CPU.
    """
    return Mistral3ForConditionalGeneration.from_pretrained(
        folder,
        dtype=torch.bfloat16,
        device_map="cpu",
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
            llm_int8_skip_modules=NOT_QUANTIZED,
        ),
    )
