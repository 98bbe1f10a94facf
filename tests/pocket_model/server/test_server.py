"""The pocket server over HTTP, as any client uses it."""

import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import psutil
import pytest

from helpers import connect
from pocket_model import lease
from pocket_model.__main__ import STARTERS
from pocket_model.build import MODEL_ID, QUANTIZATIONS

HELLO = [{"role": "user", "content": "Tell me about the sea."}]


@pytest.fixture(scope="module", params=[False, True], ids=["serial", "batching"])
def lab(request, model_folder):
    connected = connect("pocket", batching=request.param)
    yield connected
    connected.close()


def ask(lab, **settings):
    settings = {"model": lab.model, "messages": HELLO, "max_tokens": 8, "temperature": 0} | settings
    return lab.client.chat.completions.create(**settings)


def test_lists_exactly_the_pocket_model(lab):
    assert [model.id for model in lab.client.models.list()] == [MODEL_ID]


def test_stream_is_server_sent_events_with_usage_and_done(lab):
    body = {"model": MODEL_ID, "messages": HELLO, "max_tokens": 6, "stream": True}
    body["stream_options"] = {"include_usage": True}
    reply = httpx2.post(f"{lab.client.base_url}chat/completions", json=body, timeout=120)
    assert reply.headers["content-type"].startswith("text/event-stream")
    events = reply.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 6


def test_parallel_requests_keep_their_own_settings(lab):
    topics = ["the sea", "bread", "trains", "bees", "snow"]
    requests = [
        {
            "messages": [{"role": "user", "content": f"Tell me about {topic}."}],
            "max_tokens": 4 + i,
            "temperature": 1.5 * (i % 2),
            "seed": 10 * i,
            "top_p": 0.9,
        }
        for i, topic in enumerate(topics)
    ]
    # One of them with a stop string, taken from what it answers without.
    whole = ask(lab, **requests[2], stream=False).choices[0].message.content
    requests[2]["stop"] = whole.split()[2]
    alone = [ask(lab, **request) for request in requests]
    with ThreadPoolExecutor(5) as pool:
        together = list(pool.map(lambda request: ask(lab, **request), requests))
    for before, after in zip(alone, together, strict=True):
        assert after.choices[0].message.content == before.choices[0].message.content
        assert after.usage == before.usage
    assert [reply.choices[0].finish_reason for reply in together].count("stop") == 1
    assert len({reply.choices[0].message.content for reply in together}) == 5


def test_a_stop_string_ends_the_answer_before_it(lab):
    whole = ask(lab, max_tokens=20).choices[0].message.content
    stop = whole.split()[4]
    cut = ask(lab, max_tokens=20, stop=stop)
    assert cut.choices[0].message.content == whole[: whole.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


def server_process(lab) -> psutil.Process:
    url = str(lab.client.base_url).rstrip("/")
    return psutil.Process(next(held.pid for held in lease.held if held.base_url == url))


def tokens_still_being_made(lab) -> bool:
    """Whether the server still generates, although no client waits."""
    start = time.monotonic()
    while time.monotonic() - start < 30:
        before = server_process(lab).cpu_times().user
        time.sleep(2)
        if server_process(lab).cpu_times().user - before < 0.5:
            return False  # an engine at work uses more than a quarter of a core
    return True


# Its schema forbids an early end: otherwise the model may finish before the client leaves.
ENDLESS = {
    "messages": [{"role": "user", "content": "Write a long story."}],
    "max_tokens": 3000,
    "response_format": {
        "type": "json_schema",
        "json_schema": {
            "name": "story",
            "schema": {
                "type": "object",
                "properties": {"story": {"type": "string", "minLength": 20000}},
                "required": ["story"],
                "additionalProperties": False,
            },
        },
    },
}


def test_a_client_that_leaves_a_stream_frees_the_engine(lab):
    stream = ask(lab, stream=True, **ENDLESS)
    for _ in zip(range(3), stream, strict=False):
        pass
    stream.close()
    assert not tokens_still_being_made(lab)


def test_a_client_that_gives_up_waiting_frees_the_engine(lab):
    impatient = lab.client.with_options(timeout=2, max_retries=0)
    with pytest.raises(openai.APITimeoutError):
        impatient.chat.completions.create(model=lab.model, temperature=0, **ENDLESS)
    assert not tokens_still_being_made(lab)


def test_a_temperature_next_to_zero_is_greedy_and_breaks_nothing(lab):
    tiny = ask(lab, temperature=1e-320).choices[0].message.content
    assert tiny == ask(lab).choices[0].message.content


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"model": "mistral-small-3"}, 404, "pocket-small"),
        ({"temperature": 2.5}, 400, "temperature"),
        ({"n": 2}, 400, "n:"),
        ({"messages": [{"role": "user", "content": "x " * 9000}]}, 400, "context"),
        ({"messages": [*HELLO, {"role": "assistant", "content": "Hi"}]}, 400, "last message"),
        ({"messages": [*HELLO, {"role": "assistant", "content": ""}, *HELLO]}, 400, "is empty"),
        ({"extra_body": {"top_k": 3}}, 400, "top_k"),
    ],
)
def test_what_it_cannot_take_is_refused_with_a_reason(lab, change, status, says):
    with pytest.raises(openai.APIStatusError) as error:
        ask(lab, **change)
    assert error.value.status_code == status
    assert says in error.value.body["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model": 1}', "ü".encode("latin-1")])
