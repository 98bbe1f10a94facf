"""What a backend really supports: every feature tried with real requests.

A row of the matrix is a feature; its probes must all pass. A probe compares replies with one
another (the same seed twice, a stop string found in a first answer, a red picture against a blue
one), so that a server which takes a setting and ignores it does not pass.
"""

import argparse
import base64
import io
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import jsonschema
import openai

from helpers.backends import BACKENDS, Lab
from helpers.conformance_store import result_file
from labkit import backend_options
from pocket_model.cache import cache_dir

YES, NO, NOT_TRIED = "yes", "no", "not tried"

STORY = [{"role": "user", "content": "Tell me a short story about a lighthouse."}]


class NotTried(Exception):
    """The probe cannot or should not run here; the message says why."""


def _ask(lab: Lab, messages: list[dict] = STORY, **settings):
    settings = {"model": lab.model, "max_tokens": 12, "temperature": 0} | settings
    return lab.client.chat.completions.create(messages=messages, **settings)


def _text(reply) -> str:
    return reply.choices[0].message.content or ""


def _refused(lab: Lab, messages: list[dict] = STORY, **settings) -> str:
    """The message with which a request was refused (HTTP 4xx); fails when it was not."""
    try:
        reply = _ask(lab, messages, **settings)
    except openai.APIStatusError as refusal:
        status, body = refusal.status_code, refusal.body
    else:
        raise AssertionError(f"accepted, and answered {_text(reply)[:40]!r}")
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
    assert reasons[-1] in ("stop", "length"), f"finish_reason {reasons[-1]!r}"


def stream_says_done(lab: Lab) -> None:
    """The event stream ends with `data: [DONE]`."""
    create = lab.client.chat.completions.with_streaming_response.create
    with create(model=lab.model, messages=STORY, max_tokens=3, stream=True) as response:
        lines = [line for line in response.iter_lines() if line.startswith("data:")]
    assert lines[-1] == "data: [DONE]", f"the last line is {lines[-1][:40]!r}"


def stops(lab: Lab) -> None:
    """A stop string taken from the middle of an answer cuts the same answer there."""
    whole = _text(_ask(lab, max_tokens=16))
    words = whole.split()
    stop = next(w for w in words[3:] if len(w) > 2)
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
            assert text == whole[: whole.index(stop)], "not cut where the stop string stood"


def seeds(lab: Lab) -> None:
    """At temperature 1 the same seed repeats an answer and other seeds do not."""
    answers = [_text(_ask(lab, temperature=1, seed=seed)) for seed in (1, 1, 2, 3)]
    assert answers[0] == answers[1], "the same seed gave two answers"
    assert len(set(answers)) > 1, "three seeds gave one answer: is temperature ignored?"


def limits(lab: Lab) -> None:
    """max_tokens is kept and reported as finish_reason "length"."""
    reply = _ask(lab, max_tokens=5)
    assert reply.choices[0].finish_reason == "length", reply.choices[0].finish_reason
    assert reply.usage.completion_tokens == 5, f"{reply.usage.completion_tokens} tokens, not 5"


