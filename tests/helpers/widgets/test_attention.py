"""Attention weights, against a softmax that is computed by hand."""

import pytest
import torch
from transformers import MistralConfig, MistralModel
from transformers.models.mistral.modeling_mistral import apply_rotary_pos_emb

from helpers.widgets import attention


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        sliding_window=None,
    )
    config._attn_implementation = "eager"
    return MistralModel(config).eval()


IDS = torch.tensor([[1, 7, 9, 30, 4]])


def test_the_first_layers_weights_are_softmax_of_queries_and_keys(model):
    found = attention.weights(model, IDS)
    assert found.shape == (2, 4, 5, 5)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 4, 5))
    layer, states = model.layers[0], model.embed_tokens(IDS)
    states = layer.input_layernorm(states)
    q = layer.self_attn.q_proj(states).unflatten(-1, (4, 8)).transpose(1, 2)
    k = layer.self_attn.k_proj(states).unflatten(-1, (2, 8)).transpose(1, 2)
    q, k = apply_rotary_pos_emb(q, k, *model.rotary_emb(states, torch.arange(5)[None]))
    scores = q @ k.repeat_interleave(2, dim=1).transpose(-1, -2) / 8**0.5
    scores = scores.masked_fill(~torch.ones(5, 5, dtype=torch.bool).tril(), float("-inf"))
    torch.testing.assert_close(found[0], scores.softmax(-1)[0], atol=1e-5, rtol=0)


def test_the_page_has_the_weights_in_255_steps(model):
    found = attention.weights(model, IDS)
    made = attention.explore(found, list("abcde"), sharing=2)
    for layer in range(2):
        for head in range(4):
            kept = bytes.fromhex(made.data["weights"][layer][head])
            kept = torch.tensor(list(kept)).reshape(5, 5) / attention.LEVELS
            torch.testing.assert_close(kept, found[layer, head], atol=0.003, rtol=0)
    assert made.table.shape == (2, 4)


def test_a_model_without_weights_is_told_apart(model):
    other = MistralModel(model.config).eval()
    other.set_attn_implementation("sdpa")
    with pytest.raises(ValueError, match="eager"):
        attention.weights(other, IDS)
