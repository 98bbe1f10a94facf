"""The simulator: OpenRouter's dialect, held against OpenRouter's own description where it is here.

The description (`openapi.yaml`) is not part of the kit. Without it the contract tests are skipped
and say so.
"""

import json
import os
import signal
import subprocess
import sys
import time

import httpx2
import jsonschema
import openai
import pytest
from openrouter_contract import check_record, document, fits, request_fits

from helpers import openrouter, prices
from helpers.backends import connect
from openrouter_sim import accounts, faults, recorder

QUESTION = [{"role": "user", "content": "Name three colours."}]


@pytest.fixture(scope="module")
def sim(model_folder, tmp_path_factory):
    """The backend, with everything that goes over the wire on record."""
    log = tmp_path_factory.mktemp("wire") / "log.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(recorder.LOG_VARIABLE, str(log))
        patch.delenv("OPENROUTER_API_KEY", raising=False)
        lab = connect("openrouter-sim")
    lab.log = log
    yield lab
    lab.close()


@pytest.fixture
def once(sim):
    return sim.client.with_options(max_retries=0)


def create(client, lab, fault=None, **more):
    headers = {"X-Simulate": fault} if fault else {}
    request = {"model": lab.model, "messages": QUESTION, "max_tokens": 12} | more
    return client.chat.completions.create(**request, extra_headers=headers)


def with_key(sim, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=sim.client.base_url, api_key=key, max_retries=0)


# What it answers


def test_the_text_is_the_pocket_models_own(sim, lab, once):
    request = {"messages": QUESTION, "max_tokens": 12, "temperature": 0}
    own = lab.client.chat.completions.create(model=lab.model, **request)
    reply = once.chat.completions.create(model=sim.model, **request)
    assert reply.choices[0].message.content == own.choices[0].message.content
    assert reply.usage.completion_tokens == own.usage.completion_tokens
    assert reply.id.startswith("gen-")
    assert reply.provider == "Simulated A"
    assert reply.model == sim.model


def test_cost_is_tokens_times_the_snapshots_prices_and_is_charged(sim, once):
    before = openrouter.key_status(sim.client).usage
    usage = create(once, sim).usage
    by_hand = usage.prompt_tokens * 0.075e-6 + usage.completion_tokens * 0.20e-6
    assert usage.cost == pytest.approx(by_hand)
    assert openrouter.key_status(sim.client).usage - before == pytest.approx(by_hand)


def test_todays_prices_are_the_servers(sim):
    listed = openrouter.list_prices(sim.client)
    snapshot = json.loads(prices.PRICES.read_text(encoding="utf-8"))["models"]
    assert set(listed.index) == set(snapshot)
    for model, row in snapshot.items():
        assert listed.loc[model, "input"] == pytest.approx(row["input"])
        assert listed.loc[model, "output"] == pytest.approx(row["output"])
    assert openrouter.list_prices(sim.client, "no-such").empty


def test_a_streams_last_chunk_has_the_usage_unasked(sim, once):
    chunks = list(create(once, sim, stream=True))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.cost > 0
    assert all(chunk.provider == "Simulated A" for chunk in chunks)


def test_tools_and_schemas_pass_through(sim, once):
    parameters = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    tool = {"type": "function", "function": {"name": "roll", "parameters": parameters}}
    # The same tokens in every run: a sampled answer can be longer than 60 of them.
    same = {"temperature": 0, "seed": 1, "max_tokens": 60}
    reply = create(once, sim, tools=[tool], tool_choice="required", **same)
    assert reply.choices[0].finish_reason == "tool_calls"
    assert reply.choices[0].message.tool_calls[0].function.name == "roll"
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": parameters}}
    reply = create(once, sim, response_format=form, **same)
    assert isinstance(json.loads(reply.choices[0].message.content)["n"], int)