def usage(lab: Lab) -> None:
    """Token counts come whole and streamed, equal, and grow with the prompt."""
    whole = _ask(lab).usage
    chunks = list(_ask(lab, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage, "no usage at the end of the stream"
    assert chunks[-1].usage.prompt_tokens == whole.prompt_tokens, "streamed and whole differ"
    longer = [{"role": "user", "content": STORY[0]["content"] + " It has a red door."}]
    assert _ask(lab, longer).usage.prompt_tokens > whole.prompt_tokens, "does not grow"


def remembers(lab: Lab) -> None:
    """A system prompt and earlier turns are taken into the prompt."""
    turns = [
        {"role": "system", "content": "Answer in one word."},
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "What is my name?"},
    ]
    alone = _ask(lab, turns[-1:], max_tokens=3).usage.prompt_tokens
    assert _ask(lab, turns, max_tokens=3).usage.prompt_tokens > alone, "earlier turns are dropped"


def refuses(lab: Lab) -> None:
    """Bad requests get a 4xx with a message."""
    _refused(lab, model="no-such/model")
    _refused(lab, temperature=9)
    _refused(lab, messages=[])


def overflows(lab: Lab) -> None:
    """A prompt beyond the context is refused, not cut."""
    if BACKENDS[lab.backend].paid:
        raise NotTried("a prompt of a whole context costs money")
    context = getattr(lab.client.models.list().data[0], "max_model_len", None)
    if not context:
        raise NotTried("/v1/models does not say how long the context is")
    long = [{"role": "user", "content": "word " * (context + 10)}]
    message = _refused(lab, long)
    assert re.search("context|long|token", message), f"refused, but says {message[:60]!r}"


def parallel(lab: Lab) -> None:
    """Requests in parallel keep to their own settings; the pocket's answer as they do alone."""
    wishes = [
        {
            "messages": [{"role": "user", "content": f"Tell me about {topic}."}],
            "max_tokens": 3 + i,
            "temperature": 1.0 if i % 2 else 0.0,
            "seed": i,
        }
        for i, topic in enumerate(["the sea", "bread", "trains", "bees", "snow", "maps"])
    ]
    with ThreadPoolExecutor(len(wishes)) as pool:
        together = list(pool.map(lambda wish: _ask(lab, **wish), wishes))
    for wish, reply in zip(wishes, together, strict=True):
        assert reply.usage.completion_tokens <= wish["max_tokens"], "another request's max_tokens"
    if lab.backend == "pocket":
        alone = [_text(_ask(lab, **wish)) for wish in wishes]
        assert [_text(reply) for reply in together] == alone, "answers differ from those alone"


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
    """A request with the two tools. The seed is for the ids of calls, which are drawn by lot."""
    return _ask(lab, messages, **{"tools": TOOLS, "max_tokens": 60, "seed": 1} | settings)


def _calls(reply) -> list:
    calls = reply.choices[0].message.tool_calls
    assert calls, f"no tool call; it says {_text(reply)[:40]!r}"
    assert reply.choices[0].finish_reason == "tool_calls", reply.choices[0].finish_reason
    return calls


def calls_tools(lab: Lab) -> None:
    """The suitable tool is called with arguments that are JSON."""
    call = _calls(_ask_with_tools(lab))[0]
    assert call.function.name == "get_weather", call.function.name
    assert "paris" in json.loads(call.function.arguments)["city"].lower()


def tool_ids(lab: Lab) -> None:
    """Ids are nine letters or digits, as Mistral's format wants them."""
    call = _calls(_ask_with_tools(lab))[0]
    assert re.fullmatch("[a-zA-Z0-9]{9}", call.id), call.id


def tool_results(lab: Lab) -> None:
    """A tool's result is used: two results, two answers."""
    call = _calls(_ask_with_tools(lab))[0]
    answers = []
    for weather in ("sunny", "snowing"):
        asked = {"role": "assistant", "content": "", "tool_calls": [call.model_dump()]}
        told = {"role": "tool", "tool_call_id": call.id, "content": json.dumps({"sky": weather})}
        answers.append(_text(_ask_with_tools(lab, [*PARIS, asked, told])))
    assert "sun" in answers[0].lower(), answers[0]
    assert "snow" in answers[1].lower(), answers[1]


def tool_choice(lab: Lab) -> None:
    """tool_choice none, required and a named tool are obeyed."""
    silent = _ask_with_tools(lab, tool_choice="none", max_tokens=12)
    assert not silent.choices[0].message.tool_calls, "called in spite of none"
    hello = [{"role": "user", "content": "Hello!"}]
    forced = _ask_with_tools(lab, hello, tool_choice="required")
    assert forced.choices[0].message.tool_calls, "no call in spite of required"
    named = {"type": "function", "function": {"name": "get_population"}}
    reply = _ask_with_tools(lab, tool_choice=named)
    assert reply.choices[0].message.tool_calls[0].function.name == "get_population"


def tool_stream(lab: Lab) -> None:
    """A streamed call is assembled from its deltas to one name and valid JSON."""
    name = arguments = ""
    for chunk in _ask_with_tools(lab, stream=True):
        for delta in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            name += delta.function.name or ""
            arguments += delta.function.arguments or ""
    assert name == "get_weather", name
    json.loads(arguments)


# --- structure and pictures ------------------------------------------------------------------


def structured(lab: Lab) -> None:
    """A JSON schema is obeyed, also one that the question does not suggest."""
    for field in ("city", "zebra"):
        schema = {
            "type": "object",
            "properties": {field: {"type": "string"}, "year": {"type": "integer"}},
            "required": [field, "year"],
            "additionalProperties": False,
        }
        wish = {"name": "answer", "schema": schema, "strict": True}
        wanted = {"type": "json_schema", "json_schema": wish}
        question = [{"role": "user", "content": "When was Paris liberated? Answer in JSON."}]
        reply = _ask(lab, question, response_format=wanted, max_tokens=60)
        jsonschema.validate(json.loads(_text(reply)), schema)


def _picture(colour: str, size: tuple[int, int] = (112, 112)) -> dict:
    """A circle of that colour on white, as a message part."""
    from PIL import Image, ImageDraw

    png, image = io.BytesIO(), Image.new("RGB", size, "white")
    ImageDraw.Draw(image).ellipse((30, 30, 54, 54), fill=colour)
    image.save(png, "PNG")
    url = "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def _see(lab: Lab, text: str, *pictures: dict) -> str:
    content = [{"type": "text", "text": text}, *pictures]
    return _text(_ask(lab, [{"role": "user", "content": content}])).lower()


def sees(lab: Lab) -> None:
    """The answer follows the picture: red for a red circle, blue for a blue one."""
    for colour in ("red", "blue"):
        answer = _see(lab, "What colour is the circle?", _picture(colour))
        assert colour in answer, f"a {colour} circle: {answer!r}"


def sees_several(lab: Lab) -> None:
    """Two pictures of different sizes in one message count as two."""
    one, two = _picture("red"), _picture("blue", (168, 112))
    text = {"type": "text", "text": "What colours are these?"}
    counts = [
        _ask(lab, [{"role": "user", "content": [text, *pictures]}]).usage.prompt_tokens
        for pictures in ([one], [one, two])
    ]
    assert counts[1] > counts[0], "the second picture adds no tokens"


FEATURES: dict[str, list[Callable[[Lab], None]]] = {
    "stream": [streams, stream_says_done],
    "stop": [stops],
    "seed": [seeds],
    "max_tokens": [limits],
    "usage": [usage],
    "conversation": [remembers],
    "errors": [refuses],
    "context_overflow": [overflows],
    "parallel": [parallel],
    "tools": [calls_tools, tool_ids, tool_results, tool_stream],
    "tool_choice": [tool_choice],
    "structured_output": [structured],
    "vision": [sees, sees_several],
}


def try_feature(lab: Lab, feature: str) -> tuple[str, str]:
    """Status and detail of one feature: its first probe that fails decides."""
    for probe in FEATURES[feature]:
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
    return YES, FEATURES[feature][0].__doc__.splitlines()[0]


def run_suite(lab: Lab, progress: Callable[[str], None] = lambda line: None) -> dict:
    """Try every feature; the result as it is kept on file (`conformance_store`)."""
    rows = []
    for feature in FEATURES:
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
    """Write a result to `folder`, or to the user's own cache."""
    folder = folder or cache_dir() / "conformance"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / result_file(result["backend"], result["model"])
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return path


def main(argv: list[str]) -> int:
    """`python -m helpers conformance`: print the matrix, keep it for `lab.supports`."""
    parser = argparse.ArgumentParser(prog="python -m helpers conformance", description=__doc__)
    backend_options.add(parser)
    parser.add_argument("--out", type=Path, help="folder for the result (default: the cache)")
    options = parser.parse_args(argv)
    lab = backend_options.connected(options, sends="about 40 short requests")
    if lab is None:
        return 2
    try:
        result = run_suite(lab, lambda line: print(line, flush=True))
    finally:
        lab.close()
    path = save(result, options.out)
    print(f"\nKept in {path.name}; connect({options.backend!r}).supports reads it.")
    return 0
