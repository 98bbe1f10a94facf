"""The engines: tokens as from `generate`, whatever is cached or computed at the same time."""

import asyncio
import threading

import numpy as np
import pytest
import torch
from tiny_models import thin_model

from pocket_model import loading
from pocket_model.loading import position_inputs
from pocket_model.server import prefix_cache
from pocket_model.server.batch_engine import BatchEngine
from pocket_model.server.engine import EngineRequest, Failed, Prefilled, Token
from pocket_model.server.prefix_cache import MIN_PREFIX_TOKENS, PrefixCache, boundaries, pieces
from pocket_model.server.sampling import Sampler
from pocket_model.server.serial_engine import SerialEngine
from pocket_model.tekken import CONTROL_IDS

BOS, INST, TOOLS, IMG = (
    CONTROL_IDS[token] for token in ("<s>", "[INST]", "[AVAILABLE_TOOLS]", "[IMG]")
)


def tokens_from(count: int, first: int = 1000) -> list[int]:
    return list(range(first, first + count))


END = CONTROL_IDS["[IMG_END]"]
HISTORY = [BOS, INST, *tokens_from(60)]
DESCRIBED = [TOOLS, *tokens_from(90, 3000)]


@pytest.fixture(scope="module")
def model():
    return thin_model(seed=2)


def cache_of(model, **settings) -> PrefixCache:
    return PrefixCache(model, **settings)


def prefill(prefixes, prompt, pictures=()):
    cache, _, cached_tokens = prefixes.prefill(prompt, list(pictures))
    return cache, cached_tokens


def picture(seed: int) -> np.ndarray:
    """Two image tokens' worth of noise."""
    return np.random.default_rng(seed).normal(size=(3, 28, 56)).astype("f4")


def states(cache) -> list[torch.Tensor]:
    return [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]


def test_later_tokens_stay_hidden_while_a_batch_computes(model, monkeypatch):
    """The batching manager turns `config.is_causal` off while it computes with the same modules."""
    prompt = tokens_from(20)

    def hidden(**inputs) -> torch.Tensor:
        with torch.inference_mode():
            return model.model(**inputs, use_cache=False).last_hidden_state

    alone = hidden(**position_inputs(prompt, 0))
    bare = {"input_ids": torch.tensor([prompt])}
    torch.testing.assert_close(hidden(**bare), alone)
    monkeypatch.setattr(model.config.text_config, "is_causal", False, raising=False)
    torch.testing.assert_close(hidden(**position_inputs(prompt, 0)), alone)
    # Or there would be no need for `position_inputs`.
    assert not torch.allclose(hidden(**bare), alone)


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


def test_a_cached_prefix_is_what_computing_it_gives(model):
    prefixes = cache_of(model)
    first, cached_tokens = prefill(prefixes, [*HISTORY, *DESCRIBED, INST, *tokens_from(9)])
    assert cached_tokens == 0
    again, cached_tokens = prefill(prefixes, [*HISTORY, *DESCRIBED, INST, *tokens_from(20, 5000)])
    assert cached_tokens == 153
    for one, other in zip(states(first), states(again), strict=True):
        assert torch.equal(one, other)
    _, cached_tokens = prefill(prefixes, [*HISTORY, INST, *tokens_from(9)])
    assert cached_tokens == 62
    other_history = [BOS, INST, *tokens_from(60, 1001)]
    _, cached_tokens = prefill(prefixes, [*other_history, *DESCRIBED, INST])
    assert cached_tokens == 0


def test_equal_image_tokens_of_different_pictures_are_distinguished(model):
    prefixes = cache_of(model)
    prompt = [*HISTORY, INST, IMG, IMG, END, *tokens_from(50), INST, *tokens_from(9)]
    first, cached_tokens = prefill(prefixes, prompt, [picture(1)])
    assert cached_tokens == 0
    other, cached_tokens = prefill(prefixes, prompt, [picture(2)])
    assert cached_tokens == 62
    again, cached_tokens = prefill(prefixes, prompt, [picture(1)])
    assert cached_tokens == 116
    for one, same, different in zip(states(first), states(again), states(other), strict=True):
        assert torch.equal(one, same)
        assert torch.equal(one[:, :, :62], different[:, :, :62])
        assert not torch.equal(one[:, :, 63:], different[:, :, 63:])
    _, left, _ = prefixes.prefill([*prompt, IMG, IMG, END], [picture(1), picture(3)])
    assert [one.tobytes() for one in left] == [picture(3).tobytes()]


