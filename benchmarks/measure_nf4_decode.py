"""How fast the pocket model writes in NF4, as a ratio to bf16, on this machine's processor.

    python benchmarks/measure_nf4_decode.py

Both models are loaded, warmed up and take turns on one thread. The figure is the ratio of their
best rounds: whatever else runs can only slow one down. It depends on the processor far more than
on anything else: without AVX512-BF16 instructions the weights are unpacked again for each token.
"""

import time

import torch
from transformers import AutoModelForImageTextToText
from transformers.utils import logging

from helpers.model.loading import load_4bit
from labkit.audit.measurements import report
from pocket_model.build import ensure_built

ROUNDS, TOKENS = 4, 16


def tokens_per_s(model, prompt: torch.Tensor) -> float:
    """Greedy decoding of exactly TOKENS tokens for one reader, prompt included."""
    start = time.perf_counter()
    model.generate(prompt, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False)
    return TOKENS / (time.perf_counter() - start)


torch.set_num_threads(1)
logging.set_verbosity_error()
logging.disable_progress_bar()
folder = ensure_built()
loaded = load_4bit(folder, compute_dtype=torch.bfloat16, device_map="cpu")
plain = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.bfloat16).eval()
prompt = loaded.tokenizer("Once upon a time", return_tensors="pt").input_ids

for model in (plain, loaded.model):
    tokens_per_s(model, prompt)
rounds = [(tokens_per_s(loaded.model, prompt), tokens_per_s(plain, prompt)) for _ in range(ROUNDS)]
report(
    round(max(nf4 for nf4, _ in rounds) / max(bf16 for _, bf16 in rounds), 3),
    "ratio",
    nf4_tokens_per_s=[round(nf4, 1) for nf4, _ in rounds],
    bf16_tokens_per_s=[round(bf16, 1) for _, bf16 in rounds],
)
