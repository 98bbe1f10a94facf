"""Any request that the openai package's types allow is taken with its meaning, or refused.

`openai_requests` makes the requests. What they mean is decided by mistral_common's
`ChatCompletionRequest.from_openai` and by OpenAI's reference, which the package's types repeat.
"""

import json
import re
from collections import Counter

import httpx2
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from mistral_common.exceptions import MistralCommonException
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai_requests import requests
from openrouter_contract import DOCUMENT, answer_schema, fits

from pocket_model.chat_format import ChatFormat
from pocket_model.pictures import ImageError, PictureReader
from pocket_model.server.errors import ApiError
from pocket_model.server.protocol import ChatRequest, read_request

# The same requests in every run; `--hypothesis-seed` and `derandomize=False` find others.
SETTINGS = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}

# Values at which a parameter changes nothing, by OpenAI's reference.
NEUTRAL = {
    "audio": [],
    "frequency_penalty": [0],
    "function_call": ["none", "auto"],  # without functions
    "functions": [[]],
    "logit_bias": [{}, {"12": 0}, {"key": 0}, {"12": 0, "key": 0}],
    "modalities": [["text"]],
    "moderation": [],
    "n": [1],
    "presence_penalty": [0],
    "reasoning_effort": ["none"],
    "service_tier": ["auto", "default"],
    "store": [False],
    "verbosity": ["medium"],
    "web_search_options": [],
}
# They name a request or its place in a cache; `prediction` only makes it faster.
LABELS = {
    *("metadata", "prediction", "prompt_cache_key", "prompt_cache_options"),
    *("prompt_cache_retention", "safety_identifier", "user"),
}
# What no caller has to know: words of pydantic and of this server's code.
INTERNAL = re.compile(
    r"\bInput\b|Extra inputs|Field required|after validation|tagged-union|union_tag|value_error"
    r"|literal\[|list\[|function-|pydantic|<[a-z]+>|0x[0-9a-f]{6}|Traceback|Error\b"
)


def assert_has_a_reason(refused: ApiError, body: dict) -> None:
    """A refusal is in the caller's words, and names a place in the body."""
    error = refused.body["error"]
    assert refused.status in (400, 404)
    assert error["message"], error
    assert not INTERNAL.search(error["message"]), error
    assert error["param"], error
    *path, last = error["param"].split(".")
    value = body
    for key in path:
        value = value[int(key) if isinstance(value, list) else key]
    if isinstance(value, list):
        assert int(last) < len(value), error
    else:
        assert isinstance(value, dict), error  # `last` may be missing: then it is required


def settings_meant(body: dict) -> dict:
    """What a body asks for beside its prompt, by OpenAI's reference: null means not given."""
    given_ = {name: value for name, value in body.items() if value is not None}
    stop = given_.get("stop", [])
    options = given_.get("stream_options", {})
    form = given_.get("response_format", {"type": "text"})
    schemas = {"text": None, "json_object": {"type": "object"}}
    return {
        "token_limit": given_.get("max_completion_tokens", given_.get("max_tokens", 512)),
        "temperature": given_.get("temperature"),
        "top_p": given_.get("top_p", 1),
        "seed": given_.get("seed"),
        "stop": [stop] if isinstance(stop, str) else stop,
        "stream": given_.get("stream", False),
        "with_usage": bool(options.get("include_usage")),
        "tool_choice": given_.get("tool_choice"),
        "parallel_tool_calls": given_.get("parallel_tool_calls"),
        "schema": form["json_schema"]["schema"]
        if form["type"] == "json_schema"
        else schemas[form["type"]],
    }


def settings_taken(request: ChatRequest) -> dict:
    options, choice = request.stream_options, request.tool_choice
    return {
        **{name: getattr(request, name) for name in ("token_limit", "temperature", "top_p")},
        **{name: getattr(request, name) for name in ("seed", "stop", "stream")},
        "with_usage": bool(options and options.include_usage),
        "tool_choice": choice if isinstance(choice, str | None) else choice.model_dump(),
        "parallel_tool_calls": request.parallel_tool_calls,
        "schema": request.json_schema,
    }


def prompt_meant(body: dict, chat_format: ChatFormat) -> list[int] | None:
    """The prompt by mistral_common; None if it refuses these messages or tools."""
    tools = None if body.get("tool_choice") == "none" else body.get("tools") or None
    try:
        request = ChatCompletionRequest.from_openai(body["messages"], tools, model="any")
        return chat_format.tokenizer.encode_chat_completion(request).tokens
    except (MistralCommonException, ValueError, KeyError, TypeError) as error:
        event(f"mistral_common refuses what is taken here: {error}"[:200])
        return None


