"""What a backend really supports: every feature is tested with real requests.

A feature is supported if all its probes pass. A probe compares replies with each other: the same
seed twice, a stop string found in a first answer, a red picture and a blue one. So a server that
accepts a setting and ignores it does not pass.
"""

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import jsonschema
import openai
from PIL import Image, ImageDraw

from helpers.backends import ALL_FEATURES, BACKENDS, Lab, result_file, seed_setting
from helpers.images import image_part
from helpers.paths import write_text
from pocket_model.cache import cache_dir

YES, NO, NOT_TRIED = "yes", "no", "not tried"

STORY = [{"role": "user", "content": "Tell me a short story about a lighthouse."}]


class NotTried(Exception):
    """The probe cannot or should not run here. The message says why."""


def _ask(lab: Lab, messages: list[dict] = STORY, **settings):
    settings = {"model": lab.model, "max_tokens": 12, "temperature": 0} | settings
    return lab.client.chat.completions.create(messages=messages, **settings)


def _text(reply) -> str:
    return reply.choices[0].message.content or ""


def _refused(lab: Lab, messages: list[dict] = STORY, **settings) -> str:
    """The message with which a request was refused.

    Raises:
        AssertionError: the request was accepted, or the refusal is not HTTP 4xx with a message.
    """
    try:
        reply = _ask(lab, messages, **settings)
    except openai.APIStatusError as refusal:
        status, body = refusal.status_code, refusal.body
    else:
        raise AssertionError(f"accepted, with the answer {_text(reply)[:40]!r}")
    assert 400 <= status < 500, f"HTTP {status} instead of a 4xx"
    message = body.get("message") if isinstance(body, dict) else None
    assert message, "refused without a message"
    return message


# --- text ------------------------------------------------------------------------------------


