"""Errors in OpenAI's form, in the words of the caller."""

from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, to_json

ECHO_LIMIT = 100
# pydantic's words for values that JSON calls otherwise.
_WORDS = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "extra_forbidden": "is not known to this server. Leave it out",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "list_type": "must be a list",
    "missing": "is required, and missing or null",
    "model_attributes_type": "must be an object",
    "model_type": "must be an object",
    "string_type": "must be a string",
}


class ApiError(Exception):
    """An error in OpenAI's form: HTTP status, message, the parameter at fault, a code."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str = "invalid"):
        super().__init__(message)
        self.status = status
        self.body = {
            "error": {
                "message": message,
                "type": "server_error" if status >= 500 else "invalid_request_error",
                "param": param,
                "code": code,
            }
        }


def shortened(text: str, limit: int = ECHO_LIMIT) -> str:
    """A text that an error repeats: its first `limit` characters."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"


def echo(value: Any) -> str:
    """A value that was sent, as JSON, shortened."""
    return shortened(to_json(value, inf_nan_mode="constants", fallback=repr).decode())


def validation_error(error: ValidationError, body: Any) -> ApiError:
    """The first fault that pydantic found, as an `ApiError`.

    Args:
        body: the value that was validated. pydantic's path to a fault also holds the names of the
            types that it tried; only what leads through the body is a caller's path.
    """
    fault = error.errors(include_url=False)[0]
    path, value = [], body
    for number, key in enumerate(fault["loc"], 1):
        try:
            value = value[key] if isinstance(value, (dict, list)) else {}[key]
        except (LookupError, TypeError):
            if number < len(fault["loc"]) or fault["type"] != "missing":
                continue
        path.append(shortened(str(key)))
    param = ".".join(path) or None
    message = _message(fault)
    return ApiError(400, f"{param}: {message}" if param else message, param)


def _message(fault: ErrorDetails) -> str:
    kind, message = fault["type"], fault["msg"]
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    if kind in ("missing", "extra_forbidden"):
        return _WORDS[kind]
    if kind == "too_long":
        return f"must have at most {fault['ctx']['max_length']} items"
    if kind == "too_short":
        return f"must not be empty, but {echo(fault['input'])} is"
    message = _WORDS.get(kind, message).replace("Input should", "must")
    return f"{message}, not {echo(fault['input'])}"
