"""Exercises of notebook 05, Tool calling."""

import copy
import json
import re
from typing import Any

from labkit.exercises.answers import WrongForm, call, items, mapping, plainer
from labkit.exercises.asking import Model, arguments
from labkit.exercises.engine import USE, build, exercise, test
from labkit.exercises.scripted import (
    NAME_THE_TOOL,
    TELL_THE_ERROR,
    ScriptedModel,
    calls,
    contents,
    in_turn,
    judge_error,
    judge_limit,
    last_text,
    results,
    says,
)


@exercise(
    "05-id",
    hint=(
        "How long is an id, and which characters can it have?",
        'Look at "Ids: nine letters and digits".',
        'Half of it: "bbc5b7ede" is accepted. Count the characters of the others.',
    ),
)
def judge_call_ids(answer: Any) -> str | None:
    """The tool-call ids that Mistral's format accepts."""
    right = {"bbc5b7ede", "A1B2C3D4E"}
    ids = items(answer, "a list of ids")
    if not all(isinstance(id_, str) for id_ in ids):
        return "Each id should be a string, as it is written in the question."
    ids = {id_.strip() for id_ in ids}
    for wrong in sorted(ids - right):
        if wrong not in ("call_abc1", "a1b2c3d4", "abc defgh"):
            return f"{wrong!r} is not one of the five ids."
        if len(wrong) != 9:
            return f"{wrong!r} has {len(wrong)} characters."
        return f"{wrong!r} has a character that is neither a letter nor a digit."
    return f"{len(right - ids)} more would be accepted." if right - ids else None


TYPES = "the types string, number, integer, boolean, object, array and null"


def _send_tool(answer: Any, model: Model) -> None:
    asked = "I have 20 euros. Convert them."
    messages = [{"role": "user", "content": asked}]
    reply = model.ask(asked, messages, tools=[dict(answer)], tool_choice="required")
    given = arguments(reply)
    if given is None:
        model.note("The reply is no call of your tool. This server may not force calls.")
    else:
        model.note(
            "The call matches your schema: the server sees to that. Whether the values are right "
            "depends on the model, and on how clear your description is."
        )


@exercise(
    "05-schema",
    hint=(
        "What must the model know of a function that it cannot see?",
        'Look at "Describe a function": "parameters" is a JSON schema.',
        'Half of it: "parameters": {"type": "object", "properties": {"amount": {"type": "number"}, '
        '…}, "required": […]}',
    ),
    kind=USE,
    send=_send_tool,
)
def judge_schema(answer: Any) -> str | None:
    """A tool's description whose schema accepts right arguments and refuses wrong ones."""
    from jsonschema import Draft202012Validator, SchemaError

    tool = mapping(answer, 'a dict: {"type": "function", "function": {…}}', whole=True)
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, dict):
        return 'The outermost dict should be {"type": "function", "function": {…}}.'
    if function.get("name") != "convert":
        return 'The function\'s "name" should be "convert".'
    if not function.get("description"):
        return 'The model chooses by the "description", and it is missing.'
    schema = function.get("parameters")
    if not isinstance(schema, dict) or not isinstance(schema.get("properties"), dict):
        return '"parameters" should be a JSON schema of an object, with "properties".'
    try:
        schema = json.loads(json.dumps(schema))  # as it is sent: a tuple becomes a list
    except (TypeError, ValueError):
        return '"parameters" has a value that JSON does not have.'
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        place = ".".join(map(str, error.path)) or "its top"
        return f'"parameters" is no valid JSON schema at {place}: see {TYPES}.'
    accepts = Draft202012Validator(schema).is_valid
    if not accepts({"amount": 3.5, "currency": "EUR"}):
        return "It should accept an amount of 3.5 and the currency EUR."
    if accepts({"currency": "EUR"}) or accepts({"amount": 1}):
        return 'A call without one of the arguments should not pass: see "required".'
    named = set(re.findall(r"\w+", json.dumps(schema))) - {"EUR", "USD"}
    if any(accepts({"amount": 1, "currency": other}) for other in ("CHF", "eur", "", None, *named)):
        return 'Only EUR and USD should pass: see "enum".'
    if accepts({"amount": "much", "currency": "EUR"}):
        return "The amount should be a number."
    return None


build(
    "05-check",
    hint=(
        "What can a model write that is no call at all?",
        'Look at "Run the tool call". It is input like any other, so check it first.',
        "Half of it: json.loads in try/except ValueError, and isinstance(given, dict).",
    ),
    example="""answer('{"city": "Oslo"}', ["city", "days"], ["city"]) → True""",
)


