"""What one JSON schema says by its own keywords, without those of the schemas inside it."""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from types import NoneType
from typing import Any

from llguidance import LLMatcher

EXACT = 2**53  # llguidance reads numbers as float64
# Values with which a keyword permits everything. The names of properties are always strings.
_NEUTRAL = {
    "uniqueItems": [False],
    "not": [False],
    "propertyNames": [True, {}, {"type": "string"}],
    "unevaluatedItems": [True, {}],
    "unevaluatedProperties": [True, {}],
    "dependentRequired": [{}],
    "dependentSchemas": [{}],
    "dependencies": [{}],
}
_COUNTS = {"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"}
_LOWEST, _HIGHEST = {"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}
TYPES = {"null", "boolean", "number", "string", "array", "object"}


def slots(part: dict) -> Iterator[tuple[dict | list, Any, str]]:
    """The schemas directly inside one: what holds them, the key there, and their place."""
    for keyword in ("additionalProperties", "additionalItems", "items"):
        if keyword in part and not isinstance(part[keyword], list):
            yield part, keyword, f".{keyword}"
    for keyword in ("allOf", "anyOf", "oneOf", "prefixItems", "items"):
        if isinstance(part.get(keyword), list):
            for number in range(len(part[keyword])):
                yield part[keyword], number, f".{keyword}[{number}]"
    for keyword in ("properties", "patternProperties"):
        for name in part.get(keyword, {}):
            yield part[keyword], name, f".{keyword}.{name}"


def leave_out_what_permits_everything(part: dict) -> None:
    """Leave out the keywords that assert nothing, and write the others as llguidance reads them."""
    for keyword in _NEUTRAL.keys() & part.keys():
        if part[keyword] in _NEUTRAL[keyword]:
            del part[keyword]
    if "if" not in part or not {"then", "else"} & part.keys():
        for keyword in ("if", "then", "else"):
            part.pop(keyword, None)
    if part.get("minContains") == 0 and "maxContains" not in part:
        part.pop("contains", None)
    if "contains" not in part:
        part.pop("minContains", None)
        part.pop("maxContains", None)
    for name in ("$dynamicAnchor", "$recursiveAnchor"):  # only names, without a reference to them
        part.pop(name, None)
    if "format" in part and fault_of("format", part["format"]):
        del part["format"]
    for keyword in _COUNTS & part.keys():  # 2.0 is an integer in JSON Schema
        part[keyword] = int(part[keyword])
    for keyword in _LOWEST & part.keys():  # such as that of 64 bits, which would be rounded
        part[keyword] = max(part[keyword], -EXACT)
    for keyword in _HIGHEST & part.keys():
        part[keyword] = min(part[keyword], EXACT)
    if "pattern" in part:
        part["pattern"] = _with_plain_classes(part["pattern"])


def _with_plain_classes(pattern: str) -> str:
    """A pattern whose classes are not nested: in ECMAScript, `[` is a character there."""
    inside, pieces = False, []
    for piece in re.findall(r"\\.|.", pattern, re.DOTALL):
        if inside and piece in "[&~":
            piece = f"\\{piece}"
        elif piece in "[]":
            inside = piece == "["
        pieces.append(piece)
    return "".join(pieces)


def types_of(part: Any) -> set[str]:
    """The types that a schema permits, as far as this can be seen; "number" for "integer" too."""
    if not isinstance(part, dict):
        return set() if part is False else TYPES
    named = part.get("type", [*TYPES])
    types = {named} if isinstance(named, str) else {*named}
    if "integer" in types:
        types = types - {"integer"} | {"number"}
    if (values := values_of(part)) is not None:
        types &= {type_ for type_, _ in values}
    return types


def values_of(part: Any) -> set[tuple[str, Any]] | None:
    """The values that a schema lists, each with its type; None if any is no scalar, or none is."""
    if not isinstance(part, dict) or not {"const", "enum"} & part.keys():
        return None
    values = [part["const"]] if "const" in part else part["enum"]
    if any(isinstance(value, dict | list) for value in values):
        return None
    names = {bool: "boolean", str: "string", NoneType: "null"}
    return {(names.get(type(value), "number"), value) for value in values}


def inexact_number(part: dict) -> bool:
    """Whether a schema has a number that llguidance would round."""
    numbers = [value for _, value in values_of(part) or ()]
    numbers += [part[keyword] for keyword in (_LOWEST | _HIGHEST) & part.keys()]
    return any(type(number) is int and abs(number) > EXACT for number in numbers)


def are_disjoint(sets: Iterable[set | None]) -> bool:
    """Whether all sets are known, and no value is in two of them."""
    sets = list(sets)
    return None not in sets and sum(map(len, sets)) == len(set().union(*sets))


@lru_cache(256)
def fault_of(keyword: str, value: str) -> str:
    """Why llguidance cannot enforce this keyword of strings, or nothing."""
    grammar = LLMatcher.grammar_from_json_schema({"type": "string", keyword: value})
    words = LLMatcher.validate_grammar(grammar)
    lines = [line for line in words.split("\n") if line.startswith("error: ")] or words.split("\n")
    return lines[0].removeprefix("error: ")
