"""What the server takes in a request and what it refuses, mostly without a model: `read_request`.

What is right is said by OpenAI's reference (the openai package's types), by Mistral's own package
(`ChatCompletionRequest.from_openai`), and by the standards named at the tables.
"""

import json

import httpx2
import pytest
from chat_bodies import ASK, PARTS, PICTURE, RESULT, SYSTEM, TOOL, called, read, refusal, schema

from pocket_model.build import MODEL_ID
from pocket_model.server import protocol
from pocket_model.server.errors import ApiError
from pocket_model.server.parameters import LABELS, NEUTRAL

# --- parameters ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", sorted({*protocol.ChatRequest.model_fields, *NEUTRAL, *LABELS} - {"model", "messages"})
)
def test_null_means_not_given(name):
    assert read(**{name: None}) == read()


@pytest.mark.parametrize(("name", "values"), [(name, row[0]) for name, row in NEUTRAL.items()])
def test_a_value_that_changes_nothing_is_taken(name, values):
    assert all(read(**{name: value}) == read() for value in values)


@pytest.mark.parametrize("name", sorted(LABELS))
def test_what_only_names_a_request_is_dropped(name):
    assert read(**{name: "anything"}) == read(**{name: {"a": "b"}}) == read()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"frequency_penalty": 0.5}, "used often"),
        ({"n": 2}, "another number of answers"),
        ({"logit_bias": {"50256": -100}}, "single tokens"),
        ({"top_k": 40}, "k most likely"),
        ({"store": True}, "keep the answer"),
        ({"modalities": ["text", "audio"]}, "something else than text"),
        ({"functions": [{"name": "f"}]}, "use tools"),
        ({"function_call": {"name": "f"}}, "use tool_choice"),
        ({"reasoning_effort": "high"}, "thinks"),
        ({"continue_final_message": True}, "continue the last assistant message"),
        ({"web_search_options": {}}, "search the web"),
        ({"input": "Hi"}, "not known to this server"),
    ],
)
def test_what_would_change_the_answer_is_refused_by_what_it_would_do(fields, says):
    error = refusal(**fields)
    assert says in error["message"]
    assert "Leave it out" in error["message"]
    assert error["param"] == next(iter(fields))


@pytest.mark.parametrize(
    ("fields", "taken"),
    [
        # Mistral's client
        ({"random_seed": 5}, {"seed": 5}),
        ({"tool_choice": "any", "tools": [TOOL]}, {"tool_choice": "required", "tools": [TOOL]}),
        ({"safe_prompt": False}, {}),
        # load generators: vLLM's parameters
        ({"ignore_eos": False, "min_tokens": 0}, {}),
        ({"min_tokens": 3, "max_tokens": 3}, {"min_tokens": 3, "max_completion_tokens": 3}),
        (
            {"stream_options": {"include_usage": True, "continuous_usage_stats": None}},
            {"stream_options": {"include_usage": True, "include_obfuscation": False}},
        ),
        # a bias of zero is none
        ({"logit_bias": {"12": 0, "13": -0.0}}, {}),
        # neutral values of known parameters
        ({"tools": []}, {}),
        ({"stop": "a"}, {"stop": ["a"]}),
        ({"max_tokens": 5.0, "temperature": -0.0}, {"max_tokens": 5, "temperature": 0}),
        ({"tools": [TOOL | {"cache_control": {"type": "ephemeral"}}]}, {"tools": [TOOL]}),
        ({"tools": [{"function": {"name": "f", "parameters": {"type": "object"}, "strict": None}}]},
         {"tools": [TOOL]}),
        ({"response_format": {"type": "text", "json_schema": None}},
         {"response_format": {"type": "text"}}),
    ],
)  # fmt: skip
def test_other_forms_of_the_same_request(fields, taken):
    one, other = read(**fields), read(**taken)
    assert (one.token_limit, one.prompt_tools) == (other.token_limit, other.prompt_tools)
    unimportant = {"max_tokens", "max_completion_tokens", "tools"}
    assert one.model_dump(exclude=unimportant) == other.model_dump(exclude=unimportant)


def test_limits_of_tokens():
    assert read().token_limit == protocol.DEFAULT_MAX_TOKENS
    assert read(max_tokens=7).token_limit == 7
    assert read(min_tokens=1000).token_limit == 1000
    assert read(max_tokens=10**400).token_limit == 10**400


