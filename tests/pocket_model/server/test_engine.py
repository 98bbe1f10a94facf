"""The engine: tokens as from `generate`, whatever is cached or computed at the same time."""

import asyncio
import gc
import random
import threading
import weakref
from contextlib import aclosing
from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny_models import sharp_model

from pocket_model import vision
from pocket_model.processor import bf16_matmul_is_fast
from pocket_model.server import engine as engine_module
from pocket_model.server import linears, prefix_cache
from pocket_model.server.decoder import Decoder
from pocket_model.server.engine import MAX_REQUESTS, Engine
from pocket_model.server.events import EngineRequest, Failed, Prefilled, Token
from pocket_model.server.prefix_cache import MIN_PREFIX_TOKENS, PrefixCache, boundaries, pieces
from pocket_model.server.sampling import Sampler
from pocket_model.tekken import CONTROL_IDS
from pocket_model.vision import VisionEncoder, image_inputs

BOS, INST, TOOLS, IMG, BREAK, END, EOS = (
    CONTROL_IDS[token]
    for token in (
        "<s>",
        "[INST]",
        "[AVAILABLE_TOOLS]",
        "[IMG]",
        "[IMG_BREAK]",
        "[IMG_END]",
        "</s>",
    )
)


def tokens_from(count: int, first: int = 1000) -> list[int]:
    return list(range(first, first + count))


HISTORY = [BOS, INST, *tokens_from(60)]
DESCRIBED = [TOOLS, *tokens_from(90, 3000)]
SHOWN = [IMG, IMG, END]
both_kinds = pytest.mark.parametrize("requests", [1, MAX_REQUESTS], ids=["serial", "batching"])


def picture(seed: int) -> np.ndarray:
    """Two image tokens' worth of noise."""
    return np.random.default_rng(seed).normal(size=(3, 28, 56)).astype("f4")


@pytest.fixture(scope="module")
def model():
    return sharp_model(seed=2)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("thin")
    model.save_pretrained(path)
    return path


@pytest.fixture
def make_engine(folder, monkeypatch):
    """Makes engines of the thin model, which computes in float32 unless it is rounded."""
    monkeypatch.setattr(linears._Widened, "wide", torch.float32)
    monkeypatch.setattr(vision, "bf16_matmul_is_fast", lambda: False)

    def make(requests: int = 1, quantization: str = "bf16") -> Engine:
        return Engine(Decoder(folder, quantization), VisionEncoder(folder), requests)

    return make


def request(prompt, max_tokens=4, pictures=(), sampler=None) -> EngineRequest:
    return EngineRequest(prompt, max_tokens, EOS, sampler or Sampler(0.0), list(pictures))


def ask(engine: Engine, *requests: EngineRequest) -> list[list]:
    """The events of requests that arrive together, in this order."""

    async def events(each: EngineRequest) -> list:
        return [event async for event in engine.stream(each)]

    async def together() -> list[list]:
        return await asyncio.wait_for(asyncio.gather(*map(events, requests)), 60)

    return asyncio.run(together())


def ask_one(engine: Engine, prompt, *args, **options) -> tuple[int, list[int]]:
    """How many of a prompt's tokens were cached, and the answer's tokens."""
    ((first, *tokens),) = ask(engine, request(prompt, *args, **options))
    assert isinstance(first, Prefilled)
    assert all(isinstance(token, Token) for token in tokens)
    return first.cached_tokens, [token.id for token in tokens]


def cached(engine: Engine, prompt, pictures=()) -> int:
    return ask_one(engine, prompt, 1, pictures)[0]


class Recording(Sampler):
    """Keeps the logits that it was given."""

    def __post_init__(self):
        super().__post_init__()
        self.logits = []

    def sample(self, logits):
        self.logits.append(logits.clone())
        return super().sample(logits)


class Scripted(Sampler):
    """Chooses given tokens, some of them in runs, as a schema does; keeps the logits."""

    def __init__(self, runs: list[list[int]]):
        super().__init__(0.0)
        self.runs, self.logits = [*runs], []

    def sample_run(self, logits, max_tokens):
        self.logits.append(logits.clone())
        return self.runs.pop(0)[:max_tokens]


