"""The pocket model's HTTP server: OpenAI's protocol, on loopback.

transformers' own `serve` application is not used. It would have to be overridden nearly
everywhere: stop strings, temperature and seed per request, `[DONE]`, the context limit, refusals
of what is not supported. `python -m helpers conformance` checks this server.
"""

import asyncio
import json
import os
import socket
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from pocket_model.build import MODEL_ID
from pocket_model.reply import ArgumentsPiece, CallBegun, Reply, TextPiece, ToolCall
from pocket_model.server.engine import Failed
from pocket_model.server.errors import ApiError
from pocket_model.server.protocol import ChatRequest
from pocket_model.server.service import AnswerEvent, ChatService, Finished

# A leased server ends this long after its last lease, so that a restarted kernel can reuse it.
LINGER_S = 4.0
FIRST_LEASE_S = 10.0


class Leases:
    """Open connections of the clients that need this server; it ends after the last is gone."""

    def __init__(self):
        self._held = 0
        self._idle_since = time.monotonic() + FIRST_LEASE_S - LINGER_S
        self.closed = False

    async def hold(self) -> AsyncIterator[bytes]:
        """One lease, which lasts as long as the client's connection.

        The operating system closes the connection when the client's process ends, even if it is
        killed.
        """
        self._held += 1
        try:
            yield f"held {os.getpid()}\n".encode()
            await asyncio.Event().wait()
        finally:
            self._held -= 1
            self._idle_since = time.monotonic()

    @property
    def expired(self) -> bool:
        """Whether no client has needed this server for `LINGER_S`."""
        return not self._held and time.monotonic() - self._idle_since > LINGER_S


def create_app(service: ChatService, leases: Leases) -> FastAPI:
    """The HTTP application for a loaded model."""
    errors = (ApiError, RequestValidationError, HTTPException, Exception)
    app = FastAPI(openapi_url=None, exception_handlers=dict.fromkeys(errors, _error_response))

    @app.get("/v1/models")
    async def models() -> dict:
        entry = {"id": MODEL_ID, "object": "model", "created": 0, "owned_by": "embedded"}
        return {"object": "list", "data": [entry | {"max_model_len": service.context}]}

    @app.get("/usage")
    async def usage() -> dict:
        return service.usage

    @app.get("/lease")
    async def lease() -> StreamingResponse:
        if leases.closed or service.engine.broken:
            raise ApiError(503, "This server is ending; start another.", code="ending")
        return StreamingResponse(leases.hold(), media_type="text/plain")

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(body: ChatRequest, http: Request) -> JSONResponse | StreamingResponse:
        # In a thread: a large picture takes a while, and other requests wait for their tokens.
        request = await asyncio.to_thread(service.to_engine_request, body)
        events = service.stream_reply(request, body.stop)
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time())}
        head["model"] = MODEL_ID
        if body.stream:
            with_usage = bool(body.stream_options and body.stream_options.include_usage)
            return StreamingResponse(_sse(events, head, with_usage), media_type="text/event-stream")
        reply, end = await _unless_disconnected(_whole_reply(events), http)
        choice = {"index": 0, "message": _message(reply), "finish_reason": end.reason}
        completion = {"object": "chat.completion", "choices": [choice], "usage": end.usage}
        return JSONResponse(head | completion)

    return app


async def _error_response(_: Request, error: Exception) -> JSONResponse:
    """Any error in the form that OpenAI's clients expect."""
    match error:
        case ApiError():
            api_error = error
        case RequestValidationError():
            # A value of several possible types has an error for each: the deepest is the one meant.
            deepest = max(error.errors(), key=lambda details: len(details["loc"]))
            where = ".".join(str(part) for part in deepest["loc"][1:]) or "body"
            message = deepest["msg"].removeprefix("Value error, ")
            api_error = ApiError(400, f"{where}: {message}", where)
        case HTTPException():
            api_error = ApiError(error.status_code, error.detail)
        case _:
            api_error = ApiError(500, f"{type(error).__name__}: {error}", code="internal")
    return JSONResponse(api_error.body, api_error.status)


async def _whole_reply(events: AsyncIterator[AnswerEvent]) -> tuple[Reply, Finished]:
    reply = Reply()
    async with aclosing(events):
        async for event in events:
            match event:
                case Failed():
                    raise ApiError(500, event.reason, code="engine")
                case Finished():
                    return reply, event
                case _:
                    reply.add(event)


async def _unless_disconnected(work: Coroutine, http: Request):
    """The result of `work`, which is cancelled if the client disconnects."""
    task = asyncio.create_task(work)
    while not task.done():
        if await http.is_disconnected():
            task.cancel()
        await asyncio.wait([task], timeout=0.2)
    if task.cancelled():
        raise ApiError(499, "The client closed the connection.", code="client_closed_request")
    return task.result()


def _message(reply: Reply) -> dict:
    """A reply as OpenAI's assistant message."""
    message = {"role": "assistant", "content": reply.content}
    if reply.tool_calls:
        message["content"] = reply.content or None
        message["tool_calls"] = [_tool_call(call) for call in reply.tool_calls]
    return message


def _tool_call(call: ToolCall) -> dict:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


async def _sse(
    events: AsyncIterator[AnswerEvent], head: dict, with_usage: bool
) -> AsyncIterator[str]:
    """Server-sent events of one streamed answer, `[DONE]` last."""
    head = head | {"object": "chat.completion.chunk"}
    calls = 0

    def chunk(delta: dict, finish_reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return _data(head | {"choices": [choice]})

    yield chunk({"role": "assistant", "content": ""})
    async with aclosing(events):
        async for event in events:
            match event:
                case TextPiece(text):
                    yield chunk({"content": text})
                case CallBegun(call_id, name):
                    begun = {"index": calls} | _tool_call(ToolCall(call_id, name))
                    yield chunk({"tool_calls": [begun]})
                    calls += 1
                case ArgumentsPiece(text):
                    piece = {"index": calls - 1, "function": {"arguments": text}}
                    yield chunk({"tool_calls": [piece]})
                case Failed(reason):
                    yield _data(ApiError(500, reason, code="engine").body)
                case Finished(reason, usage):
                    yield chunk({}, reason)
                    if with_usage:
                        yield _data(head | {"choices": [], "usage": usage})
    yield "data: [DONE]\n\n"


def _data(body: dict) -> str:
    return f"data: {json.dumps(body)}\n\n"


def serve(
    service: ChatService, listener: socket.socket, leased: bool, on_start: Callable[[], None]
) -> None:
    """Answer on `listener` until Ctrl-C or, if `leased`, until no client needs the server.

    Args:
        on_start: called once requests are answered.
    """
    leases = Leases()
    config = uvicorn.Config(
        create_app(service, leases), log_level="warning", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)

    async def watch() -> None:
        while not server.started:
            await asyncio.sleep(0.02)
        on_start()
        while not server.should_exit:
            await asyncio.sleep(0.2)
            if (leased and leases.expired) or service.engine.broken:
                leases.closed = server.should_exit = True

    async def main() -> None:
        watching = asyncio.create_task(watch())
        await server.serve(sockets=[listener])
        watching.cancel()

    code = 0
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        code = 130
    # The engine's threads may still compute what no client waits for, so they are not joined.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