def test_an_answer_does_not_change_the_cached_prefixes(model):
    prompt = [*HISTORY, *DESCRIBED, INST, *tokens_from(9)]
    prefixes = cache_of(model)
    settings = {"do_sample": False, "max_new_tokens": 12, "pad_token_id": 2, "eos_token_id": 2}
    ids = torch.tensor([prompt])
    plain = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
    for _ in range(3):
        cache, _ = prefill(prefixes, prompt)
        assert cache.get_seq_length() == 153
        mine = model.generate(
            ids, attention_mask=torch.ones_like(ids), past_key_values=cache, **settings
        )
        assert mine.tolist() == plain.tolist()
    for layers in prefixes.prefixes.values():
        for tensor in layers[0]:  # and none holds more memory than it needs
            assert tensor.untyped_storage().nbytes() == tensor.nbytes


def test_the_cache_keeps_its_limit_and_the_newest_prefixes(model):
    prefixes = cache_of(model, max_tokens=200)
    prompts = [[BOS, TOOLS, *tokens_from(90, first), INST, 7] for first in (1000, 2000, 3000)]
    assert [prefill(prefixes, prompt)[1] for prompt in prompts] == [0, 0, 0]
    assert sum(layers[0][0].shape[2] for layers in prefixes.prefixes.values()) <= 200
    assert prefill(prefixes, prompts[2])[1] == 92
    assert prefill(prefixes, prompts[0])[1] == 0


def test_the_end_of_a_long_prompt_is_evicted_first(model):
    prefixes = cache_of(model, max_tokens=200)
    long = [*HISTORY, *DESCRIBED, INST, *tokens_from(80), INST, 7]  # 62, 91 and 81 tokens
    assert boundaries(long) == [62, 153, 234]
    assert [prefill(prefixes, long)[1] for _ in range(3)] == [0, 153, 153]
    assert prefill(prefixes, [BOS, TOOLS, *tokens_from(100), INST, 7])[1] == 0
    assert prefill(prefixes, long)[1] == 62


@pytest.mark.parametrize("piece_tokens", [prefix_cache.PIECE_TOKENS, 10])
@pytest.mark.parametrize("pictures", [0, 2])
def test_the_engine_gives_the_tokens_of_generate(model, pictures, piece_tokens, monkeypatch):
    """With two pictures: one in a cached prefix, one after the last boundary."""
    monkeypatch.setattr(prefix_cache, "PIECE_TOKENS", piece_tokens)
    seen = [picture(number) for number in range(pictures)]
    shown = [IMG, IMG, END] if pictures else []
    prompt = [*HISTORY, *shown, *DESCRIBED, INST, *tokens_from(9), *shown]
    ids = torch.tensor([prompt])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=12,
        **loading.image_inputs(seen, torch.float32),
    )
    serial = SerialEngine(model)

    async def answer():
        request = EngineRequest(prompt, 12, CONTROL_IDS["</s>"], Sampler(0.0), seen)
        first, *tokens = [event async for event in serial.stream(request)]
        assert isinstance(first, Prefilled)
        assert all(isinstance(token, Token) for token in tokens)
        return [token.id for token in tokens], first.cached_tokens

    assert asyncio.run(answer()) == (out[0, len(prompt) :].tolist(), 0)
    if pictures:  # the answer depends on which is which
        swapped = loading.image_inputs(seen[::-1], torch.float32)
        with torch.no_grad():
            logits = [
                model(input_ids=ids, **each).logits[0, -1]
                for each in (loading.image_inputs(seen, torch.float32), swapped)
            ]
        assert not torch.allclose(*logits, atol=1e-4)
    assert asyncio.run(answer()) == (out[0, len(prompt) :].tolist(), 153 + len(shown))


def test_pieces_divide_no_picture(monkeypatch):
    monkeypatch.setattr(prefix_cache, "PIECE_TOKENS", 4)
    shown = [IMG, IMG, CONTROL_IDS["[IMG_BREAK]"], IMG, IMG, END]
    prompt = [BOS, INST, *shown, *tokens_from(5), *shown]
    parts = list(pieces(prompt))
    assert [token for part in parts for token in part] == prompt
    assert [len(part) for part in parts] == [8, 4, 7]
    assert list(pieces(tokens_from(8))) == [tokens_from(4), tokens_from(4, 1004)]


def test_a_client_that_leaves_a_long_prompt_frees_the_engine(monkeypatch):
    monkeypatch.setattr(prefix_cache, "PIECE_TOKENS", 10)
    model = thin_model(seed=2)
    begun, gone, passes = threading.Event(), threading.Event(), []

    def hook(*_):
        passes.append(1)
        begun.set()
        gone.wait(20)

    model.model.register_forward_hook(hook)
    serial = SerialEngine(model)

    def ask(tokens: int):
        prompt = [BOS, INST, *tokens_from(tokens)]
        return serial.stream(EngineRequest(prompt, 2, CONTROL_IDS["</s>"], Sampler(0.0)))

    async def leave_and_ask_again():
        answer = asyncio.ensure_future(anext(ask(1000)))
        await asyncio.to_thread(begun.wait, 20)
        answer.cancel()
        await asyncio.wait([answer])
        gone.set()
        return [event async for event in ask(5)]

    first, *tokens = asyncio.run(leave_and_ask_again())
    assert (first, len(tokens)) == (Prefilled(0), 2)
    assert len(passes) == 1 + 2  # a piece of the first prompt; the second prompt, and a token


