"""The loop in which a model calls tools, and what happened in it.

A model only generates tool calls. `run_tools` executes them and returns the results, until the
model answers with text. An error in a call is sent back to the model as the result of the call,
since a model can often correct it. Nothing that a model generates makes the loop raise.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from helpers import replies
from helpers.tools.calls import RunningCall, answer_text, read_calls
from helpers.tools.schemas import ToolError, describe

if TYPE_CHECKING:
    import pandas as pd

    from helpers.backends import Lab
    from helpers.widgets.explorer import Explorer


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
        messages: all of it, in OpenAI's form; more can be appended. An empty answer is not in it,
            because servers refuse one.
        steps: what happened, in order.
        answer: the model's final text, which may be empty; None if the rounds ran out.
        finish_reason: of the model's last message: "stop"; "length" if `max_tokens` cut it off;
            "tool_calls" if the rounds ran out.
    """

    messages: list[dict]
    steps: list[Step] = field(default_factory=list)
    answer: str | None = None
    finish_reason: str | None = None

    def table(self) -> "pd.DataFrame":
        """The steps, one row each, with the attributes of `Step` as columns."""
        import pandas as pd

        return pd.DataFrame(self.steps, columns=[*Step.__annotations__])

    def explore(self) -> "Explorer":
        """The whole conversation step by step, as a page: who sends what to whom."""
        from helpers.widgets import trace

        answered_nothing = self.answer is not None and not self.answer.strip()
        empty = [{"role": "assistant", "content": ""}] if answered_nothing else []
        return trace.explore([*self.messages, *empty])


def run_tools(
    lab: "Lab",
    messages: Sequence[dict],
    functions: Sequence[Callable],
    *,
    max_rounds: int = 6,
    time_limit_s: float = 10.0,
    trace: Trace | None = None,
    **settings: Any,
) -> Trace:
    """Let the model call functions until it answers with text.

    Args:
        lab: from `connect`.
        messages: the conversation so far; it is not changed.
        functions: the tools, each with type hints and a docstring; async functions too.
        max_rounds: maximum number of messages that the model may generate.
        time_limit_s: maximum seconds for the tools of one message. The loop does not wait longer.
            Python cannot stop the thread of such a tool; it ends with the process at the latest.
        trace: filled as the loop runs, so that the caller has it after an exception too.
        settings: for every request, such as `temperature` and `max_tokens`.

    Raises:
        ToolError: a function cannot be a tool, or two have the same name.
        replies.NoAnswer: a reply has status 200, but no answer in it.
        openai.APIError: the server refused a request.
    """
    schemas = [describe(function) for function in functions]
    tools = {schema["function"]["name"]: schema for schema in schemas}
    if len(tools) < len(functions):
        raise ToolError(f"two tools have the same name; the names are: {', '.join(tools)}")
    callables = dict(zip(tools, functions, strict=True))
    trace = Trace([]) if trace is None else trace
    trace.messages = [
        message if isinstance(message, dict) else message.model_dump(exclude_none=True)
        for message in messages
    ]
    for number in range(1, max_rounds + 1):
        start = time.monotonic()
        try:
            reply = lab.client.chat.completions.create(
                model=lab.model, messages=trace.messages, tools=schemas, **settings
            )
        except replies.NOT_JSON as error:
            raise replies.as_no_answer(error) from error
        message = replies.message(reply)
        trace.finish_reason = reply.choices[0].finish_reason
        content = answer_text(message)
        if not message.tool_calls:
            seconds = round(time.monotonic() - start, 3)
            trace.steps.append(Step(number, "answer", "", "", content, seconds))
            trace.answer = content
            if content.strip():  # servers refuse a conversation with an empty message
                trace.messages.append({"role": "assistant", "content": content})
            break
        calls = read_calls(message.tool_calls)
        deadline = time.monotonic() + time_limit_s
        cut = trace.finish_reason == "length"
        running = [RunningCall(call, text, cut, tools, callables) for call, text in calls]
        outcomes = [thread.outcome(deadline, time_limit_s) for thread in running]
        # All at once: a message with calls cannot be sent without each of their results.
        sent = [call for call, _ in calls]
        trace.messages.append({"role": "assistant", "content": content, "tool_calls": sent})
        for call, (kind, result, seconds) in zip(sent, outcomes, strict=True):
            trace.messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
            function = call["function"]
            name, arguments = function["name"], function["arguments"]
            trace.steps.append(Step(number, kind, name, arguments, result, round(seconds, 3)))
    return trace
