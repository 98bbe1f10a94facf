"""JSON schemas of requests: checked, and made ready for the grammar library.

The library (llguidance) takes schemas that no finite value fits, and its errors name no place.
"""

import json
import re
from functools import lru_cache
from types import NoneType
from typing import Any
from urllib.parse import unquote

from jsonschema import Draft3Validator, Draft202012Validator, FormatChecker, exceptions
from jsonschema.validators import validator_for
from llguidance import LLMatcher

from pocket_model.server.errors import shortened

# The grammar of an object with this many optional properties takes a quarter of a second.
MAX_OBJECTS = 2000
MAX_CHARACTERS = 200_000
MAX_PATTERN_PROPERTIES = 50  # each is compared with each
MAX_ROUNDS = 30  # of the search for references that end
EXACT = 2**53  # llguidance reads numbers as float64

TYPES = {"null", "boolean", "number", "string", "array", "object"}
# What llguidance enforces; other formats are annotations (JSON Schema 2020-12, 7.2.1).
FORMATS = {
    *("date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
}
# Values that permit everything; zod and generators of OpenAPI write them.
_HARMLESS = {"uniqueItems": [False], "propertyNames": [True, {}, {"type": "string"}]}
_UNSUPPORTED = {
    *("not", "if", "contains", "uniqueItems", "propertyNames", "dependencies"),
    *("dependentRequired", "dependentSchemas", "unevaluatedItems", "unevaluatedProperties"),
    *("$dynamicRef", "$recursiveRef", "$id", "id"),
}
# Keywords whose value is an object of schemas, a list of schemas, or one schema.
_OBJECTS = {"properties", "patternProperties", "$defs", "definitions"}
_LISTS = {"allOf", "anyOf", "oneOf", "prefixItems", "items"}
_SINGLE = {"additionalProperties", "additionalItems", "items"}


class SchemaError(ValueError):
    """A schema that cannot be enforced; the message says why.

    Attributes:
        tool: the name of the tool to which the schema belongs, if it belongs to one.
    """

    def __init__(self, message: str, tool: str | None = None):
        super().__init__(message)
        self.tool = tool


def check_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema, if it is one in the dialect of its `$schema`, and not too large.

    Raises:
        ValueError: it is not; the message says where.
    """
    try:
        objects, characters = _count_objects(schema), len(json.dumps(schema))
        if objects > MAX_OBJECTS or characters > MAX_CHARACTERS:
            raise ValueError(
                f"the JSON schema has {objects:,} objects and {characters:,} characters; "
                f"{MAX_OBJECTS:,} and {MAX_CHARACTERS:,} are the limits: make it smaller"
            )
        # Without the check of patterns by Python, whose regular expressions are not ECMAScript's.
        _dialect(schema).check_schema(schema, format_checker=FormatChecker([]))
    except exceptions.SchemaError as error:
        where = f" at {shortened(_pointer(*error.path))}" if error.path else ""
        raise ValueError(f"not a JSON schema{where}: {shortened(error.message)}") from error
    except RecursionError as error:
        raise ValueError("the JSON schema is nested too deeply") from error
    return schema


def _count_objects(schema: dict) -> int:
    count, todo = 0, [schema]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            count += 1
            todo.extend(value.values())
        elif isinstance(value, list):
            todo.extend(value)
    return count


def _dialect(schema: dict) -> type[Draft202012Validator]:
    # Programs that write schemas may name an older draft, where an array has other keywords.
    named = validator_for({"$schema": str(schema.get("$schema"))}, default=Draft202012Validator)
    return Draft202012Validator if named is Draft3Validator else named


def prepared(schema: dict, *, lenient: bool) -> dict:
    """A schema that llguidance can enforce, and whose values fit the given one.

    - Unknown formats and some keywords that permit everything are left out.
    - If a property tells the options of a `oneOf` apart, as in pydantic's discriminated unions, it
      becomes required. So no value fits two options.

    Args:
        schema: it has passed `check_schema`.
        lenient: do not refuse keywords that cannot be enforced.

    Raises:
        SchemaError: a keyword cannot be enforced, or no finite value fits.
    """
    schema = json.loads(json.dumps(schema))  # a copy in which no object is in two places
    for name in ("$id", "id"):  # of the whole schema
        schema.pop(name, None)
    if _dialect(schema) is Draft202012Validator:
        schema.pop("$schema", None)  # perhaps an unknown one
    try:
        _prepare(schema, lenient)
    except RecursionError as error:
        raise SchemaError("it is nested too deeply") from error
    except (TypeError, AttributeError) as error:
        # In an older draft, `check_schema` does not read the newer keywords.
        raise SchemaError(f"a keyword of another draft has an odd value: {error}") from error
    return schema


def _prepare(schema: dict, lenient: bool) -> None:
    places = _places(schema)
    parts = {place: part for place, part in places.items() if isinstance(part, dict)}
    targets = {}
    for place, part in parts.items():
        _leave_out(part, lenient)
        if not lenient and (fault := _fault(part)):
            raise SchemaError(f"at {shortened(place)}: {fault}")
        if len(part.get("patternProperties", {})) > MAX_PATTERN_PROPERTIES:
            raise SchemaError(f"at {shortened(place)}: more than {MAX_PATTERN_PROPERTIES} patterns")
        if "$ref" in part:
            if (target := unquote(part["$ref"])) not in places:
                raise SchemaError(
                    f"at {shortened(place)}: the $ref {shortened(part['$ref'])!r} leads to no "
                    'schema here. Write it as "#/$defs/…"'
                )
            targets[part["$ref"]] = places[target]
    _check_that_all_end(targets)
    for place, part in parts.items():
        if not lenient and not _exclude_each_other(part.get("oneOf", []), targets):
            raise SchemaError(
                f"at {shortened(place)}/oneOf: a value may fit two of the options. Use anyOf, or "
                "require in each option a property with a const of its own"
            )


def _places(schema: dict) -> dict[str, Any]:
    """The schema and all schemas inside it, by their JSON pointers (RFC 6901)."""
    places, todo = {}, [("#", schema)]
    while todo:
        place, part = todo.pop()
        places[place] = part
        for keyword, value in part.items() if isinstance(part, dict) else ():
            here = f"{place}/{keyword}"
            if keyword in _OBJECTS:
                todo.extend((_pointer(name, base=here), inner) for name, inner in value.items())
            elif keyword in _LISTS and isinstance(value, list):
                todo.extend((f"{here}/{number}", inner) for number, inner in enumerate(value))
            elif keyword in _SINGLE:
                todo.append((here, value))
    return places


def _pointer(*keys: str | int, base: str = "#") -> str:
    return "/".join([base, *(str(key).replace("~", "~0").replace("/", "~1") for key in keys)])


def _leave_out(part: dict, lenient: bool) -> None:
    """Leave out the keywords of a part that are not enforced without a word."""
    for keyword, values in _HARMLESS.items():
        if part.get(keyword) in values:
            del part[keyword]
    if part.get("format") not in FORMATS:
        part.pop("format", None)
    if "pattern" in part:
        part["pattern"] = _with_plain_classes(part["pattern"])
        if lenient and _fault_of_pattern(part["pattern"]):
            del part["pattern"]


def _fault(part: dict) -> str:
    """Why the keywords of a part cannot be enforced, or nothing."""
    if unsupported := sorted(_UNSUPPORTED & part.keys()):
        return f"`{unsupported[0]}` is not supported. Leave it out, and check the answer yourself"
    numbers = [value for _, value in _values(part) or ()]
    numbers += [value for name, value in part.items() if name.endswith(("inimum", "aximum"))]
    if any(type(number) is int and abs(number) > EXACT for number in numbers):
        return "integers beyond 2**53 are not exact; use strings"
    return f"pattern: {fault}" if (fault := _fault_of_pattern(part.get("pattern", ""))) else ""


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


@lru_cache(256)
def _fault_of_pattern(pattern: str) -> str:
    grammar = LLMatcher.grammar_from_json_schema({"type": "string", "pattern": pattern})
    lines = LLMatcher.validate_grammar(grammar).split("\n")
    lines = [line for line in lines if line.startswith("error: ")] or lines
    return lines[0].removeprefix("error: ")


# --- whether a finite value fits ---------------------------------------------------------------


def _check_that_all_end(targets: dict[str, Any]) -> None:
    """Refuse a `$ref` that leads to itself in every value. Otherwise an answer would never end."""
    ending: set[str] = set()
    references = list(targets)
    for _ in range(MAX_ROUNDS):
        references.reverse()  # so that a chain of references in either order takes two rounds
        for reference in references:
            if reference not in ending and _ends(targets[reference], ending):
                ending.add(reference)
    for reference in sorted(targets.keys() - ending):
        raise SchemaError(
            f"no finite value fits {shortened(reference)}, since it contains itself without an end"
        )


def _ends(part: Any, ending: set[str]) -> bool:
    """Whether a finite value can fit; `ending` are the references that are known to end."""
    if not isinstance(part, dict):
        return True
    if "$ref" in part and part["$ref"] not in ending:
        return False
    for keyword, enough in (("allOf", all), ("anyOf", any), ("oneOf", any)):
        if keyword in part and not enough(_ends(each, ending) for each in part[keyword]):
            return False
    if _types(part) - {"object", "array"} or _values(part) is not None:
        return True
    properties, others = part.get("properties", {}), part.get("additionalProperties")
    required = part.get("required", [])
    needed = [properties.get(name, others) for name in required]
    if part.get("minProperties", 0) > len(required) and (
        others is False or not _ends(others, ending)
    ):
        needed += [*properties.values(), others]  # perhaps more than are needed
    first, items = part.get("prefixItems", []), part.get("items")
    if isinstance(items, list):  # in older drafts
        first, items = items, part.get("additionalItems")
    least = part.get("minItems", 0)
    needed += [*first[:least], *([items] if least > len(first) else [])]
    return all(_ends(each, ending) for each in needed)


# --- whether the options of a oneOf exclude one another ------------------------------------------


def _exclude_each_other(options: list, targets: dict[str, Any]) -> bool:
    """Whether no value fits two of the options of a `oneOf`, as far as this can be seen.

    A property that tells them apart becomes required.
    """
    options = [_target(option, targets) for option in options]
    for type_ in TYPES:
        same = [option for option in options if type_ in _types(option)]
        if len(same) < 2 or _are_disjoint([_values(option) for option in same]):
            continue
        if type_ != "object" or not _require_what_differs(same, targets):
            return False
    return True


def _target(part: Any, targets: dict[str, Any]) -> Any:
    """What a `$ref` leads to; other schemas as they are."""
    while isinstance(part, dict) and "$ref" in part:
        part = targets[part["$ref"]]
    return part


def _require_what_differs(options: list, targets: dict[str, Any]) -> bool:
    """Require a property whose values differ in all options; False if there is none."""
    if not all(isinstance(option, dict) for option in options):
        return False
    properties = [option.get("properties", {}) for option in options]
    for name in properties[0]:
        if _are_disjoint([_values(_target(each.get(name), targets)) for each in properties]):
            for option in options:
                required = option.get("required", [])
                option["required"] = required if name in required else [*required, name]
            return True
    return False


def _types(part: Any) -> set[str]:
    """The types that a schema permits, as far as this can be seen; "number" for "integer" too."""
    if not isinstance(part, dict):
        return set() if part is False else TYPES
    named = part.get("type", [*TYPES])
    types = {named} if isinstance(named, str) else {*named}
    if "integer" in types:
        types = types - {"integer"} | {"number"}
    if (values := _values(part)) is not None:
        types &= {type_ for type_, _ in values}
    return types


def _values(part: Any) -> set[tuple[str, Any]] | None:
    """The values that a schema lists, each with its type; None if any is no scalar, or none is."""
    if not isinstance(part, dict) or not {"const", "enum"} & part.keys():
        return None
    values = [part["const"]] if "const" in part else part["enum"]
    if any(isinstance(value, dict | list) for value in values):
        return None
    names = {bool: "boolean", str: "string", NoneType: "null"}
    return {(names.get(type(value), "number"), value) for value in values}


def _are_disjoint(sets: list[set | None]) -> bool:
    """Whether all sets are known, and no value is in two of them."""
    return None not in sets and sum(map(len, sets)) == len(set().union(*sets))
