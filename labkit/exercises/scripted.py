"""A model that replies by a rule, for the tests of a loop with tools (notebooks 05 and 10)."""

import copy
import json
from collections.abc import Callable
from typing import Any

from labkit.exercises.answers import WrongForm, call, plainer

LIMIT = 5  # requests that a loop may send
MOST = 8  # requests that are answered, so that a loop without a limit ends

Rule = Callable[[list[dict], list[dict]], dict]


class ScriptedModel:
    """Replies by a rule in place of a model, and keeps what it was sent.

    Attributes:
        sent: the messages of each request.
        offered: the tools of each request.
        last: the last reply.
    """

    def __init__(self, rule: Rule):
        self.rule = rule
        self.sent: list[list[dict]] = []
        self.offered: list[list[dict]] = []
        self.last: dict = {}

    def __call__(self, messages: list[dict], tools: Any = None) -> dict:
        """The reply to a request.

        Raises:
            WrongForm: it is one request too many, or cannot be sent as JSON.
        """
        if len(self.sent) >= MOST:
            raise WrongForm(
                f"It asked the model {MOST} times, which called a tool each time. A loop needs a "
                f"limit: end it after {LIMIT} requests."
            )
        if not _is_json(messages):
            raise WrongForm(
                "A message contains something that JSON does not have. The content of a result "
                f"is a string: {_as_text(messages)}."
            )
        if not _is_json(tools):
            raise WrongForm(
                "The tools contain something that JSON does not have. Give `ask` the schemas "
                "alone, not the functions."
            )
        if not all(isinstance(each, dict) and "function" in each for each in tools or []):
            raise WrongForm('Give `ask` whole schemas: {"type": "function", "function": {…}}.')
        self.sent.append(copy.deepcopy(messages))
        self.offered.append(copy.deepcopy(list(tools or [])))
        self.last = self.rule(messages, list(tools or []))
        return self.last

    @property
    def latest(self) -> list[dict]:
        """The messages of the last request."""
        return self.sent[-1] if self.sent else []


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _as_text(messages: list[dict]) -> str:
    """The call that makes the last result a string."""
    contents = [each.get("content") for each in messages if isinstance(each, dict)]
    return "str(error)" if any(isinstance(c, BaseException) for c in contents) else "str(result)"


def in_turn(*replies: Any) -> Rule:
    """A rule that gives one reply after another, and then the last one again.

    Args:
        replies: messages, or functions that make one from the messages of the request.
    """
    left = list(replies)

    def rule(messages: list[dict], tools: list[dict]) -> dict:
        reply = left.pop(0) if len(left) > 1 else left[0]
        return reply(messages) if callable(reply) else copy.deepcopy(reply)

    return rule


def says(text: str) -> dict:
    """A reply of text."""
    return {"role": "assistant", "content": text}


def calls(*wanted: tuple[str, str, dict]) -> dict:
    """A reply of calls: (id, name, arguments) each."""
    return says("") | {
        "tool_calls": [
            {"id": id_, "type": "function", "function": {"name": n, "arguments": json.dumps(a)}}
            for id_, n, a in wanted
        ],
    }


def results(messages: list[dict]) -> list[dict]:
    """The messages with the results of tools."""
    return [message for message in messages if message.get("role") == "tool"]


def contents(messages: list[dict]) -> list[str]:
    """What the results of tools say."""
    return [str(message.get("content")) for message in results(messages)]


def last_text(answer: Any, model: ScriptedModel, *arguments: Any, shown: str) -> Any:
    """What the learner's loop returns.

    Args:
        shown: the call as a message shows it.

    Raises:
        WrongForm: as `call` does, and if the loop ends with a call that did not run.
    """
    try:
        return call(answer, *arguments, shown=shown)
    except WrongForm as wrong:
        count = len(model.sent)
        if "returned None" not in str(wrong) or not model.last.get("tool_calls"):
            raise
        if count < LIMIT:
            raise WrongForm(
                f"It ended after request {count}, whose reply was a call. Run the tool, and "
                f"ask again: {LIMIT} requests are allowed."
            ) from None
        if count > LIMIT:
            raise WrongForm(_too_often(count)) from None
        raise WrongForm(
            f"The model called a tool in all {LIMIT} requests: it does not get every result. Send "
            "all messages each time."
        ) from None


def _too_often(count: int) -> str:
    return f"It asked {count} times. End it after {LIMIT} requests."


def judge_limit(run: Callable[[], Any], model: ScriptedModel) -> str | None:
    """Whether a loop ends in time if the model never stops calling.

    Args:
        run: starts the loop with `model`.
    """
    try:
        run()
    except WrongForm as wrong:
        # To end with nothing or with an error of its own is a good end, too.
        if len(model.sent) >= MOST:
            raise
        if "stopped with an error" in str(wrong) and len(model.sent) < 2:
            raise
    return _too_often(len(model.sent)) if len(model.sent) > LIMIT else None


def judge_error(model: ScriptedModel, happened: str, sign: str, advice: str) -> str | None:
    """Whether the model read of an error.

    Args:
        happened: what went wrong, as a message shows it.
        sign: what the result should contain.
        advice: what to do if the sign is missing.
    """
    if len(model.sent) < 2 or not results(model.latest):
        return "An error is a result, too: send it, so that the model can react to it."
    content = results(model.latest)[-1].get("content")
    if not isinstance(content, str):
        return "The content of a result is a string, also of an error: str(error)."
    if sign not in content or not content.strip():
        return f"{happened}, but the model reads {plainer(content)[:60]!r}. {advice}"
    return None


NAME_THE_TOOL = "Name the tool in the result."
TELL_THE_ERROR = "Put the error's text in the result."
