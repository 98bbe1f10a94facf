"""How fast the pocket model decodes in NF4, as a ratio to bf16, on this machine's CPU.

    python benchmarks/measure_nf4_decode.py

Both models are loaded and warmed up, and take turns on one thread. The figure is the ratio of their
best rounds: other processes can only slow a round down. It depends mostly on the CPU: without
AVX512-BF16 instructions the weights are dequantized again for each token.
"""

import time

import torch
from transformers import AutoModelForImageTextToText, PreTrainedModel
from transformers.utils import logging

from helpers.model.loading import load_4bit
from labkit.audit.measurements import report
from pocket_model.build import ensure_built

ROUNDS, TOKENS = 4, 16


def tokens_per_s(model: PreTrainedModel, prompt: torch.Tensor) -> float:
    """Tokens/s of greedy decoding at batch size 1, for exactly `TOKENS` tokens, prompt included."""
    start = time.perf_counter()
    model.generate(prompt, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False)
    return TOKENS / (time.perf_counter() - start)


def main() -> None:
    """Measure and report."""
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder = ensure_built()
    loaded = load_4bit(folder, compute_dtype=torch.bfloat16, device_map="cpu")
    bf16_model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.bfloat16).eval()
    prompt = loaded.tokenizer("Once upon a time", return_tensors="pt").input_ids
    models = {"nf4": loaded.model, "bf16": bf16_model}
    for model in models.values():
        tokens_per_s(model, prompt)  # warm up
    rates = {scheme: [] for scheme in models}
    for _ in range(ROUNDS):
        for scheme, model in models.items():
            rates[scheme].append(tokens_per_s(model, prompt))
    report(
        round(max(rates["nf4"]) / max(rates["bf16"]), 3),
        "ratio",
        nf4_tokens_per_s=[round(rate, 1) for rate in rates["nf4"]],
        bf16_tokens_per_s=[round(rate, 1) for rate in rates["bf16"]],
    )


if __name__ == "__main__":
    main()