class _Recording(Sampler):
    """Keeps the logits that it was given."""

    def __post_init__(self):
        super().__post_init__()
        self.logits = []

    def sample(self, logits):
        self.logits.append(logits.clone())
        return super().sample(logits)


def test_a_requests_logits_do_not_depend_on_the_others_in_the_batch(model_folder):
    loaded = loading.load_model(model_folder, None, batching=True)
    batch = BatchEngine(loaded)

    async def answer(number: int):
        sampler = _Recording(1.5 * (number % 2), top_p=0.9, seed=number)
        prompt = [BOS, INST, *tokens_from(5 + 7 * number)]
        request = EngineRequest(prompt, 4 + 2 * number, CONTROL_IDS["</s>"], sampler)
        events = [event async for event in batch.stream(request)]
        return events, torch.stack(sampler.logits)

    async def alone():
        return [await answer(number) for number in range(6)]

    async def together():
        return await asyncio.gather(*map(answer, range(6)))

    try:
        pairs = zip(asyncio.run(alone()), asyncio.run(together()), strict=True)
    finally:
        batch.close()
    exact = {"atol": 0, "rtol": 0} if loaded.dtype == torch.bfloat16 else {"atol": 1e-3, "rtol": 0}
    for (events, logits), (same_events, same_logits) in pairs:
        assert events == same_events
        torch.testing.assert_close(same_logits, logits, **exact)


class _Failing(Sampler):
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


@pytest.mark.parametrize("engine_class", [SerialEngine, BatchEngine])
def test_a_guide_that_cannot_go_on_ends_the_answer_with_its_reason(model, engine_class):
    engine = engine_class(thin_model(seed=2))

    async def answer():
        request = EngineRequest(
            [BOS, INST, *tokens_from(20)], 12, CONTROL_IDS["</s>"], _Failing(0.0)
        )
        return [event async for event in engine.stream(request)]

    try:
        first, *tokens, last = asyncio.run(answer())
    finally:
        if engine_class is BatchEngine:
            engine.close()
    assert (first, last) == (Prefilled(0), Failed("no token fits", status=400))
    assert all(isinstance(token, Token) for token in tokens)
    assert len(tokens) <= 1


def test_an_error_ends_one_answer_and_not_the_engine(model):
    engine = SerialEngine(model)

    async def answer(prompt):
        request = EngineRequest(prompt, 1, CONTROL_IDS["</s>"], Sampler(0.0))
        return [event async for event in engine.stream(request)]

    _, failed = asyncio.run(answer([BOS, 10**6]))
    assert isinstance(failed, Failed)
    assert "IndexError" in failed.reason
    _, token = asyncio.run(answer([BOS, INST, 1000]))
    assert isinstance(token, Token)


def test_short_prefixes_are_not_cached():
    turns = [BOS, INST, *tokens_from(MIN_PREFIX_TOKENS - 3), INST, 7]
    assert boundaries(turns) == []
    assert boundaries([BOS, *turns]) == [MIN_PREFIX_TOKENS]


def test_attention_in_float32_is_as_close_to_the_exact_logits(model):
    """In bf16, the wide attention differs from float32's by no more than torch's own kernel."""
    ids = torch.tensor([[BOS, INST, *tokens_from(80)]])
    with torch.no_grad():
        exact = model(input_ids=ids).logits
        rounded = thin_model(seed=2).to(torch.bfloat16)
        plain = (rounded(input_ids=ids).logits.float() - exact).abs().mean()
        rounded.set_attn_implementation(loading.FLOAT32_ATTENTION)
        wide = (rounded(input_ids=ids).logits.float() - exact).abs().mean()
        begun = rounded(input_ids=ids[:, :50], use_cache=True).past_key_values
        rest = rounded(input_ids=ids[:, 50:], past_key_values=begun).logits.float()
    assert wide != plain
    assert wide <= 1.05 * plain
    assert (rest - exact[:, 50:]).abs().mean() <= 1.5 * plain


@pytest.mark.parametrize("fast", [True, False])
def test_a_processor_without_bf16_attends_in_float32(model_folder, monkeypatch, fast):
    monkeypatch.setattr(loading, "bf16_matmul_is_fast", lambda: fast)
    loaded = loading.load_model(model_folder, None, batching=False)
    used = loaded.config.text_config._attn_implementation
    assert used == ("sdpa" if fast else loading.FLOAT32_ATTENTION)
    assert loading.load_model(model_folder, None, batching=True).dtype == (
        torch.bfloat16 if fast else torch.float32
    )
