"""Errors in OpenAI's form, in the words of the caller."""

from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

ECHO_LIMIT = 100


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


def validation_error(error: ValidationError, body: Any) -> ApiError:
    """The first fault that pydantic found, as an `ApiError`.

    Args:
        body: the value that was validated. pydantic's path to a fault also holds the names of the
            types that it tried; only what leads through the body is a caller's path.
    """
    # A value of several possible types has an error for each: the deepest is the one meant.
    fault = max(error.errors(include_url=False), key=lambda details: len(details["loc"]))
    path, value = [], body
    for number, key in enumerate(fault["loc"], 1):
        try:
            value = value[key]
        except (LookupError, TypeError):
            if number < len(fault["loc"]) or fault["type"] != "missing":
                continue
        path.append(shortened(str(key)))
    param = ".".join(path) or None
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] not in ("missing", "value_error", "extra_forbidden"):
        message += f"; this was sent: {_echo(fault['input'])}"
    return ApiError(400, f"{param}: {message}" if param else message, param)


def _echo(value: Any) -> str:
    return shortened(to_json(value, inf_nan_mode="constants", fallback=repr).decode())
