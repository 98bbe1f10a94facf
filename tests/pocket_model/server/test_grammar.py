"""What a schema permits is what it says: checked by walks through the grammar, without a model.

The rules are those of JSON Schema 2020-12 (Core and Validation); its reference here is the
`jsonschema` package. For tools that are not strict, OpenAI enforces nothing.
"""

import datetime
import decimal
import enum
import ipaddress
import json
import pathlib
import random
import re
import uuid
from typing import Annotated, Any, Literal, NamedTuple

import jsonschema
import pydantic
import pytest
import torch
from jsonschema.validators import validator_for
from pydantic import Field

from pocket_model.server.errors import ApiError
from pocket_model.server.protocol import to_request
from pocket_model.server.schemas import MAX_OBJECTS, SchemaError, check_schema, prepared
from pocket_model.server.service import ChatService
from pocket_model.tekken import CONTROL_IDS


@pytest.fixture(scope="module")
def walk(chat_format):
    """Text that random choices give under a guide, the closing marks more often; None if long."""
    size = chat_format.tokenizer.instruct_tokenizer.tokenizer.n_words
    marks = ['"', "}", "]", ",", ", ", '"}', '"]', "],"]
    closing = [chat_format.encode_text(mark)[0] for mark in marks] + [chat_format.end_token_id]
    names = {CONTROL_IDS[name]: name for name in ("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]")}
    logits = torch.zeros(size)

    def run(guide, seed=0, limit=80):
        choice, text, ids = random.Random(seed), "", []
        for _ in range(limit):
            token = guide.forced_token
            if token is None:
                allowed = (guide.mask(logits) == 0).numpy()
                assert guide.error is None
                ends = [each for each in closing if allowed[each]]
                some = ends if ends and choice.random() < 0.6 else allowed.nonzero()[0]
                token = int(choice.choice(some))
            guide.advance(token)
            if token in (chat_format.end_token_id, *names):
                text += chat_format.decode(ids) + names.get(token, "")
                ids.clear()
                if token == chat_format.end_token_id:
                    return text
            else:
                ids.append(token)
        return None

    return run


def check(schema, grammars, walk):
    """A text that the grammar permits fits the schema; returns it."""
    check_schema(schema)
    validator = validator_for(schema, default=jsonschema.Draft202012Validator)(schema)
    if text := walk(grammars.guide(schema=schema)):
        validator.validate(json.loads(text))
    return text


# --- pydantic's models -------------------------------------------------------------------------

Color = enum.Enum("Color", {"red": "red", "blue": "blue"})


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    meows: bool


class Dog(pydantic.BaseModel):
    kind: Literal["dog", "wolf"] = "dog"
    barks: bool


class Node(pydantic.BaseModel):
    value: Annotated[int, Field(ge=0, le=9)]
    then: "Node | None"


class Pair(NamedTuple):
    a: bool
    b: None


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]
FITTING = [
    *(str, int, float, bool, None, bytes, Any, Color, Node, Pair, Pet, list[Pet], Cat | Dog),
    *(list[int], tuple[int, str], tuple[bool, ...], dict[str, bool]),
    *(int | None, int | str | None, Literal["a", 1, None, True], pathlib.Path, uuid.UUID),
    *(pydantic.SecretStr, pydantic.SecretBytes, ipaddress.IPv4Address, ipaddress.IPv6Address),
    Annotated[int, Field(gt=0, le=20, multiple_of=3)],
    Annotated[float, Field(gt=0.5, lt=1.5)],
    Annotated[str, Field(min_length=2, max_length=4)],
    Annotated[str, Field(pattern=r"^[A-Z]{2}-\d+$", max_length=9)],
    Annotated[list[bool], Field(min_length=1, max_length=3)],
]
# pydantic checks more of these than its schema says.
FITTING_THE_SCHEMA = [
    *(decimal.Decimal, re.Pattern, dict[int, bool], pydantic.ByteSize, pydantic.Json[list[int]]),
    *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta, pydantic.HttpUrl),
    *(ipaddress.IPv4Network, pydantic.IPvAnyAddress, pydantic.Base64Bytes, pydantic.PostgresDsn),
    Annotated[decimal.Decimal, Field(max_digits=5, decimal_places=2)],
    dict[Annotated[str, Field(pattern="^x[a-z]?$")], bool],
]
NOT_FITTING = [
    *(set[str], frozenset[int], dict[uuid.UUID, int], dict[Color, int]),
    Annotated[int, Field(ge=-(2**63), le=2**63 - 1)],
]


