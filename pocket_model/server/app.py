"""The pocket model behind OpenAI's protocol, on loopback.

Why not transformers' own `serve` application: on the points that matter here (stop strings and
temperature per request, seeds, `[DONE]`, refusing what is not supported, the context limit) it
would have to be overridden nearly everywhere. This is one small application over the same
engines; `python -m helpers conformance` judges it.
"""

import asyncio
import json
import os
import socket
import sys
import time
import uuid
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from pocket_model.build import MODEL_ID
from pocket_model.server import engine
from pocket_model.server.protocol import ChatRequest
from pocket_model.server.service import ApiError, Pocket

# A leased server ends this long after its last lease, so that a restarted kernel finds it alive.
LINGER_S = 4.0


FIRST_LEASE_S = 10.0


class Leases:
    """Open connections of the clients that need this server; it ends after the last is gone."""

    def __init__(self):
        self._held = 0
        self._idle_since = time.monotonic() + FIRST_LEASE_S - LINGER_S
        self.closed = False

    async def hold(self) -> AsyncIterator[bytes]:
        """One lease: lasts as long as the client's connection, which the system closes for it
        when its process dies, however it dies."""
        self._held += 1
        try:
            yield f"held {os.getpid()}\n".encode()
            await asyncio.Event().wait()
        finally:
            self._held -= 1
            self._idle_since = time.monotonic()

    @property
    def expired(self) -> bool:
        return not self._held and time.monotonic() - self._idle_since > LINGER_S


def create_app(pocket: Pocket, leases: Leases) -> FastAPI:
    """The HTTP application over a loaded model."""
    app = FastAPI(title="pocket server", docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(ApiError)
    async def api_error(_: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(error.body, error.status)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        # A value that may have several shapes has an error for each: the deepest is the one meant.
        first = max(error.errors(), key=lambda found: len(found["loc"]))
        where = ".".join(str(part) for part in first["loc"][1:]) or "body"
        refused = ApiError(400, f"{where}: {first['msg'].removeprefix('Value error, ')}", where)
        return JSONResponse(refused.body, 400)

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(ApiError(error.status_code, error.detail).body, error.status_code)

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> JSONResponse:
        failed = ApiError(500, f"{type(error).__name__}: {error}", code="internal")
        return JSONResponse(failed.body, 500)

    @app.get("/v1/models")
    async def models() -> dict:
        entry = {"id": MODEL_ID, "object": "model", "created": 0, "owned_by": "embedded"}
        return {"object": "list", "data": [entry | {"max_model_len": pocket.context}]}

    @app.get("/usage")
    async def usage() -> dict:
        return pocket.usage

    @app.get("/lease")
    async def lease() -> StreamingResponse:
        if leases.closed or pocket.engine.broken:
            raise ApiError(503, "This server is ending; start another.", code="ending")
        return StreamingResponse(leases.hold(), media_type="text/plain")

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(body: ChatRequest, http: Request) -> JSONResponse | StreamingResponse:
        # In a thread: a large picture takes a while, and others wait for their tokens.
        request = await asyncio.to_thread(pocket.prepare, body)
        events = pocket.answer(request, body.stop_strings)
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time())}
        head["model"] = MODEL_ID
        if body.stream:
            with_usage = bool(body.stream_options and body.stream_options.include_usage)
            return StreamingResponse(_sse(events, head, with_usage), media_type="text/event-stream")
        try:
            message, end = await _until_left(_whole(events), http)
        except engine.EngineError as error:
            raise ApiError(500, str(error), code="engine") from error
        choice = {"index": 0, "message": message, "finish_reason": end["finish_reason"]}
        reply = {"object": "chat.completion", "choices": [choice], "usage": end["usage"]}
        return JSONResponse(head | reply)

    return app


async def _whole(events: AsyncIterator[dict]) -> tuple[dict, dict]:
    """The whole message of an answer, and its last event."""
    text, calls, event = "", [], {}
    async with aclosing(events):
        async for event in events:
            text += event.get("text", "")
            if "call" in event:
                calls.append(_call(event["call"]))
            if "arguments" in event:
                calls[-1]["function"]["arguments"] += event["arguments"]
    message = {"role": "assistant", "content": text}
    if calls:
        message |= {"content": text or None, "tool_calls": calls}
    return message, event


def _call(call: dict) -> dict:
    """A tool call in OpenAI's form, its arguments still to come."""
    function = {"name": call["name"], "arguments": ""}
    return {"id": call["id"], "type": "function", "function": function}


async def _until_left(work: Coroutine, http: Request):
    """The result of `work`, cancelled when the client leaves: nobody would read its answer."""
    task = asyncio.create_task(work)
    while not task.done():
        if await http.is_disconnected():
            task.cancel()
        await asyncio.wait([task], timeout=0.2)
    if task.cancelled():
        raise ApiError(499, "The client closed the connection.", code="client_closed_request")
    return task.result()


async def _sse(events: AsyncIterator[dict], head: dict, with_usage: bool) -> AsyncIterator[str]:
    """Server-sent events of one streamed answer, `[DONE]` last."""
    head = head | {"object": "chat.completion.chunk"}
    calls = 0

    def chunk(delta: dict, finish_reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return _data(head | {"choices": [choice]})

    yield chunk({"role": "assistant", "content": ""})
    async with aclosing(events):
        try:
            async for event in events:
                if "text" in event:
                    yield chunk({"content": event["text"]})
                elif "call" in event:
                    calls += 1
                    yield chunk({"tool_calls": [{"index": calls - 1} | _call(event["call"])]})
                elif "arguments" in event:
                    piece = {"index": calls - 1, "function": {"arguments": event["arguments"]}}
                    yield chunk({"tool_calls": [piece]})
                else:
                    yield chunk({}, event["finish_reason"])
                    if with_usage:
                        yield _data(head | {"choices": [], "usage": event["usage"]})
        except engine.EngineError as error:
            yield _data(ApiError(500, str(error), code="engine").body)
    yield "data: [DONE]\n\n"


def _data(body: dict) -> str:
    return f"data: {json.dumps(body)}\n\n"


def serve(pocket: Pocket, listener: socket.socket, leased: bool, started=lambda: None) -> None:
    """Answer on `listener` until interrupted or, when `leased`, until no client needs it.

    `started` is called once requests are answered.
    """
    leases = Leases()
    config = uvicorn.Config(
        create_app(pocket, leases), log_level="warning", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)

    async def watch() -> None:
        while not server.started:
            await asyncio.sleep(0.02)
        started()
        while not server.should_exit:
            await asyncio.sleep(0.2)
            if (leased and leases.expired) or pocket.engine.broken:
                leases.closed = server.should_exit = True

    async def main() -> None:
        watching = asyncio.create_task(watch())
        await server.serve(sockets=[listener])
        watching.cancel()

    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        code = 130
    else:
        code = 0
    # The engine's threads may be inside a long computation that nobody waits for any more.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
