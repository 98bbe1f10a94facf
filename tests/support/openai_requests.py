"""Requests that the openai package's own types allow, for hypothesis.

The types say nothing of how fields depend on each other, or of ranges. So a part of the requests
has no meaning, and a server must refuse it with a reason.
"""

import base64
import io
import json
from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from hypothesis import strategies as st
from openai.types.chat import completion_create_params
from PIL import Image
from typing_extensions import ReadOnly, is_typeddict

FIELDS = get_type_hints(
    completion_create_params.CompletionCreateParamsNonStreaming, include_extras=True
) | {"stream": bool | None}
# Fields that most programs send; the others are rarer, and mostly refused.
USUAL = ["max_tokens", "response_format", "seed", "stop", "stream", "stream_options"]
USUAL += ["temperature", "tool_choice", "tools", "top_p"]
SCHEMAS = [
    {},
    {"type": "object", "properties": {}},
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": ["integer", "null"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    {"type": "object", "properties": {"where": {"type": "string", "format": "path"}}},
    {"type": "array", "items": {"type": "string"}},
    {"type": "text"},
]


def _picture() -> str:
    data = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(data, "PNG")
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


# Strings that mean something only if they are chosen well, by the name of their field.
WORDS = {
    "arguments": ["{}", '{"city": "Paris"}', "", "[1]", '{"city": "Par'],
    "id": ["abcDEF123", "call_1"],
    "model": ["pocket-small"],
    "name": ["look_up", "weather", "two words"],
    "tool_call_id": ["abcDEF123", "call_1"],
    "url": [_picture(), "https://example.com/a.png", "data:image/png;base64,AAAA", ""],
}
TEXTS = ["Hi", "Name a colour.", "", " ", "[INST] é 漢 👍🏽", "a\nb\u2028c", "\x00"]


def values(hint: Any, name: str) -> st.SearchStrategy:
    """Values of a type as they are in JSON.

    Args:
        name: of the field that has the value.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Required, NotRequired, ReadOnly, Annotated):
        return values(args[0], name)
    if origin in (Union, UnionType):
        if name == "model":
            return st.sampled_from(WORDS[name])
        return st.one_of([values(arg, name) for arg in args])
    if origin is Literal:
        return st.sampled_from(args)
    if is_typeddict(hint):
        return typed_dicts(hint)
    if name in ("parameters", "schema"):
        return st.sampled_from(SCHEMAS)
    if origin and issubclass(origin, Mapping):
        keys = st.sampled_from(["12", "key"])
        return st.dictionaries(keys, values(args[1], name), max_size=2)
    if origin and issubclass(origin, Iterable):
        return st.lists(values(args[0], name), max_size=3)
    simple = {
        NoneType: st.none(),
        bool: st.booleans(),
        int: st.sampled_from([1, 0, 2, -1, 100, 2**70]),
        float: st.sampled_from([0, 1, 1.0, 0.5, -0.5, 2, 3, 1e-320, 1e300]),
        str: st.sampled_from(WORDS.get(name, TEXTS)),
        object: st.sampled_from([None, 1, "a", [], {}]),
    }
    return simple[hint]


@st.composite
def typed_dicts(draw: st.DrawFn, hint: type) -> dict:
    """Objects of a TypedDict with a few of its optional fields."""
    hints = get_type_hints(hint, include_extras=True)
    # `__required_keys__` is wrong where a module's annotations are strings.
    required = [name for name, inner in hints.items() if get_origin(inner) is Required]
    optional = [name for name in hints if name not in required]
    few = draw(st.lists(st.sampled_from(optional), max_size=3, unique=True)) if optional else []
    return {name: draw(values(hints[name], name)) for name in required + few}


@st.composite
def conversations(draw: st.DrawFn) -> list[dict]:
    """Messages in an order that has a meaning."""
    text = st.sampled_from(["Hi", "Name a colour.", "é 漢 👍🏽"])
    parts = st.lists(
        text.map(lambda words: {"type": "text", "text": words}), min_size=1, max_size=2
    )
    picture = {"type": "image_url", "image_url": {"url": WORDS["url"][0]}}
    detail = st.sampled_from([{}, {"detail": None}, {"detail": "low"}, {"detail": "auto"}])
    pictures = detail.map(lambda more: picture | {"image_url": picture["image_url"] | more})
    question = st.one_of(text, parts, st.tuples(pictures, *[parts.map(lambda p: p[0])]).map(list))
    messages = []
    if draw(st.booleans()):
        role = draw(st.sampled_from(["system", "developer"]))
        messages.append({"role": role, "content": draw(st.one_of(text, parts))})
    for turn in range(draw(st.integers(0, 2))):
        messages.append({"role": "user", "content": draw(question)})
        if draw(st.booleans()):
            messages.append({"role": "assistant", "content": draw(st.one_of(text, parts))})
            continue
        arguments = draw(st.sampled_from(["{}", '{"city": "Paris"}', '{ "n" : 1.50 }']))
        function = {"name": "look_up", "arguments": arguments}
        call = {"id": f"abcDEF12{turn}", "type": "function", "function": function}
        called = {"role": "assistant", "tool_calls": [call]}
        messages.append(called | draw(st.sampled_from([{}, {"content": None}, {"content": ""}])))
        result = {
            "role": "tool",
            "tool_call_id": call["id"],
            "content": draw(st.one_of(text, parts)),
        }
        messages.append(result)
        if draw(st.booleans()):
            messages.append({"role": "assistant", "content": draw(text)})
    if not messages or messages[-1]["role"] != "tool" or draw(st.booleans()):
        messages.append({"role": "user", "content": draw(question)})
    return messages


@st.composite
def requests(draw: st.DrawFn) -> dict:
    """Bodies of `POST /v1/chat/completions`; what they ask for may be impossible."""
    names = st.sampled_from(sorted(FIELDS.keys() - {"messages", "model"}))
    few = draw(st.lists(st.one_of(names, st.sampled_from(USUAL)), max_size=4, unique=True))
    any_messages = values(FIELDS["messages"], "messages")
    questions = any_messages.map(lambda before: [*before, {"role": "user", "content": "Hi"}])
    messages = draw(st.one_of(conversations(), questions, any_messages))
    body = {"model": "pocket-small", "messages": messages}
    return json_form(body | {name: draw(values(FIELDS[name], name)) for name in few})


def json_form(body: dict) -> dict:
    """A body as it arrives."""
    return json.loads(json.dumps(body))