def model_of(type_):
    closed_model = pydantic.ConfigDict(extra="forbid")
    return pydantic.create_model("Model", value=(type_, ...), __config__=closed_model)


@pytest.mark.parametrize("type_", [*FITTING, *FITTING_THE_SCHEMA], ids=str)
def test_an_answer_fits_its_pydantic_model(type_, grammars, walk):
    model = model_of(type_)
    text = check(model.model_json_schema(), grammars, walk)
    if text and type_ in FITTING:
        model.model_validate_json(text)


@pytest.mark.parametrize("type_", [*NOT_FITTING, Pet, decimal.Decimal], ids=str)
def test_a_tool_takes_any_pydantic_model(type_, grammars):
    parameters = model_of(type_).model_json_schema()
    grammars.guide([{"name": "f", "parameters": parameters}], must_call=True)


@pytest.mark.parametrize("type_", NOT_FITTING, ids=str)
def test_a_pydantic_model_that_cannot_be_enforced_is_refused(type_, grammars):
    with pytest.raises(SchemaError, match=r"at #/properties/value: (`|integers)"):
        grammars.guide(schema=model_of(type_).model_json_schema())


# --- keywords ----------------------------------------------------------------------------------


def closed(properties, **more):
    required = {"required": [*properties]} | more
    return {"type": "object", "properties": properties, "additionalProperties": False} | required


