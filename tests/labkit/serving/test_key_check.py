"""The key that vLLM is given for other machines, on every path."""

import sys

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from labkit.serving import workarounds

KEY = "k" * 32


@pytest.fixture
def client(tmp_path, monkeypatch):
    """A small application behind the check, as vLLM imports it."""
    workarounds.write_key_check(tmp_path)
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    monkeypatch.syspath_prepend(tmp_path)
    module, _, name = workarounds.KEY_CHECK.partition(".")
    monkeypatch.delitem(sys.modules, module, raising=False)

    async def socket(connection):
        await connection.accept()
        await connection.close()

    async def answer(request):
        return PlainTextResponse("answered")

    paths = ["/health", "/invocations", "/v1/models", "/metrics", "/health/more"]
    routes = [Route(path, answer, methods=["GET", "POST"]) for path in paths]
    app = Starlette(routes=[*routes, WebSocketRoute("/v1/realtime", socket)])
    app.add_middleware(getattr(__import__(module), name))
    with TestClient(app) as client:
        yield client
    sys.modules.pop(module)


@pytest.mark.parametrize("path", ["/invocations", "/v1/models", "/metrics", "/health/more", "/"])
@pytest.mark.parametrize("given", [None, "", KEY, "Bearer", f"Bearer {KEY[1:]}", f"bearer  {KEY}"])
def test_without_the_key_nothing_answers(client, path, given):
    headers = {} if given is None else {"Authorization": given}
    reply = client.post(path, headers=headers)
    assert (reply.status_code, "answered" in reply.text) == (401, False)
    assert "key is missing or wrong" in reply.json()["error"]["message"]


def test_with_it_everything_does_and_health_always(client):
    for path in ("/invocations", "/v1/models", "/metrics"):
        assert client.post(path, headers={"Authorization": f"Bearer {KEY}"}).text == "answered"
    assert client.get("/health").text == "answered"


def test_a_web_socket_needs_it_too(client):
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/v1/realtime"):
        pass
    with client.websocket_connect("/v1/realtime", headers={"Authorization": f"Bearer {KEY}"}):
        pass
