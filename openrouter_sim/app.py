"""The simulator's server: OpenRouter's API and its failures, in front of the pocket server.

A request asks for a failure with the header `X-Simulate: NAME`, one of `faults.FAULTS`. With
`X-Simulate: NAME 2` the first two attempts fail and the third succeeds. Some keys of
`faults.KEYS` fail by themselves; any other well-formed key works and has a balance of its own.
"""

import socket
import threading
import time

import httpx2
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from openrouter_sim.catalog import Catalog
from openrouter_sim.faults import Refusal
from openrouter_sim.gateway import Gateway
from openrouter_sim.recorder import LOG_VARIABLE, Recorder
from pocket_model import lease, loopback
from pocket_model.cache import path_from
from pocket_model.server.errors import shortened

BASE_PATH = "/api/v1"
PATHS = "POST /chat/completions; GET /models, /model/…, /providers, /key, /credits, /generation"
# What clients can be set to send instead of chat completions.
OTHER_APIS = ("responses", "completions", "messages", "embeddings", "rerank", "images", "audio")


def create_app(gateway: Gateway) -> Starlette:
    """The HTTP application."""
    gets = {
        "/models": gateway.models,
        "/models/count": gateway.count,
        "/models/{id:path}/endpoints": gateway.endpoints,
        "/models/{id:path}": gateway.listed_model,
        "/model/{id:path}": gateway.model,
        "/providers": gateway.providers,
        "/key": gateway.key,
        "/auth/key": gateway.key,  # its older address
        "/credits": gateway.credits,
        "/generation": gateway.generation,
    }
    chat = Route(f"{BASE_PATH}/chat/completions", gateway.chat, methods=["POST"])
    return Starlette(
        routes=[chat, *(Route(BASE_PATH + path, endpoint) for path, endpoint in gets.items())],
        exception_handlers=dict.fromkeys((Refusal, HTTPException, Exception), _error_reply),
    )


async def _error_reply(request: Request, error: Exception) -> JSONResponse:
    """Any error in OpenRouter's form: a refusal, one of the web framework's, or a bug."""
    if isinstance(error, HTTPException):
        error = Refusal(error.status_code, _what_to_do(request, error), error.headers)
    elif not isinstance(error, Refusal):
        message = f"The simulator failed ({type(error).__name__}); please report the request."
        error = Refusal(500, message)
    return JSONResponse(error.body, error.status, headers=error.headers)


def _what_to_do(request: Request, error: HTTPException) -> str:
    """What an error of the web framework means here, and what to do."""
    path = request.url.path
    asked = f"{request.method} {shortened(path)}"
    if error.status_code == 405:
        allowed = "POST" if "POST" in error.headers["Allow"] else "GET"
        return f"{asked}: this path takes {allowed} only."
    if error.status_code != 404:
        return error.detail
    message = f"{asked}: there is no such path. Under {BASE_PATH} are {PATHS}."
    if not path.startswith(f"{BASE_PATH}/"):
        address = f"http://127.0.0.1:{request.scope['server'][1]}{BASE_PATH}"
        return f"{message} Give your client the base URL {address}."
    if path.removeprefix(f"{BASE_PATH}/").partition("/")[0] in OTHER_APIS:
        return f"{message} OpenRouter has this path, the simulator has chat completions only."
    return message


class Simulator:
    """The simulator in a thread of this process, until `close`. It holds the pocket server.

    Args:
        prices: by model id: `input` and `output` in USD per million tokens, `context` in tokens.
        port: on this machine; 0 takes a free one.

    Attributes:
        base_url: its address, with /api/v1.

    Raises:
        OSError: the port is taken.
        ValueError: a model lacks a price or its context.
        lease.ServerError, BuildError, CacheError: there is no pocket server; see `lease.acquire`.
    """

    def __init__(self, prices: dict[str, dict], port: int = 0):
        catalog = Catalog(prices)
        listener = socket.create_server(("127.0.0.1", port))
        try:
            self.lease = lease.acquire()
            listed = httpx2.get(f"{self.lease.base_url}/models", trust_env=False).json()
        except BaseException:
            listener.close()
            raise
        catalog.pocket_context = listed["data"][0]["max_model_len"]
        self.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}{BASE_PATH}"
        self.gateway = Gateway(self.lease.base_url, catalog)
        app = create_app(self.gateway)
        if log := path_from(LOG_VARIABLE):
            app = Recorder(app, log)
        # A simulated broken connection is an exception inside the server: no traceback of it.
        self._server = loopback.create_server(app, "critical", lambda *of: Refusal(*of).body)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, daemon=True
        )
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.02)
        if not self._server.started:
            self.lease.close()
            raise lease.ServerError("The simulator ended while starting. Try again.")

    def close(self) -> None:
        """End the server and release the pocket server."""
        self._server.should_exit = True
        self._thread.join(timeout=5)
        self.lease.close()

    def wait(self) -> None:
        """Wait until the server ends."""
        self._thread.join()
