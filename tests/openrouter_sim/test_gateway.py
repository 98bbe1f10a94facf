"""What the simulator's gateway takes, answers and refuses; a scripted server stands behind it.

OpenRouter's own description (`openapi.yaml`) is the standard, where it is here.
"""

import jsonschema
import pytest
from openrouter_contract import document, fits, request_fits
from scripted_pocket import CONTEXT, MODEL, QUESTION, body, message_of

from helpers import openrouter, prices
from openrouter_sim import accounts, app, faults
from openrouter_sim.catalog import Catalog

SMALL_3 = "mistralai/mistral-small-24b-instruct-2501"
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


# Messages that OpenRouter's description knows, and what the model gets of them

CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CACHED = {"cache_control": {"type": "ephemeral", "ttl": "5m"}}
MESSAGES = {
    "a reply of this simulator": [
        {"role": "assistant", "content": "Hello", "refusal": None, "reasoning": None}
    ],
    "all fields of an assistant message": [
        {
            **{"role": "assistant", "content": "Hello", "name": "a", "model": "openai/gpt-4o"},
            **{"reasoning": "Hm.", "refusal": "no", "reasoning_details": [], "images": []},
        }
    ],
    "audio": [{"role": "assistant", "content": "Hello", "audio": {"id": "audio_1"}}],
    "a client's own extras": [
        {"role": "assistant", "content": "{}", "parsed": {}, "provider_specific_fields": {"a": 1}}
    ],
    "a call with an index": [
        {"role": "assistant", "content": None, "tool_calls": [CALL | {"index": 0}]},
        {"role": "tool", "content": "1", "tool_call_id": CALL["id"], "name": "f"},
    ],
    "a call with parsed arguments": [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [CALL | {"function": CALL["function"] | {"parsed_arguments": {}}}],
        },
        {"role": "tool", "content": [{"type": "text", "text": "1"}], "tool_call_id": CALL["id"]},
    ],
    "cache_control": [
        {"role": "assistant", "content": [{"type": "text", "text": "Hello", **CACHED}]}
    ],
}


@pytest.mark.parametrize("history", MESSAGES.values(), ids=MESSAGES)
def test_messages_of_openrouters_description_are_taken(sim, history):
    sent = body(messages=[*QUESTION, *history, *([] if "tool_calls" in history[0] else QUESTION)])
    request_fits(sent)
    assert sim.post(sent).status_code == 200
    got = sim.pocket.bodies[-1].messages
    assert [message.role for message in got] == [m["role"] for m in sent["messages"]]
    calls = history[0].get("tool_calls", [])
    assert [call.id for call in got[1].tool_calls or []] == [call["id"] for call in calls]


@pytest.mark.parametrize("role", ["system", "developer"])
def test_instructions_come_first_under_either_name(sim, role):
    text = [{"type": "text", "text": "Be short.", **CACHED}]
    sent = body(messages=[{"role": role, "content": text, "name": "n"}, *QUESTION])
    request_fits(sent)
    assert sim.post(sent).status_code == 200


@pytest.mark.parametrize("detail", [None, "original"])
def test_pictures_with_any_detail(sim, detail):
    picture = {"url": PIXEL} | ({"detail": detail} if detail else {})
    content = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": picture}]
    sent = body(messages=[{"role": "user", "content": content}])
    request_fits(sent)
    assert sim.post(sent).status_code == 200


def test_the_clients_own_message_object_goes_back(sim, client):
    reply = client.chat.completions.create(**body())
    again = [*QUESTION, reply.choices[0].message, *QUESTION]
    assert client.chat.completions.create(**body(messages=again)).choices
    whole = reply.choices[0].message.model_dump()
    assert client.chat.completions.create(**body(messages=[*QUESTION, whole, *QUESTION])).choices