def test_garbage_is_refused_and_the_server_lives(lab, body):
    url = f"{lab.client.base_url}chat/completions"
    reply = httpx2.post(url, content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == 400
    assert reply.json()["error"]["message"]
    assert ask(lab, max_tokens=1).usage.completion_tokens == 1


def test_listens_on_loopback_only(lab):
    process = server_process(lab)
    addresses = {c.laddr.ip for c in process.net_connections("tcp") if c.status == "LISTEN"}
    assert addresses == {"127.0.0.1"}


def test_stays_within_its_memory(lab):
    ask(lab, messages=[{"role": "user", "content": "word " * 1500}], max_tokens=2)
    memory = server_process(lab).memory_info()
    # Pages of files are shared: weights, and libraries, of which a CUDA build of torch has more.
    assert memory.rss - getattr(memory, "shared", 0) < 1.2e9


@pytest.mark.parametrize("quantization", [each for each in QUANTIZATIONS if each != "int8"])
def test_weights_in_any_form_are_served(quantization, model_folder):
    lab = connect("pocket", quantization=quantization, batching=True)
    entry = lab.client.models.retrieve(MODEL_ID)
    question = [{"role": "user", "content": "What is the capital of Italy?"}]
    answers = [ask(lab, messages=question, max_tokens=12) for _ in range(2)]
    lab.close()
    first, second = (reply.choices[0].message.content for reply in answers)
    assert first == second
    # In steps of equal size, 4 bits are too few for the right answer.
    assert "Ital" in first if quantization == "int4" else first == "The capital of Italy is Rome."
    assert entry.max_model_len == 8192
    millions = {"bf16": (250, 300), "int4": (80, 110), "nf4": (100, 150)}[quantization]
    assert millions[0] < entry.weight_bytes / 1e6 < millions[1]
    heads = 4 if quantization == "nf4" else 3  # the others leave out the one of zeros
    assert entry.token_bytes == 30 * 2 * heads * 64 * 2  # layers, both, heads, size, bf16


def test_a_port_in_use_is_reported(model_folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "pocket_model", "serve", "--port", port]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert port in result.stdout
    assert "Traceback" not in result.stderr


def test_a_chat_in_the_terminal_reaches_the_server_past_a_proxy(lab):
    environment = dict(os.environ, HTTP_PROXY="http://127.0.0.1:9", http_proxy="http://127.0.0.1:9")
    command = [sys.executable, "-m", "pocket_model", "chat", "--temperature", "0"]
    result = subprocess.run(
        command, input="Say hello.\n\n", capture_output=True, text=True, env=environment
    )
    assert result.returncode == 0, result.stderr
    assert len(result.stdout) > len("> > ")


@pytest.mark.parametrize("starter", STARTERS)
def test_what_the_chat_offers_is_answered(lab, starter):
    """Some requests get "none of my tools …" instead, although no tool was sent."""
    reply = ask(lab, messages=[{"role": "user", "content": starter}], max_tokens=24)
    answer = reply.choices[0].message.content
    assert len(answer.split()) > 8 or answer == "The capital of Italy is Rome."
    assert "tool" not in answer.lower()


def test_a_conversation_beyond_the_context_ends_with_the_reason(lab):
    command = [sys.executable, "-m", "pocket_model", "chat"]
    long = "word " * 9000
    result = subprocess.run(command, input=f"{long}\n", capture_output=True, text=True)
    assert result.returncode == 1
    assert "Shorten the messages. This conversation ends here" in result.stdout
    assert "Traceback" not in result.stderr
