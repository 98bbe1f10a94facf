"""langchain-openai."""

import asyncio
import json
from contextlib import suppress
from typing import Literal

import pytest
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai import LengthFinishReasonError
from pydantic import BaseModel


class Color(BaseModel):
    """A color."""

    color: Literal["red"]


@tool
def look_up(city: Literal["Paris"]) -> str:
    """Look up the weather of a city."""
    return "sunny"


@pytest.fixture
def chat(server):
    def with_settings(**more):
        settings = {"max_tokens": 5, "temperature": 0, "max_retries": 0} | more
        return ChatOpenAI(model=server.model, **server.options, **settings)

    return with_settings


def test_plain_and_a_second_turn_with_its_own_message(chat):
    history = [SystemMessage("Be brief."), HumanMessage("Say hello.")]
    reply = chat().invoke(history)
    assert reply.response_metadata["finish_reason"] in ("stop", "length")
    again = chat().invoke([*history, reply, HumanMessage("Again.")])
    assert again.usage_metadata["input_tokens"] > reply.usage_metadata["input_tokens"]


def test_streamed_and_async(chat):
    async def run():
        return [
            chunk async for chunk in chat(max_tokens=6, stream_usage=True).astream("Say hello.")
        ]

    chunks = list(chat(max_tokens=6, stream_usage=True).stream("Say hello."))
    text = "".join(chunk.text for chunk in chunks)
    assert text == "".join(chunk.text for chunk in asyncio.run(run()))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    assert whole.response_metadata["finish_reason"] in ("stop", "length")
    assert whole.usage_metadata["output_tokens"] <= 6


@pytest.mark.parametrize(
    "options",
    [
        {"tool_choice": "look_up"},
        {"tool_choice": "any"},
        {"tool_choice": "look_up", "strict": True},
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_loop_of_tools_with_its_own_messages(chat, options, streamed):
    bound = chat(max_tokens=40).bind_tools([look_up], parallel_tool_calls=False, **options)
    question = HumanMessage("Look up Paris.")
    if streamed:
        message = None
        for chunk in bound.stream([question]):
            message = chunk if message is None else message + chunk
    else:
        message = bound.invoke([question])
    (call,) = message.tool_calls
    result = look_up.invoke(call)
    assert isinstance(result, ToolMessage)
    again = chat().bind_tools([look_up]).invoke([question, message, result])
    assert again.response_metadata["finish_reason"] in ("stop", "length", "tool_calls")


@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
def test_structured_output(chat, method):
    structured = chat(max_tokens=40).with_structured_output(Color, method=method, include_raw=True)
    assert isinstance(structured.invoke("A color, please.")["parsed"], Color)


def test_json_mode(chat):
    json_mode = chat(max_tokens=60).bind(response_format={"type": "json_object"})
    with suppress(LengthFinishReasonError):  # the small model may write on and on
        assert isinstance(json.loads(json_mode.invoke("A color as JSON.").text), dict)


def test_a_picture(chat, picture_url):
    parts = [
        {"type": "text", "text": "Which color?"},
        {"type": "image_url", "image_url": {"url": picture_url}},
    ]
    block = {"type": "image", "base64": picture_url.partition(",")[2], "mime_type": "image/png"}
    for image in (parts, [parts[0], block]):
        assert chat().invoke([HumanMessage(image)]).text


def test_an_error_has_the_servers_words(chat):
    with pytest.raises(Exception, match="temperature"):
        chat(temperature=5).invoke("Hi")
    with pytest.raises(Exception, match="maximum context length"):
        chat().invoke("word " * 9000)
