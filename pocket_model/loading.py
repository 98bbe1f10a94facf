"""Load the built model for this CPU, and make its inputs.

Everything here that changes how the model computes is about speed or exactness on a CPU.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import linear
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    Mistral3ForConditionalGeneration,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

FLOAT32_ATTENTION = "sdpa_in_float32"
# Without bf16 instructions, a product in bf16 takes as long for each row as for the first. To widen
# the weights to float32 takes as long as four rows.
FLOAT32_FROM_ROWS = 5


def load_model(
    folder: Path, quantization: str | None, batching: bool
) -> Mistral3ForConditionalGeneration:
    """Load the built model in the way that is fastest on this CPU.

    bf16 halves the bytes that a decoding step reads. But a CPU without bf16 instructions
    multiplies many rows at a time several times slower in bf16 than in float32. On such a CPU a
    batch runs in float32. A single request there reads bf16 weights, widens them for many rows,
    and computes attention in float32.

    Args:
        folder: the built model.
        quantization: None, or "nf4" for the 4-bit folder that the build saved.
        batching: whether the model will compute batches.
    """
    slow_bf16 = not bf16_matmul_is_fast()
    dtype = torch.float32 if slow_bf16 and (batching or quantization) else torch.bfloat16
    model = Mistral3ForConditionalGeneration.from_pretrained(
        folder / quantization if quantization else folder, dtype=dtype, attn_implementation="sdpa"
    )
    if quantization:
        set_compute_dtype(model, dtype)
    if slow_bf16 and dtype == torch.bfloat16:
        _replace_linear(model, _linear_widened_for_many_rows)
        model.set_attn_implementation(FLOAT32_ATTENTION)
    if batching and dtype == torch.bfloat16:
        _replace_linear(model, _linear_in_pairs)
    # transformers squeezes the first axis of the projected pictures. If the only picture has one
    # token, that axis is the token's, so this adds an axis to squeeze.
    model.model.multi_modal_projector.register_forward_hook(lambda _, __, tokens: tokens[None])
    return model.eval()


def bf16_matmul_is_fast() -> bool:
    """Whether torch multiplies bf16 through oneDNN on this CPU.

    Its fallback multiplies many rows several times slower than float32 (measured:
    `pocket-bf16-prompt` in data/measurements). Timing it here instead would give different
    answers on a busy machine.
    """
    onednn = torch.backends.mkldnn.is_available()
    return onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def set_compute_dtype(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Set the dtype in which 4-bit layers compute; their files name that of the build."""
    for layer in model.modules():
        if hasattr(layer, "compute_dtype"):
            layer.compute_dtype = dtype


def _replace_linear(model: torch.nn.Module, forward: Callable[..., torch.Tensor]) -> None:
    """Compute the model's linear layers, which have no biases, by `forward(weight, rows)`."""
    for layer in model.modules():
        if type(layer) is torch.nn.Linear:
            layer.forward = partial(forward, layer.weight)


def _linear_widened_for_many_rows(weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Multiply many rows in float32, while the weights stay in bf16."""
    if rows.numel() // rows.shape[-1] < FLOAT32_FROM_ROWS:
        return linear(rows, weight)
    return linear(rows.float(), weight.float()).to(rows.dtype)


def _linear_in_pairs(weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Multiply a single row as one of two, so that a batch gives the numbers of a single request.

    oneDNN may add up a single row in another order than a row among others.
    """
    if rows.numel() > rows.shape[-1]:
        return linear(rows, weight)
    pair = rows.expand(*rows.shape[:-2], 2, rows.shape[-1])
    return linear(pair, weight)[..., :1, :]


def _float32_attention(module, query, key, value, attention_mask, **options):
    """transformers' `sdpa` in float32: torch's kernel for bf16 is several times slower on CPUs
    without bf16 instructions (measured: `pocket-bf16-attention`)."""
    if attention_mask is not None and attention_mask.is_floating_point():
        attention_mask = attention_mask.float()
    output, weights = sdpa_attention_forward(
        module, query.float(), key.float(), value.float(), attention_mask, **options
    )
    return output.to(query.dtype), weights


AttentionInterface.register(FLOAT32_ATTENTION, _float32_attention)
AttentionMaskInterface.register(FLOAT32_ATTENTION, sdpa_mask)


def image_inputs(pictures: list[np.ndarray], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The model's inputs for pictures: `pixel_values` padded to the largest, and `image_sizes`.

    Args:
        pictures: arrays of shape (3, height, width), of any sizes.
        dtype: of the vision tower.
    """
    if not pictures:
        return {}
    sizes = torch.tensor([picture.shape[1:] for picture in pictures])
    height, width = sizes.amax(dim=0).tolist()
    pixels = torch.zeros(len(pictures), 3, height, width, dtype=dtype)
    for canvas, picture in zip(pixels, pictures, strict=True):
        canvas[:, : picture.shape[1], : picture.shape[2]] = torch.from_numpy(picture)
    return {"pixel_values": pixels, "image_sizes": sizes}


def position_inputs(tokens: list[int], start: int) -> dict[str, torch.Tensor]:
    """The model's inputs for tokens that follow `start` others: ids, positions and mask.

    The library must not make the mask. transformers' batching manager sets `config.is_causal =
    False` while it computes, as it has masks of its own. That config belongs to the same modules,
    so a call in another thread at that time would attend to later tokens.
    """
    visible = torch.ones(len(tokens), start + len(tokens), dtype=torch.bool).tril(start)
    return {
        "input_ids": torch.tensor([tokens]),
        "attention_mask": visible[None, None],
        "position_ids": torch.arange(start, start + len(tokens))[None],
    }
