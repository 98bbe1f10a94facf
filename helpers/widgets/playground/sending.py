"""One turn of a chat: sent, streamed, with tools that really run. It can be stopped."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from helpers.tools.loop import Trace, run_tools
from helpers.widgets.errors import words
from helpers.widgets.playground.conversation import (
    Conversation,
    Turn,
    is_sendable,
    showable,
    user_message,
)
from helpers.widgets.playground.streaming import Stop, Stopped, Streamed

if TYPE_CHECKING:
    from helpers.backends import Lab

MAX_CHARACTERS = 400_000  # of a question; about what 131,072 tokens can hold
MAX_ROUNDS = 6  # messages of the model in one turn

EMPTY = "There is no question yet. Type one, and send it."
NO_ANSWER = "The model answered nothing. Ask in other words, or raise max_tokens."
HALF = (
    "{} has half of a character in it, such as half of an emoji. No server can read that. It is "
    "shown as �. Delete it, then send the question again."
)
ONLY_CALLS = f"The model called tools {MAX_ROUNDS} times and gave no answer. Ask in other words."


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
    turn.error = _refusal(lab, chat, [*before, question], text, tools)
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
        requests = Streamed(lab, turn, len(before), on_change, stop, time_limit_s)
        settings = _settings(lab, chat)
        sent = [*before, question]
        run_tools(requests, sent, tools, max_rounds=MAX_ROUNDS, trace=trace, **settings)
    except Stopped:
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


def _refusal(
    lab: "Lab", chat: Conversation, messages: list[dict], text: str, tools: Sequence[Callable]
) -> str:
    """Why a question is not sent, in words; "" if it is."""
    pictured = any(isinstance(message["content"], list) for message in messages)
    if not text.strip() and not isinstance(messages[-1]["content"], list):
        return EMPTY
    if len(text) > MAX_CHARACTERS:
        return (
            f"The question has {len(text):,} characters. No model here takes more than about "
            f"{MAX_CHARACTERS:,}. Shorten it, and send it again."
        )
    for name, typed in {"The question": text, "The system prompt": chat.system}.items():
        if not is_sendable(typed):
            return HALF.format(name)
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
            answer = {"role": "assistant", "content": showable(turn.text)}
            turn.messages = [*turn.messages, answer]
        if out_of_time:
            turn.error = f"The answer took longer than {time_limit_s:g} s and was stopped."
        elif turn.answer is None:
            turn.error = "Stopped before there was an answer."
    elif not turn.error and turn.answer is None:
        turn.error = NO_ANSWER if trace.answer is not None else ONLY_CALLS
    turn.text = ""