def streams(lab: Lab) -> None:
    """A streamed answer comes in pieces, equals the whole one, and says why it ended."""
    whole = _ask(lab)
    chunks = list(_ask(lab, stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    pieces = [delta.content for delta in deltas if delta.content]
    assert len(pieces) > 1, f"the text came in {len(pieces)} piece"
    if lab.backend == "pocket":  # elsewhere greedy answers may differ from call to call
        assert "".join(pieces) == _text(whole), "streamed and whole answers differ"
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    # Together AI says "eos" for an answer that ended by itself.
    assert reasons[-1] in ("stop", "eos", "length"), f"finish_reason {reasons[-1]!r}"


def ends_stream_with_done(lab: Lab) -> None:
    """The event stream ends with `data: [DONE]`."""
    create = lab.client.chat.completions.with_streaming_response.create
    with create(model=lab.model, messages=STORY, max_tokens=3, stream=True) as response:
        # As bytes: an event stream's lines end at CR and LF only.
        lines = response.read().splitlines()
    last = [line for line in lines if line.startswith(b"data:")][-1].decode()
    assert last == "data: [DONE]", f"the last line is {last[:40]!r}"


def stops(lab: Lab) -> None:
    """A stop string taken from the middle of an answer cuts the same answer there."""
    whole = _text(_ask(lab, max_tokens=16))
    stop = next(word for word in whole.split()[3:] if len(word) > 2)
    for stream in (False, True):
        reply = _ask(lab, max_tokens=16, stop=[stop], stream=stream)
        if stream:
            chunks = [c for c in reply if c.choices]
            text = "".join(c.choices[0].delta.content or "" for c in chunks)
            reason = chunks[-1].choices[0].finish_reason
        else:
            text, reason = _text(reply), reply.choices[0].finish_reason
        assert stop not in text, f"{stop!r} is in the answer"
        assert reason == "stop", f"finish_reason {reason!r}"
        if lab.backend == "pocket":
            assert text == whole[: whole.index(stop)], "not cut at the stop string"


def seeds(lab: Lab) -> None:
    """At temperature 1 the same seed repeats an answer, and other seeds do not."""
    settings = [seed_setting(lab.backend, seed) for seed in (1, 1, 2, 3)]
    answers = [_text(_ask(lab, temperature=1, **setting)) for setting in settings]
    assert answers[0] == answers[1], "the same seed gave two answers"
    assert len(set(answers)) > 1, "three seeds gave one answer: is temperature ignored?"


def limits_tokens(lab: Lab) -> None:
    """max_tokens is obeyed and reported as finish_reason "length"."""
    reply = _ask(lab, max_tokens=5)
    assert reply.choices[0].finish_reason == "length", reply.choices[0].finish_reason
    assert reply.usage.completion_tokens == 5, f"{reply.usage.completion_tokens} tokens, not 5"


def counts_tokens(lab: Lab) -> None:
    """Token counts come with an answer, and grow with the prompt."""
    whole = _ask(lab).usage
    longer = [{"role": "user", "content": STORY[0]["content"] + " It has a red door."}]
    assert _ask(lab, longer).usage.prompt_tokens > whole.prompt_tokens, "does not grow"


def counts_streamed_tokens(lab: Lab) -> None:
    """`stream_options` gives token counts at the end of a stream, those of the whole answer."""
    chunks = list(_ask(lab, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage, "no usage at the end of the stream"
    tokens = _ask(lab).usage.prompt_tokens
    assert chunks[-1].usage.prompt_tokens == tokens, "streamed and whole differ"


def reads_earlier_turns(lab: Lab) -> None:
    """A system prompt and earlier turns are part of the prompt."""
    turns = [
        {"role": "system", "content": "Answer in one word."},
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "What is my name?"},
    ]
    alone = _ask(lab, turns[-1:], max_tokens=3).usage.prompt_tokens
    assert _ask(lab, turns, max_tokens=3).usage.prompt_tokens > alone, "earlier turns are dropped"


def refuses_bad_requests(lab: Lab) -> None:
    """Bad requests get a 4xx with a message."""
    _refused(lab, model="no-such/model")
    _refused(lab, temperature=9)
    _refused(lab, messages=[])


def refuses_long_prompts(lab: Lab) -> None:
    """A prompt longer than the context is refused, not truncated."""
    if BACKENDS[lab.backend].paid:
        raise NotTried("a prompt as long as the context costs money")
    context = getattr(lab.client.models.list().data[0], "max_model_len", None)
    if not context:
        raise NotTried("/v1/models does not report the length of the context")
    long = [{"role": "user", "content": "word " * (context + 10)}]
    message = _refused(lab, long)
    assert re.search("context|long|token", message), f"refused, but says {message[:60]!r}"


def answers_in_parallel(lab: Lab) -> None:
    """Parallel requests keep their own settings; on pocket they get the answers of single ones."""
    requests = [
        {
            "messages": [{"role": "user", "content": f"Tell me about {topic}."}],
            "max_tokens": 3 + i,
            "temperature": 1.0 if i % 2 else 0.0,
            **lab.seed(i),
        }
        for i, topic in enumerate(["the sea", "bread", "trains", "bees", "snow", "maps"])
    ]
    with ThreadPoolExecutor(len(requests)) as pool:
        replies = list(pool.map(lambda request: _ask(lab, **request), requests))
    for request, reply in zip(requests, replies, strict=True):
        used = reply.usage.completion_tokens
        assert used <= request["max_tokens"], "the max_tokens of another request was used"
    if lab.backend == "pocket":
        single = [_text(_ask(lab, **request)) for request in requests]
        assert [_text(reply) for reply in replies] == single, "answers differ from single requests"


# --- tools -----------------------------------------------------------------------------------


def _tool(name: str, description: str, parameter: str) -> dict:
    properties = {parameter: {"type": "string", "description": f"The {parameter}."}}
    parameters = {"type": "object", "properties": properties, "required": [parameter]}
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


WEATHER = _tool("get_weather", "Get today's weather in a city.", "city")
POPULATION = _tool("get_population", "Get the population of a country.", "country")
TOOLS = [WEATHER, POPULATION]
PARIS = [{"role": "user", "content": "What is the weather in Paris today?"}]


def _ask_with_tools(lab: Lab, messages: list[dict] = PARIS, **settings):
    """A request with the two tools. The seed fixes the random ids of tool calls."""
    settings = {"tools": TOOLS, "max_tokens": 60, **lab.seed(1)} | settings
    return _ask(lab, messages, **settings)


def _calls(reply) -> list:
    calls = reply.choices[0].message.tool_calls
    assert calls, f"no tool call, but {_text(reply)[:40]!r}"
    assert reply.choices[0].finish_reason == "tool_calls", reply.choices[0].finish_reason
    return calls


def calls_tools(lab: Lab) -> None:
    """The suitable tool is called with arguments that are JSON."""
    call = _calls(_ask_with_tools(lab))[0]
    assert call.function.name == "get_weather", call.function.name
    assert "paris" in json.loads(call.function.arguments)["city"].lower()


def makes_call_ids(lab: Lab) -> None:
    """Every call has an id; on pocket nine letters or digits, as Mistral's format requires."""
    call = _calls(_ask_with_tools(lab))[0]
    pattern = "[a-zA-Z0-9]{9}" if lab.backend == "pocket" else ".+"
    assert re.fullmatch(pattern, call.id or ""), call.id


def uses_tool_results(lab: Lab) -> None:
    """The answer uses the tool's result: two results, two answers."""
    call = _calls(_ask_with_tools(lab))[0]
    answers = []
    for weather in ("sunny", "snowing"):
        turn = {"role": "assistant", "content": "", "tool_calls": [call.model_dump()]}
        result = {"role": "tool", "tool_call_id": call.id, "content": json.dumps({"sky": weather})}
        answers.append(_text(_ask_with_tools(lab, [*PARIS, turn, result])))
    assert "sun" in answers[0].lower(), answers[0]
    assert "snow" in answers[1].lower(), answers[1]


def obeys_tool_choice(lab: Lab) -> None:
    """tool_choice none, required and a named tool are obeyed."""
    reply = _ask_with_tools(lab, tool_choice="none", max_tokens=12)
    assert not reply.choices[0].message.tool_calls, "a tool call despite none"
    hello = [{"role": "user", "content": "Hello!"}]
    reply = _ask_with_tools(lab, hello, tool_choice="required")
    assert reply.choices[0].message.tool_calls, "no tool call despite required"
    named = {"type": "function", "function": {"name": "get_population"}}
    reply = _ask_with_tools(lab, tool_choice=named)
    assert reply.choices[0].message.tool_calls[0].function.name == "get_population"


def streams_tool_calls(lab: Lab) -> None:
    """The deltas of a streamed call add up to one name and valid JSON."""
    name = arguments = ""
    for chunk in _ask_with_tools(lab, stream=True):
        for delta in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            name += delta.function.name or ""
            arguments += delta.function.arguments or ""
    assert name == "get_weather", name
    json.loads(arguments)


# --- structure and pictures ------------------------------------------------------------------


def obeys_schema(lab: Lab) -> None:
    """A JSON schema is obeyed, even one that the question does not suggest."""
    for field in ("city", "zebra"):
        schema = {
            "type": "object",
            "properties": {field: {"type": "string"}, "year": {"type": "integer"}},
            "required": [field, "year"],
            "additionalProperties": False,
        }
        named_schema = {"name": "answer", "schema": schema, "strict": True}
        response_format = {"type": "json_schema", "json_schema": named_schema}
        question = [{"role": "user", "content": "When was Paris liberated? Answer in JSON."}]
        reply = _ask(lab, question, response_format=response_format, max_tokens=60)
        jsonschema.validate(json.loads(_text(reply)), schema)


def _picture(color: str, size: tuple[int, int] = (112, 112)) -> dict:
    """A circle of that color on white, as a message part."""
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).ellipse((30, 30, 54, 54), fill=color)
    return image_part(image)


def _ask_about(lab: Lab, text: str, *pictures: dict):
    content = [{"type": "text", "text": text}, *pictures]
    return _ask(lab, [{"role": "user", "content": content}])


def accepts_image(lab: Lab) -> None:
    """The answer follows the picture: red for a red circle, blue for a blue one."""
    for color in ("red", "blue"):
        answer = _text(_ask_about(lab, "What colour is the circle?", _picture(color))).lower()
        assert color in answer, f"a {color} circle: {answer!r}"


def accepts_several_images(lab: Lab) -> None:
    """Two pictures of different sizes in one message count as two."""
    red, blue = _picture("red"), _picture("blue", (168, 112))
    tokens = [
        _ask_about(lab, "What colours are these?", *pictures).usage.prompt_tokens
        for pictures in ([red], [red, blue])
    ]
    assert tokens[1] > tokens[0], "the second picture adds no tokens"


def tells_probabilities(lab: Lab) -> None:
    """Each token of the text comes with its log probability and the likeliest others."""
    asked = {"logprobs": True, "top_logprobs": 3, "temperature": 0, "max_tokens": 6}
    choice = _ask(lab, **asked).choices[0]
    content = choice.logprobs.content if choice.logprobs else None
    assert content, "the answer has no log probabilities"
    text = "".join(entry.token for entry in content)
    assert text.strip() == choice.message.content.strip(), f"{text!r}: not the answer's tokens"
    for entry in content:
        told = [other.logprob for other in entry.top_logprobs]
        assert len(told) == 3, f"{len(told)} others instead of 3"
        assert entry.logprob <= 0, f"a log probability of {entry.logprob}"
        assert entry.logprob == max(told), "at temperature 0 another token was likelier"


# For each feature of `helpers.backends.ALL_FEATURES`.
PROBES: dict[str, list[Callable[[Lab], None]]] = {
    "stream": [streams, ends_stream_with_done],
    "stream_options": [counts_streamed_tokens],
    "stop": [stops],
    "seed": [seeds],
    "max_tokens": [limits_tokens],
    "usage": [counts_tokens],
    "conversation": [reads_earlier_turns],
    "errors": [refuses_bad_requests],
    "context_overflow": [refuses_long_prompts],
    "parallel": [answers_in_parallel],
    "tools": [calls_tools, makes_call_ids, uses_tool_results, streams_tool_calls],
    "tool_choice": [obeys_tool_choice],
    "structured_output": [obeys_schema],
    "vision": [accepts_image, accepts_several_images],
    "logprobs": [tells_probabilities],
}


def try_feature(lab: Lab, feature: str) -> tuple[str, str]:
    """Status and detail of one feature; its first probe that fails decides."""
    for probe in PROBES[feature]:
        try:
            probe(lab)
        except NotTried as reason:
            return NOT_TRIED, str(reason)
        except openai.APIStatusError as error:
            body = error.body if isinstance(error.body, dict) else {}
            message = body.get("message") or error.message
            return NO, f"HTTP {error.status_code}: {message}"[:160]
        except openai.APIError as error:
            return NO, f"{type(error).__name__}: {error.message}"[:160]
        except (
            AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError,
            StopIteration, jsonschema.ValidationError,
        ) as error:  # fmt: skip
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            return NO, f"{probe.__name__}: {reason}"[:160]
    return YES, PROBES[feature][0].__doc__.splitlines()[0]


def run_suite(lab: Lab, progress: Callable[[str], None] = lambda line: None) -> dict:
    """Try every feature.

    Args:
        lab: the connected backend.
        progress: called with a line of text after each feature.

    Returns:
        the result in the form that `save` writes.
    """
    rows = []
    for feature in ALL_FEATURES:
        status, detail = try_feature(lab, feature)
        rows.append({"feature": feature, "status": status, "detail": detail})
        progress(f"{status:>9}  {feature:<18} {detail}")
    return {
        "backend": lab.backend,
        "model": lab.model,
        "date": date.today().isoformat(),
        "command": f"python -m helpers conformance --backend {lab.backend} --model {lab.model}",
        "rows": rows,
    }


def save(result: dict, folder: Path | None = None) -> Path:
    """Write a result to `folder`, or to the user's cache, where `lab.supports` finds it."""
    folder = folder or cache_dir() / "conformance"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / result_file(result["backend"], result["model"])
    write_text(path, json.dumps(result, indent=2) + "\n")
    return path