NULL, FLAG = {"type": "null"}, {"type": "boolean"}
INFINITE = closed({"next": {"$ref": "#/$defs/x"}})
ENFORCED = {
    "const null": {"const": None},
    "floats": {"enum": [0.1, 1e-7, -1.5, 1e22, 2.0]},
    "values of one type": {"type": "string", "enum": ["a", 1, None, "b"]},
    "equal values": {"enum": [1, 1.0, True, "1"]},
    "arrays and objects as values": {"enum": [{"a": 1, "b": [1, "x"]}, [], {}]},
    "characters": {"const": '👩‍👩‍👧\u2028\n\t"\\\x00'},
    "names": closed(dict.fromkeys(['a"b', "ü\n", "", "</s>", "[TOOL_CALLS]"], NULL)),
    "several types": {"type": ["integer", "string"], "maxLength": 1, "maximum": 3, "minimum": 0},
    "no type": {"maxLength": 1, "maximum": 3, "minimum": 0, "maxItems": 1, "maxProperties": 1},
    "tiny": {"type": "number", "exclusiveMinimum": 1e-9, "exclusiveMaximum": 1e-8},
    "open tuple": {"type": "array", "prefixItems": [FLAG], "items": NULL, "minItems": 2},
    "closed tuple": {"type": "array", "prefixItems": [FLAG, NULL], "items": False},
    "huge counts": {"type": "array", "items": NULL, "minItems": 2, "maxItems": 10**9},
    "any property": {"type": "object", "additionalProperties": NULL, "maxProperties": 2},
    "properties by pattern": {
        **{"type": "object", "additionalProperties": False, "required": ["ab"]},
        **{"properties": {"ab": FLAG}, "patternProperties": {"^a": {"enum": [True]}, "^b$": NULL}},
    },
    "boolean schemas": {"type": "object", "properties": {"a": True, "b": False}},
    "one of two is required": closed(
        {"a": NULL, "b": NULL}, required=[], anyOf=[{"required": ["a"]}, {"required": ["b"]}]
    ),
    "all of": {
        "$defs": {"Base": {"type": "object", "properties": {"a": NULL}, "required": ["a"]}},
        "allOf": [{"$ref": "#/$defs/Base"}, {"properties": {"b": NULL}, "required": ["b"]}],
        "maxProperties": 2,
    },
    "options by type": {
        "oneOf": [{"type": "integer"}, {"const": "x"}, {"type": ["null", "boolean"]}]
    },
    "options by value": {"oneOf": [{"const": 1}, {"enum": [True, "a"]}, {"const": None}]},
    "options by a property that is not required": {
        "oneOf": [closed({"k": {"const": name}}, required=[]) for name in "abc"]
    },
    "escaped reference": {"$defs": {"a/b c~": FLAG}, "$ref": "#/$defs/a~1b%20c~0"},
    "recursive": {
        "$defs": {"n": closed({"v": FLAG, "n": {"anyOf": [{"$ref": "#/$defs/n"}, NULL]}})},
        "$ref": "#/$defs/n",
    },
    "a long chain of references": {
        "$defs": {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(99)} | {"d99": FLAG},
        "$ref": "#/$defs/d0",
    },
    "names of the whole schema": {"$id": "http://e.org/b", "id": "b", "$ref": "#/$defs/x"}
    | {"$defs": {"x": FLAG}},
    "zod's record": {"type": "object", "propertyNames": {"type": "string"}, "maxProperties": 1},
    "keywords that permit everything": {
        **{"type": "array", "items": NULL, "uniqueItems": False, "contentSchema": {}},
        **{"$comment": "", "deprecated": True, "nullable": True, "example": 1, "xml": {}},
    },
    "draft 4": {
        "$schema": "http://json-schema.org/draft-04/schema#",
        **{"type": "integer", "minimum": 1, "exclusiveMinimum": True, "maximum": 4},
    },
    "draft 7": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **{"type": "array", "items": [FLAG, NULL], "additionalItems": False, "minItems": 1},
    },
    "unknown draft": {"$schema": "https://json-schema.org/draft-07/schema#"} | NULL,
    "options of llguidance": {"x-guidance": {"lenient": True, "whitespace_flexible": True}} | NULL,
    **{
        f"pattern {pattern}": {"type": "string", "pattern": pattern, "maxLength": 9}
        for pattern in [r"^[a&\]~]+$", r"^\d\/\-$", "^(a|b)$|^c", "ab?c", "(?i)^ab$", "^$"]
    },
    **{
        f"format {name}": {"type": "string", "format": name, "maxLength": 40}
        for name in ["date", "date-time", "time", "duration", "hostname", "ipv4", "ipv6", "uuid"]
    },
}


@pytest.mark.parametrize("schema", ENFORCED.values(), ids=ENFORCED)
def test_what_the_grammar_permits_fits_the_schema(schema, grammars, walk):
    assert check(schema, grammars, walk)


# ECMA-262's syntax, which Python does not know.
@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        (r"^\p{Lu}{2}$", "ÄB"),
        ("^[[a]{2}$", "[a"),
        ("^[a&&b]$", "&"),
        ("^(?<year>[0-9])$", "7"),
        (r"^[\]\[]$", "["),
    ],
)
def test_patterns_are_those_of_ecmascript(pattern, fits, grammars, chat_format):
    guide = grammars.guide(schema=check_schema({"type": "string", "pattern": pattern}))
    size = chat_format.tokenizer.instruct_tokenizer.tokenizer.n_words
    for token in chat_format.encode_text(json.dumps(fits, ensure_ascii=False)):
        assert guide.forced_token in (None, token)
        assert guide.forced_token or guide.mask(torch.zeros(size))[token] == 0
        guide.advance(token)


FORMATS = ["path", "password", "binary", "int64", "uri-reference", "regex", "", "Date Time"]


@pytest.mark.parametrize("name", FORMATS)
def test_unknown_formats_are_annotations(name, grammars):
    """JSON Schema 2020-12, Validation, 7.2.1."""
    inner = {"type": ["string", "integer"], "format": name}
    schema = {
        "$defs": {"x": {"type": "array", "items": inner}},
        "type": "object",
        "properties": {"a": inner, "b": {"$ref": "#/$defs/x"}, "c": {"anyOf": [inner, NULL]}},
    }
    grammars.guide([{"name": "f", "parameters": schema, "strict": True}], schema=schema)