def logits_of(engine: Engine, prompt, pictures=()) -> torch.Tensor:
    sampler = Recording(0.0)
    ask(engine, request(prompt, 3, pictures, sampler))
    return torch.stack(sampler.logits)


def watch_runs(engine: Engine, monkeypatch, *, before=None) -> list[list[int]]:
    """A list that grows by the numbers of tokens of the conversations of each run.

    Args:
        before: called before each run with these numbers.
    """
    runs, run = [], engine._decoder.run

    def watched(states, spans, **options):
        runs.append([count for _, count in spans])
        if before:
            before(runs[-1])
        return run(states, spans, **options)

    monkeypatch.setattr(engine._decoder, "run", watched)
    return runs


# --- prompts in pieces -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ([BOS, INST, *tokens_from(500)], []),  # one turn, no tools
        ([BOS, *DESCRIBED, INST, *tokens_from(9)], [92]),
        ([*HISTORY, *DESCRIBED, INST, *tokens_from(9)], [62, 153]),
        # the second turn is short
        ([*HISTORY, INST, *tokens_from(9), INST, *tokens_from(9)], [62]),
        ([*HISTORY, INST, IMG, END, *tokens_from(90), INST, *tokens_from(9)], [62, 155]),
    ],
)
def test_prefixes_end_before_tools_and_turns(prompt, expected):
    assert boundaries(prompt) == expected
    parts = pieces(prompt, [picture(0)] * prompt.count(END))
    ends = np.cumsum([len(part.tokens) for part in parts]).tolist()
    assert [end for end, part in zip(ends, parts, strict=True) if part.prefix] == expected


def test_short_prefixes_are_not_cached():
    turns = [BOS, INST, *tokens_from(MIN_PREFIX_TOKENS - 3), INST, 7]
    assert boundaries(turns) == []
    assert boundaries([BOS, *turns]) == [MIN_PREFIX_TOKENS]


def test_pieces_divide_no_picture(monkeypatch):
    monkeypatch.setattr(prefix_cache, "PIECE_TOKENS", 4)
    shown = [IMG, IMG, BREAK, IMG, IMG, END]
    prompt = [BOS, INST, *shown, *tokens_from(5), *shown]
    seen = [picture(1), picture(2)]
    parts = pieces(prompt, seen)
    assert [token for part in parts for token in part.tokens] == prompt
    assert [len(part.tokens) for part in parts] == [8, 4, 7]
    assert [[id(each) for each in part.pictures] for part in parts] == [
        [id(seen[0])],
        [],
        [id(seen[1])],
    ]
    divided = [part.tokens for part in pieces(tokens_from(8), [])]
    assert divided == [tokens_from(4), tokens_from(4, 1004)]


# --- tokens and logits -----------------------------------------------------------------------


@both_kinds
@pytest.mark.parametrize("piece_tokens", [prefix_cache.PIECE_TOKENS, 10])
@pytest.mark.parametrize("pictures", [0, 2])
def test_the_engine_gives_the_tokens_of_generate(
    model, make_engine, pictures, piece_tokens, requests, monkeypatch
):
    """With two pictures: one in a cached prefix, one after the last boundary."""
    monkeypatch.setattr(prefix_cache, "PIECE_TOKENS", piece_tokens)
    seen = [picture(number) for number in range(pictures)]
    shown = SHOWN if pictures else []
    prompt = [*HISTORY, *shown, *DESCRIBED, INST, *tokens_from(9), *shown]
    ids = torch.tensor([prompt])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=12,
        **image_inputs(seen, torch.float32),
    )
    expected = out[0, len(prompt) :].tolist()
    assert len(set(expected)) > 3
    engine = make_engine(requests)
    assert ask_one(engine, prompt, 12, seen) == (0, expected)
    assert ask_one(engine, prompt, 12, seen) == (153 + len(shown), expected)
    if pictures:  # the answer depends on which is which
        assert ask_one(engine, prompt, 12, seen[::-1])[1] != expected


