"""The openai package: plain, streamed, async, raw, parsed, tools, pictures, errors."""

import asyncio
import json
from functools import partial
from typing import Literal

import openai
import pytest
from pydantic import BaseModel

HELLO = [{"role": "user", "content": "Say hello."}]


class Place(BaseModel):
    """Look up a place."""

    city: Literal["Paris", "Rome"]


TOOL = openai.pydantic_function_tool(Place, name="look_up")
FORCED = {"type": "function", "function": {"name": "look_up"}}


@pytest.fixture
def client(server):
    with openai.OpenAI(**server.options, max_retries=0) as client:
        yield client


@pytest.fixture
def chat(client, server):
    """`create`, with the server's model and few tokens."""

    def ask(messages=HELLO, **more):
        settings = {"model": server.model, "max_tokens": 6, "temperature": 0} | more
        return client.chat.completions.create(messages=messages, **settings)

    return ask


def test_plain_and_a_second_turn_with_its_own_message(chat):
    reply = chat()
    assert reply.choices[0].finish_reason in ("stop", "length")
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    message = reply.choices[0].message
    for own in (message, message.model_dump(), message.to_dict()):
        assert chat([*HELLO, own, *HELLO]).usage.prompt_tokens > reply.usage.prompt_tokens


def test_streamed_chunks_are_the_plain_answer(chat):
    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == chat().choices[0].message.content
    assert chunks[-1].usage.completion_tokens <= 6
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] in ("stop", "length")


def test_the_stream_helper_and_its_message_sent_back(client, server):
    request = {"model": server.model, "stop": [" ", "."]}  # the helper takes no cut answer
    with client.chat.completions.stream(messages=HELLO, **request) as stream:
        kinds = {event.type for event in stream}
        message = stream.get_final_completion().choices[0].message
    assert {"chunk", "content.delta", "content.done"} <= kinds
    again = client.chat.completions.create(messages=[*HELLO, message, *HELLO], **request)
    assert again.choices


def test_async_and_raw(server):
    async def run():
        async with openai.AsyncOpenAI(**server.options, max_retries=0) as client:
            request = {"model": server.model, "messages": HELLO, "max_tokens": 4}
            raw = await client.chat.completions.with_raw_response.create(**request)
            assert raw.headers["content-type"] == "application/json"
            assert raw.parse().choices[0].message.role == "assistant"
            stream = await client.chat.completions.create(**request, stream=True)
            # OpenRouter sends the usage in a last chunk without choices.
            choices = [choice async for chunk in stream for choice in chunk.choices]
            assert choices[-1].finish_reason in ("stop", "length")
            create = client.chat.completions.with_streaming_response.create
            async with create(**request) as response:
                assert json.loads(await response.text())["object"] == "chat.completion"

    asyncio.run(run())


def test_a_parsed_answer_is_sent_back(client, server):
    question = [{"role": "user", "content": "A city, please."}]
    request = {"model": server.model, "max_tokens": 60}
    reply = client.chat.completions.parse(messages=question, response_format=Place, **request)
    message = reply.choices[0].message
    assert isinstance(message.parsed, Place)
    request["max_tokens"] = 4
    again = client.chat.completions.create(messages=[*question, message, *HELLO], **request)
    assert again.choices[0].message.content


@pytest.mark.parametrize("way", ["create", "parse", "stream"])
def test_a_loop_of_tools_with_its_own_messages(client, server, way):
    messages = [{"role": "user", "content": "Look up Paris."}]
    request = {"model": server.model, "max_tokens": 60, "tools": [TOOL]}
    completions = client.chat.completions
    if way == "stream":
        with completions.stream(messages=messages, tool_choice=FORCED, **request) as stream:
            choice = stream.get_final_completion().choices[0]
    else:
        choice = getattr(completions, way)(
            messages=messages, tool_choice=FORCED, **request
        ).choices[0]
    assert choice.finish_reason in ("tool_calls", "stop")
    (call,) = choice.message.tool_calls  # "Forced Function: Call exactly one specific function"
    assert Place.model_validate_json(call.function.arguments)
    if way != "create":
        assert isinstance(call.function.parsed_arguments, Place)
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    history = [*messages, choice.message, result]
    request["max_tokens"] = 4
    second = completions.create(messages=history, **request, tool_choice="none").choices[0]
    assert second.message.content
    assert not second.message.tool_calls
    third = completions.create(messages=[*history, second.message, *HELLO], **request).choices[0]
    assert third.finish_reason in ("stop", "length", "tool_calls")


@pytest.mark.parametrize("detail", [{}, {"detail": "low"}, {"detail": "high"}])
def test_a_picture(chat, picture_url, detail):
    image = {"type": "image_url", "image_url": {"url": picture_url} | detail}
    text = {"type": "text", "text": "Which color is this?"}
    reply = chat([{"role": "user", "content": [text, image]}])
    assert reply.usage.prompt_tokens > chat().usage.prompt_tokens
    assert reply.choices[0].message.content


@pytest.mark.parametrize(
    "extra",
    [
        {"top_p": None, "n": None, "stop": None, "logit_bias": None, "stream": None},
        {"frequency_penalty": 0, "presence_penalty": 0, "logprobs": False, "store": False},
        {"metadata": {"run": "1"}, "user": "me", "service_tier": "auto", "prompt_cache_key": "k"},
        {"max_tokens": None, "max_completion_tokens": 4},
    ],
)
def test_values_that_change_nothing_are_taken(chat, extra):
    assert chat(**extra).choices[0].message.content


def test_the_role_developer(chat):
    developer = {"role": "developer", "content": "Be brief."}
    system = developer | {"role": "system"}
    assert chat([developer, *HELLO]).usage == chat([system, *HELLO]).usage


def test_models(client, server):
    assert server.model in [model.id for model in client.models.list()]
    assert client.models.retrieve(server.model).id == server.model


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"temperature": 5}, openai.BadRequestError, "temperature"),
        ({"model": "gpt-nobody"}, (openai.NotFoundError, openai.BadRequestError), "gpt-nobody"),
        ({"messages": []}, openai.BadRequestError, "messages"),
        ({"messages": [*HELLO, {"role": "actor", "content": "x"}]}, openai.BadRequestError, "role"),
        ({"messages": [{"role": "user", "content": "word " * 9000}]}, openai.BadRequestError,
         "maximum context length"),
    ],
)  # fmt: skip
def test_errors_are_of_the_packages_types(chat, wrong, error, words):
    with pytest.raises(error, match=words) as caught:
        chat(**wrong)
    assert isinstance(caught.value.body, dict)


def test_a_path_that_is_not_there(client, server):
    for call in (client.embeddings.create, client.completions.create):
        what = {"input": "x"} if call == client.embeddings.create else {"prompt": "x"}
        with pytest.raises(openai.NotFoundError, match="chat/completions"):
            call(model=server.model, **what)


@pytest.mark.parametrize("fault", ["rate-limit", "unavailable", "provider-error", "overloaded"])
def test_a_failure_of_the_simulator_ends(simulator, fault):
    with openai.OpenAI(**simulator.options, max_retries=2) as client:
        ask = partial(
            client.chat.completions.create, model=simulator.model, messages=HELLO, max_tokens=2
        )
        assert ask(extra_headers={"X-Simulate": f"{fault} 1"}).choices


def test_a_failure_of_the_simulator_that_does_not_end(simulator):
    with (
        openai.OpenAI(**simulator.options, max_retries=1) as client,
        pytest.raises(openai.InternalServerError),
    ):
        client.chat.completions.create(
            model=simulator.model, messages=HELLO, extra_headers={"X-Simulate": "unavailable"}
        )
