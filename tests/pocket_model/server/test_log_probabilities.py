"""`logprobs`: what the server tells of the probabilities is what the model computes."""

import itertools
import json
import math

import openai
import pytest
import torch
from transformers import Mistral3ForConditionalGeneration

from helpers import connect
from pocket_model.tekken import CONTROL_IDS

STORY = [{"role": "user", "content": "Tell me about the sea 🌊 in one line."}]
SCHEMA = {"type": "object", "properties": {"sea": {"type": "string"}}, "required": ["sea"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "sea", "schema": SCHEMA}}
WEATHER = {
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@pytest.fixture(scope="module")
def lab(model_folder):
    connected = connect("pocket", quantization="bf16")
    yield connected
    connected.close()


def ask(lab, messages=STORY, **settings):
    settings = {"max_tokens": 12, "temperature": 0, "logprobs": True} | settings
    return lab.client.chat.completions.create(model=lab.model, messages=messages, **settings)


def entries(reply):
    return reply.choices[0].logprobs.content


def text_of(content) -> str:
    return b"".join(bytes(entry.bytes) for entry in content).decode()


def test_each_token_of_the_text_has_an_entry(lab):
    reply = ask(lab, top_logprobs=5)
    assert len(entries(reply)) == reply.usage.completion_tokens == 12
    assert text_of(entries(reply)) == reply.choices[0].message.content
    for entry in entries(reply):
        likeliest = entry.top_logprobs
        assert len(likeliest) == 5
        assert (likeliest[0].token, likeliest[0].logprob) == (entry.token, entry.logprob)
        values = [other.logprob for other in likeliest]
        assert values == sorted(values, reverse=True)
        assert sum(map(math.exp, values)) <= 1 + 1e-5


def test_they_are_transformers(lab, model_folder, chat_format):
    """Of every token of an answer, as one pass over prompt and answer computes them."""
    folder, dtype = model_folder, torch.float32
    model = Mistral3ForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval()
    content = entries(ask(lab, top_logprobs=1))
    prompt = chat_format.encode(STORY).ids
    answer = chat_format.encode_text(text_of(content))
    assert len(answer) == len(content)
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    expected = logits.log_softmax(-1)[range(len(answer)), answer]
    told = torch.tensor([entry.logprob for entry in content])
    torch.testing.assert_close(told, expected, atol=0.15, rtol=0)  # the server's are of bf16


def test_the_temperature_does_not_change_them(lab):
    """Nor does top-p. They are of the model, and not of how one of its tokens is chosen."""
    plain = entries(ask(lab, top_logprobs=3, max_tokens=1))[0].top_logprobs
    for settings in ({"temperature": 1.5, "seed": 3}, {"temperature": 0.7, "top_p": 0.1}):
        assert entries(ask(lab, top_logprobs=3, max_tokens=1, **settings))[0].top_logprobs == plain


def test_the_end_token_has_no_entry_and_control_tokens_have_no_bytes(lab):
    short = [{"role": "user", "content": "Say yes."}]
    reply = ask(lab, short, top_logprobs=2, max_tokens=60)
    assert reply.choices[0].finish_reason == "stop"
    assert len(entries(reply)) == reply.usage.completion_tokens - 1
    likely = [other for entry in entries(reply) for other in entry.top_logprobs]
    assert all((other.token in CONTROL_IDS) == (not other.bytes) for other in likely)


def test_a_stream_tells_the_same(lab):
    whole = entries(ask(lab, top_logprobs=2))
    chunks = [chunk.choices[0] for chunk in ask(lab, top_logprobs=2, stream=True) if chunk.choices]
    assert chunks[0].logprobs is None  # the role
    told = [choice for choice in chunks if choice.logprobs]
    assert list(itertools.chain(*(choice.logprobs.content for choice in told))) == whole
    text = ""
    for choice in told:  # of the tokens so far, when their text arrives
        text += choice.delta.content or ""
        arrived = itertools.chain(*(c.logprobs.content for c in told[: told.index(choice) + 1]))
        assert text_of(arrived).startswith(text)


def test_text_under_a_schema_has_them_too(lab):
    """Also where only one text can follow, which is otherwise not computed."""
    reply = ask(lab, response_format=FORMAT, max_tokens=40)
    content = reply.choices[0].message.content
    assert text_of(entries(reply)) == content
    without = ask(lab, response_format=FORMAT, max_tokens=40, logprobs=False)
    assert without.choices[0].message.content == content
    assert without.choices[0].logprobs is None
    assert "sea" in json.loads(content)


def test_a_call_has_none(lab):
    tools = [{"type": "function", "function": WEATHER}]
    reply = ask(lab, tools=tools, tool_choice="required", max_tokens=60, top_logprobs=1)
    assert reply.choices[0].message.tool_calls
    assert entries(reply) == []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"logprobs": None, "top_logprobs": 3}, "send logprobs=true"),
        ({"logprobs": False, "top_logprobs": 3}, "send logprobs=true"),
        ({"top_logprobs": 21}, "20"),
        ({"top_logprobs": -1}, "0"),
        ({"top_logprobs": True}, "number"),
        ({"logprobs": 5}, "true or false"),
    ],
)
def test_other_numbers_are_refused(lab, settings, says):
    with pytest.raises(openai.BadRequestError) as refused:
        ask(lab, extra_body=settings)
    assert says in str(refused.value)


@pytest.mark.parametrize("settings", [{}, {"top_logprobs": 0}, {"top_logprobs": None}])
def test_alternatives_need_not_be_asked_for(lab, settings):
    assert [entry.top_logprobs for entry in entries(ask(lab, max_tokens=2, **settings))] == [[], []]
