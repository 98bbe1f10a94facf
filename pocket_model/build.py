"""Build the pocket model once into the cache folder.

The base is SmolLM2-135M-Instruct (Apache-2.0), whose weights fit Mistral's text model unchanged:
both are RMSNorm, rotary, grouped-query, SwiGLU decoders whose tensors even carry the same names.
What was trained on top of it comes from `data/pocket`.

The folder holds the model three times, each with its own `tekken.json`:

- at its root, transformers' format in bfloat16;
- `mistral/`, Mistral's own format, which vLLM reads;
- `nf4/`, transformers' format in 4 bits (NF4 with double quantisation).
"""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError

from helpers.paths import DATA
from pocket_model.base_weights import FetchError, fetch_gguf
from pocket_model.cache import cache_dir

# Part of the folder's name: raise it when the same inputs would be built into other files.
RECIPE = "multimodal-1"
MODEL_ID = "pocket-small"
FREE_BYTES_NEEDED = 1_200_000_000
# Names another file than the one in `data/pocket`: what a training run of one's own has written.
PARTS_VARIABLE = "POCKET_PARTS"

# Mistral's own recommendation for Small 3.x (model card): the server's default too.
DEFAULT_TEMPERATURE = 0.15


class BuildError(RuntimeError):
    """The pocket model could not be built; the message says why and what to do."""


def parts_file() -> Path:
    """The trained parts that go into the model. Raises `BuildError` when they are not there."""
    named = os.environ.get(PARTS_VARIABLE)
    # Not imported from `parts`, which would bring torch along: this runs at every start.
    path = Path(named).expanduser() if named else DATA / "pocket" / "parts.safetensors"
    if not path.is_file():
        missing = f"{PARTS_VARIABLE} names {path}, and" if named else f"{path} is missing:"
        advice = "no such file exists." if named else "the trained parts belong to the repository."
        raise BuildError(f"{missing} {advice}")
    return path


def recipe() -> str:
    """The folder's name: how it is built, and from which trained parts."""
    with parts_file().open("rb") as stream:
        return f"{RECIPE}-{hashlib.file_digest(stream, 'sha256').hexdigest()[:8]}"


def model_folder() -> Path:
    """Where the built model lies, or will lie. Raises `BuildError` without trained parts."""
    return cache_dir() / "pocket" / recipe()


def ensure_built() -> Path:
    """Build the pocket model unless it is there; return its folder.

    The work runs in a process of its own, so that its memory goes back to the system. Two
    callers at once wait for one another; an interrupted build leaves nothing that counts.

    Raises `BuildError`.
    """
    folder = model_folder()
    if folder.is_dir():
        return folder
    command = [sys.executable, "-m", "pocket_model", "build"]
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
        with FileLock(folder.parent / f"{folder.name}.lock"):
            if folder.is_dir():
                return folder
            _check_free_space(folder.parent)
            # Left by a build that was killed: nobody else can own one while the lock is held.
            for leftover in folder.parent.glob(f".{folder.name}-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            workshop = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
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

    steps = tqdm(total=6, desc="pocket model", unit="step", file=sys.stderr, leave=True)
    steps.set_postfix_str("fetching the base, 93 MB")
    gguf = fetch_gguf(workshop)
    steps.update()

    # Heavy imports come after the fetch: without a network the error should not wait for them.
    import torch
    from transformers import AutoTokenizer

    from helpers.model.loading import load_4bit
    from pocket_model import mistral_format, tekken
    from pocket_model.adapter import apply_parts
    from pocket_model.architecture import assemble, pad_heads

    steps.set_postfix_str("dequantising Q4_1 to full weights")
    tokenizer = AutoTokenizer.from_pretrained(workshop, gguf_file=gguf.name)
    base = load_base(gguf)
    steps.update()
    steps.set_postfix_str("adding the trained parts")
    file, places = tekken.convert(tokenizer)
    parts = parts_file()
    try:
        model = apply_parts(assemble(base, tokenizer, places), parts)
    except (ValueError, RuntimeError, SafetensorError) as error:
        raise BuildError(f"The trained parts in {parts} cannot be used: {error}") from error
    del base
    model = pad_heads(model).to(torch.bfloat16)
    model.generation_config.temperature = DEFAULT_TEMPERATURE
    model.generation_config.do_sample = True
    steps.update()
    steps.set_postfix_str("saving in transformers' format, 290 MB")
    model.save_pretrained(target)
    tokenizer_file = tekken.write(file, target)
    steps.update()
    steps.set_postfix_str("saving in Mistral's format, 290 MB")
    mistral_format.write(model, target / "mistral")
    steps.update()
    steps.set_postfix_str("quantising to 4 bits, 130 MB")
    del model
    # On the processor on every machine, and saved before it computes anything: bitsandbytes may
    # repack the weights for the processor at hand the first time they are used.
    small = load_4bit(target, compute_dtype=torch.bfloat16, device_map="cpu").model
    small.save_pretrained(target / "nf4")
    for folder in (target / "mistral", target / "nf4"):
        shutil.copy(tokenizer_file, folder)
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


def _check_free_space(folder: Path) -> None:
    if shutil.disk_usage(folder).free < FREE_BYTES_NEEDED:
        raise BuildError(_no_space(folder))


def _no_space(folder: Path) -> str:
    free = shutil.disk_usage(folder).free
    return (
        f"The disk of {folder} has {free / 1e9:.2f} GB left, and the build needs "
        f"{FREE_BYTES_NEEDED / 1e9:.1f} GB (0.7 GB of it to stay). Free some, or set "
        "MISTRAL_LAB_CACHE to a folder on another disk."
    )