def test_a_request_is_taken_with_its_meaning_or_refused_with_a_reason(chat_format):
    outcomes = Counter()

    @settings(max_examples=200, **SETTINGS)
    @given(requests())
    def check(body):
        try:
            request = read_request(json.dumps(body).encode())
            pictures = PictureReader()
            messages = [message.as_dict(pictures.read) for message in request.messages]
        except ApiError as error:
            outcomes["refused"] += 1
            assert_has_a_reason(error, body)
            return
        except ImageError:
            outcomes["refused for a picture"] += 1
            return
        outcomes["taken"] += 1
        assert settings_taken(request) == settings_meant(body)
        for name in body.keys() - LABELS:
            assert name in ChatRequest.model_fields or body[name] in [*NEUTRAL[name], None]
        prompt = chat_format.encode(messages, request.prompt_tools).ids
        assert prompt_meant(body, chat_format) in (None, prompt)

    check()
    print(dict(outcomes))
    assert min(outcomes["taken"], outcomes["refused"]) > 50


def assert_is_an_answer(reply: httpx2.Response, body: dict) -> None:
    """The reply is a completion or a stream of chunks, as the openai package has them."""
    if not body.get("stream"):
        completion = ChatCompletion.model_validate_json(reply.text, strict=True)
        (choice,) = completion.choices
        text, calls, reason = (
            choice.message.content,
            choice.message.tool_calls,
            choice.finish_reason,
        )
        usage = completion.usage
    else:
        assert reply.headers["content-type"].startswith("text/event-stream")
        *events, done, end = reply.text.split("\n\n")
        assert (done, end) == ("data: [DONE]", "")
        data = [event for event in events if not event.startswith(":")]
        assert all(event.startswith("data: {") for event in data)
        chunks = [ChatCompletionChunk.model_validate_json(event[6:], strict=True) for event in data]
        choices = [choice for chunk in chunks for choice in chunk.choices]
        assert len({chunk.id for chunk in chunks}) == 1
        assert [choice.index for choice in choices] == [0] * len(choices)
        text = "".join(choice.delta.content or "" for choice in choices)
        calls = [call for choice in choices for call in choice.delta.tool_calls or []]
        reasons = [choice.finish_reason for choice in choices if choice.finish_reason]
        (reason,) = reasons
        (usage,) = [chunk.usage for chunk in chunks if chunk.usage] or [None]
        assert usage or not (body.get("stream_options") or {}).get("include_usage")
    assert reason in ("stop", "length", "tool_calls")
    assert reason != "tool_calls" or calls
    assert not calls or body["tools"]
    assert usage is None or 0 < usage.completion_tokens <= body["max_tokens"]
    is_json = (body.get("response_format") or {}).get("type") not in (None, "text")
    if is_json and reason == "stop" and not calls and not body.get("stop"):
        json.loads(text)


@pytest.mark.pocket
@pytest.mark.parametrize("backend", ["lab", "simulator"])
def test_no_request_is_an_error_of_the_server(backend, request):
    lab = request.getfixturevalue(backend)
    outcomes = Counter()
    documented = backend == "simulator" and DOCUMENT.is_file()

    # Without the search for a smaller request: over HTTP it takes minutes.
    @settings(max_examples=60, phases=[Phase.explicit, Phase.generate], **SETTINGS)
    @given(requests())
    def check(body):
        body |= {"model": lab.model, "max_tokens": 2, "max_completion_tokens": None}
        reply = client.post("chat/completions", json=body)
        outcomes[reply.status_code] += 1
        assert reply.status_code in (200, 400, 404), reply.text
        if reply.status_code == 200:
            assert_is_an_answer(reply, body)
        elif backend == "lab":
            error = reply.json()["error"]
            assert_has_a_reason(ApiError(reply.status_code, error["message"], error["param"]), body)
        else:
            assert not INTERNAL.search(reply.json()["error"]["message"])
        if documented and not (body.get("stream") and reply.status_code == 200):
            fits(reply.json(), answer_schema(reply.status_code))

    headers = {"Authorization": f"Bearer {lab.client.api_key}"}
    base_url = str(lab.client.base_url)
    with httpx2.Client(base_url=base_url, headers=headers, timeout=120, trust_env=False) as client:
        check()
    print(backend, dict(outcomes))
    assert outcomes[200] > 10
