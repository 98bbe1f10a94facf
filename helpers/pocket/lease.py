"""One pocket server for all who need it: found or started, held by a lease, ended with the last."""

import hashlib
import http.client
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from helpers.paths import cache_dir
from helpers.pocket import build

START_TIMEOUT_S = 120.0


class ServerError(RuntimeError):
    """The pocket server could not be started; the message says why and what to do."""


@dataclass
class Lease:
    """A held pocket server: its base URL (with /v1), until `close` or the end of the process."""

    base_url: str
    pid: int
    _response: http.client.HTTPResponse
    _connection: http.client.HTTPConnection

    def close(self) -> None:
        """Let go; the server ends itself a few seconds after its last lease."""
        self._response.close()
        self._connection.close()


def acquire(quantization: str | None = None, batching: bool = False) -> Lease:
    """Find a running pocket server of this kind or start one, and hold it.

    Raises `build.BuildError` without a model and `ServerError` when no server comes up.
    """
    build.ensure_built()
    folder = cache_dir() / "servers"
    folder.mkdir(exist_ok=True)
    name = "-".join(filter(None, [_version(), quantization, "batching" if batching else ""]))
    info = folder / f"{name}.json"
    # Under the lock, so that two clients at once start one server and not two.
    with FileLock(folder / f"{name}.lock"):
        lease = _hold(info)
        if lease is None:
            _start(info, folder / f"{name}.log", quantization, batching)
            lease = _hold(info)
    if lease is None:
        raise ServerError("The pocket server started and ended at once. Try again.")
    return lease


def _version() -> str:
    """A name for the model and the server's code: a server of older code is not reused."""
    digest = hashlib.sha256(str(build.model_folder()).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


def _hold(info: Path) -> Lease | None:
    try:
        server = json.loads(info.read_text())
        connection = http.client.HTTPConnection("127.0.0.1", server["port"], timeout=5)
        connection.request("GET", "/lease")
        response = connection.getresponse()
        if response.status != 200 or response.readline() != b"held\n":
            return None
    except (OSError, ValueError, KeyError, http.client.HTTPException):
        return None
    base_url = f"http://127.0.0.1:{server['port']}/v1"
    return Lease(base_url, server["pid"], response, connection)


def _start(info: Path, log: Path, quantization: str | None, batching: bool) -> None:
    info.unlink(missing_ok=True)
    command = [sys.executable, "-m", "helpers.pocket", "serve", "--leased", "--info", str(info)]
    command += ["--quantization", quantization] if quantization else []
    command += ["--batching"] if batching else []
    # Its own session: Ctrl-C in one client's terminal must not end what others use.
    detached = (
        {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS}
        if os.name == "nt"
        else {"start_new_session": True}
    )
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, **detached
        )
    deadline = time.monotonic() + START_TIMEOUT_S
    while not info.exists():
        if process.poll() is not None:
            tail = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise ServerError(
                "The pocket server ended while starting. Its last words:\n" + "\n".join(tail)
            )
        if time.monotonic() > deadline:
            process.terminate()
            raise ServerError(
                f"The pocket server was not ready within {START_TIMEOUT_S:.0f} s. Is the machine "
                "short of memory (it needs about 1.5 GB)? `python -m helpers doctor` looks."
            )
        time.sleep(0.05)
