"""What `connect` says of a wrong address, key or model: what happened, and what to do."""

import json
import socket
import ssl
import sys
import threading
from types import ModuleType

import httpx2
import openai
import pytest

from helpers import BackendError, connect
from helpers.connection.no_answer import explain_no_answer

MODELS = '{"data": [{"id": "m"}]}'
PAGE = "<!DOCTYPE html><html><head><title>Welcome to the tunnel</title></head></html>"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    for name in ("CUSTOM_BASE_URL", "CUSTOM_MODEL", "CUSTOM_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def refusal(*arguments, **settings) -> str:
    with pytest.raises(BackendError) as error:
        connect(*arguments, **settings)
    return str(error.value)


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("localhost:8001/v1", "Is http://localhost:8001/v1 meant?"),
        ("192.168.1.20:8001/v1/", "Is http://192.168.1.20:8001/v1 meant?"),
        ("htp://h:1/v1", "Is http://h:1/v1 meant?"),
        ("CUSTOM_BASE_URL=http://h:1/v1", "Is http://h:1/v1 meant?"),
        ("export CUSTOM_BASE_URL='https://h/v1'", "Is https://h/v1 meant?"),
    ],
)
def test_an_address_without_its_beginning_is_corrected(value, meant, monkeypatch):
    monkeypatch.setenv("CUSTOM_BASE_URL", value)
    assert refusal("custom").startswith("CUSTOM_BASE_URL must begin with http:// or https://")
    assert refusal("custom").endswith(meant)


@pytest.mark.parametrize(
    "value",
    [
        "canary-of-a-key",
        "export CUSTOM_BASE_URL='http://h:1/v1' CUSTOM_API_KEY='canary-of-a-key'",
        "http://127.0.0.1:9/v1 canary-of-a-key",
        "http://127.0.0.1:9/v1?key=canary-of-a-key",
        "http://me:canary-of-a-key@127.0.0.1:9/v1",
    ],
)
def test_a_key_in_the_place_of_the_address_is_not_shown(value, monkeypatch):
    monkeypatch.setenv("CUSTOM_BASE_URL", value)
    words = refusal("custom")
    assert words.startswith("CUSTOM_BASE_URL ")
    assert "canary" not in words


def test_an_address_is_a_backend(json_server):
    json_server.answer = MODELS
    lab = connect(json_server.url)
    assert (lab.backend, lab.model) == ("custom", "m")
    assert "must begin with http://" in refusal("localhost:8001/v1")


def test_nothing_set_is_named_without_a_circle():
    words = refusal("custom")
    assert "Set the environment variable CUSTOM_BASE_URL" in words
    assert 'BACKEND = "http://' in words
    assert "connect(" not in words


def test_a_missing_v1_is_found(json_server):
    json_server.paths["/v1/models"] = MODELS
    address = json_server.url.removesuffix("/v1")
    for given in (address, f"{address}/"):
        assert refusal(given).endswith(f"Use {json_server.url} as the address.")
    json_server.paths["/v1/models"] = "{}"
    assert "usually ends in /v1" in refusal(address)