def test_routing_wishes(sim, once):
    assert create(once, sim, model=f"{sim.model}:nitro").model == f"{sim.model}:nitro"
    b_only = {"provider": {"only": ["Simulated B"]}}
    assert create(once, sim, extra_body=b_only).provider == "Simulated B"
    assert create(once, sim, "provider-down").provider == "Simulated B"
    strict = {"provider": {"order": ["Simulated A"], "allow_fallbacks": False}}
    with pytest.raises(openai.InternalServerError):
        create(once, sim, "provider-down", extra_body=strict)
    # The next model if the first has no provider for it; but each must be a model.
    small_3 = "mistralai/mistral-small-24b-instruct-2501"
    tool = {"type": "function", "function": {"name": "f"}}
    fallback = {"tools": [tool], "extra_body": {"models": [sim.model]}}
    assert create(once, sim, model=small_3, **fallback).model == sim.model
    with pytest.raises(openai.BadRequestError, match="not a valid model"):
        create(once, sim, model="no/such", **fallback)
    with pytest.raises(openai.NotFoundError, match="maximum price"):
        create(once, sim, extra_body={"provider": {"max_price": {"completion": "0.01"}}})
    # A parameter that no provider here knows is dropped, unless it is insisted on.
    create(once, sim, extra_body={"top_k": 3})
    insist = {"top_k": 3, "provider": {"require_parameters": True}}
    with pytest.raises(openai.NotFoundError, match="parameters"):
        create(once, sim, extra_body=insist)


# What it refuses by itself


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
    with with_key(sim, key) as client:
        if status == 200:
            assert create(client, sim).choices
            return
        with pytest.raises(openai.APIStatusError) as caught:
            create(client, sim)
    assert caught.value.status_code == status
    assert key not in str(caught.value) or key == "hello"


def test_a_request_without_a_key(sim):
    reply = httpx2.post(f"{sim.client.base_url}chat/completions", json={"model": sim.model})
    assert reply.status_code == 401


def test_a_balance_runs_out(sim):
    with with_key(sim, faults.NEARLY_EMPTY) as client:
        statuses = []
        while len(statuses) < 50 and 402 not in statuses:
            try:
                create(client, sim)
                statuses.append(200)
            except openai.APIStatusError as error:
                statuses.append(error.status_code)
    assert statuses[:2] == [200, 200]
    assert statuses[-1] == 402


def test_too_many_requests_are_told_how_long_to_wait(sim):
    with with_key(sim, faults.THROTTLED) as client:
        statuses = []
        for _ in range(accounts.THROTTLE + 1):
            try:
                create(client, sim, "moderation")
            except openai.APIStatusError as error:
                statuses.append(error.status_code)
                waits = error.response.headers.get("retry-after")
    assert statuses == [403] * accounts.THROTTLE + [429]
    assert waits == "2"


def test_wrong_models_tools_and_contexts(sim, once):
    with pytest.raises(openai.BadRequestError, match="not a valid model ID"):
        create(once, sim, model="mistral-small-3")
    tool = {"type": "function", "function": {"name": "f"}}
    with pytest.raises(openai.NotFoundError, match="tool use"):
        create(once, sim, model="mistralai/mistral-small-24b-instruct-2501", tools=[tool])
    with pytest.raises(openai.BadRequestError) as caught:
        create(once, sim, messages=[{"role": "user", "content": "word " * 9000}])
    assert caught.value.body["metadata"]["error_type"] == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="X-Simulate knows"):
        create(once, sim, "no-such-fault")


# Faults


@pytest.mark.parametrize("name", [n for n, f in faults.FAULTS.items() if not f.effect])
def test_an_error_status_comes_as_the_table_says(sim, once, name):
    fault = faults.FAULTS[name]
    with pytest.raises(openai.APIStatusError) as caught:
        create(once, sim, name)
    assert caught.value.status_code == fault.status == caught.value.body["code"]
    for header, value in fault.headers.items():
        assert caught.value.response.headers[header] == value


def test_a_fault_with_a_number_passes_after_as_many_retries(sim):
    patient = sim.client.with_options(max_retries=2)  # the client's own retries
    assert create(patient, sim, "unavailable 2").choices
    with pytest.raises(openai.InternalServerError):
        create(patient, sim, "unavailable 3")


def test_status_200_with_an_error_inside(sim, once):
    reply = create(once, sim, "error-in-200")
    assert reply.choices is None
    assert reply.error["code"] == 502