@both_kinds
def test_the_logits_of_every_choice_are_transformers(model, make_engine, requests):
    """Of answers of many lengths, some of whose tokens come in runs, all at the same time."""
    noise = random.Random(5)
    engine, asked = make_engine(requests), []
    for number in range(20):
        words = tokens_from(noise.randint(1, 70), noise.randint(2000, 40_000))
        shown = SHOWN * (number % 3)
        start = [*HISTORY, *DESCRIBED] if number % 2 else [BOS]
        prompt = [*start, INST, *shown, *words]
        runs = [
            tokens_from(noise.choice([1, 1, 1, 2, 9]), noise.randint(2000, 40_000))
            for _ in range(noise.randint(1, 8))
        ]
        count = sum(map(len, runs))
        pictures = [picture(number + n) for n in range(number % 3)]
        asked.append((request(prompt, count, pictures, Scripted(runs)), runs))
    answers = ask(engine, *(each for each, _ in asked))
    for (each, runs), (first, *tokens) in zip(asked, answers, strict=True):
        answer = [token for run in runs for token in run]
        assert isinstance(first, Prefilled)
        assert tokens == [Token(token) for token in answer]
        chosen_after = np.cumsum([len(each.prompt), *map(len, runs[:-1])]) - 1
        with torch.inference_mode():
            exact = model(
                input_ids=torch.tensor([each.prompt + answer]),
                **image_inputs(each.pictures, torch.float32),
            ).logits[0, chosen_after]
        assert (torch.stack(each.sampler.logits) - exact).abs().max() < 2e-4


@both_kinds
def test_an_answer_ends_after_its_end_token_or_its_most_tokens(make_engine, requests):
    engine = make_engine(requests)
    prompt = [BOS, INST, *tokens_from(20)]
    runs = [[7, 8, 9], [10, EOS, 11], [12]]
    for limit, expected in [(10, [7, 8, 9, 10, EOS]), (4, [7, 8, 9, 10]), (3, [7, 8, 9]), (1, [7])]:
        sampler = Scripted(runs)
        assert ask_one(engine, prompt, limit, sampler=sampler) == (0, expected)


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["int8", "bf16", "int4"])
def test_a_requests_logits_do_not_depend_on_the_others_in_the_batch(
    quantization, model_folder, chat_format, grammars
):
    """To the bit, with pictures, cached prefixes and forced tokens among the requests."""
    if quantization == "bf16" and not bf16_matmul_is_fast():
        pytest.skip("without bf16 instructions, bf16 weights are multiplied in float32")
    function = {"name": "set_level", "description": "Set a level."}
    function["parameters"] = {
        "type": "object",
        "properties": {"level": {"type": "integer", "maximum": 9, "minimum": 0}},
        "required": ["level"],
    }
    tools = [{"type": "function", "function": function}]
    plain = [{"role": "user", "content": "Tell me about the sea."}]
    long = [{"role": "user", "content": "word " * 260}]

    def requests() -> list[EngineRequest]:
        guide = grammars.guide([function], must_call=True, parallel=False)
        tool_prompt = chat_format.encode(plain, tools).ids
        shown = [*HISTORY, INST, *SHOWN, *tokens_from(5)]
        return [
            request(chat_format.encode(plain).ids, 8, (), Recording(1.5, 0.9, seed=1)),
            request(tool_prompt, 30, (), Recording(1.0, seed=2, guide=guide)),
            request(shown, 5, [picture(1)], Recording(0.0)),
            request(tool_prompt[:-3] + tool_prompt[-1:], 5, (), Recording(0.0)),
            request(chat_format.encode(long).ids, 3, (), Recording(1.0, seed=3)),
            request(shown, 5, [picture(2)], Recording(1.0, seed=4)),
            request([BOS, INST, 1000], 12, (), Recording(0.0)),
        ]

    decoder, encoder = Decoder(model_folder, quantization), VisionEncoder(model_folder)
    serial, batching = Engine(decoder, encoder), Engine(decoder, encoder, MAX_REQUESTS)
    alone = requests()
    expected = [ask(serial, each)[0] for each in alone]
    assert not any(isinstance(event, Failed) for events in expected for event in events)
    assert len(expected[1]) > len(alone[1].sampler.logits) > 3  # some tokens are forced
    for times in (1, 2):
        together = requests()
        answers = ask(batching, *together)
        cached = [first.cached_tokens for first, *_ in answers]
        assert any(cached)  # at first, the second tool prompt has what the first one computed
        assert bool(cached[1]) == (times == 2)
        for one, other, (_, *tokens), (_, *same) in zip(
            alone, together, expected, answers, strict=True
        ):
            assert tokens == same
            assert torch.equal(torch.stack(one.sampler.logits), torch.stack(other.sampler.logits))


