"""The simulator's server: OpenRouter's API and its failures, in front of the pocket server.

A request asks for a failure with the header `X-Simulate: NAME`, one of `faults.FAULTS`. With
`X-Simulate: NAME 2` the first two attempts fail and the third succeeds. Some keys of
`faults.KEYS` fail by themselves; any other well-formed key works and has a balance of its own.
"""

import asyncio
import json
import os
import re
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from openrouter_sim import faults
from openrouter_sim.faults import PROVIDERS, Fault, Refusal, error_object
from openrouter_sim.recorder import LOG_VARIABLE, Recorder
from pocket_model import lease, loopback
from pocket_model.build import MODEL_ID

WELL_FORMED = re.compile(r"sk-or-v1-[A-Za-z0-9-]{12,}")
THROTTLE, THROTTLE_S = 4, 2.0
SIDES = (("prompt", "input"), ("completion", "output"))  # OpenRouter's names, the price file's

# As OpenRouter's own list had it when the price snapshot was written.
WITHOUT_TOOLS = {
    "mistralai/mistral-small-24b-instruct-2501",
    "mistralai/mistral-small-3.1-24b-instruct",
}

# What the pocket server accepts. The rest is dropped, as providers drop what they do not support.
FORWARDED_FIELDS = {
    *("messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop"),
    *("stream", "response_format", "tools", "tool_choice", "parallel_tool_calls"),
}

# What the gateway itself reads; no provider receives it.
GATEWAY_FIELDS = {
    *("model", "models", "provider", "plugins", "route", "usage", "user", "stream_options"),
    *("metadata", "session_id", "transforms"),
}


@dataclass
class Account:
    """What one key may spend and has spent, in USD, and when its last requests came."""

    limit: float = 1.0
    usage: float = 0.0
    recent: deque = field(default_factory=lambda: deque(maxlen=THROTTLE))


def without_routing_suffix(model: str) -> str:
    """A model id without ":nitro" or ":floor", which only say how to choose a provider."""
    return model.removesuffix(":nitro").removesuffix(":floor")


class Gateway:
    """The simulator's state and its endpoints.

    Args:
        pocket_url: the pocket server's base URL.
        prices: by model id: `input` and `output` in USD per million tokens, `context` in tokens.
    """

    def __init__(self, pocket_url: str, prices: dict[str, dict]):
        self.pocket = httpx2.AsyncClient(base_url=f"{pocket_url}/", timeout=600, trust_env=False)
        self.prices = prices
        self.accounts: dict[str, Account] = {}

    async def models(self, _: Request) -> JSONResponse:
        """GET /models."""
        data = [_model_entry(model, row) for model, row in self.prices.items()]
        return JSONResponse({"data": data, "total_count": len(data), "links": {"next": None}})

    async def key(self, request: Request) -> JSONResponse:
        """GET /key."""
        return JSONResponse({"data": _key_entry(self.account(request))})

    async def chat(self, request: Request) -> JSONResponse | StreamingResponse:
        """POST /chat/completions."""
        account = self.account(request)
        fault = faults.requested_fault(request.headers)
        if fault.status != 200:
            raise fault.refusal()
        body = _json_object(await request.body())
        model, providers = self.route(body)
        if fault.effect == "provider":
            providers = providers[1:]
            if not providers:
                raise faults.FAULTS["provider-error"].refusal()
        if account.usage >= account.limit:
            raise Refusal(402, "Insufficient credits. Add more in the account's settings.")
        if fault.effect == "slow":
            await asyncio.sleep(faults.SLOW_S)
        if fault.effect == "body":
            return JSONResponse({"error": fault.provider_error(), "user_id": "simulated"})
        completion = ProxiedCompletion(self, account, model, providers[0], body, fault)
        headers = {"X-Generation-Id": completion.head["id"]}
        if not body.get("stream"):
            return JSONResponse(await completion.reply(), headers=headers)
        # The first event decides between a stream and an error status.
        events = completion.events()
        first = await anext(events)

        async def all_events() -> AsyncIterator[str]:
            yield first
            async for event in events:
                yield event

        return StreamingResponse(all_events(), media_type="text/event-stream", headers=headers)

    def account(self, request: Request) -> Account:
        """The account of the request's key.

        Raises:
            Refusal: the key is missing or bad, or its requests come too fast.
        """
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Refusal(401, "No auth credentials found")
        if key == faults.REVOKED or not WELL_FORMED.fullmatch(key):
            raise Refusal(401, "User not found.")
        account = self.accounts.setdefault(key, Account(faults.BALANCES.get(key, 1.0)))
        if key == faults.THROTTLED and request.method == "POST":
            now = time.monotonic()
            if len(account.recent) == THROTTLE and now - account.recent[0] < THROTTLE_S:
                wait = {"Retry-After": str(int(THROTTLE_S))}
                raise Refusal(429, "Rate limit exceeded: 4 requests in 2 s", wait)
            account.recent.append(now)
        return account

    def route(self, body: dict) -> tuple[str, list[str]]:
        """The model that will answer a request, and the providers to ask in turn.

        Raises:
            Refusal: no model or no provider can do what the request asks for.
        """
        models = [body.get("model"), *(body.get("models") or [])]
        for model in models:
            if not isinstance(model, str) or without_routing_suffix(model) not in self.prices:
                raise Refusal(400, f"{model} is not a valid model ID")
        routing = body.get("provider") or {}
        providers = _providers(routing)
        if not providers:
            raise Refusal(404, "No allowed providers are available for the selected model.")
        if body.get("tools"):
            models = [m for m in models if without_routing_suffix(m) not in WITHOUT_TOOLS]
        if not models:
            raise Refusal(404, "No endpoints found that support tool use.")
        unsupported = set(body) - FORWARDED_FIELDS - GATEWAY_FIELDS
        if routing.get("require_parameters") and unsupported:
            raise Refusal(404, "No endpoints found that can handle the requested parameters.")
        price = self.prices[without_routing_suffix(models[0])]
        max_price = routing.get("max_price") or {}
        for side, name in SIDES:
            if side in max_price and float(max_price[side]) < price[name]:
                raise Refusal(404, "No endpoints found below the maximum price.")
        return models[0], providers

    def charge(self, account: Account, model: str, usage: dict) -> dict:
        """Charge an account for the pocket server's `usage`; returns OpenRouter's usage object."""
        price = self.prices[without_routing_suffix(model)]
        input_usd = usage["prompt_tokens"] * price["input"] / 1e6
        output_usd = usage["completion_tokens"] * price["output"] / 1e6
        account.usage += input_usd + output_usd
        details = {
            "upstream_inference_cost": None,
            "upstream_inference_prompt_cost": input_usd,
            "upstream_inference_completions_cost": output_usd,
        }
        return {**usage, "cost": input_usd + output_usd, "is_byok": False, "cost_details": details}