def test_the_streams_that_break(sim, once):
    whole = openrouter.collect(create(once, sim, stream=True, temperature=0))
    for name in ("mid-stream", "truncated", "cut"):
        got = openrouter.collect(create(once, sim, name, stream=True, temperature=0))
        assert got.text, name
        assert whole.text.startswith(got.text), name
        assert got.text != whole.text, name
        assert got.error is not None, name
        assert not got.complete, name
        assert openrouter.explain(got.error).retry, name
    for name in ("comments", "slow"):
        got = openrouter.collect(create(once, sim, name, stream=True, temperature=0))
        assert got.complete, name
        assert got.text == whole.text, name


def test_a_late_first_byte_is_late_and_times_out(sim, once):
    begun = time.monotonic()
    create(once, sim, "slow", max_tokens=1)
    assert time.monotonic() - begun >= faults.SLOW_S
    with pytest.raises(openai.APITimeoutError):
        create(once.with_options(timeout=0.5), sim, "slow", max_tokens=1)


@pytest.mark.parametrize("fault", ["cut", "truncated", "mid-stream"])
def test_a_stream_that_breaks_costs_what_was_generated(sim, once, fault):
    before = openrouter.key_status(sim.client).usage
    stream = create(once, sim, fault, stream=True, max_tokens=200)
    openrouter.collect(stream)
    reply = sim.client.get(
        f"/generation?id={stream.response.headers['x-generation-id']}", cast_to=object
    )["data"]
    assert 0 < reply["tokens_completion"] < 100
    assert reply["tokens_prompt"] > 0
    paid = openrouter.key_status(sim.client).usage - before
    assert reply["total_cost"] == pytest.approx(paid)


def test_who_leaves_a_whole_answer_pays_what_was_generated_and_no_more_is(sim, once):
    before = openrouter.key_status(sim.client).usage
    with pytest.raises(openai.APITimeoutError):
        create(once.with_options(timeout=2), sim, max_tokens=2000, temperature=2)
    deadline = time.monotonic() + 60
    while openrouter.key_status(sim.client).usage == before:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    counted = sim.usage()["completion_tokens"]
    create(once, sim, max_tokens=1)  # not held up by what nobody waits for
    assert sim.usage()["completion_tokens"] == counted + 1


# The contract


def test_models_and_key_fit_the_document(sim):
    for path, name in (("/models", "models"), ("/key", "key")):
        schema = document()["paths"][path]["get"]["responses"]["200"]["content"]
        reply = sim.client.get(f"/{name}", cast_to=object)
        fits(reply, schema["application/json"]["schema"])


def test_every_request_and_reply_on_record_fits_the_document(sim, once):
    """Those of all tests above, and at least these."""
    create(once, sim)
    list(create(once, sim, stream=True))
    for name, fault in faults.FAULTS.items():
        if not fault.effect:
            with pytest.raises(openai.APIStatusError):
                create(once, sim, name)
    assert check_record(sim.log) >= {200}


# As a command


@pytest.mark.parametrize("command", [["helpers", "simulate"], ["openrouter_sim"]])
def test_the_command_runs_until_interrupted(model_folder, command):
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", *command, "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        first = process.stdout.readline()
        url = next(word for word in first.split() if word.startswith("http")).rstrip(";")
        assert url.startswith("http://127.0.0.1:")
        assert httpx2.get(f"{url}/models").json()["total_count"] >= 3
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()


@pytest.mark.parametrize("content", [None, "", "[]", '{"prices": {}}'])
def test_a_price_file_that_is_none_is_named(tmp_path, content):
    path = tmp_path / "prices.json"
    if content is not None:
        path.write_text(content)
    command = [sys.executable, "-m", "openrouter_sim", "--prices", str(path)]
    result = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "400"}
    )
    assert result.returncode == 2
    assert "--prices" in result.stderr
    assert "prices.json" in result.stderr


@pytest.mark.parametrize(
    "body",
    [
        {"messages": []},
        {"messages": QUESTION, "temperature": "warm"},
        {"messages": QUESTION, "provider": {"fastest": True}},
        {"messages": [{"role": "nobody", "content": "Hi"}]},
    ],
)
def test_the_contract_can_be_broken(body):
    with pytest.raises(jsonschema.ValidationError):
        request_fits(body)
