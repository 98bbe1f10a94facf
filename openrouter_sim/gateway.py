"""The simulator's endpoints: OpenRouter's API in front of the pocket server."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing

import httpx2
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse

from openrouter_sim import faults
from openrouter_sim.accounts import Account, Accounts, Generation
from openrouter_sim.catalog import Catalog, provider_entries
from openrouter_sim.chat_request import read_request
from openrouter_sim.completion import Completion
from openrouter_sim.faults import Attempts, Fault, Refusal


class Gateway:
    """The simulator's state and its endpoints.

    Args:
        pocket_url: the pocket server's base URL.
        catalog: the models and what they cost.
    """

    def __init__(self, pocket_url: str, catalog: Catalog):
        self._pocket = httpx2.AsyncClient(base_url=f"{pocket_url}/", timeout=600, trust_env=False)
        self._catalog = catalog
        self._attempts = Attempts()
        self.accounts = Accounts()

    async def models(self, _: Request) -> JSONResponse:
        """GET /models."""
        data = self._catalog.entries()
        return JSONResponse({"data": data, "total_count": len(data), "links": {"next": None}})

    async def count(self, _: Request) -> JSONResponse:
        """GET /models/count."""
        return JSONResponse({"data": {"count": len(self._catalog.entries())}})

    async def model(self, request: Request) -> JSONResponse:
        """GET /model/{author}/{slug}."""
        return JSONResponse({"data": self._catalog.entry(request.path_params["id"])})

    async def listed_model(self, request: Request) -> JSONResponse:
        """GET /models/{id}: as OpenAI's API has it, the entry itself."""
        entry = self._catalog.entry(request.path_params["id"])
        return JSONResponse(entry | {"object": "model", "owned_by": "simulated"})

    async def endpoints(self, request: Request) -> JSONResponse:
        """GET /models/{author}/{slug}/endpoints."""
        return JSONResponse({"data": self._catalog.endpoints(request.path_params["id"])})

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
            message = "A management key cannot ask models. Use another key."
            raise Refusal(403, message, error_type="permission_denied")
        if key == faults.THROTTLED:
            account.throttle()
        data = await request.body()
        body = await asyncio.to_thread(read_request, data)
        fault = self._fault(request, key, data, body.stream)
        if fault.status != 200:
            raise fault.refusal()
        model, providers = self._catalog.route(body)
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
        generation = Generation(model, providers[0], body.stream)
        completion = Completion(
            self._pocket, self._catalog, account, body.forwarded(), fault, generation
        )
        headers = {"X-Generation-Id": generation.id}
        if body.stream:
            return await _stream(completion.events(), headers)
        reply = await _unless_disconnected(completion.reply(), request)
        return JSONResponse(reply, headers=headers)

    def _account(self, request: Request) -> tuple[str, Account]:
        return self.accounts.of(request.headers.get("authorization", ""))

    def _fault(self, request: Request, key: str, data: bytes, streamed: bool) -> Fault:
        """The failure that this attempt of a request shall show."""
        header = request.headers.get("x-simulate", "")
        fault, attempts = faults.requested(header, streamed)
        if attempts is None:
            return fault
        same = (key, header, hashlib.sha256(data).digest())
        retries = request.headers.get("x-stainless-retry-count", "")
        return fault if self._attempts.fails(same, attempts, retries) else faults.NO_FAULT


async def _stream(events: AsyncIterator[str], headers: dict[str, str]) -> StreamingResponse:
    """The response; its first event is awaited, since it can still be an error status."""
    first = await anext(events)

    async def every_event() -> AsyncIterator[str]:
        async with aclosing(events):
            yield first
            async for event in events:
                yield event

    return StreamingResponse(every_event(), media_type="text/event-stream", headers=headers)


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
