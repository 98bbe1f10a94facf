"""OpenRouter's own SDK, at the simulator."""

import asyncio

import openrouter
import pytest
from openrouter import utils

HELLO = [{"role": "user", "content": "Say hello."}]
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris"]}},
            "required": ["city"],
        },
    },
}
CACHED = {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}
FORCED = {"type": "function", "function": {"name": "look_up"}}


@pytest.fixture
def client(simulator):
    options = {"api_key": simulator.api_key, "server_url": simulator.base_url}
    # Its own retries: at once, so that the tests do not wait.
    pause = utils.BackoffStrategy(10, 50, 1.5, 30_000)
    retries = utils.RetryConfig("backoff", pause, True)
    with openrouter.OpenRouter(**options, retry_config=retries, timeout_ms=60_000) as client:
        yield client


@pytest.fixture
def settings(simulator):
    return {"model": simulator.model, "max_tokens": 6, "temperature": 0}


def test_plain_and_a_second_turn_with_its_own_message(client, settings):
    reply = client.chat.send(messages=HELLO, **settings)
    assert reply.usage.cost > 0
    message = reply.choices[0].message
    for own in (message, message.model_dump(by_alias=True)):
        second = client.chat.send(messages=[*HELLO, own, *HELLO], **settings)
        assert second.usage.prompt_tokens > reply.usage.prompt_tokens


def test_streamed_and_async(client, settings):
    async def run():
        stream = await client.chat.send_async(messages=HELLO, stream=True, **settings)
        return [chunk async for chunk in stream]

    chunks = list(client.chat.send(messages=HELLO, stream=True, **settings))
    texts = [
        "".join(c.choices[0].delta.content or "" for c in each if c.choices)
        for each in (chunks, asyncio.run(run()))
    ]
    assert texts == [client.chat.send(messages=HELLO, **settings).choices[0].message.content] * 2
    assert chunks[-1].usage.cost > 0


@pytest.mark.parametrize("streamed", [False, True])
def test_a_loop_of_tools_with_its_own_messages(client, settings, streamed):
    settings |= {"max_tokens": 40, "tools": [TOOL]}
    question = [{"role": "user", "content": "Look up Paris."}]
    reply = client.chat.send(messages=question, tool_choice=FORCED, stream=streamed, **settings)
    if streamed:
        pieces = [
            c for chunk in reply for choice in chunk.choices for c in choice.delta.tool_calls or []
        ]
        function = {"name": pieces[0].function.name}
        function["arguments"] = "".join(piece.function.arguments or "" for piece in pieces)
        call = {"id": pieces[0].id, "type": "function", "function": function}
        message, call_id = {"role": "assistant", "content": None, "tool_calls": [call]}, call["id"]
    else:
        message = reply.choices[0].message
        call_id = message.tool_calls[0].id
    result = {"role": "tool", "tool_call_id": call_id, "content": "sunny"}
    history = [*question, message, result]
    settings["max_tokens"] = 4
    second = client.chat.send(messages=history, tool_choice="none", **settings)
    assert second.choices[0].message.content


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "developer", "content": "Be brief."}, *HELLO],
        [{"role": "user", "content": [CACHED]}],
    ],
)
def test_messages_of_its_schema(client, settings, messages):
    assert client.chat.send(messages=messages, **settings).choices


@pytest.mark.parametrize(
    "extra",
    [
        {"response_format": {"type": "json_object"}},
        {"provider": {"order": ["Simulated B"], "allow_fallbacks": False}},
        {"models": ["mistralai/mistral-small-3.2-24b-instruct"]},
        {"reasoning": {"effort": "low"}},
        {"logprobs": True, "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1},
    ],
)
def test_its_own_parameters(client, settings, extra):
    assert client.chat.send(messages=HELLO, **settings | extra).choices


@pytest.mark.parametrize("detail", [{}, {"detail": "low"}])
def test_a_picture(client, settings, picture_url, detail):
    image = {"type": "image_url", "image_url": {"url": picture_url} | detail}
    parts = [{"type": "text", "text": "Which color?"}, image]
    reply = client.chat.send(messages=[{"role": "user", "content": parts}], **settings)
    assert reply.choices[0].message.content


def test_the_account_and_the_catalog(client, simulator):
    entries = client.models.list()
    entries = getattr(entries, "result", entries)
    assert simulator.model in [model.id for model in entries.data]
    assert client.models.count().data.count == len(entries.data)
    assert client.api_keys.get_current_key_metadata().data.usage >= 0
    author, slug = simulator.model.split("/")
    assert client.endpoints.list(author=author, slug=slug).data.endpoints


def test_a_generation_is_found_by_its_id(client, settings):
    reply = client.chat.send(messages=HELLO, **settings)
    found = client.generations.get_generation(id=reply.id).data
    assert found.total_cost == pytest.approx(reply.usage.cost)


def test_errors_have_a_type_of_their_own(client, settings):
    with pytest.raises(openrouter.errors.BadRequestResponseError, match="nobody"):
        client.chat.send(messages=HELLO, **settings | {"model": "nobody/nothing"})
    with (
        openrouter.OpenRouter(
            api_key="sk-or-v1-simulated-withdrawn", server_url=client.sdk_configuration.server_url
        ) as other,
        pytest.raises(openrouter.errors.UnauthorizedResponseError),
    ):
        other.chat.send(messages=HELLO, **settings)


@pytest.mark.parametrize("fault", ["unavailable", "provider-error", "overloaded"])
def test_a_failure_of_the_simulator_ends(client, settings, fault):
    # Its retries have no number: the simulator counts the attempts. It does not retry a 429.
    headers = {"X-Simulate": f"{fault} 2"}
    reply = client.chat.send(messages=HELLO, **settings | {"max_tokens": 3}, http_headers=headers)
    assert reply.choices
