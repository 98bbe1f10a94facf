"""Tool calls and JSON answers fit their schemas, whatever the model prefers."""

import asyncio
import json
import random
import re
import time

import jsonschema
import numpy as np
import openai
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import thin_model

from helpers import connect
from pocket_model.reply import read_reply
from pocket_model.server.decoder import Decoder
from pocket_model.server.engine import MAX_REQUESTS, Engine
from pocket_model.server.events import EngineRequest, Token
from pocket_model.server.sampling import Sampler
from pocket_model.tekken import CONTROL_IDS
from pocket_model.vision import VisionEncoder

ASK = {"role": "user", "content": "How many people live in Norway?"}
ID = re.compile(r"[a-zA-Z0-9]{9}")


def function(name, properties, required=None, **more):
    schema = {"type": "object", "properties": properties, "required": required or [*properties]}
    return {"name": name, "description": f"Use {name}.", "parameters": schema | more}


def tool(*args, **more):
    return {"type": "function", "function": function(*args, **more)}


# Their schemas keep arguments short, so that an untrained model reaches the end too.
COUNTRY = tool("get_population", {"country": {"type": "string", "maxLength": 5}})
LEVEL = tool("set_level", {"level": {"type": "integer", "minimum": 0, "maximum": 9}})
TOOLS = [COUNTRY, LEVEL]
SCHEMAS = {each["function"]["name"]: each["function"]["parameters"] for each in TOOLS}


# --- the grammar, with random logits ------------------------------------------------------


def written(chat_format, guide, *, seed=0, max_tokens=400, runs=False) -> list[int]:
    """The tokens that random logits give under a guide, without the end token.

    With `runs`, forced tokens are taken as runs, without new logits.
    """
    noise = torch.Generator().manual_seed(seed)
    vocabulary = chat_format.tokenizer.instruct_tokenizer.tokenizer.n_words
    # 300 tokens are likely, as in a model. Otherwise strings would be very long.
    logits = torch.zeros(vocabulary)
    logits[torch.randint(40, vocabulary, (300,), generator=noise)] = 5.0
    logits[chat_format.end_token_id] = 5.0
    logits[[40 + ord(mark) for mark in '"}]']] = 8.0
    sampler = Sampler(1.0, seed=seed, guide=guide)
    ids = []
    while len(ids) < max_tokens and (not ids or ids[-1] != chat_format.end_token_id):
        ids += sampler.sample_run(logits, max_tokens) if runs else [sampler.sample(logits)]
    assert ids.pop() == chat_format.end_token_id, chat_format.decode(ids)
    assert guide.error is None
    return ids


VALUES = st.one_of(
    st.builds(lambda n: {"type": "string", "maxLength": n}, st.integers(0, 6)),
    st.builds(
        lambda low, span: {"type": "integer", "minimum": low, "maximum": low + span},
        st.integers(-50, 50),
        st.integers(0, 40),
    ),
    st.just({"type": "boolean"}),
    st.builds(
        lambda values: {"enum": values},
        st.lists(st.text(max_size=6) | st.integers(-9, 9), min_size=1, max_size=4),
    ),
    st.builds(
        lambda n: {"type": "array", "items": {"type": "boolean"}, "maxItems": n}, st.integers(1, 3)
    ),
)
NAMES = st.text("abcdefgXYZ_09", min_size=1, max_size=8)


@st.composite
def functions(draw):
    properties = draw(st.dictionaries(NAMES, VALUES, max_size=4))
    required = [name for name in properties if draw(st.booleans())]
    return function(draw(NAMES), properties, required)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    offered=st.lists(functions(), min_size=1, max_size=3, unique_by=lambda f: f["name"]),
    parallel=st.booleans(),
    seed=st.integers(0, 99),
    runs=st.booleans(),
)
def test_forced_calls_fit_their_schemas(chat_format, grammars, offered, parallel, seed, runs):
    guide = grammars.guide(offered, must_call=True, parallel=parallel)
    read = read_reply(chat_format, written(chat_format, guide, seed=seed, runs=runs))
    assert read.content == ""
    calls = read.tool_calls
    assert len(calls) >= 1 if parallel else len(calls) == 1
    schemas = {each["name"]: each["parameters"] for each in offered}
    for call in calls:
        schema = schemas[call.name]
        arguments = json.loads(call.arguments)
        jsonschema.Draft202012Validator(schema).validate(arguments)
        assert arguments.keys() <= schema["properties"].keys()
        assert call.arguments == json.dumps(arguments, ensure_ascii=False) or (
            # what json.dumps would write differently: a needless escape, minus zero
            "\\" in call.arguments or "-0" in call.arguments
        )
        assert ID.fullmatch(call.id)
    assert len({call.id for call in calls}) == len(calls)


