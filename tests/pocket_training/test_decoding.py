"""The cache that grows in place, and attention in groups, give what transformers' own give."""

import torch
from transformers import DynamicCache, MistralConfig, MistralForCausalLM

from pocket_training.decoding import GROUPED, ROOM, growing_cache

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
def decode(model, cache) -> list[torch.Tensor]:
    """Logits of a prompt, then of more tokens than there is room for, three at a time.

    After some of them only two of three rows are left.
    """
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(40, (3, 7), generator=random)
    mask = torch.ones(3, 1, 7, 7, dtype=torch.bool).tril()
    logits = [model(ids, attention_mask=mask, past_key_values=cache).logits]
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
        options = {"attention_mask": mask, "position_ids": positions, "past_key_values": cache}
        logits.append(model(ids, **options).logits)
    return logits


def test_many_replies_are_computed_as_transformers_does():
    torch.manual_seed(0)
    model = MistralForCausalLM(CONFIG).eval()
    model.set_attn_implementation("sdpa")
    expected = decode(model, DynamicCache(config=CONFIG))
    model.set_attn_implementation(GROUPED)
    made = decode(model, growing_cache(CONFIG))
    for one, other in zip(expected, made, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
