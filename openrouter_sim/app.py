"""A simulator of OpenRouter: its dialect and its failures on loopback, the pocket model's answers.

It says that it is one: nothing here is OpenRouter's code, no money moves, and the prices are the
snapshot's. What is real is the HTTP, the text (the pocket model writes it) and the counting. So a
program can be tried against every failure that a paid service would seldom show when it is wanted.

A failure is asked for with the header ``X-Simulate: NAME``, one of `FAULTS`; with
``X-Simulate: NAME 2`` it befalls the first two attempts, and the third is served. The keys of
`KEYS` fail by themselves; any other well-formed key works, with a balance of its own.
"""

import asyncio
import json
import os
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from helpers import prices
from openrouter_sim.faults import (
    BALANCES,
    FAULTS,
    PIECES_BEFORE_FAILURE,
    PROVIDERS,
    SLOW_S,
    THROTTLED,
    WITHDRAWN,
    Fault,
    Refusal,
    _error,
)
from openrouter_sim.recorder import LOG_VARIABLE, Recorder
from pocket_model import lease
from pocket_model.build import MODEL_ID
from pocket_model.loopback import bind

WELL_FORMED = re.compile(r"sk-or-v1-[A-Za-z0-9-]{12,}")


THROTTLE, THROTTLE_S = 4, 2.0


# As OpenRouter's own list had it when the price snapshot was written.
WITHOUT_TOOLS = {
    "mistralai/mistral-small-24b-instruct-2501",
    "mistralai/mistral-small-3.1-24b-instruct",
}


# What the pocket server takes; the rest is dropped, as providers drop what they do not support.
PASSED_ON = {
    *("messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop"),
    *("stream", "response_format", "tools", "tool_choice", "parallel_tool_calls"),
}


# The gateway's own wishes, which no provider sees.
GATEWAYS = {
    *("model", "models", "provider", "plugins", "route", "usage", "user", "stream_options"),
    *("metadata", "session_id", "transforms"),
}


@dataclass
class Account:
    """What one key has spent, in USD, and when its last requests came."""

    limit: float = 1.0
    usage: float = 0.0
    recent: deque = field(default_factory=lambda: deque(maxlen=THROTTLE))