def _checked(answer: Any, cases: list[tuple[str, bool, str]]) -> str | None:
    allowed, required = ["city", "unit", "days"], ["city", "days"]
    for text, expected, reason in cases:
        result = call(answer, text, allowed, required)
        if result not in (True, False):
            return "It should return True or False."
        if bool(result) is not expected:
            return f"{text} should give {expected}: {reason}."
    return None


@test("05-check", "right arguments pass")
def right_arguments(answer: Any) -> str | None:
    """With and without the optional one."""
    cases = [
        ('{"city": "Oslo", "days": 3}', True, "the required arguments are there"),
        ('{"city": "Oslo", "days": 3, "unit": "C"}', True, "optional arguments are allowed"),
        ('{"city": null, "days": 0}', True, "the arguments are there; JSON has null"),
    ]
    return _checked(answer, cases)


@test("05-check", "what is no JSON object does not pass")
def no_object(answer: Any) -> str | None:
    """Broken JSON, a list, Python."""
    cases = [
        ('{"city": ', False, "that is no JSON"),
        ('["city", "days"]', False, "that is JSON, but no object"),
        ("{'city': 'Oslo', 'days': 3}", False, "that is Python, not JSON"),
        ("", False, "that is no JSON"),
    ]
    return _checked(answer, cases)


@test("05-check", "a missing argument does not pass")
def missing_argument(answer: Any) -> str | None:
    """All required ones must be there."""
    cases = [
        ('{"unit": "C"}', False, "required arguments are missing"),
        ('{"city": "Oslo"}', False, "one of the required arguments is missing"),
    ]
    return _checked(answer, cases)


@test("05-check", "an unknown argument does not pass")
def unknown_argument(answer: Any) -> str | None:
    """Only allowed names."""
    case = ('{"city": "Oslo", "days": 3, "town": "Oslo"}', False, "there is no argument `town`")
    return _checked(answer, [case])


build(
    "05-loop",
    hint=(
        "After a tool has run, who needs its result, and how is it known which call it belongs to?",
        'Look at "The loop" and "The conversation": which messages come after a call?',
        "Half of it: message = ask(messages); if it has no tool_calls, return its content. Else "
        "two kinds of messages are appended before the next ask.",
    ),
    example="answer(ask, messages, functions) returns the model's last text",
)


def repeats(messages: list[dict]) -> dict:
    """A reply that repeats the results it was given, in order."""
    return says(" and ".join(contents(messages)))


_ASKED = [{"role": "user", "content": "How warm is it in Oslo?"}]


def _got(messages: list[dict]) -> str | None:
    """What the model read in place of a tool's result; None if no result has the right form."""
    content = results(messages)[-1].get("content") if results(messages) else None
    if content is None:
        return None
    if not isinstance(content, str):
        return "The content of a result is a string: str(result)."
    content = plainer(content)
    read = content if len(content) <= 60 else f"{content[:59]}…"
    return f"The model got {read!r} and not the tool's result."


def _looped(answer: Any, model: ScriptedModel, functions: dict) -> Any:
    def ask(messages: list[dict]) -> dict:
        return model(messages)

    asked = copy.deepcopy(_ASKED)
    shown = "answer(ask, messages, functions)"
    return last_text(answer, model, ask, asked, functions, shown=shown)


def _weather(city: str) -> str:
    return f"7 degrees in {city}"


def route(start: str, to: str) -> str:
    """A tool with two arguments."""
    return f"from {start} to {to}"


@test("05-loop", "a reply without a call is the answer")
def text_is_the_answer(answer: Any) -> str | None:
    """One request, no tool."""
    model = ScriptedModel(in_turn(says("Cold.")))
    result = _looped(answer, model, {"weather": _weather})
    if result != "Cold.":
        return "If the model's message has no tool_calls, return its content."
    return None if len(model.sent) == 1 else "One request was enough: the model gave its answer."


@test("05-loop", "the answer follows the tool's result")
def answer_follows_result(answer: Any) -> str | None:
    """Another result, another answer."""
    for degrees in (7, 31):
        model = ScriptedModel(in_turn(calls(("abcdefgh1", "weather", {"city": "Oslo"})), repeats))
        result = _looped(answer, model, {"weather": lambda city, d=degrees: d})
        if len(model.sent) < 2:
            return "After a call, run the tool and ask the model again, with the result."
        if str(degrees) not in str(result):
            if said := _got(model.latest):
                return f"{said} Look the name up in `functions`, and pass the arguments by name."
            return "The tool's result does not reach the model. Its role is tool."
        if not isinstance(results(model.latest)[-1].get("content"), str):
            return "The content of a result is a string: str(result)."
    return None


