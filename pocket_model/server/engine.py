"""The engine: a thread that computes the tokens of one or more requests at a time.

Each round computes the next tokens of all running answers and the short pieces of prompts in one
batch, and a longer piece of one prompt. `transformers.generate` would run the model for every
token. But a schema forces most tokens of a tool call, and these are only read, several at a time.
"""

import queue
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

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
from pocket_model.server.threads import Threads
from pocket_model.tekken import CONTROL_IDS
from pocket_model.vision import VisionEncoder

IMAGE_TOKEN = CONTROL_IDS["[IMG]"]
TOKENS_PER_CANCEL_CHECK = 64  # of forced tokens, which are generated quickly
MAX_REQUESTS = 16  # in a batch
QUIET_S = 1.0  # so long without a request, and the memory of past answers is given back
MANY_ROWS = 24  # from here on it takes less time to widen the weights than to multiply rows singly
# Of all running requests together; a request has room for its prompt and its longest answer. The
# memory of tokens that never come is not used. In bfloat16 a token takes 23 KB.
CACHE_TOKENS = 12288


class _Running:
    """A request that is being answered.

    Attributes:
        size: how many tokens it may have.
        prompt: in pieces, and `unread` those to come.
        tokens: those to compute next, once the prompt is read.
        left: how many may still be generated.
    """

    cache: KeyValues | None = None

    def __init__(self, request: EngineRequest, events: TokenQueue, size: int):
        self.request, self.events, self.size = request, events, size
        self.prompt: list[Piece] = pieces(request.prompt, request.pictures)
        self.unread: deque[Piece] = deque(self.prompt)
        self.tokens: list[int] = []
        self.left = request.max_tokens

    @property
    def is_long(self) -> bool:
        """Whether a long piece of its prompt comes next."""
        return bool(self.unread) and len(self.unread[0].tokens) >= MANY_ROWS

    @property
    def ended(self) -> bool:
        return self.left == 0 or self.events.closed

    def choose(self, logits: torch.Tensor) -> None:
        """Choose the next token, and those that the guide forces after it."""
        sampler, log_probability = self.request.sampler, None
        with self.failing():
            self.tokens = sampler.sample_run(logits, min(self.left, TOKENS_PER_CANCEL_CHECK))
            log_probability = sampler.log_probability(logits, self.tokens[0])
        if self.left and sampler.error:
            self.end(Failed(sampler.error, status=400))
        for token in self.tokens[: self.left]:
            self.events.put(Token(token, log_probability))
            self.left -= 1
            if token == self.request.end_token_id:
                self.left = 0
                return

    @contextmanager
    def failing(self) -> Iterator[None]:
        """An error in here is this request's, and not that of the others in the batch."""
        try:
            yield
        except Exception as error:
            self.fail(error)

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
        self._threads = Threads()
        while True:
            self._round()

    def _round(self) -> None:
        self._admit()
        long: list[_Running] = []
        others: list[_Running] = []
        for running in self._running:
            if running.is_long and long:
                continue  # its turn comes, and perhaps the other one's prefix is its own
            with running.failing():
                self._begin(running)
                (long if running.is_long else others).append(running)
        for group, many in ((long, True), (others, False)):
            parts = []
            for running in group:
                with running.failing():
                    parts.append((running, self._next_states(running)))
            try:
                self._compute(parts, many)
            except Exception as error:  # it must not end this thread
                for running, _ in parts:
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

    def _begin(self, running: _Running) -> None:
        """Make its cache, and take what earlier prompts had, if that is not done."""
        if running.cache is None:
            running.cache = self._decoder.key_values(running.size)
            for _ in range(self._prefixes.take(running.cache, running.prompt)):
                running.unread.popleft()
            running.events.put(Prefilled(running.cache.length))

    def _next_states(self, running: _Running) -> torch.Tensor:
        """The embeddings of its next piece or tokens."""
        if not running.unread:
            return self._decoder.embed(running.tokens)
        piece = running.unread[0]
        states = self._decoder.embed(piece.tokens)
        if piece.pictures:
            is_image = torch.tensor(piece.tokens) == IMAGE_TOKEN
            states[is_image] = self._vision.encode(piece.pictures)
        return states

    def _compute(self, parts: list[tuple[_Running, torch.Tensor]], many: bool) -> None:
        """Compute the next states of requests in one batch, and choose a token where one comes."""
        if not parts:
            return
        spans = [(running.cache, len(states)) for running, states in parts]
        with self._threads.counted():
            states = self._decoder.run(torch.cat([part for _, part in parts]), spans, many=many)
        ends = torch.tensor([count for _, count in spans]).cumsum(0) - 1
        choosing = []
        for (running, _), end in zip(parts, ends.tolist(), strict=True):
            if running.unread:
                self._note_read(running, running.unread.popleft())
            if not running.unread:
                choosing.append((running, end))
        if choosing:
            logits = self._decoder.logits(states[[end for _, end in choosing]])
            for (running, _), row in zip(choosing, logits, strict=True):
                running.choose(row)

    def _note_read(self, running: _Running, piece: Piece) -> None:
        """Keep the prefixes read so far, for requests that begin alike."""
        if piece.prefix or not running.unread:
            read = running.prompt[: len(running.prompt) - len(running.unread)]
            self._prefixes.keep(running.cache, read)
