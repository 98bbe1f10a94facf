"""Functions as tools, and the loop: on scripted replies, and on the pocket model's."""

import json
import re
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import tools, wire
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
    """A lab whose model gives these replies in turn: a text, or a list of (id, name, arguments)."""
    left, asked = list(replies), []

    def create(**request):
        asked.append(json.loads(json.dumps(request["messages"])))
        content, calls = left.pop(0) if left else "done", None
        if not isinstance(content, str):
            calls = [
                SimpleNamespace(id=i, function=SimpleNamespace(name=n, arguments=a))
                for i, n, a in content
            ]
            content = None
        message = SimpleNamespace(content=content, tool_calls=calls)
        return SimpleNamespace(choices=[SimpleNamespace(message=message)])

    client = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    return SimpleNamespace(client=client, model="scripted", asked=asked)


QUESTION = [{"role": "user", "content": "How many people live in France?"}]
FRANCE = ("abcdefgh1", "population", '{"country": "France"}')


def assert_can_continue(trace) -> None:
    """Mistral's own format accepts the conversation; else it raises."""
    again = {"role": "user", "content": "And in Italy?"}
    wire.encode([*trace.messages, again], [tools.describe(population)])


def test_a_schema_is_what_the_function_says():
    function = tools.describe(population)["function"]
    assert function["name"] == "population"
    assert function["parameters"]["required"] == ["country"]
    assert function["parameters"]["properties"]["unit"]["enum"] == ["millions", "thousands"]
    assert "return" not in function


def no_docstring(x: int):
    return x


def no_hint(x):
    """
    Do it.

    Args:
        x: It.
    """


def no_line_for_y(x: int, y: int):
    """
    Do it.

    Args:
        x: It.
    """


def odd_type(x: threading.Thread):
    """
    Do it.

    Args:
        x: It.
    """


@pytest.mark.parametrize("function", [no_docstring, no_hint, no_line_for_y, odd_type])
def test_a_function_that_cannot_be_a_tool_says_what_it_lacks(function):
    with pytest.raises(tools.ToolError, match=function.__name__):
        tools.describe(function)


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
        "import sys, threading; sys.path.insert(0, 'tests/helpers'); import test_tools as t\n"
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


def test_a_result_that_json_cannot_represent():
    def thread() -> str:
        """Get a thread."""
        return threading.current_thread()

    trace = tools.run_tools(scripted([("abcdefgh1", "thread", "{}")]), QUESTION, [thread])
    assert "not JSON serializable" in trace.steps[0].content


def test_a_model_that_never_answers_stops_at_the_last_round():
    lab = scripted(*[[FRANCE]] * 50)
    trace = tools.run_tools(lab, QUESTION, [population], max_rounds=4)
    assert trace.answer is None
    assert len(lab.asked) == 4
    assert trace.steps[-1].round == 4


def test_two_tools_of_one_name():
    with pytest.raises(tools.ToolError, match="same name"):
        tools.run_tools(scripted(), QUESTION, [add, add])


def test_the_sequence_is_drawn(monkeypatch):
    import matplotlib.pyplot as plt

    monkeypatch.setattr(plt, "show", lambda: None)
    lab = scripted([FRANCE, ("abcdefgh2", "nothing", "{}")], "68 million.")
    tools.run_tools(lab, QUESTION, [population]).draw()
    words = [text.get_text() for text in plt.gca().texts]
    assert "68 million." in words
    assert any(word.startswith("population(") for word in words)
    plt.close()


anything = st.one_of(
    st.text(max_size=20),
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.text(max_size=12)),
            st.one_of(st.sampled_from(["population", "add", "none"]), st.text(max_size=8)),
            st.one_of(
                st.none(),
                st.text(max_size=30),
                st.sampled_from(['{"a": 1, "b": 2}', '{"country": "France"}', "[[[", "{}"]),
                st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5)).map(
                    json.dumps
                ),
            ),
        ),
        min_size=1,
        max_size=3,
    ),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(anything, max_size=6), st.integers(1, 4))
def test_nothing_a_model_generates_makes_the_loop_raise_or_exceed_its_rounds(replies, rounds):
    lab = scripted(*replies)
    trace = tools.run_tools(lab, QUESTION, [population, add], max_rounds=rounds)
    assert len(lab.asked) <= rounds
    assert trace.answer is not None or len(lab.asked) == rounds
    open_calls: list[str] = []
    for message in trace.messages:  # every call is answered once, by its id
        open_calls += [call["id"] for call in message.get("tool_calls", [])]
        if message["role"] == "tool":
            open_calls.remove(message["tool_call_id"])
    assert open_calls == []


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
