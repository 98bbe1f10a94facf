"""Python functions as tools: their schemas, and the loop in which a model calls them.

A model only generates tool calls. `run_tools` executes them and returns the results, until the
model answers with text. An error in a call is sent back to the model as the result of the call,
since a model can often correct it. Nothing that a model generates makes the loop raise.
"""

import json
import re
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jsonschema

from pocket_model.call_id import CALL_ID_PATTERN, new_call_id

if TYPE_CHECKING:
    import pandas as pd

    from helpers.backends import Lab


class ToolError(ValueError):
    """A function cannot be a tool; the message says what it lacks."""


def describe(function: Callable) -> dict:
    """The schema of a function in OpenAI's form, from its type hints and its docstring.

    The docstring has Google's style: what the function does, then `Args:` with a line for each
    parameter.

    Raises:
        ToolError: there is no docstring, or a parameter has no hint, no description, or a type
            that JSON does not have.
    """
    from transformers.utils import chat_template_utils as chat

    not_described = chat.DocstringParsingException, chat.TypeHintParsingException
    try:
        schema = chat.get_json_schema(function)
    except (*not_described, TypeError, ValueError) as error:
        raise ToolError(
            f"{getattr(function, '__name__', function)} cannot be described to a model: {error}. "
            "A tool needs a docstring that says what it does and each parameter, and type hints "
            "such as str, int, float, bool, list[str] or Literal[…]."
        ) from error
    schema["function"].pop("return", None)  # not part of OpenAI's protocol
    return schema


@dataclass(frozen=True)
class Step:
    """One event in a conversation with tools.

    Attributes:
        round: the number of the model's message that it belongs to, from 1.
        kind: "call" (executed), "error" (a call that was not valid, or that failed), "answer".
        name, arguments: of the call; empty for an answer.
        content: the result that the model got, or its answer.
        seconds: of the tool, or of the model for an answer.
    """

    round: int
    kind: str
    name: str
    arguments: str
    content: str
    seconds: float


@dataclass
class Trace:
    """A whole conversation with tools.

    Attributes:
        messages: all of it, in OpenAI's form; more can be appended.
        steps: what happened, in order.
        answer: the model's final text; None if the rounds ran out.
    """

    messages: list[dict]
    steps: list[Step] = field(default_factory=list)
    answer: str | None = None

    def table(self) -> "pd.DataFrame":
        """The steps, one row each, with the attributes of `Step` as columns."""
        import pandas as pd

        return pd.DataFrame(self.steps, columns=[*Step.__annotations__])

    def draw(self) -> None:
        """Draw the steps as a sequence diagram of user, model and tools."""
        import matplotlib.pyplot as plt

        arrows = self._arrows()
        x_of = {"user": 0.0, "model": 1.0, "tools": 2.0}
        _, ax = plt.subplots(figsize=(9, 0.5 + 0.55 * len(arrows)))
        for name, x in x_of.items():
            ax.axvline(x, color="lightgrey", zorder=0)
            ax.text(x, -0.9, name, ha="center", weight="bold")
        for y, (sender, receiver, text, color) in enumerate(arrows):
            start, end = x_of[sender], x_of[receiver]
            ax.annotate("", (end, y), (start, y), arrowprops={"arrowstyle": "->", "color": color})
            # Two lines of 42 characters fit between two of the vertical lines.
            label = textwrap.fill(text, 42, max_lines=2, placeholder=" …")
            ax.text((start + end) / 2, y - 0.1, label, ha="center", fontsize=8, color=color)
        ax.set(xlim=(-0.3, 2.3), ylim=(len(arrows) - 0.4, -1.3))
        ax.axis("off")
        plt.show()

    def _arrows(self) -> list[tuple[str, str, str, str]]:
        """The arrows of the diagram: (sender, receiver, text, color)."""
        question = next(m for m in reversed(self.messages) if m["role"] == "user")["content"]
        if not isinstance(question, str):
            question = " ".join(part.get("text", "[image]") for part in question)
        arrows = [("user", "model", question, "black")]
        for step in self.steps:
            if step.kind == "answer":
                arrows.append(("model", "user", step.content, "black"))
                continue
            color = "#17692b" if step.kind == "call" else "#b3261e"
            arrows.append(("model", "tools", f"{step.name}({step.arguments})", color))
            arrows.append(("tools", "model", step.content, color))
        return arrows