def test_a_server_that_speaks_http_only_or_https_only(json_server):
    words = refusal(json_server.url.replace("http", "https"))
    assert f"does not speak https. Use {json_server.url} instead." in words
    with socket.create_server(("127.0.0.1", 0)) as listener:  # as a TLS server: it hangs up
        threading.Thread(target=lambda: listener.accept()[0].close(), daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        words = refusal(url)
    assert "closed the connection" in words
    assert url.replace("http", "https") in words


def test_an_address_that_sends_requests_on(json_server):
    json_server.paths["/v1/models"] = MODELS
    other = json_server.url.replace("127.0.0.1", "localhost")
    json_server.moved_to = f"{other}/models"
    assert f"sends every request on to {other}. Use that" in refusal(f"{json_server.url}/old")


@pytest.mark.parametrize("status", [200, 404, 502])
def test_a_web_page_is_called_so(json_server, status):
    json_server.status, json_server.answer, json_server.chat = status, PAGE, (status, PAGE)
    words = refusal(json_server.url, model="m")
    assert f'answers with a web page "Welcome to the tunnel" (status {status})' in words
    assert "is it still running" in words


def test_a_page_that_asks_for_a_login(json_server):
    json_server.status, json_server.answer = 403, PAGE
    assert "refuses the request with a web page (status 403)" in refusal(json_server.url)


def test_a_refusal_of_another_kind_is_quoted(json_server):
    json_server.status = 403
    json_server.answer = '{"error": {"message": "Host: h: start it with --public-host h"}}'
    assert 'refuses the request: "Host: h: start it with' in refusal(json_server.url)


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_and_a_missing_one(json_server, monkeypatch, status):
    json_server.status = status
    words = refusal(json_server.url)
    assert "needs a key, and CUSTOM_API_KEY is not set. Set the environment variable" in words
    monkeypatch.setenv("CUSTOM_API_KEY", "canary-of-a-key")
    words = refusal(json_server.url)
    assert "refuses the key in the environment variable CUSTOM_API_KEY" in words
    assert "canary" not in words


def test_the_only_model_is_taken_and_of_several_none(json_server, monkeypatch):
    json_server.answer = MODELS
    assert connect(json_server.url).model == "m"
    assert refusal(json_server.url, model="n").startswith(
        f"The server at {json_server.url} does not have 'n'. It has: m. Choose one with CUSTOM_"
    )
    json_server.answer = json.dumps({"data": [{"id": "a"}, {"id": "b"}]})
    assert "has several models: a, b. Choose one with CUSTOM_MODEL" in refusal(json_server.url)
    json_server.answer, json_server.chat = "{}", (400, '{"error": {}}')
    assert "does not list its models. Name the model." in refusal(json_server.url)
    monkeypatch.setenv("CUSTOM_MODEL", "b")
    with pytest.warns(UserWarning, match="not checked"):
        assert connect(json_server.url).model == "b"


def test_a_room_of_the_pocket_model_supports_what_the_pocket_model_does(json_server):
    entry = {"id": "pocket-small", "owned_by": "embedded"}
    json_server.answer = json.dumps({"data": [entry]})
    lab = connect(json_server.url)
    assert {"tools", "vision", "structured_output"} <= lab.supports
    json_server.answer = json.dumps({"data": [entry | {"owned_by": "vllm"}]})
    assert connect(json_server.url).supports == {"stream", "usage"}


@pytest.fixture
def on_colab(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))


def test_the_port_is_wrong():
    words = refusal("http://127.0.0.1:9/v1")
    assert "nothing listens on port 9 there" in words
    assert "127.0.0.1 is this machine itself; a server on another machine" in words


def test_localhost_on_colab_is_colab(on_colab):
    assert "localhost is the Colab machine itself, not your computer" in refusal(
        "http://localhost:9/v1"
    )


def explained(url: str, cause: Exception) -> str:
    error = openai.APIConnectionError(request=httpx2.Request("GET", url))
    error.__cause__ = cause
    return explain_no_answer(httpx2.URL(url), error, "start it")


NO_NAME = socket.gaierror(-2, "Name or service not known")
REFUSED = ConnectionRefusedError(111, "Connection refused")
SELF_SIGNED = ssl.SSLCertVerificationError("verify failed: self-signed certificate (_ssl.c:1006)")


@pytest.mark.parametrize(
    ("url", "cause", "says"),
    [
        ("https://a.example/v1", NO_NAME, "the name a.example is not known.*tunnel gets a new"),
        ("https://a.example/v1", REFUSED, "nothing listens on port 443 there.*own machine only"),
        ("http://a.example/v1", httpx2.ConnectTimeout(""), "not accepted in time.*firewall"),
        ("http://a.example/v1", httpx2.ReadTimeout(""), "sent nothing.*busy"),
        ("https://a.example/v1", SELF_SIGNED, "self-signed certificate\\. Use the name"),
        ("http://a.example/v1", httpx2.RemoteProtocolError(""), "try https://a.example/v1"),
        ("http://a.example/v1", OSError(113, "No route to host"), "No route to host.*network"),
    ],
)
def test_why_nobody_answers(url, cause, says):
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(explained(url, cause))


def test_a_local_networks_address_is_out_of_colabs_reach(on_colab):
    words = explained("http://192.168.1.20:8001/v1", httpx2.ConnectTimeout(""))
    assert "192.168.1.20 is an address of a local network, which Colab cannot reach" in words
