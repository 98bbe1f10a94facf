"""Functions described as tools, and called with values of the types that they ask for."""

import functools
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import numpy as np
import pydantic
import pytest
from typing_extensions import TypedDict

from helpers import tools
from helpers.tools import schemas


def population(country: str, unit: Literal["millions", "thousands"] = "millions") -> float:
    """
    Get the population of a country.

    Args:
        country: The country.
        unit: The unit.

    Returns:
        The number.
    """
    return 68.0


def test_a_schema_is_what_the_function_says():
    assert tools.describe(population) == {
        "type": "function",
        "function": {
            "name": "population",
            "description": "Get the population of a country.",
            "parameters": {
                "type": "object",
                "properties": {
                    "country": {"type": "string", "description": "The country."},
                    "unit": {
                        "type": "string",
                        "enum": ["millions", "thousands"],
                        "description": "The unit.",
                    },
                },
                "required": ["country"],
            },
        },
    }
    # The pocket model was trained with this order of keys.
    text = json.dumps(tools.describe(population))
    keys = re.findall(r'"(type|enum|description|properties|required)":', text)
    assert keys[2:] == [
        *("type", "properties", "type", "description", "type", "enum", "description", "required")
    ]


def one_parameter(hint: Any, docstring: str = "Do.\n\nArgs:\n    x: The x."):
    """A function of one parameter `x` with this hint, which returns what it got."""

    def function(x):
        return x

    function.__annotations__ = {"x": hint}
    function.__doc__ = docstring
    return function


