"""The simulator in front of the pocket model itself, and as a command.

What needs no model is in test_gateway, test_faults and test_money.
"""

import json
import os
import signal
import subprocess
import sys

import httpx2
import openai
import pytest
from openrouter_contract import check_record

from helpers.backends import connect
from openrouter_sim import recorder

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


def create(sim, **more):
    request = {"model": sim.model, "messages": QUESTION, "max_tokens": 12, "temperature": 0}
    return sim.client.with_options(max_retries=0).chat.completions.create(**request | more)


def test_the_text_is_the_pocket_models_own(sim, lab):
    request = {"messages": QUESTION, "max_tokens": 12, "temperature": 0}
    own = lab.client.chat.completions.create(model=lab.model, **request)
    reply = create(sim)
    assert reply.choices[0].message.content == own.choices[0].message.content
    assert reply.usage.completion_tokens == own.usage.completion_tokens
    assert reply.id.startswith("gen-")
    assert reply.provider == "Simulated A"
    assert reply.model == sim.model
    chunks = list(create(sim, stream=True))
    assert all(chunk.provider == "Simulated A" for chunk in chunks)
    assert chunks[-1].usage.cost == reply.usage.cost > 0
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == own.choices[0].message.content


def test_tools_and_schemas_pass_through(sim):
    parameters = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    tool = {"type": "function", "function": {"name": "roll", "parameters": parameters}}
    reply = create(sim, tools=[tool], tool_choice="required", max_tokens=60)
    assert reply.choices[0].finish_reason == "tool_calls"
    assert reply.choices[0].message.tool_calls[0].function.name == "roll"
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": parameters}}
    reply = create(sim, response_format=form, max_tokens=60)
    assert isinstance(json.loads(reply.choices[0].message.content)["n"], int)


def test_a_prompt_that_is_too_long(sim):
    with pytest.raises(openai.BadRequestError, match="itself takes 128,000 tokens") as caught:
        create(sim, messages=[{"role": "user", "content": "word " * 9000}])
    assert caught.value.body["metadata"]["error_type"] == "context_length_exceeded"


def test_the_record_fits_openrouters_description(sim):
    """That of all tests above, and at least this."""
    create(sim)
    assert check_record(sim.log) >= {200}


# As a command


def test_the_command_runs_until_interrupted(model_folder):
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "helpers", "simulate", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
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


@pytest.mark.parametrize("content", [None, '{"prices": {}}'])
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
