"""litellm, by the prefixes that lead to these servers."""

import asyncio
from typing import Literal

import litellm
import pytest
from pydantic import BaseModel

HELLO = [{"role": "user", "content": "Say hello."}]
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris"]}},
            "required": ["city"],
        },
    },
}
FORCED = {"type": "function", "function": {"name": "look_up"}}


class Color(BaseModel):
    color: Literal["red"]


@pytest.fixture(params=["openai", "hosted_vllm", "mistral", "openrouter"])
def settings(request):
    name = "simulator" if request.param == "openrouter" else "pocket"
    server = request.getfixturevalue(name)
    address = {"api_base": server.base_url, "api_key": server.api_key}
    model = f"{request.param}/{server.model}"
    return {"model": model, **address, "max_tokens": 6, "temperature": 0, "num_retries": 0}


def test_plain_and_a_second_turn_with_its_own_message(settings):
    reply = litellm.completion(messages=HELLO, **settings)
    message = reply.choices[0].message
    assert reply.choices[0].finish_reason in ("stop", "length")
    for own in (message, message.model_dump()):
        second = litellm.completion(messages=[*HELLO, own, *HELLO], **settings)
        assert second.usage.prompt_tokens > reply.usage.prompt_tokens


def test_streamed_and_async(settings):
    async def run():
        stream = await litellm.acompletion(messages=HELLO, stream=True, **settings)
        return [chunk async for chunk in stream]

    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(litellm.completion(messages=HELLO, **options, **settings))
    whole = litellm.stream_chunk_builder(chunks, messages=HELLO)
    assert whole.choices[0].finish_reason in ("stop", "length")
    texts = [chunk.choices[0].delta.content or "" for chunk in asyncio.run(run())]
    assert "".join(texts) == whole.choices[0].message.content


@pytest.mark.parametrize("streamed", [False, True])
def test_a_loop_of_tools_with_its_own_messages(settings, streamed):
    settings |= {"max_tokens": 40, "tools": [TOOL]}
    question = [{"role": "user", "content": "Look up Paris."}]
    reply = litellm.completion(messages=question, tool_choice=FORCED, stream=streamed, **settings)
    if streamed:
        reply = litellm.stream_chunk_builder(list(reply), messages=question)
    message = reply.choices[0].message
    (call,) = message.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    settings["max_tokens"] = 4
    second = litellm.completion(messages=[*question, message, result], **settings)
    assert second.choices[0].finish_reason in ("stop", "length", "tool_calls")


def test_a_schema_and_a_picture(settings, picture_url):
    settings |= {"max_tokens": 60}
    image = {"type": "image_url", "image_url": picture_url}
    question = [{"role": "user", "content": [{"type": "text", "text": "Which color?"}, image]}]
    reply = litellm.completion(messages=question, response_format=Color, **settings)
    assert Color.model_validate_json(reply.choices[0].message.content)


def test_too_long_a_prompt_has_its_own_error(settings):
    # litellm knows it by the words "this model's maximum context length is", but not from
    # OpenRouter, where every 400 is the same to it.
    errors = litellm.BadRequestError, litellm.ContextWindowExceededError
    with pytest.raises(errors["openrouter" not in settings["model"]], match="context length is"):
        litellm.completion(messages=[{"role": "user", "content": "word " * 9000}], **settings)


@pytest.mark.parametrize("wrong", [{"temperature": 5}, {"messages": []}])
def test_errors_are_of_its_types(settings, wrong):
    with pytest.raises(litellm.BadRequestError):
        litellm.completion(**{"messages": HELLO} | settings | wrong)


def test_a_failure_of_the_simulator_ends(simulator):
    address = {"api_base": simulator.base_url, "api_key": simulator.api_key}
    model = f"openrouter/{simulator.model}"
    headers = {"X-Simulate": "unavailable 1"}
    more = {"max_tokens": 3, "num_retries": 2, "extra_headers": headers}
    assert litellm.completion(model, HELLO, **address, **more).choices