@test("05-loop", "arguments are passed by their names")
def arguments_by_name(answer: Any) -> str | None:
    """The model may write them in any order."""
    called = calls(("abcdefgh1", "route", {"to": "Rom", "start": "Oslo"}))
    model = ScriptedModel(in_turn(called, repeats))
    result = _looped(answer, model, {"route": route})
    if "from Oslo to Rom" in str(result):
        return None
    said = _got(model.latest) or "The tool's result does not reach the model."
    return f"{said} Pass the arguments by name, in any order: function(**arguments)."


@test("05-loop", "the call is in the conversation, and its result has the same id")
def call_before_result(answer: Any) -> str | None:
    """The order that the format asks for."""
    model = ScriptedModel(in_turn(calls(("abcdefgh1", "weather", {"city": "Oslo"})), repeats))
    _looped(answer, model, {"weather": _weather})
    roles = [message.get("role") for message in model.latest]
    if roles != ["user", "assistant", "tool"]:
        shown = ", ".join(map(str, roles))
        return f"The second request should have the roles user, assistant, tool. It has: {shown}."
    called, result = model.latest[1:]
    if not called.get("tool_calls"):
        return "Append the model's whole message, with its tool_calls."
    if result.get("tool_call_id") != "abcdefgh1":
        return "The result needs the id of its call, under tool_call_id."
    return None


@test("05-loop", "two calls in one reply get two results")
def two_calls(answer: Any) -> str | None:
    """Each with its own id."""
    both = calls(
        ("aaaaaaaa1", "weather", {"city": "Oslo"}), ("bbbbbbbb2", "weather", {"city": "Rom"})
    )
    model = ScriptedModel(in_turn(both, repeats))
    result = _looped(answer, model, {"weather": _weather})
    ids = [m.get("tool_call_id") for m in model.latest if m.get("role") == "tool"]
    if ids != ["aaaaaaaa1", "bbbbbbbb2"]:
        return "Two calls need two results, in their order, each with the id of its call."
    if [m.get("role") for m in model.latest] != ["user", "assistant", "tool", "tool"]:
        return "The model's message comes once, then the results of all its calls."
    return (
        None
        if "Rom" in str(result) and "Oslo" in str(result)
        else "One of the two results is missing."
    )


@test("05-loop", "a second call, after the first result")
def calls_in_a_row(answer: Any) -> str | None:
    """The fifth request is the last one."""
    called = [calls((f"abcdefgh{n}", "weather", {"city": "Oslo"})) for n in range(4)]
    model = ScriptedModel(in_turn(*called, says("Cold.")))
    result = _looped(answer, model, {"weather": _weather})
    if len(model.sent) < 5:
        return (
            f"The model calls again after a result: 5 requests are allowed, not {len(model.sent)}."
        )
    return None if result == "Cold." else "The fifth reply has no call: return its content."


@test("05-loop", "a tool that fails or is unknown: the model reads the error")
def errors_as_results(answer: Any) -> str | None:
    """The loop does not stop with an exception."""

    def broken(city: str) -> str:
        raise ConnectionError("code 7413")

    known = calls(("abcdefgh1", "weather", {"city": "Oslo"}))
    unknown = calls(("abcdefgh1", "news", {"city": "Oslo"}))
    cut = copy.deepcopy(known)
    cut["tool_calls"][0]["function"]["arguments"] = '{"city": "Os'
    for what, happened, called, function, sign, advice in (
        (
            "a tool fails in any way", "The tool said 'code 7413'",
            known, broken, "7413", TELL_THE_ERROR,
        ),
        (
            "a tool does not exist", "There is no tool 'news'",
            unknown, _weather, "news", NAME_THE_TOOL,
        ),
        (
            "the arguments are no JSON", "The arguments are no JSON",
            cut, _weather, "", TELL_THE_ERROR,
        ),
    ):  # fmt: skip
        model = ScriptedModel(in_turn(called, says("Sorry.")))
        try:
            result = _looped(answer, model, {"weather": function})
        except WrongForm as wrong:
            if "stopped with an error" in str(wrong):
                return f"If {what}, the loop should go on, with the error as the result."
            raise
        if said := judge_error(model, happened, sign, advice):
            return said
        if result != "Sorry.":
            return "After the error, return what the model then says."
    return None


@test("05-loop", "a model that never stops calling is stopped")
def limited_rounds(answer: Any) -> str | None:
    """At most 5 requests."""
    model = ScriptedModel(in_turn(calls(("abcdefgh1", "weather", {"city": "Oslo"}))))
    return judge_limit(lambda: _looped(answer, model, {"weather": _weather}), model)
