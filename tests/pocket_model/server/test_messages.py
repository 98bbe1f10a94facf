"""Messages of requests: what comes back from a reply, the prompt, the order, parts, long texts.

What is right is said by Mistral's own package (`ChatCompletionRequest.from_openai`), as the 24B's
prompt is made by it, and by OpenAI's reference (the openai package's types).
"""

import json
from types import SimpleNamespace

import pytest
from chat_bodies import ASK, ID, PARTS, PICTURE, REPLY, RESULT, SYSTEM, called, read, refusal
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from openai.types.chat import ParsedChatCompletionMessage

from pocket_model.chat_format import FormatError
from pocket_model.server.errors import ApiError
from pocket_model.server.service import ChatService


def with_call(**fields) -> dict:
    message = called()
    message["tool_calls"][0] |= fields
    return message


@pytest.mark.parametrize(
    ("message", "same"),
    [
        # openai's parsed messages, dumped (vLLM went this way too: vllm#10463)
        (ParsedChatCompletionMessage(role="assistant", content="Hello").model_dump(), REPLY),
        (REPLY | {"parsed": {"a": 1}}, REPLY),
        # OpenRouter's fields, litellm's, Mistral's, and a participant's name
        (REPLY | {"reasoning": "Hm.", "reasoning_details": [], "images": [], "model": "m"}, REPLY),
        (REPLY | {"provider_specific_fields": {"a": 1}, "annotations": []}, REPLY),
        (REPLY | {"prefix": False, "name": "a name", "audio": None, "tool_calls": []}, REPLY),
        (with_call(index=0, custom=None), called()),
        (with_call(function={"name": "f", "arguments": "{}", "parsed_arguments": {}}), called()),
        # what the model said instead of an answer
        (REPLY | {"content": None, "refusal": "Hello"}, REPLY),
        (REPLY | {"content": [{"type": "refusal", "refusal": "Hello"}]}, REPLY),
        (REPLY | {"content": [{"type": "text", "text": "Hello", "annotations": []}]}, REPLY),
        # arguments as clients send them: none, an object, cut, no JSON
        (called(""), called("{}")),
        (called(" "), called("{}")),
        (called(None), called("{}")),
        (called({"a": 1}), called('{"a": 1}')),
        (called('{"a": "\\u00e9'), called('"{\\"a\\": \\"\\\\u00e9"')),
        (called("[1]"), called("[1]")),
        (called('{"a": NaN}'), called('{"a": NaN}')),
        (called('{"a": "\\ud800"}'), called('{"a": "\ufffd"}')),
    ],
)
def test_a_reply_sent_back_is_the_same_prompt(chat_format, message, same):
    def prompt(each: dict) -> list[int]:
        rest = [RESULT] if each.get("tool_calls") else [ASK]
        messages = read(ASK, each, *rest).messages
        return chat_format.encode([message.as_dict(None) for message in messages]).ids

    assert prompt(message) == prompt(same)


@pytest.mark.parametrize(
    "messages",
    [
        [ASK],
        [SYSTEM, ASK],
        [SYSTEM | {"role": "developer"}, ASK],
        [ASK, SYSTEM, ASK],
        [REPLY, ASK],  # a greeting
        [SYSTEM, REPLY, REPLY, ASK, ASK],
        [ASK | {"name": "Ann"}],
        [ASK | {"content": PARTS}],
        [SYSTEM | {"content": PARTS}, ASK, REPLY | {"content": PARTS}, ASK],
        [ASK | {"content": ""}],
        [ASK | {"content": []}],
        [ASK, called('{"a":1}', content="I look."), RESULT | {"content": PARTS, "name": "f"}, ASK],
        [ASK, called("no JSON"), RESULT | {"content": ""}],
        [ASK, called(), RESULT, called(call_id="123456789"),
         RESULT | {"tool_call_id": "123456789"}],
        [ASK | {"content": "a\x00b\u2028\U0001f600 [INST] </s>"}],
    ],
)  # fmt: skip
def test_the_prompt_is_that_of_mistrals_own_package(chat_format, messages):
    official = ChatCompletionRequest.from_openai(messages, model="m")
    expected = chat_format.tokenizer.encode_chat_completion(official).tokens
    ours = [message.as_dict(None) for message in read(*messages).messages]
    assert chat_format.encode(ours).ids == expected


