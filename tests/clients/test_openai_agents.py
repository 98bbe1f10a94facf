"""openai-agents, with its model for chat completions."""

import asyncio
from typing import Literal

import pytest
from agents import (
    Agent,
    AgentOutputSchema,
    ModelSettings,
    OpenAIChatCompletionsModel,
    Runner,
    function_tool,
)
from openai import AsyncOpenAI
from pydantic import BaseModel


class Color(BaseModel):
    color: Literal["red"]


@function_tool
def look_up(city: Literal["Paris"]) -> str:
    """Look up the weather of a city."""
    return "sunny"


@pytest.fixture
def agent(server):
    def make(**more):
        client = AsyncOpenAI(**server.options, max_retries=0)
        model = OpenAIChatCompletionsModel(model=server.model, openai_client=client)
        settings = ModelSettings(**{"max_tokens": 5, "temperature": 0} | more.pop("settings", {}))
        return Agent(name="helper", model=model, model_settings=settings, **more)

    return make


def run(agent, question, **more):
    return asyncio.run(Runner.run(agent, question, max_turns=4, **more))


def test_plain_and_a_second_turn_with_its_own_items(agent):
    first = run(agent(instructions="Be brief."), "Say hello.")
    assert isinstance(first.final_output, str)
    items = [*first.to_input_list(), {"role": "user", "content": "Again."}]
    assert isinstance(run(agent(), items).final_output, str)


def test_streamed(agent):
    async def stream():
        result = Runner.run_streamed(agent(), "Say hello.")
        kinds = [event.type async for event in result.stream_events()]
        return kinds, result.final_output

    kinds, output = asyncio.run(stream())
    assert "raw_response_event" in kinds
    assert isinstance(output, str)


@pytest.mark.parametrize("choice", ["required", "look_up"])
def test_a_loop_of_tools(agent, choice):
    # After the first call the package sets the choice back to auto. Whether the small model then
    # calls again is not held, so the run ends with the tool's result.
    with_tool = agent(
        tools=[look_up],
        settings={"tool_choice": choice, "max_tokens": 40},
        tool_use_behavior="stop_on_first_tool",
    )
    result = run(with_tool, "How is the weather in Paris?")
    assert "sunny" in str(result.final_output)
    items = [*result.to_input_list(), {"role": "user", "content": "Thanks. Say goodbye."}]
    assert isinstance(
        run(agent(tools=[look_up], settings={"tool_choice": "none"}), items).final_output, str
    )


@pytest.mark.parametrize("strict", [True, False])
def test_structured_output(agent, strict):
    output = AgentOutputSchema(Color, strict_json_schema=strict)
    assert isinstance(
        run(
            agent(output_type=output, settings={"max_tokens": 40}), "A color, please."
        ).final_output,
        Color,
    )


@pytest.mark.parametrize("detail", ["auto", "low"])
def test_a_picture(agent, picture_url, detail):
    image = {"type": "input_image", "image_url": picture_url, "detail": detail}
    content = [image, {"type": "input_text", "text": "Which color?"}]
    assert run(agent(), [{"role": "user", "content": content}]).final_output
