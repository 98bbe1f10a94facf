"""The kit's two servers as subprocesses, for the clients of this folder.

`make test-clients` runs these tests in an environment of their own, without the kit. They hold the
protocol: forms, ids, finish reasons, usage, errors, and that a client's own messages can be sent
back. What the small model says is not held, except where a grammar or `tool_choice` decides it.
"""

import base64
import io
import os
import re
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
BIN = "Scripts/python.exe" if os.name == "nt" else "bin/python"
KIT_PYTHON = ROOT / ".venv" / BIN


@dataclass(frozen=True)
class Server:
    """A running server and what a client needs to talk to it."""

    name: str
    base_url: str
    api_key: str
    model: str
    process: subprocess.Popen

    @property
    def options(self) -> dict[str, str]:
        """The keyword arguments of OpenAI's clients."""
        return {"base_url": self.base_url, "api_key": self.api_key}


def start(module: str, *arguments: str) -> tuple[subprocess.Popen, str]:
    """Start a server of the kit; returns its process and the address that it prints."""
    command = [KIT_PYTHON, "-u", "-m", module, *arguments, "--port", "0"]
    # One thread: two servers share the cores, and threads that wait for each other cost most.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+/\S*\w", line):
            # The rest of the output must be read, or the server would wait for it.
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return process, found[0]
    raise RuntimeError(f"{module} ended while starting: {''.join(lines)}")


def stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()


@pytest.fixture(scope="session")
def pocket():
    """The embedded model's server."""
    process, base_url = start("pocket_model", "serve")
    yield Server("pocket", base_url, "any", "pocket-small", process)
    stop(process)


@pytest.fixture(scope="session")
def simulator():
    """The simulator of OpenRouter."""
    process, base_url = start("openrouter_sim")
    model = "mistralai/mistral-small-3.2-24b-instruct"
    yield Server("simulator", base_url, "sk-or-v1-simulated-working", model, process)
    stop(process)


@pytest.fixture(params=["pocket", "simulator"])
def server(request) -> Server:
    """Each of the two servers in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def picture() -> bytes:
    """A red PNG of 32 × 32 pixels."""
    file = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def picture_url(picture) -> str:
    """The same as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


@pytest.fixture(scope="session", autouse=True)
def no_secrets_and_no_telemetry():
    """No key of this machine is sent, and no client calls home."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.endswith("_API_KEY")]:
            patch.delenv(name)
        patch.setenv("OPENAI_AGENTS_DISABLE_TRACING", "1")
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it is fetched
        patch.setenv("LITELLM_TELEMETRY", "False")
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield
