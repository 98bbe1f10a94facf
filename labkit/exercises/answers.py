"""Reads a learner's answer by its content: any numeric type, any collection, text with a unit.

An answer of another form than asked for raises `WrongForm`, whose message is the hint.
"""

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any

_NUMBER = re.compile(r"\s*≈?\s*([-+]?[\d.,_]*\d(?:e[-+]?\d+)?)\s*([^\d]*)", re.IGNORECASE)

TOO_MUCH_MEMORY = "Your function needs too much memory. Does a list grow without an end?"
MOST_ITEMS = 100_000  # of an iterator, which may have no end

# Whether this process is the one in which answers may run; see `apart.py`.
is_apart = False


class RunApart(BaseException):
    """A judge calls the answer, so it has to run in a process of its own."""


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
        case type():
            return "a class"
        case _ if callable(value):
            return "a function: call it"
    return "another kind of object"


def plain(answer: Any) -> Any:
    """Values of numpy, pandas and torch as Python's own; iterators as a list."""
    if hasattr(answer, "tolist"):
        return answer.tolist()
    if isinstance(answer, Iterable) and not hasattr(answer, "__len__"):
        found = list(islice(answer, MOST_ITEMS + 1))
        if len(found) > MOST_ITEMS:
            raise WrongForm("The answer yields values without an end.")
        return found
    return answer


def alone(answer: Any) -> Any:
    """The only member of a collection, or the answer itself."""
    value = plain(answer)
    if isinstance(value, list | tuple | set | frozenset) and len(value) == 1:
        return plain(next(iter(value)))
    return value


def shown(value: float) -> str:
    """A number as a message shows it, with thousands separated.

    It has 6 decimals, or 12 if it is small. A number that would then read as a whole one, and is
    none, has all its digits.
    """
    if abs(value) >= 1e21:
        return f"{value:g}"
    digits = 6 if abs(value) >= 0.001 else 12
    if round(value, digits) % 1 == 0 != value % 1:
        return f"{value:g}" if abs(value) < 1e-12 else f"{Decimal(repr(value)):,f}"
    return f"{value:,.{digits}f}".rstrip("0").rstrip(".")


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
        found = _NUMBER.fullmatch(value.replace("−", "-"))
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


def mapping(
    answer: Any, what: str = "a dict", *, name: str = "The answer", whole: bool = False
) -> dict:
    """The dict that an answer is, of pandas too.

    Args:
        name: the value's name in a message.
        whole: whether this one dict is all that the exercise asks for.

    Raises:
        WrongForm: it is no dict. The message says that it should be `what`.
    """
    if hasattr(answer, "to_dict"):
        answer = answer.to_dict()
    if not isinstance(answer, Mapping):
        given = kind(answer).removesuffix(": call it")  # it need not return a dict
        one = isinstance(answer, list | tuple) and len(answer) == 1
        if whole and one and isinstance(answer[0], Mapping):
            given += ": leave the outer [ ] out"
        raise WrongForm(f"{name} should be {what}, not {given}.")
    return dict(answer)


def message_list(result: Any, what: str = "a list of dicts") -> list[dict]:
    """The messages that a function returned.

    Raises:
        WrongForm: it is no list of dicts. The message says that it should be `what`.
    """
    if not isinstance(result, list | tuple):
        raise WrongForm(f"It should return {what}, not {kind(result)}.")
    for place, each in enumerate(result, 1):
        if isinstance(each, list | tuple) and all(isinstance(one, dict) for one in each):
            raise WrongForm(
                f"Item {place} of the list is {kind(each)}. Write * before it: [*messages, …]."
            )
        if not isinstance(each, dict):
            raise WrongForm(
                f"Item {place} of the list is {kind(each)}. Make it a message: a dict with a role "
                "and a content."
            )
    return list(result)


def call(function: Callable, *arguments: Any, shown: str = "") -> Any:
    """What the learner's function returns. Call it only in a judge or a test.

    Args:
        shown: the call as a message shows it, if the arguments are too long for one.

    Raises:
        RunApart: this is not a process with limits. The engine then runs the judge in one.
        WrongForm: it is no function, takes other arguments, stops with an error or returns None.
    """
    if not callable(function):
        raise WrongForm(f"The answer should be a function, not {kind(function)}.")
    if not is_apart:
        raise RunApart
    example = shown or f"answer({', '.join(map(repr, arguments))})"
    if len(example) > 90:
        example = f"{example[:88]}…"
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        raise WrongForm(f"It should be possible to call it like this: {example}.") from None
    except ValueError:  # a function in C, whose arguments Python does not know
        pass
    try:
        result = function(*arguments)
        if inspect.isgenerator(result):
            raise WrongForm("Your function has a `yield`. Write `return` instead.")
    except WrongForm:
        raise
    except (Exception, SystemExit) as error:
        raise WrongForm(_stopped(example, error, function)) from None
    if result is None:
        raise WrongForm("Your function returned None. Is a `return` missing?")
    if inspect.iscoroutine(result):
        result.close()
        raise WrongForm("Your function is `async`. Write it without.")
    return plain(result)


def _stopped(example: str, error: BaseException, function: Callable) -> str:
    match error:
        case NotImplementedError():
            return "Your function is still a stub: replace its `raise` with your code."
        case RecursionError():
            return f"In the call {example} your function calls itself without an end."
        case MemoryError():
            return TOO_MUCH_MEMORY
        case PermissionError():
            return (
                "Your function writes a file, opens a connection or starts a program. That is "
                "refused here, and the exercise does not need it."
            )
    line, trace = "", error.__traceback__
    while trace is not None:
        if (code := trace.tb_frame.f_code) is getattr(function, "__code__", None):
            line = f" in line {trace.tb_lineno - code.co_firstlineno + 1}"
        trace = trace.tb_next
    return f"The call {example} stopped with an error{line}. {_words(error)}"


# Errors of Python's about keys that name no key.
_EMPTY = ("pop from an empty set", "popitem(): dictionary is empty")


def _words(error: BaseException) -> str:
    """What Python says of an error, without the names of its classes."""
    is_key = isinstance(error, KeyError) and error.args and error.args[0] not in _EMPTY
    try:
        said = error.args[0] if isinstance(error, KeyError) and error.args and not is_key else error
        text = " ".join(str(said).split()) if isinstance(error, Exception) else ""
    except Exception:  # the error is of a class of the learner's
        text = ""
    text = plainer(text)
    if is_key:
        text = f"there is no key {text}"
    if not text:
        return "Run it in a cell of its own to see why."
    said = f"Python says: {_cut(text, 110).rstrip('.')}."
    broken = getattr(error, "doc", None)  # the text that is no JSON
    return f"{said} The text was {_cut(broken, 40)!r}." if isinstance(broken, str) else said


def plainer(text: str) -> str:
    """The text of an error of Python's without the names of its classes."""
    for pattern, word in (
        (r"<class '(.*?)'>", r"\1"),
        (r"<?(\w+) object at 0x\w+>?", r"\1"),
        (r"NoneType", "None"),
        (r"\w*(Error|Exception)\b", "error"),
        (r"\binstance of", "of"),
    ):
        text = re.sub(pattern, word, text)
    return text


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
