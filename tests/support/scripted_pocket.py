"""A stand-in for the pocket server: its protocol, but scripted tokens, so that no model is needed.

It refuses what the pocket server's protocol refuses, streams "w0 w1 w2 …" and counts its tokens.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from openrouter_sim import app, faults
from pocket_model.server.errors import ApiError
from pocket_model.server.protocol import read_request

CONTEXT = 8192
TOKENS_PER_MESSAGE = 10

MODEL = "mistralai/mistral-small-3.2-24b-instruct"
QUESTION = [{"role": "user", "content": "Hi"}]


def body(**more) -> dict:
    """A request to the simulator."""
    return {"model": MODEL, "messages": QUESTION, "max_tokens": 2} | more


def message_of(reply: httpx2.Response) -> str:
    return reply.json()["error"]["message"]


class ScriptedPocket:
    """The stand-in.

    Args:
        token_s: seconds for each token.

    Attributes:
        bodies: the requests, as the protocol reads them.
        generated: tokens of all answers so far.
        fails_after: tokens after which an answer breaks off with an error event; None for none.
        is_empty: whether answers have no token at all.
        status: of that error: 400 if the request itself is its cause.
    """

    def __init__(self, token_s: float = 0.002):
        self.token_s = token_s
        self.bodies: list = []
        self.generated = 0
        self.fails_after: int | None = None
        self.status = 500
        self.is_empty = False
        self.app = Starlette(
            routes=[
                Route("/v1/models", self.models),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
            ]
        )

    async def models(self, _: Request) -> JSONResponse:
        return JSONResponse({"data": [{"id": "pocket", "max_model_len": CONTEXT}]})

    async def chat(self, request: Request) -> Response:
        try:
            body = read_request(await request.body())
        except ApiError as error:
            return JSONResponse(error.body, error.status)
        self.bodies.append(body)
        assert body.stream, "the simulator always asks for a stream"
        assert body.stream_options.continuous_usage_stats
        return StreamingResponse(self._events(body), media_type="text/event-stream")

    async def _events(self, body):
        prompt = TOKENS_PER_MESSAGE * len(body.messages)
        counts = {"prompt_tokens": prompt, "completion_tokens": 0, "total_tokens": prompt}

        def event(delta, finish_reason=None):
            choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
            return data({"choices": [choice], "usage": counts})

        yield event({"role": "assistant", "content": ""})
        for number in range(0 if self.is_empty else body.token_limit):
            await asyncio.sleep(self.token_s)
            if number == self.fails_after:
                yield data(ApiError(self.status, "scripted: the engine fails").body)
                return
            self.generated += 1
            counts = counts | {
                "completion_tokens": number + 1,
                "total_tokens": prompt + number + 1,
            }
            yield event({"content": f"w{number} "})
        yield event({}, "length")
        yield data({"choices": [], "usage": counts})
        yield "data: [DONE]\n\n"


def data(event: dict) -> str:
    return f"data: {json.dumps(event)}\n\n"


@contextmanager
def served(app) -> Iterator[str]:
    """The address of an application while it runs in a thread."""
    config = uvicorn.Config(app, port=0, log_level="critical", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(5)


class ScriptedSimulator:
    """The simulator in front of a `ScriptedPocket`, and requests to it by a plain HTTP client."""

    def __init__(self, pocket: ScriptedPocket, prices: dict):
        self.pocket = pocket
        self.simulator = app.Simulator(prices)
        self.base_url = self.simulator.base_url
        self.http = httpx2.Client(trust_env=False)

    def post(self, body: dict | bytes, fault="", key=faults.KEY, **headers) -> httpx2.Response:
        """Ask for a completion."""
        headers |= {"Authorization": f"Bearer {key}"} | ({"X-Simulate": fault} if fault else {})
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.http.post(f"{self.base_url}/chat/completions", content=data, headers=headers)

    def get(self, path: str, key: str = faults.KEY) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {key}"}
        return self.http.get(f"{self.base_url}{path}", headers=headers)


@contextmanager
def scripted_simulator(monkeypatch, prices: dict) -> Iterator[ScriptedSimulator]:
    pocket = ScriptedPocket()
    with served(pocket.app) as url:
        lease = SimpleNamespace(base_url=f"{url}/v1", close=lambda: None)
        monkeypatch.setattr(app.lease, "acquire", lambda: lease)
        sim = ScriptedSimulator(pocket, prices)
        yield sim
        sim.simulator.close()
