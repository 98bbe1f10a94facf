"""What both servers of the kit need on loopback: no web page gets in, and no body is too large.

A web page can send requests to this machine. Under a name that leads here (DNS rebinding) it could
also read the answers. But a browser says where a request comes from: in `Host`, in `Origin` and in
`Sec-Fetch-Site`. And no reply allows another origin (CORS).
"""

import asyncio
import ctypes
import json
import re
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 32 * 2**20  # bytes: 20 MB of pictures have 28 MB in base64
MAX_ALL_BODIES = 8 * MAX_BODY  # bytes of the requests that are not answered yet
HEAD_TIMEOUT_S = 30.0
BODY_TIMEOUT_S = 30.0
# Longer than clients keep an idle connection (httpx: 5 s, aiohttp: 15 s). A client that sends a
# request at the moment of closing would get an error.
KEEP_ALIVE_S = 30

# Freed memory stays with the process in glibc: after 16 pictures of 20 MB each, 1.2 GB. Other C
# libraries lack this function, which gives it back.
# It is called after a large body, and when no request with a body is left.
LARGE_BODY = 2**20  # bytes
GIVE_BACK_AFTER_S = 1.0
try:
    _give_memory_back = ctypes.CDLL(None).malloc_trim
except (AttributeError, OSError, TypeError):
    _give_memory_back = None

_OWN_HOST = re.compile(r"(127\.0\.0\.1|localhost\.?|\[::1\])(:\d+)?", re.IGNORECASE)


def openai_error(status: int, message: str) -> dict:
    """The body of an error reply in OpenAI's form."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": "refused"}}


def create_server(
    app: "ASGIApp", log_level: str, error_body: Callable[[int, str], dict] = openai_error
) -> uvicorn.Server:
    """uvicorn with `app` behind a `Guard`.

    Args:
        error_body: makes the body of an error reply from its status and message.
    """
    config = uvicorn.Config(
        Guard(app, error_body),
        http=Connection,
        log_level=log_level,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        # What uvicorn has cancelled says good-bye to its client; after this the process ends.
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=1)


class Connection(H11Protocol):
    """uvicorn's connection, closed if a request's head takes longer than `HEAD_TIMEOUT_S`.

    uvicorn itself waits for the rest of a head without limit.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:
        # Otherwise a small piece waits up to 40 ms for the acknowledgement of the one before.
        # asyncio sees to it for its own listeners only.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def _watch_head(self) -> None:
        self._timer = self.loop.call_later(HEAD_TIMEOUT_S, self._check_head, self.cycle)

    def _check_head(self, earlier_cycle: object) -> None:
        if self.cycle is earlier_cycle and (self.cycle is None or self.cycle.response_complete):
            self.timeout_keep_alive_handler()  # closes the connection
        else:
            self._watch_head()


class _Refusal(NamedTuple):
    status: int
    message: str


