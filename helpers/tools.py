"""Python functions as tools: their schemas, and the loop in which a model calls them.

A model only writes wishes. `run_tools` carries them out and reports back, until the model answers
in words. Whatever goes wrong with a call is told to the model as the call's result, since a model
can often mend it; nothing that a model writes makes the loop raise.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import jsonschema

from pocket_model.call_id import CALL_ID_PATTERN, new_call_id

TOOL_ID = re.compile(CALL_ID_PATTERN)  # the only form that Mistral's tokenizers accept


class ToolError(ValueError):
    """A function cannot be a tool; the message says what it lacks."""


def describe(function: Callable) -> dict:
    """A function's schema in OpenAI's form, from its type hints and its docstring.

    The docstring is Google's style: what the function does, then ``Args:`` with a line for each
    parameter.

    Raises:
        ToolError: no docstring, a parameter without a hint or a description, or of a type that
            JSON does not have.
    """
    from transformers.utils import get_json_schema
    from transformers.utils.chat_template_utils import (
        DocstringParsingException,
        TypeHintParsingException,
    )

    name = getattr(function, "__name__", repr(function))
    try:
        schema = get_json_schema(function)
    except (DocstringParsingException, TypeHintParsingException, TypeError, ValueError) as error:
        raise ToolError(
            f"{name} cannot be described to a model: {error}. A tool needs a docstring that says "
            "what it does and each parameter, and type hints such as str, int, float, bool, "
            "list[str] or Literal[…]."
        ) from error
    schema["function"].pop("return", None)  # not part of OpenAI's protocol
    return schema


@dataclass(frozen=True)
class Step:
    """One thing that happened in a conversation with tools.

    Attributes:
        round: which of the model's messages it belongs to, from 1.
        kind: "call" (carried out), "mistake" (a call that could not be, or that failed), "answer".
        name, arguments: of the call; empty for an answer.
        said: the result that the model was told, or its answer.
        seconds: of the tool, or of the model for an answer.
    """

    round: int
    kind: str
    name: str
    arguments: str
    said: str
    seconds: float


@dataclass
class Trace:
    """A whole conversation with tools.

    Attributes:
        messages: all of it, in OpenAI's form, fit to go on with.
        steps: what happened, in order.
        answer: the model's last words; None if the rounds ran out.
    """

    messages: list[dict]
    steps: list[Step] = field(default_factory=list)
    answer: str | None = None

    def table(self):
        """The steps as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame([vars(step) for step in self.steps], columns=[*Step.__annotations__])

    def draw(self) -> None:
        """The steps as a sequence picture: user, model and tools, and what went between them."""
        import matplotlib.pyplot as plt

        question = next(m for m in reversed(self.messages) if m["role"] == "user")
        arrows = [("user", "model", _shown(_text(question)), "black")]
        for step in self.steps:
            if step.kind == "answer":
                arrows.append(("model", "user", _shown(step.said), "black"))
                continue
            colour = "#17692b" if step.kind == "call" else "#b3261e"
            wish = _shown(f"{step.name}({step.arguments})")
            arrows += [("model", "tools", wish, colour), ("tools", "model", step.said, colour)]
        places = {"user": 0.0, "model": 1.0, "tools": 2.0}
        _, ax = plt.subplots(figsize=(9, 0.5 + 0.42 * len(arrows)))
        for who, x in places.items():
            ax.axvline(x, color="lightgrey", zorder=0)
            ax.text(x, -0.9, who, ha="center", weight="bold")
        for y, (start, end, words, colour) in enumerate(arrows):
            tip = {"arrowstyle": "->", "color": colour}
            ax.annotate("", (places[end], y), (places[start], y), arrowprops=tip)
            middle = (places[start] + places[end]) / 2
            ax.text(middle, y - 0.12, _shown(words), ha="center", fontsize=8, color=colour)
        ax.set(xlim=(-0.3, 2.3), ylim=(len(arrows) - 0.4, -1.3))
        ax.axis("off")
        plt.show()


