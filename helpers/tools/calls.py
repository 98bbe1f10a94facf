"""The calls in a model's message: read, run each in a thread, their results as text."""

import asyncio
import inspect
import json
import re
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pydantic_core

from helpers.replies import text_of
from helpers.tools.schemas import parse_object, typed_arguments, validate_call
from pocket_model.call_id import CALL_ID_PATTERN, new_call_id

# Of one result, and of one error: more would fill a model's context.
MAX_RESULT_CHARACTERS, MAX_ERROR_CHARACTERS = 20_000, 1_000


def _sendable(text: str, limit: int | None = None) -> str:
    """A text that a request can contain: without unpaired surrogates, and not too long."""
    text = text.encode("utf-8", "replace").decode()
    if limit is None or len(text) <= limit:
        return text
    return f"{text[:limit]} … [cut here: {len(text):,} characters in all]"


def answer_text(message: Any) -> str:
    """The text of a model's message, or its refusal."""
    refusal = getattr(message, "refusal", None)
    return _sendable(text_of(message.content) or text_of(refusal))


def read_calls(calls: Any) -> list[tuple[dict, str]]:
    """Calls as a message holds them, each with its arguments as the model wrote them.

    Servers refuse a conversation with an id or a name of another form than Mistral's tokenizers
    accept, with an id that occurs twice in a message, or with arguments that are no JSON object.
    """
    read, ids = [], set()
    for call in calls:
        call_id, function = getattr(call, "id", None), getattr(call, "function", None)
        valid = isinstance(call_id, str) and re.fullmatch(CALL_ID_PATTERN, call_id)
        if not valid or call_id in ids:
            call_id = new_call_id()
        ids.add(call_id)
        name = re.sub(r"[^a-zA-Z0-9_-]", "_", str(getattr(function, "name", None) or "nameless"))[
            :64
        ]
        text = getattr(function, "arguments", None)
        if not isinstance(text, str):  # some servers send the object itself
            text = json.dumps(text or {})
        text = "{}" if text.strip() in ("", "null") else _sendable(text)
        shown = text if parse_object(text) is not None else json.dumps({"unreadable": text[:500]})
        function = {"name": name, "arguments": shown}
        read.append(({"id": call_id, "type": "function", "function": function}, text))
    return read


class RunningCall(threading.Thread):
    """A call under way. A daemon: a tool that hangs must not keep the process from ending."""

    def __init__(
        self,
        call: dict,
        text: str,
        cut: bool,
        tools: dict[str, dict],
        callables: dict[str, Callable],
    ):
        super().__init__(daemon=True)
        self.tool, self.arguments = call["function"]["name"], call["function"]["arguments"]
        self.error = validate_call(self.tool, text, tools)
        if self.error and cut:
            self.error += " (the message was cut off at max_tokens)"
        self.content, self.seconds = "", 0.0
        if not self.error:
            self.function, self.values = callables[self.tool], parse_object(text)
            self.start()

    def run(self) -> None:
        start = time.monotonic()
        try:
            result = self.function(**typed_arguments(self.function, self.values))
            if inspect.isawaitable(result):
                result = asyncio.run(_wait_for(result))
            self.content = _as_text(result)
        except BaseException as error:  # a tool is any code of the user's, sys.exit included
            self.error = f"{type(error).__name__}: {error}"
        self.seconds = time.monotonic() - start

    def outcome(self, deadline: float, time_limit_s: float) -> tuple[str, str, float]:
        """The kind of step ("call" or "error"), the result for the model, and the tool's seconds.

        Args:
            deadline: when to stop waiting for it (`time.monotonic()`).
            time_limit_s: what the deadline is in seconds, for the message.
        """
        if self.ident:  # it was started
            self.join(max(0.0, deadline - time.monotonic()))
        if self.is_alive():
            error = f"{self.tool} took longer than {time_limit_s:g} s and was not waited for"
            seconds = time_limit_s
        else:
            error, seconds = self.error, self.seconds
        if not error:
            return "call", _sendable(self.content, MAX_RESULT_CHARACTERS), seconds
        error = _sendable(error, MAX_ERROR_CHARACTERS)
        return "error", json.dumps({"error": error}, ensure_ascii=False), seconds


async def _wait_for(result: Awaitable) -> Any:
    return await result


def _as_text(result: Any) -> str:
    """A tool's result for the model: a text as it is, anything else as JSON."""
    if isinstance(result, str):
        return result
    data = pydantic_core.to_json(result, inf_nan_mode="strings", fallback=_plain)
    return json.dumps(json.loads(data), ensure_ascii=False)


def _plain(result: Any) -> Any:
    if hasattr(result, "tolist"):  # an array, a tensor or a column
        return result.tolist()
    if hasattr(result, "to_dict"):  # a table
        return result.to_dict("records")
    raise TypeError(f"the tool returned a {type(result).__name__}, which JSON cannot represent")
