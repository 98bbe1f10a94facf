"""The loop: on scripted replies, and on the pocket model's."""

import asyncio
import json
import math
import re
import subprocess
import sys
import threading
import time
from datetime import date
from enum import Enum
from types import SimpleNamespace
from typing import Literal

import httpx2
import numpy as np
import openai
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionMessage
from PIL import Image

from helpers import images, replies, tools, wire
from helpers.paths import ROOT


def population(country: str, unit: Literal["millions", "thousands"] = "millions") -> float:
    """
    Get the population of a country.

    Args:
        country: The country.
        unit: The unit.
    """
    return {"France": 68.0, "Italy": 59.0}[country] * (1 if unit == "millions" else 1000)


def add(a: int, b: int) -> int:
    """
    Add two numbers.

    Args:
        a: One.
        b: The other.
    """
    return a + b


def scripted(*replies):
    """A lab whose model gives these replies in turn.

    A reply is a text, a list of (id, name, arguments), a message, or the bytes of a whole body.
    """
    left, asked = list(replies), []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(json.loads(request.content)["messages"])
        message, headers = left.pop(0) if left else "done", {"content-type": "application/json"}
        if isinstance(message, bytes):
            return httpx2.Response(200, content=message, headers=headers)
        reason = "stop"
        if isinstance(message, list):
            functions = [(i, {"name": n, "arguments": a}) for i, n, a in message]
            message = {"tool_calls": [{"id": i, "function": f} for i, f in functions]}
            reason = "tool_calls"
        elif isinstance(message, str):
            message = {"content": message}
        body = {"choices": [{"index": 0, "message": message, "finish_reason": reason}]}
        return httpx2.Response(200, content=json.dumps(body).encode(), headers=headers)

    http_client = httpx2.Client(transport=httpx2.MockTransport(answer))
    client = openai.OpenAI(
        base_url="http://scripted/v1", api_key="none", max_retries=0, http_client=http_client
    )
    return SimpleNamespace(client=client, model="scripted", asked=asked)


QUESTION = [{"role": "user", "content": "How many people live in France?"}]
FRANCE = ("abcdefgh1", "population", '{"country": "France"}')


def assert_can_continue(trace) -> None:
    """Mistral's own format accepts the conversation; else it raises."""
    again = {"role": "user", "content": "And in Italy?"}
    wire.encode([*trace.messages, again], [tools.describe(population)])


def test_one_call_its_result_and_the_answer():
    lab = scripted([FRANCE], "68 million people.")
    trace = tools.run_tools(lab, QUESTION, [population])
    assert trace.answer == "68 million people."
    assert [m["role"] for m in trace.messages] == ["user", "assistant", "tool", "assistant"]
    assert trace.messages[2] == {
        "role": "tool",
        "tool_call_id": "abcdefgh1",
        "content": "68.0",
    }
    assert len(QUESTION) == 1
    assert list(trace.table()["kind"]) == ["call", "answer"]
    assert_can_continue(trace)


def test_two_calls_in_one_message_run_in_parallel():
    together = threading.Barrier(2, timeout=5)

    def meet(n: int) -> int:
        """
        Meet.

        Args:
            n: A number.
        """
        together.wait()
        return n

    lab = scripted([("abcdefgh1", "meet", '{"n": 1}'), ("abcdefgh2", "meet", '{"n": 2}')])
    trace = tools.run_tools(lab, QUESTION, [meet])
    assert [(s.kind, s.content) for s in trace.steps[:2]] == [("call", "1"), ("call", "2")]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (("abcdefgh1", "weather", "{}"), "there is no tool 'weather'; there are: population, add"),
        (("abcdefgh1", "population", "{}"), "'country' is a required property"),
        (("abcdefgh1", "population", '{"country": 5}'), "5 is not of type 'string'"),
        (("abcdefgh1", "population", '{"country": "France", "unit": "dozens"}'), "not one of"),
        (("abcdefgh1", "population", '{"country": "France", "x": 1}'), "no argument x"),
        (("abcdefgh1", "population", '{"country": "Fr'), "not a JSON object"),
        (("abcdefgh1", "population", "[1]"), "not a JSON object"),
        (("abcdefgh1", "population", '{"country": "Mars"}'), "KeyError"),
    ],
)
def test_an_error_is_sent_back_to_the_model_which_can_correct_it(call, says):
    lab = scripted([call], [FRANCE], "68 million.")
    trace = tools.run_tools(lab, QUESTION, [population, add])
    assert [step.kind for step in trace.steps] == ["error", "call", "answer"]
    assert says in json.loads(trace.messages[2]["content"])["error"]
    assert_can_continue(trace)


