"""`prefix`: an answer that begins with the client's words, as Mistral's API has it."""

import openai
import pytest
from mistral_common.protocol.instruct.messages import AssistantMessage, UserMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest

from helpers import connect

ASK = {"role": "user", "content": "What is the capital of France?"}
SCHEMA = {"name": "s", "schema": {"type": "object"}}
TOOL = {"type": "function", "function": {"name": "look"}}


@pytest.fixture(scope="module")
def lab(model_folder):
    connected = connect("pocket")
    yield connected
    connected.close()


def begun(text: str) -> dict:
    return {"role": "assistant", "content": text, "prefix": True}


def ask(lab, *messages, **settings):
    settings = {"max_tokens": 12, "temperature": 0} | settings
    return lab.client.chat.completions.create(model=lab.model, messages=messages, **settings)


def test_its_own_words_are_continued_as_it_would_have(lab):
    whole = ask(lab, ASK, max_tokens=10)
    text = whole.choices[0].message.content
    words = text.split(" ")
    for count in range(1, len(words)):
        beginning = " ".join(words[:count])
        reply = ask(lab, ASK, begun(beginning), max_tokens=10)
        content = reply.choices[0].message.content
        assert content.startswith(beginning)
        assert content.startswith(text) or text.startswith(content)
        assert reply.usage.prompt_tokens > whole.usage.prompt_tokens


def test_other_words_lead_elsewhere(lab):
    plain = ask(lab, ASK).choices[0].message.content
    content = ask(lab, ASK, begun("In German, one would say:")).choices[0].message.content
    assert content.startswith("In German, one would say:")
    assert len(content) > len("In German, one would say:")
    assert plain not in content


@pytest.mark.parametrize("text", ["The answer is", "The answer is ", "1, 2, 3,", "[INST]", "é🌊"])
def test_the_prompt_is_mistral_commons(lab, chat_format, text):
    messages = [UserMessage(content=ASK["content"]), AssistantMessage(content=text, prefix=True)]
    request = ChatCompletionRequest(messages=messages)
    expected = chat_format.tokenizer.encode_chat_completion(request).tokens
    reply = ask(lab, ASK, begun(text), max_tokens=1)
    assert reply.usage.prompt_tokens == len(expected)
    assert reply.usage.completion_tokens == 1


def test_a_stream_begins_with_it(lab):
    whole = ask(lab, ASK, begun("Well,")).choices[0].message.content
    stream = ask(lab, ASK, begun("Well,"), stream=True, logprobs=True)
    choices = [chunk.choices[0] for chunk in stream]
    pieces = [choice.delta.content for choice in choices if choice.delta.content]
    assert pieces[0] == "Well,"
    assert "".join(pieces) == whole
    told = [entry.token for c in choices if c.logprobs for entry in c.logprobs.content]
    assert "Well," + "".join(told) == whole


@pytest.mark.parametrize(
    ("messages", "settings", "says"),
    [
        ([ASK | {"prefix": True}], {}, "only the text of an assistant message"),
        ([ASK, begun("Yes"), ASK], {}, "only the last message"),
        ([ASK, begun("")], {}, "empty"),
        ([ASK, {"role": "assistant", "content": "Yes"}], {}, 'add "prefix": true'),
        (
            [ASK, begun("{")],
            {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
            "cannot begin with a text of yours",
        ),
        ([ASK, begun("Yes")], {"tools": [TOOL], "tool_choice": "required"}, "cannot begin"),
    ],
)
def test_where_it_makes_no_sense_it_is_refused(lab, messages, settings, says):
    with pytest.raises(openai.BadRequestError) as refused:
        ask(lab, *messages, **settings)
    assert says in str(refused.value)


def test_with_tools_at_hand_text_is_continued(lab):
    content = ask(lab, ASK, begun("The capital"), tools=[TOOL]).choices[0].message.content
    assert content.startswith("The capital")
