"""What both servers refuse on loopback, tried on a small application behind the same guard."""

import asyncio
import json
import socket
import threading
import time
from contextlib import contextmanager

import httpx2
import openai
import pytest

from pocket_model import loopback

LIMIT = 1000  # bytes of a body, in these tests


async def app(scope, receive, send):
    """Answers with the path and the size of the body; /wait lasts until one leaves."""
    if scope["type"] != "http":
        return
    body = (await receive())["body"]
    if scope["path"] == "/wait":
        await receive()
        return
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    data = json.dumps([scope["path"], len(body)]).encode()
    await send({"type": "http.response.body", "body": data})


@contextmanager
def running(**settings):
    """The address of a server; at the end it is told to end, and has ended."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = loopback.create_server(app, "error", **settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield listener.getsockname()
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def address():
    with pytest.MonkeyPatch.context() as patch, running() as address:
        patch.setattr(loopback, "MAX_BODY", LIMIT)
        yield address


@pytest.fixture
def client(address):
    with httpx2.Client(base_url=f"http://127.0.0.1:{address[1]}", trust_env=False) as client:
        yield client


def say(address, *pieces: bytes, silence_s: float = 0.3) -> bytes:
    """All that the server answers on one connection until it closes it, or is silent so long."""
    with socket.create_connection(address, timeout=5) as connection:
        for piece in pieces:
            connection.sendall(piece)
        received = b""
        try:
            while data := connection.recv(65536):
                received += data
                connection.settimeout(silence_s)
        except TimeoutError:
            pass
        return received


# RFC 9110, 7.2: the host that a client means. A rebound name is the page's own name.
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:1234", 200),  # through a tunnel the port is another
        ("localhost:8000", 200),
        ("LocalHost", 200),
        ("localhost.", 200),
        ("[::1]:8000", 200),
        ("", 200),  # no browser sends none
        ("evil.example", 403),
        ("evil.example:80", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example:80", 403),
        ("evil.example#127.0.0.1", 403),
        ("127.0.0.1@evil.example", 403),
        ("0.0.0.0:8000", 403),
        ("192.168.1.7", 403),
        ("[::]", 403),
    ],
)
def test_the_host_is_this_machine(client, host, status):
    reply = client.post("/x", headers={"Host": host}, content=b"x")
    assert reply.status_code == status
    if status == 403:
        message = reply.json()["error"]["message"]
        assert host in message
        assert f"http://127.0.0.1:{client.base_url.port}" in message


# The Fetch standard (3.2, "Origin" header) and W3C's Fetch Metadata (2.4, "Sec-Fetch-Site").
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "OWN"}, 200),
        ({"Origin": "OWN", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),  # an address typed into the browser
        ({"Sec-Fetch-Mode": "cors"}, 200),  # the fetch of Node.js sends this one alone
        ({"Origin": "null"}, 403),  # a file, a sandboxed frame
        ({"Origin": ""}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),  # another server of this machine
        ({"Origin": "http://localhost"}, 403),
        ({"Origin": "chrome-extension://abc"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),  # <img src=…>
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "future"}, 403),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_no_page_of_another_origin_gets_an_answer(client, method, headers, status):
    own = f"http://127.0.0.1:{client.base_url.port}"
    headers = {name: own if value == "OWN" else value for name, value in headers.items()}
    reply = client.request(method, "/x", headers=headers)
    assert reply.status_code == status
    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_a_preflight_is_refused(client):
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    headers["Access-Control-Request-Private-Network"] = "true"
    reply = client.options("/x", headers=headers)
    assert reply.status_code == 403
    assert "https://evil.example" in reply.json()["error"]["message"]


def test_clients_show_the_reason(address):
    headers = {"Host": "evil.example"}
    client = openai.OpenAI(
        base_url=f"http://127.0.0.1:{address[1]}/v1",
        api_key="none",
        default_headers=headers,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )
    with pytest.raises(openai.PermissionDeniedError, match=r"Host: evil\.example"):
        client.models.list()


KEY = "room-key-0123456789"


@pytest.fixture(scope="module")
def shared():
    """The address of a server that other machines may ask, with a key."""
    names = loopback.LOOPBACK_NAMES | {"192.168.1.20", "abc.example", "fd00::7"}
    with running(access=loopback.Access(names, KEY)) as (_, port):
        yield f"http://127.0.0.1:{port}"


def ask(url: str, path: str = "/v1/models", **headers: str) -> httpx2.Response:
    return httpx2.get(f"{url}{path}", headers=headers, trust_env=False)


@pytest.mark.parametrize(
    ("sent", "status", "says"),
    [
        (f"Bearer {KEY}", 200, ""),
        (f"bearer  {KEY}", 200, ""),
        ("", 401, "needs a key"),
        ("Bearer", 401, "needs a key"),
        (f"Basic {KEY}", 401, "needs a key"),
        (KEY, 401, "needs a key"),
        (f"Bearer {KEY[:-1]}", 401, "The key is wrong"),
        (f"Bearer {KEY}x", 401, "The key is wrong"),
        (f"Bearer {KEY.upper()}", 401, "The key is wrong"),
        ("Bearer schl\xfcssel", 401, "The key is wrong"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/usage", "/lease", "//health/x", "/nowhere"])
def test_a_shared_server_answers_with_its_key_only(shared, path, sent, status, says):
    reply = ask(shared, path, **({"Authorization": sent.encode("latin-1")} if sent else {}))
    assert reply.status_code == status
    if status == 401:
        error = reply.json()["error"]
        assert says in error["message"]
        assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
        assert reply.headers["www-authenticate"] == "Bearer"
        assert KEY not in reply.text


def test_health_needs_no_key(shared):
    assert ask(shared, "/health").status_code == 200
    assert ask(shared, "//health/").status_code == 200  # the same path


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/health"])
@pytest.mark.parametrize("content", [b"x" * 10**6, [b"x"]], ids=["length", "chunks"])
def test_a_body_without_a_key_is_not_kept(shared, path, content):
    reply = httpx2.post(f"{shared}{path}", content=content, trust_env=False)
    assert reply.status_code == 401


def test_openais_client_shows_why_the_key_is_refused(shared):
    http_client = openai.DefaultHttpxClient(trust_env=False)
    client = openai.OpenAI(base_url=f"{shared}/v1", api_key="wrong", http_client=http_client)
    with pytest.raises(openai.AuthenticationError, match="The key is wrong"):
        client.models.list()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("192.168.1.20:8001", 200),
        ("ABC.example", 200),
        ("abc.example.:443", 200),
        ("[fd00::7]:8001", 200),
        ("localhost:8001", 200),
        ("evil.example", 403),
        ("192.168.1.21", 403),
        ("abc.example.evil.example", 403),
        ("fd00::7", 403),  # without brackets it is no host
    ],
)
def test_a_shared_server_knows_its_names(shared, host, status):
    reply = ask(shared, Host=host, Authorization=f"Bearer {KEY}")
    assert reply.status_code == status
    assert status == 200 or "--public-host" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "https://abc.example", "Host": "localhost"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_a_key_lets_no_web_page_in(shared, headers):
    reply = ask(shared, **{"Host": "abc.example", "Authorization": f"Bearer {KEY}"} | headers)
    assert reply.status_code == 403
    assert "no web pages" in reply.json()["error"]["message"]


def test_errors_have_the_form_that_the_server_gives_them():
    with running(error_body=lambda status, message: {"error": {"code": status}}) as (_, port):
        reply = httpx2.get(f"http://127.0.0.1:{port}/", headers={"Host": "evil.example"})
    assert reply.json() == {"error": {"code": 403}}


HEAD = b"POST /x HTTP/1.1\r\nHost: localhost\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
LONG = b"%x\r\n%s\r\n" % (LIMIT // 2, b"a" * (LIMIT // 2))


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ((HEAD, b"Content-Length: %d\r\n\r\n" % LIMIT, b"a" * LIMIT), b"200"),
        ((HEAD, b"Content-Length: %d\r\n\r\n" % (LIMIT + 1), b"a" * (LIMIT + 1)), b"413"),
        ((HEAD, b"Transfer-Encoding: chunked\r\n\r\n", LONG, LONG, b"0\r\n\r\n"), b"200"),
        ((HEAD, b"Transfer-Encoding: chunked\r\n\r\n", LONG, LONG, LONG, b"0\r\n\r\n"), b"413"),
        ((HEAD, b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n", b"abc"), b"415"),
        ((HEAD, b"Origin: null\r\nContent-Length: 3\r\n\r\n", b"abc"), b"403"),
    ],
)
def test_the_next_request_of_a_connection_begins_after_the_body(address, pieces, status):
    received = say(address, *pieces, NEXT)
    first, second = received.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(status)
    assert second.startswith(b"200")
    assert second.endswith(b'["/next", 0]\r\n0\r\n\r\n')


def test_a_client_that_expects_a_word_first_need_not_send_its_body(address):
    # RFC 9110, 10.1.1
    received = say(address, HEAD, b"Expect: 100-continue\r\nContent-Length: 5000\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in received
    received = say(address, HEAD, b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n", b"abc")
    assert received.startswith(b"HTTP/1.1 100")
    assert b"HTTP/1.1 200" in received


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/", "//v1//models", "/v1/models//"])
def test_a_slash_too_many_is_the_same_path(address, path):
    received = say(address, NEXT.replace(b"/next", path.encode()))
    assert b'["/v1/models", 0]' in received


@pytest.mark.parametrize(
    "pieces",
    [
        (HEAD, b"Content-Length: 10\r\n\r\n", b"half"),
        (HEAD, b"Transfer-Encoding: chunked\r\n\r\n", LONG),
        (HEAD, b"Content-Length: 10\r\nOrigin: null\r\n\r\n", b"half"),
        (HEAD, b"Content-Length: 5000\r\n\r\n", b"half"),
    ],
)
def test_a_body_that_does_not_arrive_is_not_waited_for(address, monkeypatch, pieces):
    monkeypatch.setattr(loopback, "BODY_TIMEOUT_S", 0.1)
    received = say(address, *pieces)
    assert received.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in received


def test_nothing_is_passed_on_if_the_client_leaves_within_its_body():
    messages = iter([{"type": "http.request", "body": b"half", "more_body": True}])

    async def receive():
        return next(messages, {"type": "http.disconnect"})

    async def never(*message):
        raise AssertionError(message)

    scope = {"type": "http", "path": "/", "headers": [], "server": ("127.0.0.1", 1)}
    asyncio.run(loopback.Guard(never)(scope, receive, never))


def test_requests_under_way_hear_that_the_server_ends():
    replies = []

    def ask():
        replies.append(say(address, HEAD.replace(b"/x", b"/wait"), b"\r\n", silence_s=5))

    with running() as address:
        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.2)
    thread.join()
    assert replies[0].startswith(b"HTTP/1.1 503")
    assert b'"message": "The server ended' in replies[0]