def test_ids_that_mistral_refuses_are_replaced_in_call_and_result():
    lab = scripted([("call_1", "add", '{"a": 1, "b": 2}'), (None, "add", '{"a": 1, "b": 3}')])
    trace = tools.run_tools(lab, QUESTION, [add])
    made = [call["id"] for call in trace.messages[1]["tool_calls"]]
    assert all(re.fullmatch("[a-zA-Z0-9]{9}", call_id) for call_id in made)
    assert [m["tool_call_id"] for m in trace.messages if m["role"] == "tool"] == made
    assert [m["content"] for m in trace.messages if m["role"] == "tool"] == ["3", "4"]


def test_a_tool_that_hangs_is_not_waited_for():
    def sleep(seconds: float) -> str:
        """
        Sleep.

        Args:
            seconds: How long.
        """
        time.sleep(seconds)
        return "awake"

    lab = scripted([("abcdefgh1", "sleep", '{"seconds": 3}')], "It hangs.")
    begun = time.monotonic()
    trace = tools.run_tools(lab, QUESTION, [sleep], time_limit_s=0.2)
    assert time.monotonic() - begun < 2
    assert "longer than 0.2 s" in trace.steps[0].content
    assert trace.answer == "It hangs."


@pytest.mark.parametrize("error", [TimeoutError("by itself"), SystemExit(3), KeyboardInterrupt()])
def test_any_exception_of_a_tool_is_sent_back_by_its_name(error):
    def fail() -> str:
        """Fail."""
        raise error

    trace = tools.run_tools(scripted([("abcdefgh1", "fail", "{}")]), QUESTION, [fail])
    assert type(error).__name__ in trace.steps[0].content
    assert "waited for" not in trace.steps[0].content


def test_a_tool_that_hangs_does_not_keep_the_process_from_ending():
    code = (
        "import sys, threading; sys.path.insert(0, 'tests/helpers/tools'); import test_loop as t\n"
        "def hang() -> str:\n"
        "    'Hang.'\n"
        "    threading.Event().wait()\n"
        "lab = t.scripted([('abcdefgh1', 'hang', '{}')], 'It hangs.')\n"
        "print(t.tools.run_tools(lab, t.QUESTION, [hang], time_limit_s=0.1).answer)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "It hangs.", done.stderr


def test_a_model_that_never_answers_stops_at_the_last_round():
    lab = scripted(*[[FRANCE]] * 50)
    trace = tools.run_tools(lab, QUESTION, [population], max_rounds=4)
    assert trace.answer is None
    assert len(lab.asked) == 4
    assert trace.steps[-1].round == 4


def test_two_tools_of_one_name():
    with pytest.raises(tools.ToolError, match="same name"):
        tools.run_tools(scripted(), QUESTION, [add, add])


def test_the_conversation_can_be_explored():
    """The whole of it, with an image, an error, and an answer of no words."""
    lab = scripted([("abcdefgh1", "nothing", "{}")], [FRANCE], "$68 or <b>")
    picture = images.image_part(Image.new("RGB", (90, 40), "teal"))
    earlier = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "HOW MANY PEOPLE LIVE " * 20},
        {"role": "assistant", "content": "Where?"},
        {"role": "user", "content": [{"type": "text", "text": "Here:"}, picture]},
    ]
    steps = tools.run_tools(lab, earlier, [population]).explore().data["steps"]
    ways = [f"{step['sender']} {step['receiver']}" for step in steps]
    asked = ["user model", "user model", "model user", "user model"]
    called = ["model tools", "tools model"]
    assert ways == [*asked, *called, *called, "model user"]
    assert [step["error"] for step in steps] == [False] * 5 + [True] + [False] * 3
    assert [bool(step["image"]) for step in steps] == [False] * 3 + [True] + [False] * 5
    assert steps[6]["text"].startswith("population(")
    assert steps[-1]["text"] == "$68 or <b>"
    assert json.loads(steps[4]["message"])["function"]["name"] == "nothing"
    assert len(steps[3]["message"]) < 400  # without the image's data
    (empty,) = tools.run_tools(scripted(""), QUESTION, [population]).explore().data["steps"][1:]
    assert empty["text"] == "(an empty answer)"


def reply(message: object, reason: str = "stop") -> bytes:
    """The body of a reply with this message."""
    return json.dumps({"choices": [{"message": message, "finish_reason": reason}]}).encode()