# --- cached prefixes -------------------------------------------------------------------------


@both_kinds
def test_a_cached_prefix_is_what_computing_it_gives(make_engine, requests):
    engine = make_engine(requests)
    prompt = [*HISTORY, *DESCRIBED, INST, *tokens_from(9)]
    other = [*HISTORY, *DESCRIBED, INST, *tokens_from(20, 5000)]
    assert cached(engine, prompt) == 0
    assert cached(engine, other) == 153
    for each in (prompt, other):
        assert torch.equal(logits_of(engine, each), logits_of(make_engine(requests), each))
    assert cached(engine, [*HISTORY, INST, *tokens_from(9)]) == 62
    other_history = [BOS, INST, *tokens_from(60, 1001)]
    assert cached(engine, [*other_history, INST, *tokens_from(9)]) == 0
    # The same tools after another history.
    assert cached(engine, [*other_history, *DESCRIBED, INST]) == 62


@both_kinds
def test_equal_image_tokens_of_different_pictures_are_distinguished(make_engine, requests):
    engine = make_engine(requests)
    prompt = [*HISTORY, INST, *SHOWN, *tokens_from(50), INST, *tokens_from(9)]
    assert cached(engine, prompt, [picture(1)]) == 0
    assert cached(engine, prompt, [picture(2)]) == 62
    assert cached(engine, prompt, [picture(1)]) == 116
    first, same, different = (logits_of(engine, prompt, [picture(n)]) for n in (1, 1, 2))
    assert torch.equal(first, same)
    assert (first[0] - different[0]).abs().max() > 1e-3
    fresh = make_engine(requests)
    assert torch.equal(logits_of(fresh, prompt, [picture(2)]), different)
    # Of two pictures, one in the cached prefix, the other one is still read.
    two = [*prompt, *SHOWN]
    assert cached(engine, two, [picture(1), picture(3)]) == 116
    for number in (3, 4):
        seen = [picture(1), picture(number)]
        assert torch.equal(
            logits_of(engine, two, seen), logits_of(make_engine(requests), two, seen)
        )


def test_an_answer_does_not_change_the_cached_prefixes(make_engine):
    engine = make_engine()
    prompt = [*HISTORY, *DESCRIBED, INST, *tokens_from(9)]
    first, *later = (ask_one(engine, prompt, 12) for _ in range(3))
    assert later == [(153, first[1])] * 2
    assert len(engine._prefixes.prefixes) == 2
    for tensor in engine._prefixes.prefixes.values():  # and none holds more memory than it needs
        assert tensor.untyped_storage().nbytes() == tensor.nbytes


def test_the_cache_keeps_its_limit_and_the_newest_prefixes(make_engine):
    engine = make_engine()
    engine._prefixes = PrefixCache(max_tokens=200)
    prompts = [[BOS, TOOLS, *tokens_from(90, first), INST, 7] for first in (1000, 2000, 3000)]
    assert [cached(engine, prompt) for prompt in prompts] == [0, 0, 0]
    assert sum(part.shape[-2] for part in engine._prefixes.prefixes.values()) <= 200
    assert cached(engine, prompts[2]) == 92
    assert cached(engine, prompts[0]) == 0


