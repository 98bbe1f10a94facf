"""Why no server answers at an address, or no longer, in words, and what to do."""

import ipaddress
import json
import socket
import ssl
from collections.abc import Iterator
from datetime import timedelta

import httpx2
import openai

from helpers.connection.client import GONE, PROXY_VARIABLES, is_local, variables_present
from helpers.connection.settings import on_colab

_UNKNOWN_NAME = (
    "Check its spelling and your network. A tunnel gets a new name when it is started again: ask "
    "for the new address."
)
_CERTIFICATE = (
    "Use the name for which the certificate was made. If the server has one of its own making, set "
    "SSL_CERT_FILE to a file with it."
)
_NOTHING_LOST = (
    "Nothing is lost: the notebook keeps its cells, its outputs and its variables. When the server "
    "is back, run this cell again. If it has a new address or a new key, connect again first."
)
_SILENT = "It may be busy, or it is no web server: wait and try again, and check the port."


def with_proxy(url: httpx2.URL) -> str:
    """An address, and the proxy through which it is asked, if there is one."""
    proxies = [] if is_local(str(url)) else variables_present(PROXY_VARIABLES)
    return f"{url} (asked through the proxy in {' or '.join(proxies)})" if proxies else str(url)


def explain_no_answer(url: httpx2.URL, error: openai.APIConnectionError, start: str) -> str:
    """One sentence on what happened, and what to do.

    Args:
        url: the base URL that was asked.
        error: what the client raised.
        start: what starts a server of this kind.
    """
    why, advice = _why(url, error, start)
    return f"No server answers at {with_proxy(url)}: {why}. {advice}"


def _why(url: httpx2.URL, error: Exception, start: str) -> tuple[str, str]:
    """What happened, and what to do."""
    causes = _causes(error)
    port = url.port or {"http": 80, "https": 443}[url.scheme]
    other = url.copy_with(scheme="https" if url.scheme == "http" else "http")
    for kind, why, advice in (
        (socket.gaierror, f"the name {url.host} is not known", _UNKNOWN_NAME),
        (ConnectionRefusedError, f"nothing listens on port {port} there", _refused(url, start)),
        (ssl.SSLCertVerificationError, f"{causes[-1]}".partition(" (_ssl")[0], _CERTIFICATE),
        (ssl.SSLError, "it does not speak https", f"Use {other} instead."),
        (httpx2.ConnectTimeout, "the connection was not accepted in time", _unreachable(url)),
        (httpx2.TimeoutException, "it accepted the connection and sent nothing", _SILENT),
        (
            (ConnectionResetError, httpx2.RemoteProtocolError),
            "it closed the connection without an answer",
            f"Check the port, or try {other}.",
        ),
    ):
        if any(isinstance(cause, kind) for cause in causes):
            return why, advice
    return str(causes[-1]), _unreachable(url)


class OwnServerClient(openai.DefaultHttpxClient):
    """Sends requests to a server that somebody near runs. If it has gone, words say so.

    A server that never answered is the business of `check_server`. After its first answer, an
    error with status 503 takes the place of a connection that cannot be made. A stream that breaks
    off ends with an error too, as providers send it.
    """

    answered = False

    def send(self, request: httpx2.Request, **options) -> httpx2.Response:
        """As `httpx2.Client.send`."""
        try:
            response = super().send(request, **options)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            if not self.answered:
                raise
            body = _gone(request.url, _why(request.url, error, "")[0])
            return httpx2.Response(503, request=request, json=body)
        self.answered = True
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            response.stream = _Events(response.stream, request.url)
        return response


class _Events(httpx2.SyncByteStream):
    """An event stream. If it breaks off between two events, the last event says why."""

    def __init__(self, stream: httpx2.SyncByteStream, url: httpx2.URL):
        self._stream, self._url = stream, url

    def __iter__(self) -> Iterator[bytes]:
        piece = b""
        try:
            for piece in self._stream:
                yield piece
        except (httpx2.RemoteProtocolError, httpx2.ReadError):
            if piece and not piece.endswith((b"\n\n", b"\r\n\r\n")):
                raise
            error = _gone(self._url, "it closed the connection in the middle of an answer")
            yield f"data: {json.dumps(error)}\n\n".encode()

    @property
    def elapsed(self) -> timedelta | None:
        """From the request to the end of the reply; `Response.elapsed` reads it."""
        return self._stream.elapsed

    def close(self) -> None:
        self._stream.close()


def _gone(url: httpx2.URL, why: str) -> dict[str, dict[str, str]]:
    """The body of an error."""
    server = f"{url.scheme}://{url.netloc.decode()}"
    message = f"The server at {server} has gone: {why}. {_NOTHING_LOST}"
    return {"error": {"message": message, "type": GONE}}


def _causes(error: BaseException) -> list[BaseException]:
    """The error, its cause, the cause of that, and so on."""
    causes: list[BaseException] = []
    while error is not None:
        causes.append(error)
        error = error.__cause__ or error.__context__
    return causes


def _refused(url: httpx2.URL, start: str) -> str:
    if is_local(str(url)):
        place = (
            "the Colab machine itself, not your computer" if on_colab() else "this machine itself"
        )
        return (
            f"{url.host} is {place}; a server on another machine has another address. "
            f"What to do: {start}"
        )
    return (
        "Is it running, and is this the port that it printed at its start? A server that was "
        "started for its own machine only answers nobody else."
    )


def _unreachable(url: httpx2.URL) -> str:
    try:
        private = ipaddress.ip_address(url.host).is_private
    except ValueError:
        private = False
    if private and on_colab():
        return (
            f"{url.host} is an address of a local network, which Colab cannot reach: use the "
            "server's public address."
        )
    return (
        "Check the address and the port. Is this machine in the same network, and does the "
        "server's firewall let others in?"
    )