def follow(guide) -> list[int]:
    found = []
    while (token := guide.forced_token) is not None:
        guide.advance(token)
        found.append(token)
    return found


def test_a_forced_text_has_the_tokens_that_the_tokenizer_gives_it(chat_format, grammars):
    level = function("set_level", {"level": {"enum": ["low", "high"]}})
    guide = grammars.guide([level, function("stop", {})])
    guide.advance(CONTROL_IDS["[TOOL_CALLS]"])
    assert guide.forced_token is None  # one of two
    guide.advance(chat_format.encode_text("set")[0])
    name = follow(guide)
    at = name.index(CONTROL_IDS["[CALL_ID]"])
    rest = name.index(CONTROL_IDS["[ARGS]"]) + 1
    assert [chat_format.encode_text("set")[0], *name[:at]] == chat_format.encode_text("set_level")
    assert ID.fullmatch(chat_format.decode(name[at + 1 : rest - 1]))
    written_out = chat_format.encode_text('{"level": "low"}')
    assert name[rest:] == written_out[: len(name) - rest]
    for token in written_out[len(name) - rest :]:
        guide.advance(token)
    assert guide.forced_token is None  # an end or another call
    assert grammars.guide().forced_token is None  # nothing is ruled out


def test_a_long_forced_text_keeps_to_the_limit(chat_format, grammars):
    text = "never mind the length " * 2000
    guide = grammars.guide(schema={"const": text})
    logits = torch.zeros(chat_format.tokenizer.instruct_tokenizer.tokenizer.n_words)
    sampler = Sampler(0.0, guide=guide)
    started, ids = time.monotonic(), []
    while len(ids) < 1000:
        ids += (made := sampler.sample_run(logits, 16))
        assert len(made) <= 16
    assert json.dumps(text).startswith(chat_format.decode(ids))
    # Computing the rest again for each token would take more than a minute.
    assert time.monotonic() - started < 20


def test_sampling_token_by_token_or_in_runs_draws_alike(chat_format, grammars):
    """With a seed, sampling each token and sampling in runs give the same tokens."""
    offered = [function("set_level", {"level": {"type": "integer"}, "name": {"enum": ["a", "b"]}})]
    for seed in range(4):
        both = [
            written(chat_format, grammars.guide(offered, must_call=True), seed=seed, runs=runs)
            for runs in (False, True)
        ]
        assert both[0] == both[1]


@pytest.mark.parametrize("requests", [1, MAX_REQUESTS], ids=["serial", "batching"])
def test_forced_tokens_need_no_model(chat_format, grammars, requests, tmp_path, monkeypatch):
    thin_model().save_pretrained(tmp_path)
    decoder = Decoder(tmp_path, "bf16")
    passes, run = [], decoder.run

    def counted(states, spans, **options):
        passes.append(spans)
        return run(states, spans, **options)

    monkeypatch.setattr(decoder, "run", counted)
    engine = Engine(decoder, VisionEncoder(tmp_path), requests)
    offered = [function("set_the_level", {"level": {"type": "boolean"}})]
    prompt = chat_format.encode([ASK], [{"type": "function", "function": offered[0]}]).ids

    async def all_of_it():
        guide = grammars.guide(offered, must_call=True, parallel=False)
        asked = EngineRequest(prompt, 60, chat_format.end_token_id, Sampler(0.0, guide=guide))
        return [event.id async for event in engine.stream(asked) if isinstance(event, Token)]

    async def at_the_same_time():
        return await asyncio.gather(*(all_of_it() for _ in range(requests)))

    answers = asyncio.run(at_the_same_time())
    assert len(answers) == requests
    for tokens in answers:
        (call,) = read_reply(chat_format, tokens).tool_calls
        assert call.name == "set_the_level"
        assert json.loads(call.arguments)["level"] in (True, False)
    # Two pieces of the prompt, and the few tokens that are chosen.
    assert sum(map(len, passes)) <= 6 * requests
    assert all(len(tokens) > 15 for tokens in answers)


def test_every_id_is_new(chat_format, grammars):
    one = function("f", {})
    seen = set()
    for seed in range(5):
        ids = written(chat_format, grammars.guide([one], must_call=True, parallel=False), seed=seed)
        seen.add(read_reply(chat_format, ids).tool_calls[0].id)
    assert len(seen) == 5
    # The same seed would draw the same id, but an id that the conversation has is skipped.
    taken = grammars.guide([one], must_call=True, parallel=False, used_ids=seen)
    again = read_reply(chat_format, written(chat_format, taken, seed=0)).tool_calls[0].id
    assert again not in seen