def test_the_end_of_a_long_prompt_is_evicted_first(make_engine):
    engine = make_engine()
    engine._prefixes = PrefixCache(max_tokens=200)
    long = [*HISTORY, *DESCRIBED, INST, *tokens_from(80), INST, 7]  # 62, 91 and 81 tokens
    assert boundaries(long) == [62, 153, 234]
    assert [cached(engine, long) for _ in range(3)] == [0, 153, 153]
    assert cached(engine, [BOS, TOOLS, *tokens_from(100), INST, 7]) == 0
    assert cached(engine, long) == 62


def test_requests_at_the_same_time_share_the_cache(make_engine):
    engine = make_engine(MAX_REQUESTS)
    prompts = [[*HISTORY, *DESCRIBED, INST, *tokens_from(9, first)] for first in range(2000, 2012)]
    alone = [ask_one(make_engine(), prompt)[1] for prompt in prompts]
    for expected in ([0, *[153] * 11], [153] * 12):  # only the first one has to read it
        answers = ask(engine, *(request(prompt) for prompt in prompts))
        assert [first.cached_tokens for first, *_ in answers] == expected
        assert [[token.id for token in tokens] for _, *tokens in answers] == alone
    assert len(engine._prefixes.prefixes) == 2


# --- clients that leave ----------------------------------------------------------------------


@both_kinds
def test_a_client_that_leaves_a_long_prompt_frees_the_engine(make_engine, requests, monkeypatch):
    monkeypatch.setattr(prefix_cache, "PIECE_TOKENS", 10)
    begun, gone = threading.Event(), threading.Event()

    def wait(_):
        begun.set()
        gone.wait(20)

    engine = make_engine(requests)
    runs = watch_runs(engine, monkeypatch, before=wait)

    async def leave_and_ask_again():
        long = engine.stream(request([BOS, INST, *tokens_from(1000)], 2))
        await anext(long)  # the request's turn has come
        answer = asyncio.ensure_future(anext(long))
        await asyncio.to_thread(begun.wait, 20)
        answer.cancel()
        await asyncio.wait([answer])
        gone.set()
        return [event async for event in engine.stream(request([BOS, INST, *tokens_from(5)], 2))]

    first, *tokens = asyncio.run(leave_and_ask_again())
    assert (first, len(tokens)) == (Prefilled(0), 2)
    assert runs == [[10], [7], [1]]  # a piece of the first prompt; the second prompt, and a token


@both_kinds
def test_a_client_that_leaves_an_answer_frees_the_engine(make_engine, requests, monkeypatch):
    engine = make_engine(requests)
    runs = watch_runs(engine, monkeypatch)

    async def leave_and_ask_again():
        async with aclosing(engine.stream(request([BOS, INST, 1000], 1500))) as events:
            for _ in range(4):
                await anext(events)
        return [event async for event in engine.stream(request([BOS, INST, *tokens_from(5)], 2))]

    _, *tokens = asyncio.run(leave_and_ask_again())
    assert len(tokens) == 2
    assert len(runs) < 200


@both_kinds
def test_a_client_that_leaves_before_its_turn_costs_nothing(make_engine, requests, monkeypatch):
    engine = make_engine(requests)
    begun, gone = threading.Event(), threading.Event()

    def wait(_):
        begun.set()
        gone.wait(20)

    runs = watch_runs(engine, monkeypatch, before=wait)

    async def leave_the_queue():
        first = asyncio.ensure_future(
            anext(aiter(engine.stream(request([BOS, INST, *tokens_from(5)], 1))))
        )
        await asyncio.to_thread(begun.wait, 20)
        waiting = [
            asyncio.ensure_future(anext(engine.stream(request([BOS, INST, *tokens_from(50)], 9))))
            for _ in range(3)
        ]
        await asyncio.sleep(0)
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)
        gone.set()
        await first
        return [event async for event in engine.stream(request([BOS, INST, 1000], 1))]

    assert len(asyncio.run(leave_the_queue())) == 2
    assert runs == [[7], [3]]


