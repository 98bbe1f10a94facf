"""The pocket model's HTTP server: OpenAI's protocol.

transformers' own `serve` application is not used. It would have to be overridden nearly
everywhere: stop strings, temperature and seed per request, `[DONE]`, the context limit, refusals
of what is not supported. `python -m helpers conformance` checks this server.
"""

import asyncio
import json
import os
import re
import socket
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from pocket_model import loopback
from pocket_model.build import MODEL_ID
from pocket_model.reply import ArgumentsPiece, CallBegun, Reply, TextPiece, ToolCall
from pocket_model.server.errors import ApiError, shortened
from pocket_model.server.events import EngineRequest, Failed
from pocket_model.server.protocol import ChatRequest, StreamOptions, read_request
from pocket_model.server.service import AnswerEvent, ChatService, Counted, Finished, Likely

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


# What other programs ask for at paths that are not here, and what to choose in them instead.
CLIENT_SETTINGS = {
    "/responses": "choose chat completions instead of the Responses API",
    "/completions": "choose chat completions; there is no completion of plain text",
    "/embeddings": "choose another server for embeddings; this one has none",
    "/messages": "choose the OpenAI protocol instead of Anthropic's",
    "/api/": "choose the OpenAI protocol instead of Ollama's",
}


class Endpoints:
    """What the server answers, for a loaded model."""

    def __init__(self, service: ChatService, leases: Leases):
        self._service, self._leases = service, leases

    async def health(self, _: Request) -> JSONResponse:
        """GET /health: whether requests are answered, as load generators ask it."""
        if self._leases.closed:
            raise ApiError(503, "This server is ending; start another.", code="ending")
        return JSONResponse({"status": "ok"})

    async def models(self, _: Request) -> JSONResponse:
        """GET /v1/models."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, http: Request) -> JSONResponse:
        """GET /v1/models/{id}."""
        if (asked := http.path_params["id"]) != MODEL_ID:
            message = f"There is no model {shortened(asked)!r}; this server has {MODEL_ID!r}."
            raise ApiError(404, message, "model", "model_not_found")
        return JSONResponse(self._model())

    def _model(self) -> dict:
        entry = {"id": MODEL_ID, "object": "model", "created": 0, "owned_by": "embedded"}
        # The bytes are for the roofline: what a step reads, and the cache of each earlier token.
        weights, token = self._service.weight_bytes, self._service.token_bytes
        read = {"weight_bytes": weights, "token_bytes": token}
        return entry | {"max_model_len": self._service.context} | read

    async def usage(self, _: Request) -> JSONResponse:
        """GET /usage: the tokens of all requests so far."""
        return JSONResponse(self._service.usage)

    async def lease(self, http: Request) -> StreamingResponse:
        """GET /lease: keeps the server alive while the connection is open."""
        await self.health(http)
        return StreamingResponse(self._leases.hold(), media_type="text/plain")

    async def chat(self, http: Request) -> JSONResponse | StreamingResponse:
        """POST /v1/chat/completions."""
        _check_content_type(http.headers.get("content-type", ""))
        # In a thread: pictures and schemas take a while, and others wait for their tokens.
        body, request = await asyncio.to_thread(self._read, await http.body())
        options = (body.stream and body.stream_options) or StreamOptions()
        counts = options.include_usage and options.continuous_usage_stats
        events = self._service.stream_reply(
            request, body.stop, prefix=body.prefix, count_tokens=counts
        )
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time())}
        head["model"] = MODEL_ID
        if body.stream:
            sse = _sse(events, head, options.include_usage)
            return StreamingResponse(sse, media_type="text/event-stream")
        reply, likely, end = await _unless_disconnected(_whole_reply(events), http)
        choice = {"index": 0, "message": _message(reply), "finish_reason": end.reason}
        if body.logprobs:
            choice["logprobs"] = {"content": likely, "refusal": None}
        completion = {"object": "chat.completion", "choices": [choice], "usage": end.usage}
        return JSONResponse(head | completion)

    def _read(self, data: bytes) -> tuple[ChatRequest, EngineRequest]:
        body = read_request(data)
        return body, self._service.to_engine_request(body)


def create_app(service: ChatService, leases: Leases) -> Starlette:
    """The HTTP application for a loaded model."""
    endpoints = Endpoints(service, leases)
    errors = (ApiError, HTTPException, Exception)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", endpoints.chat, methods=["POST"]),
            Route("/v1/models", endpoints.models),
            Route("/v1/models/{id:path}", endpoints.model),
            Route("/health", endpoints.health),
            Route("/usage", endpoints.usage),
            Route("/lease", endpoints.lease),
        ],
        exception_handlers=dict.fromkeys(errors, _error_response),
    )


def _check_content_type(value: str) -> None:
    kind = value.partition(";")[0].strip().lower()
    if not re.fullmatch(r"application/(.+\+)?json", kind):
        message = (
            f"The Content-Type is {shortened(kind) or 'missing'}; it must be application/json. "
            "With curl: -H 'Content-Type: application/json'"
        )
        raise ApiError(415, message, code="content_type")


async def _error_response(http: Request, error: Exception) -> JSONResponse:
    """Any error in the form that OpenAI's clients expect."""
    match error:
        case ApiError():
            api_error = error
        case HTTPException(status_code=404):
            api_error = ApiError(404, _nothing_there(http), code="unknown_url")
        case HTTPException(status_code=405):
            allowed = "POST" if "POST" in error.headers["Allow"] else "GET"
            message = f"{http.method} {http.url.path}: this path takes {allowed} only."
            api_error = ApiError(405, message, code="method")
        case HTTPException():
            api_error = ApiError(error.status_code, error.detail)
        case _:
            api_error = ApiError(500, f"{type(error).__name__}: {error}", code="internal")
    return JSONResponse(api_error.body, api_error.status, headers=getattr(error, "headers", None))


