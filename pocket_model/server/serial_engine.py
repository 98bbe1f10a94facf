"""The engine for one request at a time.

It is a loop of its own over transformers' model and cache. transformers' `generate` runs the model
for every token. But a schema forces most tokens of a tool call, and those need no model.
"""

import queue
import threading
from collections.abc import AsyncIterator

import torch
from transformers import Mistral3ForConditionalGeneration

from pocket_model.loading import image_inputs, position_inputs
from pocket_model.server.engine import (
    EngineEvent,
    EngineRequest,
    Failed,
    Prefilled,
    Token,
    TokenQueue,
)
from pocket_model.server.prefix_cache import PrefixCache

TOKENS_PER_CANCEL_CHECK = 64  # of forced tokens, which are generated quickly


class _ClientLeft(Exception):
    """Nobody waits for the answer any more."""


class SerialEngine:
    """One request at a time, in the order in which they arrive.

    The beginning of a prompt is not computed again if an earlier prompt had it: see
    `prefix_cache`.
    """

    broken = False  # an error ends one request only

    def __init__(self, model: Mistral3ForConditionalGeneration):
        self._model = model
        self._prefixes = PrefixCache(model)
        self._waiting: queue.SimpleQueue[tuple[EngineRequest, TokenQueue]] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True, name="serial-engine").start()

    def stream(self, request: EngineRequest) -> AsyncIterator[EngineEvent]:
        """The events of a request; closing the stream stops the work on it."""
        tokens = TokenQueue()
        self._waiting.put((request, tokens))
        return tokens.events()

    def _work(self) -> None:
        while True:
            request, tokens = self._waiting.get()
            if tokens.closed:
                continue
            try:
                self._answer(request, tokens)
            except _ClientLeft:
                continue
            except Exception as error:  # any error must reach the client and not end this thread
                tokens.put(Failed(f"{type(error).__name__}: {error}"))
            tokens.put(None)

    @torch.inference_mode()
    def _answer(self, request: EngineRequest, tokens: TokenQueue) -> None:
        def check() -> None:
            if tokens.closed:
                raise _ClientLeft

        cache, pictures, cached_tokens = self._prefixes.prefill(
            request.prompt, request.pictures, check
        )
        check()
        tokens.put(Prefilled(cached_tokens))
        images = image_inputs(pictures, self._model.model.vision_tower.dtype)
        new, left = request.prompt[cache.get_seq_length() :], request.max_tokens
        while True:
            output = self._model(
                **position_inputs(new, cache.get_seq_length()),
                past_key_values=cache,
                logits_to_keep=1,
                **images,
            )
            limit = min(left, TOKENS_PER_CANCEL_CHECK)
            new, images = request.sampler.sample_run(output.logits[0, -1].float(), limit), {}
            if request.sampler.error:
                tokens.put(Failed(request.sampler.error, status=400))
                return
            for token in new:
                tokens.put(Token(token))
                left -= 1
                if token == request.end_token_id or not left or tokens.closed:
                    return
