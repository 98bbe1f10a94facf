"""A function's schema, from its type hints and its docstring; and calls checked against it."""

import inspect
import re
import typing
from collections.abc import Callable
from typing import Any, NotRequired

import jsonschema
import pydantic
import pydantic_core
from transformers.utils.chat_template_utils import parse_google_format_docstring
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

NAME_PATTERN = "[a-zA-Z0-9_-]{1,64}"  # OpenAI's rule for a tool's name; Mistral's is the same


class ToolError(ValueError):
    """A function cannot be a tool; the message says what it lacks."""


def describe(function: Callable) -> dict:
    """The schema of a function in OpenAI's form, from its type hints and its docstring.

    The docstring has Google's style: what the function does, then `Args:` with a line for each
    parameter. A parameter may have any type that pydantic can read from JSON: also an `Enum`, a
    date, a dataclass or a pydantic model. `run_tools` gives the function a value of that type.

    Raises:
        ToolError: this is no function with named parameters; there is no docstring; or a parameter
            has no hint, no description, or a type that JSON does not have.
    """
    name = getattr(function, "__name__", type(function).__name__)
    try:
        parameters = _tidy(arguments_type(function).json_schema())
        text, lines = _read_docstring(function)
        for parameter, schema in parameters["properties"].items():
            described = lines.get(parameter) or schema.pop("description", "")
            if not described:
                raise ToolError(f"its docstring has no line for {parameter} under 'Args:'")
            schema["description"] = described
    except (ValueError, TypeError, NameError) as error:  # also of `inspect` and `typing`
        raise ToolError(
            f"{name} cannot be described to a model: {error}. A tool is a function with type hints "
            "such as str, int, float, bool, list[str] or Literal[…], and a docstring in Google's "
            "style (not NumPy's or Sphinx's): what it does, then 'Args:' and a line 'name: text' "
            "for each parameter."
        ) from error
    return {
        "type": "function",
        "function": {"name": name, "description": text, "parameters": parameters},
    }


def arguments_type(function: Callable) -> pydantic.TypeAdapter:
    """The arguments of a function as a type that pydantic describes, checks and converts."""
    if not inspect.isroutine(function):
        raise ToolError(f"it is a {type(function).__name__}. Write a function with def around it")
    if not re.fullmatch(NAME_PATTERN, function.__name__):
        raise ToolError("its name must be 1 to 64 characters of a-z, A-Z, 0-9, _ and -")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ToolError("it yields its results one by one. Return a list of them")
    hints = typing.get_type_hints(function, include_extras=True)
    fields = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ToolError(
                f"a model gives each argument by its name, which {parameter} does not allow"
            )
        if name not in hints:
            raise ToolError(f"its parameter {name} has no type hint")
        try:
            pydantic.TypeAdapter(hints[name]).json_schema()
        except Exception as error:  # errors of pydantic, and of types with a schema of their own
            raise ToolError(
                f"JSON has no form of the type of its parameter {name}, {hints[name]}"
            ) from error
        required = parameter.default is parameter.empty
        fields[name] = hints[name] if required else NotRequired[hints[name]]
    return pydantic.TypeAdapter(TypedDict("Arguments", fields))


def typed_arguments(function: Callable, values: dict) -> dict[str, Any]:
    """The arguments of a call in the types of the function's hints.

    Raises:
        ValueError: a value is not one of its type; the message is for the model.
    """
    try:
        return arguments_type(function).validate_python(values)
    except pydantic.ValidationError as error:
        problems = [
            f"{'.'.join(map(str, ('$', *problem['loc'])))}: {problem['msg']}"
            for problem in error.errors()
        ]
        raise ValueError("; ".join(problems)) from error


def _read_docstring(function: Callable) -> tuple[str, dict[str, str]]:
    """What a docstring in Google's style says of the function, and of each parameter."""
    doc = inspect.getdoc(function) or ""
    # Google's other forms: another heading, and a parameter's type after its name.
    doc = re.sub(r"(?m)^(Arguments|Parameters|Params):$", "Args:", doc)
    doc = re.sub(r"(?m)^([ \t]+\w+) *(?:\(.*?\))? *:", r"\1:", doc)
    text, parameters, _ = parse_google_format_docstring(doc)
    if not text:
        raise ToolError("it has no docstring that says what it does")
    return text, parameters


def _tidy(schema: Any, of_names: bool = False) -> Any:
    """A schema of pydantic's without titles and defaults, and with the type first.

    Args:
        of_names: the keys of this object are names that the user chose.
    """
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if of_names:
        return {name: _tidy(value) for name, value in schema.items()}
    keys = [key for key in schema if key not in ("title", "default")]
    keys.sort(key=lambda key: (key != "type", key == "required", key == "$defs"))
    return {key: _tidy(schema[key], key in ("properties", "$defs")) for key in keys}


def validate_call(name: str, arguments: str, tools: dict[str, dict]) -> str | None:
    """Why a call cannot be executed, as a message for the model; None if it can.

    Args:
        name, arguments: the tool's name and its arguments, as the model generated them.
        tools: schemas from `describe`, by name.
    """
    if name not in tools:
        return f"there is no tool {name!r}; there are: {', '.join(tools) or 'none'}"
    values = parse_object(arguments)
    if values is None:
        return "the arguments are not a JSON object"
    schema = tools[name]["function"]["parameters"]
    unknown = set(values) - set(schema.get("properties", {}))
    if unknown:
        return f"{name} has no argument {', '.join(sorted(unknown))}"
    try:
        errors = jsonschema.Draft202012Validator(schema).iter_errors(values)
        return "; ".join(sorted(f"{error.json_path}: {error.message}" for error in errors)) or None
    except RecursionError:
        return "the arguments are nested too deeply"


def parse_object(text: str) -> dict | None:
    """The JSON object that a text is; None if it is none."""
    try:
        value = pydantic_core.from_json(text, allow_inf_nan=False)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
