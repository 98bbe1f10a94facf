"""TODO."""

from pathlib import Path

import numpy as np
import torch
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    Mistral3ForConditionalGeneration,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask


def load_model(
    folder: Path, quantization: str | None, batching: bool
) -> Mistral3ForConditionalGeneration:
    """Load the built model the way that suits this processor.

    bf16 halves the bytes a decoding step reads, but a CPU without bf16 instructions multiplies
    many rows at a time several times slower in it than in float32. There a batch runs in float32,
    and a single request reads bf16 weights, widens them for many rows and attends in float32.

    Args:
        quantization: None, or "nf4" for the 4-bit folder that the build saved.
    """
    slow_bf16 = not bf16_matmul_is_fast()
    dtype = torch.float32 if slow_bf16 and (batching or quantization) else torch.bfloat16
    model = Mistral3ForConditionalGeneration.from_pretrained(
        folder / quantization if quantization else folder, dtype=dtype, attn_implementation="sdpa"
    )
    if quantization:
        # The saved settings name the dtype of the machine that quantised.
        for layer in model.modules():
            if hasattr(layer, "compute_dtype"):
                layer.compute_dtype = dtype
    if slow_bf16 and dtype == torch.bfloat16:
        _widen_for_many_rows(model)
        model.set_attn_implementation(WIDE_ATTENTION)
    if batching and dtype == torch.bfloat16:
        _pair_single_rows(model)
    # transformers squeezes the first axis of the projected pictures. Where one picture of one token
    # is all there is, that axis is the token's: give it another to squeeze.
    model.model.multi_modal_projector.register_forward_hook(lambda _, __, tokens: tokens[None])
    return model.eval()


def bf16_matmul_is_fast() -> bool:
    """Whether torch multiplies bf16 through oneDNN here. Its fallback multiplies many rows several
    times slower than float32 (measured: `pocket-bf16-prompt` in data/measurements).

    Asked, not timed: on a busy machine a stopwatch gives both answers.
    """
    onednn = torch.backends.mkldnn.is_available()
    return onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _widen_for_many_rows(model: torch.nn.Module, at_least_rows: int = 5) -> None:
    """Multiply in float32 when a linear layer meets many rows, keeping its weights in bf16.

    The fallback takes as long for each row as for the first, and widening as long as for four.
    No linear layer of these models has a bias.
    """

    def widened(layer: torch.nn.Linear):
        def forward(rows: torch.Tensor) -> torch.Tensor:
            if rows.numel() // rows.shape[-1] < at_least_rows:
                return torch.nn.functional.linear(rows, layer.weight)
            return torch.nn.functional.linear(rows.float(), layer.weight.float()).to(rows.dtype)

        return forward

    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.forward = widened(layer)


def _pair_single_rows(model: torch.nn.Module) -> None:
    """Multiply a row that comes alone as one of two: alone, oneDNN may add it up in another order.

    Two rows or more it multiplies alike, so that a request's numbers do not hang on its company.
    """

    def paired(layer: torch.nn.Linear):
        def forward(rows: torch.Tensor) -> torch.Tensor:
            if rows.numel() > rows.shape[-1]:
                return torch.nn.functional.linear(rows, layer.weight)
            pair = rows.expand(*rows.shape[:-2], 2, rows.shape[-1])
            return torch.nn.functional.linear(pair, layer.weight)[..., :1, :]

        return forward

    for layer in model.modules():
        if type(layer) is torch.nn.Linear:
            layer.forward = paired(layer)


WIDE_ATTENTION = "sdpa_in_float32"


def _attend_in_float32(module, query, key, value, attention_mask, **options):
    """transformers' `sdpa`, in float32: torch's kernel for bf16 is several times slower here
    (measured: `pocket-bf16-attention`)."""
    if attention_mask is not None and attention_mask.is_floating_point():
        attention_mask = attention_mask.float()
    output, weights = sdpa_attention_forward(
        module, query.float(), key.float(), value.float(), attention_mask, **options
    )
    return output.to(query.dtype), weights


AttentionInterface.register(WIDE_ATTENTION, _attend_in_float32)


AttentionMaskInterface.register(WIDE_ATTENTION, sdpa_mask)


def side_by_side(pictures: list[np.ndarray], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Pictures of any sizes as the model takes them: padded to the largest, the sizes beside."""
    if not pictures:
        return {}
    sizes = torch.tensor([picture.shape[1:] for picture in pictures])
    height, width = sizes.amax(dim=0).tolist()
    pixels = torch.zeros(len(pictures), 3, height, width, dtype=dtype)
    for canvas, picture in zip(pixels, pictures, strict=True):
        canvas[:, : picture.shape[1], : picture.shape[2]] = torch.from_numpy(picture)
    return {"pixel_values": pixels, "image_sizes": sizes}


def placed(tokens: list[int], before: int) -> dict[str, torch.Tensor]:
    """The model's inputs for tokens that come after ``before`` others.

    The mask is given, not left to the library to make: transformers' batching manager brings masks
    of its own and says so by `config.is_causal = False` while it computes. That config belongs to
    the same modules, so a call beside it in another thread would see the tokens to come.
    """
    visible = torch.ones(len(tokens), before + len(tokens), dtype=torch.bool).tril(before)
    return {
        "input_ids": torch.tensor([tokens]),
        "attention_mask": visible[None, None],
        "position_ids": torch.arange(before, before + len(tokens))[None],
    }