def run_tools(
    lab,
    messages: Sequence[dict],
    functions: Sequence[Callable],
    *,
    max_rounds: int = 6,
    time_limit_s: float = 10.0,
    **settings,
) -> Trace:
    """Let the model call functions until it answers in words.

    Args:
        lab: from `connect`.
        messages: the conversation so far; left as it is.
        functions: the tools, each with type hints and a docstring.
        max_rounds: most messages that the model may write.
        time_limit_s: most seconds for the tools of one message. One that takes longer is not waited
            for; Python cannot stop its thread, which runs on, and ends with the process at last.
        settings: for every request, such as ``temperature`` and ``max_tokens``.

    Raises:
        ToolError: a function that cannot be a tool, or two of the same name.
        openai.APIError: the server refused a request.
    """
    schemas = [describe(function) for function in functions]
    tools = {schema["function"]["name"]: schema for schema in schemas}
    if len(tools) < len(functions):
        raise ToolError("two tools have the same name")
    callables = dict(zip(tools, functions, strict=True))
    trace = Trace(list(messages))
    for number in range(1, max_rounds + 1):
        begun = time.monotonic()
        reply = lab.client.chat.completions.create(
            model=lab.model, messages=trace.messages, tools=schemas, **settings
        )
        wish = reply.choices[0].message
        calls = [_plain(call) for call in wish.tool_calls or []]
        if not calls:
            trace.answer = wish.content or ""
            trace.messages.append({"role": "assistant", "content": trace.answer})
            spent = time.monotonic() - begun
            trace.steps.append(Step(number, "answer", "", "", trace.answer, round(spent, 3)))
            break
        said = {"role": "assistant", "content": wish.content or "", "tool_calls": calls}
        trace.messages.append(said)
        for step, call in _carry_out(calls, tools, callables, number, time_limit_s):
            trace.steps.append(step)
            told = {"role": "tool", "tool_call_id": call["id"], "content": step.said}
            trace.messages.append(told)
    return trace


def _plain(call) -> dict:
    """A call as a message holds it, with an id that Mistral's models take."""
    call_id = call.id if TOOL_ID.fullmatch(call.id or "") else new_call_id()
    arguments = call.function.arguments or "{}"
    # Servers refuse a conversation whose calls are no JSON objects, so the words are kept in one.
    unreadable = _object(arguments) is None
    kept = json.dumps({"unreadable": arguments[:500]}) if unreadable else arguments
    function = {"name": call.function.name or "nameless", "arguments": kept}
    return {"id": call_id, "type": "function", "function": function}


def _object(words: str) -> dict | None:
    """The JSON object that the words are, if they are one."""
    try:
        found = json.loads(words)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


class _Work(threading.Thread):
    """One call under way. A daemon: a tool that hangs must not keep the process from ending."""

    def __init__(self, function: Callable, arguments: dict):
        super().__init__(daemon=True)
        self.function, self.arguments = function, arguments
        self.said, self.mistake, self.seconds = "", None, 0.0
        self.start()

    def run(self) -> None:
        begun = time.monotonic()
        try:
            self.said = _as_text(self.function(**self.arguments))
        except BaseException as error:  # a tool is any code of the reader's, sys.exit included
            self.mistake = f"{type(error).__name__}: {error}"
        self.seconds = time.monotonic() - begun


def _carry_out(calls, tools, callables, number: int, time_limit_s: float):
    """Every call of one message at the same time: pairs of (step, call), in their order."""
    deadline = time.monotonic() + time_limit_s
    running = []
    for call in calls:
        name, words = call["function"]["name"], call["function"]["arguments"]
        mistake = what_is_wrong(name, words, tools)
        work = None if mistake else _Work(callables[name], json.loads(words))
        running.append((call, name, words, mistake, work))
    for call, name, words, mistake, work in running:
        said, seconds = "", 0.0
        if work:
            work.join(max(0.0, deadline - time.monotonic()))
            if work.is_alive():
                mistake = f"{name} took longer than {time_limit_s:g} s and was not waited for"
                seconds = time_limit_s
            else:
                said, mistake, seconds = work.said, work.mistake, work.seconds
        if mistake:
            said = json.dumps({"error": mistake}, ensure_ascii=False)
        kind = "mistake" if mistake else "call"
        yield Step(number, kind, name, words, said, round(seconds, 3)), call


def what_is_wrong(name: str, words: str, tools: dict[str, dict]) -> str | None:
    """Why a call cannot be carried out, in words for the model; None if it can.

    Args:
        name, words: the tool's name and its arguments, as the model wrote them.
        tools: schemas from `describe`, by name.
    """
    if name not in tools:
        return f"there is no tool {name!r}; there are: {', '.join(tools) or 'none'}"
    arguments = _object(words)
    if arguments is None or set(arguments) == {"unreadable"}:
        return "the arguments are not a JSON object"
    schema = tools[name]["function"]["parameters"]
    unknown = set(arguments) - set(schema.get("properties", {}))
    if unknown:
        return f"{name} has no argument {', '.join(sorted(unknown))}"
    wrong = sorted(jsonschema.Draft202012Validator(schema).iter_errors(arguments), key=str)
    return "; ".join(f"{error.json_path}: {error.message}" for error in wrong) or None


def _as_text(result) -> str:
    """A result as the model is told it: a string as it is, all else as JSON.

    Raises TypeError for what JSON cannot hold.
    """
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def _text(message: dict) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "[picture]") for part in content)


def _shown(words: str, most: int = 60) -> str:
    words = " ".join(words.split())
    return words if len(words) <= most else f"{words[: most - 1]}…"
