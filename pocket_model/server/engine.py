"""TODO."""

import asyncio
from dataclasses import dataclass, field

import numpy as np

from pocket_model.server.sampling import Sampler

AT_ONCE = 64  # tokens of an answer between two looks at whether somebody still waits for it


class EngineError(RuntimeError):
    """The engine failed on a request; the message carries its reason."""


@dataclass
class Request:
    """One prompt and its limits: token ids, tokens to generate, the end token, a sampler.

    `pictures` are float32 arrays of shape (3, height, width), in the order of their image tokens.
    `reused` is set by the engine: how many tokens of the prompt it had from an earlier one.
    """

    prompt: list[int]
    max_tokens: int
    end_token_id: int
    sampler: Sampler
    pictures: list[np.ndarray] = field(default_factory=list)
    reused: int = 0


class _Tokens:
    """Carries tokens from the engine's thread to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self._loop = loop
        self._queue: asyncio.Queue = asyncio.Queue()
        self.closed = False

    async def next(self) -> int | None:
        """The next token, or None at the end. Raises `EngineError`."""
        item = await self._queue.get()
        if isinstance(item, EngineError):
            raise item
        return item

    def finish(self) -> None:
        self.put(None)

    def fail(self, error: Exception) -> None:
        self.put(EngineError(f"{type(error).__name__}: {error}"))

    def put(self, item: int | EngineError | None) -> None:
        """A token, what went wrong, or None for the end."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)
