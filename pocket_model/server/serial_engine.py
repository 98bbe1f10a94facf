"""The pocket model's two engines: one request at a time, or a continuous batch.

Both give a request's tokens as an asynchronous stream and stop working on a request as soon as
its stream is closed. A batch is transformers' continuous-batching manager. One request at a time
is a loop of its own over transformers' model and cache: `generate` has no place for tokens that
need no model, and of those a tool call is mostly made. Pictures pass through that loop in both.
"""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator
from functools import partial

import torch
from transformers import (
    Mistral3ForConditionalGeneration,
)

from pocket_model.loading import placed, side_by_side
from pocket_model.server.engine import AT_ONCE, Request, _Tokens
from pocket_model.server.prefix_cache import Prefixes


class SerialEngine:
    """One request at a time, first come, first served.

    What an earlier prompt began with is not computed again; see `prefixes`.
    """

    broken = False  # an error here ends one request only

    def __init__(self, model: Mistral3ForConditionalGeneration):
        self._model = model
        self._inputs = partial(side_by_side, dtype=model.model.vision_tower.dtype)
        self._prefixes = Prefixes(model, self._inputs)
        self._waiting: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True, name="serial-engine").start()

    async def stream(self, request: Request) -> AsyncIterator[int]:
        """Token ids as they are made, the end token included. Raises `EngineError`."""
        tokens = _Tokens(asyncio.get_running_loop())
        self._waiting.put((request, tokens))
        try:
            while (token := await tokens.next()) is not None:
                yield token
        finally:
            tokens.closed = True

    def _work(self) -> None:
        while True:
            request, tokens = self._waiting.get()
            if tokens.closed:
                continue
            try:
                self._answer(request, tokens)
                tokens.finish()
            except Exception as error:  # whatever went wrong must reach the client, not die here
                tokens.fail(error)

    @torch.inference_mode()
    def _answer(self, request: Request, tokens: "_Tokens") -> None:
        cache, pictures, request.reused = self._prefixes.begin(request.prompt, request.pictures)
        seen = self._inputs(pictures)
        new, left = request.prompt[cache.get_seq_length() :], request.max_tokens
        while True:
            output = self._model(
                **placed(new, cache.get_seq_length()),
                past_key_values=cache,
                logits_to_keep=1,
                **seen,
            )
            most = min(left, AT_ONCE)
            new, seen = request.sampler.go_on(output.logits[0, -1].float(), most), {}
            for token in new:
                tokens.put(token)
                left -= 1
                if token == request.end_token_id or not left or tokens.closed:
                    return
