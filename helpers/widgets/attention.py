"""Attention weights of a real model: which token attends to which, in each layer and head."""

from collections.abc import Sequence

import pandas as pd
import torch

from helpers.widgets.explorer import Explorer

LEVELS = 255  # a weight is kept as one of so many, in two hexadecimal digits
MOST_TOKENS = 64  # more do not fit into a picture


@torch.no_grad()
def weights(model, ids: torch.Tensor) -> torch.Tensor:
    """The attention weights of one text, (layers, heads, tokens, tokens); each row adds up to 1.

    Args:
        model: a transformers model whose attention is "eager": the others keep no weights.
        ids: token ids, (1, tokens).

    Raises:
        ValueError: the model keeps no weights.
    """
    found = model(input_ids=ids, output_attentions=True, use_cache=False).attentions
    if not found or found[0] is None:
        raise ValueError('Load the model with attn_implementation="eager" to see its attention.')
    return torch.cat(list(found))


def explore(attention: torch.Tensor, tokens: Sequence[str], *, sharing: int = 1) -> Explorer:
    """Look at attention weights by layer and head.

    Args:
        attention: from `weights`, or some of its layers and heads.
        tokens: the text's tokens.
        sharing: so many heads that follow each other share their keys and values.

    Raises:
        ValueError: there are too many tokens for a picture, or not as many as in the weights.
    """
    if len(tokens) > MOST_TOKENS or len(tokens) != attention.shape[-1]:
        raise ValueError(
            f"{len(tokens)} tokens for weights of {attention.shape[-1]}: give as many, and at most "
            f"{MOST_TOKENS}."
        )
    layers, heads, _, _ = attention.shape
    levels = (attention.float() * LEVELS).round().to(torch.uint8).flatten(2)
    data = {
        "tokens": list(tokens),
        "sharing": sharing,
        "weights": [
            [bytes(levels[layer, head].tolist()).hex() for head in range(heads)]
            for layer in range(layers)
        ],
    }
    # How much of a head's attention goes to the first token, which many heads use as a rest.
    first = attention.float()[..., 1:, 0].mean(-1)
    table = pd.DataFrame(
        first.numpy().round(2),
        index=pd.RangeIndex(layers, name="to the first token: layer"),
        columns=pd.RangeIndex(heads, name="head"),
    )
    return Explorer("Attention by layer and head", table, data, "attention.js")
