"""Exercises of notebook 10, Playground."""

import copy
import json
import re
from typing import Any

from labkit.exercises.answers import WrongForm, call, message_list, plainer
from labkit.exercises.asking import Model
from labkit.exercises.engine import build, number_exercise, test
from labkit.exercises.scripted import (
    NAME_THE_TOOL,
    TELL_THE_ERROR,
    ScriptedModel,
    calls,
    contents,
    judge_error,
    judge_limit,
    last_text,
    results,
    says,
)

number_exercise(
    "10-memory",
    5600,
    hint=(
        "What is in the prompt of the second request, and what in that of the tenth?",
        'Look at "A chat is a list of messages": each request sends all of it.',
        "Half of it: request n sends n questions and n - 1 answers. Add up n from 1 to 10.",
    ),
    mistakes={
        1100: "That is the last request alone. Add up all ten.",
        1200: "That is the whole conversation once. Add up the prompts of all ten requests.",
        200: "That counts each question once. Every request sends the earlier ones again.",
        1000: "Those are the answers. A request sends questions and earlier answers.",
        6600: "An answer is not a part of its own prompt: request n has n - 1 answers.",
        5500: "The tenth question belongs to the tenth prompt: n questions and n - 1 answers.",
        12000: "The prompts are not all as long as the last: the first has 20 tokens.",
        11000: "The prompts are not all as long as the last: the first has 20 tokens.",
        4500: "Those are the answers that are sent again. The questions come on top.",
    },
    units=("tokens", "prompt tokens"),
)

# A conversation of two questions, the first with a tool call. It may begin with a system message.
_SYSTEM = {"role": "system", "content": "Be brief."}
_CALL = {"id": "abcdefgh1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
_CHAT = [
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "", "tool_calls": [_CALL]},
    {"role": "tool", "tool_call_id": "abcdefgh1", "content": "1"},
    {"role": "assistant", "content": "1."},
    {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "2."},
]


build(
    "10-edit",
    hint=(
        "What of a conversation is still true if an earlier question was another one?",
        'Look at "A chat is a list of messages": where does each question begin in the list?',
        "Half of it: find the places of the user's messages with enumerate. What is kept?",
    ),
    example='answer(messages, 2, "New?") returns the messages before question 2, then the new one',
)


def _edited(answer: Any, chat: list[dict], number: int) -> list[dict]:
    result = call(answer, chat, number, "New?", shown=f'answer(messages, {number}, "New?")')
    return message_list(result, "a list of messages")


def _judge_edit(answer: Any, chat: list[dict], number: int, place: int) -> str | None:
    result = _edited(answer, copy.deepcopy(chat), number)
    expected = [*chat[:place], {"role": "user", "content": "New?"}]
    if result == expected:
        return None
    if chat[0] != _SYSTEM and result == [chat[0], expected[-1]]:
        return "The first message need not be a system message."
    if len(result) > len(expected):
        return "What follows the changed question should be gone: it answered the old one."
    if not result or result[-1].get("content") != "New?":
        return f"The last message should be question {number} with the new text."
    if result[-1].get("role") != "user":
        return 'The new question should have the role "user".'
    if chat[0] == _SYSTEM != result[0]:
        return "The system prompt should stay at the beginning."
    return f"Before question {number}, every message should stay as it was, tools included."


@test("10-edit", "the second question: what was before it stays, the tool's messages too")
def edit_second(answer: Any) -> str | None:
    """Four messages are before it."""
    return _judge_edit(answer, _CHAT, 2, 4)


@test("10-edit", "the first question: what followed it is gone")
def edit_first(answer: Any) -> str | None:
    """Nothing is before it."""
    return _judge_edit(answer, _CHAT, 1, 0)


@test("10-edit", "a system message stays, and is no question")
def edit_after_system(answer: Any) -> str | None:
    """It moves the places of the questions."""
    chat = [_SYSTEM, *_CHAT]
    return _judge_edit(answer, chat, 1, 1) or _judge_edit(answer, chat, 2, 5)