class Color(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


class Point(pydantic.BaseModel):
    x: int
    y: float | None = None


@dataclass
class Box:
    corner: Point
    size: int = 1


class Options(TypedDict):
    n: int


# (hint, what the model writes, what the function gets). By JSON Schema 2020-12 null is a type of
# its own ("nullable" is OpenAPI's), and 3.0 is an integer.
TYPES = {
    "null": (str | None, None, None),
    "null in a list": (list[int | None], [1, None, 2.0], [1, None, 2]),
    "null or one of": (Literal["a"] | None, None, None),
    "a whole float": (int, 3.0, 3),
    "an integer for a float": (float, 3, 3.0),
    "whole floats in a list": (list[int], [1.0, 2.0], [1, 2]),
    "a tuple": (tuple[int, str], [1.0, "a"], (1, "a")),
    "a set": (set[int], [1, 2.0], {1, 2}),
    "an enum": (Color, "red", Color.RED),
    "an enum of integers": (Level, 1.0, Level.LOW),
    "a date": (date, "2026-01-02", date(2026, 1, 2)),
    "a path": (Path, "a/b", Path("a/b")),
    "a model": (Point, {"x": 1.0}, Point(x=1)),
    "a dataclass": (Box, {"corner": {"x": 1}, "size": 2.0}, Box(Point(x=1), 2)),
    "a typed dict": (Options, {"n": 1.0}, {"n": 1}),
    "a union": (int | str, 3.0, 3),
    "anything": (Any, [None, {"a": True}], [None, {"a": True}]),
}


@pytest.mark.parametrize("name", TYPES)
def test_the_function_gets_what_its_hints_say(name):
    hint, written, wanted = TYPES[name]
    function = one_parameter(hint)
    schema = tools.describe(function)
    jsonschema.Draft202012Validator.check_schema(schema["function"]["parameters"])
    assert "nullable" not in json.dumps(schema)
    text = json.dumps({"x": written})
    assert tools.validate_call("function", text, {"function": schema}) is None
    got = schemas.typed_arguments(function, schemas.parse_object(text))["x"]
    assert (got, type(got)) == (wanted, type(wanted))
    assert repr(got) == repr(wanted)  # 3, and not 3.0


@pytest.mark.parametrize(
    ("hint", "written", "says"),
    [
        (int, 3.5, "is not of type 'integer'"),
        (int, "3", "is not of type 'integer'"),
        (str, None, "is not of type 'string'"),
        (Point, {"y": 1}, "'x' is a required property"),
        (Color, "green", "'green' is not one of"),
    ],
)
def test_other_values_are_refused(hint, written, says):
    schema = {"function": tools.describe(one_parameter(hint))}
    assert says in tools.validate_call("function", json.dumps({"x": written}), schema)


def test_what_the_schema_cannot_say_is_checked_too():
    with pytest.raises(ValueError, match=r"^\$\.x: Input should be a valid date"):
        schemas.typed_arguments(one_parameter(date), {"x": "tomorrow"})


DOCSTRINGS = {
    "plain": "Do.\n\nArgs:\n    x: The x.",
    "with its type": "Do.\n\nArgs:\n    x (int): The x.",
    "with a type in brackets": "Do.\n\nArgs:\n    x (dict[str, (int)], optional): The x.",
    "Arguments": "Do.\n\nArguments:\n    x: The x.\n\nReturns:\n    int: y: z",
    "Parameters": "Do.\n\nParameters:\n    x : The x.\nRaises:\n    x: never",
    "over two lines": "Do.\n\nArgs:\n    x: The\n        x.",
    "below its name": "Do.\n\nArgs:\n    x:\n        The x.\n\nNote:\n    y: of no interest",
    "not indented": "Do.\n\nArgs:\nx: The x.",
    "a text with a colon": "Do.\n\nArgs:\n    w: No.\n    x: The x.\n",
}


@pytest.mark.parametrize("name", DOCSTRINGS)
def test_every_form_of_googles_style(name):
    function = tools.describe(one_parameter(int, DOCSTRINGS[name]))["function"]
    assert function["description"] == "Do."
    assert function["parameters"]["properties"]["x"]["description"] == "The x."


def test_a_description_in_the_hint():
    hint = Annotated[int, pydantic.Field(description="The x.", ge=1)]
    function = tools.describe(one_parameter(hint, "Do."))["function"]
    wanted = {"type": "integer", "description": "The x.", "minimum": 1}
    assert function["parameters"]["properties"]["x"] == wanted


class Shop:
    def price(self, item: str) -> float:
        """
        Look up a price.

        Args:
            item: The thing.
        """
        return 1.0

    __call__ = price


def test_bound_methods_and_decorated_functions_are_functions():
    wanted = tools.describe(Shop().price)["function"]
    assert list(wanted["parameters"]["properties"]) == ["item"]
    assert tools.describe(functools.cache(population)) == tools.describe(population)
    wrapped = functools.wraps(population)(lambda *args, **kwargs: population(*args, **kwargs))
    assert tools.describe(wrapped) == tools.describe(population)


def no_docstring(x: int):
    return x


def no_hint(x):
    """
    Do it.

    Args:
        x: It.
    """


def starred(*x: int):
    """
    Do it.

    Args:
        x: It.
    """


def keywords(**x: int):
    """
    Do it.

    Args:
        x: It.
    """


def by_position(x: int, /):
    """
    Do it.

    Args:
        x: It.
    """


def unknown_type(x: "Nowhere"):  # noqa: F821
    """
    Do it.

    Args:
        x: It.
    """


def yields() -> Iterator[int]:
    """Yield."""
    yield 1


async def yields_later():
    """Yield."""
    yield 1


def é() -> int:
    """Do it."""


REFUSED = {
    "no docstring": (no_docstring, "no docstring"),
    "only arguments": (one_parameter(int, "Args:\n    x: The x."), "no docstring that says"),
    "no hint": (no_hint, "x has no type hint"),
    "no line": (one_parameter(int, "Do.\n\nArgs:\n    y: The y."), "no line for x"),
    "Sphinx's style": (one_parameter(int, "Do.\n\n:param x: The x."), "no line for x"),
    "NumPy's style": (one_parameter(int, "Do.\n\nParameters\n---\nx : int\n  The x."), "for x"),
    "a thread": (one_parameter(threading.Thread), "JSON has no form .* x, <class 'threading"),
    "an array": (one_parameter(np.ndarray), "JSON has no form"),
    "a type nobody knows": (unknown_type, "'Nowhere' is not defined"),
    "*x": (starred, r"by its name, which \*x: int does not allow"),
    "**x": (keywords, r"by its name, which \*\*x: int does not allow"),
    "x, /": (by_position, "by its name"),
    "an async generator": (yields_later, "Return a list"),
    "lambda": (lambda: 1, "its name must be"),
    "an object": (Shop(), "it is a Shop"),
    "a class": (Shop, "it is a type"),
    "an unbound method": (Shop.price, "self has no type hint"),
    "a letter that the protocol refuses": (é, "its name must be"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_function_that_cannot_be_a_tool_says_what_it_lacks(name):
    function, says = REFUSED[name]
    with pytest.raises(tools.ToolError, match=says):
        tools.describe(function)


def test_a_name_of_more_than_64_characters():
    function = one_parameter(int)
    function.__name__ = "x" * 64
    tools.describe(function)
    function.__name__ = "x" * 65
    with pytest.raises(tools.ToolError, match="1 to 64 characters"):
        tools.describe(function)
