"""Build the pocket model into the cache folder.

The base is SmolLM2-135M-Instruct (Apache-2.0). Its weights fit Mistral's text model unchanged:
both are decoders with RMSNorm, rotary embeddings, grouped-query attention and SwiGLU, and even
their tensors have the same names. The trained part comes from `data/pocket`.

The folder holds the model three times, each with its own `tekken.json`:

- at its root, transformers' format in bfloat16;
- `mistral/`, Mistral's own format, which vLLM reads;
- `nf4/`, transformers' format in 4 bits (NF4 with double quantization).

`build.ensure_built` runs this module as a program.
"""

import _thread
import json
import os
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoTokenizer, BitsAndBytesConfig, Mistral3ForConditionalGeneration

from pocket_model import mistral_format, tekken
from pocket_model.adapter import merge_adapter
from pocket_model.architecture import assemble, pad_heads
from pocket_model.base_weights import FetchError, fetch_gguf, load_base
from pocket_model.build import (
    DEFAULT_TEMPERATURE,
    FREE_BYTES_NEEDED,
    MANIFEST,
    BuildError,
    find_adapter,
    find_damage,
    model_folder,
)
from pocket_model.cache import CACHE_VARIABLE, CacheError, locked

# transformers matches these names from the start of a module's path. They replace its defaults,
# so `lm_head` must be among them.
NOT_QUANTIZED = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]
STEPS = 6
FULL = re.compile("No space left|Disk quota exceeded|Error 112", re.IGNORECASE)  # 112: Windows'

# Takes what is being done, and which share of all is done, from 0 to 1 (None if unknown).
Report = Callable[[str, float | None], None]


def build(report: Report = lambda doing, done: None) -> Path:
    """Build in this process; return the folder.

    Raises:
        BuildError: the base cannot be downloaded, the adapter does not fit, the disk is full.
        CacheError: the cache folder cannot be used.
    """
    folder = model_folder()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.parent / f"{folder.name}.lock"
        with locked(lock, lambda: report("waiting for another program that builds it", None)):
            if find_damage(folder) is None:
                return folder
            free = shutil.disk_usage(folder.parent).free
            if free < FREE_BYTES_NEEDED:
                raise OSError(f"No space left: {free / 1e9:.2f} GB free")
            # A killed build leaves its scratch folder. Under the lock, no other build owns one.
            for leftover in folder.parent.glob(f".{folder.name}-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            with tempfile.TemporaryDirectory(
                prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True
            ) as scratch:
                build_into(Path(scratch, "model"), Path(scratch), report)
                write_manifest(Path(scratch, "model"))
                if folder.exists():  # an incomplete copy
                    os.replace(folder, Path(scratch, "incomplete"))
                os.replace(Path(scratch, "model"), folder)
    except (FetchError, OSError, SafetensorError) as error:
        reason = str(error)
        if FULL.search(reason):  # safetensors has no error numbers, only the system's words
            reason = (
                f"The disk of {folder.parent} is too full ({reason}). The build needs "
                f"{FREE_BYTES_NEEDED / 1e9:.1f} GB, of which the model keeps 0.7 GB. Free some "
                f"space, or set {CACHE_VARIABLE} to a folder on another disk."
            )
        raise BuildError(reason) from error
    return folder


def write_manifest(folder: Path) -> None:
    """Write the sizes of all files of a built model, by which `build.find_damage` checks it."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    (folder / MANIFEST).write_text(json.dumps(sizes, indent=1), encoding="utf-8")


def build_into(target: Path, scratch: Path, report: Report) -> None:
    """Write the model in its three formats to `target`; `scratch` takes temporary files."""

    def step(number: int, doing: str, share: float = 0.0) -> None:
        report(f"step {number} of {STEPS}: {doing}", (number - 1 + share) / STEPS)

    def download(megabytes: float) -> None:
        step(1, f"downloading its base, {megabytes:.0f} of 93 MB", min(megabytes / 93, 1))

    adapter = find_adapter()
    try:
        safe_open(adapter, "pt")  # before the download: it may be half a file
    except SafetensorError as error:
        raise BuildError(f"The adapter {adapter} cannot be used: {error}") from error
    download(0)
    gguf = fetch_gguf(scratch, download)
    step(2, "unpacking its base")
    tokenizer = AutoTokenizer.from_pretrained(scratch, gguf_file=gguf.name)
    tekken_content, base_ids = tekken.convert(tokenizer)
    model = assemble(load_base(gguf), tokenizer, base_ids)
    step(3, "merging the adapter")
    try:
        merge_adapter(model, adapter)
    except (ValueError, RuntimeError) as error:
        raise BuildError(f"The adapter {adapter} cannot be used: {error}") from error
    model = pad_heads(model).to(torch.bfloat16)
    model.generation_config.temperature = DEFAULT_TEMPERATURE
    model.generation_config.do_sample = True
    step(4, "saving it for transformers")
    model.save_pretrained(target)
    tekken_file = tekken.write(tekken_content, target)
    step(5, "saving it for vLLM")
    mistral_format.write(model, target / "mistral")
    del model
    step(6, "quantizing it to 4 bits")
    load_in_nf4(target).save_pretrained(target / "nf4")
    for folder in (target / "mistral", target / "nf4"):
        shutil.copy(tekken_file, folder)


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


def main() -> None:
    """Build, and write the progress to stdout: one JSON object a line.

    The last one has the reason why it failed, which is empty if the model is built. The program
    ends when its stdin does, that is, when its parent stops waiting or ends.
    """
    parent, messages = os.dup(0), os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Programs that this one starts, such as pip, have no input: on Windows they would wait for
    # the thread that reads it. What they and libraries print goes to the log.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)

    def send(**message: object) -> None:
        print(json.dumps(message), file=messages, flush=True)

    def watch_parent() -> None:
        os.read(parent, 1)
        _thread.interrupt_main()

    # What a script starts in the background inherits that interrupts are ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=watch_parent, daemon=True).start()
    reason = ""
    try:
        build(lambda doing, done: send(doing=doing, done=done))
    except (BuildError, CacheError) as error:
        reason = str(error)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent may close the pipe from now on
    send(reason=reason)


if __name__ == "__main__":
    main()
