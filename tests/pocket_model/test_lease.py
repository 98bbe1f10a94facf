"""One server for all clients, which ends soon after the last one has ended in any way."""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from helpers import connect
from helpers.paths import ROOT
from pocket_model import lease
from pocket_model.build import DEFAULT_QUANTIZATION, MANIFEST, model_folder

HOLD = """
import sys
from pocket_model import lease
held = lease.acquire()
print(held.pid, held.base_url, flush=True)
sys.stdin.read()
"""


def hold() -> tuple[subprocess.Popen, int]:
    """A process that holds a lease until it is killed, and its server's process id."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return process, int(process.stdout.readline().split()[0])


def seconds_until_gone(pid: int, limit: float = 20) -> float:
    start = time.monotonic()
    while psutil.pid_exists(pid) and time.monotonic() - start < limit:
        time.sleep(0.1)
    return time.monotonic() - start


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_the_server_outlives_a_killed_client_until_the_last(private_cache):
    first, server = hold()
    second, same = hold()
    assert server == same
    kill(first)
    time.sleep(8)  # longer than a server without leases lives
    third = lease.acquire()
    assert third.pid == server  # undisturbed
    third.close()
    kill(second)
    assert seconds_until_gone(server) < 10


def test_two_clients_at_once_start_one_server(private_cache):
    command = [sys.executable, "-c", HOLD]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    clients = [subprocess.Popen(command, **pipes) for _ in range(2)]
    servers = {client.stdout.readline() for client in clients}
    for client in clients:
        kill(client)
    assert len(servers) == 1
    assert "127.0.0.1" in servers.pop()


def test_old_files_are_removed_while_other_clients_write_theirs(tmp_path):
    old = tmp_path / "old.json"
    old.touch()
    os.utime(old, (0, 0))
    ended = threading.Event()

    def write_and_remove():
        while not ended.is_set():
            file = tmp_path / ".writable-1"
            file.touch()
            file.unlink()

    other = threading.Thread(target=write_and_remove)
    other.start()
    try:
        for _ in range(3000):
            lease._remove_old_files(tmp_path)
    finally:
        ended.set()
        other.join()
    assert not old.exists()


def test_a_stale_server_file_gives_no_lease(private_cache, monkeypatch):
    folder = private_cache / "servers"
    folder.mkdir()
    info = folder / f"{lease.server_version()}.json"
    for content in ('{"port": 9, "pid": 1}', "{", json.dumps({"pid": 1})):
        info.write_text(content)
        assert lease.hold(info) is None


def test_a_lease_outlasts_the_variable_that_held_it(private_cache):
    client = connect("pocket").client  # the lab itself is gone at once
    gc.collect()
    time.sleep(8)  # longer than a server without leases lives
    assert [model.id for model in client.models.list()]
    for held in list(lease.held):
        if held.base_url == str(client.base_url).rstrip("/"):
            held.close()


def test_each_quantization_and_batching_has_a_server_of_its_own(private_cache):
    kinds = [("int8", False), ("int8", True), ("bf16", False)]
    leases = [lease.acquire(*kind) for kind in kinds]
    again = [lease.acquire(*kind) for kind in kinds]
    try:
        pids = [held.pid for held in leases]
        assert len(set(pids)) == 3
        assert [held.pid for held in again] == pids
        for (quantization, batching), pid in zip(kinds, pids, strict=True):
            command = psutil.Process(pid).cmdline()
            assert command[command.index("--quantization") + 1] == quantization
            assert ("--batching" in command) == batching
        default = lease.acquire()
        again.append(default)
        assert default.pid == pids[kinds.index((DEFAULT_QUANTIZATION, False))]
    finally:
        for held in [*leases, *again]:
            held.close()
    version = lease.server_version()
    assert {file.stem for file in (private_cache / "servers").glob("*.json")} == {
        f"{version}-int8",
        f"{version}-int8-batching",
        f"{version}-bf16",
    }


def test_another_server_at_the_port_gives_no_lease(private_cache):
    held = lease.acquire()
    port = int(held.base_url.split(":")[2].split("/")[0])
    info = private_cache / "servers" / "other.json"
    info.write_text(json.dumps({"port": port, "pid": held.pid + 1}))
    assert lease.hold(info) is None
    held.close()


def test_a_server_that_ends_while_starting_leaves_its_last_lines(private_cache, monkeypatch):
    # A simulated fault: a model folder without a model in it, which a list of files calls complete.
    (private_cache / "pocket").unlink()
    model_folder().mkdir(parents=True)
    (model_folder() / MANIFEST).write_text("{}")
    with pytest.raises(lease.ServerError, match="ended while starting"):
        lease.acquire()


# --- the server's version ----------------------------------------------------------------------


@pytest.fixture
def kit(tmp_path, monkeypatch):
    """A copy of what the server's version may depend on, and of what it must not."""
    for part in ("pocket_model", "pocket_training", "data/pocket/words"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, tmp_path / part, ignore=ignored)
    monkeypatch.setattr(lease, "PACKAGE", tmp_path / "pocket_model")
    return tmp_path


def test_any_change_to_the_package_is_another_version(kit):
    versions = {lease.server_version()}
    files = sorted((kit / "pocket_model").rglob("*.py"))
    assert kit / "pocket_model" / "server" / "app.py" in files
    for file in files:
        file.write_text(file.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
        versions.add(lease.server_version())
    assert len(versions) == 1 + len(files)


def test_the_recipe_and_its_words_do_not_change_the_version(kit):
    before = lease.server_version()
    others = [*(kit / "pocket_training").glob("*.py"), *(kit / "data/pocket/words").iterdir()]
    assert others
    for file in others:
        file.write_bytes(file.read_bytes() + b"# changed\n")
    (kit / "pocket_training" / "new.py").touch()
    assert lease.server_version() == before


def test_a_client_imports_nothing_heavy():
    heavy = {"torch", "transformers", "mistral_common", "starlette", "uvicorn", "openai"}
    code = f"import sys, pocket_model.lease; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "[]\n", result.stderr
