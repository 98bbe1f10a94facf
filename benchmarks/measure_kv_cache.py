"""Bytes of the pocket model's KV cache for each token, in bf16.

    python benchmarks/measure_kv_cache.py

Counted in a cache that a forward pass over 256 tokens has filled.
"""

import torch
from transformers import AutoModelForImageTextToText
from transformers.utils import logging

from labkit.audit.measurements import report
from pocket_model.build import ensure_built

TOKENS = 256


def main() -> None:
    """Measure and report."""
    logging.disable_progress_bar()
    model = AutoModelForImageTextToText.from_pretrained(ensure_built(), dtype=torch.bfloat16).eval()
    with torch.inference_mode():
        cache = model(torch.arange(100, 100 + TOKENS)[None], use_cache=True).past_key_values
    cached = sum(tensor.nbytes for layer in cache.layers for tensor in (layer.keys, layer.values))
    report(cached / TOKENS, "bytes per token", tokens=TOKENS, layers=len(cache.layers))


if __name__ == "__main__":
    main()
