"""What the Hub answers, and what a reader is told: a scripted hub on loopback."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest

from helpers.model import checkpoints, loading
from helpers.model.checkpoints import LoadError

ANSWERS = {
    "no/model": (401, "RepoNotFound"),
    "shut/model": (403, "GatedRepo"),
    "bare/model": (404, "EntryNotFound"),
    "ill/model": (403, None),
}
SIZE = 10**15  # a petabyte: no disk has it


class ScriptedHub(BaseHTTPRequestHandler):
    """Answers as the Hub does, by its documented error header."""

    def do_GET(self):
        self.server.asked.append(self.path)
        for name, (status, code) in ANSWERS.items():
            if name in self.path:
                self._send(status, {"X-Error-Code": code} if code else {})
                return
        if "/revision/" in self.path:
            self._send(200, {}, json.dumps({"id": "large/model", "sha": "f" * 40}).encode())
            return
        if "/tree/" in self.path:
            files = [{"type": "file", "oid": "a" * 40, "path": "config.json", "size": 3}]
            for name in ("model-00001-of-00001.safetensors", "consolidated.safetensors"):
                large = {"oid": "c" * 64, "size": SIZE, "pointerSize": 134}
                files.append(
                    {"type": "file", "oid": "b" * 40, "path": name, "size": SIZE, "lfs": large}
                )
            self._send(200, {}, json.dumps(files).encode())
            return
        size = SIZE if "safetensors" in self.path else 3
        self._send(200, {"X-Repo-Commit": "f" * 40, "X-Linked-Size": f"{size}", "ETag": '"x"'})

    do_HEAD = do_GET

    def _send(self, status, headers, body=b""):
        self.send_response(status)
        for name, value in {"Content-Length": f"{len(body)}", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), ScriptedHub)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("model", "says", "next_step"),
    [
        ("no/model", "There is no model no/model", "hf auth login"),
        ("shut/model", "is gated", "https://huggingface.co/shut/model"),
        ("bare/model", "no config.json", "https://huggingface.co/bare/model"),
        ("ill/model", "not on this machine, and the Hub", "run this again"),
    ],
)
def test_what_the_hub_refuses_is_explained(hub, tmp_path, model, says, next_step):
    with pytest.raises(LoadError, match=says) as error:
        checkpoints.config_folder(model)
    assert next_step in str(error.value)
    assert hub.asked, "it asked nobody"


def test_a_disk_too_small_is_said_before_anything_is_fetched(hub, tmp_path):
    with pytest.raises(LoadError, match="Nothing was fetched") as error:
        checkpoints.fetch("large/model")
    assert "1000000.0 GB" in str(error.value)  # one petabyte: the second copy is not counted
    assert not list(tmp_path.rglob("*.safetensors"))


class WholeHub(BaseHTTPRequestHandler):
    """A repository that can be fetched. ``server.cut`` names files whose connection is cut half-way
    the first time; ``server.down`` names files that are not to be had for now."""

    def do_GET(self):
        files, name = self.server.files, self.path.rpartition("/")[2]
        if "/revision/" in self.path:
            self._send(200, {}, json.dumps({"id": "whole/model", "sha": "f" * 40}).encode())
        elif "/tree/" in self.path:
            listed = [
                {"type": "file", "oid": f"{i:040x}", "path": path, "size": len(data)}
                for i, (path, data) in enumerate(files.items())
            ]
            self._send(200, {}, json.dumps(listed).encode())
        elif name in self.server.down and self.command == "GET":
            self._send(404, {"X-Error-Code": "EntryNotFound"})
        elif name in files:
            self._file(name, files[name])
        else:
            self._send(404, {})

    do_HEAD = do_GET

    def _file(self, name, data):
        start = int((self.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
        if self.command == "GET":
            self.server.asked.append((name, start))
        status = 206 if start else 200
        headers = {"X-Repo-Commit": "f" * 40, "ETag": f'"{name}"', "X-Linked-Size": f"{len(data)}"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        rest = data[start:]
        if name in self.server.cut and self.command == "GET":
            self.server.cut.remove(name)
            self._send(status, headers, rest, of=len(rest) // 2)
            self.connection.close()
            return
        self._send(status, headers, rest)

    def _send(self, status, headers, body=b"", of=None):
        self.send_response(status)
        for name, value in {"Content-Length": f"{len(body)}", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:of])
            self.wfile.flush()

    def log_message(self, *_):
        pass


@pytest.fixture
def whole_hub(monkeypatch, tmp_path, text_folder):
    """A hub that has the tiny model in several shards, and a second copy of its weights."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "on the hub"
    AutoModelForCausalLM.from_pretrained(text_folder).save_pretrained(folder, max_shard_size="60KB")
    (folder / "tokenizer.json").write_bytes((text_folder / "tokenizer.json").read_bytes())
    (folder / "consolidated.safetensors").write_bytes(b"the same weights again")
    server = ThreadingHTTPServer(("127.0.0.1", 0), WholeHub)
    server.files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    server.asked, server.cut, server.down = [], set(), set()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # 10 MB, of files much larger
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    server.server_close()


def shards(hub) -> list[str]:
    return [name for name in hub.files if name.startswith("model-")]


def test_a_download_leaves_the_second_copy_and_goes_on_where_it_was_cut(whole_hub):
    cut = shards(whole_hub)[0]
    whole_hub.cut.add(cut)
    folder = checkpoints.fetch("whole/model")
    starts = [start for name, start in whole_hub.asked if name == cut]
    assert starts[0] == 0
    assert 0 < starts[1] <= len(whole_hub.files[cut]) // 2
    for name in shards(whole_hub):
        assert (folder / name).read_bytes() == whole_hub.files[name]
    assert not (folder / "consolidated.safetensors").exists()
    assert "consolidated.safetensors" not in {name for name, _ in whole_hub.asked}


def test_what_arrived_before_an_interruption_is_not_fetched_again(whole_hub):
    *arrived, last = shards(whole_hub)
    whole_hub.down.add(last)
    with pytest.raises(LoadError):
        checkpoints.fetch("whole/model")
    whole_hub.down.clear()
    whole_hub.asked.clear()
    checkpoints.fetch("whole/model")
    again = {name for name, _ in whole_hub.asked}
    assert last in again
    assert not again & set(arrived)


def test_without_a_network_the_way_out_is_named(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(LoadError, match='MODEL_ID = "pocket"'):
        checkpoints.config_folder("mistralai/Mistral-Small-3.2-24B-Instruct-2506")


@pytest.mark.parametrize("name", ["Mistral Small", "a/b/c", ""])
def test_what_is_no_id_is_said(name, tmp_path):
    with pytest.raises(LoadError, match="neither a folder"):
        checkpoints.config_folder(name)


def test_a_folder_without_a_model_is_said(tmp_path):
    with pytest.raises(LoadError, match=r"no config\.json"):
        loading.load_4bit(tmp_path)


def test_a_missing_shard_is_named(text_folder, tmp_path):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(text_folder)
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    (tmp_path / "tokenizer.json").write_bytes((text_folder / "tokenizer.json").read_bytes())
    checkpoints.check_whole(tmp_path)
    first = sorted(tmp_path.glob("model-*.safetensors"))[0]
    first.rename(tmp_path / "away")
    with pytest.raises(LoadError, match=first.name):
        loading.load_4bit(tmp_path)


def test_a_config_of_an_unknown_model_is_said(text_folder, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "mistral9"}')
    with pytest.raises(LoadError, match="not one that transformers"):
        loading.load_4bit(tmp_path)
