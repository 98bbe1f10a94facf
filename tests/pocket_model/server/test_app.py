"""Paths, methods and content types of the pocket server, with a service that has no model."""

import asyncio
import json
import socket
import threading
import time

import httpx2
import openai
import pytest

from pocket_model import loopback
from pocket_model.build import MODEL_ID
from pocket_model.reply import TextPiece
from pocket_model.server.app import Leases, create_app
from pocket_model.server.events import Failed
from pocket_model.server.service import Finished

BODY = {"model": MODEL_ID, "messages": [{"role": "user", "content": "Hi"}]}
JSON = {"Content-Type": "application/json"}


class Service:
    """Answers "yes"; fails if the seed is 1 (the request's fault) or 2 (the server's).

    With another seed it waits for `go` before its first token.
    """

    go = threading.Event()

    context, weight_bytes, token_bytes = 100, 7000, 30
    usage = {"prompt_tokens": 0, "completion_tokens": 0}  # noqa: RUF012

    def to_engine_request(self, body):
        return body

    async def stream_reply(self, request, stops, prefix="", count_tokens=False):
        if request.seed == 3:
            while not self.go.is_set():
                await asyncio.sleep(0.01)
        elif request.seed:
            yield Failed("it failed", 400 if request.seed == 1 else 500)
            return
        yield TextPiece("yes")
        yield Finished("stop", {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2})


@pytest.fixture(scope="module")
def leases():
    return Leases()


@pytest.fixture(scope="module")
def url(leases):
    listener = socket.create_server(("127.0.0.1", 0))
    server = loopback.create_server(create_app(Service(), leases), "critical")
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def client(url):
    http_client = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(base_url=f"{url}/v1", api_key="any", http_client=http_client)


def test_a_model_is_found_by_its_name(client):
    # The openai package: `client.models.retrieve`.
    found = client.models.retrieve(MODEL_ID)
    assert found == client.models.list().data[0]
    assert (found.max_model_len, found.weight_bytes, found.token_bytes) == (100, 7000, 30)


@pytest.mark.parametrize("name", ["gpt-4o", "mistralai/mistral-small", "x" * 10000])
def test_a_model_that_is_not_there_is_a_404_with_the_name_of_the_one_that_is(client, name):
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve(name)
    assert error.value.code == "model_not_found"
    assert error.value.param == "model"
    assert MODEL_ID in error.value.body["message"]
    assert name[:20] in error.value.body["message"]
    assert len(error.value.body["message"]) < 300