def test_free_text_holds_no_control_token_and_calls_only_what_is_offered(chat_format, grammars):
    size = chat_format.tokenizer.instruct_tokenizer.tokenizer.n_words
    for offered, more in (([], set()), ([function("f", {})], {CONTROL_IDS["[TOOL_CALLS]"]})):
        masked = grammars.guide(offered).mask(torch.zeros(size))
        allowed = set((masked > float("-inf")).nonzero().flatten().tolist())
        assert allowed == set(range(40, size)) | {CONTROL_IDS["</s>"]} | more


def test_a_call_after_text_is_constrained(chat_format, grammars):
    size = chat_format.tokenizer.instruct_tokenizer.tokenizer.n_words
    text, begin = chat_format.encode_text("Well."), CONTROL_IDS["[TOOL_CALLS]"]
    guide = grammars.guide([function("zebra", {})])
    for token in [*text, begin]:
        assert guide.mask(torch.zeros(size))[token] == 0
        guide.advance(token)
    possible = (guide.mask(torch.zeros(size)) > float("-inf")).nonzero().flatten().tolist()
    assert possible
    assert all("zebra".startswith(chat_format.decode([token])) for token in possible)


def test_json_answers_fit_their_schema_and_may_give_way_to_calls(chat_format, grammars):
    schema = {"type": "object", "properties": {"a": {"enum": ["x", "ü", 3]}}, "required": ["a"]}
    schema["additionalProperties"] = False
    kinds = set()
    for seed in range(6):
        text = chat_format.decode(written(chat_format, grammars.guide(schema=schema), seed=seed))
        jsonschema.validate(json.loads(text), schema)
        guide = grammars.guide([function("f", {})], schema=schema)
        read = read_reply(chat_format, written(chat_format, guide, seed=seed))
        kinds.add(bool(read.tool_calls))
        if not read.tool_calls:
            jsonschema.validate(json.loads(read.content), schema)
    assert kinds <= {True, False}


def test_a_guide_that_cannot_go_on_gives_the_end_token_and_its_reason(chat_format, grammars):
    guide = grammars.guide(schema={"type": "boolean"})
    size = chat_format.tokenizer.instruct_tokenizer.tokenizer.n_words
    guide.advance(chat_format.encode_text("maybe")[0])  # not what its mask would have allowed
    masked = guide.mask(torch.zeros(size))
    assert (masked > float("-inf")).nonzero().flatten().tolist() == [chat_format.end_token_id]
    assert guide.error


# --- the server ------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[False, True], ids=["serial", "batching"])
def lab(request, model_folder):
    connected = connect("pocket", batching=request.param)
    yield connected
    connected.close()


def ask(lab, messages=(ASK,), **options):
    options = {"max_tokens": 60, "temperature": 1, "seed": 1, "tools": TOOLS} | options
    return lab.client.chat.completions.create(model=lab.model, messages=list(messages), **options)


def test_a_forced_call_is_whole(lab):
    reply = ask(lab, tool_choice="required", parallel_tool_calls=False)
    choice = reply.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert ID.fullmatch(call.id)
    jsonschema.validate(json.loads(call.function.arguments), SCHEMAS[call.function.name])


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_named_tool_is_called_exactly_once(lab, name):
    """OpenAI's guide to function calling: "Call exactly one specific function"."""
    choice = {"type": "function", "function": {"name": name}}
    reply = ask(lab, tool_choice=choice, parallel_tool_calls=True)
    assert [call.function.name for call in reply.choices[0].message.tool_calls] == [name]


def test_tools_that_may_not_be_called_are_not_in_the_prompt(lab):
    silent, untold = (
        ask(lab, max_tokens=1, **settings).usage.prompt_tokens
        for settings in ({"tool_choice": "none"}, {"tools": openai.omit})
    )
    assert silent == untold


def test_none_calls_nothing(lab):
    message = ask(lab, tool_choice="none", max_tokens=8).choices[0].message
    assert not message.tool_calls
    assert message.content


def assembled(stream):
    """A streamed reply's calls put together as OpenAI documents it."""
    calls, reasons, usage = [], [], None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            reasons.append(choice.finish_reason)
            for delta in choice.delta.tool_calls or []:
                if delta.id:
                    assert delta.index == len(calls)
                    assert delta.type == "function"
                    calls.append({"id": delta.id, "name": delta.function.name, "arguments": ""})
                else:
                    assert delta.function.name is None
                calls[delta.index]["arguments"] += delta.function.arguments
    return calls, reasons, usage


