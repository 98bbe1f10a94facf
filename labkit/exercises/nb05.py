"""Exercises of notebook 05, Tool calling."""

from typing import Any

from labkit.exercises.engine import exercise


@exercise("05-id", hint="The format accepts ids that match ^[a-zA-Z0-9]{9}$.")
def judge_call_ids(answer: Any) -> str | None:
    """The tool-call ids that Mistral's format accepts."""
    ids, right = set(answer), {"bbc5b7ede", "A1B2C3D4E"}
    for wrong in sorted(ids - right):
        if len(wrong) != 9:
            return f"{wrong!r} has {len(wrong)} characters."
        return f"{wrong!r} has a character that is neither a letter nor a digit."
    return f"{len(right - ids)} more would be accepted." if right - ids else None


@exercise("05-schema", hint='"parameters" is a JSON schema: type, properties and required.')
def judge_schema(answer: Any) -> str | None:
    """A tool's description whose schema accepts right arguments and refuses wrong ones."""
    from jsonschema import Draft202012Validator

    if not isinstance(answer, dict) or answer.get("type") != "function":
        return 'The outermost dict should be {"type": "function", "function": {…}}.'
    function = answer.get("function", {})
    if function.get("name") != "convert":
        return 'The function\'s "name" should be "convert".'
    if not function.get("description"):
        return 'The model chooses by the "description", and it is missing.'
    schema = function.get("parameters", {})
    Draft202012Validator.check_schema(schema)
    accepts = Draft202012Validator(schema).is_valid
    if not accepts({"amount": 3.5, "currency": "EUR"}):
        return "It should accept an amount of 3.5 and the currency EUR."
    if accepts({"currency": "EUR"}) or accepts({"amount": 1}):
        return 'A call without one of the arguments should not pass: see "required".'
    if accepts({"amount": 1, "currency": "XYZ"}):
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
    if not callable(answer):
        return "The answer should be a function of three arguments."
    allowed, required = ["city", "unit"], ["city"]
    for arguments, expected, reason in (
        ('{"city": "Oslo"}', True, "the required argument is there"),
        ('{"city": "Oslo", "unit": "celsius"}', True, "optional arguments are allowed"),
        ('{"city": ', False, "that is no JSON"),
        ('["city"]', False, "that is JSON, but no object"),
        ('{"unit": "celsius"}', False, "a required argument is missing"),
        ('{"city": "Oslo", "town": "Oslo"}', False, "there is no such argument"),
    ):
        if answer(arguments, allowed, required) is not expected:
            return f"{arguments} should give {expected}: {reason}."
    return None
