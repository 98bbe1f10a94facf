"""Why no server answers at an address, in words, and what to do."""

import ipaddress
import socket
import ssl

import httpx2
import openai

from helpers.connection.client import PROXY_VARIABLES, is_local, variables_present
from helpers.connection.settings import on_colab


def explain_no_answer(url: httpx2.URL, error: openai.APIConnectionError, start: str) -> str:
    """One sentence on what happened, and what to do.

    Args:
        url: the base URL that was asked.
        error: what the client raised.
        start: what starts a server of this kind.
    """
    causes = _causes(error)
    port = url.port or {"http": 80, "https": 443}[url.scheme]
    proxies = [] if is_local(str(url)) else variables_present(PROXY_VARIABLES)
    asked = f"{url} (asked through the proxy in {' or '.join(proxies)})" if proxies else str(url)
    for kind, why, advice in (
        (socket.gaierror, f"the name {url.host} is not known", _unknown_name()),
        (ConnectionRefusedError, f"nothing listens on port {port} there", _refused(url, start)),
        (ssl.SSLCertVerificationError, "its certificate is not valid for this name", _CERTIFICATE),
        (ssl.SSLError, "it does not speak https", f"Use {url.copy_with(scheme='http')} instead."),
        (httpx2.ConnectTimeout, "the connection was not accepted in time", _unreachable(url)),
        (httpx2.TimeoutException, "it accepted the connection and sent nothing", _SILENT),
        (ConnectionResetError, "it closed the connection without an answer", _closed(url)),
        (httpx2.RemoteProtocolError, "it closed the connection or is no web server", _closed(url)),
    ):
        if any(isinstance(cause, kind) for cause in causes):
            return f"No server answers at {asked}: {why}. {advice}"
    return f"No server answers at {asked}: {causes[-1]}. {_unreachable(url)}"


_CERTIFICATE = "Use the name for which the certificate was made, or http:// if it has no other."
_SILENT = "It may be busy, or it is no web server: wait and try again, and check the port."


def _causes(error: BaseException) -> list[BaseException]:
    """The error, its cause, the cause of that, and so on."""
    causes: list[BaseException] = []
    while error is not None:
        causes.append(error)
        error = error.__cause__ or error.__context__
    return causes


def _unknown_name() -> str:
    return (
        "Check its spelling and your network. A tunnel gets a new name when it is started again: "
        "ask for the new address."
    )


def _refused(url: httpx2.URL, start: str) -> str:
    if is_local(str(url)):
        return f"{here(url.host)} What to do: {start}"
    return (
        "Is it running, and is this the port that it printed at its start? A server that was "
        "started for its own machine only answers nobody else."
    )


def here(host: str) -> str:
    """What an address such as localhost means in this process."""
    machine = "the Colab machine itself, not your computer" if on_colab() else "this machine itself"
    return f"{host} is {machine}; a server on another machine has another address."


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


def _closed(url: httpx2.URL) -> str:
    if url.scheme == "http":
        return f"Check the port, or try {url.copy_with(scheme='https')} if it speaks https only."
    return f"Check the port, or try {url.copy_with(scheme='http')} if it speaks no https."
