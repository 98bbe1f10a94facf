"""smolagents: its model class. Its agents want plans that the small model cannot write."""

import pytest
from PIL import Image
from smolagents import ChatMessage, MessageRole, OpenAIModel, tool


@tool
def look_up(city: str) -> str:
    """Look up the weather.

    Args:
        city: its name.
    """
    return "sunny"


@pytest.fixture
def model(server):
    options = {"api_base": server.base_url, "api_key": server.api_key}
    return OpenAIModel(server.model, **options, max_tokens=30, temperature=0)


def message(role, text, *more):
    return ChatMessage(role=role, content=[{"type": "text", "text": text}, *more])


def test_plain_and_a_second_turn_with_its_own_message(model):
    first = model.generate([message(MessageRole.USER, "Say hello.")])
    assert first.token_usage.output_tokens <= 30
    history = [message(MessageRole.USER, "Say hello."), first, message(MessageRole.USER, "Again.")]
    assert model.generate(history).content


def test_streamed(model):
    deltas = list(model.generate_stream([message(MessageRole.USER, "Say hello.")]))
    assert "".join(delta.content or "" for delta in deltas)


def test_a_call_and_its_result(model):
    question = message(MessageRole.USER, "Look up Paris.")
    called = model.generate([question], tools_to_call_from=[look_up])  # it requires a call
    assert called.tool_calls[0].function.name == "look_up"
    # smolagents writes calls and results into the history as text.
    history = [
        question,
        message(MessageRole.TOOL_CALL, f"Calling tools: {called.tool_calls[0].function.arguments}"),
        message(MessageRole.TOOL_RESPONSE, "Observation: sunny"),
    ]
    assert model.generate(history).content


def test_a_picture(model, picture, tmp_path):
    (tmp_path / "a.png").write_bytes(picture)
    image = {"type": "image", "image": Image.open(tmp_path / "a.png")}
    assert model.generate([message(MessageRole.USER, "Which color?", image)]).content
