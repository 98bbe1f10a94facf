"""The engine: a thread that computes the tokens of one or more requests at a time.

Each round reads a piece of one prompt, or computes the next tokens of all running answers in one
batch. `transformers.generate` would run the model for every token. But a schema forces most tokens
of a tool call, and these are only read, several at a time.
"""

import queue
import threading
from collections import deque
from collections.abc import AsyncIterator

import torch

from pocket_model import memory
from pocket_model.server.decoder import Decoder, KeyValues
from pocket_model.server.events import (
    EngineEvent,
    EngineRequest,
    Failed,
    Prefilled,
    Token,
    TokenQueue,
)
from pocket_model.server.prefix_cache import Piece, PrefixCache, pieces
from pocket_model.tekken import CONTROL_IDS
from pocket_model.vision import VisionEncoder

IMAGE_TOKEN = CONTROL_IDS["[IMG]"]
TOKENS_PER_CANCEL_CHECK = 64  # of forced tokens, which are generated quickly
MAX_REQUESTS = 16  # in a batch
QUIET_S = 1.0  # so long without a request, and the memory of past answers is given back
MANY_ROWS = 24  # from here on it takes less time to widen the weights than to multiply rows singly
# Of all running requests together; a request has room for its prompt and its longest answer. The
# memory of tokens that never come is not used. In bfloat16 a token takes 31 KB.
CACHE_TOKENS = 12288


class _Running:
    """A request that is being answered.

    Attributes:
        size: how many tokens it may have.
        prompt: in pieces, and `unread` those to come; empty until the reading begins.
        tokens: those to compute next, once the prompt is read.
        left: how many may still be generated.
    """

    cache: KeyValues | None = None

    def __init__(self, request: EngineRequest, events: TokenQueue, size: int):
        self.request, self.events, self.size = request, events, size
        self.prompt: list[Piece] = []
        self.unread: deque[Piece] = deque()
        self.tokens: list[int] = []
        self.left = request.max_tokens

    @property
    def is_reading(self) -> bool:
        return self.cache is None or bool(self.unread)

    @property
    def ended(self) -> bool:
        return self.left == 0 or self.events.closed

    def choose(self, logits: torch.Tensor) -> None:
        """Choose the next token, and those that the guide forces after it."""
        sampler = self.request.sampler
        try:
            self.tokens = sampler.sample_run(logits, min(self.left, TOKENS_PER_CANCEL_CHECK))
        except Exception as error:  # of this request, and not of the others in the batch
            self.fail(error)
            return
        if sampler.error:
            self.end(Failed(sampler.error, status=400))
        for token in self.tokens[: self.left]:
            self.events.put(Token(token))
            self.left -= 1
            if token == self.request.end_token_id:
                self.left = 0
                return

    def fail(self, error: Exception) -> None:
        """End the answer with an error, which must reach the client."""
        self.end(Failed(f"{type(error).__name__}: {error}"))

    def end(self, event: Failed) -> None:
        self.events.put(event)
        self.left = 0


class Engine:
    """Answers requests in the order in which they arrive, some of them at the same time.

    A request's tokens do not depend on the others: see `Decoder.run`. The beginning of a prompt is
    not computed again if an earlier prompt had it: see `prefix_cache`.

    Args:
        requests: how many are answered at the same time.

    Attributes:
        context: most tokens of a prompt and its answer together.
    """

    def __init__(self, decoder: Decoder, vision: VisionEncoder, requests: int = 1):
        self.context = min(decoder.context, CACHE_TOKENS)
        self._decoder, self._vision, self._requests = decoder, vision, requests
        self._prefixes = PrefixCache()
        self._arriving: queue.SimpleQueue[tuple[EngineRequest, TokenQueue]] = queue.SimpleQueue()
        self._waiting: deque[tuple[EngineRequest, TokenQueue]] = deque()
        self._running: list[_Running] = []
        threading.Thread(target=self._work, daemon=True, name="engine").start()

    def stream(self, request: EngineRequest) -> AsyncIterator[EngineEvent]:
        """The events of a request; closing the stream stops the work on it."""
        events = TokenQueue()
        self._arriving.put((request, events))
        return events.events()

    @torch.inference_mode()
    def _work(self) -> None:
        while True:
            self._round()

    def _round(self) -> None:
        self._admit()
        reading = [running for running in self._running if running.is_reading][:1]
        answering = [running for running in self._running if not running.is_reading]
        for step, requests in ((self._read, reading), (self._continue, answering)):
            try:
                step(requests)
            except Exception as error:  # it must not end this thread
                for running in requests:
                    running.fail(error)
        for running in self._running:
            if running.ended:
                running.events.put(None)
        self._running = [running for running in self._running if not running.ended]

    def _admit(self) -> None:
        """Begin with waiting requests as far as there is room; wait for one if none is running."""
        if not (self._running or self._waiting):
            try:
                self._waiting.append(self._arriving.get(timeout=QUIET_S))
            except queue.Empty:
                memory.give_back()
                self._waiting.append(self._arriving.get())
        while not self._arriving.empty():
            self._waiting.append(self._arriving.get())
        self._waiting = deque(waiting for waiting in self._waiting if not waiting[1].closed)
        while self._waiting and len(self._running) < self._requests:
            request, events = self._waiting[0]
            size = len(request.prompt) + request.max_tokens
            held = sum(running.size for running in self._running)
            if held + size > CACHE_TOKENS and self._running:
                return
            self._waiting.popleft()
            self._running.append(_Running(request, events, size))

    def _read(self, reading: list[_Running]) -> None:
        """Read the next piece of each prompt; after the last one, choose the first token."""
        for running in reading:
            if running.cache is None:
                self._begin(running)
            piece = running.unread.popleft()
            states = self._decoder.embed(piece.tokens)
            if piece.pictures:
                is_image = torch.tensor(piece.tokens) == IMAGE_TOKEN
                states[is_image] = self._vision.encode(piece.pictures)
            count = len(piece.tokens)
            many = count >= MANY_ROWS
            states = self._decoder.run(states, [(running.cache, count)], many=many)
            if not running.unread:
                self._prefixes.keep(running.cache, running.prompt)
                running.choose(self._decoder.logits(states[-1:])[0])

    def _begin(self, running: _Running) -> None:
        running.cache = self._decoder.key_values(running.size)
        running.prompt = pieces(running.request.prompt, running.request.pictures)
        known = self._prefixes.take(running.cache, running.prompt)
        running.unread = deque(running.prompt[known:])
        running.events.put(Prefilled(running.cache.length))

    def _continue(self, answering: list[_Running]) -> None:
        """Compute the next tokens of all answers, in one batch."""
        if not answering:
            return
        counts = [len(running.tokens) for running in answering]
        spans = [(running.cache, count) for running, count in zip(answering, counts, strict=True)]
        tokens = [token for running in answering for token in running.tokens]
        states = self._decoder.run(self._decoder.embed(tokens), spans)
        last = torch.tensor(counts).cumsum(0) - 1
        for running, logits in zip(answering, self._decoder.logits(states[last]), strict=True):
            running.choose(logits)