def test_a_tool_with_cache_control_reaches_the_model_without_it(sim):
    tool = {"type": "function", "function": {"name": "f", "strict": True}, **CACHED}
    assert sim.post(body(tools=[tool])).status_code == 200
    assert sim.pocket.bodies[-1].tools[0].function.name == "f"


# null is the same as nothing, as in OpenRouter's description; what no provider knows is dropped

DROPPED = {
    "penalties": {"frequency_penalty": 0.5, "presence_penalty": 1, "repetition_penalty": 1.1},
    "samplers": {"top_k": 3, "min_p": 0.1, "top_a": 0.2, "logit_bias": {"1": 2.0}},
    "labels": {"user": "u", "session_id": "s", "metadata": {"a": "b"}, "trace": {"x": 1}},
    "services": {"service_tier": "flex", "prompt_cache_key": "k", "reasoning": {"effort": "low"}},
    "plugins": {"plugins": [{"id": "context-compression"}], "transforms": ["middle-out"]},
    "nulls inside": {
        "provider": {"order": None, "allow_fallbacks": None, "max_price": {"prompt": None}},
        "plugins": [],
        "models": [],
    },
    "usage": {"usage": {"include": True}, "stream_options": {"include_usage": True}},
    "routing": {
        "provider": {
            **{"sort": "price", "zdr": True, "data_collection": "deny", "quantizations": None},
            **{"preferred_max_latency": {"p50": 1}, "max_price": {"prompt": 1, "image": "0"}},
        },
    },
}


@pytest.mark.parametrize(
    "name", ["models", "provider", "stream", "tools", "user", "top_k", "top_p"]
)
def test_null_is_the_same_as_nothing(sim, name):
    assert sim.post(body() | {name: None}).status_code == 200


@pytest.mark.parametrize("more", DROPPED.values(), ids=DROPPED)
def test_what_has_no_effect_here_is_taken(sim, more):
    assert sim.post(body(**more)).status_code == 200


# What is wrong with a request is said in its own words, with a status below 500

WRONG = {
    "no model": ({"model": None}, "No models provided"),
    "a model that is no string": ({"model": 5}, "model"),
    "an unknown model": ({"model": "x/y"}, "x/y is not a valid model ID"),
    "a very long model": ({"model": "m" * 10**6}, "1,000,000 characters"),
    "models that are no list": ({"models": MODEL}, "models"),
    "models with something else": ({"models": [MODEL, None]}, "models.1"),
    "models with an unknown one": ({"models": ["x/y"]}, "x/y is not a valid"),
    "a provider's name": ({"provider": "Simulated A"}, "provider"),
    "an unknown preference": ({"provider": {"fastest": True}}, "provider.fastest"),
    "an order that is no list": ({"provider": {"order": "Simulated A"}}, "provider.order"),
    "a word for yes": ({"provider": {"allow_fallbacks": "yes"}}, "allow_fallbacks"),
    "a price in words": ({"provider": {"max_price": {"prompt": "cheap"}}}, "max_price.prompt"),
    "a price for all": ({"provider": {"max_price": 1}}, "provider.max_price"),
    "stream in words": ({"stream": "true"}, "stream"),
    "no messages": ({"messages": None}, "messages"),
    "messages of nothing": ({"messages": []}, "messages"),
    "messages that are no list": ({"messages": "Hi"}, "messages"),
    "a message that is no object": ({"messages": ["Hi"]}, "messages"),
    "a part that is no object": ({"messages": [{"role": "user", "content": [1]}]}, "messages"),
    "a part of another kind": (
        {"messages": [{"role": "user", "content": [{"type": [1]}]}]},
        "mess",
    ),
    "half of a character": ({"messages": [{"role": "user", "content": "\ud800"}]}, ""),
    "tools by name": ({"tools": "f"}, "tools"),
    "a tool of the server": ({"tools": [{"type": "openrouter:web_search"}]}, "tools"),
}