# --- what is refused ---------------------------------------------------------------------------

REFUSED = {
    "uniqueItems": ({"type": "array", "uniqueItems": True}, "at #: `uniqueItems`"),
    "not": (closed({"a": {"not": NULL}}), "at #/properties/a: `not`"),
    "if": ({"items": {"if": NULL, "then": {"const": 1}}}, "at #/items: `if`"),
    "contains": ({"prefixItems": [{"contains": NULL}]}, "at #/prefixItems/0: `contains`"),
    "propertyNames": ({"propertyNames": {"pattern": "^a"}}, "`propertyNames`"),
    "dependentRequired": ({"dependentRequired": {"a": ["b"]}}, "`dependentRequired`"),
    "dependentSchemas": ({"dependentSchemas": {"a": NULL}}, "`dependentSchemas`"),
    "unevaluated": ({"unevaluatedProperties": False}, "`unevaluatedProperties`"),
    "in a definition": (
        {"$defs": {"x": {"uniqueItems": True}}, "$ref": "#/$defs/x"},
        r"at #/\$defs/x: `uniqueItems`",
    ),
    "dynamic reference": ({"$dynamicRef": "#a", "$dynamicAnchor": "a"}, r"`\$dynamicRef`"),
    "remote": ({"$ref": "http://127.0.0.1:9/x.json"}, "127.0.0.1:9/x.json' leads to no schema"),
    "file": ({"$ref": "file:///etc/passwd"}, "leads to no schema"),
    "nowhere": ({"$ref": "#/$defs/x"}, "leads to no schema"),
    "into a text": ({"title": "t", "$ref": "#/title/x"}, "leads to no schema"),
    "to no schema": ({"x": {"type": 5}, "$ref": "#/x"}, "leads to no schema"),
    "look-ahead": (closed({"a": {"pattern": "^(?!x)a"}}), "/a: pattern: look-around"),
    "backreference": ({"pattern": r"(a)\1"}, "backreferences"),
    "no pattern": ({"pattern": "["}, "unclosed character class"),
    "no value": ({"enum": []}, "empty"),
    "contradiction": ({"type": "integer", "minimum": 3, "maximum": 2}, "minimum"),
    "contradiction of lengths": ({"type": "string", "minLength": 3, "maxLength": 2}, "minLength"),
    "contradiction of types": ({"allOf": [{"type": "integer"}, NULL]}, "incompatible types"),
    "nothing": ({"allOf": [False]}, "schema is false"),
    "required and forbidden": (closed({"a": False}), "required property 'a'"),
    "anchor": ({"$defs": {"x": {"$anchor": "here"} | FLAG}, "$ref": "#here"}, "leads to no schema"),
    "another base": (closed({"a": {"$id": "http://e.org/b"}}), r"at #/properties/a: `\$id`"),
    "OpenAPI's place": (
        {"$ref": "#/components/schemas/X", "components": {"schemas": {"X": FLAG}}},
        "leads to no schema",
    ),
    "odd values": (
        {
            **{"$schema": "http://json-schema.org/draft-07/schema#"},
            **{"$defs": {"x": {"anyOf": 5}}, "oneOf": [{"$ref": "#/$defs/x"}, NULL]},
        },
        "another draft has an odd value",
    ),
    "options in themselves": (
        {"$defs": {"a": {"oneOf": [{"$ref": "#/$defs/a"}, NULL]}}, "$ref": "#/$defs/a"},
        "a/oneOf: a value may fit two",
    ),
    "options by required properties": (
        {"oneOf": [{"enum": ["Unit"]}, closed({"Circle": NULL}), closed({"Square": NULL})]},
        "at #/oneOf: a value may fit two",
    ),
    "itself": ({"$ref": "#"}, "contains itself"),
    "each other": (
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}} | {"$ref": "#/$defs/a"},
        "contains itself",
    ),
    "objects without an end": (closed({"a": {"$ref": "#"}}), "contains itself"),
    "arrays without an end": ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "itself"),
    "options without an end": (closed({"a": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}}), "itself"),
    "a property without an end": (
        closed({"a": {"$ref": "#/$defs/x"}}, required=[]) | {"$defs": {"x": INFINITE}},
        "itself",
    ),
    "properties without an end": (
        closed({"a": {"$ref": "#"}}, required=[], minProperties=1),
        "itself",
    ),
    "other properties without an end": (
        {"type": "object", "additionalProperties": {"$ref": "#"}, "minProperties": 1},
        "itself",
    ),
    "options that overlap": ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "at #/oneOf"),
    "equal options": ({"oneOf": [{"const": 1}, {"const": 1.0}]}, "at #/oneOf"),
    "limits of 64 bits": ({"type": "integer", "minimum": -(2**63)}, "2\\*\\*53"),
    "large integers": ({"const": 2**53 + 1}, "2\\*\\*53"),
    "number that JSON lacks": ({"const": float("inf")}, "expected value"),
    "half a character": ({"const": "\ud800"}, "hex escape"),
    "too many patterns": ({"patternProperties": {f"^{n}$": NULL for n in range(99)}}, "more than"),
}


