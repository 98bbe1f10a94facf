"""pydantic-ai: OpenAIChatModel at both servers, OpenRouterModel and MistralModel at one each."""

import asyncio
from typing import Literal

import pytest
from mistralai.client import Mistral
from pydantic import BaseModel
from pydantic_ai import (
    Agent,
    BinaryContent,
    NativeOutput,
    ToolOutput,
    UsageLimits,
)
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import (
    ModelRequest,
    ModelResponse,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.mistral import MistralModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.models.openrouter import OpenRouterModel
from pydantic_ai.providers.mistral import MistralProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openrouter import OpenRouterProvider

LIMITS = UsageLimits(request_limit=4)
BRIEF = {"max_tokens": 5, "temperature": 0}


class Color(BaseModel):
    color: Literal["red"]


@pytest.fixture(params=["pocket", "simulator", "openrouter", "mistral"])
def model(request):
    kind = request.param
    if kind == "mistral":
        server = request.getfixturevalue("pocket")
        sdk = Mistral(api_key="any", server_url=server.base_url.removesuffix("/v1"))
        return MistralModel(server.model, provider=MistralProvider(mistral_client=sdk))
    server = request.getfixturevalue("pocket" if kind == "pocket" else "simulator")
    if kind == "openrouter":
        from openai import AsyncOpenAI

        provider = OpenRouterProvider(openai_client=AsyncOpenAI(**server.options))
        return OpenRouterModel(server.model, provider=provider)
    return OpenAIChatModel(server.model, provider=OpenAIProvider(**server.options))


def test_plain_with_instructions_and_a_second_turn(model):
    agent = Agent(model, instructions="Be brief.", model_settings=BRIEF)
    first = agent.run_sync("Say hello.", usage_limits=LIMITS)
    assert isinstance(first.output, str)
    second = agent.run_sync("Again.", message_history=first.all_messages(), usage_limits=LIMITS)
    assert second.usage.input_tokens > first.usage.input_tokens


def test_streamed(model):
    async def run():
        async with Agent(model, model_settings=BRIEF).run_stream("Say hello.") as result:
            return [text async for text in result.stream_text(delta=True)], result.usage

    pieces, _usage = asyncio.run(run())
    assert "".join(pieces)


def test_a_history_with_a_tool(model):
    def look_up(city: str) -> str:
        """Look up the weather.

        Args:
            city: its name.
        """
        return "sunny"

    history = [
        ModelRequest(parts=[UserPromptPart("How is the weather in Paris?")]),
        ModelResponse(parts=[ToolCallPart("look_up", {"city": "Paris"}, tool_call_id="abcDEF123")]),
        ModelRequest(parts=[ToolReturnPart("look_up", "sunny", tool_call_id="abcDEF123")]),
    ]
    # Room for a call too: the small model may make one.
    agent = Agent(model, tools=[look_up], model_settings=BRIEF | {"max_tokens": 40})
    assert agent.run_sync("Thanks.", message_history=history, usage_limits=LIMITS).output


@pytest.mark.parametrize("way", [ToolOutput, NativeOutput])
def test_structured_output(model, way):
    if way is NativeOutput and not model.profile.get("supports_json_schema_output"):
        pytest.skip("pydantic-ai does not send this model a JSON schema")
    agent = Agent(model, output_type=way(Color), model_settings=BRIEF | {"max_tokens": 40})
    assert isinstance(agent.run_sync("A color, please.", usage_limits=LIMITS).output, Color)


def test_a_picture(model, picture):
    agent = Agent(model, model_settings=BRIEF)
    question = ["Which color?", BinaryContent(picture, media_type="image/png")]
    assert agent.run_sync(question, usage_limits=LIMITS).output


def test_an_error_has_the_servers_words(model):
    with pytest.raises(ModelHTTPError, match="temperature"):
        Agent(model, model_settings={"temperature": 5}).run_sync("Hi")
