"""The conversation with tools: its tokens against mistral_common's own count of each message."""

import pytest
from mistral_common.protocol.instruct.messages import AssistantMessage, ToolMessage, UserMessage

from helpers import images, wire
from helpers.paths import DATA
from helpers.widgets import trace

CALLS = [
    {"id": f"abcdefgh{n}", "type": "function", "function": {"name": name, "arguments": text}}
    for n, (name, text) in enumerate((("weather", '{"city": "Köln"}'), ("time", "{}")))
]
SYSTEM = {"role": "system", "content": "Be brief. [INST]"}
CONVERSATION = [
    {"role": "user", "content": "How is the weather, and how late is it? 🌊"},
    {"role": "assistant", "content": None, "tool_calls": CALLS},
    {"role": "tool", "tool_call_id": "abcdefgh0", "content": '{"error": "closed"}'},
    {"role": "tool", "tool_call_id": "abcdefgh1", "content": "12:05"},
    {"role": "assistant", "content": "It is five past twelve."},
    {"role": "user", "content": "Thanks [TOOL_CALLS]"},
]
PIXELS = images.image_part(DATA / "images" / "shapes.png")
PICTURE = {"role": "user", "content": [{"type": "text", "text": "What is it?"}, PIXELS]}


@pytest.mark.parametrize(
    "messages", [CONVERSATION, [SYSTEM, *CONVERSATION], [PICTURE], CONVERSATION[:3]]
)
def test_all_parts_together_are_the_whole_conversation(messages):
    parts = trace.wire_tokens(messages)
    assert [token for part in parts for token in part] == wire.encode(messages)
    assert len(parts) == len(list(trace.arrows(messages)))


def test_each_part_has_the_tokens_that_the_tokenizer_makes_of_its_message():
    own = wire.tokenizer().instruct_tokenizer
    parts = trace.wire_tokens(CONVERSATION)
    user, _, _ = own.encode_user_message(
        UserMessage(content=CONVERSATION[0]["content"]), [], is_last=False, is_first=True
    )
    asks = own.encode_assistant_message(AssistantMessage.from_openai(CONVERSATION[1]), False)
    results = [
        own.encode_tool_message(ToolMessage.from_openai(message), False)[0]
        for message in CONVERSATION[2:4]
    ]
    answer = own.encode_assistant_message(
        AssistantMessage(content=CONVERSATION[4]["content"]), False
    )
    assert parts[0][1:] == user  # the first token begins the conversation
    assert parts[1] + parts[2] == asks
    assert parts[3:6] == [*results, answer]
    assert wire.decode(parts[1]).startswith("[TOOL_CALLS]weather[CALL_ID]abcdefgh0[ARGS]")
    assert wire.decode(parts[2]).startswith("[TOOL_CALLS]time")


def test_an_answer_at_the_end_has_its_tokens_too():
    parts = trace.wire_tokens(CONVERSATION[:5])
    assert wire.decode(parts[-1]) == "It is five past twelve.</s>"
    assert parts == trace.wire_tokens(CONVERSATION)[:6]


def test_the_page_and_the_table_have_the_counts():
    made = trace.explore(CONVERSATION)
    counts = [len(part) for part in trace.wire_tokens(CONVERSATION)]
    assert made.table["tokens"].to_list() == counts
    steps = made.data["steps"]
    assert [step["count"] for step in steps] == counts
    assert [[token["id"] for token in step["tokens"]] for step in steps] == trace.wire_tokens(
        CONVERSATION
    )
    typed = [token for token in steps[-1]["tokens"] if token["kind"] == "control"]
    assert [token["text"] for token in typed] == ["[INST]", "[/INST]"]  # what is typed stays text


def test_image_tokens_are_shown_as_a_number():
    step = trace.explore([PICTURE]).data["steps"][0]
    (ids,) = trace.wire_tokens([PICTURE])
    assert step["count"] == len(ids) > 100
    assert len(step["tokens"]) < 80
    tekken = wire.tokenizer().instruct_tokenizer.tokenizer
    first = ids.index(tekken.get_special_token("[IMG_BREAK]")) - ids.index(
        tekken.get_special_token("[IMG]")
    )
    assert f"[IMG] × {first}" in [token["text"] for token in step["tokens"]]


def test_every_control_token_is_explained():
    for messages in ([SYSTEM, *CONVERSATION], [PICTURE]):
        for step in trace.explore(messages).data["steps"]:
            for token in step["tokens"]:
                if token["kind"] == "control":
                    assert token["text"].partition(" × ")[0] in trace.MEANINGS


def test_an_empty_answer_has_no_tokens():
    made = trace.explore([CONVERSATION[0], {"role": "assistant", "content": ""}])
    assert [step["count"] > 0 for step in made.data["steps"]] == [True, False]


@pytest.mark.parametrize(
    ("messages", "says_so"),
    [
        ([CONVERSATION[0], CONVERSATION[0]], "become one"),
        (
            [
                CONVERSATION[0],
                {"role": "assistant", "tool_calls": [CALLS[0] | {"id": "call_1"}]},
                {"role": "tool", "tool_call_id": "call_1", "content": "x"},
            ],
            "call_1",
        ),
        (
            [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "http://x"}}],
                }
            ],
            "offline",
        ),
    ],
)
def test_what_the_format_forbids_is_said_and_the_page_remains(messages, says_so):
    made = trace.explore(messages)
    assert says_so in made.data["refused"]
    assert "tokens" not in made.table
    assert len(made.data["steps"]) == len(messages)