def test_of_64_requests_those_that_stay_get_the_tokens_that_they_get_alone(
    make_engine, monkeypatch
):
    """Half of them hang up at random moments; there is room for a few at a time."""
    monkeypatch.setattr(prefix_cache, "PIECE_TOKENS", 40)
    noise = random.Random(11)

    def requests() -> list[EngineRequest]:
        shapes = random.Random(12)
        made = []
        for number in range(64):
            start = [*HISTORY, *DESCRIBED] if shapes.random() < 0.5 else [BOS]
            shown = SHOWN * (shapes.random() < 0.3)
            words = tokens_from(shapes.randint(1, 150), shapes.randint(2000, 40_000))
            sampler = Sampler(1.0 * (number % 2), top_p=0.9, seed=number)
            prompt = [*start, INST, *shown, *words]
            pictures = [picture(number % 5)] * bool(shown)
            made.append(request(prompt, shapes.randint(1, 60), pictures, sampler))
        return made

    serial = make_engine(quantization="int8")
    alone = [ask(serial, each)[0][1:] for each in requests()]
    monkeypatch.setattr(engine_module, "CACHE_TOKENS", 1500)
    crowded = make_engine(MAX_REQUESTS, quantization="int8")
    leaves = {number: noise.random() for number in noise.sample(range(64), 32)}

    async def answer(each: EngineRequest):
        return [event async for event in crowded.stream(each)]

    async def crowd():
        tasks = [asyncio.ensure_future(answer(each)) for each in requests()]
        await asyncio.sleep(0)
        for number, after in leaves.items():
            asyncio.get_running_loop().call_later(after, tasks[number].cancel)
        await asyncio.wait_for(asyncio.wait(tasks), 120)
        return tasks

    stayed = 0
    for number, task in enumerate(asyncio.run(crowd())):
        if not task.cancelled():
            assert task.result()[1:] == alone[number]
            stayed += 1
    assert 32 <= stayed < 64
    assert (
        ask(crowded, request([BOS, INST, 1000]))[0][1:]
        == ask(serial, request([BOS, INST, 1000]))[0][1:]
    )


# --- room for requests -----------------------------------------------------------------------


def watch_room(engine: Engine, monkeypatch) -> tuple[list[int], list[int]]:
    """Lists that grow with each run by the tokens held, and by the number of requests."""
    held, counts = [], []

    def look(_):
        begun = [running.cache for running in engine._running if running.cache]
        held.append(sum(cache.capacity for cache in begun))
        counts.append(len(engine._running))

    watch_runs(engine, monkeypatch, before=look)
    return held, counts


def test_requests_that_do_not_fit_wait_and_are_answered(make_engine, monkeypatch):
    monkeypatch.setattr(engine_module, "CACHE_TOKENS", 300)
    noise = random.Random(4)
    engine = make_engine(MAX_REQUESTS)
    held, counts = watch_room(engine, monkeypatch)
    made = [
        request([BOS, INST, *tokens_from(noise.choice([3, 20, 90, 250]))], noise.randint(1, 48))
        for _ in range(40)
    ]
    for (first, *tokens), each in zip(ask(engine, *made), made, strict=True):
        assert isinstance(first, Prefilled)
        assert len(tokens) == each.max_tokens or tokens[-1] == Token(EOS)
    assert max(held) <= 300
    assert max(counts) > 3  # as many as fit at a time


def test_a_batch_has_a_greatest_number_of_requests(make_engine, monkeypatch):
    engine = make_engine(5)
    _, counts = watch_room(engine, monkeypatch)
    answers = ask(engine, *(request([BOS, INST, 1000 + n], 6) for n in range(17)))
    assert {len(events) for events in answers} == {7}
    assert max(counts) == 5


