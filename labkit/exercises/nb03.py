"""Exercises of notebook 03, Call OpenRouter."""

import math
from typing import Any

from labkit.exercises.answers import WrongForm, alone, call, kind, mapping, number
from labkit.exercises.asking import Model
from labkit.exercises.engine import USE, build, exercise, judge_number, test

build(
    "03-cost",
    hint=(
        "For how many tokens is a price, and are both token counts paid at the same price?",
        'Look at "What does it cost?": prices are per million tokens, and there are two.',
        "Half of it: the prompt costs prompt_tokens * price_in / 1e6.",
    ),
    example="answer(1000, 500, 0.075, 0.20) → 0.000175",
)


@test("03-cost", "1,000 tokens in and 500 out at 0.075 and 0.20")
def cost_of_an_example(answer: Any) -> str | None:
    """A function from tokens and prices to USD."""
    cost = call(answer, 1000, 500, 0.075, 0.20)
    mistakes = {
        175.0: "Prices are per million tokens.",
        0.175: "Prices are per million tokens, not per thousand.",
        0.0001125: "That is the price of the prompt for all tokens. The answer has its own price.",
        0.0003: "That is the price of the answer for all tokens. The prompt has its own price.",
        0.0002375: "The prices are the wrong way round: the first is for what you send.",
        0.0004125: "You applied both prices to all tokens.",
        0.0002: "You rounded it: return all digits.",
    }
    hint = judge_number(cost, 0.000175, mistakes, tolerance=1e-9)
    return hint and f"1,000 tokens in and 500 out at 0.075 and 0.20 cost 0.000175. {hint}"


@test("03-cost", "other prices")
def cost_of_another(answer: Any) -> str | None:
    """No number of the example is fixed in the function."""
    if not math.isclose(number(call(answer, 120, 30, 0.1, 0.3)), 0.000021, rel_tol=1e-9):
        return "120 tokens in and 30 out at 0.10 and 0.30 cost 0.000021."
    if not math.isclose(number(call(answer, 7, 1, 0.05, 0.08)), 4.3e-7, rel_tol=1e-9):
        return "7 tokens in and 1 out at 0.05 and 0.08 cost 0.00000043: do not round."
    return None


@test("03-cost", "an empty answer costs its prompt")
def cost_of_nothing(answer: Any) -> str | None:
    """No tokens cost nothing."""
    if number(call(answer, 0, 0, 0.1, 0.3)) != 0:
        return "No tokens cost nothing."
    if not math.isclose(number(call(answer, 1000, 0, 0.1, 0.3)), 0.0001, rel_tol=1e-9):
        return "1,000 tokens in and none out at 0.10 cost 0.0001."
    return None


build(
    "03-retry",
    hint=(
        "Could exactly the same request succeed a little later? And who knows how much later?",
        'Look at "Retries": Retry-After, and pauses that become twice as long.',
        "Half of it: a retry helps for status in (408, 429) or status >= 500. For how many "
        "attempts? And how long is the wait?",
    ),
    example="answer(429, 3, None) → 4, and answer(401, 1, None) → False",
)


def _pause(answer: Any, status: int, attempt: int, retry_after: float | None) -> float | None:
    """The pause in seconds; None for "not again"."""
    result = alone(call(answer, status, attempt, retry_after))
    if result is False:
        return None
    if result is True:
        raise WrongForm("It should return the seconds to wait, or False for no further attempt.")
    return number(result, "The pause", ("seconds", "s", "sec", "second"))


@test("03-retry", "your own mistakes are not sent again")
def own_mistakes(answer: Any) -> str | None:
    """400, 401, 402 and 404 come again however often one asks."""
    for status, why in (
        (400, "the request itself is wrong"),
        (401, "the key is wrong"),
        (402, "the credit is used up"),
        (404, "there is no such model"),
    ):
        if _pause(answer, status, 1, None) is not None:
            return f"After {status} the same request fails again: {why}. Return False."
    return None


@test("03-retry", "what can pass is sent again")
def temporary_errors(answer: Any) -> str | None:
    """408, 429 and all of 5xx."""
    for status, what in (
        (429, "too many requests"),
        (408, "a timeout"),
        (503, "no provider is free"),
        (502, "a provider failed"),
        (500, "an error of the server"),
    ):
        if _pause(answer, status, 1, None) is None:
            return f"{status} ({what}) can pass: return the seconds to wait."
    return None


