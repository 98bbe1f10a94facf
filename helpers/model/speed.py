"""How fast a model in this process reads a prompt and writes on, by the way it is run.

What a server adds (queue, network, streaming) is `helpers.latency`'s.
"""

import statistics
import time

import pandas as pd
import torch
from transformers import PreTrainedModel

WARM_UP_TOKENS = 2


def random_prompt(model: PreTrainedModel, tokens: int, batch: int, seed: int = 0) -> torch.Tensor:
    """Random token ids of shape (batch, tokens): no prompt is like another, none is cached."""
    generator = torch.Generator().manual_seed(seed)
    vocabulary = model.config.get_text_config().vocab_size
    ids = torch.randint(vocabulary // 2, vocabulary, (batch, tokens), generator=generator)
    return ids.to(model.device)


def time_generation(
    model: PreTrainedModel,
    *,
    prompt_tokens: int,
    new_tokens: int,
    batch: int = 1,
    cache: str = "dynamic",
    compiled: bool = False,
    repeats: int = 3,
) -> dict:
    """Time `generate` on random prompts: reading them, and each token after the first.

    Two runs give both: one stops after its first token, the other after ``new_tokens``.

    Args:
        cache: "dynamic" grows with every token; "static" is laid out once, which a compiled
            forward pass needs.
        compiled: run the forward pass through `torch.compile`; the time it takes to compile is
            left out, in a run before. Needs a C++ compiler on a processor.
        repeats: the medians of so many runs are given.

    Returns:
        the settings, ``first_s`` (seconds to the first token), ``prefill_tokens_per_s`` and
        ``decode_tokens_per_s``, both for all sequences together.

    Raises:
        ValueError: fewer than two new tokens, or an unknown cache.
    """
    if new_tokens < 2:
        raise ValueError(f"new_tokens: expected at least 2, got {new_tokens}")
    if cache not in ("dynamic", "static"):
        raise ValueError(f"cache: expected dynamic or static, got {cache!r}")

    def run(tokens: int, seed: int) -> float:
        prompt = random_prompt(model, prompt_tokens, batch, seed)
        _wait(model)
        start = time.perf_counter()
        model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            do_sample=False,
            cache_implementation=None if cache == "dynamic" else "static",
            disable_compile=True,  # `compiled` decides, not generate
        )
        _wait(model)
        return time.perf_counter() - start

    plain = model.forward
    if compiled:
        model.forward = torch.compile(model.forward, mode="reduce-overhead")
    try:
        run(new_tokens if compiled else WARM_UP_TOKENS, seed=0)
        first = statistics.median(run(1, seed) for seed in range(1, repeats + 1))
        whole = statistics.median(run(new_tokens, seed) for seed in range(1, repeats + 1))
    finally:
        model.forward = plain
    decode_s = max(whole - first, 1e-9)
    return {
        "prompt_tokens": prompt_tokens,
        "new_tokens": new_tokens,
        "batch": batch,
        "cache": cache,
        "compiled": compiled,
        "first_s": first,
        "prefill_tokens_per_s": batch * prompt_tokens / first,
        "decode_tokens_per_s": batch * (new_tokens - 1) / decode_s,
    }


def time_settings(model: PreTrainedModel, settings: list[dict], **common) -> pd.DataFrame:
    """`time_generation` under each of several settings, one row each."""
    return pd.DataFrame([time_generation(model, **common, **setting) for setting in settings])


def memory_bandwidth(repeats: int = 5) -> float:
    """Bytes per second at which this machine's processor reads memory: the best of some sums.

    The array is 256 MiB, more than any cache holds.
    """
    numbers = torch.ones(64 * 2**20)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        numbers.sum()
        seconds.append(time.perf_counter() - start)
    return numbers.nbytes / min(seconds)


def _wait(model: PreTrainedModel) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize()
