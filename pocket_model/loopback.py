"""What both servers of the kit need: no web page gets in, and no body is too large.

A web page can send requests to this machine. Under a name that leads here (DNS rebinding) it could
also read the answers. But a browser says where a request comes from: in `Host`, in `Origin` and in
`Sec-Fetch-Site`. And no reply allows another origin (CORS).

The servers listen on loopback. A pocket server that answers other machines too has a key.
"""

import asyncio
import hmac
import json
import re
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from pocket_model import memory

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 32 * 2**20  # bytes: 20 MB of pictures have 28 MB in base64
BODY_TIMEOUT_S = 30.0
# Longer than clients keep an idle connection (httpx: 5 s, aiohttp: 15 s). A client that sends a
# request at the moment of closing would get an error.
KEEP_ALIVE_S = 30

LARGE_BODY = 2**20  # bytes; after it, memory is given back

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
# A name, an IPv4 address, or an IPv6 address in brackets; then perhaps a port.
_HOST = re.compile(r"(?:\[([0-9a-f:]+)\]|([a-z0-9._-]+?)\.?)(?::\d+)?", re.IGNORECASE)
WITHOUT_KEY = "/health"


class Access(NamedTuple):
    """Who may send requests.

    Attributes:
        names: the server's names and addresses in `Host`, in small letters.
        key: what each request, except `GET /health`, sends as a bearer token; None for no key.
    """

    names: frozenset[str] = LOOPBACK_NAMES
    key: str | None = None


THIS_MACHINE = Access()


def openai_error(status: int, message: str) -> dict:
    """The body of an error reply in OpenAI's form."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    code = "invalid_api_key" if status == 401 else "refused"
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def create_server(
    app: "ASGIApp",
    log_level: str,
    error_body: Callable[[int, str], dict] = openai_error,
    access: Access = THIS_MACHINE,
) -> uvicorn.Server:
    """uvicorn with `app` behind a `Guard`.

    Args:
        error_body: makes the body of an error reply from its status and message.
    """
    config = uvicorn.Config(
        Guard(app, error_body, access),
        http=_Connection,
        log_level=log_level,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    return uvicorn.Server(config)


class _Connection(H11Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        # Otherwise a small piece waits up to 40 ms for the acknowledgement of the one before.
        # asyncio sees to it for its own listeners only.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)


class _Refusal(NamedTuple):
    status: int
    message: str


class Guard:
    """ASGI middleware: `app` gets only requests of programs that may ask, with whole bodies.

    The body of a refused request is read and dropped. Most clients read a reply only after they
    have sent everything, and the connection's next request begins after the body.

    Args:
        error_body: makes the body of an error reply from its status and message.
    """

    def __init__(
        self,
        app: "ASGIApp",
        error_body: Callable[[int, str], dict] = openai_error,
        access: Access = THIS_MACHINE,
    ):
        self._app, self._error_body, self._access = app, error_body, access

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # A base URL that ends in a slash makes a path with two.
        scope["path"] = "/" + "/".join(filter(None, scope["path"].split("/")))
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = (
            _foreign(scope, headers, self._access)
            or _without_key(scope["path"], headers, self._access.key)
            or _unreadable(headers)
        )
        if refusal and "expect" in headers:  # the client waits for a reply before it sends the body
            await self._refuse(send, refusal, close=True)
            return
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await _read_body(receive, refusal)
        except TimeoutError:
            message = f"The body did not arrive within {BODY_TIMEOUT_S:.0f} s. Send it at once."
            await self._refuse(send, _Refusal(408, message), close=True)
            return
        match body:
            case _Refusal():
                await self._refuse(send, body)
            case bytes():
                await self._pass_on(scope, body, receive, send)
                if len(body) > LARGE_BODY:
                    # Later, when nothing holds the body any more, and in a thread.
                    loop = asyncio.get_running_loop()
                    loop.call_later(1, loop.run_in_executor, None, memory.give_back)

    async def _refuse(self, send: "Send", refusal: _Refusal, close: bool = False) -> None:
        """Send an error. With `close`, the connection ends: the rest of a body may follow."""
        data = json.dumps(self._error_body(*refusal)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
        if close:
            headers.append((b"connection", b"close"))
        if refusal.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    async def _pass_on(self, scope: "Scope", body: bytes, receive: "Receive", send: "Send") -> None:
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        started = False

        async def receive_body() -> "Message":
            return messages.pop() if messages else await receive()

        async def note_and_send(message: "Message") -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive_body, note_and_send)
        except asyncio.CancelledError:  # uvicorn ends, and its time of grace is over
            if not started:
                message = "The server ended before it answered. Start it and ask again."
                await self._refuse(send, _Refusal(503, message), close=True)


async def _read_body(receive: "Receive", refusal: _Refusal | None) -> bytes | _Refusal | None:
    """A request's whole body, or why it is refused; None if the client has left."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        more = message["more_body"]
        if not refusal:
            body += message["body"]
            if len(body) > MAX_BODY:
                refusal = _too_large(f"more than {MAX_BODY:,} bytes")
    return refusal or bytes(body)


def host_name(host: str) -> str | None:
    """The name or address in a `Host`, in small letters and without its port; None if none is."""
    match = _HOST.fullmatch(host)
    return (match[1] or match[2]).lower() if match else None


def _foreign(scope: "Scope", headers: dict[str, str], access: Access) -> _Refusal | None:
    """The refusal of a request that a web page has sent, or may have."""
    host, origin = headers.get("host"), headers.get("origin")
    port = scope["server"][1]
    if host and host_name(host) not in access.names:  # HTTP/1.0 needs none
        what = f"Host: {host[:100]}: this server"
        if access.key:
            return _Refusal(403, f"{what} does not know this name. Start it with --public-host.")
        return _Refusal(403, f"{what} is http://127.0.0.1:{port} and has no other name.")
    site = headers.get("sec-fetch-site", "none")
    if origin is not None and origin.lower() != f"http://{host}".lower():
        sent = f"Origin: {origin[:100]}"
    elif site not in ("same-origin", "none"):
        sent = f"Sec-Fetch-Site: {site[:100]}"
    else:
        return None
    message = f"{sent}: this server answers programs, and no web pages."
    return _Refusal(403, f"{message} Send the request from a program.")


def _without_key(path: str, headers: dict[str, str], key: str | None) -> _Refusal | None:
    """The refusal of a request that does not have the key."""
    empty = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    if key is None or (path == WITHOUT_KEY and empty):  # no body is kept of one without the key
        return None
    scheme, _, sent = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not sent.strip():
        return _Refusal(401, "This server needs a key, sent as: Authorization: Bearer KEY.")
    # In a time that does not depend on how much of the key is right.
    if not hmac.compare_digest(sent.strip().encode(), key.encode()):
        return _Refusal(401, "The key is wrong. Copy it again from the one who runs this server.")
    return None


def _unreadable(headers: dict[str, str]) -> _Refusal | None:
    """The refusal of a body by what the headers say of it."""
    length, encoding = headers.get("content-length", "0"), headers.get("content-encoding", "")
    if int(length) > MAX_BODY:
        return _too_large(f"{int(length):,} bytes")
    if encoding.lower() not in ("", "identity"):
        message = f"Content-Encoding: {encoding[:100]}: send the body without compression."
        return _Refusal(415, message)
    return None


def _too_large(size: str) -> _Refusal:
    message = f"The body has {size}; the limit is {MAX_BODY:,} bytes. Shorten the messages"
    return _Refusal(413, f"{message} or make the pictures smaller.")
