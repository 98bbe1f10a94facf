"""The KV cache: its bytes by model, context and users, and which tokens a window keeps."""

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from helpers.model import configs, sizes
from helpers.widgets.explorer import Explorer

CONTEXTS = (1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
USERS = (1, 2, 4, 8, 16, 32)
KV_HEADS = (1, 2, 4, 8, 16, 32, 64)
GIB = 2**30


def shape(model: str) -> dict:
    """What determines the size of a model's cache.

    Args:
        model: a name of `helpers.model.configs`.

    Returns:
        `windows` are pairs: a layer's window in tokens, or None, and how many layers have it.
    """
    config = configs.load(model)
    text = config.get_text_config()
    return {
        "name": configs.about(model)["name"],
        "layers": text.num_hidden_layers,
        "heads": text.num_attention_heads,
        "kv_heads": text.num_key_value_heads,
        "head_dim": text.head_dim,
        "longest": text.max_position_embeddings,
        "windows": list(Counter(sizes.sliding_windows(config)).items()),
    }


def explore(models: Sequence[str], *, context: int = 32768) -> Explorer:
    """Look at the bytes of a cache in bf16, and change the model's shape and its use.

    Args:
        models: names of `helpers.model.configs`; the first one is chosen first.
        context: the context that is shown first, one of `CONTEXTS`.

    Raises:
        ValueError: another context, or a model that is not known.
    """
    if context not in CONTEXTS:
        raise ValueError(
            f"context: there is no {context}. There are: {', '.join(map(str, CONTEXTS))}"
        )
    shapes = [shape(model) for model in models]
    rows = {}
    for model, each in zip(models, shapes, strict=True):
        config = configs.load(model)
        tokens = min(context, each["longest"])
        cached = sizes.kv_cache_bytes(config, tokens)
        rows[each["name"]] = {
            "KiB per token": sizes.kv_cache_bytes(config, 1) / 1024,
            "tokens": tokens,
            "GiB": cached / GIB,
            "GiB without GQA": cached * each["heads"] / each["kv_heads"] / GIB,
        }
    data = {
        "models": shapes,
        "contexts": list(CONTEXTS),
        "users": list(USERS),
        "kvHeads": list(KV_HEADS),
        "first": CONTEXTS.index(context),
    }
    table = pd.DataFrame(rows).T.round(2)
    return Explorer("The KV cache, in 16 bits", table, data, "kv_cache.js")
