"""Exercises of notebook 05, Tool calling."""

import json
from typing import Any

from labkit.exercises.answers import call, items, mapping
from labkit.exercises.engine import exercise


@exercise("05-id", hint="The format accepts ids that match ^[a-zA-Z0-9]{9}$.")
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


@exercise("05-schema", hint='"parameters" is a JSON schema: type, properties and required.')
def judge_schema(answer: Any) -> str | None:
    """A tool's description whose schema accepts right arguments and refuses wrong ones."""
    from jsonschema import Draft202012Validator, SchemaError

    tool = mapping(answer, 'a dict: {"type": "function", "function": {…}}')
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
    if any(accepts({"amount": 1, "currency": other}) for other in ("CHF", "eur", "usd", "", None)):
        return 'Only EUR and USD should pass: see "enum".'
    if accepts({"amount": "much", "currency": "EUR"}):
        return "The amount should be a number."
    return None


@exercise(
    "05-check",
    hint="Test three things: it is a JSON object, all names are allowed, none is missing.",
)
def judge_argument_check(answer: Any) -> str | None:
    """A function that validates a call's arguments by name."""
    allowed, required = ["city", "unit", "days"], ["city", "days"]
    for arguments, expected, reason in (
        ('{"city": "Oslo", "days": 3}', True, "the required arguments are there"),
        ('{"city": "Oslo", "days": 3, "unit": "C"}', True, "optional arguments are allowed"),
        ('{"city": ', False, "that is no JSON"),
        ('["city", "days"]', False, "that is JSON, but no object"),
        ('{"unit": "C"}', False, "required arguments are missing"),
        ('{"city": "Oslo"}', False, "one of the required arguments is missing"),
        ('{"city": "Oslo", "days": 3, "town": "Oslo"}', False, "there is no argument `town`"),
        ('{"city": null, "days": 0}', True, "the arguments are there; JSON has null"),
        ("{'city': 'Oslo', 'days': 3}", False, "that is Python, not JSON"),
    ):
        result = call(answer, arguments, allowed, required)
        if result not in (True, False):
            return "It should return True or False."
        if bool(result) is not expected:
            return f"{arguments} should give {expected}: {reason}."
    return None
