"""What the simulator's gateway takes, answers and refuses; a scripted server stands behind it.

OpenRouter's own description (`openapi.yaml`) is the standard, where it is here.
"""

import json

import httpx2
import openai
import pytest
from openrouter_contract import document, fits, request_fits
from scripted_pocket import CONTEXT, scripted_simulator

from helpers import openrouter, prices
from openrouter_sim import app, faults, recorder
from openrouter_sim.catalog import Catalog

MODEL = "mistralai/mistral-small-3.2-24b-instruct"
SMALL_3 = "mistralai/mistral-small-24b-instruct-2501"
QUESTION = [{"role": "user", "content": "Hi"}]
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


@pytest.fixture(scope="module")
def sim(tmp_path_factory):
    log = tmp_path_factory.mktemp("wire") / "log.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(recorder.LOG_VARIABLE, str(log))
        with scripted_simulator(patch, prices.priced_models()) as simulator:
            simulator.log = log
            yield simulator


@pytest.fixture(scope="module")
def client(sim):
    return openai.OpenAI(base_url=sim.base_url, api_key=faults.KEY, max_retries=0)


HTTP = httpx2.Client(trust_env=False)


def post(sim, body, fault="", key=faults.KEY, **headers) -> httpx2.Response:
    """A request as a program without any SDK sends it; `body` may be bytes."""
    headers |= {"Authorization": f"Bearer {key}"} | ({"X-Simulate": fault} if fault else {})
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    url = f"{sim.base_url}/chat/completions"
    return HTTP.post(url, content=data, headers=headers)


def get(sim, path, key=faults.KEY) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {key}"}
    return HTTP.get(f"{sim.base_url}{path}", headers=headers)


def body(**more) -> dict:
    return {"model": MODEL, "messages": QUESTION, "max_tokens": 2} | more


def message_of(reply: httpx2.Response) -> str:
    return reply.json()["error"]["message"]


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
    assert post(sim, sent).status_code == 200
    got = sim.pocket.bodies[-1].messages
    assert [message.role for message in got] == [m["role"] for m in sent["messages"]]
    calls = history[0].get("tool_calls", [])
    assert [call.id for call in got[1].tool_calls or []] == [call["id"] for call in calls]


@pytest.mark.parametrize("role", ["system", "developer"])
def test_instructions_come_first_under_either_name(sim, role):
    text = [{"type": "text", "text": "Be short.", **CACHED}]
    sent = body(messages=[{"role": role, "content": text, "name": "n"}, *QUESTION])
    request_fits(sent)
    assert post(sim, sent).status_code == 200


@pytest.mark.parametrize("detail", [None, "auto", "low", "high", "original"])
def test_pictures_with_any_detail(sim, detail):
    picture = {"url": PIXEL} | ({"detail": detail} if detail else {})
    content = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": picture}]
    sent = body(messages=[{"role": "user", "content": content}])
    request_fits(sent)
    assert post(sim, sent).status_code == 200


def test_the_clients_own_message_object_goes_back(sim, client):
    reply = client.chat.completions.create(**body())
    again = [*QUESTION, reply.choices[0].message, *QUESTION]
    assert client.chat.completions.create(**body(messages=again)).choices
    whole = reply.choices[0].message.model_dump()
    assert client.chat.completions.create(**body(messages=[*QUESTION, whole, *QUESTION])).choices


def test_a_tool_with_cache_control_reaches_the_model_without_it(sim):
    tool = {"type": "function", "function": {"name": "f", "strict": True}, **CACHED}
    assert post(sim, body(tools=[tool])).status_code == 200
    assert sim.pocket.bodies[-1].tools[0].function.name == "f"


# null is the same as nothing, as in OpenRouter's description; what no provider knows is dropped

NULLABLE = {
    *("frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens"),
    *("min_p", "parallel_tool_calls", "presence_penalty", "prompt_cache_key", "reasoning_effort"),
    *("repetition_penalty", "route", "seed", "service_tier", "stop", "stream_options"),
    *("temperature", "top_a", "top_k", "top_logprobs", "top_p", "provider"),
    *("stream", "tools", "tool_choice", "response_format", "models", "plugins", "user"),  # OpenAI's
}
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


@pytest.mark.parametrize("name", sorted(NULLABLE))
def test_null_is_the_same_as_nothing(sim, name):
    assert post(sim, body(max_tokens=2) | {name: None}).status_code == 200