@test("03-retry", "the server's own waiting time is kept")
def retry_after_is_kept(answer: Any) -> str | None:
    """Retry-After wins over the backoff, and 0 is a time too."""
    if (pause := _pause(answer, 429, 3, 7)) != 7:
        return f"The server says 7 seconds, and the pause is {pause or 0:g}."
    pause = _pause(answer, 429, 3, 0)
    if pause != 0:
        return "Retry-After can be 0: at once. Compare it with None; 0 counts as false."
    if _pause(answer, 401, 1, 7) is not None:
        return "A wrong key stays wrong after any waiting time."
    return None


@test("03-retry", "each pause is twice as long as the last: 1, 2, 4, 8 seconds")
def exponential_backoff(answer: Any) -> str | None:
    """The first attempt is followed by a pause of one second."""
    pauses = [_pause(answer, 503, attempt, None) for attempt in (1, 2, 3, 4)]
    if pauses == [1, 2, 4, 8]:
        return None
    if pauses == [2, 4, 8, 16]:
        return "After attempt 1 the pause is 1 second: the exponent begins at 0."
    if pauses == [1, 4, 9, 16] or pauses == [1, 2, 3, 4]:
        return "Each pause should be twice the one before: 2 to the power of a number."
    shown = ["False" if pause is None else f"{pause:g}" for pause in pauses]
    return f"After attempts 1 to 4 the pauses are {', '.join(shown)}."


@test("03-retry", "after five attempts it gives up")
def gives_up(answer: Any) -> str | None:
    """Attempt 5 is the last."""
    if _pause(answer, 503, 5, None) is not None or _pause(answer, 429, 6, 3) is not None:
        return "After attempt 5 return False, whatever the status: a program must end."
    return None


build(
    "03-stream",
    hint=(
        "Which lines hold a chunk, and where in a chunk is the new text?",
        "What to read is in the exercise's own lines: `data:`, then JSON, with the text in "
        '["choices"][0]["delta"]["content"].',
        "Half of it: chunk = json.loads(line.removeprefix('data:')) for the lines that hold JSON. "
        "Which ones do not?",
    ),
    example='answer(lines) → "Hello there"',
)

_ROLE = 'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}'
_HELLO = 'data: {"choices": [{"delta": {"content": "Hello"}}]}'
_THERE = 'data: {"choices": [{"delta": {"content": " there"}}]}'
_END = 'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}'
_USAGE = 'data: {"choices": [], "usage": {"completion_tokens": 2}}'
_DONE = "data: [DONE]"
FIRST = "The text is in delta, content."


def _collected(answer: Any, lines: list[str], problem: str, right: str = "Hello there"):
    try:
        text = call(answer, lines, shown="answer(lines)")
    except WrongForm as wrong:
        if "stopped with an error" in str(wrong) and problem != FIRST:
            return f"It stops with an error. {problem}"
        raise
    if isinstance(text, list | tuple):
        raise WrongForm("Return one text, not a list: join the pieces.")
    if not isinstance(text, str):
        raise WrongForm(f"It should return a string, not {kind(text)}.")
    if text == right:
        return None
    if text.strip() == right.replace(" ", "") or text.split() == right.split():
        return "Blanks belong to the text: do not strip a piece, and add none between pieces."
    return problem


@test("03-stream", "the pieces in their order")
def pieces_in_order(answer: Any) -> str | None:
    """Two pieces and the end."""
    return _collected(answer, [_HELLO, "", _THERE, "", _DONE, ""], FIRST)


@test("03-stream", "chunks without text: the role, the finish reason, the usage")
def chunks_without_text(answer: Any) -> str | None:
    """A delta without content, and a chunk without choices."""
    lines = [_ROLE, "", _HELLO, "", _THERE, "", _END, "", _USAGE, "", _DONE, ""]
    problem = "Some chunks have no content, and the usage's chunk has an empty list of choices."
    return _collected(answer, lines, problem)


