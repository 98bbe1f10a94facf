"""vLLM as the kit starts it: requests of every kind, batches, replicas, ends."""

import base64
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import psutil
import pytest
from model_card_programs import (
    function_calling,
    instruction_following,
    load_system_prompt,
    vision_reasoning,
)
from PIL import Image, ImageDraw
from pydantic import BaseModel
from serve_command import free_ports, serve

from helpers import wire
from helpers.backends import BackendError, connect
from helpers.finetune import adapters, data, labels, loop
from helpers.images import image_part
from helpers.model.loading import load_4bit
from helpers.paths import DATA
from labkit import conformance
from labkit.serving import deployment, experiments, processes
from labkit.serving.deployment import Deployment, Options
from pocket_model.build import ensure_built

JAPAN = [{"role": "user", "content": "What is the capital of Japan?"}]
# The small model knows these. A request with the answer of another one would be seen.
CAPITALS = {
    "Italy": "Rome", "Germany": "Berlin", "Japan": "Tokyo", "Egypt": "Cairo",
    "Peru": "Lima", "Kenya": "Nairobi", "India": "New Delhi", "China": "Beijing",
}  # fmt: skip
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def test_what_it_prints_can_be_used(served):
    assert "--tokenizer-mode mistral" in served.text
    assert f'connect("vllm", model="pocket-small", base_url="{served.base_url}")' in served.text
    assert f"make run BACKEND=vllm MODEL=pocket-small BASE_URL={served.base_url}" in served.text


def test_chat(ask):
    reply = ask(messages=JAPAN, max_tokens=16)
    assert "Tokyo" in reply.choices[0].message.content
    assert reply.choices[0].finish_reason == "stop"


def test_stream(ask):
    chunks = list(ask(messages=JAPAN, max_tokens=16, stream=True))
    pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert len(pieces) > 3
    assert "Tokyo" in "".join(pieces)


@pytest.mark.parametrize("city", ["Paris", "Oslo"])
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_tools(ask, city, choice):
    question = [{"role": "user", "content": f"What is the weather in {city}?"}]
    reply = ask(messages=question, tools=[WEATHER], tool_choice=choice, max_tokens=64)
    (call,) = reply.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": city}
    assert len(call.id) == 9


@pytest.mark.parametrize("color", ["red", "blue"])
def test_image(ask, color):
    picture = Image.new("RGB", (168, 168), "white")
    ImageDraw.Draw(picture).ellipse((40, 40, 130, 130), fill=color)
    text = {"type": "text", "text": "What color is the circle?"}
    message = {"role": "user", "content": [text, image_part(picture)]}
    assert color in ask(messages=[message], max_tokens=16).choices[0].message.content


class Person(BaseModel):
    name: str
    born: int


def test_schema(ask):
    question = [{"role": "user", "content": "Extract the person: Rosa Parks was born in 1913."}]
    schema = {"name": "person", "schema": Person.model_json_schema(), "strict": True}
    form = {"type": "json_schema", "json_schema": schema}
    reply = ask(messages=question, response_format=form, max_tokens=64)
    assert Person.model_validate_json(reply.choices[0].message.content).born == 1913


def test_32_in_parallel_keep_their_own_answers(ask):
    def capital(country: str) -> str:
        question = f"What is the capital of {country}?"
        reply = ask(messages=[{"role": "user", "content": question}], max_tokens=16)
        return reply.choices[0].message.content

    asked = (list(CAPITALS) * 4)[:32]
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(capital, asked))
    assert [c for c, text in zip(asked, answers, strict=True) if CAPITALS[c] not in text] == []


def test_conformance(lab):
    """All features of the kit's suite, which the embedded model's own server supports too."""
    rows = conformance.run_suite(lab)["rows"]
    assert [row for row in rows if row["status"] != "yes"] == []
    assert len(rows) >= 13


def test_metrics_count_the_requests(served, ask):
    before = experiments.metrics(served.base_url)["vllm:request_success_total"]
    ask(messages=JAPAN, max_tokens=4)
    assert experiments.metrics(served.base_url)["vllm:request_success_total"] == before + 1


def test_a_wrong_key_and_a_wrong_model_are_told(served, monkeypatch):
    with pytest.raises(BackendError, match=r"does not have 'other'\. It has: pocket-small"):
        connect("vllm", model="other", base_url=served.base_url)
    monkeypatch.setenv("VLLM_API_KEY", "a-wrong-key-of-some-length")
    with pytest.raises(BackendError, match="refuses the key in the environment variable VLLM_API"):
        connect("vllm", model="pocket-small", base_url=served.base_url)


def test_the_three_programs_of_the_model_card(client, lab, tmp_path, capsys):
    """They run to their end. What a small model answers is printed, and not held against it."""
    prompt = tmp_path / "SYSTEM_PROMPT.txt"
    prompt.write_text('You are {name}. Today is {today}, not {yesterday}. {"a": 1}', "utf-8")
    system = load_system_prompt(prompt, lab.model)
    assert "{name}" not in system
    assert '{"a": 1}' in system
    scene = vision_reasoning(client, lab.model, system)
    biggest, calls = function_calling(client, lab.model, system)
    sentence = instruction_following(client, lab.model, system)
    with capsys.disabled():
        print(f"\n1: {scene}\n2: {biggest} {calls}\n3: {sentence}")
    assert all((scene, biggest, sentence))
    (call,) = calls
    arguments = json.loads(call.function.arguments)
    assert call.function.name == "get_current_population"
    assert arguments["unit"] == "millions"
    assert arguments["country"] in biggest