@pytest.mark.parametrize(("schema", "says"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_enforced_is_refused_before_anything_is_generated(schema, says, grammars):
    check_schema(schema)
    with pytest.raises(SchemaError, match=says):
        grammars.guide(schema=schema)


@pytest.mark.parametrize("schema", [schema for schema, _ in REFUSED.values()], ids=REFUSED)
def test_a_tool_that_is_not_strict_takes_any_schema(schema, grammars, walk, chat_format):
    offered = [{"name": "f", "parameters": closed({"x": schema, "y": FLAG})}]
    if text := walk(grammars.guide(offered, must_call=True, parallel=False)):
        assert text.startswith("[TOOL_CALLS]f[CALL_ID]")
        assert isinstance(json.loads(text.split("[ARGS]")[1]), dict)


def test_what_can_be_enforced_of_a_lenient_tool_still_is(grammars, walk):
    names = {"type": "array", "items": FLAG, "uniqueItems": True, "minItems": 1, "maxItems": 2}
    price = {"anyOf": [{"const": 1}, {"type": "string", "pattern": "^(?!x)", "maxLength": 1}]}
    guide = grammars.guide(
        [{"name": "f", "parameters": closed({"names": names, "price": price, "pet": FLAG})}],
        must_call=True,
        parallel=False,
    )
    arguments = json.loads(walk(guide).split("[ARGS]")[1])
    assert set(arguments["names"]) <= {True, False}
    assert arguments["price"] == 1 or len(arguments["price"]) <= 1


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (closed({f"p{n}": FLAG for n in range(20_000)}), "limits: make it smaller"),
        ({"enum": ["x" * 10**6]}, "1,000,014 characters"),
        (json.loads('{"items":' * 900 + "{}" + "}" * 900), "nested too deeply"),
        ({"type": "strin"}, "'strin' is not valid"),
        ({"properties": {"a": {"required": True}}}, "at #/properties/a/required"),
        ({"$schema": [1]}, r"at #/\$schema"),
    ],
)
def test_what_is_no_schema_or_costs_too_much_is_refused_first(schema, says):
    with pytest.raises(ValueError, match=says):
        check_schema(schema)


