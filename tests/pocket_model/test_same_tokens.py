"""Training, the server and mistral_common's own OpenAI converter encode a conversation alike."""

import base64
import io

import numpy as np
import pytest
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from PIL import Image

from pocket_model.chat_format import ChatFormat, Prompt
from pocket_model.pictures import PictureReader
from pocket_model.server.protocol import ChatRequest
from pocket_training import picture_tasks, tool_tasks
from pocket_training.examples import ExampleEncoder


@pytest.fixture(scope="module")
def tekken_file(model_folder):
    return model_folder / "tekken.json"


@pytest.fixture(scope="module")
def chat_format(tekken_file):
    return ChatFormat(tekken_file)


@pytest.fixture(scope="module")
def expected(tekken_file):
    """Encodes OpenAI messages as mistral_common does: token ids and pictures."""
    tokenizer = MistralTokenizer.from_file(tekken_file)

    def encode(messages, tools=None):
        request = ChatCompletionRequest.from_openai(messages=messages, tools=tools)
        encoded = tokenizer.encode_chat_completion(request)
        return encoded.tokens, encoded.images

    return encode


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def in_openai_form(messages: list[dict]) -> list[dict]:
    """The messages with each picture as a PNG's data URL."""

    def part(given: dict) -> dict:
        if given["type"] == "text":
            return given
        file = io.BytesIO()
        given["image"].save(file, "PNG")
        url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
        return {"type": "image_url", "image_url": {"url": url}}

    return [
        message | {"content": [part(each) for each in message["content"]]}
        if isinstance(message.get("content"), list)
        else message
        for message in messages
    ]


def assert_same(prompt, expected_prompt) -> None:
    ids, pictures = expected_prompt
    assert prompt.ids == ids
    assert len(prompt.pictures) == len(pictures)
    for picture, other in zip(prompt.pictures, pictures, strict=True):
        np.testing.assert_array_equal(picture, other)


def tool(name: str, **parameters) -> dict:
    schema = {"type": "object", "properties": parameters, "required": [*parameters]}
    function = {"name": name, "description": f"Über {name}.", "parameters": schema}
    return {"type": "function", "function": function}


def call(call_id: str, name: str, arguments: str) -> dict:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(call_id: str, content: str) -> dict:
    return {"role": "tool", "tool_call_id": call_id, "name": "any", "content": content}


SYSTEM = {"role": "system", "content": "Be brief."}
ASK = {"role": "user", "content": "Wie viele Menschen leben in 東京?"}
TOOLS = [tool("get_population", city={"type": "string"}), tool("stop")]
CALLS = [
    call("Ab3dE6gH9", "get_population", '{"city": "東京"}'),
    call("000000002", "get_population", '{"city":"Kyōto",  "n": 1.0}'),
]
PICTURE = {"type": "image", "image": noise(84, 56)}
LARGE = {"type": "image", "image": noise(500, 300)}
TEXT = {"type": "text", "text": "What is this?"}
CONVERSATIONS = {
    "one turn": ([ASK], None),
    "system": ([SYSTEM, ASK], None),
    "turns": ([SYSTEM, ASK, {"role": "assistant", "content": "14 Mio."}, ASK], None),
    "tools": ([SYSTEM, ASK], TOOLS),
    "calls with results": (
        [
            SYSTEM,
            ASK,
            {"role": "assistant", "content": "One moment.", "tool_calls": CALLS},
            result("Ab3dE6gH9", '{"millions": 14}'),
            result("000000002", "1.4 million"),
        ],
        TOOLS,
    ),
    "calls, then a question": (
        [
            ASK,
            {"role": "assistant", "tool_calls": CALLS[:1]},
            result("Ab3dE6gH9", "14"),
            {"role": "assistant", "content": "14."},
            ASK,
        ],
        TOOLS,
    ),
    "pictures": ([{"role": "user", "content": [PICTURE, LARGE, TEXT]}], None),
    "text, then a picture, tools": (
        [SYSTEM, {"role": "user", "content": [TEXT, LARGE]}],
        TOOLS,
    ),
    "a picture turns ago": (
        [{"role": "user", "content": [PICTURE, TEXT]}, {"role": "assistant", "content": "-"}, ASK],
        None,
    ),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_chat_format_encodes_as_mistral_common_does(name, chat_format, expected):
    messages, tools = CONVERSATIONS[name]
    assert_same(chat_format.encode(messages, tools), expected(in_openai_form(messages), tools))


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_request_to_the_server_has_the_same_tokens(name, chat_format, expected):
    messages, tools = CONVERSATIONS[name]
    messages = in_openai_form(messages)
    body = ChatRequest(model="any", messages=messages, tools=tools)
    pictures = PictureReader()
    read = [message.as_dict(pictures.read) for message in body.messages]
    assert_same(chat_format.encode(read, body.prompt_tools), expected(messages, tools))


@pytest.mark.parametrize("skill", tool_tasks.SKILLS)
def test_training_encodes_tool_cases_the_same(skill, chat_format, expected):
    encoder = ExampleEncoder(chat_format)
    for group in tool_tasks.tool_groups("train", skill, groups=4, per_group=3, seed=11):
        for case in group:
            prompt = encoder.tool_example(case, "given").prompt
            assert prompt == expected(case.messages, case.tools)[0]


@pytest.mark.parametrize("kind", ["shapes", "two"])
def test_training_encodes_pictures_the_same(kind, chat_format, expected):
    encoder = ExampleEncoder(chat_format)
    (group,) = picture_tasks.picture_groups("train", kind, groups=1, seed=5)
    for case in group:
        parts = [{"type": "image", "image": picture} for picture in case.pictures]
        message = {"role": "user", "content": [*parts, {"type": "text", "text": case.question}]}
        example = encoder.picture_example(case)
        assert_same(Prompt(example.prompt, example.pictures), expected(in_openai_form([message])))