def run_tools(
    lab: "Lab",
    messages: Sequence[dict],
    functions: Sequence[Callable],
    *,
    max_rounds: int = 6,
    time_limit_s: float = 10.0,
    **settings: Any,
) -> Trace:
    """Let the model call functions until it answers with text.

    Args:
        lab: from `connect`.
        messages: the conversation so far; it is not changed.
        functions: the tools, each with type hints and a docstring.
        max_rounds: maximum number of messages that the model may generate.
        time_limit_s: maximum seconds for the tools of one message. The loop does not wait longer.
            Python cannot stop the thread of such a tool; it ends with the process at the latest.
        settings: for every request, such as `temperature` and `max_tokens`.

    Raises:
        ToolError: a function cannot be a tool, or two have the same name.
        openai.APIError: the server refused a request.
    """
    schemas = [describe(function) for function in functions]
    tools = {schema["function"]["name"]: schema for schema in schemas}
    if len(tools) < len(functions):
        raise ToolError("two tools have the same name")
    callables = dict(zip(tools, functions, strict=True))
    trace = Trace(list(messages))
    for number in range(1, max_rounds + 1):
        start = time.monotonic()
        reply = lab.client.chat.completions.create(
            model=lab.model, messages=trace.messages, tools=schemas, **settings
        )
        message = reply.choices[0].message
        content = message.content or ""
        if not message.tool_calls:
            trace.answer = content
            trace.messages.append({"role": "assistant", "content": content})
            seconds = round(time.monotonic() - start, 3)
            trace.steps.append(Step(number, "answer", "", "", content, seconds))
            break
        calls = [_to_message(call) for call in message.tool_calls]
        trace.messages.append({"role": "assistant", "content": content, "tool_calls": calls})
        deadline = time.monotonic() + time_limit_s
        running = [_RunningCall(call, tools, callables) for call in calls]
        for call, thread in zip(calls, running, strict=True):
            step = thread.step(number, deadline, time_limit_s)
            trace.steps.append(step)
            result = {"role": "tool", "tool_call_id": call["id"], "content": step.content}
            trace.messages.append(result)
    return trace


def _to_message(call: Any) -> dict:
    """A call as a message holds it, with an id that Mistral's tokenizers accept."""
    call_id = call.id if re.fullmatch(CALL_ID_PATTERN, call.id or "") else new_call_id()
    arguments = call.function.arguments or "{}"
    if _parse_object(arguments) is None:
        # Servers refuse a conversation whose arguments are not a JSON object.
        arguments = json.dumps({"unreadable": arguments[:500]})
    function = {"name": call.function.name or "nameless", "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def _parse_object(text: str) -> dict | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class _RunningCall(threading.Thread):
    """A call under way. A daemon: a tool that hangs must not keep the process from ending."""

    def __init__(self, call: dict, tools: dict[str, dict], callables: dict[str, Callable]):
        super().__init__(daemon=True)
        self.tool, self.arguments = call["function"]["name"], call["function"]["arguments"]
        self.error = validate_call(self.tool, self.arguments, tools)
        self.content, self.seconds = "", 0.0
        if not self.error:
            self.function = callables[self.tool]
            self.start()

    def run(self) -> None:
        start = time.monotonic()
        try:
            result = self.function(**json.loads(self.arguments))
            is_text = isinstance(result, str)
            self.content = result if is_text else json.dumps(result, ensure_ascii=False)
        except BaseException as error:  # a tool is any code of the user's, sys.exit included
            self.error = f"{type(error).__name__}: {error}"
        self.seconds = time.monotonic() - start

    def step(self, round_number: int, deadline: float, time_limit_s: float) -> Step:
        """What came of it, at the latest at `deadline` (`time.monotonic()`)."""
        if self.ident:  # it was started
            self.join(max(0.0, deadline - time.monotonic()))
        content, error, seconds = self.content, self.error, self.seconds
        if self.is_alive():
            error = f"{self.tool} took longer than {time_limit_s:g} s and was not waited for"
            seconds = time_limit_s
        if error:
            content = json.dumps({"error": error}, ensure_ascii=False)
        kind = "error" if error else "call"
        return Step(round_number, kind, self.tool, self.arguments, content, round(seconds, 3))


def validate_call(name: str, arguments: str, tools: dict[str, dict]) -> str | None:
    """Why a call cannot be executed, as a message for the model; None if it can.

    Args:
        name, arguments: the tool's name and its arguments, as the model generated them.
        tools: schemas from `describe`, by name.
    """
    if name not in tools:
        return f"there is no tool {name!r}; there are: {', '.join(tools) or 'none'}"
    values = _parse_object(arguments)
    if values is None or set(values) == {"unreadable"}:
        return "the arguments are not a JSON object"
    schema = tools[name]["function"]["parameters"]
    unknown = set(values) - set(schema.get("properties", {}))
    if unknown:
        return f"{name} has no argument {', '.join(sorted(unknown))}"
    errors = sorted(jsonschema.Draft202012Validator(schema).iter_errors(values), key=str)
    return "; ".join(f"{error.json_path}: {error.message}" for error in errors) or None
