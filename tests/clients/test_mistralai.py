"""Mistral AI's own SDK, at the embedded model's server.

Not here: its streamed tool calls and its list of models. The SDK wants the function's name in
every piece of a call, and a `type` in every entry; OpenAI's protocol has neither.
"""

import asyncio
from typing import Literal

import pytest
from mistralai.client import Mistral, models
from pydantic import BaseModel

HELLO = [{"role": "user", "content": "Say hello."}]
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look up a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
        },
    },
}


class Color(BaseModel):
    color: Literal["red"]


@pytest.fixture
def client(pocket):
    # The SDK adds /v1 itself.
    with Mistral(api_key="any", server_url=pocket.base_url.removesuffix("/v1")) as client:
        yield client


@pytest.fixture
def settings(pocket):
    return {"model": pocket.model, "max_tokens": 6, "temperature": 0}


def test_plain_and_a_second_turn_with_its_own_message(client, settings):
    reply = client.chat.complete(messages=HELLO, **settings)
    assert reply.choices[0].finish_reason in ("stop", "length")
    history = [*HELLO, reply.choices[0].message, *HELLO]
    second = client.chat.complete(messages=history, **settings)
    assert second.usage.prompt_tokens > reply.usage.prompt_tokens


def test_streamed_and_async(client, settings):
    async def run():
        reply = await client.chat.complete_async(messages=HELLO, **settings)
        stream = await client.chat.stream_async(messages=HELLO, **settings)
        return reply, "".join(
            [e.data.choices[0].delta.content or "" async for e in stream if e.data.choices]
        )

    with client.chat.stream(messages=HELLO, **settings) as stream:
        chunks = [event.data for event in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    reply, streamed = asyncio.run(run())
    assert text == streamed == reply.choices[0].message.content


@pytest.mark.parametrize(
    "extra",
    [
        {"random_seed": 7},
        {"safe_prompt": False},
        {"presence_penalty": 0, "frequency_penalty": 0, "n": 1},
        {"presence_penalty": None, "top_p": None, "stop": None},
        {"stop": ["."], "parallel_tool_calls": True, "prompt_cache_key": "k"},
        {"response_format": {"type": "json_object"}},
    ],
)
def test_its_own_parameters(client, settings, extra):
    assert client.chat.complete(messages=HELLO, **settings | extra).choices


@pytest.mark.parametrize(
    "choice", ["any", "required", {"type": "function", "function": {"name": "look_up"}}]
)
def test_a_loop_of_tools_with_its_own_messages(client, settings, choice):
    question = [{"role": "user", "content": "Look up Paris."}]
    settings |= {"max_tokens": 40, "tools": [TOOL]}
    first = client.chat.complete(messages=question, tool_choice=choice, **settings).choices[0]
    call = first.message.tool_calls[0]
    results = [
        models.ToolMessage(content="sunny", tool_call_id=call.id, name="look_up")
        for call in first.message.tool_calls
    ]
    history = [*question, first.message, *results]
    settings["max_tokens"] = 4
    second = client.chat.complete(messages=history, tool_choice="none", **settings).choices[0]
    assert call.function.name == "look_up"
    assert second.message.content


def test_a_parsed_answer(client, settings):
    reply = client.chat.parse(Color, messages=HELLO, **settings | {"max_tokens": 60})
    assert isinstance(reply.choices[0].message.parsed, Color)


@pytest.mark.parametrize("as_object", [True, False])
def test_a_picture(client, settings, picture_url, as_object):
    url = {"url": picture_url} if as_object else picture_url
    parts = [{"type": "text", "text": "Which color?"}, {"type": "image_url", "image_url": url}]
    reply = client.chat.complete(messages=[{"role": "user", "content": parts}], **settings)
    assert reply.choices[0].message.content


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"temperature": 5}, "temperature"), ({"model": "nobody"}, "nobody"), ({"n": 2}, "n: 2")],
)
def test_errors_have_the_servers_words(client, settings, wrong, words):
    with pytest.raises(Exception, match=words) as caught:
        client.chat.complete(messages=HELLO, **settings | wrong)
    assert caught.value.status_code in (400, 404)
