"""One turn of a chat: sent, streamed, with tools that really run. It can be stopped."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx2
import openai

from helpers import prices, replies
from helpers.backends import BACKENDS
from helpers.tools.loop import Trace, run_tools
from helpers.widgets.playground.conversation import Conversation, Turn, user_message
from helpers.widgets.playground.errors import words

if TYPE_CHECKING:
    from helpers.backends import Lab

MAX_CHARACTERS = 400_000  # of a question; about what 131,072 tokens can hold
MAX_ROUNDS = 6  # messages of the model in one turn
CONNECT_S = 10.0

EMPTY = "There is no question yet. Type one, and send it."
NO_ANSWER = "The model answered nothing. Ask in other words, or raise max_tokens."
ONLY_CALLS = f"The model called tools {MAX_ROUNDS} times and gave no answer. Ask in other words."


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


class _Stopped(Exception):
    """The turn was stopped: no further request is sent."""


def send(
    lab: "Lab",
    chat: Conversation,
    text: str,
    picture: dict | None = None,
    *,
    tools: Sequence[Callable] = (),
    on_change: Callable[[Turn], None] = lambda turn: None,
    stop: Stop | None = None,
    time_limit_s: float = 120.0,
) -> Turn:
    """Ask a question in a chat, and add the turn to it.

    Nothing that a server or a model sends makes it raise: `Turn.error` then says in words what
    happened. A turn without an answer stays in the chat until the next one.

    Args:
        lab: from `connect`.
        chat: it gets the new turn.
        text: the question.
        picture: from `images.image_part`.
        tools: functions that the model may call; see `helpers.tools.describe`.
        on_change: called with the turn after each piece of text, and after each call.
        stop: ends the turn from another thread.
        time_limit_s: seconds for the whole turn. After them it is stopped.
    """
    chat.turns = [turn for turn in chat.turns if turn.answer is not None]
    before, question = chat.messages, user_message(text, picture)
    turn = Turn([question], lab.backend, lab.model)
    chat.turns.append(turn)
    turn.error = _refusal(lab, [*before, question], text, tools)
    if turn.error:
        return turn
    stop, out_of_time, start = stop or Stop(), threading.Event(), time.monotonic()

    def end() -> None:
        out_of_time.set()
        stop.set()

    timer = threading.Timer(time_limit_s, end)
    timer.daemon = True
    timer.start()
    trace = Trace([])
    try:
        requests = _Streamed(lab, turn, len(before), on_change, stop, time_limit_s)
        settings = _settings(lab, chat)
        sent = [*before, question]
        run_tools(requests, sent, tools, max_rounds=MAX_ROUNDS, trace=trace, **settings)
    except _Stopped:
        pass
    except Exception as error:  # a page shows it in words; a thread could only print it
        turn.error = words(error, lab, started=bool(turn.text))
    finally:
        timer.cancel()
    turn.total_s = time.monotonic() - start
    turn.messages = trace.messages[len(before) :] or turn.messages
    _close(turn, trace, stop.is_set(), out_of_time.is_set(), time_limit_s)
    on_change(turn)
    return turn


def resend(lab: "Lab", chat: Conversation, number: int, text: str, **options: Any) -> Turn:
    """Change the question of a turn, counted from 1, and send it again.

    The turn and all turns after it are removed. A picture stays with its question.

    Args:
        options: as for `send`.

    Raises:
        IndexError: there is no such turn.
    """
    picture = chat.rewind(number).picture
    return send(lab, chat, text, **({"picture": picture} | options))


def _refusal(lab: "Lab", messages: list[dict], text: str, tools: Sequence[Callable]) -> str:
    """Why a question is not sent, in words; "" if it is."""
    pictured = any(isinstance(message["content"], list) for message in messages)
    if not text.strip() and not isinstance(messages[-1]["content"], list):
        return EMPTY
    if len(text) > MAX_CHARACTERS:
        return (
            f"The question has {len(text):,} characters. No model here takes more than about "
            f"{MAX_CHARACTERS:,}. Shorten it, and send it again."
        )
    if tools and "tools" not in lab.supports:
        return f"{lab.backend} does not support tools. Switch them off, or choose another backend."
    if pictured and "vision" not in lab.supports:
        return (
            f"{lab.backend} does not accept pictures. Begin a new chat without one, or choose "
            "another backend."
        )
    return ""


def _settings(lab: "Lab", chat: Conversation) -> dict:
    settings = {"temperature": chat.temperature, "max_tokens": chat.max_tokens}
    if "stream_options" in lab.supports:
        settings["stream_options"] = {"include_usage": True}
    return settings | (lab.seed(chat.seed) if chat.seed is not None else {})


def _close(turn: Turn, trace: Trace, stopped: bool, out_of_time: bool, time_limit_s: float) -> None:
    """Fill in how the turn ended."""
    turn.finish_reason = trace.finish_reason
    if stopped and trace.answer is None:
        turn.stopped, turn.error = True, ""
        if turn.text.strip() and turn.answer is None:  # servers refuse an empty message
            turn.messages = [*turn.messages, {"role": "assistant", "content": turn.text}]
        if out_of_time:
            turn.error = f"The answer took longer than {time_limit_s:g} s and was stopped."
        elif turn.answer is None:
            turn.error = "Stopped before there was an answer."
    elif not turn.error and turn.answer is None:
        turn.error = NO_ANSWER if trace.answer is not None else ONLY_CALLS
    turn.text = ""


class _Streamed:
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
            raise _Stopped
        settings |= {"tools": tools} if tools else {}  # servers refuse an empty list
        stream = self._real.chat.completions.create(stream=True, messages=messages, **settings)
        watched = _Watched(stream, self._stop, self._first)
        result = replies.collect(watched, self._add)
        if result.usage is not None:
            self._count(result.usage.model_dump())
        if self._stop.is_set() and not result.complete:
            raise _Stopped
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


class _Watched:
    """A stream that ends when it is stopped, and whose tool calls are kept."""

    def __init__(self, stream: Any, stop: Stop, on_first: Callable[[], None]):
        self._stream, self._stop, self._on_first = stream, stop, on_first
        self.response = getattr(stream, "response", None)  # `collect` reads its media type
        self._calls: list[SimpleNamespace] = []
        self._places: dict[int, int] = {}

    @property
    def tool_calls(self) -> list[SimpleNamespace] | None:
        return self._calls or None

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
            for call in calls if isinstance(calls, list) else []:
                self._add_call(call)

    def _add_call(self, piece: Any) -> None:
        """Pieces of a call have its index. A new id at an old index is another call."""
        place = self._places.get(index := getattr(piece, "index", 0) or 0)
        new_id = getattr(piece, "id", None)
        if place is None or (new_id and self._calls[place].id not in (None, new_id)):
            place = self._places[index] = len(self._calls)
            function = SimpleNamespace(name="", arguments="")
            self._calls.append(SimpleNamespace(id=None, function=function))
        call, function = self._calls[place], getattr(piece, "function", None)
        call.id = call.id or new_id
        call.function.name += getattr(function, "name", None) or ""
        arguments = getattr(function, "arguments", None)
        call.function.arguments += arguments if isinstance(arguments, str) else ""