def test_a_schema_at_the_limit_can_be_followed(grammars, walk):
    wide = closed({f"p{n}": FLAG for n in range(MAX_OBJECTS // 2)}, required=[])
    guide = grammars.guide(schema=check_schema(wide))
    assert walk(guide, limit=6) or guide.error is None


def test_preparing_leaves_the_given_schema_as_it_was():
    schema = closed({"a": {"type": "string", "format": "path"}})
    before = json.dumps(schema)
    assert "format" not in prepared(schema, lenient=False)["properties"]["a"]
    assert json.dumps(schema) == before


# --- requests ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def service(chat_format, grammars):
    """A chat service without a model."""
    made = object.__new__(ChatService)
    made._format, made._grammars, made.context = chat_format, grammars, 8192
    return made


def request(**more):
    ask = {"role": "user", "content": "How many?"}
    return to_request({"model": "pocket-small", "messages": [ask]} | more)


def tool(name, parameters, **more):
    return {"type": "function", "function": {"name": name, "parameters": parameters} | more}


BAD = closed({"a": {"not": NULL}})
GOOD_TOOL, BAD_TOOL = tool("good", closed({"level": FLAG})), tool("bad", BAD, strict=True)
JSON, BAD_ANSWER = (
    {"type": "json_object"},
    {"type": "json_schema", "json_schema": {"name": "n", "schema": BAD}},
)
BAD_CHOICE = {"type": "function", "function": {"name": "bad"}}


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tools": [GOOD_TOOL, BAD_TOOL]}, "tools.1.function.parameters"),
        ({"tools": [GOOD_TOOL, BAD_TOOL], "response_format": JSON}, "tools.1.function.parameters"),
        (
            {"tools": [GOOD_TOOL, BAD_TOOL], "tool_choice": BAD_CHOICE},
            "tools.1.function.parameters",
        ),
        ({"tools": [BAD_TOOL], "response_format": BAD_ANSWER}, "tools.0.function.parameters"),
        (
            {"tools": [GOOD_TOOL], "response_format": BAD_ANSWER},
            "response_format.json_schema.schema",
        ),
        ({"response_format": BAD_ANSWER}, "response_format.json_schema.schema"),
    ],
)
def test_the_schema_at_fault_is_named(service, more, param):
    with pytest.raises(ApiError) as caught:
        service.to_engine_request(request(**more))
    error = caught.value.body["error"]
    assert (caught.value.status, error["param"]) == (400, param)
    assert error["message"].startswith(f"{param}: the schema cannot be enforced: at #/properties/a")


def test_a_named_tool_is_called_exactly_once(service, walk):
    """OpenAI's guide to function calling: "Call exactly one specific function"."""
    choice = {"type": "function", "function": {"name": "good"}}
    for more in ({}, {"parallel_tool_calls": True}):
        body = request(tools=[GOOD_TOOL, tool("other", {})], tool_choice=choice, **more)
        for seed in range(3):
            text = walk(service.to_engine_request(body).sampler.guide, seed)
            assert text.count("[CALL_ID]") == text.count("good") == 1


@pytest.mark.parametrize(
    ("more", "ends_after"),
    [
        ({}, 0),
        ({"ignore_eos": False, "min_tokens": 0}, 0),
        ({"min_tokens": 5}, 5),
        ({"ignore_eos": True, "max_tokens": 7}, 7),
        ({"ignore_eos": True, "min_tokens": 3, "max_tokens": 7}, 7),
        ({"min_tokens": 5, "tools": [GOOD_TOOL]}, 5),
    ],
)
def test_load_generators_say_how_long_a_text_is(service, chat_format, more, ends_after):
    """`min_tokens` and `ignore_eos` as vLLM has them."""
    guide = service.to_engine_request(request(**more)).sampler.guide
    logits = torch.zeros(chat_format.tokenizer.instruct_tokenizer.tokenizer.n_words)
    for count in range(9):
        allowed = guide.mask(logits)[chat_format.end_token_id] == 0
        assert allowed == (count >= ends_after)
        guide.advance(chat_format.encode_text("a")[0])


@pytest.mark.parametrize(
    ("schema", "possible"),
    [({"const": 7}, {"7"}), ({"enum": [7, 77]}, {"77"})],  # 7 could go on, so it does
)
def test_json_ends_where_nothing_else_fits(schema, possible, service, walk):
    answer = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    body = request(response_format=answer, ignore_eos=True)
    assert {
        walk(service.to_engine_request(body).sampler.guide, seed) for seed in range(4)
    } == possible