SIMPLE = {"type": "object", "properties": {"a": {"type": "strin"}}}
TUPLE = {"type": "array", "items": [{"type": "string"}]}  # the keyword of older drafts


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"model": None}, "model", "is required"),
        ({"model": ["a"]}, "model", 'must be a string, not ["a"]'),
        ({"messages": "Hi"}, "messages", 'must be a list, not "Hi"'),
        ({"messages": []}, "messages", "must not be empty"),
        # OpenAI: "Expected a value >= 1, but got 0 instead."
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1, not 0"),
        ({"max_tokens": True}, "max_tokens", "must be a number, not true"),
        ({"max_tokens": 2.5}, "max_tokens", "must be a whole number, not 2.5"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_completion_tokens", "differs from"),
        ({"max_tokens": 5, "min_tokens": 6}, "min_tokens", "6 is more than the limit of 5"),
        ({"temperature": "hot"}, "temperature", 'must be a number, not "hot"'),
        ({"temperature": 2.5}, "temperature", "less than or equal to 2, not 2.5"),
        ({"top_p": 0}, "top_p", "greater than 0"),
        ({"seed": 2**63}, "seed", "less than 9223372036854775808"),
        ({"seed": 1, "random_seed": 2}, "random_seed", "send one"),
        ({"stop": ""}, "stop", 'none of them empty, not ""'),
        ({"stop": [None]}, "stop", "not [null]"),
        ({"stop": ["a"] * 5}, "stop", "up to 4"),
        ({"stop": 0}, "stop", "not 0"),
        ({"stream": 3}, "stream", "true or false, not 3"),
        ({"stream_options": "usage"}, "stream_options", "must be an object"),
        ({"stream_options": {"a": 1}}, "stream_options.a", "not known"),
        ({"tools": {}}, "tools", "must be a list"),
        ({"tools": [TOOL] * 2}, "tools", "the same name, f"),
        ({"tools": [TOOL] * 129}, "tools", "at most 128 items"),
        ({"tools": [{"type": "custom"}]}, "tools.0.type", "'function', not \"custom\""),
        ({"tools": [{"type": "function"}]}, "tools.0.function", "is required"),
        ({"tools": [{"function": {"name": "a b"}}]}, "tools.0.function.name", 'not "a b"'),
        (
            {"tools": [TOOL, {"function": {"name": "g", "parameters": SIMPLE}}]},
            "tools.1.function.parameters",
            "the tool g: not a JSON schema at #/properties/a/type",
        ),
        (
            {"tools": [{"function": {"name": "g", "parameters": {"type": "array"}}}]},
            "tools.0.function.parameters",
            "must describe an object",
        ),
        (
            {"response_format": schema(TUPLE)},
            "response_format.json_schema.schema",
            'the schema "answer": not a JSON schema at #/items',
        ),
        ({"response_format": "json"}, "response_format", '"json_object"}'),
        ({"response_format": {}}, "response_format", "not {}"),
        ({"response_format": {"type": []}}, "response_format", "json_schema"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "required"),
        ({"response_format": {"type": "text", "a": 1}}, "response_format.a", "not known"),
        ({"tool_choice": "always"}, "tool_choice", "'required', not \"always\""),
        ({"tool_choice": 3}, "tool_choice", "not 3"),
        ({"tool_choice": "required"}, "tool_choice", "no tools"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function", "is required"),
        (
            {"tool_choice": {"type": "function", "function": {"name": "g"}}, "tools": [TOOL]},
            "tool_choice",
            '"g" is not one of the tools: ["f"]',
        ),
        (
            {
                "tool_choice": "required",
                "tools": [TOOL],
                "response_format": {"type": "json_object"},
            },
            "response_format",
            "must be a call",
        ),
    ],
)
def test_a_fault_is_told_by_the_callers_own_names(fields, param, says):
    error = refusal(**fields)
    assert error["param"] == param
    assert says in error["message"]
    assert error["type"] == "invalid_request_error"


def test_a_schema_is_checked_by_the_draft_that_it_names():
    # JSON Schema 2020-12, 8.1.1: `$schema` says which dialect a schema is written in
    older = TUPLE | {"$schema": "http://json-schema.org/draft-07/schema#"}
    assert read(response_format=schema(older)).json_schema == older


@pytest.mark.parametrize(
    "fields",
    [
        {"x" * 100_000: 1},
        {"model": {"x" * 100_000: 1}},
        {"n": "x" * 100_000},
        {"tool_choice": {"type": "function", "function": {"name": "x" * 100_000}}},
        {"tools": [{"function": {"name": "x" * 100_000}}]},
        {"stream_options": {"x" * 100_000: 1}},
        {"response_format": schema({"type": "x" * 100_000})},
        {"messages": [ASK, called(call_id="x" * 100_000)]},
        {"messages": [{"role": "x" * 100_000}]},
    ],
)
def test_what_is_long_is_not_repeated_whole(fields):
    assert len(json.dumps(refusal(**fields))) < 1000


