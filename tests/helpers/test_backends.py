"""`connect`: what it returns, and what it says when it cannot."""

import dataclasses
import http.server
import subprocess
import sys
import threading
from types import SimpleNamespace

import openai
import pytest
from loopback_proxy import proxy

from helpers import BackendError, backends, connect

CANARY = "sk-or-v1-canary0000000000"


@pytest.fixture
def json_server():
    """A web server on loopback that answers every request with the text put in `.answer`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.server.answer.encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answer = "{}"
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def test_the_pocket_lab_is_a_plain_openai_client(lab):
    assert type(lab.client).__module__.startswith("openai")
    assert lab.model == "pocket-small"
    assert lab.supports >= {"stream", "stop", "seed", "usage", "errors", "parallel"}
    assert lab.supports >= {"tools", "tool_choice", "vision", "structured_output"}
    assert "proven" in lab.supports_source
    before = lab.usage()
    lab.client.chat.completions.create(
        model=lab.model, messages=[{"role": "user", "content": "Hi"}], max_tokens=2
    )
    # Not "equal": other clients of the shared server count too.
    assert lab.usage()["completion_tokens"] >= before["completion_tokens"] + 2


def test_usage_is_asked_for_directly_and_never_through_a_proxy(lab):
    with proxy(forwards=False) as seen:
        assert lab.usage()["completion_tokens"] >= 0
    assert seen == []


def test_usage_that_is_not_json_is_unknown(json_server):
    json_server.answer = "<html>hello</html>"
    with openai.OpenAI(base_url=json_server.url, api_key="x") as client:
        held = SimpleNamespace(base_url=json_server.url)
        assert backends.Lab("pocket", client, "m", frozenset(), "", held).usage() is None


def test_servers_on_this_machine_are_reached_in_spite_of_a_proxy(json_server, monkeypatch):
    json_server.answer = '{"object": "list", "data": [{"id": "m", "object": "model"}]}'
    with proxy(forwards=False) as seen:
        lab = connect("vllm", base_url=json_server.url, model="m")
        assert [entry.id for entry in lab.client.models.list()] == ["m"]
        row = dataclasses.replace(backends.BACKENDS["vllm"], base_url=json_server.url, model="m")
        monkeypatch.setitem(backends.BACKENDS, "vllm", row)
        assert backends.readiness("vllm") is None
        assert seen == []
        with pytest.raises(BackendError, match="not as an OpenAI-compatible server"):
            connect("vllm", base_url="http://models.example/v1", model="m")
    assert seen == ["GET http://models.example/v1/models"]


def test_connecting_imports_no_model_and_no_web_server():
    """Notebooks begin with this import, so it must be quick."""
    heavy = ("torch", "transformers", "fastapi", "starlette", "uvicorn", "pandas")
    script = (
        "import sys; from helpers import connect; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(BackendError, match=r"openrouter.*vllm"):
        connect("nonsense")


@pytest.mark.parametrize("name", [n for n, row in backends.BACKENDS.items() if row.paid])
def test_a_missing_key_names_its_variable_and_where_to_get_one(name, monkeypatch):
    row = backends.BACKENDS[name]
    monkeypatch.delenv(row.key_variable, raising=False)
    with pytest.raises(BackendError, match=f"{row.key_variable}.*https://"):
        connect(name)


@pytest.mark.parametrize("key", ["sk-or v1", "sk-or\nv1", "sk-\x07or", "schlüssel"])
def test_a_key_that_was_not_copied_whole_is_refused_and_not_shown(key, monkeypatch):
    monkeypatch.setenv("OPENROUTER_API_KEY", key)
    with pytest.raises(BackendError) as error:
        connect("openrouter")
    assert key not in str(error.value)


def test_no_repr_shows_a_key(monkeypatch):
    monkeypatch.setenv("OPENROUTER_API_KEY", CANARY)
    lab = connect("openrouter")
    for thing in (lab, lab.client, vars(lab), backends.table(), backends.BACKENDS):
        assert CANARY not in repr(thing)
    assert lab.client.api_key == CANARY
    assert "not proven" in lab.supports_source


@pytest.mark.parametrize("name", ["vllm", "ollama"])
def test_a_dead_server_names_the_command_that_starts_it(name):
    with pytest.raises(BackendError, match=f"No server answers.*{name}"):
        connect(name, base_url="http://127.0.0.1:9/v1")


def test_a_server_that_is_something_else(json_server):
    json_server.answer = "<html>hello</html>"
    with pytest.raises(BackendError, match="not as an OpenAI-compatible server"):
        connect("vllm", base_url=json_server.url)


def test_a_server_without_the_model_lists_what_it_has(json_server):
    json_server.answer = '{"object": "list", "data": [{"id": "other", "object": "model"}]}'
    with pytest.raises(BackendError, match="It has: other"):
        connect("vllm", base_url=json_server.url)
    assert connect("vllm", base_url=json_server.url, model="other").model == "other"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"backend": "custom"}, "address and a model"),
        ({"backend": "custom", "base_url": "localhost:1", "model": "m"}, "http://"),
        ({"backend": "custom", "base_url": "http://localhost:v1", "model": "m"}, "port"),
        ({"backend": "pocket", "model": "gpt"}, "one model"),
        ({"backend": "pocket", "quantization": "int3"}, "nf4"),
        ({"backend": "vllm", "batching": True}, "pocket server"),
    ],
)
def test_arguments_that_do_not_fit(arguments, says):
    with pytest.raises(BackendError, match=says):
        connect(**arguments)


def test_a_custom_backend_reaches_the_pocket_server(lab):
    other = connect("custom", base_url=str(lab.client.base_url), model=lab.model)
    reply = other.client.chat.completions.create(
        model=other.model, messages=[{"role": "user", "content": "Hi"}], max_tokens=1
    )
    assert reply.usage.completion_tokens == 1
