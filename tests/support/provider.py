"""A server on this machine that speaks as a provider does; see `dialects`."""

import contextlib
import json
from collections.abc import AsyncIterator, Iterator

import httpx2
from dialects import DIALECTS, Dialect, Refusal
from scripted_pocket import served
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from pocket_model.call_id import new_call_id
from pocket_model.server.errors import ApiError
from pocket_model.server.protocol import read_request

SIGN = {"X-Scripted-Server": "tests/support/provider.py of mistral-small-lab"}


class Script:
    """A running scripted server.

    Attributes:
        url: its address, with /v1.
        seen: the bodies of the chat requests so far.
        failures: refusals for the next chat requests, in this order.
        reasoning: a text that precedes every whole answer as the provider's reasoning.
    """

    def __init__(self, dialect: Dialect, pocket: httpx2.AsyncClient):
        self.dialect, self.url = dialect, ""
        self.seen: list[dict] = []
        self.failures: list[Refusal] = []
        self.reasoning: str | None = None
        self._pocket = pocket

    def app(self) -> Starlette:
        routes = [
            Route("/v1/models", self._models),
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
        ]
        return Starlette(routes=routes, exception_handlers={Refusal: self._refuse})

    async def _refuse(self, request: Request, refusal: Refusal) -> JSONResponse:
        return JSONResponse(refusal.body, refusal.status, headers=SIGN | refusal.headers)

    def _check_key(self, request: Request) -> None:
        key = self.dialect.key
        if key and request.headers.get("authorization") != f"Bearer {key}":
            raise self.dialect.refuse(401, "Unauthorized")

    async def _models(self, request: Request) -> JSONResponse:
        self._check_key(request)
        return JSONResponse(self.dialect.models(), headers=SIGN)

    async def _chat(self, request: Request) -> JSONResponse | StreamingResponse:
        self._check_key(request)
        body = await request.json()
        self.seen.append(body)
        if self.failures:
            raise self.failures.pop(0)
        self.dialect.check(body)
        self.dialect.check_pictures(body)
        if body["model"] != self.dialect.model:
            raise self.dialect.refuse(self.dialect.missing_model, f"no model {body['model']}")
        sent = self.dialect.request(body)
        if sent.get("stream"):
            events = self._events(sent, body)
            return StreamingResponse(events, media_type="text/event-stream", headers=SIGN)
        reply = await self._pocket.post("chat/completions", json=sent)
        if reply.status_code != 200:
            message = reply.json()["error"]["message"]
            raise self.dialect.refuse(reply.status_code, message)
        answer = reply.json()
        choice = {
            "message": self.dialect.message(answer["choices"][0]["message"], self.reasoning),
            "finish_reason": self.dialect.finish_reason(
                answer["choices"][0]["finish_reason"], body
            ),
        }
        whole = self.dialect.envelope("chat.completion", choice, _counts(answer["usage"]))
        return JSONResponse(whole, headers=SIGN)

    async def _events(self, sent: dict, body: dict) -> AsyncIterator[str]:
        """The pocket server's stream in the provider's form: text in pieces, calls whole."""
        calls: list[dict] = []
        reason, usage, dialect = "stop", None, self.dialect
        sent = sent | {"stream_options": {"include_usage": True}}
        async with self._pocket.stream("POST", "chat/completions", json=sent) as reply:
            async for line in reply.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                chunk = json.loads(line[6:])
                usage = _counts(chunk["usage"]) if chunk.get("usage") else usage
                for choice in chunk["choices"]:
                    reason = choice["finish_reason"] or reason
                    _join(calls, choice["delta"].get("tool_calls") or [])
                    if text := choice["delta"].get("content"):
                        yield self._event({"role": "assistant", "content": text}, None, None)
        delta = {"role": "assistant", "content": ""}
        delta |= {"tool_calls": dialect.calls(calls)} if calls else {}
        reason = dialect.finish_reason(reason, body)
        yield self._event(delta, reason, None if dialect.usage_chunk else usage)
        if dialect.usage_chunk and (body.get("stream_options") or {}).get("include_usage"):
            last = dialect.envelope("chat.completion.chunk", None, usage)
            yield f"data: {json.dumps(last)}\n\n"
        yield "data: [DONE]\n\n"

    def _event(self, delta: dict, reason: str | None, usage: dict | None) -> str:
        choice = {"delta": delta, "finish_reason": reason}
        chunk = self.dialect.envelope("chat.completion.chunk", choice, usage)
        return f"data: {json.dumps(chunk)}\n\n"


def _counts(usage: dict) -> dict:
    return {name: usage[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}


def _join(calls: list[dict], pieces: list[dict]) -> None:
    """Add the deltas of streamed calls to the calls so far."""
    for piece in pieces:
        if piece["index"] == len(calls):
            named = {"name": piece["function"]["name"], "arguments": ""}
            calls.append({"id": piece["id"], "type": "function", "function": named})
        calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"] or ""


async def parrot(request: Request) -> JSONResponse | StreamingResponse:
    """A stand-in for the pocket server without its model: it checks a request as that does.

    It answers with words and their number, with a call of the first tool, or with `{"a": 1}`.
    """
    try:
        read_request(await request.body())
    except ApiError as error:
        return JSONResponse(error.body, error.status)
    body = await request.json()
    words = [f"w{number} " for number in range(min(body["max_tokens"], 9))]
    reason, message = "length", {"role": "assistant", "content": "".join(words)}
    if body.get("tools") and body["messages"][-1]["role"] == "user":
        named = {"name": body["tools"][0]["function"]["name"], "arguments": '{"city": "Paris"}'}
        call = {"id": new_call_id(), "type": "function", "function": named}
        reason, message = "tool_calls", {"content": None, "tool_calls": [call]}
    elif body.get("response_format"):
        reason, message = "stop", {"content": '{"a": 1}'}
    counts = {"prompt_tokens": 10 * len(body["messages"]), "completion_tokens": len(words)}
    counts["total_tokens"] = sum(counts.values())
    if not body.get("stream"):
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return JSONResponse({"choices": [choice], "usage": counts})
    calls = [call | {"index": 0} for call in message.get("tool_calls", [])]
    deltas = [{"tool_calls": calls}] if calls else [{"content": word} for word in words]
    chunks = [{"choices": [{"delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({"choices": [{"delta": {}, "finish_reason": reason}], "usage": counts})
    lines = (f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
    return StreamingResponse(lines, media_type="text/event-stream")


@contextlib.contextmanager
def serve(name: str, pocket_url: str | None = None) -> Iterator[Script]:
    """Run a provider's scripted server on a free port of this machine.

    Args:
        name: a key of `DIALECTS`.
        pocket_url: the pocket server that answers; None for words without a model.
    """
    transport = None
    if pocket_url is None:
        route = Route("/v1/chat/completions", parrot, methods=["POST"])
        transport, pocket_url = httpx2.ASGITransport(app=Starlette(routes=[route])), "http://x/v1"
    pocket = httpx2.AsyncClient(
        base_url=pocket_url, transport=transport, trust_env=False, timeout=300
    )
    script = Script(DIALECTS[name](), pocket)
    with served(script.app()) as url:
        script.url = f"{url}/v1"
        yield script