# OpenAI's reference: content is a string or null; refusal is a string. Mistral's own API sends
# content in parts.
ANSWERS = {
    "empty": (reply({"content": ""}), "", "stop"),
    "null": (reply({"content": None}), "", "stop"),
    "missing": (reply({"role": "assistant"}), "", "stop"),
    "cut before a word": (reply({"content": ""}, "length"), "", "length"),
    "blank": (reply({"content": " \n"}), " \n", "stop"),
    "cut": (reply({"content": "It is"}, "length"), "It is", "length"),
    "a refusal": (reply({"content": None, "refusal": "No."}), "No.", "stop"),
    "parts": (reply({"content": [{"type": "text", "text": "Yes."}, {"x": 1}]}), "Yes.", "stop"),
    "no calls": (reply({"content": "Yes.", "tool_calls": []}), "Yes.", "stop"),
    "an unpaired surrogate": (reply({"content": "a\ud800"}), "a?", "stop"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_after_any_answer_the_conversation_can_go_on(name):
    body, answer, reason = ANSWERS[name]
    trace = tools.run_tools(scripted(body), QUESTION, [population])
    assert (trace.answer, trace.finish_reason) == (answer, reason)
    assert_can_continue(trace)
    # The pocket server's rule, and that of other servers.
    assert all(m.get("content") or m.get("tool_calls") for m in trace.messages)


@pytest.mark.parametrize("body", [b'{"choices": null}', b'{"choi', reply({"content": ""}, "error")])
def test_a_reply_without_a_message_is_no_answer_and_the_trace_is_kept(body):
    kept = tools.Trace([])
    lab = scripted([FRANCE], body)
    with pytest.raises(replies.NoAnswer):
        tools.run_tools(lab, QUESTION, [population], trace=kept)
    assert [step.content for step in kept.steps] == ["68.0"]
    assert_can_continue(kept)


def call(arguments: object = '{"a": 1, "b": 2}', name: object = "add", call_id: object = "a" * 9):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


NO_OBJECT = "not a JSON object"
# What models and servers have sent, and what the model is told. Arguments are "a JSON object,
# stringified" by OpenAI's reference, ids are strings.
CALLS = {
    "an object": ([call({"a": 1, "b": 2})], "3"),
    "null arguments": ([call(None)], "required property"),
    "the text null": ([call("null")], "required property"),
    "no arguments": ([call("")], "required property"),
    "a list": ([call([1])], NO_OBJECT),
    "a code block": ([call('```json\n{"a": 1, "b": 2}\n```')], NO_OBJECT),
    "NaN, which JSON does not have": ([call('{"a": NaN, "b": 2}')], NO_OBJECT),
    "5,000 digits": ([call(f'{{"a": {"1" * 5000}, "b": 2}}')], NO_OBJECT),
    "100,000 levels": ([call("[" * 100_000)], NO_OBJECT),
    "a megabyte": ([call(json.dumps({"a": "x" * 1_000_000, "b": 2}))], "cut here"),
    "an unpaired surrogate": ([call('{"\\ud800": "\ud800"}')], NO_OBJECT),
    "no name": ([call(name=None)], "there is no tool 'nameless'"),
    "a name with blanks": ([call(name="add up ü")], "there is no tool 'add_up__'"),
    "a long name": ([call(name="x" * 100)], "there is no tool"),
    "a number as id": ([call(call_id=5)], "3"),
    "an id twice": ([call(), call()], "3"),
    "null as call": ([None], "there is no tool"),
    "no function": ([{"id": "a" * 9, "type": "function", "function": None}], "there is no tool"),
    "a custom tool": ([{"id": "a", "type": "custom", "custom": {"name": "x"}}], "no tool"),
}


@pytest.mark.parametrize("name", CALLS)
def test_whatever_the_calls_are_the_model_is_told_and_can_go_on(name):
    calls, told = CALLS[name]
    lab = scripted(reply({"content": "Let me see.", "tool_calls": calls}))
    trace = tools.run_tools(lab, QUESTION, [add])
    assert told in trace.steps[0].content
    assert len(trace.steps[0].content) < 1200
    assert trace.answer == "done"
    assert trace.messages[1]["content"] == "Let me see."
    assert_can_continue(trace)


def test_a_call_that_was_cut_off_says_so():
    body = reply({"tool_calls": [call('{"a": 1, "b"')]}, "length")
    trace = tools.run_tools(scripted(body), QUESTION, [add], max_rounds=1)
    assert "cut off at max_tokens" in trace.steps[0].content
    assert trace.finish_reason == "length"


class Color(Enum):
    RED = "red"


RESULTS = {
    "text": ("a\ud800", "a?"),
    "nothing": (None, "null"),
    "dates": ([date(2026, 1, 2)], '["2026-01-02"]'),
    "a set": ({1}, "[1]"),
    "an enum": (Color.RED, '"red"'),
    "bytes": (b"abc", '"abc"'),
    "bytes that are no text": (b"\xff", "utf-8"),
    "numbers that JSON has not": ([math.nan, -math.inf], '["NaN", "-Infinity"]'),
    "an array": (np.arange(3), "[0, 1, 2]"),
    "a number of numpy": ({"n": np.int64(3)}, '{"n": 3}'),
    "a table": (pd.DataFrame({"a": [1, 2]}), '[{"a": 1}, {"a": 2}]'),
    "a thread": (threading.current_thread(), "_MainThread, which JSON cannot represent"),
    "too long": ("x" * 1_000_000, "x … [cut here: 1,000,000 characters in all]"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_any_result_is_text_for_the_model(name):
    result, told = RESULTS[name]

    def get() -> object:
        """Get it."""
        return result

    trace = tools.run_tools(scripted([("abcdefgh1", "get", "{}")]), QUESTION, [get])
    assert told in trace.steps[0].content
    assert len(trace.steps[0].content) < 21_000
    assert_can_continue(trace)


def test_a_result_that_contains_itself():
    def get() -> list:
        """Get it."""
        result = []
        result.append(result)
        return result

    trace = tools.run_tools(scripted([("abcdefgh1", "get", "{}")]), QUESTION, [get])
    assert "Circular reference" in trace.steps[0].content


@pytest.mark.filterwarnings("error")  # such as "coroutine was never awaited"
def test_async_tools_run():
    async def slow(word: str) -> str:
        """
        Wait.

        Args:
            word: A word.
        """
        await asyncio.sleep(0)
        return word * 2

    trace = tools.run_tools(scripted([("abcdefgh1", "slow", '{"word": "ab"}')]), QUESTION, [slow])
    assert trace.steps[0].content == "abab"


def test_messages_of_the_client_are_taken_as_they_are():
    earlier = ChatCompletionMessage(role="assistant", content="Hello.")
    trace = tools.run_tools(scripted("68."), [*QUESTION, earlier, *QUESTION], [population])
    assert trace.messages[1] == {"role": "assistant", "content": "Hello."}
    assert_can_continue(trace)


texts = st.text(st.characters(), max_size=12)  # unpaired surrogates too
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
arguments = (
    st.sampled_from(['{"a": 1, "b": 2}', '{"country": "France"}', "[[[", "{}"])
    | values
    | st.dictionaries(st.sampled_from(["a", "b", "country"]), values).map(json.dumps)
)
names = st.sampled_from(["population", "add", "none"]) | values
some_calls = st.lists(st.builds(call, arguments, names, values), min_size=1, max_size=3)
anything = st.builds(
    lambda content, calls, reason: reply({"content": content, "tool_calls": calls}, reason),
    st.none() | texts,
    st.none() | some_calls,
    st.sampled_from(["stop", "length", "tool_calls"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(anything, max_size=6), st.integers(1, 4))
def test_nothing_a_model_generates_makes_the_loop_raise_or_exceed_its_rounds(bodies, rounds):
    lab = scripted(*bodies)
    trace = tools.run_tools(lab, QUESTION, [population, add], max_rounds=rounds)
    assert len(lab.asked) <= rounds
    assert trace.answer is not None or len(lab.asked) == rounds
    assert_can_continue(trace)


@pytest.mark.pocket
def test_the_pocket_model_in_the_loop(lab):
    def exchange_rate(base: str, quote: str) -> float:
        """
        Look up an exchange rate.

        Args:
            base: The currency to convert from, such as EUR.
            quote: The currency to convert to, such as CHF.
        """
        return 7.25

    question = [{"role": "user", "content": "How many CHF is one EUR?"}]
    trace = tools.run_tools(lab, question, [exchange_rate], temperature=0, max_tokens=64)
    call = trace.steps[0]
    assert (call.kind, call.name) == ("call", "exchange_rate")
    assert json.loads(call.arguments) == {"base": "EUR", "quote": "CHF"}
    assert "7.25" in trace.answer


@pytest.mark.pocket
def test_a_conversation_whose_answer_was_cut_can_go_on_at_the_pocket_server(lab):
    question = [{"role": "user", "content": "Add 2 and 3."}]
    trace = tools.run_tools(lab, question, [add], temperature=0, max_tokens=3)
    assert (trace.answer, trace.finish_reason) == ("", "length")  # cut in the head of a call
    again = [*trace.messages, *question]
    reply = lab.client.chat.completions.create(model=lab.model, messages=again, max_tokens=1)
    assert reply.choices