def test_a_streamed_call_equals_the_whole_one(lab):
    options = {"tool_choice": "required", "parallel_tool_calls": False}
    ask(lab, **options)  # so that the tools are cached for both others
    whole = ask(lab, **options)
    stream = ask(lab, **options, stream=True, stream_options={"include_usage": True})
    calls, reasons, usage = assembled(stream)
    assert calls == [
        {"id": call.id, "name": call.function.name, "arguments": call.function.arguments}
        for call in whole.choices[0].message.tool_calls
    ]
    assert reasons[-1] == "tool_calls"
    assert usage == whole.usage


def test_the_usage_counts_the_tokens_from_the_prefix_cache(lab):
    tools = [tool("weigh_anchor", {"fathoms": {"type": "integer", "maximum": 9}})]
    # Without tools in the prompt, one question has no prefix to cache.
    plain = [ask(lab, tools=tools, tool_choice="none").usage for _ in range(2)]
    assert [usage.prompt_tokens_details for usage in plain] == [None, None]
    first, second = (ask(lab, tools=tools, tool_choice="required") for _ in range(2))
    assert first.usage.prompt_tokens_details is None
    assert 40 < second.usage.prompt_tokens_details.cached_tokens < second.usage.prompt_tokens
    calls = [reply.choices[0].message.tool_calls[0] for reply in (first, second)]
    assert calls[0] == calls[1]


def test_the_clients_own_stream_helper_assembles_the_call(lab):
    options = {"tool_choice": "required", "parallel_tool_calls": False, "seed": 3, "max_tokens": 60}
    with lab.client.chat.completions.stream(
        model=lab.model, messages=[ASK], tools=TOOLS, temperature=1, **options
    ) as stream:
        message = stream.get_final_completion().choices[0].message
    whole = ask(lab, **options).choices[0].message
    assert [call.id for call in message.tool_calls] == [call.id for call in whole.tool_calls]
    assert message.tool_calls[0].function.arguments == whole.tool_calls[0].function.arguments


def test_the_reply_and_its_result_go_back_as_they_came(lab):
    first = ask(lab, tool_choice="required", parallel_tool_calls=False).choices[0].message
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "5500000"}
    for message in (first, first.model_dump()):
        answer = ask(lab, [ASK, message, result], tool_choice="none", max_tokens=4)
        assert answer.usage.completion_tokens >= 1


def test_a_call_cut_by_max_tokens_says_length(lab):
    slow = tool("f", {"text": {"type": "string", "minLength": 500}})
    reply = ask(lab, tools=[slow], tool_choice="required", max_tokens=25)
    assert reply.choices[0].finish_reason == "length"
    arguments = reply.choices[0].message.tool_calls[0].function.arguments
    assert arguments.startswith('{"text": "')
    with pytest.raises(json.JSONDecodeError):
        json.loads(arguments)


def test_a_stop_string_ends_text_and_never_a_call(lab):
    reply = ask(lab, tool_choice="required", parallel_tool_calls=False, stop=["{", '"'])
    call = reply.choices[0].message.tool_calls[0]
    jsonschema.validate(json.loads(call.function.arguments), SCHEMAS[call.function.name])


def test_json_answers_fit_the_schema(lab):
    schema = {
        "type": "object",
        "properties": {"code": {"type": "string", "pattern": "^[A-Z]{3}$"}, "ok": {"const": True}},
        "required": ["code", "ok"],
        "additionalProperties": False,
    }
    named = {"name": "answer", "schema": schema}
    for strict in (True, False):
        wanted = {"type": "json_schema", "json_schema": named | {"strict": strict}}
        reply = ask(lab, tools=openai.omit, response_format=wanted)
        jsonschema.validate(json.loads(reply.choices[0].message.content), schema)
        assert reply.choices[0].finish_reason == "stop"


def test_a_json_object_begins_as_one(lab):
    wanted = {"type": "json_object"}
    reply = ask(lab, tools=openai.omit, response_format=wanted, max_tokens=10)
    assert reply.choices[0].message.content.startswith("{")
    if reply.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(reply.choices[0].message.content), dict)


def test_mixed_requests_in_parallel_keep_to_themselves(lab):
    from concurrent.futures import ThreadPoolExecutor

    rng = random.Random(0)
    requests = [{"tools": openai.omit, "max_tokens": 12, "seed": seed} for seed in range(3)]
    forced = {"tool_choice": "required", "parallel_tool_calls": False}
    requests += [forced | {"seed": seed} for seed in range(3)]
    rng.shuffle(requests)
    with ThreadPoolExecutor(len(requests)) as pool:
        replies = list(pool.map(lambda each: ask(lab, **each), requests))
    calls = [reply.choices[0].message.tool_calls for reply in replies]
    assert [bool(each) for each in calls] == ["tool_choice" in each for each in requests]
    ids = [each[0].id for each in calls if each]
    assert len(np.unique(ids)) == 3
