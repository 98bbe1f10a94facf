"""The requests of a turn: each a stream that can be stopped, with its calls put together."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx2
import openai

from helpers import prices, replies
from helpers.backends import BACKENDS
from helpers.widgets import call_pieces
from helpers.widgets.playground.conversation import Turn

if TYPE_CHECKING:
    from helpers.backends import Lab

CONNECT_S = 10.0


class Stop:
    """Ends a turn from another thread, and closes the connection on which its answer comes."""

    def __init__(self) -> None:
        self._event, self._socket = threading.Event(), None

    def set(self) -> None:
        """End the turn. What has arrived of its answer stays."""
        self._event.set()
        if self._socket is not None:
            # The other thread may be waiting for the next piece: this wakes it.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def is_set(self) -> bool:
        return self._event.is_set()

    def watch(self, response: httpx2.Response | None) -> None:
        """Remember the connection of a reply."""
        stream = getattr(response, "extensions", {}).get("network_stream")
        self._socket = stream.get_extra_info("socket") if stream else None
        if self.is_set():  # it was set while the request was on its way
            self.set()


class Stopped(Exception):
    """The turn was stopped: no further request is sent."""


class Streamed:
    """What `run_tools` needs of a connection. Each of its requests is sent as a stream."""

    def __init__(
        self,
        lab: "Lab",
        turn: Turn,
        before: int,
        on_change: Callable[[Turn], None],
        stop: Stop,
        timeout_s: float,
    ):
        timeout = httpx2.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s))
        self._real = lab.client.with_options(timeout=timeout, max_retries=0)
        self._lab, self._turn, self._before = lab, turn, before
        self._on_change, self._stop, self._start = on_change, stop, time.monotonic()
        self.model = lab.model
        self.client = SimpleNamespace(chat=SimpleNamespace(completions=self))

    def create(self, *, messages: list[dict], tools: list[dict], **settings: Any) -> Any:
        """The reply to a request, put together from its stream."""
        turn = self._turn
        turn.messages, turn.text = messages[self._before :], ""
        self._on_change(turn)
        if self._stop.is_set():
            raise Stopped
        settings |= {"tools": tools} if tools else {}  # servers refuse an empty list
        stream = self._real.chat.completions.create(stream=True, messages=messages, **settings)
        watched = Watched(stream, self._stop, self._first)
        result = replies.collect(watched, self._add)
        if result.usage is not None:
            self._count(result.usage.model_dump())
        if self._stop.is_set() and not result.complete:
            raise Stopped
        if result.error:
            raise result.error
        message = SimpleNamespace(content=result.text, tool_calls=watched.tool_calls)
        choice = SimpleNamespace(message=message, finish_reason=result.finish_reason)
        return SimpleNamespace(choices=[choice])

    def _add(self, piece: str) -> None:
        self._turn.text += piece
        self._on_change(self._turn)

    def _first(self) -> None:
        if self._turn.first_token_s is None:
            self._turn.first_token_s = time.monotonic() - self._start

    def _count(self, usage: dict) -> None:
        turn = self._turn
        turn.prompt_tokens = (turn.prompt_tokens or 0) + (usage.get("prompt_tokens") or 0)
        turn.completion_tokens = (turn.completion_tokens or 0) + (
            usage.get("completion_tokens") or 0
        )
        if BACKENDS[self._lab.backend].paid or prices.amount(usage.get("cost")) is not None:
            with contextlib.suppress(prices.BudgetError):  # no price: no cost is shown
                turn.usd = (turn.usd or 0.0) + prices.cost(usage, self._lab.model)


class Watched:
    """A stream that ends when it is stopped, and whose tool calls are kept."""

    def __init__(self, stream: Any, stop: Stop, on_first: Callable[[], None]):
        self._stream, self._stop, self._on_first = stream, stop, on_first
        self.response = getattr(stream, "response", None)  # `collect` reads its media type
        self._pieces: list[dict] = []

    @property
    def tool_calls(self) -> list[SimpleNamespace] | None:
        """The calls that the pieces make; None if there are none."""
        calls = [
            SimpleNamespace(id=call.pop("id"), function=SimpleNamespace(**call))
            for call in call_pieces.join(self._pieces, by="id")
        ]
        return calls or None

    def __iter__(self) -> Iterator[openai.types.chat.ChatCompletionChunk]:
        self._stop.watch(self.response)
        try:
            for chunk in self._stream:
                if self._stop.is_set():
                    return
                self._read(chunk)
                yield chunk
        finally:
            if hasattr(self._stream, "close"):
                self._stream.close()

    def _read(self, chunk: Any) -> None:
        choices = getattr(chunk, "choices", None)
        for choice in choices if isinstance(choices, list) else []:
            delta = getattr(choice, "delta", None)
            calls = getattr(delta, "tool_calls", None)
            if calls or replies.text_of(getattr(delta, "content", None)):
                self._on_first()
            self._pieces += map(_piece, calls if isinstance(calls, list) else [])


def _piece(call: Any) -> dict:
    """A piece of a call in OpenAI's form; what is no text is left out."""
    function = getattr(call, "function", None)
    texts = {name: getattr(function, name, None) for name in ("name", "arguments")}
    texts = {name: text if isinstance(text, str) else "" for name, text in texts.items()}
    index, call_id = getattr(call, "index", None) or 0, getattr(call, "id", None)
    return {"index": index, "id": call_id, "function": texts}