def test_run_batch_of_20_prompts(tmp_path):
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    asked = (list(CAPITALS) * 3)[:20]
    questions = [f"What is the capital of {country}?" for country in asked]
    settings = {"temperature": 0, "max_tokens": 16}
    experiments.write_batch(source, "pocket-small", questions, **settings)
    deployment.run_batch(deployment.plan(Options(port=19_999)), source, target)
    answers = experiments.read_batch(target)
    assert len(answers) == 20
    assert [n for n, c in enumerate(asked) if CAPITALS[c] not in answers[f"{n}"]] == []


def test_an_adapter_of_the_kit_answers_by_its_own_name(tmp_path):
    """Four examples learned by heart: vLLM gives their records with the adapter, never without."""
    base = ensure_built()
    tokenizer = wire.from_file(base / "tekken.json")
    lines = data.read(DATA / "finetune" / "train.jsonl")[:4]
    batch = labels.batch(data.encode(lines, tokenizer, longest=96), labels.pad_id(tokenizer))
    student = adapters.add(load_4bit(base).model, rank=16, alpha=32, seed=0)
    assert loop.train(student, [batch] * 6, rate=4e-3)[-1] < 0.05
    modules = f"records={adapters.save(student, tmp_path)}"
    extra = ("--enable-lora", "--max-lora-rank", "16", "--lora-modules", modules)
    with Deployment(deployment.plan(Options(port=free_ports(1), extra=extra))) as running:
        client = experiments.client(running.base_url)
        assert {model.id for model in client.models.list()} == {"pocket-small", "records"}
        answers = {
            model: [
                client.chat.completions.create(
                    model=model, messages=line["messages"][:-1], temperature=0, max_tokens=32
                ).choices[0]
                for line in lines
            ]
            for model in ("pocket-small", "records")
        }
    wanted = [line["messages"][-1]["content"] for line in lines]
    assert [choice.message.content for choice in answers["records"]] == wanted
    assert {choice.finish_reason for choice in answers["records"]} == {"stop"}
    assert not {choice.message.content for choice in answers["pocket-small"]} & {*wanted}


def test_two_replicas_and_one_is_killed(capsys):
    said = []
    made = deployment.plan(Options(replicas=2, policy="round_robin", port=free_ports(4)))
    with Deployment(made, said.append) as running:
        lab = connect("vllm", model="pocket-small", base_url=running.base_url)
        rows = conformance.run_suite(lab)["rows"]
        facts = experiments.with_a_killed_replica(running, requests=40, rate=2.0, tokens=16)
        family = [
            process
            for server in (*running.servers, running.router)
            for process in (
                psutil.Process(server.pid),
                *psutil.Process(server.pid).children(recursive=True),
            )
        ]
    with capsys.disabled():
        print(f"\n{facts}\nconformance through the router: {rows}")
    assert facts["sent"] == 40
    assert facts["answered"] + facts["failed"] == 40
    assert facts["answered"] >= 30
    assert facts["unaccounted"] == facts["afterwards_failed"] == 0
    assert min(facts["served"]) > 0
    assert any("started again" in line for line in said)
    assert [process for process in family if process.is_running()] == []


def test_a_server_that_dies_at_its_start_shows_the_telling_line():
    server = serve("--", "--no-such-option")
    server.read_until("^error: ")
    assert server.process.wait(30) == 2
    assert "unrecognized arguments: --no-such-option" in server.printed[-1]
    assert len(server.printed[-1]) < 500


def test_for_other_machines_every_path_needs_the_key():
    server = serve("--host", "0.0.0.0")
    assert server.read_until("^Ctrl-C ends it"), server.text
    root = server.base_url.removesuffix("/v1")
    body = {"model": "pocket-small", "messages": JAPAN, "max_tokens": 12, "temperature": 0}
    key = {"Authorization": f"Bearer {os.environ['VLLM_API_KEY']}"}
    with httpx2.Client(trust_env=False, timeout=60) as http:
        for path in ("/v1/chat/completions", "/invocations"):
            assert http.post(root + path, json=body).status_code == 401
            assert "Tokyo" in http.post(root + path, json=body, headers=key).text
        assert [http.get(f"{root}{path}").status_code for path in ("/metrics", "/docs")] == [
            401
        ] * 2
        assert http.get(f"{root}/health").status_code == 200
    assert server.end(signal.SIGINT) == []


def test_sigterm_during_the_start_leaves_nothing(possible):
    server = serve()
    assert server.read_until("^Starting pocket-small")
    assert server.end(signal.SIGTERM) == []
    assert server.process.returncode == 0
    processes.check_port("127.0.0.1", server.port)


def test_the_image_of_the_map_is_read_by_the_server(client, lab):
    """The address of an image may be a data URL; vLLM fetches no other one from this machine."""
    data = base64.b64encode((DATA / "images" / "europe.png").read_bytes()).decode()
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    text = {"type": "text", "text": "What is the biggest country depicted on the map?"}
    messages = [{"role": "user", "content": [text, url]}]
    with_map = client.chat.completions.create(model=lab.model, messages=messages, max_tokens=16)
    messages = [{"role": "user", "content": [text]}]
    without = client.chat.completions.create(model=lab.model, messages=messages, max_tokens=16)
    assert with_map.usage.prompt_tokens > without.usage.prompt_tokens + 30


def test_more_tokens_than_the_context_are_refused(client, lab):
    with pytest.raises(openai.BadRequestError, match="131072"):
        client.chat.completions.create(model=lab.model, messages=JAPAN, max_tokens=131_072)
