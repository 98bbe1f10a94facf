"""Many greedy replies at a time, on a CPU: a cache that grows in place, attention without copies.

transformers' own cache is copied whole for each token. Its attention repeats the keys and values
for each of the heads that share them, if there is a mask. With 6,000 tokens in the cache, the two
took half of a step's time.
"""

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    DynamicCache,
    Mistral3ForConditionalGeneration,
)
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_outputs import BaseModelOutputWithPooling

from pocket_model.processor import is_from_amd
from pocket_model.vision import image_tokens

BLOCK = 128  # queries
MANY_ROWS = 512  # for which oneDNN orders the weights
ROOM = 64  # tokens for which a layer makes room when it is full
GROUPED = "grouped_sdpa"


def attend_in_groups(module, query, key, value, attention_mask, scaling=None, **options):
    """Scaled dot-product attention in which heads that share keys are more queries of one head.

    A prompt's queries are computed in blocks, without the keys that come after a block: the mask
    has to hide them. torch's own way to share keys is faster there.

    Args:
        query: (B, heads, queries, size).
        key, value: (B, key heads, keys, size).
        attention_mask: (B, 1, queries, keys), for all heads, bool or `additive`. None is left to
            transformers, whose attention then copies nothing.
        scaling: of the scores.
    """
    if attention_mask is None:
        return sdpa_attention_forward(module, query, key, value, None, scaling=scaling, **options)
    batch, heads, queries, size = query.shape
    if queries == key.shape[2]:
        parts = []
        for start in range(0, queries, BLOCK):
            end = start + BLOCK
            mask = attention_mask[:, :, start:end, :end]
            part = (query[:, :, start:end], key[:, :, :end], value[:, :, :end], mask)
            parts.append(scaled_dot_product_attention(*part, scale=scaling, enable_gqa=True))
        return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None
    groups = heads // key.shape[1]
    out = scaled_dot_product_attention(
        query.reshape(batch, key.shape[1], groups * queries, size),
        key,
        value,
        attn_mask=attention_mask.repeat(1, 1, groups, 1),
        scale=scaling,
    )
    return out.view(batch, heads, queries, size).transpose(1, 2).contiguous(), None


def additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A bool mask as one to add to scores. torch would make it of a bool one in every layer."""
    return torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, -torch.inf)


def image_outputs(model: Mistral3ForConditionalGeneration, pictures: list[np.ndarray]) -> dict:
    """The model's inputs for pictures, which its vision encoder has read one at a time."""
    if not pictures:
        return {}
    tokens = image_tokens(model.model.vision_tower, model.model.multi_modal_projector, pictures)
    return {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=tokens)}}


AttentionInterface.register(GROUPED, attend_in_groups)
AttentionMaskInterface.register(GROUPED, sdpa_mask)


class _GrowingLayer(DynamicLayer):
    """Keys and values are views of buffers with some room behind them."""

    _buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(self, key_states, value_states, *_, **__):
        if not self.is_initialized:  # the prompt; most are not continued
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
            return self.keys, self.values
        length, new = self.keys.shape[2], key_states.shape[2]
        if self._buffers is None or self._buffers[0].shape[2] < length + new:
            self._buffers = tuple(map(self._with_room, (self.keys, self.values)))
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, length : length + new] = states
        self.keys, self.values = (buffer[:, :, : length + new] for buffer in self._buffers)
        return self.keys, self.values

    def _with_room(self, states: torch.Tensor) -> torch.Tensor:
        batch, heads, length, size = states.shape
        buffer = states.new_empty(batch, heads, length + ROOM, size)
        buffer[:, :, :length] = states
        return buffer

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self._buffers = None


def growing_cache(config) -> DynamicCache:
    """An empty cache for a text model's configuration."""
    cache = DynamicCache(config=config)
    cache.layers = [_GrowingLayer() for _ in cache.layers]
    return cache


class PackedLinear(torch.nn.Module):
    """A linear layer without a bias whose float32 weights do not change.

    torch multiplies float32 by Intel's MKL, which leaves AVX512 unused on AMD's CPUs. There oneDNN
    takes less than half the time (measured: `pocket-float32-amd`).

    Args:
        weight: (outputs, inputs).
    """

    def __init__(self, weight: torch.Tensor):
        super().__init__()
        self._in_onednn = is_from_amd() and torch.backends.mkldnn.is_available()
        if self._in_onednn:
            weight = torch.ops.mkldnn._reorder_linear_weight(weight, MANY_ROWS)
        self._weight = weight

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if self._in_onednn:
            return torch.ops.mkldnn._linear_pointwise(rows, self._weight, None, "none", [], "")
        return torch.nn.functional.linear(rows, self._weight)
