"""JSON schemas of requests: checked, and made ready for the grammar library.

The library (llguidance) refuses some schemas that it could enforce, and accepts some that no value
can fit. `prepared` settles both, and names the place of what it refuses.
"""

import json
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from jsonschema import Draft3Validator, Draft202012Validator, FormatChecker, exceptions
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, specification_with

from pocket_model.server.errors import shortened
from pocket_model.server.schema_keywords import (
    TYPES,
    are_disjoint,
    fault_of,
    inexact_number,
    leave_out_what_permits_everything,
    slots,
    types_of,
    values_of,
)

# The grammar of an object with this many optional properties takes a quarter of a second.
MAX_OBJECTS = 2000
MAX_CHARACTERS = 200_000
MAX_PATTERN_PROPERTIES = 50  # each is compared with each

# The keywords that llguidance enforces.
_ENFORCED = {
    *("type", "const", "enum", "anyOf", "oneOf", "allOf", "$ref"),
    *("properties", "additionalProperties", "patternProperties", "required"),
    *("minProperties", "maxProperties", "items", "additionalItems", "prefixItems"),
    *("minItems", "maxItems", "minLength", "maxLength", "pattern", "format"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}


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
        where = f" at {shortened(error.json_path)}" if error.path else ""
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

    - What permits everything is left out: unknown formats, `uniqueItems: false`, and the like.
    - If a property tells the options of a `oneOf` apart, as in pydantic's discriminated unions, it
      becomes required. So no value fits two options.
    - `propertyNames` with an `enum` becomes `properties`.

    Args:
        schema: it has passed `check_schema`.
        lenient: leave out, instead of refusing, the keywords that cannot be enforced.

    Raises:
        SchemaError: a keyword cannot be enforced, or no finite value fits.
    """
    try:
        return _Preparation(deepcopy(schema), lenient).schema
    except RecursionError as error:
        raise SchemaError("it is nested too deeply") from error
    except SchemaError:
        raise
    except (ValueError, TypeError, AttributeError) as error:
        # Of `referencing`: an `$id` that is no address, or keywords of another draft than that of
        # the metaschema that checked them.
        raise SchemaError(f"its references cannot be followed: {error}") from error


class _Preparation:
    """Changes a schema in place; `schema` is the result."""

    def __init__(self, schema: dict, lenient: bool):
        self.schema = schema
        if _dialect(schema) is Draft202012Validator:
            schema.pop("$schema", None)  # perhaps an unknown one
        self._targets: dict[int, Any] = {}  # what a `$ref` leads to, by the id of its object
        self._referring: list[dict] = []  # those objects, so that their ids stay theirs
        self._specification = specification_with(schema.get("$schema", ""), default=DRAFT202012)
        root = self._specification.create_resource(schema)
        self._resolver = Registry().with_resource("", root).crawl().resolver_with_root(root)
        self._checked = self._ids_of_schemas(schema)
        unenforced = {*_dialect(schema).VALIDATORS, "dependencies"} - _ENFORCED
        for place, part in self._parts():
            if len(part.get("patternProperties", {})) > MAX_PATTERN_PROPERTIES:
                raise SchemaError(
                    f"at {place}.patternProperties: more than {MAX_PATTERN_PROPERTIES} patterns"
                )
            leave_out_what_permits_everything(part)
            self._name_properties(part)
            if lenient:
                if "pattern" in part and fault_of("pattern", part["pattern"]):
                    del part["pattern"]
                continue
            if faults := sorted(unenforced & part.keys()):
                raise SchemaError(
                    f"at {place}: `{faults[0]}` is not supported. Leave it out, and check the "
                    "answer yourself"
                )
            if inexact_number(part):
                raise SchemaError(f"at {place}: integers beyond 2**53 are not exact; use strings")
            if "pattern" in part and (fault := fault_of("pattern", part["pattern"])):
                raise SchemaError(f"at {place}.pattern: {fault}")
        for place, part in self._parts():
            if not self._exclude_each_other(part.get("oneOf", [])) and not lenient:
                raise SchemaError(
                    f"at {place}.oneOf: a value may fit two of the options. Use anyOf, or require "
                    "in each option a property with a const of its own"
                )
        self._leave_out_what_never_ends()

    def _parts(self) -> Iterator[tuple[str, dict]]:
        """The schemas in this one to which a value is compared, with their places, each once."""
        todo, seen = [("$", self.schema, self._resolver)], set()
        while todo:
            place, part, resolver = todo.pop()
            if not isinstance(part, dict) or id(part) in seen:
                continue
            seen.add(id(part))
            resolver = resolver.in_subresource(self._specification.create_resource(part))
            for each in (part, part.get("propertyNames")):
                if isinstance(each, dict) and "$ref" in each:
                    found = self._looked_up(place, each["$ref"], resolver)
                    self._referring.append(each)
                    self._targets[id(each)] = found.contents
                    todo.append((shortened(each["$ref"]), found.contents, found.resolver))
            yield place, part
            for container, key, name in slots(part):
                todo.append((f"{place}{name}", container[key], resolver))

    def _looked_up(self, place: str, reference: str, resolver: Any) -> Any:
        """What a `$ref` leads to, inside this schema: nothing is ever fetched."""
        try:
            found = resolver.lookup(reference)
            if not isinstance(found.contents, bool) and id(found.contents) not in self._checked:
                check_schema(found.contents)  # it is where no schema was expected
                self._checked.update(self._ids_of_schemas(found.contents))
        except (Unresolvable, ValueError, TypeError, AttributeError) as error:
            raise SchemaError(
                f"at {place}: the $ref {shortened(str(reference))!r} leads to nothing here"
            ) from error
        return found

    def _ids_of_schemas(self, schema: Any) -> set[int]:
        """The ids of a schema and of all schemas inside it."""
        ids, todo = set(), [schema]
        while todo:
            ids.add(id(part := todo.pop()))
            todo.extend(self._specification.subresources_of(part))
        return ids

    def _resolved(self, part: Any) -> Any:
        """What `part` leads to, if it is a `$ref`."""
        for _ in range(100):  # two may lead to each other
            part = self._targets.get(id(part), part)
        return part

    def _name_properties(self, part: dict) -> None:
        """Put the names that a `propertyNames` lists into `properties`."""
        if "propertyNames" not in part or "patternProperties" in part:
            return
        names = values_of(self._resolved(part["propertyNames"]))
        if names is None:
            return
        del part["propertyNames"]
        value = part.pop("additionalProperties", True)
        given = part.get("properties", {})
        names = [name for _, name in sorted(names, key=str) if isinstance(name, str)]
        part["properties"] = {name: given.get(name, value) for name in names}
        part["additionalProperties"] = False

    def _exclude_each_other(self, options: list) -> bool:
        """Whether no value fits two of the options of a `oneOf`, as far as this can be seen.

        A property that tells them apart becomes required.
        """
        leaves, todo, opened = [], list(options), set()
        while todo:
            option = self._resolved(todo.pop())
            inner = option.get("oneOf") if isinstance(option, dict) else None
            if inner and id(inner) not in opened:
                opened.add(id(inner))
                todo.extend(inner)
            else:
                leaves.append(option)
        for type_ in TYPES:
            same = [option for option in leaves if type_ in types_of(option)]
            if len(same) < 2 or are_disjoint(map(values_of, same)):
                continue
            if type_ != "object" or not self._have_different_properties(same):
                return False
        return True

    def _have_different_properties(self, options: list) -> bool:
        if not all(isinstance(option, dict) for option in options):
            return False
        properties = [option.get("properties", {}) for option in options]
        for name in properties[0]:
            if are_disjoint(values_of(self._resolved(each.get(name))) for each in properties):
                for option in options:
                    required = option.get("required", [])
                    option["required"] = required if name in required else [*required, name]
                return True
        # Or each is closed, and has a required property that no other has (but for one of them).
        closed = all(
            option.get("additionalProperties") is False and "patternProperties" not in option
            for option in options
        )
        owners = Counter(name for each in properties for name in each)
        common = [
            option
            for option in options
            if all(owners[name] != 1 for name in option.get("required", []))
        ]
        return closed and len(common) <= 1

    def _leave_out_what_never_ends(self) -> None:
        """Forbid the parts that contain themselves without an end, if the rest can do without."""
        targets = {id(each): each for each in reversed(self._targets.values())}
        ending: set[int] = set()
        while True:
            known = len(ending)
            for key, target in targets.items():
                if key not in ending and self._ends(target, ending):
                    ending.add(key)
            if len(ending) == known:
                break
        if not self._ends(self.schema, ending):
            raise SchemaError("no finite value fits it, since it contains itself without an end")
        for _, part in list(self._parts()):
            for container, key, _ in slots(part):
                if not self._ends(container[key], ending):
                    container[key] = False

    def _ends(self, part: Any, ending: set[int]) -> bool:
        """Whether a finite value can fit; `ending` are the `$ref` targets that are known to."""
        if not isinstance(part, dict):
            return True
        if id(part) in self._targets and id(self._targets[id(part)]) not in ending:
            return False
        if not all(self._ends(each, ending) for each in part.get("allOf", [])):
            return False
        for options in (part.get("anyOf"), part.get("oneOf")):
            if options and not any(self._ends(each, ending) for each in options):
                return False
        types = types_of(part)
        if not types <= {"object", "array"} or values_of(part) is not None:
            return True
        properties, others = part.get("properties", {}), part.get("additionalProperties")
        required = [properties.get(name, others) for name in part.get("required", [])]
        first, items = part.get("prefixItems", []), part.get("items")
        if isinstance(items, list):  # in older dialects
            first, items = items, part.get("additionalItems")
        least = part.get("minItems", 0)
        needed = [*first[:least], *([items] if least > len(first) else [])]
        return any(
            all(self._ends(each, ending) for each in inner)
            for type_, inner in (("object", required), ("array", needed))
            if type_ in types
        )