@pytest.mark.parametrize("more", DROPPED.values(), ids=DROPPED)
def test_what_has_no_effect_here_is_taken(sim, more):
    assert post(sim, body(**more)).status_code == 200


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
    "a list of providers": ({"provider": ["Simulated A"]}, "provider"),
    "an unknown preference": ({"provider": {"fastest": True}}, "provider.fastest"),
    "an order that is no list": ({"provider": {"order": "Simulated A"}}, "provider.order"),
    "an order of numbers": ({"provider": {"order": [1]}}, "provider.order.0"),
    "a word for yes": ({"provider": {"allow_fallbacks": "yes"}}, "allow_fallbacks"),
    "a price in words": ({"provider": {"max_price": {"prompt": "cheap"}}}, "max_price.prompt"),
    "a price below 0": ({"provider": {"max_price": {"prompt": -1}}}, "max_price.prompt"),
    "a price that is no number": ({"provider": {"max_price": {"prompt": "NaN"}}}, "max_price"),
    "a price that is an object": ({"provider": {"max_price": {"prompt": {}}}}, "max_price"),
    "a price for all": ({"provider": {"max_price": 1}}, "provider.max_price"),
    "plugins by name": ({"plugins": ["web"]}, "plugins.0"),
    "an object of plugins": ({"plugins": {"id": "web"}}, "plugins"),
    "a plugin without an id": ({"plugins": [{}]}, "plugins.0.id"),
    "a transform": ({"transforms": "middle-out"}, "transforms"),
    "stream in words": ({"stream": "true"}, "stream"),
    "stream as a number": ({"stream": 1}, "stream"),
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
    "a long session": ({"session_id": "s" * 300}, "session_id"),
}


@pytest.mark.parametrize(("more", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_request_is_refused_with_its_place(sim, more, words):
    reply = post(sim, body() | more)
    assert 400 <= reply.status_code < 500, reply.text
    assert words in message_of(reply)
    assert reply.json()["error"]["code"] == reply.status_code
    assert len(reply.text) < 2000


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"[]", b"null", b'"a"', b"\xff\xfe\xff", b'{"a": NaN}', b"{} {}"),
        *(b"[" * 10**5, b'{"a":' * 10**5, b'{"n": ' + b"9" * 10**4 + b"}"),
    ],
)
def test_a_body_that_is_no_json_object(sim, data):
    reply = post(sim, data)
    assert reply.status_code == 400
    assert "JSON" in message_of(reply)