@test("03-stream", "content that is null")
def null_content(answer: Any) -> str | None:
    """JSON's null is None in Python."""
    null = 'data: {"choices": [{"delta": {"content": null}}]}'
    return _collected(answer, [null, "", _HELLO, "", _THERE, "", _DONE], "Content can be null.")


@test("03-stream", "comments that keep the connection open")
def comments(answer: Any) -> str | None:
    """A line that begins with a colon is a comment; OpenRouter sends them."""
    lines = [": OPENROUTER PROCESSING", "", _HELLO, "", ": OPENROUTER PROCESSING", "", _THERE, ""]
    problem = "A line that begins with a colon is a comment. Skip it."
    return _collected(answer, [*lines, _DONE], problem)


@test("03-stream", "no blank after the colon")
def no_blank(answer: Any) -> str | None:
    """The blank after `data:` is optional."""
    lines = [each.replace("data: ", "data:") for each in (_HELLO, "", _THERE, "", _DONE)]
    return _collected(answer, lines, "The blank after `data:` may be missing.")


@test("03-stream", "nothing counts after [DONE], and a stream can end without it")
def done(answer: Any) -> str | None:
    """[DONE] is no JSON; a broken stream keeps its text."""
    lines = [_HELLO, "", _THERE, "", _DONE, "", _HELLO]
    if problem := _collected(answer, lines, "After [DONE] the stream is over: stop there."):
        return problem
    return _collected(answer, [_HELLO, ""], "A stream that broke still has a text.", "Hello")


_ROME = "The Colosseum is in Rome, the capital of Italy. Which city and which country?"


def _send_format(answer: Any, model: Model) -> None:
    import json

    messages = [{"role": "user", "content": _ROME}]
    reply = model.ask(_ROME, messages, response_format=dict(answer), max_tokens=64)
    from jsonschema import Draft202012Validator

    try:
        value = json.loads(reply.choices[0].message.content or "")
    except ValueError:
        model.note("The reply is no whole JSON: it was cut, or the server ignores the format.")
        return
    fits = Draft202012Validator(answer["json_schema"]["schema"]).is_valid(value)
    model.note(
        "The reply matches your schema. Whether it is true, no schema can say."
        if fits
        else "The reply is JSON, but it does not match your schema."
    )


@exercise(
    "03-format",
    hint=(
        "Which keys are around a schema, so that the server knows what it is for?",
        'Look at "Structured output": the `response_format` there has a type and a name.',
        'Half of it: {"type": "json_schema", "json_schema": {"name": "place", "schema": …}}',
    ),
    kind=USE,
    send=_send_format,
)
def judge_format(answer: Any) -> str | None:
    """A response format whose schema has two required strings, `city` and `country`."""
    from jsonschema import Draft202012Validator, SchemaError

    if isinstance(answer, type) and hasattr(answer, "model_json_schema"):
        return 'Put its `model_json_schema()` under "schema", inside "json_schema".'
    given = mapping(answer, "a dict, the value of `response_format`", whole=True)
    if given.get("type") == "object" or "properties" in given:
        return "That is the schema alone. The server wants a type and a name around it."
    if given.get("type") == "json_object":
        return "With json_object any JSON is allowed. Here a schema fixes the keys."
    if given.get("type") != "json_schema" or not isinstance(given.get("json_schema"), dict):
        return 'It should have the type "json_schema" and a dict under the key "json_schema".'
    inner = given["json_schema"]
    if not isinstance(inner.get("name"), str) or not inner["name"]:
        return 'Inside "json_schema" a "name" is missing: any short word.'
    schema = inner.get("schema")
    if not isinstance(schema, dict):
        return 'Inside "json_schema" the key "schema" should hold the schema.'
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError:
        return "The schema is not valid. Each property has a type, such as string."
    accepts = Draft202012Validator(schema).is_valid
    if not accepts({"city": "Rome", "country": "Italy"}):
        return "The schema should accept a city and a country, both strings."
    if accepts({"city": "Rome"}) or accepts({"country": "Italy"}) or accepts({}):
        return 'A reply without one of the two keys would pass: see "required".'
    if accepts({"city": 5, "country": "Italy"}) or accepts({"city": "Rome", "country": None}):
        return "Both values should be strings."
    if accepts("Rome"):
        return 'The schema should be of the type "object".'
    return None
