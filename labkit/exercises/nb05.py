"""TODO."""

from typing import Any

from labkit.exercises.engine import exercise


@exercise(
    "05-id",
    hint="^[a-zA-Z0-9]{9}$",
    solution='answer = ["bbc5b7ede", "A1B2C3D4E"]',
)
def _ids(answer: Any) -> str | None:
    given, right = set(answer), {"bbc5b7ede", "A1B2C3D4E"}
    for wrong in sorted(given - right):
        if len(wrong) != 9:
            return f"{wrong!r} has {len(wrong)} characters."
        return f"{wrong!r} has a character that is neither a letter nor a digit."
    return f"{len(right - given)} more would be taken." if right - given else None


@exercise(
    "05-schema",
    hint='"parameters" is a JSON schema: type, properties and required.',
    solution="""answer = {
    "type": "function",
    "function": {
        "name": "convert",
        "description": "Convert an amount of money.",
        "parameters": {
            "type": "object",
            "properties": {
                "amount": {"type": "number"},
                "currency": {"type": "string", "enum": ["EUR", "USD"]},
            },
            "required": ["amount", "currency"],
        },
    },
}""",
)
def _schema(answer: Any) -> str | None:
    from jsonschema import Draft202012Validator

    if not isinstance(answer, dict) or answer.get("type") != "function":
        return 'On the outside: {"type": "function", "function": {…}}.'
    function = answer.get("function", {})
    if function.get("name") != "convert":
        return 'The function\'s "name" should be "convert".'
    if not function.get("description"):
        return "The model chooses by the description, and there is none."
    schema = function.get("parameters", {})
    Draft202012Validator.check_schema(schema)
    takes = Draft202012Validator(schema).is_valid
    if not takes({"amount": 3.5, "currency": "EUR"}):
        return "It should take an amount of 3.5 and the currency EUR."
    if takes({"currency": "EUR"}) or takes({"amount": 1}):
        return 'A call with an argument missing should not pass: see "required".'
    if takes({"amount": 1, "currency": "XYZ"}):
        return 'Only EUR and USD should pass: see "enum".'
    if takes({"amount": "much", "currency": "EUR"}):
        return "An amount should be a number."
    return None


@exercise(
    "05-check",
    hint="three things may be wrong: it is no JSON object, a name is unknown, a name is missing.",
    solution="""import json

def answer(arguments, allowed, required):
    try:
        given = json.loads(arguments)
    except ValueError:
        return False
    return isinstance(given, dict) and set(required) <= set(given) <= set(allowed)""",
)
def _check_arguments(answer: Any) -> str | None:
    if not callable(answer):
        return "A function of three arguments is wanted."
    allowed, required = ["city", "unit"], ["city"]
    for arguments, right, why in (
        ('{"city": "Oslo"}', True, "all that is required is there"),
        ('{"city": "Oslo", "unit": "celsius"}', True, "an optional one may be given"),
        ('{"city": ', False, "that is no JSON"),
        ('["city"]', False, "that is JSON, but no object"),
        ('{"unit": "celsius"}', False, "a required one is missing"),
        ('{"city": "Oslo", "town": "Oslo"}', False, "there is no such argument"),
    ):
        if answer(arguments, allowed, required) is not right:
            return f"{arguments} should give {right}: {why}."
    return None