def test_the_role_comes_with_the_first_token(url):
    """Load generators take the first event's time for the first token's."""
    body = BODY | {"stream": True, "seed": 3}
    Service.go.clear()
    with httpx2.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=20) as reply:
        assert reply.status_code == 200
        threading.Timer(0.3, Service.go.set).start()
        lines = reply.iter_lines()
        first = next(lines)
        assert Service.go.is_set()
        assert json.loads(first[6:])["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert any('"yes"' in line for line in lines)


def test_an_error_before_the_first_token_is_the_streams_only_event(url):
    body = BODY | {"stream": True, "seed": 1}
    reply = httpx2.post(f"{url}/v1/chat/completions", json=body)
    error, done, _ = reply.text.split("\n\n")
    assert json.loads(error[6:])["error"]["message"] == "it failed"
    assert done == "data: [DONE]"


def test_health_is_asked_by_load_generators(url):
    assert httpx2.get(f"{url}/health").status_code == 200


def test_a_server_that_ends_is_not_healthy_and_gives_no_lease(url, leases, monkeypatch):
    monkeypatch.setattr(leases, "closed", True)
    for path in ("health", "lease"):
        reply = httpx2.get(f"{url}/{path}")
        assert reply.status_code == 503
        assert reply.json()["error"]["code"] == "ending"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/", "//v1/models", "/health"])
def test_head_is_get_without_the_body(url, path):
    # RFC 9110, 9.3.2
    reply = httpx2.head(url + path)
    assert reply.status_code == 200
    assert reply.content == b""
    assert reply.headers["content-length"] == httpx2.get(url + path).headers["content-length"]


# Base URLs that people set, and APIs that clients choose without being asked.
@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/", "/v1."),
        ("/chat/completions", "/v1."),
        ("/models", "/v1."),
        ("/v1/v1/chat/completions", "/v1."),
        ("/v1/chat/completions/chat/completions", "/v1."),
        ("/v1/responses", "chat completions instead of the Responses API"),
        ("/responses", "chat completions instead of the Responses API"),
        ("/v1/responses/resp_1", "chat completions instead of the Responses API"),
        ("/v1/completions", "no completion of plain text"),
        ("/v1/embeddings", "this one has none"),
        ("/v1/messages", "instead of Anthropic's"),
        ("/api/chat", "instead of Ollama's"),
        ("/api/tags", "instead of Ollama's"),
        ("/v1/audio/speech", "/v1."),
        ("/" + "x" * 5000, "/v1."),
        ("/%ff%00%0d%0a", "/v1."),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_404_says_what_is_there_and_which_setting_helps(url, method, path, says):
    reply = httpx2.request(method, url + path, json=BODY)
    assert reply.status_code == 404
    error = reply.json()["error"]
    assert error["message"].startswith(f"{method} {path}"[: len(method) + 2])
    assert f"{url}/v1." in error["message"]
    assert "POST /v1/chat/completions" in error["message"]
    assert says in error["message"]
    assert len(error["message"]) < 500
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("GET", "/v1/chat/completions/", "POST"),
        ("PUT", "/v1/chat/completions", "POST"),
        ("OPTIONS", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET"),
        ("DELETE", f"/v1/models/{MODEL_ID}", "GET"),
        ("POST", "/health", "GET"),
        ("BREW", "/v1/models", "GET"),
    ],
)
def test_a_405_says_which_method_the_path_takes(url, method, path, allowed):
    reply = httpx2.request(method, url + path)
    assert reply.status_code == 405
    assert allowed in reply.headers["allow"]
    assert f"this path takes {allowed} only" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/json;charset=UTF-8",
        "application/vnd.api+json",
    ],
)
def test_json_may_be_called_so(url, kind):
    reply = httpx2.post(
        f"{url}/v1/chat/completions", content=json.dumps(BODY), headers={"Content-Type": kind}
    )
    assert reply.status_code == 200
    assert reply.json()["choices"][0]["message"] == {"role": "assistant", "content": "yes"}


# What curl -d, HTML forms and `fetch` with a string send; a web page may send the last three
# without asking first (Fetch standard, "CORS-safelisted request-header").
@pytest.mark.parametrize(
    "kind",
    [
        None,
        "",
        "json",
        "application/jsonx",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain;charset=UTF-8",
    ],
)
def test_another_content_type_is_a_415_with_curls_option(url, kind):
    headers = {} if kind is None else {"Content-Type": kind}
    reply = httpx2.post(
        f"{url}/v1/chat/completions", content=json.dumps(BODY).encode(), headers=headers
    )
    assert reply.status_code == 415
    message = reply.json()["error"]["message"]
    assert ((kind or "missing").partition(";")[0]) in message
    assert "-H 'Content-Type: application/json'" in message


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 10**5, b'{"model": NaN}']
)
def test_what_is_no_request_is_a_400_and_the_connection_goes_on(url, body):
    with httpx2.Client(base_url=url) as client:
        for _ in range(2):
            reply = client.post("/v1/chat/completions", content=body, headers=JSON)
            assert reply.status_code == 400
            assert reply.json()["error"]["message"]
        assert client.post("/v1/chat/completions", json=BODY).status_code == 200


@pytest.mark.parametrize(("seed", "kind"), [(1, openai.BadRequestError), (2, openai.APIError)])
def test_a_failure_is_an_error_of_whose_fault_it_is(client, seed, kind):
    ask = client.with_options(max_retries=0).chat.completions.create
    with pytest.raises(kind, match="it failed"):
        ask(**BODY, seed=seed)
    with pytest.raises(openai.APIError, match="it failed") as error:
        list(ask(**BODY, seed=seed, stream=True))
    assert error.value.type == ("invalid_request_error" if seed == 1 else "server_error")