class Gateway:
    """The simulator's state: accounts by key, and the pocket server behind it."""

    def __init__(self, pocket_url: str):
        self.pocket = httpx2.AsyncClient(base_url=f"{pocket_url}/", timeout=600, trust_env=False)
        self.accounts: dict[str, Account] = {}
        self.models = prices.priced_models()

    def account(self, request: Request) -> Account:
        """The account of the request's key. Raises `Refusal` for a bad key."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Refusal(401, "No auth credentials found", {"error_type": "authentication"})
        if key == WITHDRAWN or not WELL_FORMED.fullmatch(key):
            raise Refusal(401, "User not found.", {"error_type": "authentication"})
        account = self.accounts.setdefault(key, Account(BALANCES.get(key, 1.0)))
        if key == THROTTLED and request.method == "POST":
            now = time.monotonic()
            if len(account.recent) == THROTTLE and now - account.recent[0] < THROTTLE_S:
                wait = {"Retry-After": str(int(THROTTLE_S))}
                told = {"error_type": "rate_limit_exceeded"}
                raise Refusal(429, "Rate limit exceeded: 4 requests in 2 s", told, wait)
            account.recent.append(now)
        return account

    def route(self, body: dict) -> tuple[str, list[str]]:
        """The model that will answer, and the providers to ask in turn. Raises `Refusal`."""
        asked = [body.get("model"), *(body.get("models") or [])]
        for name in asked:
            if not isinstance(name, str) or prices.without_wish(name) not in self.models:
                told = {"error_type": "invalid_request"}
                raise Refusal(400, f"{name} is not a valid model ID", told)
        wishes = body.get("provider") or {}
        providers = list(wishes.get("order") or [])
        if wishes.get("allow_fallbacks", True) or not providers:
            providers += [name for name in PROVIDERS if name not in providers]
        providers = [name for name in providers if name in PROVIDERS]
        providers = [name for name in providers if name in (wishes.get("only") or PROVIDERS)]
        providers = [name for name in providers if name not in (wishes.get("ignore") or ())]
        told = {"error_type": "not_found"}
        if not providers:
            raise Refusal(404, "No allowed providers are available for the selected model.", told)
        if body.get("tools"):
            asked = [name for name in asked if prices.without_wish(name) not in WITHOUT_TOOLS]
        if not asked:
            raise Refusal(404, "No endpoints found that support tool use.", told)
        unsupported = set(body) - PASSED_ON - GATEWAYS
        if wishes.get("require_parameters") and unsupported:
            words = "No endpoints found that can handle the requested parameters."
            raise Refusal(404, words, told)
        price = self.models[prices.without_wish(asked[0])]
        most = wishes.get("max_price") or {}
        for side, name in (("prompt", "input"), ("completion", "output")):
            if side in most and float(most[side]) < price[name]:
                raise Refusal(404, "No endpoints found below the maximum price.", told)
        return asked[0], providers

    def charge(self, account: Account, model: str, usage: dict) -> dict:
        """OpenRouter's usage object for the pocket's; the account pays for it."""
        price = self.models[prices.without_wish(model)]
        read = usage["prompt_tokens"] * price["input"] / 1e6
        written = usage["completion_tokens"] * price["output"] / 1e6
        account.usage += read + written
        details = {
            "upstream_inference_cost": None,
            "upstream_inference_prompt_cost": read,
            "upstream_inference_completions_cost": written,
        }
        return {**usage, "cost": read + written, "is_byok": False, "cost_details": details}


def _fault(request: Request) -> Fault | None:
    """The failure that the request asks for, unless it has passed by now. Raises `Refusal`."""
    asked = request.headers.get("x-simulate", "").split()
    if not asked:
        return None
    if asked[0] not in FAULTS or (len(asked) > 1 and not asked[1].isdigit()):
        raise Refusal(400, f"X-Simulate knows: {', '.join(FAULTS)}; with a number of retries.")
    retries = request.headers.get("x-stainless-retry-count", "0")
    if len(asked) > 1 and retries.isdigit() and int(retries) >= int(asked[1]):
        return None
    return FAULTS[asked[0]]


def create_app(gateway: Gateway) -> FastAPI:
    """The HTTP application."""
    app = FastAPI(title="OpenRouter simulator", docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> JSONResponse:
        return JSONResponse(error.body, error.status, headers=error.headers)

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": _error(error.status_code, error.detail)}, error.status_code)

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": _error(500, f"{type(error).__name__}: {error}")}, 500)

    @app.get("/api/v1/models")
    async def models() -> dict:
        entries = [_model_entry(name, row) for name, row in gateway.models.items()]
        return {"data": entries, "total_count": len(entries), "links": {"next": None}}

    @app.get("/api/v1/key")
    async def key(request: Request) -> dict:
        account = gateway.account(request)
        return {"data": _key_entry(account)}

    @app.post("/api/v1/chat/completions", response_model=None)
    async def chat(request: Request) -> JSONResponse | StreamingResponse:
        account = gateway.account(request)
        fault = _fault(request)
        if fault and not fault.befalls:
            raise Refusal(fault.status, fault.message, fault.metadata, fault.headers)
        try:
            body = json.loads(await request.body())
        except ValueError as error:
            raise Refusal(400, f"The body is not JSON: {error}") from error
        if not isinstance(body, dict):
            raise Refusal(400, "The body is not a JSON object.")
        model, providers = gateway.route(body)
        if fault and fault.befalls == "provider":
            providers = providers[1:]
            if not providers:
                down = FAULTS["provider-error"]
                raise Refusal(down.status, down.message, down.metadata)
        if account.usage >= account.limit:
            told = {"error_type": "payment_required"}
            raise Refusal(402, "Insufficient credits. Add more in the account's settings.", told)
        head = {
            "id": f"gen-{int(time.time())}-{secrets.token_hex(10)}",
            "provider": providers[0],
            "model": model,
            "created": int(time.time()),
        }
        befalls = fault.befalls if fault else ""
        if befalls == "slow":
            await asyncio.sleep(SLOW_S)
        if befalls == "body":
            failed = _error(502, fault.message, fault.metadata)
            return JSONResponse({"error": failed, "user_id": "simulated"})
        passed_on = {name: body[name] for name in PASSED_ON & set(body)} | {"model": MODEL_ID}
        answer = _Answer(gateway, account, head, passed_on, fault)
        headers = {"X-Generation-Id": head["id"]}
        if not body.get("stream"):
            return JSONResponse(await answer.whole(), headers=headers)
        # The first event decides between a stream and an error status.
        events = answer.stream()
        first = await anext(events)

        async def all_events() -> AsyncIterator[str]:
            yield first
            async for event in events:
                yield event

        return StreamingResponse(all_events(), media_type="text/event-stream", headers=headers)

    return app


class _Answer:
    """One request to the pocket server, told on in OpenRouter's words."""

    def __init__(self, gateway: Gateway, account: Account, head: dict, body: dict, fault):
        self.gateway, self.account, self.head, self.body = gateway, account, head, body
        self.fault = fault

    async def whole(self) -> dict:
        # Who leaves before an unstreamed answer pays for it all the same, as at OpenRouter.
        reply = self._checked(await self.gateway.pocket.post("chat/completions", json=self.body))
        for choice in reply["choices"]:
            choice |= {"native_finish_reason": choice["finish_reason"], "logprobs": None}
            choice["message"] |= {"refusal": None, "reasoning": None}
        usage = self.gateway.charge(self.account, self.head["model"], reply["usage"])
        return {
            **self.head,
            "object": "chat.completion",
            "system_fingerprint": None,
            "choices": reply["choices"],
            "usage": usage,
        }

    def _checked(self, response: httpx2.Response) -> dict:
        told = response.json()
        if response.status_code == 200:
            return told
        said = told.get("error", {})
        kinds = {"context_length_exceeded": "context_length_exceeded", "image": "invalid_image"}
        kind = kinds.get(said.get("code"), "invalid_request")
        status = response.status_code if response.status_code < 500 else 502
        raise Refusal(status, said.get("message", "Provider returned error"), {"error_type": kind})

    async def stream(self) -> AsyncIterator[str]:
        befalls = self.fault.befalls if self.fault else ""
        body = self.body | {"stream_options": {"include_usage": True}}
        request = self.gateway.pocket.build_request("POST", "chat/completions", json=body)
        reply = await self.gateway.pocket.send(request, stream=True)
        try:
            if reply.status_code != 200:
                await reply.aread()
                self._checked(reply)
            yield ": OPENROUTER PROCESSING\n\n"
            if befalls == "comments":
                for _ in range(5):
                    await asyncio.sleep(0.1)
                    yield ": OPENROUTER PROCESSING\n\n"
            pieces = 0
            async for line in reply.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    yield self._failure(_error(502, chunk["error"]["message"]))
                    return
                if chunk.get("usage"):
                    usage = self.gateway.charge(self.account, self.head["model"], chunk["usage"])
                    yield self._event({"choices": [], "usage": usage})
                    continue
                pieces += 1
                if pieces > PIECES_BEFORE_FAILURE:
                    if befalls == "stream":
                        told = self.fault
                        yield self._failure(_error(502, told.message, told.metadata))
                        return
                    if befalls == "truncated":
                        return
                    if befalls == "cut":
                        raise ConnectionResetError("simulated: the connection breaks")
                for choice in chunk["choices"]:
                    choice |= {"native_finish_reason": choice["finish_reason"]}
                yield self._event({"choices": chunk["choices"]})
            yield "data: [DONE]\n\n"
        finally:
            await reply.aclose()

    def _event(self, more: dict) -> str:
        chunk = {**self.head, "object": "chat.completion.chunk", **more}
        return f"data: {json.dumps(chunk)}\n\n"

    def _failure(self, error: dict) -> str:
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
        return self._event({"error": error, "choices": [choice]})