# --- the body's bytes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "line 1 column 0"),
        (b'{"model": "a",\n "messages": }', "line 2 column 14"),
        (b"{'model': 1}", "line 1 column 2"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'"Hi"', "must be a JSON object"),
        ('{"model": "ü"}'.encode("latin-1"), "not UTF-8"),
        (b'{"model": "\xed\xa0\x80"}', "not UTF-8"),
        # RFC 8259, 6: "Numeric values that cannot be represented … are not permitted."
        (b'{"temperature": NaN}', "column 17"),
        (b'{"temperature": Infinity}', "column 17"),
        (b'{"seed": ' + b"1" * 5000 + b"}", "number out of range"),
        # 8.2: half of a surrogate pair; JavaScript sends it if it cuts an emoji
        (rb'{"model": "\ud83d"}', "line 1 column 18"),
        (b'{"model": "\x00"}', "control character"),
        (b"[" * 100_000, "recursion limit"),
        (b'{"a":' * 100_000, "recursion limit"),
    ],
)
def test_what_is_no_json_is_told_with_line_and_column(body, says):
    with pytest.raises(ApiError) as error:
        protocol.read_request(body)
    assert error.value.status == 400
    assert error.value.body["error"]["param"] is None
    assert says in error.value.body["error"]["message"]


BODY = {"model": MODEL_ID, "messages": [ASK | {"content": "é\u2028\x00"}]}


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(BODY).encode(),
        json.dumps(BODY, ensure_ascii=False).replace("\x00", "\\u0000").encode("utf-8-sig"),
        json.dumps(BODY).encode("utf-16"),
        # RFC 8259, 4: of equal names, "many implementations report the last"
        b'{"model": "other",' + json.dumps(BODY).encode()[1:],
        json.dumps(BODY | {"seed": None}).replace("null", "-0").encode(),
    ],
    ids=["ASCII", "byte order mark", "UTF-16", "the same name twice", "minus zero"],
)
def test_json_in_its_odder_forms_is_read(body):
    request = protocol.read_request(body)
    assert request.messages[0].content == "é\u2028\x00"
    assert request.model == MODEL_ID
    assert request.seed in (None, 0)


# --- any value at any place ------------------------------------------------------------------

FULL = {
    "model": MODEL_ID,
    "messages": [SYSTEM, ASK | {"content": [PARTS[0], PICTURE]}, called(), RESULT],
    "max_tokens": 5,
    "stop": ["a"],
    "stream_options": {"include_usage": True},
    "tools": [TOOL],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": schema({"type": "object", "properties": {"a": {"type": "string"}}}),
    "n": 1,
}
ODD = [None, True, 0, -1, 2.5, 1e308, 10**30, "", "\x00", "x", [], {}, [None], [[]], [{}]]
ODD += [{"type": []}, {"type": {}}, {"": ""}, {"type": "text"}, {"type": "function"}, "required"]


def places(value, path=()) -> list[tuple]:
    keys = value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    paths = [path] if path else []
    for key in keys:
        paths += places(value[key], (*path, key))
    return paths


@pytest.mark.parametrize("odd", ODD, ids=json.dumps)
def test_no_value_at_any_place_is_a_crash(odd):
    for path in places(FULL):
        body = json.loads(json.dumps(FULL))
        place = body
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = odd
        try:
            protocol.read_request(json.dumps(body).encode())
        except ApiError as error:
            param = error.body["error"]["param"]
            assert param is None or not set("<>[]'") & set(param), (path, param)


# --- over HTTP -------------------------------------------------------------------------------


def post(lab, body: bytes) -> httpx2.Response:
    url = f"{lab.client.base_url}chat/completions"
    return httpx2.post(url, content=body, headers={"Content-Type": "application/json"}, timeout=60)


@pytest.mark.pocket
@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b'{"model": "a", }', 400, None),
        (json.dumps(BODY | {"model": "x" * 100_000}).encode(), 404, "model"),
        (json.dumps(BODY | {"n": 2}).encode(), 400, "n"),
        (json.dumps(BODY | {"messages": [ASK | {"content": " " * 1_100_000}]}).encode(), 400,
         "messages"),
        (json.dumps(BODY | {"messages": [ASK | {"content": [PICTURE]}]}).encode(), 400,
         "messages.0"),
        (json.dumps(BODY | {"response_format": schema({"const": 1})})
         .replace('"const": 1', '"const": 1e400').encode(), 400,
         "response_format.json_schema.schema"),
    ],
)  # fmt: skip
def test_every_fault_is_an_error_in_openais_form(lab, body, status, param):
    reply = post(lab, body)
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (status, param)
    assert len(error["message"]) < 500


@pytest.mark.pocket
def test_odd_but_right_requests_are_answered(lab):
    fields = {"model": lab.model, "max_tokens": 1, "temperature": 0, "frequency_penalty": 0}
    fields |= {"top_p": None, "logprobs": False, "metadata": {"a": "b"}, "stream_options": None}
    body = json.dumps(fields | {"messages": [ASK | {"content": "\x00\u2028"}, SYSTEM, ASK]})
    reply = post(lab, body.encode())
    assert reply.json()["usage"]["completion_tokens"] == 1
