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
import threading
import time
import uuid
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from helpers.pocket import engine as engines
from helpers.pocket.build import DEFAULT_TEMPERATURE, MODEL_ID
from helpers.pocket.chat_format import ChatFormat, FormatError
from helpers.pocket.grammar import Grammars, SchemaError
from helpers.pocket.protocol import ChatRequest, PictureReader, StopText
from helpers.pocket.sampling import Sampler

# A leased server ends this long after its last lease, so that a restarted kernel finds it alive.
LINGER_S = 4.0
FIRST_LEASE_S = 10.0


class ApiError(Exception):
    """An error in OpenAI's form: HTTP status, message, the parameter at fault, a code."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str = "invalid"):
        super().__init__(message)
        self.status = status
        self.body = {
            "error": {
                "message": message,
                "type": "server_error" if status >= 500 else "invalid_request_error",
                "param": param,
                "code": code,
            }
        }


class Pocket:
    """A loaded model, its format and its engine, and the count of tokens served."""

    def __init__(self, folder: Path, quantization: str | None = None, batching: bool = False):
        model = engines.load_model(folder, quantization, batching)
        self.format = ChatFormat(folder)
        self.grammars = Grammars(self.format)
        threading.Thread(target=self.grammars.prepare, daemon=True).start()
        self.context = model.config.text_config.max_position_embeddings
        self.engine = (engines.BatchEngine if batching else engines.SerialEngine)(model)
        self.usage = {"prompt_tokens": 0, "completion_tokens": 0}
        # A batch's cache is shared, so one request may fill no more than all of it.
        if batching:
            self.context = min(self.context, engines.CACHE_TOKENS)

    def prepare(self, body: ChatRequest, constrain: bool = True) -> engines.Request:
        """The engine's request for a body. Raises `ApiError`.

        Args:
            constrain: False leaves calls and JSON to the model, to see what it has learnt.
        """
        if body.model != MODEL_ID:
            message = f"The model {body.model!r} is not here; this server has {MODEL_ID!r}."
            raise ApiError(404, message, "model", "model_not_found")
        reader = PictureReader()
        messages = []
        for place, message in enumerate(body.messages):
            try:
                messages.append(message.as_dict(reader))
            except ValueError as error:
                raise ApiError(400, f"messages.{place}: {error}", "messages", "image") from error
        try:
            # Told of tools that it may not call, the model would write a call in plain words.
            offered = [] if body.tool_choice == "none" else body.tools or []
            tools = [tool.model_dump() for tool in offered]
            prompt = self.format.encode(messages, tools)
            guide = self.grammars.guide(
                body.callable_functions,
                must_call=body.must_call,
                parallel=body.parallel_tool_calls is not False,
                schema=body.schema_wanted,
                taken_ids=body.call_ids,
                constrain=constrain,
            )
        except FormatError as error:
            raise ApiError(400, f"messages: {error}", "messages") from error
        except SchemaError as error:
            where = "tools" if body.schema_wanted is None else "response_format"
            raise ApiError(400, f"{where}: {error}", where) from error
        if len(prompt.ids) + 1 > self.context:
            message = (
                f"The prompt has {len(prompt.ids)} tokens, and the context holds {self.context}, "
                "the answer included. Shorten the messages."
            )
            raise ApiError(400, message, "messages", "context_length_exceeded")
        temperature = DEFAULT_TEMPERATURE if body.temperature is None else body.temperature
        return engines.Request(
            prompt=prompt.ids,
            max_tokens=min(body.token_limit, self.context - len(prompt.ids)),
            end_token_id=self.format.end_token_id,
            sampler=Sampler(temperature, body.top_p, body.seed, guide),
            pictures=prompt.pictures,
        )

    async def answer(self, request: engines.Request, stops: list[str]) -> AsyncIterator[dict]:
        """Events of one answer, in the order in which they are made.

        `{"text": str}`, `{"call": {"id", "name"}}` followed by `{"arguments": str}` pieces, and
        last `{"finish_reason": str, "usage": dict}`. Stop strings end text, never a call.
        """
        reader, text = self.format.reader(), StopText(stops)
        usage = {"prompt_tokens": len(request.prompt), "completion_tokens": 0}
        reason = "length"
        try:
            async with aclosing(self.engine.stream(request)) as tokens:
                async for token in tokens:
                    usage["completion_tokens"] += 1
                    if token == request.end_token_id:
                        reason = "tool_calls" if reader.calls else "stop"
                        break
                    event = reader.add(token)
                    if "text" in event:
                        event["text"] = text.add(event["text"])
                    elif "call" in event and (rest := text.rest()):
                        yield {"text": rest}
                    if any(event.values()):
                        yield event
                    if text.hit:
                        reason = "stop"
                        break
        finally:  # what was made for a client that left counts too
            for name, tokens_used in usage.items():
                self.usage[name] += tokens_used
        if request.sampler.guide.error:
            raise engines.EngineError(request.sampler.guide.error)
        if rest := text.rest():
            yield {"text": rest}
        usage["total_tokens"] = sum(usage.values())
        if request.reused:
            usage["prompt_tokens_details"] = {"cached_tokens": request.reused}
        yield {"finish_reason": reason, "usage": usage}


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
        except engines.EngineError as error:
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
        except engines.EngineError as error:
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
