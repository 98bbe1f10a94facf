"""The simulator's endpoints: OpenRouter's API in front of the pocket server."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing

import httpx2
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import Send

from openrouter_sim import faults
from openrouter_sim.accounts import Account, Accounts, Generation
from openrouter_sim.catalog import Catalog, provider_entries
from openrouter_sim.chat_request import GatewayRequest, read_request
from openrouter_sim.completion import ProxiedCompletion
from openrouter_sim.faults import Attempts, Fault, Refusal


class Gateway:
    """The simulator's state and its endpoints.

    Args:
        pocket_url: the pocket server's base URL.
        catalog: the models and what they cost.
    """

    def __init__(self, pocket_url: str, catalog: Catalog):
        self._pocket = httpx2.AsyncClient(base_url=f"{pocket_url}/", timeout=600, trust_env=False)
        self._pocket_context: int | None = None
        self._catalog = catalog
        self._attempts = Attempts()
        self.accounts = Accounts()

    async def models(self, request: Request) -> JSONResponse:
        """GET /models, and /models/user."""
        return JSONResponse(self._catalog.page(request.query_params, await self._context()))

    async def count(self, request: Request) -> JSONResponse:
        """GET /models/count."""
        entries = self._catalog.entries(request.query_params, await self._context())
        return JSONResponse({"data": {"count": len(entries)}})

    async def model(self, request: Request) -> JSONResponse:
        """GET /model/{author}/{slug}."""
        entry = self._catalog.entry(request.path_params["id"], await self._context())
        return JSONResponse({"data": entry})

    async def listed_model(self, request: Request) -> JSONResponse:
        """GET /models/{id}: as OpenAI's API has it, the entry itself."""
        return JSONResponse(
            self._catalog.entry(request.path_params["id"], await self._context())
            | {"object": "model", "owned_by": "simulated"}
        )

    async def endpoints(self, request: Request) -> JSONResponse:
        """GET /models/{author}/{slug}/endpoints."""
        data = self._catalog.endpoints(request.path_params["id"], await self._context())
        return JSONResponse({"data": data})

    async def providers(self, _: Request) -> JSONResponse:
        """GET /providers."""
        return JSONResponse({"data": provider_entries()})

    async def key(self, request: Request) -> JSONResponse:
        """GET /key."""
        return JSONResponse({"data": self._account(request)[1].entry()})

    async def credits(self, request: Request) -> JSONResponse:
        """GET /credits."""
        if not self._account(request)[1].is_management:
            message = (
                f"Only management keys can perform this operation, such as {faults.MANAGEMENT}"
            )
            raise Refusal(403, message)
        return JSONResponse({"data": self.accounts.credits()})

    async def generation(self, request: Request) -> JSONResponse:
        """GET /generation?id=…: what a completion cost, also one that did not reach its end."""
        _, account = self._account(request)
        generation = account.generations.get(request.query_params.get("id", ""))
        if generation is None:
            message = (
                "Generation not found: give ?id=, the id of a reply to this key, such as gen-…"
            )
            raise Refusal(404, message)
        return JSONResponse({"data": generation.entry()})

    async def chat(self, request: Request) -> JSONResponse | StreamingResponse:
        """POST /chat/completions."""
        key, account = self._account(request)
        if account.is_management:
            raise _denied("A management key cannot ask models. Use another key.")
        if key == faults.THROTTLED:
            account.throttle()
        data = await request.body()
        body = await asyncio.to_thread(read_request, data)
        fault = self._fault(request, key, data, bool(body.stream))
        if fault.status != 200:
            raise fault.refusal()
        route = self._catalog.route(body)
        providers = route.providers
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
        generation = _begin(request, body, route.model, providers[0])
        completion = ProxiedCompletion(
            self._pocket, self._catalog, account, body.forwarded(), fault, generation
        )
        headers = {"X-Generation-Id": generation.id}
        if body.stream:
            return await EventStream.begin(completion.events(), headers)
        reply = await _unless_disconnected(completion.reply(), request)
        return JSONResponse(reply, headers=headers)

    def _account(self, request: Request) -> tuple[str, Account]:
        return self.accounts.of(request.headers.get("authorization", ""))

    def _fault(self, request: Request, key: str, data: bytes, streamed: bool) -> Fault:
        """The failure that this attempt of a request shall show."""
        header = request.headers.get("x-simulate", "")
        wanted = faults.wanted(header, streamed)
        if wanted.attempts is None:
            return wanted.fault
        same = (key, header, hashlib.sha256(data).digest())
        retries = request.headers.get("x-stainless-retry-count", "")
        fails = self._attempts.fails(same, wanted.attempts, retries)
        return wanted.fault if fails else faults.NO_FAULT

    async def _context(self) -> int:
        """How many tokens the pocket model takes."""
        if self._pocket_context is None:
            try:
                reply = await self._pocket.get("models")
                self._pocket_context = reply.json()["data"][0]["max_model_len"]
            except httpx2.HTTPError as error:
                message = f"The pocket server does not answer ({type(error).__name__}). Ask again."
                raise Refusal(502, message) from error
        return self._pocket_context


class EventStream(StreamingResponse):
    """A stream of server-sent events that ends its source when the client leaves."""

    @classmethod
    async def begin(cls, events: AsyncIterator[str], headers: dict[str, str]) -> "EventStream":
        """Wait for the first event: it decides between a stream and an error status."""
        first = await anext(events)

        async def every_event() -> AsyncIterator[str]:
            async with aclosing(events):
                yield first
                async for event in events:
                    yield event

        return cls(every_event(), media_type="text/event-stream", headers=headers)

    async def stream_response(self, send: Send) -> None:
        """Send the events; at the end, however it comes, the source is closed."""
        async with aclosing(self.body_iterator):
            await super().stream_response(send)


def _denied(message: str) -> Refusal:
    return Refusal(403, message, error_type="permission_denied")


def _begin(request: Request, body: GatewayRequest, model: str, provider: str) -> Generation:
    return Generation(
        id=f"gen-{int(time.time())}-{secrets.token_hex(10)}",
        model=model,
        provider=provider,
        streamed=bool(body.stream),
        user=body.user,
        user_agent=request.headers.get("user-agent"),
        referer=request.headers.get("http-referer"),
        session_id=body.session_id,
    )


async def _unless_disconnected(work: Coroutine, request: Request) -> dict:
    """The result of `work`, which is cancelled if the client disconnects."""
    task = asyncio.create_task(work)
    try:
        while not task.done():
            if await request.is_disconnected():
                task.cancel()
            await asyncio.wait([task], timeout=0.1)
    finally:
        task.cancel()
    if task.cancelled():
        raise Refusal(499, "The client closed the connection.")
    return task.result()
