"""Wire formats and image tokens, against Mistral's documented layouts and sizes."""

import base64
import io
import json
import socket

import pytest
from mistral_common.exceptions import MistralCommonException
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from PIL import Image

from helpers import openrouter, wire

TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}


def conversation(tool_id="bbc5b7ede"):
    function = {"name": "weather", "arguments": '{"city": "Paris"}'}
    call = {"id": tool_id, "type": "function", "function": function}
    return [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Is it warm?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": tool_id, "content": "18"},
    ]


@pytest.mark.parametrize(
    ("version", "call", "result"),
    [
        (
            "v7",
            '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Paris"}, "id": "bbc5b7ede"}]',
            "[TOOL_RESULTS]bbc5b7ede[TOOL_CONTENT]18[/TOOL_RESULTS]",
        ),
        (
            "v11",
            '[TOOL_CALLS]weather[CALL_ID]bbc5b7ede[ARGS]{"city": "Paris"}',
            "[TOOL_RESULTS]bbc5b7ede[TOOL_CONTENT]18[/TOOL_RESULTS]",
        ),
        (
            "v13",
            '[TOOL_CALLS]weather[ARGS]{"city": "Paris"}',
            "[TOOL_RESULTS]18[/TOOL_RESULTS]",
        ),
    ],
)
def test_a_tool_call_on_the_wire(version, call, result):
    text = wire.decode(wire.encode(conversation(), [TOOL], version), version)
    assert text.startswith("<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][AVAILABLE_TOOLS]")
    assert text.endswith(f"[INST]Is it warm?[/INST]{call}</s>{result}")


@pytest.mark.parametrize("version", ["v7", "v11", "v13"])
def test_the_formats_are_those_of_a_tokenizer_file(version, tmp_path):
    """Against a file of that version, loaded by mistral_common; with tools and a picture."""
    file = json.loads(wire.SHIPPED.read_text(encoding="utf-8"))
    file["config"]["version"] = version
    file["image"] = wire.PIXTRAL_IMAGES
    special = wire.tokenizer().instruct_tokenizer.tokenizer._all_special_tokens
    file["special_tokens"] = [t for t in special if not t["token_str"].startswith("<SPECIAL_")]
    path = tmp_path / "tekken.json"
    path.write_text(json.dumps(file), encoding="utf-8")
    from_file = MistralTokenizer.from_file(path)
    picture = io.BytesIO()
    Image.new("RGB", (90, 60), "red").save(picture, "PNG")
    url = "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode()
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "And ça?"}]
    messages = [
        *conversation(),
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": parts},
    ]
    request = ChatCompletionRequest.from_openai(messages=messages, tools=[TOOL])
    assert from_file.instruct_tokenizer.tokenizer.version.value == version
    expected = from_file.encode_chat_completion(request)
    assert wire.encode(messages, [TOOL], version) == expected.tokens
    assert len(wire.tokenizer(version).encode_chat_completion(request).images) == 1


@pytest.mark.parametrize("tool_id", ["call_abc123", "12345", "abc-defgh"])
def test_ids_of_another_form_are_refused(tool_id):
    with pytest.raises(MistralCommonException, match="length of 9"):
        wire.encode(conversation(tool_id), [TOOL])


@pytest.mark.parametrize(
    ("size", "count"), [((448, 448), 272), ((1000, 600), 814), ((4000, 3000), 2352)]
)
def test_image_tokens(size, count):
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "PNG")
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    part = {"type": "image_url", "image_url": {"url": url}}
    tokens = wire.encode([{"role": "user", "content": [part]}])
    assert sum("[IMG" in wire.decode([token]) for token in tokens) == count


def inside(part, role="user"):
    """A conversation with a message that has this part."""
    if role == "user":
        return [{"role": "user", "content": [part]}]
    return [*conversation()[:3], {**conversation()[3], "content": [part]}]


@pytest.mark.parametrize("role", ["user", "tool"])
@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/a.png"}},
        {"type": "image_url", "image_url": "https://example.com/a.png"},
        {"type": "image_url", "image_url": {"url": "FILE"}},
        {"type": "image_url", "image_url": {"url": "file://FILE"}},
        {"type": "image_url", "image_url": {"url": "ftp://example.com/a.png"}},
        {"type": "image_url", "image_url": {"url": ""}},
        {"type": "audio_url", "audio_url": {"url": "http://127.0.0.1:9/a.wav"}},
        {"type": "audio_url", "audio_url": "FILE"},
    ],
)
def test_counting_fetches_and_opens_nothing(tmp_path, monkeypatch, part, role):
    """mistral_common would fetch an address and open a file, loopback and any path included."""
    path = tmp_path / "a.png"
    Image.new("RGB", (30, 30)).save(path)
    part = json.loads(json.dumps(part).replace("FILE", str(path)))
    wire.tokenizer()  # reads its own file once
    monkeypatch.setattr(socket.socket, "connect", None)
    monkeypatch.setattr("builtins.open", None)
    with pytest.raises(ValueError, match="data URL") as refused:
        wire.encode(inside(part, role), [TOOL])
    model = "mistralai/mistral-small-3.2-24b-instruct"
    with pytest.raises(ValueError, match="offline"):
        openrouter.estimate_cost(inside(part, role), model, max_tokens=1, tools=[TOOL])
    assert len(str(refused.value)) < 400


def test_tokens_of_a_text():
    assert wire.count_tokens("ABC") == 1
    assert wire.count_tokens("") == 0
    assert wire.count_tokens("ABCD", wire.SHIPPED) == 2


def test_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match="v7, v11, v13"):
        wire.tokenizer("v3")