def test_numbers_that_json_has_and_python_prints_otherwise(sim):
    assert post(sim, b'{"model": "%s", "temperature": 1e999, "messages": []}'
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
    reply = post(sim, body(model=model, messages=messages))
    assert reply.status_code == status
    assert words in message_of(reply)
    if status == 404 and words == "image input":  # the next model can
        assert post(sim, body(model=model, models=[MODEL], messages=messages)).status_code == 200


def test_models_without_model_and_providers_by_slug(sim):
    fallback = {"messages": QUESTION, "models": [MODEL], "max_tokens": 1}
    assert post(sim, fallback).json()["model"] == MODEL
    for routing in (
        {"only": ["simulated-b"]},
        {"order": ["Simulated B"]},
        {"ignore": ["simulated-a"]},
    ):
        assert post(sim, body(provider=routing)).json()["provider"] == "Simulated B"
    reply = post(sim, body(provider={"only": ["openai"]}))
    assert reply.status_code == 404


def test_a_prompt_that_is_too_long_for_the_pocket_model_names_both_limits(sim, monkeypatch):
    entry = get(sim, f"/model/{MODEL}").json()["data"]
    assert entry["context_length"] == 128_000
    assert entry["per_request_limits"]["prompt_tokens"] == CONTEXT
    assert f"{CONTEXT:,} tokens" in entry["description"]


# Failures on request


def test_a_failure_ends_for_every_client(sim):
    """Whether a program counts its retries for the server, always says 0, or says nothing."""
    for headers in ({}, {"x-stainless-retry-count": "0"}):
        for fault, status in (("unavailable 2", 503), ("rate-limit 1", 429)):
            question = [{"role": "user", "content": f"{fault} {headers}"}]
            sent, times = body(messages=question), int(fault[-1])
            statuses = [post(sim, sent, fault, **headers).status_code for _ in range(5)]
            again = [status] * times + [200]
            assert statuses == (again * 5)[:5]


def test_another_body_key_or_failure_is_another_request(sim):
    for number in range(3):
        sent = body(messages=[{"role": "user", "content": f"Number {number}"}])
        for key in (faults.KEY, "sk-or-v1-somebody-else"):
            for fault in ("unavailable 1", "overloaded 1"):
                assert post(sim, sent, fault, key).status_code >= 500
                assert post(sim, sent, fault, key).status_code == 200


def test_the_count_of_openais_clients_is_believed(sim):
    for sent in ("2", "7"):
        reply = post(sim, body(), "unavailable 2", **{"x-stainless-retry-count": sent})
        assert reply.status_code == 200
    for sent in ("-1", "two", "9" * 5000, ""):
        reply = post(sim, body(seed=7), "unavailable 9", **{"x-stainless-retry-count": sent})
        assert reply.status_code == 503


@pytest.mark.parametrize(
    "header",
    ["no-such", "unavailable two", "unavailable 1 2", "unavailable -1", "slow 99999", "; ="],
)
def test_a_header_that_names_no_failure(sim, header):
    reply = post(sim, body(), header)
    assert reply.status_code == 400
    assert "X-Simulate knows: bad-request, " in message_of(reply)


@pytest.mark.parametrize("name", ["mid-stream", "truncated", "cut", "comments"])
def test_a_failure_of_streams_needs_a_stream(sim, name):
    reply = post(sim, body(), name)
    assert reply.status_code == 400
    assert '"stream": true' in message_of(reply)
    assert post(sim, body(stream=True), name + " 0").status_code == 200


# When the model behind it fails


@pytest.mark.parametrize(("status", "expected"), [(500, 502), (400, 400)])
def test_an_answer_that_breaks_off_is_an_error_and_free_unless_it_streamed(
    sim, monkeypatch, status, expected
):
    monkeypatch.setattr(sim.pocket, "fails_after", 3)
    monkeypatch.setattr(sim.pocket, "status", status)
    key = f"sk-or-v1-of-a-broken-answer-{status}"
    reply = post(sim, body(max_tokens=9), key=key)
    assert reply.status_code == expected
    assert "the engine fails" in message_of(reply)
    assert get(sim, "/key", key).json()["data"]["usage"] == 0
    with openai.OpenAI(base_url=sim.base_url, api_key=key, max_retries=0) as client:
        stream = client.chat.completions.create(**body(max_tokens=9), stream=True)
        got = openrouter.collect(stream)
    assert got.text == "w0 w1 w2 "
    assert "the engine fails" in str(got.error)
    assert get(sim, "/key", key).json()["data"]["usage"] == 10 * 75e-9 + 3 * 200e-9


def test_a_server_that_is_gone_is_a_502(monkeypatch):
    with scripted_simulator(monkeypatch, prices.priced_models()) as sim:
        sim.simulator.gateway._pocket.base_url = "http://127.0.0.1:9/v1/"
        for reply in (post(sim, body()), post(sim, body(stream=True)), get(sim, "/models")):
            assert reply.status_code == 502
            assert "pocket server does not answer" in message_of(reply)


# The rest of the API


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("/models", "/models"),
        ("/models?supported_parameters=tools&limit=1", "/models"),
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
    path = path.format(id=post(sim, body()).json()["id"]) if "{id}" in path else path
    reply = get(sim, path, key)
    assert reply.status_code == 200
    content = document()["paths"][address]["get"]["responses"]["200"]["content"]
    data = reply.json()
    for endpoint in data["data"].get("endpoints", []) if isinstance(data["data"], dict) else []:
        endpoint["provider_name"] = "Mistral"  # the description lists the real ones only
    fits(data, content["application/json"]["schema"])


def test_replies_have_what_openrouters_python_client_needs(sim):
    """Fields that its version 1.3 requires and the older description does not have."""
    data = get(sim, "/key").json()["data"]
    newer = {"allowed_data_regions", "budgets", "effective_budget", "free_model_daily_requests"}
    assert newer | {"organization_id", "workspace_id"} <= set(data)
    assert data["budgets"] == [data["effective_budget"]]
    assert data["effective_budget"]["spend_usd"] == data["usage"]
    endpoints = get(sim, f"/models/{MODEL}/endpoints").json()["data"]["endpoints"]
    newer = {"native_tools", "service_tier", "supports_diarization", "supports_tool_choice"}
    assert all(newer <= set(endpoint) for endpoint in endpoints)


def test_a_model_by_its_id(client, sim):
    assert client.models.retrieve(MODEL).id == MODEL
    assert get(sim, f"/model/{MODEL}").json()["data"]["id"] == MODEL
    details = get(sim, f"/model/{MODEL}").json()["data"]["links"]["details"]
    assert get(sim, details.removeprefix("/api/v1")).status_code == 200
    reply = get(sim, "/models/no/such")
    assert reply.status_code == 404
    assert MODEL in message_of(reply)


def test_a_list_in_pages_and_by_what_models_can(sim):
    def ids(query):
        return [entry["id"] for entry in get(sim, f"/models?{query}").json()["data"]]

    every = ids("")
    assert ids("limit=2") + ids("limit=2&offset=2") == every
    assert ids("offset=9") == []
    assert ids("supported_parameters=tools") == [MODEL]
    assert SMALL_3 not in ids("input_modalities=text,image")
    assert ids("q=3.2-24B") == [MODEL]
    assert ids("context=999999999") == []
    for query in ("limit=-1", "offset=two", "context=1e9"):
        assert get(sim, f"/models?{query}").status_code == 400


def test_a_generation_is_told_to_its_own_key(sim):
    reply = post(sim, body(max_tokens=3, user="me"))
    assert reply.headers["x-generation-id"] == reply.json()["id"]
    path = f"/generation?id={reply.json()['id']}"
    data = get(sim, path).json()["data"]
    assert data["total_cost"] == reply.json()["usage"]["cost"]
    assert data["tokens_completion"] == 3
    assert data["external_user"] == "me"
    assert data["cancelled"] is False
    for other in (get(sim, path, "sk-or-v1-somebody-else"), get(sim, "/generation")):
        assert other.status_code == 404


def test_only_a_management_key_reads_credits_and_it_does_nothing_else(sim):
    assert get(sim, "/credits").status_code == 403
    data = get(sim, "/credits", faults.MANAGEMENT).json()["data"]
    assert data["total_credits"] > data["total_usage"] >= 0
    assert post(sim, body(), key=faults.MANAGEMENT).status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/api/v1/nothing", 404, "Under /api/v1 are POST /chat/completions"),
        ("POST", "/api/v1/responses", 404, "chat completions only"),
        ("POST", "/api/v1/embeddings", 404, "chat completions only"),
        ("POST", "/v1/chat/completions", 404, "the base URL http://127.0.0.1:"),
        ("GET", "/", 404, "the base URL http://127.0.0.1:"),
        ("GET", "/api/v1/" + "x" * 5000, 404, "…"),
        ("GET", "/api/v1/chat/completions", 405, "takes POST only"),
        ("DELETE", "/api/v1/key", 405, "takes GET"),
    ],
)
def test_a_path_or_method_that_is_not_here(sim, method, path, status, words):
    url = sim.base_url.removesuffix(app.BASE_PATH) + path
    reply = HTTP.request(method, url)
    assert reply.status_code == status
    assert words in message_of(reply)
    assert len(reply.text) < 1000


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Basic abc", "sk-or-v1-simulated-working", "Bearer é"],
)
def test_no_key_or_none_that_can_be_read(sim, authorization):
    headers = {"Authorization": authorization.encode()}
    assert HTTP.get(f"{sim.base_url}/key", headers=headers).status_code == 401


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
    reply = post(sim, b" " * size, **headers)
    assert reply.status_code == reply.json()["error"]["code"] == status
    assert len(message_of(reply)) > 20


# The record


def test_no_key_is_on_record(sim):
    secret = "sk-or-v1-never-to-be-written"
    talk = [{"role": "user", "content": f"My key is {secret}, my other one sk-proj-123456789."}]
    post(sim, body(messages=talk, user=secret), fault=secret, key=secret)
    post(sim, body(messages=talk), key=secret)
    post(sim, secret.encode(), key="of-another-form-123")
    post(sim, b'{"model": "of-another-form-123"}', key="of-another-form-123")
    get(sim, f"/models/{secret}", secret)
    text = sim.log.read_text(encoding="utf-8")
    assert "My key is [key], my other one [key]." in text
    for written in (secret, "sk-proj-123456789", "of-another-form-123"):
        assert written not in text
