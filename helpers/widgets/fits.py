"""Whether a model fits: its memory by scheme, context, users and images, against a GPU's."""

from collections.abc import Sequence

import pandas as pd
from transformers import PretrainedConfig

from helpers.model import cards, configs, fit
from helpers.widgets.explorer import Explorer

CONTEXTS = (2048, 4096, 8192, 16384, 32768, 65536, 131072)
USERS = (1, 2, 4, 8, 16, 32)
IMAGES = (0, 1, 4, 10)
USES = ("weights", "KV cache", "activations", "overhead")


def parts(
    model: str | PretrainedConfig, scheme: str, context: int, users: int, images: int
) -> list[int] | None:
    """The bytes that a scheme needs for each of `USES`; None if the images exceed the context."""
    try:
        # A plan wants a memory; what is needed does not depend on it.
        plan = fit.Plan(model, cards.GIB, context, batch=users, images=images)
    except ValueError:
        return None
    needed = plan.scheme_plan(scheme)
    return [
        needed.weight_bytes,
        needed.kv_cache_bytes,
        needed.activation_bytes,
        needed.overhead_bytes,
    ]


def explore(
    model: str,
    schemes: Sequence[str] = ("bf16", "fp8", "int8", "nf4-dq"),
    *,
    gpu: str = "RTX 4090",
    context: int = 32768,
) -> Explorer:
    """Look at what a model needs, and change the GPU, the context, the users and the images.

    Args:
        model: a name of `helpers.model.configs`.
        schemes: names of `sizes.SCHEMES`.
        gpu: the one that is shown first.
        context: the context that is shown first, one of `CONTEXTS`.
    """
    config = configs.load(model)  # once: it takes 3 ms, and there are hundreds of plans
    needs = {
        scheme: [
            [[parts(config, scheme, length, users, images) for images in IMAGES] for users in USERS]
            for length in CONTEXTS
        ]
        for scheme in schemes
    }
    data = {
        "needs": needs,
        "uses": list(USES),
        "gpus": {name: each.usable_bytes for name, each in cards.gpus().items()},
        "contexts": list(CONTEXTS),
        "users": list(USERS),
        "images": list(IMAGES),
        "first": {"gpu": cards.gpu(gpu).name, "context": CONTEXTS.index(context)},
    }
    rows = {}
    for scheme in schemes:
        needed = [size / cards.GIB for size in parts(config, scheme, context, 1, 0)]
        rows[scheme] = dict(zip((*USES, "all"), (*needed, sum(needed)), strict=True))
    table = pd.DataFrame(rows).T.round(1).rename_axis(f"GiB, {context:,} tokens")
    return Explorer(f"Will {model} fit?", table, data, "fits.js")
