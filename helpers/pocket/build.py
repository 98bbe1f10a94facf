"""Build the pocket model once into the cache folder.

The base is SmolLM2-135M-Instruct (Apache-2.0), whose weights fit `MistralForCausalLM`, the class
of Mistral 7B and Mistral Small 3, unchanged: both are RMSNorm, rotary, grouped-query, SwiGLU
decoders whose tensors even carry the same names.
"""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError

from helpers.paths import cache_dir
from helpers.pocket.fetch import FetchError, fetch_gguf

# Part of the folder's name: raise it when the same inputs would be built into other files.
RECIPE = "text-1"
MODEL_ID = "pocket-small"
FREE_BYTES_NEEDED = 1_000_000_000

# Mistral's own recommendation for Small 3.x (model card): the server's default too.
DEFAULT_TEMPERATURE = 0.15


class BuildError(RuntimeError):
    """The pocket model could not be built; the message says why and what to do."""


def model_folder() -> Path:
    """Where the built model lies, or will lie."""
    return cache_dir() / "pocket" / RECIPE


def ensure_built() -> Path:
    """Build the pocket model unless it is there; return its folder (transformers' format).

    The work runs in a process of its own, so that its memory goes back to the system. Two
    callers at once wait for one another; an interrupted build leaves nothing that counts.

    Raises `BuildError`.
    """
    folder = model_folder()
    if folder.is_dir():
        return folder
    command = [sys.executable, "-m", "helpers.pocket", "build"]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if not folder.is_dir():
        reason = result.stdout.strip() or f"it ended with exit code {result.returncode}"
        raise BuildError(f"The pocket model could not be built. {reason}")
    return folder


def build() -> Path:
    """Build in this process, with progress on stderr; return the folder. Raises `BuildError`."""
    folder = model_folder()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f"{RECIPE}.lock"):
            if folder.is_dir():
                return folder
            _check_free_space(folder.parent)
            # Left by a build that was killed: nobody else can own one while the lock is held.
            for leftover in folder.parent.glob(f".{RECIPE}-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            workshop = Path(tempfile.mkdtemp(prefix=f".{RECIPE}-", dir=folder.parent))
            try:
                _build_into(workshop / "model", workshop)
                os.replace(workshop / "model", folder)
            finally:
                shutil.rmtree(workshop, ignore_errors=True)
    except FetchError as error:
        raise BuildError(str(error)) from error
    except (OSError, SafetensorError) as error:
        # safetensors reports a full disk as an error of its own, without an errno.
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space" in str(error)
        raise BuildError(_no_space(folder.parent) if full else f"{error}.") from error
    return folder


def _build_into(target: Path, workshop: Path) -> None:
    from tqdm import tqdm

    steps = tqdm(total=4, desc="pocket model", unit="step", file=sys.stderr, leave=True)
    steps.set_postfix_str("fetching the base, 93 MB")
    gguf = fetch_gguf(workshop)
    steps.update()

    # Heavy imports come after the fetch: without a network the error should not wait for them.
    import torch
    from transformers import AutoTokenizer

    steps.set_postfix_str("reading the tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(workshop, gguf_file=gguf.name)
    steps.update()
    steps.set_postfix_str("dequantising Q4_1 to full weights")
    base = load_base(gguf)
    steps.update()
    steps.set_postfix_str("saving as a Mistral model, 270 MB")
    model = as_mistral(base).to(torch.bfloat16)
    model.generation_config.temperature = DEFAULT_TEMPERATURE
    model.generation_config.do_sample = True
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    steps.update()
    steps.set_postfix_str("ready")
    steps.close()


def load_base(gguf: Path):
    """The base as transformers reads it: a `LlamaForCausalLM` in float32, dequantised."""
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    return AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        quantization_config=GgufConfig(gguf_file=gguf.name, dequantize=True),
        gguf_file=gguf.name,
        dtype=torch.float32,
    )


def as_mistral(base):
    """The same weights in a `MistralForCausalLM` (float32); every tensor must fit by name."""
    from transformers import GenerationConfig, MistralConfig, MistralForCausalLM

    shared = (
        "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
        "num_key_value_heads head_dim max_position_embeddings rms_norm_eps rope_parameters "
        "tie_word_embeddings bos_token_id eos_token_id pad_token_id"
    )
    values = {name: getattr(base.config, name) for name in shared.split()}
    model = MistralForCausalLM(MistralConfig(**values, sliding_window=None))
    model.load_state_dict(base.state_dict(), strict=True)
    ids = {name: values[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    model.generation_config = GenerationConfig(**ids)
    return model.eval()


def _check_free_space(folder: Path) -> None:
    if shutil.disk_usage(folder).free < FREE_BYTES_NEEDED:
        raise BuildError(_no_space(folder))


def _no_space(folder: Path) -> str:
    free = shutil.disk_usage(folder).free
    return (
        f"The disk of {folder} has {free / 1e9:.2f} GB left, and the build needs "
        f"{FREE_BYTES_NEEDED / 1e9:.0f} GB (270 MB of it to stay). Free some, or set "
        "MISTRAL_LAB_CACHE to a folder on another disk."
    )
