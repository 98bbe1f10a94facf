"""Build the pocket model once into the cache folder.

The base is SmolLM2-135M-Instruct (Apache-2.0). Its weights fit Mistral's text model unchanged:
both are decoders with RMSNorm, rotary embeddings, grouped-query attention and SwiGLU, and even
their tensors have the same names. The trained part comes from `data/pocket`.

The folder holds the model three times, each with its own `tekken.json`:

- at its root, transformers' format in bfloat16;
- `mistral/`, Mistral's own format, which vLLM reads;
- `nf4/`, transformers' format in 4 bits (NF4 with double quantization).

Every client imports this module, so torch and transformers are imported inside functions only.
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

from pocket_model.base_weights import FetchError, fetch_gguf
from pocket_model.cache import CACHE_VARIABLE, cache_dir, sha256_of

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
# transformers matches these names from the start of a module's path. They replace its defaults,
# so `lm_head` must be among them.
NOT_QUANTIZED = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]


class BuildError(RuntimeError):
    """The pocket model could not be built; the message says why and what to do."""


def find_adapter() -> Path:
    """The adapter file to build with. Raises `BuildError` if it is missing."""
    named = os.environ.get(ADAPTER_VARIABLE)
    path = Path(named).expanduser() if named else ADAPTER_FILE
    if path.is_file():
        return path
    if named:
        raise BuildError(f"{ADAPTER_VARIABLE} names {path}, and no such file exists.")
    raise BuildError(f"{path} is missing; this file belongs to the repository.")


def folder_name() -> str:
    """The name of the model's folder: how it is built, and from which adapter."""
    return f"{RECIPE}-{sha256_of(find_adapter())[:8]}"


def model_folder() -> Path:
    """The folder of the built model, whether it exists or not. Raises `BuildError`."""
    return cache_dir() / "pocket" / folder_name()


def ensure_built() -> Path:
    """Build the pocket model unless it exists; return its folder.

    The build runs in a process of its own, so that its memory is freed afterwards. Two callers at
    once wait for one another, and an interrupted build leaves no folder.

    Raises:
        BuildError: the model cannot be built.
    """
    folder = model_folder()
    if folder.is_dir():
        return folder
    command = [sys.executable, "-m", "pocket_model", "build"]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if not folder.is_dir():
        reason = result.stdout.strip() or f"The build ended with exit code {result.returncode}."
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
            check_free_space(folder.parent)
            # A killed build leaves its scratch folder. Under the lock, no other build owns one.
            for leftover in folder.parent.glob(f".{folder.name}-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            with tempfile.TemporaryDirectory(
                prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True
            ) as scratch:
                build_into(Path(scratch, "model"), Path(scratch))
                os.replace(Path(scratch, "model"), folder)
    except FetchError as error:
        raise BuildError(str(error)) from error
    except (OSError, SafetensorError) as error:
        # safetensors reports a full disk as an error of its own, without an errno.
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space" in str(error)
        raise BuildError(_no_space(folder.parent) if full else f"{error}.") from error
    return folder


def build_into(target: Path, scratch: Path) -> None:
    """Write the model in its three formats to `target`; `scratch` takes temporary files."""
    from tqdm import tqdm

    with tqdm(total=6, desc="pocket model", unit="step", file=sys.stderr) as steps:

        def next_step(name: str) -> None:
            steps.update()
            steps.set_postfix_str(name)

        steps.set_postfix_str("downloading the base, 93 MB")
        gguf = fetch_gguf(scratch)

        # Heavy imports come after the download: without a network, the error comes at once.
        import torch
        from transformers import AutoTokenizer

        from pocket_model import mistral_format, tekken
        from pocket_model.adapter import merge_adapter
        from pocket_model.architecture import assemble, pad_heads

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


def load_base(gguf: Path):
    """Load the base with transformers: a `LlamaForCausalLM` in float32, dequantized."""
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    return AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        quantization_config=GgufConfig(gguf_file=gguf.name, dequantize=True),
        gguf_file=gguf.name,
        dtype=torch.float32,
    )


def load_in_nf4(folder: Path):
    """Load the built model with its text model's linear layers quantized to NF4.

    It must be saved before it computes anything: bitsandbytes may rearrange the weights for this
    processor at their first use. For the same reason it is always quantized on the CPU.
    """
    import torch
    from transformers import BitsAndBytesConfig, Mistral3ForConditionalGeneration

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


def check_free_space(folder: Path) -> None:
    """Raise `BuildError` if the disk of `folder` is too full to build there."""
    if shutil.disk_usage(folder).free < FREE_BYTES_NEEDED:
        raise BuildError(_no_space(folder))


def _no_space(folder: Path) -> str:
    free = shutil.disk_usage(folder).free
    return (
        f"The disk of {folder} has {free / 1e9:.2f} GB left. The build needs "
        f"{FREE_BYTES_NEEDED / 1e9:.1f} GB, of which the model keeps 0.7 GB. Free some space, or "
        f"set {CACHE_VARIABLE} to a folder on another disk."
    )