def _json_object(data: bytes) -> dict:
    try:
        body = json.loads(data)
    except ValueError as error:
        raise Refusal(400, f"The body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise Refusal(400, "The body is not a JSON object.")
    return body


def _providers(routing: dict) -> list[str]:
    """The providers that a request's `provider` object allows, in its order."""
    order = [name for name in routing.get("order") or [] if name in PROVIDERS]
    if routing.get("allow_fallbacks", True) or not routing.get("order"):
        order += [name for name in PROVIDERS if name not in order]
    only, ignored = routing.get("only") or PROVIDERS, routing.get("ignore") or ()
    return [name for name in order if name in only and name not in ignored]


class ProxiedCompletion:
    """One completion by the pocket server, in OpenRouter's form and with a fault's effect.

    Attributes:
        head: the fields that the reply and every chunk begin with.
    """

    def __init__(
        self,
        gateway: Gateway,
        account: Account,
        model: str,
        provider: str,
        body: dict,
        fault: Fault,
    ):
        self.gateway, self.account, self.fault = gateway, account, fault
        self.body = {name: body[name] for name in FORWARDED_FIELDS & set(body)}
        self.body["model"] = MODEL_ID
        self.head = {
            "id": f"gen-{int(time.time())}-{secrets.token_hex(10)}",
            "provider": provider,
            "model": model,
            "created": int(time.time()),
        }

    async def reply(self) -> dict:
        """The whole reply. A client that leaves before it pays all the same, as at OpenRouter."""
        response = await self.gateway.pocket.post("chat/completions", json=self.body)
        _refuse_errors(response)
        reply = response.json()
        for choice in reply["choices"]:
            choice |= {"native_finish_reason": choice["finish_reason"], "logprobs": None}
            choice["message"] |= {"refusal": None, "reasoning": None}
        return {
            **self.head,
            "object": "chat.completion",
            "system_fingerprint": None,
            "choices": reply["choices"],
            "usage": self._charge(reply["usage"]),
        }

    async def events(self) -> AsyncIterator[str]:
        """The reply as an event stream."""
        body = self.body | {"stream_options": {"include_usage": True}}
        effect = self.fault.effect
        async with self.gateway.pocket.stream("POST", "chat/completions", json=body) as response:
            if response.status_code != 200:
                await response.aread()
                _refuse_errors(response)
            yield ": OPENROUTER PROCESSING\n\n"
            for _ in range(5 if effect == "comments" else 0):
                await asyncio.sleep(0.1)
                yield ": OPENROUTER PROCESSING\n\n"
            count = 0
            async for line in response.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    yield self._failure(error_object(502, chunk["error"]["message"]))
                    return
                if chunk.get("usage"):
                    yield self._event(choices=[], usage=self._charge(chunk["usage"]))
                    continue
                count += 1
                if count > faults.CHUNKS_BEFORE_FAILURE:
                    if effect == "cut":
                        raise ConnectionResetError("simulated: the connection breaks")
                    if effect == "stream":
                        yield self._failure(self.fault.provider_error())
                    if effect in ("stream", "truncated"):
                        return
                for choice in chunk["choices"]:
                    choice["native_finish_reason"] = choice["finish_reason"]
                yield self._event(choices=chunk["choices"])
            yield "data: [DONE]\n\n"

    def _charge(self, usage: dict) -> dict:
        return self.gateway.charge(self.account, self.head["model"], usage)

    def _event(self, **fields) -> str:
        chunk = {**self.head, "object": "chat.completion.chunk", **fields}
        return f"data: {json.dumps(chunk)}\n\n"

    def _failure(self, error: dict) -> str:
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
        return self._event(error=error, choices=[choice])


def _refuse_errors(response: httpx2.Response) -> None:
    """Raise the pocket server's error as the `Refusal` that OpenRouter would send."""
    if response.status_code == 200:
        return
    error = response.json().get("error", {})
    types = {"context_length_exceeded": "context_length_exceeded", "image": "invalid_image"}
    status = response.status_code if response.status_code < 500 else 502
    message = error.get("message", "Provider returned error")
    raise Refusal(status, message, error_type=types.get(error.get("code"), "invalid_request"))


def _model_entry(model: str, row: dict) -> dict:
    """One entry of `/models`: what OpenRouter's description requires, and the prices."""
    inputs = ["text", "image"] if "3.2" in model or "3.1" in model else ["text"]
    tools = [] if model in WITHOUT_TOOLS else ["tools", "tool_choice", "structured_outputs"]
    return {
        "id": model,
        "canonical_slug": model,
        "name": f"{model} (simulated)",
        "description": "Simulated: the kit's pocket model answers.",
        "created": 0,
        "context_length": row["context"],
        "architecture": {
            "modality": f"{'+'.join(inputs)}->text",
            "input_modalities": inputs,
            "output_modalities": ["text"],
        },
        "pricing": {side: f"{row[name] / 1e6:.10f}" for side, name in SIDES},
        "top_provider": {"context_length": row["context"], "is_moderated": False},
        "supported_parameters": ["max_tokens", "temperature", "top_p", "seed", "stop", *tools],
        "links": {"details": f"/api/v1/models/{model}/endpoints"},
        **dict.fromkeys(("per_request_limits", "default_parameters", "supported_voices")),
    }


def _key_entry(account: Account) -> dict:
    """The body of `/key`: what OpenRouter's description requires."""
    spent = dict.fromkeys(("usage", "usage_daily", "usage_weekly", "usage_monthly"), account.usage)
    flags = ("is_free_tier", "is_management_key", "is_provisioning_key", "include_byok_in_limit")
    return {
        "label": "simulated",
        "limit": account.limit,
        "limit_remaining": max(0.0, account.limit - account.usage),
        "limit_reset": None,
        "creator_user_id": None,
        "rate_limit": {"requests": -1, "interval": "10s", "note": "deprecated"},
        **spent,
        **{f"byok_{name}": 0.0 for name in spent},
        **dict.fromkeys(flags, False),
    }


async def _error_reply(_: Request, error: Exception) -> JSONResponse:
    """Any error in OpenRouter's form: a refusal, one of the web framework's, or a bug."""
    if isinstance(error, HTTPException):
        error = Refusal(error.status_code, error.detail)
    elif not isinstance(error, Refusal):
        error = Refusal(500, f"{type(error).__name__}: {error}")
    return JSONResponse(error.body, error.status, headers=error.headers)


def create_app(gateway: Gateway) -> Starlette:
    """The HTTP application."""
    return Starlette(
        routes=[
            Route("/api/v1/models", gateway.models),
            Route("/api/v1/key", gateway.key),
            Route("/api/v1/chat/completions", gateway.chat, methods=["POST"]),
        ],
        exception_handlers=dict.fromkeys((Refusal, HTTPException, Exception), _error_reply),
    )


class Simulator:
    """The simulator in a thread of this process, until `close`. It holds the pocket server.

    Args:
        prices: by model id: `input` and `output` in USD per million tokens, `context` in tokens.
        port: on this machine; 0 takes a free one.

    Attributes:
        base_url: its address, with /api/v1.

    Raises:
        OSError: the port is taken.
        lease.ServerError, BuildError, CacheError: there is no pocket server; see `lease.acquire`.
    """

    def __init__(self, prices: dict[str, dict], port: int = 0):
        listener = socket.create_server(("127.0.0.1", port))
        try:
            self.lease = lease.acquire()
        except BaseException:
            listener.close()
            raise
        self.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/api/v1"
        app = create_app(Gateway(self.lease.base_url, prices))
        if log := os.environ.get(LOG_VARIABLE):
            app = Recorder(app, Path(log))
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
