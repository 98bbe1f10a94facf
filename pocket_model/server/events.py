"""A request to the engine, the events of its answer, and their way between threads."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import numpy as np

from pocket_model.server.sampling import LogProbability, Sampler


@dataclass(frozen=True)
class EngineRequest:
    """One prompt and how to continue it.

    Attributes:
        prompt: token ids.
        max_tokens: limit of generated tokens.
        end_token_id: the token that ends the answer.
        sampler: chooses the tokens.
        pictures: float32 arrays of shape (3, height, width), in the order of their image tokens.
    """

    prompt: list[int]
    max_tokens: int
    end_token_id: int
    sampler: Sampler
    pictures: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True)
class Prefilled:
    """The request's turn has come; `cached_tokens` of its prompt are in the prefix cache."""

    cached_tokens: int


@dataclass(frozen=True)
class Token:
    """A generated token, the end token included; `log_probability` if that was asked for."""

    id: int
    log_probability: LogProbability | None = None


@dataclass(frozen=True)
class Failed:
    """The answer ends here, because of an error.

    Attributes:
        reason: what to tell the client.
        status: the HTTP status: 400 if the request is at fault, which must not be repeated.
    """

    reason: str
    status: int = 500


EngineEvent = Prefilled | Token | Failed


class TokenQueue:
    """Carries the events of one request from the engine's thread to the event loop.

    Create it in the event loop. `closed` turns True when the client no longer waits.
    """

    def __init__(self):
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[EngineEvent | None] = asyncio.Queue()
        self.closed = False

    def put(self, event: EngineEvent | None) -> None:
        """Send an event, or None after the last one. Called in the engine's thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def events(self) -> AsyncIterator[EngineEvent]:
        """The events as they arrive."""
        try:
            while (event := await self._events.get()) is not None:
                yield event
        finally:
            self.closed = True