@pytest.mark.parametrize(("more", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_request_is_refused_with_its_place(sim, more, words):
    reply = sim.post(body() | more)
    assert 400 <= reply.status_code < 500, reply.text
    assert words in message_of(reply)
    assert reply.json()["error"]["code"] == reply.status_code
    assert len(reply.text) < 2000


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"[]", b"\xff\xfe\xff", b'{"a": NaN}'),
        *(b"[" * 10**5, b'{"n": ' + b"9" * 10**4 + b"}"),
    ],
)
def test_a_body_that_is_no_json_object(sim, data):
    reply = sim.post(data)
    assert reply.status_code == 400
    assert "JSON" in message_of(reply)


def test_numbers_that_json_has_and_python_prints_otherwise(sim):
    assert sim.post(b'{"model": "%s", "temperature": 1e999, "messages": []}'
                % MODEL.encode()).status_code == 400  # fmt: skip


@pytest.mark.parametrize(
    ("model", "part", "status", "words"),
    [
        (SMALL_3, {"type": "image_url", "image_url": {"url": PIXEL}}, 404, "image input"),
        (MODEL, {"type": "input_audio", "input_audio": {}}, 404, "audio input"),
        (MODEL, {"type": "video_url", "video_url": {}}, 404, "video input"),
        (MODEL, {"type": "file", "file": {"file_data": "x"}}, 400, "file"),
    ],
)
def test_what_a_model_cannot_read(sim, model, part, status, words):
    messages = [{"role": "user", "content": [{"type": "text", "text": "a"}, part]}]
    reply = sim.post(body(model=model, messages=messages))
    assert reply.status_code == status
    assert words in message_of(reply)
    if status == 404 and words == "image input":  # the next model can
        assert sim.post(body(model=model, models=[MODEL], messages=messages)).status_code == 200


def test_models_without_model_and_providers_by_slug(sim):
    fallback = {"messages": QUESTION, "models": [MODEL], "max_tokens": 1}
    assert sim.post(fallback).json()["model"] == MODEL
    for routing in (
        {"only": ["simulated-b"]},
        {"order": ["Simulated B"]},
        {"ignore": ["simulated-a"]},
    ):
        assert sim.post(body(provider=routing)).json()["provider"] == "Simulated B"
    reply = sim.post(body(provider={"only": ["openai"]}))
    assert reply.status_code == 404


def test_a_model_is_listed_with_both_limits_of_the_prompt(sim):
    entry = sim.get(f"/model/{MODEL}").json()["data"]
    assert entry["context_length"] == 128_000
    assert entry["per_request_limits"]["prompt_tokens"] == CONTEXT
    assert f"{CONTEXT:,} tokens" in entry["description"]


def test_providers_and_models_in_turn(sim):
    assert sim.post(body(model=f"{MODEL}:nitro")).json()["model"] == f"{MODEL}:nitro"
    assert sim.post(body(), "provider-down").json()["provider"] == "Simulated B"
    strict = {"order": ["Simulated A"], "allow_fallbacks": False}
    assert sim.post(body(provider=strict), "provider-down").status_code == 502
    tool = {"type": "function", "function": {"name": "f"}}
    assert "tool use" in message_of(sim.post(body(model=SMALL_3, tools=[tool])))
    assert sim.post(body(model=SMALL_3, models=[MODEL], tools=[tool])).json()["model"] == MODEL
    cheap = {"max_price": {"completion": "0.01"}}
    assert "maximum price" in message_of(sim.post(body(provider=cheap)))
    insist = {"top_k": 3, "provider": {"require_parameters": True}}
    assert "parameters" in message_of(sim.post(body(**insist)))


# Keys and money


@pytest.mark.parametrize(
    ("key", "status"),
    [
        (faults.REVOKED, 401),
        (faults.NO_CREDITS, 402),
        ("sk-or-v1-", 401),
        ("hello", 401),
        ("sk-or-v1-any-other-well-formed-key", 200),
    ],
)
def test_keys(sim, key, status):
    reply = sim.post(body(), key=key)
    assert reply.status_code == status
    assert key not in reply.text or key == "hello"