@test("10-edit", "the list that it is given does not change")
def edit_copies(answer: Any) -> str | None:
    """The function has no side effect."""
    chat = copy.deepcopy(_CHAT)
    _edited(answer, chat, 2)
    if chat != _CHAT:
        return "The list that it was given has changed. Return a new one."
    return None


# The capstone. `ask(messages, tools)` sends one request, and returns the model's message as a dict.


def _live_ask(model: Model) -> Any:
    most, count = 8, 0

    def ask(messages: list[dict], tools: list[dict]) -> dict:
        nonlocal count
        count += 1
        if count > most:
            raise RuntimeError(f"more than {most} requests for one question")
        more = {"tools": tools} if tools else {}
        reply = model.ask("", messages, max_tokens=64, **more)
        model.replies.pop()
        return reply.choices[0].message.model_dump(exclude_none=True, include=KEPT)

    return ask


KEPT = {"role", "content", "tool_calls"}


def _schema(name: str) -> dict:
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": "The temperature in a city, in degrees Celsius.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "The city."}},
                "required": ["city"],
            },
        },
    }


def _thermometer(name: str, degrees: int) -> tuple[dict, Any]:
    """A tool that knows the temperature of one city, so that it shows what it was given."""

    def measure(city: str) -> int:
        if city != "Oslo":
            raise ValueError(f"there is no city {city!r}")
        return degrees

    return _schema(name), measure


def square(color: str) -> str:
    """A PNG of 168 × 168 pixels with a square of a color, as a data URL."""
    import base64
    import io

    from PIL import Image

    picture = Image.new("RGB", (168, 168), "white")
    picture.paste(color, (52, 52, 116, 116))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _send_assistant(answer: Any, model: Model) -> None:
    question, swaps = "What is the temperature in Oslo?", {}
    for degrees, name in ((7, "get_temperature"), (31, "get_temperature"), (7, "read_sensor")):
        # A model may write the city in other words, so this tool takes any.
        tool = _schema(name), lambda city, degrees=degrees: degrees
        said = answer(_live_ask(model), question, [tool], None)
        model.replies.append((f"{name} says {degrees}", str(said)))
        swaps[degrees, name] = str(degrees) in str(said)
    colors = []
    for color in ("red", "blue"):
        said = answer(_live_ask(model), "What color is the square?", [], square(color))
        model.replies.append((f"a {color} square", str(said)))
        colors.append(str(said))
    followed = {
        "the tool's result": swaps[7, "get_temperature"] and swaps[31, "get_temperature"],
        "the schema's name": swaps[7, "read_sensor"],
        "the image": colors[0] != colors[1],
    }
    did = [what for what, it in followed.items() if it]
    did_not = [what for what, it in followed.items() if not it]
    if did:
        model.note(f"With this model, the answer followed {', '.join(did)}.")
    if did_not:
        model.note(
            f"It did not follow {', '.join(did_not)}. Your function passes its tests, so that is "
            "the model: it did not call, or it guessed."
        )


build(
    "10-assistant",
    hint=(
        "What does one request need, and after which reply must a second one follow?",
        'Look at "A turn with a tool" and "A turn with an image", and at your loop of notebook 05.',
        "Half of it: content is the question, or a list of a text part and an image_url part. Then "
        "your loop: ask(messages, schemas), run each call by its name, append its result.",
    ),
    example="answer(ask, question, tools, image) returns the model's last text",
    send=_send_assistant,
)


def _calls(*names: str, first: int = 1) -> dict:
    return calls(*[(f"abcdefgh{n}", name, {"city": "Oslo"}) for n, name in enumerate(names, first)])


NO_TOOL = "I have no tool for it."


def _calls_first_tool(messages: list[dict], tools: list[dict]) -> dict:
    """Calls the tool that the request offers, then repeats its result."""
    if found := contents(messages):
        return says(f"It is {' and '.join(found)}.")
    return _calls(tools[0]["function"]["name"]) if tools else says(NO_TOOL)


def _calls_both_at_once(messages: list[dict], tools: list[dict]) -> dict:
    """Calls two tools in one reply, then repeats their results."""
    if found := contents(messages):
        return says(f"It is {' and '.join(found)}.")
    return _calls(*[tool["function"]["name"] for tool in tools])