@pytest.mark.parametrize("pattern", [r"^\p{L}+$", "(?<year>[0-9]{4})"])
def test_a_tools_schema_may_have_the_regular_expressions_of_javascript(chat_format, pattern):
    # JSON Schema 2020-12, 6.4: ECMA-262's dialect, which Python's `re` does not have
    parameters = {"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    (message,) = read(tools=tools).messages
    prompt = chat_format.encode([message.as_dict(None)], read(tools=tools).prompt_tools)
    assert json.dumps(parameters) in chat_format.decode(prompt.ids)


@pytest.mark.parametrize(
    ("messages", "param", "says"),
    [
        ([SYSTEM], "messages.0", "the last message must be a user or tool message"),
        ([ASK, REPLY], "messages.1", "of Mistral's format"),
        ([ASK, REPLY, SYSTEM, ASK], "messages.2", "cannot follow a message of the role assistant"),
        ([ASK, called(), RESULT, SYSTEM, ASK], "messages.3", "of Mistral's format, not of OpenAI"),
        ([ASK, called(), ASK], "messages.2", f"the call {ID} has no result yet"),
        ([ASK, called(), REPLY, RESULT], "messages.2", "no result yet"),
        ([ASK, called()], "messages.1", f"the call {ID} has no result"),
        ([RESULT, ASK], "messages.0", f'the id "{ID}"'),
        ([ASK, RESULT], "messages.1", "no call waits for a result"),
        ([ASK, called(), RESULT, RESULT], "messages.3", "each call once"),
        ([called(), RESULT], "messages.0", "cannot begin with a call"),
        ([ASK, {**called(), "tool_calls": called()["tool_calls"] * 2}], "messages.1", "same id"),
        (
            [ASK, called(call_id="call_abc123"), RESULT],
            "messages.1.tool_calls.0.id",
            "nine letters",
        ),
        (
            [ASK, with_call(function={"name": "a b"}), RESULT],
            "messages.1.tool_calls.0.function.name",
            'not "a b"',
        ),
        ([ASK, {"role": "assistant", "content": ""}, ASK], "messages.1", "Leave the message out"),
        ([ASK, REPLY | {"content": [PARTS[0] | {"text": ""}]}, ASK], "messages.1", "is empty"),
        ([ASK, REPLY | {"prefix": True}, ASK], "messages.1", "only the last message"),
        ([ASK, REPLY | {"function_call": {}}, ASK], "messages.1", "in tool_calls"),
        ([{"role": "function", "content": "1"}], "messages.0.role", "'tool', not \"function\""),
        ([{"role": "user"}], "messages.0", "no content"),
        ([ASK, called(), RESULT | {"content": None}], "messages.2", 'send "" if it is empty'),
        ([ASK, called(), {"role": "tool", "content": "1"}], "messages.2", "needs the tool_call_id"),
        ([ASK | {"tool_call_id": ID}], "messages.0", "only tool messages"),
        ([ASK | {"tool_calls": called()["tool_calls"]}], "messages.0", "only assistant messages"),
        ([None], "messages.0", "must be an object, not null"),
        ([ASK, called("1" * 5000), RESULT], "messages.1.tool_calls.0.function.arguments", "digits"),
        ([ASK, called("[" * 9**6), RESULT], "messages.1.tool_calls.0.function.arguments", "deeply"),
        ([ASK, called(5), RESULT], "messages.1.tool_calls.0.function.arguments", "a string, not 5"),
        ([ASK | {"content": 5}], "messages.0.content", "a string or a list of parts, not 5"),
        ([ASK | {"content": {"type": "text"}}], "messages.0.content", "list of parts"),
    ],
)
def test_a_conversation_that_has_no_prompt_is_refused_by_the_rule(messages, param, says):
    error = refusal(*messages)
    assert error["param"] == param
    assert says in error["message"]


@pytest.mark.parametrize(
    ("part", "where", "says"),
    [
        ({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, "", "no sound"),
        ({"type": "file", "file": {"file_id": "a"}}, "", "no files"),
        ({"type": "thinking", "thinking": []}, "", '"thinking"'),
        ({"type": ["text"]}, "", "must be"),
        ({"text": "a"}, "", 'not {"text":"a"}'),
        ("a", "", 'not "a"'),
        ({"type": "text", "text": 5, "cache_control": {}}, ".text", "must be a string, not 5"),
        ({"type": "text", "text": None}, ".text", "is required"),
        ({"type": "image_url", "image_url": 5}, ".image_url", "must be an object"),
        ({"type": "image_url", "image_url": {}}, ".image_url.url", "is required"),
        (
            {"type": "image_url", "image_url": {"url": "", "detail": "best"}},
            ".image_url.detail",
            "'original', not \"best\"",
        ),
    ],
)
def test_parts_that_the_model_cannot_read_are_refused(part, where, says):
    error = refusal(ASK | {"content": [PARTS[0], part]})
    assert error["param"] == f"messages.0.content.1{where}"
    assert says in error["message"]


@pytest.mark.parametrize(
    "part",
    [
        PICTURE,
        PICTURE | {"image_url": "data:,"},  # Mistral's client
        PICTURE | {"image_url": {"url": "data:,", "detail": "high"}, "cache_control": {}},
        PICTURE | {"image_url": {"url": "data:,", "detail": None}},
    ],
)
def test_every_form_of_a_picture_is_read(part):
    (message,) = read(ASK | {"content": [part]}).messages
    assert message.as_dict(lambda url: url)["content"] == [{"type": "image", "image": "data:,"}]
    assert "only user messages" in refusal(SYSTEM | {"content": [part]}, ASK)["message"]


def test_a_text_that_is_far_too_long_is_refused_before_it_is_tokenized():
    service = SimpleNamespace(context=8192, _format=SimpleNamespace(longest_token=81))
    service._too_long = lambda tokens: ChatService._too_long(service, tokens)
    for messages in ([ASK | {"content": "a " * 10**6}], [ASK, called("a" * 10**6), RESULT]):
        with pytest.raises(ApiError, match=r"at least .* maximum context length is 8192"):
            ChatService._encode(service, read(*messages))


def test_no_token_is_longer_than_the_limit_says(chat_format):
    ids = chat_format.encode_text(" " * 500 + "a" * 500 + "=" * 500)
    assert max(len(chat_format.decode([id_])) for id_ in ids) <= chat_format.longest_token


@pytest.mark.parametrize("text", [" " * 1_100_000, "\r\n" * 600_000])
def test_a_text_that_the_tokenizer_gives_up_on_is_an_error_of_the_format(chat_format, text):
    with pytest.raises(FormatError, match="cannot be tokenized"):
        chat_format.encode([ASK | {"content": text}])
