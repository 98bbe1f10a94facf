"""The cache that grows in place, and attention in groups, give what transformers' own give."""

import pytest
import torch
from transformers import DynamicCache, MistralConfig, MistralForCausalLM

from pocket_training import decoding
from pocket_training.decoding import GROUPED, ROOM, PackedLinear, additive, growing_cache

CONFIG = MistralConfig(
    vocab_size=40,
    hidden_size=48,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=8,
    sliding_window=None,
)


@torch.no_grad()
def decode(model, cache, as_given=lambda mask: mask) -> list[torch.Tensor]:
    """Logits of a prompt, then of more tokens than there is room for, three at a time.

    After some of them only two of three rows are left.

    Args:
        as_given: what the model gets for a bool mask.
    """
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(40, (3, 7), generator=random)
    mask = torch.ones(3, 1, 7, 7, dtype=torch.bool).tril()
    logits = [model(ids, attention_mask=as_given(mask), past_key_values=cache).logits]
    mask = mask[:, :, -3:]
    for step in range(ROOM // 3 + 5):
        if step == 8:
            kept = torch.tensor([2, 0])
            cache.batch_select_indices(kept)
            mask = mask[kept]
        ids = torch.randint(40, (len(mask), 3), generator=random)
        own = torch.eye(3, dtype=torch.bool).expand(len(mask), 1, -1, -1)
        mask = torch.cat([mask, own], dim=-1)
        positions = torch.full_like(ids, 7 + step)
        options = {"position_ids": positions, "past_key_values": cache}
        logits.append(model(ids, attention_mask=as_given(mask), **options).logits)
    return logits


@pytest.mark.parametrize("block", [1, 3, 7, 128])
def test_many_replies_are_computed_as_transformers_does(block, monkeypatch):
    monkeypatch.setattr(decoding, "BLOCK", block)
    torch.manual_seed(0)
    model = MistralForCausalLM(CONFIG).eval()
    model.set_attn_implementation("sdpa")
    expected = decode(model, DynamicCache(config=CONFIG))
    model.set_attn_implementation(GROUPED)
    for as_given in (lambda mask: mask, lambda mask: additive(mask, model.dtype)):
        made = decode(model, growing_cache(CONFIG), as_given)
        for one, other in zip(expected, made, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_mask_to_add_hides_the_same_tokens():
    mask = torch.tensor([[True, False], [True, True]])
    added = additive(mask, torch.bfloat16)
    assert added.dtype == torch.bfloat16
    assert added.tolist() == [[0, -torch.inf], [0, 0]]


@pytest.mark.parametrize("in_onednn", [True, False])
@pytest.mark.parametrize("shape", [(1, 48), (3, 5, 48), (2, 700, 48)])
def test_packed_weights_give_what_linear_gives(in_onednn, shape, monkeypatch):
    if in_onednn and not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(decoding, "is_from_amd", lambda: in_onednn)
    weight, rows = torch.randn(200, 48), torch.randn(shape)
    layer = PackedLinear(weight)
    made = layer(rows)
    assert made.dtype == torch.float32
    torch.testing.assert_close(made, rows @ weight.T, rtol=1e-4, atol=1e-5)
    assert not list(layer.parameters())  # nothing here can be trained