def test_too_many_requests_are_told_how_long_to_wait(sim):
    replies = [sim.post(body(), key=faults.THROTTLED) for _ in range(accounts.THROTTLE + 1)]
    assert [reply.status_code for reply in replies] == [200] * accounts.THROTTLE + [429]
    assert replies[-1].headers["retry-after"] == "2"


def test_a_cost_is_tokens_times_the_snapshots_prices_and_is_charged(sim):
    key = "sk-or-v1-of-one-request"
    usage = sim.post(body(max_tokens=7), key=key).json()["usage"]
    assert usage["cost"] == pytest.approx(10 * 75e-9 + 7 * 200e-9)
    assert sim.get("/key", key).json()["data"]["usage"] == usage["cost"]


def test_an_answer_without_a_token_costs_nothing_and_says_so(sim, client, monkeypatch):
    monkeypatch.setattr(sim.pocket, "is_empty", True)
    assert client.chat.completions.create(**body()).usage.cost == 0
    assert list(client.chat.completions.create(**body(stream=True)))[-1].usage.cost == 0


def test_todays_prices_are_the_servers(client):
    listed = openrouter.list_prices(client)
    snapshot = prices.priced_models()
    assert set(listed.index) == set(snapshot)
    for model, row in snapshot.items():
        assert listed.loc[model, "input"] == pytest.approx(row["input"])
        assert listed.loc[model, "output"] == pytest.approx(row["output"])
    assert openrouter.list_prices(client, "no-such").empty


# The rest of the API


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("/models", "/models"),
        ("/models/count", "/models/count"),
        (f"/model/{MODEL}", "/model/{author}/{slug}"),
        (f"/models/{SMALL_3}/endpoints", "/models/{author}/{slug}/endpoints"),
        ("/providers", "/providers"),
        ("/key", "/key"),
        ("/credits", "/credits"),
        ("/generation?id={id}", "/generation"),
    ],
)
def test_replies_fit_openrouters_description(sim, path, address):
    key = faults.MANAGEMENT if path == "/credits" else faults.KEY
    path = path.format(id=sim.post(body()).json()["id"]) if "{id}" in path else path
    reply = sim.get(path, key)
    assert reply.status_code == 200
    content = document()["paths"][address]["get"]["responses"]["200"]["content"]
    data = reply.json()
    for endpoint in data["data"].get("endpoints", []) if isinstance(data["data"], dict) else []:
        endpoint["provider_name"] = "Mistral"  # the description lists the real ones only
    fits(data, content["application/json"]["schema"])


def test_replies_have_what_openrouters_python_client_needs(sim):
    """Fields that its version 1.3 requires and the older description does not have."""
    data = sim.get("/key").json()["data"]
    newer = {"allowed_data_regions", "budgets", "effective_budget", "free_model_daily_requests"}
    assert newer | {"organization_id", "workspace_id"} <= set(data)
    assert data["budgets"] == [data["effective_budget"]]
    assert data["effective_budget"]["spend_usd"] == data["usage"]
    endpoints = sim.get(f"/models/{MODEL}/endpoints").json()["data"]["endpoints"]
    newer = {"native_tools", "service_tier", "supports_diarization", "supports_tool_choice"}
    assert all(newer <= set(endpoint) for endpoint in endpoints)


def test_a_model_by_its_id(client, sim):
    assert client.models.retrieve(MODEL).id == MODEL
    assert sim.get(f"/model/{MODEL}").json()["data"]["id"] == MODEL
    details = sim.get(f"/model/{MODEL}").json()["data"]["links"]["details"]
    assert sim.get(details.removeprefix("/api/v1")).status_code == 200
    reply = sim.get("/models/no/such")
    assert reply.status_code == 404
    assert MODEL in message_of(reply)