def test_a_request_that_leaves_no_room_is_answered_alone(make_engine, monkeypatch):
    monkeypatch.setattr(engine_module, "CACHE_TOKENS", 100)
    engine = make_engine(MAX_REQUESTS)
    assert engine.context == 100
    _, counts = watch_room(engine, monkeypatch)
    large = request([BOS, INST, *tokens_from(90)], 8)
    answers = ask(engine, *[large] * 3)
    assert {len(events) for events in answers} == {9}
    assert set(counts) == {1}


def test_the_context_is_the_models_or_all_the_room(make_engine):
    assert make_engine().context == 2048


@pytest.mark.parametrize("requests", [1, 3, MAX_REQUESTS])
def test_requests_begin_in_the_order_of_their_arrival(make_engine, requests, monkeypatch):
    """A small one does not pass a large one that waits for room."""
    monkeypatch.setattr(engine_module, "CACHE_TOKENS", 200)
    engine, order = make_engine(requests), []

    async def answer(number: int):
        size = 150 if number % 4 == 1 else 9
        async for event in engine.stream(request([BOS, INST, *tokens_from(size)], 5 + number)):
            if isinstance(event, Prefilled):
                order.append(number)

    async def all_of_them():
        await asyncio.wait_for(asyncio.gather(*map(answer, range(20))), 60)

    asyncio.run(all_of_them())
    assert order == list(range(20))


def test_a_client_that_leaves_while_it_waits_for_room_does_not_keep_others_waiting(
    make_engine, monkeypatch
):
    monkeypatch.setattr(engine_module, "CACHE_TOKENS", 2000)
    engine = make_engine(MAX_REQUESTS)
    runs = watch_runs(engine, monkeypatch)

    async def leave_the_queue() -> int:
        """How many steps there were before a small request began."""
        first = engine.stream(request([BOS, INST, 1000], 1500, sampler=Scripted([[7]] * 1500)))
        await anext(first)
        large = asyncio.ensure_future(anext(engine.stream(request([BOS, INST, 1000], 1000))))
        await asyncio.sleep(0)
        large.cancel()
        await asyncio.wait([large])
        await anext(engine.stream(request([BOS, INST, 1000], 2)))
        return len(runs)

    assert asyncio.run(leave_the_queue()) < 1000


def test_answers_go_on_while_a_long_prompt_is_read(make_engine, monkeypatch):
    """A token for each piece, so that nobody waits for the whole prompt."""
    monkeypatch.setattr(prefix_cache, "PIECE_TOKENS", 50)
    engine = make_engine(MAX_REQUESTS)
    runs = watch_runs(engine, monkeypatch)
    story = request([BOS, INST, 1000], 40)
    long = [request([BOS, INST, *tokens_from(448, first)], 2) for first in (1000, 2000)]
    ask(engine, story, *long)
    reading = [number for number, counts in enumerate(runs) if counts == [50]]
    assert len(reading) == 2 * 9
    assert all(later - earlier == 2 for earlier, later in pairwise(reading))


def test_an_idle_engine_holds_no_conversation(make_engine, monkeypatch):
    """The last one's cache could have 250 MB."""
    engine = make_engine(MAX_REQUESTS)
    caches, make = [], engine._decoder.key_values

    def key_values(capacity):
        cache = make(capacity)
        caches.append(weakref.ref(cache))
        return cache

    monkeypatch.setattr(engine._decoder, "key_values", key_values)
    ask(engine, *(request([BOS, INST, 1000 + n]) for n in range(3)))
    asyncio.run(asyncio.sleep(0.5))
    gc.collect()
    assert [cache() for cache in caches] == [None] * 3


# --- errors ----------------------------------------------------------------------------------


class Failing(Sampler):
    """Has a guide that cannot go on after the second token."""

    @property
    def error(self):
        return "no token fits" if len(self.sampled) > 1 else None

    def __post_init__(self):
        super().__post_init__()
        self.sampled = []

    def sample(self, logits):
        self.sampled.append(super().sample(logits))
        return self.sampled[-1]