class _Reply:
    """What is sent to a client: by the application, or instead of it."""

    def __init__(self, send: "Send", error_body: Callable[[int, str], dict]):
        self._send, self._error_body = send, error_body
        self._started: Message | None = None

    async def send(self, message: "Message") -> None:
        if message["type"] == "http.response.start":
            self._started = message
        await self._send(message)

    async def refuse(self, refusal: _Refusal, close: bool = False) -> None:
        """Send an error. With `close`, the connection ends: the rest of a body may follow."""
        data = json.dumps(self._error_body(*refusal)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
        if refusal.status == 503:
            headers.append((b"retry-after", b"2"))
        if close:
            headers.append((b"connection", b"close"))
        await self.send(
            {"type": "http.response.start", "status": refusal.status, "headers": headers}
        )
        await self.send({"type": "http.response.body", "body": data})

    async def break_off(self, refusal: _Refusal) -> None:
        """End the reply with an error, if it is an event stream or has not begun."""
        if self._started is None:
            await self.refuse(refusal, close=True)
            return
        is_event_stream = b"text/event-stream" in dict(self._started["headers"])[b"content-type"]
        event = f"data: {json.dumps(self._error_body(*refusal))}\n\n" if is_event_stream else ""
        await self.send({"type": "http.response.body", "body": event.encode()})


class Guard:
    """ASGI middleware: `app` gets only requests of programs on this machine, with whole bodies.

    The body of a refused request is read and dropped. Most clients read a reply only after they
    have sent everything, and the connection's next request begins after the body.

    Args:
        error_body: makes the body of an error reply from its status and message.
    """

    def __init__(self, app: "ASGIApp", error_body: Callable[[int, str], dict] = openai_error):
        self._app, self._error_body = app, error_body
        self._bytes_held = 0
        self._giving_back = False

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # A base URL that ends in a slash makes a path with two.
        scope["path"] = "/" + "/".join(filter(None, scope["path"].split("/")))
        reply = _Reply(send, self._error_body)
        try:
            await self._answer(scope, receive, reply)
        except asyncio.CancelledError:  # uvicorn ends, and its time of grace is over
            message = "The server ended before the answer was complete. Start it and ask again."
            await reply.break_off(_Refusal(503, message))

    async def _answer(self, scope: "Scope", receive: "Receive", reply: _Reply) -> None:
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = _foreign(scope, headers) or _unreadable(headers)
        if refusal and "expect" in headers:  # the client waits for a reply before it sends the body
            await reply.refuse(refusal, close=True)
            return
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await self._read(receive, refusal)
        except TimeoutError:
            message = f"The body did not arrive within {BODY_TIMEOUT_S:.0f} s. Send it at once."
            await reply.refuse(_Refusal(408, message), close=True)
            return
        match body:
            case _Refusal():
                await reply.refuse(body)
            case bytes():
                await self._pass_on(scope, body, receive, reply)
                if len(body) > LARGE_BODY or (body and not self._bytes_held):
                    self._give_back_soon()

    def _give_back_soon(self) -> None:
        """Give memory back a second later, in a thread; it takes milliseconds."""
        if self._giving_back or _give_memory_back is None:
            return
        self._giving_back = True
        loop = asyncio.get_running_loop()

        def give_back() -> None:
            self._giving_back = False
            loop.run_in_executor(None, _give_memory_back, 0)

        loop.call_later(GIVE_BACK_AFTER_S, give_back)

    async def _read(self, receive: "Receive", refusal: _Refusal | None) -> bytes | _Refusal | None:
        """A request's whole body, or why it is refused; None if the client has left."""
        body, more = bytearray(), True
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                more = message["more_body"]
                if not refusal:
                    self._bytes_held += len(message["body"])
                    body += message["body"]
                    refusal = self._too_much(len(body))
                if refusal:
                    self._bytes_held -= len(body)
                    body.clear()
            return refusal or bytes(body)
        finally:
            self._bytes_held -= len(body)

    def _too_much(self, size: int) -> _Refusal | None:
        if size > MAX_BODY:
            return _too_large(f"more than {MAX_BODY:,} bytes")
        if self._bytes_held > MAX_ALL_BODIES:
            message = f"Requests of {MAX_ALL_BODIES:,} bytes wait for an answer. Try again later."
            return _Refusal(503, message)
        return None

    async def _pass_on(
        self, scope: "Scope", body: bytes, receive: "Receive", reply: _Reply
    ) -> None:
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_body() -> "Message":
            return messages.pop() if messages else await receive()

        self._bytes_held += len(body)
        try:
            await self._app(scope, receive_body, reply.send)
        finally:
            self._bytes_held -= len(body)


def _foreign(scope: "Scope", headers: dict[str, str]) -> _Refusal | None:
    """The refusal of a request that a web page has sent, or may have."""
    host, origin = headers.get("host"), headers.get("origin")
    port = scope["server"][1]
    if host and not _OWN_HOST.fullmatch(host):  # HTTP/1.0 needs none
        message = (
            f"Host: {host[:100]}: this server is http://127.0.0.1:{port} and has no other name."
        )
        return _Refusal(403, message)
    site = headers.get("sec-fetch-site", "none")
    if origin is not None and origin.lower() != f"http://{host}".lower():
        sent = f"Origin: {origin[:100]}"
    elif site not in ("same-origin", "none"):
        sent = f"Sec-Fetch-Site: {site[:100]}"
    else:
        return None
    message = f"{sent}: this server answers programs on this machine, and no web pages."
    return _Refusal(403, f"{message} Send the request from a program.")


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
    return _Refusal(413, f"{message}, or make the pictures smaller: 112 pixels are enough.")
