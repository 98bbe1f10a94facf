"""What the Hub answers, and which error a user sees: a scripted hub on loopback."""

import json
import struct
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
        self.server.requests.append(self.path)
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
    server.requests = []
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
    ("model", "message", "next_step"),
    [
        ("no/model", "There is no model no/model", "hf auth login"),
        ("shut/model", "is gated", "https://huggingface.co/shut/model"),
        ("bare/model", "no config.json", "https://huggingface.co/bare/model"),
        ("ill/model", "not on this machine, and the Hub", "run this again"),
    ],
)
def test_what_the_hub_refuses_is_explained(hub, tmp_path, model, message, next_step):
    with pytest.raises(LoadError, match=message) as error:
        checkpoints.config_folder(model)
    assert next_step in str(error.value)
    assert hub.requests, "no request reached the hub"


def test_a_full_disk_is_noticed_before_anything_is_downloaded(hub, tmp_path):
    with pytest.raises(LoadError, match="Nothing was downloaded") as error:
        checkpoints.fetch("large/model")
    assert "1000000.0 GB" in str(error.value)  # one petabyte: the second copy is not counted
    assert not list(tmp_path.rglob("*.safetensors"))


class WholeHub(BaseHTTPRequestHandler):
    """A repository that can be downloaded.

    The connection of the files in `server.cut` breaks half-way the first time. The files in
    `server.down` are missing for now.
    """

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
            self.server.requests.append((name, start))
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
    """A hub with the tiny model in several shards, and a second copy of its weights."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "on the hub"
    AutoModelForCausalLM.from_pretrained(text_folder).save_pretrained(folder, max_shard_size="60KB")
    (folder / "tokenizer.json").write_bytes((text_folder / "tokenizer.json").read_bytes())
    (folder / "consolidated.safetensors").write_bytes(b"the same weights again")
    server = ThreadingHTTPServer(("127.0.0.1", 0), WholeHub)
    server.files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    server.requests, server.cut, server.down = [], set(), set()
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


def test_a_download_skips_the_second_copy_and_continues_after_a_lost_connection(whole_hub):
    cut = shards(whole_hub)[0]
    whole_hub.cut.add(cut)
    folder = checkpoints.fetch("whole/model")
    starts = [start for name, start in whole_hub.requests if name == cut]
    assert starts[0] == 0
    assert 0 < starts[1] <= len(whole_hub.files[cut]) // 2
    for name in shards(whole_hub):
        assert (folder / name).read_bytes() == whole_hub.files[name]
    assert not (folder / "consolidated.safetensors").exists()
    assert "consolidated.safetensors" not in {name for name, _ in whole_hub.requests}


def test_files_from_before_an_interruption_are_not_downloaded_again(whole_hub):
    *complete, last = shards(whole_hub)
    whole_hub.down.add(last)
    with pytest.raises(LoadError):
        checkpoints.fetch("whole/model")
    whole_hub.down.clear()
    whole_hub.requests.clear()
    checkpoints.fetch("whole/model")
    downloaded = {name for name, _ in whole_hub.requests}
    assert last in downloaded
    assert not downloaded & set(complete)


def test_without_a_network_the_error_names_the_pocket_model(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(LoadError, match='MODEL_ID = "pocket"'):
        checkpoints.config_folder("mistralai/Mistral-Small-3.2-24B-Instruct-2506")


@pytest.mark.parametrize("name", ["Mistral Small", "a/b/c", ""])
def test_a_name_that_is_no_model_id_is_explained(name, tmp_path):
    with pytest.raises(LoadError, match="neither a folder"):
        checkpoints.config_folder(name)


def test_a_folder_without_a_model_is_explained(tmp_path):
    with pytest.raises(LoadError, match=r"no config\.json"):
        loading.load_4bit(tmp_path)


def test_a_missing_shard_is_named(text_folder, tmp_path):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(text_folder)
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    (tmp_path / "tokenizer.json").write_bytes((text_folder / "tokenizer.json").read_bytes())
    checkpoints.check_complete(tmp_path)
    first = sorted(tmp_path.glob("model-*.safetensors"))[0]
    first.rename(tmp_path / "away")
    with pytest.raises(LoadError, match=first.name):
        loading.load_4bit(tmp_path)


BROKEN_FILES = {
    "truncated": lambda data: data[:-100],
    "truncated in its header": lambda data: data[:30],
    "too long": lambda data: data + b"more",
    "empty": lambda data: b"",
    "shorter than a header's length": lambda data: data[:5],
    "text": lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 9\n",
    "a header longer than the file": lambda data: struct.pack("<Q", len(data) + 1) + data[8:],
    "a header that is not JSON": lambda data: data[:8] + b"x" * (len(data) - 8),
    "zeros": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("case", BROKEN_FILES)
def test_a_broken_file_with_weights_is_named(text_folder, tmp_path, case):
    for path in text_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    checkpoints.check_complete(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(BROKEN_FILES[case](weights.read_bytes()))
    with pytest.raises(LoadError, match=r"model\.safetensors is broken: .*save it again"):
        checkpoints.check_complete(tmp_path)
    with pytest.raises(LoadError, match=r"model\.safetensors is broken"):
        checkpoints.quantized_in(tmp_path)


def test_a_config_of_an_unknown_model_is_explained(text_folder, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "mistral9"}')
    with pytest.raises(LoadError, match="not one that transformers"):
        loading.load_4bit(tmp_path)


INDEX = "model.safetensors.index.json"
BROKEN_JSON = {  # a file, its text, and what is said of it; a download can end with any text in it
    "config: a list": ("config.json", "[]", "not one that transformers"),
    "config: a word as size": (
        "config.json",
        '{"model_type": "mistral", "hidden_size": "x"}',
        "hidden_size",
    ),
    "config: a negative size": (
        "config.json",
        '{"model_type": "mistral", "hidden_size": -1}',
        "hidden_size is -1",
    ),
    "config: a word as quantization": (
        "config.json",
        '{"model_type": "mistral", "quantization_config": "nf4"}',
        "not one that transformers",
    ),
    "index: a list": (INDEX, "[]", f"{INDEX} is broken"),
    "index: null": (INDEX, '{"weight_map": {"a": null}}', "None is missing"),
    "index: cut off": (INDEX, '{"weight_map": {', f"{INDEX} is broken"),
    "list of files: null": (checkpoints.MANIFEST, '{"bytes": null}', "is broken"),
    "tokenizer: cut off": ("tokenizer.json", "{", "The tokenizer in .* cannot be read"),
}


@pytest.mark.parametrize("case", BROKEN_JSON)
def test_a_broken_json_file_is_named_before_the_weights_are_read(
    text_folder, tmp_path, monkeypatch, case
):
    name, text, says = BROKEN_JSON[case]
    for path in text_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).write_text(text)
    monkeypatch.setattr(loading, "_load", None)  # fails if it is reached
    with pytest.raises(LoadError, match=says):
        loading.load_4bit(tmp_path)


def test_a_folder_at_home(text_folder, monkeypatch):
    monkeypatch.setenv("HOME", str(text_folder.parent))
    assert loading.load_4bit(f"~/{text_folder.name}").placement
    with pytest.raises(LoadError, match=r"no config\.json"):
        loading.load_4bit("~no such user/model")