class Raising(Sampler):
    """Raises an error at the third token."""

    def __post_init__(self):
        super().__post_init__()
        self.left = 3

    def sample(self, logits):
        self.left -= 1
        if not self.left:
            raise ValueError("planted")
        return super().sample(logits)


@both_kinds
def test_a_guide_that_cannot_go_on_ends_the_answer_with_its_reason(make_engine, requests):
    engine = make_engine(requests)
    prompt = [BOS, INST, *tokens_from(20)]
    ((first, *tokens, last),) = ask(engine, request(prompt, 12, sampler=Failing(0.0)))
    assert (first, last) == (Prefilled(0), Failed("no token fits", status=400))
    assert all(isinstance(token, Token) for token in tokens)
    assert len(tokens) <= 1


@both_kinds
def test_an_error_ends_one_answer_and_not_the_engine(make_engine, requests):
    engine = make_engine(requests)
    wrong_size = [*HISTORY, INST, IMG, *SHOWN]
    for wrong in ([BOS, 10**6], [*HISTORY, INST, 10**6], wrong_size):
        pictures = [picture(1)] if wrong == wrong_size else []
        ((first, failed),) = ask(engine, request(wrong, 1, pictures))
        assert isinstance(first, Prefilled)
        assert isinstance(failed, Failed)
        assert failed.status == 500
        assert "Error" in failed.reason
        assert len(ask_one(engine, [BOS, INST, 1000])[1]) == 4
    # Nothing wrong was kept.
    prompt = [*HISTORY, INST, *tokens_from(9)]
    assert torch.equal(logits_of(engine, prompt), logits_of(make_engine(requests), prompt))


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda: request([BOS, *tokens_from(80), 10**6], 9), id="while it is read"),
        pytest.param(
            lambda: request([BOS, INST, 1000], 9, sampler=Raising(0.0)), id="while it is answered"
        ),
        pytest.param(
            lambda: request([BOS, INST, 1000], 9, sampler=Failing(0.0)), id="in its guide"
        ),
    ],
)
def test_an_error_does_not_touch_the_other_answers(make_engine, wrong):
    def others() -> list[EngineRequest]:
        return [request([BOS, INST, *tokens_from(9, 2000 + n)], 20) for n in range(4)]

    expected = [ask(make_engine(), each)[0] for each in others()]
    first, second, third, fourth = others()
    engine = make_engine(MAX_REQUESTS)
    *same, failed = ask(engine, first, second, wrong(), third, fourth, wrong())
    same.pop(2)
    assert same == expected
    assert isinstance(failed[-1], Failed)
    assert ask(engine, *others()) == expected


@both_kinds
def test_an_error_of_the_decoder_reaches_all_whose_tokens_it_computes(
    make_engine, requests, monkeypatch
):
    engine, steps = make_engine(requests), []

    def planted(counts):
        steps.append(counts[0])
        if steps.count(1) == 5:  # once: a step of answers, while others wait or are read
            steps.append(1)
            raise RuntimeError("planted")

    made = [request([BOS, INST, 1000 + n], 9) for n in range(3)]
    expected = ask(make_engine(requests), *made)
    watch_runs(engine, monkeypatch, before=planted)
    answers = ask(engine, *made)
    failed = [events for events in answers if isinstance(events[-1], Failed)]
    assert 1 <= len(failed) <= requests
    assert {events[-1].reason for events in failed} == {"RuntimeError: planted"}
    assert ask(engine, *made) == expected


@both_kinds
def test_an_error_before_a_request_begins_ends_it_and_not_the_engine(
    make_engine, requests, monkeypatch
):
    """Such as memory that cannot be had for its cache."""
    engine = make_engine(requests)
    make = engine._decoder.key_values

    def key_values(capacity):
        if capacity > 1000:
            raise RuntimeError("can't allocate memory")
        return make(capacity)

    monkeypatch.setattr(engine._decoder, "key_values", key_values)
    *_, failed = ask(engine, request([BOS, INST, 1000], 1500))[0]
    assert isinstance(failed, Failed)
    assert len(ask_one(engine, [BOS, INST, 1000])[1]) == 4
