"""How four bits stand for a weight: the 16 values of a code book, and a scale for each block."""

from typing import Any, Literal

import pandas as pd
import torch

from helpers.widgets.explorer import Explorer

Scheme = Literal["nf4", "fp4", "even"]
SCHEMES: tuple[Scheme, ...] = ("nf4", "fp4", "even")
BLOCKS = (16, 32, 64, 128, 256, 512)  # weights that share a scale


def code_book(scheme: Scheme) -> torch.Tensor:
    """The 16 values of a scheme between -1 and 1, by their codes; "even" spaces them evenly."""
    if scheme == "even":
        return torch.linspace(-1, 1, 16)
    from bitsandbytes.functional import get_4bit_type

    return get_4bit_type(scheme, device="cpu").float()


def quantize(weights: torch.Tensor, scheme: Scheme) -> tuple[torch.Tensor, torch.Tensor]:
    """Each weight as the code of the nearest value, times the block's scale.

    Args:
        weights: (blocks, weights of a block).

    Returns:
        the codes, 0 to 15, of the same shape, and the scales, (blocks, 1): each block's largest
        absolute weight.
    """
    weights = weights.float()
    scales = weights.abs().amax(dim=-1, keepdim=True).clamp(min=1e-12)
    distance = ((weights / scales)[..., None] - code_book(scheme)).abs()
    return distance.argmin(dim=-1), scales


def dequantize(codes: torch.Tensor, scales: torch.Tensor, scheme: Scheme) -> torch.Tensor:
    """The weights that the codes stand for, in the codes' shape."""
    return code_book(scheme)[codes] * scales


def pack(codes: torch.Tensor) -> bytes:
    """Two codes in each byte, the first in the upper four bits, as bitsandbytes packs them."""
    pairs = codes.flatten().reshape(-1, 2)
    return bytes((pairs[:, 0] * 16 + pairs[:, 1]).tolist())


def error(weights: torch.Tensor, scheme: Scheme, block: int) -> float:
    """The root mean square error over that of the weights themselves, from a whole matrix."""
    blocks = weights.float().flatten()
    blocks = blocks[: len(blocks) // block * block].reshape(-1, block)
    if not blocks.any():
        return 0.0  # only zeros, which every scheme keeps
    found = dequantize(*quantize(blocks, scheme), scheme)
    return float(((found - blocks).pow(2).mean() / blocks.pow(2).mean()).sqrt())


def explore(weights: torch.Tensor, *, block: int = 64, first: int = 0) -> Explorer:
    """Look at one block of real weights in four bits, and at the error by scheme and block size.

    Args:
        weights: a layer's weight matrix.
        block: weights that share a scale.
        first: the number of the block's first weight.

    Raises:
        ValueError: there are too few weights, or the block has an odd number.
    """
    least = max(*BLOCKS, first + block)
    if weights.numel() < least or block % 2:
        raise ValueError(
            f"Give at least {least:,} weights, not {weights.numel():,}, and a block of an even "
            f"number, not {block}: two weights share a byte."
        )
    weights = weights.detach().cpu()
    chosen = weights.float().flatten()[first : first + block]
    schemes: dict[str, Any] = {}
    for scheme in SCHEMES:
        codes, scales = quantize(chosen[None], scheme)
        schemes[scheme] = {
            "values": [round(value, 5) for value in code_book(scheme).tolist()],
            "codes": codes[0].tolist(),
            "bytes": pack(codes).hex(" "),
        }
    # Rounded, because the last digits of a sum depend on how many threads share it.
    errors = {
        size: {scheme: round(error(weights, scheme, size), 5) for scheme in SCHEMES}
        for size in BLOCKS
    }
    table = pd.DataFrame(errors).T.rename_axis("weights in a block")
    data = {
        "weights": [round(value, 6) for value in chosen.tolist()],
        "scale": round(float(scales[0, 0]), 6),
        "schemes": schemes,
        "errors": errors,
        "block": block,
    }
    shown = table.map("{:.1%}".format)
    return Explorer("A block of weights in four bits", shown, data, "four_bits.js")
