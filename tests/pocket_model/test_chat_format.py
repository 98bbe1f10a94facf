"""The chat format against mistral_common's own reading of the tokens, and Python's of the bytes."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pocket_model.chat_format import ChatFormat, FormatError
from pocket_model.reply import Reply, ToolCall, read_reply
from pocket_model.tekken import CONTROL_IDS

ASK = {"role": "user", "content": "How many people live in Norway?"}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_population",
        "description": "Population of a country.",
        "parameters": {
            "type": "object",
            "properties": {"country": {"type": "string", "default": None}},
            "required": ["country"],
        },
    },
}


@pytest.fixture(scope="module")
def chat_format(model_folder):
    return ChatFormat(model_folder / "tekken.json")


def call(call_id="Ab3dE6gH9", arguments='{"country": "Norway"}', name="get_population"):
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def calling(*calls, content=None):
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


def result(call_id="Ab3dE6gH9", content='{"population": 5500000}'):
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def shown(chat_format, prompt) -> str:
    """The prompt with its control tokens spelled out."""
    names = {rank: name for name, rank in CONTROL_IDS.items()}
    pieces = [names.get(token) or chat_format.decode([token]) for token in prompt.ids]
    return "".join(pieces)


def test_a_whole_tool_conversation_in_the_v11_layout(chat_format):
    messages = [{"role": "system", "content": "Be brief."}, ASK, calling(call()), result()]
    tools = json.dumps([TOOL])
    assert shown(chat_format, chat_format.encode(messages, [TOOL])) == (
        "<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT]"
        f"[AVAILABLE_TOOLS]{tools}[/AVAILABLE_TOOLS]"
        "[INST]How many people live in Norway?[/INST]"
        '[TOOL_CALLS]get_population[CALL_ID]Ab3dE6gH9[ARGS]{"country": "Norway"}</s>'
        '[TOOL_RESULTS]Ab3dE6gH9[TOOL_CONTENT]{"population": 5500000}[/TOOL_RESULTS]'
    )


def test_no_system_prompt_is_added(chat_format):
    assert shown(chat_format, chat_format.encode([ASK])) == (
        "<s>[INST]How many people live in Norway?[/INST]"
    )


@pytest.mark.parametrize("name", CONTROL_IDS)
def test_a_control_token_that_a_user_types_stays_text(chat_format, name):
    typed = chat_format.encode([{"role": "user", "content": f"a {name} b"}]).ids
    plain = chat_format.encode([{"role": "user", "content": "a b"}]).ids
    control = set(CONTROL_IDS.values())
    assert [t for t in typed if t in control] == [t for t in plain if t in control]
    assert name in chat_format.decode(typed)


# The rule: the longer side is shrunk to 168 pixels; a token covers 28 × 28, a row ends in one.
@pytest.mark.parametrize(
    ("size", "rows", "columns"),
    [((28, 28), 1, 1), ((29, 28), 1, 2), ((112, 56), 2, 4), ((1120, 280), 2, 6), ((30, 900), 6, 1)],
)
def test_a_picture_takes_the_tokens_of_the_rule(chat_format, size, rows, columns):
    part = {"type": "image", "image": Image.new("RGB", size, "red")}
    text = {"type": "text", "text": "What is this?"}
    prompt = chat_format.encode([{"role": "user", "content": [part, text]}])
    alone = chat_format.encode([{"role": "user", "content": [text]}])
    assert prompt.ids.count(CONTROL_IDS["[IMG]"]) == rows * columns
    assert prompt.ids.count(CONTROL_IDS["[IMG_BREAK]"]) == rows - 1
    assert len(prompt.ids) - len(alone.ids) == rows * (columns + 1)
    assert [picture.shape for picture in prompt.pictures] == [(3, 28 * rows, 28 * columns)]


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([ASK, calling(call()), result("Xb3dE6gH9")], "Unexpected tool call id"),
        ([ASK, calling(call("short")), result("short")], "length of 9"),
        ([ASK, calling(call(), call("Zb3dE6gH9")), result()], "Not the same number"),
        ([ASK, calling(call()), result(), result()], "Duplicate tool call id"),
        ([ASK, calling(call()), ASK], "Not the same number"),
        ([ASK, result()], "Unexpected role 'tool'"),
        ([ASK, {"role": "assistant", "content": "Hi"}], "last role"),
        ([ASK, {"role": "assistant", "content": ""}, ASK], "assistant"),
    ],
)
def test_what_the_format_cannot_express_is_refused(chat_format, messages, says):
    with pytest.raises(FormatError, match=says):
        chat_format.encode(messages, [TOOL])


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=40))
def test_text_survives_tokens_one_by_one(chat_format, text):
    ids = chat_format.encode_text(text)
    decode = chat_format.stream_decoder()
    assert "".join(decode(token) for token in ids) == text == chat_format.decode(ids)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=40))
def test_broken_bytes_are_replaced_as_python_does(chat_format, data):
    ids = [CONTROL_IDS["<unk>"], *(40 + byte for byte in data)]  # the first 256 are the bytes
    assert chat_format.decode(ids) == data.decode("utf-8", errors="replace")
    decode = chat_format.stream_decoder()
    streamed = "".join(decode(token) for token in ids)
    # Only an unfinished character at the very end is held back.
    assert chat_format.decode(ids).startswith(streamed)
    assert len(chat_format.decode(ids)) - len(streamed) <= 3


def test_a_reply_is_read_back_as_it_was_written(chat_format):
    calls = [call(), call("Zz0000000", '{"country": "Côte d’Ivoire 🌍"}')]
    message = calling(*calls, content="One moment.")
    before = chat_format.encode([ASK]).ids
    whole = chat_format.encode([ASK, message, result(), result("Zz0000000")]).ids
    end = whole.index(chat_format.end_token_id)
    read = read_reply(chat_format, whole[len(before) : end])
    assert read.content == "One moment."
    assert read.tool_calls == [
        ToolCall(each["id"], "get_population", each["function"]["arguments"]) for each in calls
    ]


def test_a_reply_that_breaks_the_format_is_read_as_far_as_possible(chat_format):
    calls, call_id, args = (CONTROL_IDS[t] for t in ("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"))
    text = chat_format.encode_text
    nothing = Reply()
    assert read_reply(chat_format, [calls, *text("get_x")]) == nothing
    assert read_reply(chat_format, [calls, *text("get_x"), call_id, *text("abc")]) == nothing
    without_id = read_reply(chat_format, [calls, *text("get_x"), args, *text('{"a"')])
    assert without_id.tool_calls == [ToolCall("", "get_x", '{"a"')]
    assert read_reply(chat_format, [args, *text("a"), call_id, *text("b")]).content == "ab"