def _model_entry(name: str, row: dict) -> dict:
    """One entry of `/models`; of the prices only what the snapshot has."""
    pictures = "3.2" in name or "3.1" in name
    tools = [] if name in WITHOUT_TOOLS else ["tools", "tool_choice", "structured_outputs"]
    return {
        "id": name,
        "canonical_slug": name,
        "name": f"{name} (simulated)",
        "description": "Simulated: the kit's pocket model answers.",
        "created": 0,
        "context_length": row["context"],
        "architecture": {
            "modality": "text+image->text" if pictures else "text->text",
            "input_modalities": ["text", *(["image"] if pictures else [])],
            "output_modalities": ["text"],
            "tokenizer": "Mistral",
            "instruct_type": None,
        },
        "pricing": {
            "prompt": f"{row['input'] / 1e6:.10f}",
            "completion": f"{row['output'] / 1e6:.10f}",
        },
        "top_provider": {
            "context_length": row["context"],
            "max_completion_tokens": None,
            "is_moderated": False,
        },
        "per_request_limits": None,
        "supported_parameters": ["max_tokens", "temperature", "top_p", "seed", "stop", *tools],
        "default_parameters": None,
        "supported_voices": None,
        "knowledge_cutoff": None,
        "expiration_date": None,
        "links": {"details": f"/api/v1/models/{name}/endpoints"},
    }


def _key_entry(account: Account) -> dict:
    spent = dict.fromkeys(("usage", "usage_daily", "usage_weekly", "usage_monthly"), account.usage)
    own = dict.fromkeys(("byok_usage", "byok_usage_daily", "byok_usage_weekly"), 0.0)
    return {
        "label": "simulated",
        "limit": account.limit,
        "limit_remaining": max(0.0, account.limit - account.usage),
        "limit_reset": None,
        "is_free_tier": False,
        "is_management_key": False,
        "is_provisioning_key": False,
        "include_byok_in_limit": False,
        "creator_user_id": None,
        "expires_at": None,
        "rate_limit": {"requests": -1, "interval": "10s", "note": "deprecated"},
        **spent,
        **own,
        "byok_usage_monthly": 0.0,
    }


class Simulator:
    """The simulator in a thread of this process: `base_url`, until `close`.

    It holds the pocket server for as long as it lives. Raises `OSError` for a port that is taken,
    and what `lease.acquire` raises.
    """

    def __init__(self, port: int = 0):
        listener = bind(port)
        try:
            self.lease = lease.acquire()
        except BaseException:
            listener.close()
            raise
        self.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/api/v1"
        app = create_app(Gateway(self.lease.base_url))
        if log := os.environ.get(LOG_VARIABLE):
            app = Recorder(app, Path(log))
        # A simulated broken connection is an exception inside the server: no traceback of it.
        config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
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
        """End the server and let go of the pocket server."""
        self._server.should_exit = True
        self._thread.join(timeout=5)
        self.lease.close()

    def wait(self) -> None:
        """Wait until the server ends."""
        self._thread.join()