def test_a_generation_is_shown_to_its_own_key(sim):
    reply = sim.post(body(max_tokens=3))
    assert reply.headers["x-generation-id"] == reply.json()["id"]
    path = f"/generation?id={reply.json()['id']}"
    data = sim.get(path).json()["data"]
    assert data["total_cost"] == reply.json()["usage"]["cost"]
    assert data["tokens_completion"] == 3
    assert data["cancelled"] is False
    for other in (sim.get(path, "sk-or-v1-somebody-else"), sim.get("/generation")):
        assert other.status_code == 404


def test_only_a_management_key_reads_credits_and_it_does_nothing_else(sim):
    assert sim.get("/credits").status_code == 403
    data = sim.get("/credits", faults.MANAGEMENT).json()["data"]
    assert data["total_credits"] > data["total_usage"] >= 0
    assert sim.post(body(), key=faults.MANAGEMENT).status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/api/v1/nothing", 404, "Under /api/v1 are POST /chat/completions"),
        ("POST", "/api/v1/responses", 404, "chat completions only"),
        ("POST", "/v1/chat/completions", 404, "the base URL http://127.0.0.1:"),
        ("GET", "/", 404, "the base URL http://127.0.0.1:"),
        ("GET", "/api/v1/" + "x" * 5000, 404, "…"),
        ("GET", "/api/v1/chat/completions", 405, "takes POST only"),
        ("DELETE", "/api/v1/key", 405, "takes GET"),
    ],
)
def test_a_path_or_method_that_is_not_here(sim, method, path, status, words):
    url = sim.base_url.removesuffix(app.BASE_PATH) + path
    reply = sim.http.request(method, url)
    assert reply.status_code == status
    assert words in message_of(reply)
    assert len(reply.text) < 1000


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Basic abc", "sk-or-v1-simulated-working", "Bearer é"],
)
def test_no_key_or_none_that_can_be_read(sim, authorization):
    headers = {"Authorization": authorization.encode()}
    assert sim.http.get(f"{sim.base_url}/key", headers=headers).status_code == 401


@pytest.mark.parametrize(
    "row",
    [
        *(None, {}, {"input": 1, "output": 2}, {"input": "a", "output": 1, "context": 1}),
        *({"input": -1, "output": 1, "context": 1}, {"input": 1, "output": "NaN", "context": 1}),
    ],
)
def test_a_model_without_a_price_is_named(row):
    with pytest.raises(ValueError, match=r"a/b.*input and output"):
        Catalog({"a/b": row})


@pytest.mark.parametrize(
    ("headers", "size", "status"),
    [({}, 33 * 2**20, 413), ({"Host": "evil.example.com"}, 2, 403)],
)
def test_the_guards_refusals_have_openrouters_form(sim, headers, size, status):
    reply = sim.post(b" " * size, **headers)
    assert reply.status_code == reply.json()["error"]["code"] == status
    assert len(message_of(reply)) > 20


# The record


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": []},
        {"messages": QUESTION, "temperature": "warm"},
        {"messages": QUESTION, "provider": {"fastest": True}},
        {"messages": [{"role": "nobody", "content": "Hi"}]},
    ],
)
def test_the_description_can_be_broken(wrong):
    with pytest.raises(jsonschema.ValidationError):
        request_fits(wrong)


def test_no_key_is_on_record(sim):
    secret = "sk-or-v1-never-to-be-written"
    talk = [{"role": "user", "content": f"My key is {secret}, my other one sk-proj-123456789."}]
    sim.post(body(messages=talk, user=secret), fault=secret, key=secret)
    sim.post(body(messages=talk), key=secret)
    sim.post(secret.encode(), key="of-another-form-123")
    sim.post(b'{"model": "of-another-form-123"}', key="of-another-form-123")
    sim.get(f"/models/{secret}", secret)
    text = sim.log.read_text(encoding="utf-8")
    assert "My key is [key], my other one [key]." in text
    for written in (secret, "sk-proj-123456789", "of-another-form-123"):
        assert written not in text
