"""A plain OpenAI client for any server: its address, proxies, certificates and headers."""

import contextlib
import os
import re
import urllib.request
from collections.abc import Iterator

import httpx2
import openai

# Variables of the environment that change the network of every program. Only their names are
# shown: the value of a proxy's variable can contain a password.
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")

GONE = "server_gone"  # the type of an error that stands for a server that is no longer there
SERVER_ENDED = (
    "The small model's server has ended: the machine ran out of memory or slept, or somebody ended "
    'it. Connect again with lab = connect("pocket"), then repeat the request.'
)


class BackendError(RuntimeError):
    """A backend cannot be used; the message says what happened and what to do next."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the message alone. A long traceback would push it off the page."""
        return [f"{type(self).__name__}: {self}"]


def checked_address(base_url: str, source: str = "base_url") -> str:
    """An address of a server, checked, without blanks and quotation marks around it.

    Args:
        source: where it comes from, for the message.

    Raises:
        BackendError: it is no address, or it may contain a password.
    """
    address = base_url.strip(" \t\r\n\"'")
    inside = re.search(r"https?://[^\s\"'/]+[^\s\"']*", address, re.IGNORECASE)
    if not inside or inside[0] != address:
        # What was pasted may be a key, or a line with one: only an address in it is shown.
        bare = re.fullmatch(r"(?:\w+://)?([\w.-]+:\d+[^\s\"']*)", address)
        better = inside[0] if inside else f"http://{bare[1]}" if bare else ""
        advice = (
            f"Is {better.rstrip('/')} meant?" if better else "It looks like http://host:8001/v1."
        )
        raise BackendError(
            f"{source} must begin with http:// or https:// and be an address only. {advice}"
        )
    try:
        url = httpx2.URL(address)
    except httpx2.InvalidURL as error:
        raise BackendError(f"{source} is not an address: {error}.") from error
    if url.userinfo or url.query:
        raise BackendError(
            f"{source} contains a password or a query. Addresses are shown and saved, so leave it "
            "out. A key belongs in the backend's environment variable, such as CUSTOM_API_KEY."
        )
    if url.path.rstrip("/").endswith("/chat/completions"):
        head = address.partition("/chat/completions")[0]
        raise BackendError(f"The client adds /chat/completions itself: use {source}={head!r}.")
    return address


def make_client(base_url: str, key: str, http_client: httpx2.Client | None = None) -> openai.OpenAI:
    """A client for one server. Servers on this machine are reached without a proxy.

    Args:
        http_client: sends the requests. For a server on this machine it must not read the
            environment (`trust_env=False`).

    Raises:
        BackendError: the environment's proxy or certificates cannot be used.
    """
    if is_local(base_url):
        # The environment's proxy is another machine: it cannot reach servers on this one.
        _bypass_proxies()
        http_client = http_client or openai.DefaultHttpxClient(trust_env=False)
    with network_settings():
        return openai.OpenAI(
            base_url=base_url,
            api_key=key,
            http_client=http_client,
            default_headers=_no_headers_for_openai(key),
        )


class PocketTransport(httpx2.HTTPTransport):
    """Sends requests to the pocket server. If that has ended, an error that says so answers."""

    def __init__(self) -> None:
        # Certificates of the environment may not exist, and this server needs none.
        super().__init__(limits=openai.DEFAULT_CONNECTION_LIMITS, trust_env=False)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            return super().handle_request(request)
        except httpx2.ConnectError:
            # Without the header, the client would try again, and wait, in vain.
            error = {"message": SERVER_ENDED, "type": GONE}
            return httpx2.Response(503, headers={"x-should-retry": "false"}, json={"error": error})


def is_local(url: str) -> bool:
    """Whether an address is on this machine."""
    host = httpx2.URL(url).host
    return host in ("localhost", "::1", "0.0.0.0") or host.startswith("127.")


def _bypass_proxies() -> None:
    """Let every client of this process and of its children reach this machine without a proxy."""
    proxies = urllib.request.getproxies_environment()
    if set(proxies) <= {"no"}:
        return  # without a proxy, NO_PROXY alone would hide the proxies of macOS's settings
    hosts = [host for host in proxies.get("no", "").split(",") if host.strip()]
    hosts += [host for host in ("localhost", "127.0.0.1", "::1") if host not in hosts]
    if "*" not in hosts:
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(hosts)


def _no_headers_for_openai(key: str) -> dict:
    """Default headers that keep what the environment has for OpenAI from any other server.

    The client adds OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS to every request.
    The latter can contain OpenAI's own key.
    """
    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    names = {line.partition(":")[0].strip() for line in lines if ":" in line}
    headers = {name: openai.Omit() for name in ("OpenAI-Organization", "OpenAI-Project", *names)}
    own = [name for name in names if name.lower() == "authorization"]
    return headers | {name: f"Bearer {key}" for name in own}


def variables_present(names: tuple[str, ...]) -> list[str]:
    """Those of the names that the environment has, in upper or lower case."""
    return [name for name in names if os.environ.get(name) or os.environ.get(name.lower())]


@contextlib.contextmanager
def network_settings() -> Iterator[None]:
    """Report a proxy or certificates of the environment that a client cannot be made with.

    Raises:
        BackendError: it names the variables and says what to do.
    """
    proxies = " or ".join(variables_present(PROXY_VARIABLES)) or "the system's settings"
    try:
        yield
    except ImportError as error:
        raise BackendError(
            f"{proxies} names a SOCKS proxy, which needs one more package: pip install socksio. "
            "Or start with NO_PROXY=* to use no proxy."
        ) from error
    except (ValueError, httpx2.InvalidURL) as error:
        raise BackendError(
            f"The proxy in {proxies} cannot be used. Its address looks like http://host:port or "
            "socks5://host:port. Correct it, or start with NO_PROXY=* to use no proxy."
        ) from error
    except OSError as error:
        names = " or ".join(variables_present(CERTIFICATE_VARIABLES)) or "the system's settings"
        raise BackendError(
            f"The certificates or the log in {names} cannot be opened ({error.strerror or error}). "
            "Correct the variable, or remove it from the environment."
        ) from error