def _nothing_there(http: Request) -> str:
    """What a 404 says: the path, what is here, and the client's setting that helps."""
    message = (
        f"{http.method} {shortened(http.url.path)}: there is no such path. This server has "
        "POST /v1/chat/completions, GET /v1/models and GET /health. The base URL for clients is "
        f"http://127.0.0.1:{http.scope['server'][1]}/v1."
    )
    for part, setting in CLIENT_SETTINGS.items():
        if part in f"{http.url.path}/" and not http.url.path.endswith("/chat/completions"):
            return f"{message} In your client, {setting}."
    return message


async def _whole_reply(events: AsyncIterator[AnswerEvent]) -> tuple[Reply, list[dict], Finished]:
    """The reply, the entries of OpenAI's `logprobs.content`, and the end."""
    reply, likely = Reply(), []
    async with aclosing(events):
        async for event in events:
            match event:
                case Failed():
                    raise ApiError(event.status, event.reason, code="engine")
                case Finished():
                    return reply, likely, event
                case Likely(entry):
                    likely.append(entry)
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
    begun, calls, counted, likely = False, 0, {}, []

    def chunk(delta: dict, finish_reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        if likely:
            choice["logprobs"] = {"content": likely.copy(), "refusal": None}
            likely.clear()
        return _data(head | {"choices": [choice]} | counted)

    async with aclosing(events):
        async for event in events:
            # With the first token, not before: load generators take its time for the first token's.
            if not begun and not isinstance(event, Counted | Failed):
                begun = True
                yield chunk({"role": "assistant", "content": ""})
            match event:
                case TextPiece(text):
                    yield chunk({"content": text})
                case CallBegun(call_id, name):
                    call = {"index": calls} | _tool_call(ToolCall(call_id, name))
                    yield chunk({"tool_calls": [call]})
                    calls += 1
                case ArgumentsPiece(text):
                    piece = {"index": calls - 1, "function": {"arguments": text}}
                    yield chunk({"tool_calls": [piece]})
                case Likely(entry):  # of a token of which nothing can be shown yet, with the next
                    likely.append(entry)
                case Counted(usage):
                    counted = {"usage": usage}  # vLLM's continuous_usage_stats
                case Failed(reason, status):
                    yield _data(ApiError(status, reason, code="engine").body)
                case Finished(reason, usage):
                    yield chunk({}, reason)
                    if with_usage:
                        yield _data(head | {"choices": [], "usage": usage})
    yield "data: [DONE]\n\n"


def _data(body: dict) -> str:
    return f"data: {json.dumps(body)}\n\n"


def serve(
    service: ChatService,
    listener: socket.socket,
    leased: bool,
    on_start: Callable[[], None],
    access: loopback.Access = loopback.THIS_MACHINE,
) -> None:
    """Answer on `listener` until Ctrl-C or, if `leased`, until no client needs the server.

    Args:
        on_start: called once requests are answered.
        access: who may ask.
    """
    leases = Leases()
    app = create_app(service, leases)
    server = loopback.create_server(app, log_level="warning", access=access)

    async def watch() -> None:
        while not server.started:
            await asyncio.sleep(0.02)
        on_start()
        while not server.should_exit:
            await asyncio.sleep(0.2)
            if leased and leases.expired:
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
