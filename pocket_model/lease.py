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

from pocket_model import build
from pocket_model.cache import cache_dir

START_TIMEOUT_S = 120.0


class ServerError(RuntimeError):
    """The pocket server could not be started; the message says why and what to do."""


@dataclass(eq=False)
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
        if self in _held:
            _held.remove(self)


# A lease must outlast its owner's variable: `connect("pocket").client` alone keeps the server.
_held: list[Lease] = []


def acquire(quantization: str | None = None, batching: bool = False) -> Lease:
    """Find a running pocket server of this kind or start one, and hold it.

    Raises `build.BuildError` without a model and `ServerError` when no server comes up.
    """
    build.ensure_built()
    folder = cache_dir() / "servers"
    folder.mkdir(exist_ok=True)
    _prune(folder)
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
    _held.append(lease)
    return lease


def _prune(folder: Path) -> None:
    """Remove what servers of older code left, a week after their last start."""
    for file in folder.iterdir():
        if time.time() - file.stat().st_mtime > 7 * 86400:
            file.unlink(missing_ok=True)


def _version() -> str:
    """A name for the model and the server's code: a server of older code is not reused."""
    digest = hashlib.sha256(str(build.model_folder()).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


def _hold(info: Path) -> Lease | None:
    """A lease on the server that the file describes; None when that server is not there."""
    try:
        server = json.loads(info.read_text())
        port, pid = server["port"], server["pid"]
    except (OSError, ValueError, KeyError):
        return None
    # A busy machine may answer late, and that is no reason to start a second server.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/lease")
        response = connection.getresponse()
        # The process id tells this server from another that has its port by now.
        if response.status == 200 and response.readline() == f"held {pid}\n".encode():
            return Lease(f"http://127.0.0.1:{port}/v1", pid, response, connection)
    except (OSError, http.client.HTTPException):
        pass
    connection.close()
    return None


def _start(info: Path, log: Path, quantization: str | None, batching: bool) -> None:
    info.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pocket_model", "serve", "--leased", "--info", str(info)]
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
