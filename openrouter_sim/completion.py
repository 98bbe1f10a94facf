"""One completion by the pocket server, in OpenRouter's form, with a fault's effect and its cost."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from decimal import Decimal

import httpx2

from openrouter_sim import faults
from openrouter_sim.accounts import Account, Generation
from openrouter_sim.catalog import Catalog
from openrouter_sim.faults import Fault, Refusal
from pocket_model.build import MODEL_ID

COMMENT = ": OPENROUTER PROCESSING\n\n"


class Completion:
    """One completion. Its tokens are charged however it ends.

    The pocket server always streams, with the token counts so far in every chunk. So an answer
    that does not reach its end costs what was generated. It makes no more tokens then. (Many
    providers behind OpenRouter go on with a whole answer whose client left, and bill all of it.)

    Args:
        body: for the pocket server, without model and stream.
        generation: is completed with what comes of it.
    """

    def __init__(
        self,
        pocket: httpx2.AsyncClient,
        catalog: Catalog,
        account: Account,
        body: dict,
        fault: Fault,
        generation: Generation,
    ):
        self._pocket, self._catalog, self._account = pocket, catalog, account
        self._fault, self._generation = fault, generation
        options = {"include_usage": True, "continuous_usage_stats": True}
        self._body = body | {"model": MODEL_ID, "stream": True, "stream_options": options}
        self._head = {
            "id": generation.id,
            "provider": generation.provider,
            "model": generation.model,
            "created": int(generation.created),
        }
        self._usage: dict | None = None
        self._charged: dict | None = None

    async def reply(self) -> dict:
        """The whole reply. If the task is cancelled, the account pays what was generated."""
        content, calls, finish_reason = "", [], None
        async with aclosing(self._chunks()) as chunks:
            async for chunk in chunks:
                for choice in chunk["choices"]:
                    finish_reason = choice["finish_reason"] or finish_reason
                    content += choice["delta"].get("content") or ""
                    for piece in choice["delta"].get("tool_calls") or []:
                        _add_call(calls, piece)
        message = {"role": "assistant", "content": content, "refusal": None, "reasoning": None}
        if calls:
            message |= {"content": content or None, "tool_calls": calls}
        reasons = dict.fromkeys(("finish_reason", "native_finish_reason"), finish_reason)
        choice = {"index": 0, "message": message, "logprobs": None, **reasons}
        return {
            **self._head,
            "object": "chat.completion",
            "system_fingerprint": None,
            "choices": [choice],
            "usage": self._charge(),
        }

    async def events(self) -> AsyncIterator[str]:
        """The reply as an event stream.

        Raises:
            Refusal: before the first event, if the pocket server refuses the request.
            ConnectionResetError: the fault "cut".
        """
        count = 0
        try:
            async with aclosing(self._chunks()) as chunks:
                async for chunk in chunks:
                    if not count:
                        yield COMMENT
                        for _ in range(5 if self._fault.effect == "comments" else 0):
                            await asyncio.sleep(0.1)
                            yield COMMENT
                    if not chunk["choices"]:
                        yield self._event(choices=[], usage=self._charge())
                        continue
                    count += 1
                    ends = any(choice["finish_reason"] for choice in chunk["choices"])
                    if ends or count > faults.CHUNKS_BEFORE_FAILURE:
                        if self._fault.effect == "cut":
                            raise ConnectionResetError("simulated: the connection breaks")
                        if self._fault.effect == "stream":
                            yield self._failure(self._fault.provider_error())
                        if self._fault.effect in ("stream", "truncated"):
                            return
                    for choice in chunk["choices"]:
                        choice["native_finish_reason"] = choice["finish_reason"]
                    yield self._event(choices=chunk["choices"])
        except Refusal as refusal:
            if not count:
                raise
            yield self._failure(refusal.body["error"])
            return
        yield "data: [DONE]\n\n"

    async def _chunks(self) -> AsyncIterator[dict]:
        """The pocket server's chunks. The account is charged when no more of them are read."""
        generation = self._generation
        content = json.dumps(self._body).encode()  # httpx2 itself raises for 1e999, which is JSON
        json_type = {"Content-Type": "application/json"}
        post = self._pocket.stream("POST", "chat/completions", content=content, headers=json_type)
        try:
            async with post as response:
                await self._refuse_errors(response)
                async for line in response.aiter_lines():
                    if not line.startswith("data: {"):
                        continue
                    chunk = json.loads(line[6:])
                    if error := chunk.get("error"):
                        callers = error.get("type") == "invalid_request_error"
                        raise Refusal(400 if callers else 502, error["message"])
                    self._usage = chunk.pop("usage", None) or self._usage
                    for choice in chunk["choices"]:
                        generation.finish_reason = choice["finish_reason"]
                    yield chunk
        except httpx2.HTTPError as error:
            message = f"The pocket server does not answer ({type(error).__name__}). Ask again."
            raise Refusal(502, message) from error
        except Refusal:
            if not generation.streamed:  # no one pays for an error status
                self._usage = None
            raise
        except (GeneratorExit, asyncio.CancelledError):
            generation.cancelled = self._fault.effect not in ("cut", "stream", "truncated")
            raise
        finally:
            self._charge()

    async def _refuse_errors(self, response: httpx2.Response) -> None:
        """Raise the pocket server's error as the `Refusal` that OpenRouter would send."""
        if response.status_code == 200:
            return
        error = json.loads(await response.aread())["error"]
        message, code = error["message"], error["code"]
        if code == "context_length_exceeded":
            model = self._generation.model
            context = self._catalog.context(model)
            message += f" (So says the pocket model. {model} itself takes {context:,} tokens.)"
        types = {"context_length_exceeded": "context_length_exceeded", "image": "invalid_image"}
        status = response.status_code if response.status_code < 500 else 502
        metadata = {"error_type": types[code]} if code in types else {}
        raise Refusal(status, message, **metadata)

    def _charge(self) -> dict:
        """Charge the account, once; returns OpenRouter's usage object."""
        if self._charged is None:
            generation, usage = self._generation, self._usage or {}
            usd = {"prompt": Decimal(0), "completion": Decimal(0)}
            if usage.get("completion_tokens"):  # as at OpenRouter, an empty answer costs nothing
                usd = self._catalog.cost(generation.model, usage)
            generation.usage, generation.cost = usage, usd["prompt"] + usd["completion"]
            self._account.book(generation)
            details = {
                "upstream_inference_cost": None,
                "upstream_inference_prompt_cost": float(usd["prompt"]),
                "upstream_inference_completions_cost": float(usd["completion"]),
            }
            cost = {"cost": float(generation.cost), "is_byok": False, "cost_details": details}
            self._charged = usage | cost
        return self._charged

    def _event(self, **fields) -> str:
        chunk = {**self._head, "object": "chat.completion.chunk", **fields}
        return f"data: {json.dumps(chunk)}\n\n"

    def _failure(self, error: dict) -> str:
        self._generation.finish_reason = "error"
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
        return self._event(error=error, choices=[choice])


def _add_call(calls: list[dict], piece: dict) -> None:
    """Add one streamed piece to the tool calls so far."""
    if piece["index"] == len(calls):
        calls.append({"id": piece["id"], "type": "function", "function": piece["function"].copy()})
    else:
        calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
