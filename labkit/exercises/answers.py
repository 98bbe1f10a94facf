"""Reads a learner's answer by its content: any numeric type, any collection, text with a unit.

An answer of another form than asked for raises `WrongForm`, whose message is the hint.
"""

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

_NUMBER = re.compile(r"\s*≈?\s*([-+]?[\d.,_]*\d(?:e[-+]?\d+)?)\s*([^\d]*)", re.IGNORECASE)


class WrongForm(ValueError):
    """The answer has another form than asked for; the message says which, for the learner."""


def kind(value: Any) -> str:
    """What a value is, in words."""
    match value:
        case None:
            return "None"
        case bool():
            return str(value)
        case str():
            return "a string"
        case Mapping():
            return "a dict"
        case list() | tuple() | set() | frozenset():
            return f"a {type(value).__name__}"
        case int() | float():
            return "a number"
        case _ if callable(value):
            return "a function: call it"
    return "another kind of object"


def plain(answer: Any) -> Any:
    """Values of numpy, pandas and torch as Python's own; iterators as a list."""
    if hasattr(answer, "tolist"):
        return answer.tolist()
    if isinstance(answer, Iterable) and not hasattr(answer, "__len__"):
        return list(answer)
    return answer


def alone(answer: Any) -> Any:
    """The only member of a collection, or the answer itself."""
    value = plain(answer)
    if isinstance(value, list | tuple | set | frozenset) and len(value) == 1:
        return plain(next(iter(value)))
    return value


def number(answer: Any, what: str = "The answer", units: Sequence[str] = ()) -> float:
    """The number that a value is, of any numeric type or as text.

    Args:
        what: the value's name in a message.
        units: what may follow the number in a text; the first is named in a message.

    Raises:
        WrongForm: it is no number, not a finite one, or in another unit.
    """
    value = plain(answer)
    wrong = WrongForm(f"{what} should be a number, not {kind(value)}.")
    if isinstance(value, str):
        found = _NUMBER.fullmatch(value)
        if not found:
            raise wrong
        unit = found[2].strip()
        if unit and unit.lower() not in (name.lower() for name in units):
            in_unit = f" in {units[0]}" if units else " without a unit"
            raise WrongForm(f"{what} should be a number{in_unit}, not in {unit}.")
        # A comma before three digits separates thousands; any other is a decimal comma.
        value = re.sub(r",(?=\d{3}(\D|$))", "", found[1]).replace(",", ".")
    if isinstance(value, bool):
        raise wrong
    try:
        value = float(value)
    except (TypeError, ValueError, OverflowError):
        raise wrong from None
    if not math.isfinite(value):
        raise WrongForm(f"{what} should be a finite number.")
    return value


def items(answer: Any, what: str = "a list") -> list:
    """The members of any collection; the words of a text such as "B, D and E".

    Raises:
        WrongForm: it is no collection. The message says that it should be `what`.
    """
    value = plain(answer)
    if isinstance(value, str):
        words = re.findall(r"[^\s,;()\[\]{}'\"]+", value)
        return [word for word in words if word.lower() not in ("and", "&")]
    if not isinstance(value, Iterable):
        raise WrongForm(f"The answer should be {what}, not {kind(value)}.")
    return [plain(item) for item in value]


def mapping(answer: Any, what: str = "a dict") -> dict:
    """The dict that an answer is, alone in a list or of pandas too.

    Raises:
        WrongForm: it is no dict. The message says that it should be `what`.
    """
    if isinstance(answer, list | tuple) and len(answer) == 1:
        answer = answer[0]
    if hasattr(answer, "to_dict"):
        answer = answer.to_dict()
    if not isinstance(answer, Mapping):
        raise WrongForm(f"The answer should be {what}, not {kind(answer)}.")
    return dict(answer)


def call(function: Callable, *arguments: Any) -> Any:
    """What the learner's function returns.

    Raises:
        WrongForm: it is no function, takes other arguments, stops with an error or returns None.
    """
    if not callable(function):
        raise WrongForm(f"The answer should be a function, not {kind(function)}.")
    example = f"answer({', '.join(map(repr, arguments))})"
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        raise WrongForm(f"It should be possible to call it like this: {example}.") from None
    except ValueError:  # a function in C, whose arguments Python does not know
        pass
    try:
        result = function(*arguments)
    except (Exception, SystemExit):
        raise WrongForm(
            f"The call {example} stopped with an error. Run it in a cell of its own to see where."
        ) from None
    if result is None:
        raise WrongForm("Your function returned None. Is a `return` missing?")
    if inspect.isgenerator(result):
        raise WrongForm("Your function has a `yield`. Write `return` instead.")
    return plain(result)