def _calls_both_in_a_row(messages: list[dict], tools: list[dict]) -> dict:
    """Calls the second tool after the first one's result, then repeats both results."""
    found = contents(messages)
    if len(found) == 2:
        return says(f"It is {' and '.join(found)}.")
    if not tools:
        return says(NO_TOOL)
    return _calls(tools[len(found)]["function"]["name"], first=1 + len(found))


def _repeats_question(messages: list[dict], tools: list[dict]) -> dict:
    """Repeats the text of the last message; an image in it is an error."""
    content = messages[-1]["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if any(part.get("type") != "text" for part in parts):
        return says("I see an image.")
    return says(f"You asked: {''.join(part['text'] for part in parts)}")


def _describes(messages: list[dict], tools: list[dict]) -> dict:
    """Repeats the URL of the image and the text that are in the request."""
    for message in messages:
        parts = message.get("content")
        for part in parts if isinstance(parts, list) else []:
            if isinstance(part, dict) and part.get("type") == "image_url":
                url = part.get("image_url")
                return says(f"I see {url.get('url') if isinstance(url, dict) else None}")
    return says("I see no image.")


def _assisted(answer: Any, model: ScriptedModel, tools: list, image: str | None, text: str = "Q?"):
    shown = "answer(ask, question, tools, image)"
    return last_text(answer, model, model, text, tools, image, shown=shown)


# Words of an error about arguments, and of one about a name that was not found.
_ABOUT_ARGUMENTS = re.compile(r"argument|mapping|JSON|city", re.IGNORECASE)
_ABOUT_NAME = re.compile(r"get_temperature|not callable|\b(tool|function)\b", re.IGNORECASE)


def _other_result(content: str) -> str:
    """What to say if the model read `content` in place of a tool's result."""
    advice = "Pass the arguments: function(**json.loads(arguments))."
    if _ABOUT_NAME.search(content) and not _ABOUT_ARGUMENTS.search(content):
        advice = 'Take the tool\'s name from the schema: schema["function"]["name"].'
    return f"The model got {plainer(content)[:60]!r} and not the tool's result. {advice}"


@test("10-assistant", "a plain question gets the model's text")
def plain_question(answer: Any) -> str | None:
    """No tool, no image."""
    result = _assisted(answer, ScriptedModel(_repeats_question), [], None, "Hello?")
    if isinstance(result, dict):
        return "Return the text of the model's message, and not the whole message."
    if result == "I see an image.":
        return "Without an image, the content has no part of the type image_url."
    if result != "You asked: Hello?":
        return (
            "Without an image, the content of the message is the question itself, or a text part."
        )
    return None


@test("10-assistant", "swap the tool's result: the answer follows")
def result_is_followed(answer: Any) -> str | None:
    """7 degrees or 31."""
    for degrees in (7, 31):
        model = ScriptedModel(_calls_first_tool)
        result = _assisted(answer, model, [_thermometer("get_temperature", degrees)], None)
        if not model.sent or not model.offered[0]:
            return "The model was offered no tool: give the schemas to `ask`."
        if len(model.sent) < 2:
            return "After a call, run the function and ask again, with the result."
        if str(degrees) not in str(result):
            if read := contents(model.latest):
                return _other_result(read[-1])
            return "The result does not reach the answer: see the role and the id of a result."
        called, last = model.latest[-2:]
        if not called.get("tool_calls") or last.get("tool_call_id") != "abcdefgh1":
            return "Before a result comes its call, and the result has the id of the call."
        if not isinstance(last.get("content"), str):
            return "The content of a result is a string: str(result)."
    return None


@test("10-assistant", "swap the schema's name: the right function runs")
def name_is_followed(answer: Any) -> str | None:
    """The name comes from the call, and chooses among several tools."""
    for first, second in (("read_sensor", "other"), ("a1", "get_temperature")):
        model = ScriptedModel(_calls_first_tool)
        tools = [_thermometer(first, 7), _thermometer(second, 31)]
        try:
            result = _assisted(answer, model, tools, None)
        except WrongForm as wrong:
            if "stopped with an error" in str(wrong):
                return "Look up the function by the name in the call, whatever the name is."
            raise
        if "7" not in str(result):
            return "Of two tools the wrong one ran: look it up by the name in the call."
    return None


@test("10-assistant", "two calls in one reply get two results")
def two_calls_at_once(answer: Any) -> str | None:
    """All calls of a reply are run."""
    model = ScriptedModel(_calls_both_at_once)
    result = _assisted(
        answer, model, [_thermometer("inside", 21), _thermometer("outside", 7)], None
    )
    found = results(model.latest)
    if len(found) < 2:
        return (
            f"A reply with 2 calls needs 2 results, and the model got {len(found)}. Run all calls."
        )
    if [each.get("tool_call_id") for each in found] != ["abcdefgh1", "abcdefgh2"]:
        return "Two calls need two results, in their order, each with the id of its call."
    roles = [each.get("role") for each in model.latest]
    if [role for role in roles if role != "system"] != ["user", "assistant", "tool", "tool"]:
        return "The model's message comes once, then the results of all its calls."
    return (
        None if "21" in str(result) and "7" in str(result) else "A result does not reach the model."
    )


@test("10-assistant", "a second call, after the first result")
def two_calls_in_a_row(answer: Any) -> str | None:
    """Every request has the tools."""
    model = ScriptedModel(_calls_both_in_a_row)
    result = _assisted(
        answer, model, [_thermometer("inside", 21), _thermometer("outside", 7)], None
    )
    if result == NO_TOOL:
        return "The model has no tools after the first call: give the schemas to every request."
    if "21" in str(result) and "7" in str(result):
        return None
    return "After a result the model can call again: run that call too. 5 requests are allowed."


@test("10-assistant", "swap the image: the answer follows")
def image_is_followed(answer: Any) -> str | None:
    """The request holds the image."""
    for image in ("data:image/png;base64,AAAA", "data:image/png;base64,BBBB"):
        result = _assisted(answer, ScriptedModel(_describes), [], image)
        if result == "I see no image.":
            return "The model sees no image: the content needs a part of the type image_url."
        if result != f"I see {image}":
            return 'The part should be {"type": "image_url", "image_url": {"url": image}}.'
    return None


@test("10-assistant", "an image and a tool in one question")
def image_and_tool(answer: Any) -> str | None:
    """The image is still there in the second request."""
    model = ScriptedModel(_calls_first_tool)
    result = _assisted(answer, model, [_thermometer("f", 5)], "data:image/png;base64,AAAA", "Q?")
    if "5" not in str(result):
        return "With an image the tool is not used any more."
    for messages in model.sent:
        if "base64,AAAA" not in json.dumps(messages):
            return "The image should be in every request, also after a call."
        if "Q?" not in json.dumps(messages):
            return "Beside the image the question is missing: it needs a text part."
    return None


@test("10-assistant", "a tool that fails or is unknown: the model reads the error")
def failing_tool(answer: Any) -> str | None:
    """The assistant does not stop."""

    def broken(city: str) -> str:
        raise ConnectionError("code 7413")

    def calls_unknown(messages: list[dict], tools: list[dict]) -> dict:
        return _calls_first_tool(messages, [{"function": {"name": "news"}}])

    schema = _schema("f")
    for what, rule, happened, sign, advice in (
        ("fails", _calls_first_tool, "The tool said 'code 7413'", "7413", TELL_THE_ERROR),
        ("does not exist", calls_unknown, "There is no tool 'news'", "news", NAME_THE_TOOL),
    ):
        model = ScriptedModel(rule)
        try:
            _assisted(answer, model, [(schema, broken)], None)
        except WrongForm as wrong:
            if "stopped with an error" in str(wrong):
                return f"If a tool {what}, go on: the error is the result that the model reads."
            raise
        if said := judge_error(model, happened, sign, advice):
            return said
    return None


@test("10-assistant", "a model that never stops calling is stopped")
def assistant_ends(answer: Any) -> str | None:
    """At most 5 requests."""
    model = ScriptedModel(lambda messages, tools: _calls_first_tool([], tools))
    tools = [_thermometer("f", 5)]
    return judge_limit(lambda: _assisted(answer, model, tools, None), model)
