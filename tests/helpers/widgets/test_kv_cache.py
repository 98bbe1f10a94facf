"""The KV cache's sizes, against a cache that transformers really fills."""

import copy

import pytest
import torch
from transformers import AutoModel

from helpers.model import configs
from helpers.widgets import kv_cache

MODELS = ["mistral-small-3.2-2506", "mistral-7b-v0.1", "gemma-2-27b"]


def filled(model: str, tokens: int) -> int:
    """The bytes of a real cache: the model's attention shape in bf16, all else tiny."""
    config = copy.deepcopy(configs.load(model).get_text_config())
    tiny = {"hidden_size": 32, "intermediate_size": 32, "vocab_size": 16, "pad_token_id": None}
    config.update(tiny)
    network = AutoModel.from_config(config, dtype=torch.bfloat16).eval()
    with torch.no_grad():
        cache = network(torch.ones(1, tokens - 1, dtype=torch.long)).past_key_values
        cache = network(torch.ones(1, 1, dtype=torch.long), past_key_values=cache).past_key_values
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


@pytest.mark.parametrize("model", MODELS)
def test_a_token_takes_what_transformers_keeps_for_it(model):
    table = kv_cache.explore([model]).table
    assert table["KiB per token"].item() == filled(model, 40) / 40 / 1024


def test_the_table_is_for_the_context_or_the_models_limit():
    table = kv_cache.explore(MODELS, context=131072).table
    assert list(table["tokens"]) == [131072, 32768, 8192]
    # 40 layers, a key and a value, 8 heads of 128 numbers of 2 bytes; 32 query heads.
    small = table.iloc[0]
    assert small["GiB"] == 131072 * 40 * 2 * 8 * 128 * 2 / 2**30
    assert small["GiB without GQA"] == 4 * small["GiB"]


def test_windows_are_counted_by_layer():
    assert kv_cache.shape("mistral-small-3.2-2506")["windows"] == [(None, 40)]
    assert kv_cache.shape("mistral-7b-v0.1")["windows"] == [(4096, 32)]
    assert sorted(kv_cache.shape("gemma-2-27b")["windows"], key=str) == [(4096, 23), (None, 23)]


def test_another_context_is_refused_in_words():
    with pytest.raises(ValueError, match=r"there is no 5000\. There are: 1024, 2048"):
        kv_cache.explore(MODELS, context=5000)
