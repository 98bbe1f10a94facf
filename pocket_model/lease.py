"""One pocket server for all clients of this machine.

A client finds a running server or starts one, and holds it by a lease. The server ends after its
last lease. Every client imports this module, so it imports no torch, starlette or openai.
"""

import contextlib
import hashlib
import http.client
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from pocket_model import build
from pocket_model.build import DEFAULT_QUANTIZATION, Quantization
from pocket_model.cache import cache_dir, locked
from pocket_model.progress import Progress

START_TIMEOUT_S = 120.0
QUIET_S = 2.0  # a server that starts sooner needs no sentence
PACKAGE = Path(__file__).parent


class ServerError(RuntimeError):
    """The pocket server could not be started; the message says why and what to do."""


@dataclass(eq=False)
class Lease:
    """A held pocket server, until `close` or the end of this process.

    Attributes:
        base_url: with /v1.
        pid: the server's process id.
    """

    base_url: str
    pid: int
    _response: http.client.HTTPResponse
    _connection: http.client.HTTPConnection

    def close(self) -> None:
        """Release the server; it ends a few seconds after its last lease."""
        self._response.close()
        self._connection.close()
        if self in held:
            held.remove(self)


# The leases of this process. A lease must outlast its variable: a client that was taken from
# `connect("pocket").client` needs the server when the `Lab` is gone.
held: list[Lease] = []


def acquire(quantization: Quantization = DEFAULT_QUANTIZATION, batching: bool = False) -> Lease:
    """Find a running pocket server of this kind or start one, and hold it.

    Args:
        quantization: how the server holds the weights.
        batching: continuous batching instead of one request at a time.

    Raises:
        BuildError: the model is not built and cannot be built.
        CacheError: the cache folder cannot be used.
        ServerError: no server could be started.
    """
    build.ensure_built()
    folder = cache_dir("servers")
    _remove_old_files(folder)
    name = "-".join([server_version(), quantization, *["batching"] * batching])
    info = folder / f"{name}.json"
    # Under the lock, so that two clients at once start one server only.
    with locked(folder / f"{name}.lock"):
        lease = hold(info)
        if lease is None:
            _start(info, folder / f"{name}.log", quantization, batching)
            lease = hold(info)
    if lease is None:
        raise ServerError("The pocket server started and ended at once. Try again.")
    held.append(lease)
    return lease


def server_version() -> str:
    """A hash of the model's folder name and this package's code.

    A server of other code is not reused.
    """
    digest = hashlib.sha256(str(build.model_folder()).encode())
    for source in sorted(PACKAGE.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


def hold(info: Path) -> Lease | None:
    """A lease on the server that the file `info` describes; None if that server is gone."""
    try:
        server = json.loads(info.read_text())
        port, pid = server["port"], server["pid"]
    except (OSError, ValueError, KeyError):
        return None
    # A long timeout: a busy machine may answer late, which is no reason for a second server.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/lease")
        response = connection.getresponse()
        # The process id shows whether another server has this port now.
        if response.status == 200 and response.readline() == f"held {pid}\n".encode():
            return Lease(f"http://127.0.0.1:{port}/v1", pid, response, connection)
    except (OSError, http.client.HTTPException):
        pass
    connection.close()
    return None


def _remove_old_files(folder: Path) -> None:
    """Remove the files of servers that started more than a week ago."""
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # other clients' files come and go meanwhile
            if time.time() - file.stat().st_mtime > 7 * 86400:
                file.unlink()


def _start(info: Path, log: Path, quantization: Quantization, batching: bool) -> None:
    """Start a server and wait until it has written `info`. Raises `ServerError`."""
    info.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pocket_model", "serve", "--leased", "--info", str(info)]
    command += ["--quantization", quantization, *["--batching"] * batching]
    with log.open("wb") as sink:
        # Ctrl-C in one client's terminal must not end the server for the others.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, **build.OWN_SESSION
        )
    progress = Progress("Starting the small model's server", quiet_s=QUIET_S, lines=False)
    try:
        _wait_for_start(process, info, log, progress)
    finally:
        progress.end("The small model's server has started." if info.exists() else "")


def _wait_for_start(process: subprocess.Popen, info: Path, log: Path, progress: Progress) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not info.exists():
        if process.poll() is not None:
            tail = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise ServerError(
                "The pocket server ended while starting. Its last lines:\n" + "\n".join(tail)
            )
        if time.monotonic() > deadline:
            process.terminate()
            raise ServerError(
                f"The pocket server was not ready within {START_TIMEOUT_S:.0f} s. It needs about "
                "1.5 GB of memory; `python -m helpers doctor` shows how much is free."
            )
        progress.refresh()
        time.sleep(0.05)
