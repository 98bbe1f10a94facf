"""Timing generation: what is run, not how fast it is."""

import pytest
import torch
from tiny_models import text_model
from transformers import StaticCache

from helpers.model import loading, speed


@pytest.fixture(scope="module")
def model(text_folder):
    return loading.load_4bit(text_folder).model


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_it_runs_what_it_says(model, monkeypatch, cache):
    runs, seen = [], []
    plain = type(model).generate

    def watched(self, prompt, **options):
        out = plain(self, prompt, **options)
        seen.append(options.get("past_key_values"))
        runs.append((tuple(prompt.shape), out.shape[1] - prompt.shape[1]))
        return out

    monkeypatch.setattr(type(model), "generate", watched)
    timed = speed.time_generation(
        model, prompt_tokens=6, new_tokens=5, batch=2, cache=cache, repeats=2
    )
    assert runs == [
        ((2, 6), speed.WARM_UP_TOKENS),
        ((2, 6), 1),
        ((2, 6), 1),
        ((2, 6), 5),
        ((2, 6), 5),
    ]
    assert len(seen) == len(runs)
    assert len(set(map(id, seen))) == 1  # one cache for all runs, or none of our own
    assert isinstance(seen[0], StaticCache) == (cache == "static")
    assert timed["cache"] == cache
    assert timed["prefill_tokens_per_s"] == pytest.approx(12 / timed["ttft_s"])
    assert timed["decode_tokens_per_s"] > 0


def test_a_static_cache_that_is_used_again_gives_the_same_tokens(model, monkeypatch):
    found = {}
    plain = type(model).generate

    def watched(self, prompt, **options):
        out = plain(self, prompt, **options)
        found.setdefault(options["max_new_tokens"], []).append(out)
        return out

    monkeypatch.setattr(type(model), "generate", watched)
    for cache in ("static", "dynamic"):
        speed.time_generation(model, prompt_tokens=6, new_tokens=8, cache=cache, repeats=2)
    for runs in found.values():
        static, dynamic = runs[: len(runs) // 2], runs[len(runs) // 2 :]
        assert all(map(torch.equal, static, dynamic))


def test_prompts_differ_by_seed_only(model):
    first, second = (speed.random_prompt(model, 32, 1, seed) for seed in (1, 2))
    assert not torch.equal(first, second)
    assert torch.equal(first, speed.random_prompt(model, 32, 1, 1))


def test_several_settings_make_a_table(model):
    table = speed.time_settings(
        model, [{"cache": "dynamic"}, {"cache": "static"}], prompt_tokens=4, new_tokens=3, repeats=1
    )
    assert table["cache"].tolist() == ["dynamic", "static"]


def test_what_cannot_be_compiled_is_refused(model):
    """`generate` would decode without compiling, and the figure would be called a compiled one."""
    setting = {"prompt_tokens": 4, "new_tokens": 3, "cache": "static", "compiled": True}
    with pytest.raises(NotImplementedError, match="bitsandbytes"):
        speed.time_generation(model, **setting)
    with pytest.raises(ValueError, match="compiled: it needs a GPU"):
        speed.time_generation(text_model(), **setting)


@pytest.mark.parametrize("wrong", [{"new_tokens": 1}, {"cache": "elastic"}])
def test_bad_arguments_are_refused(model, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        speed.time_generation(model, **{"prompt_tokens": 4, "new_tokens": 3} | wrong)
