"""How fast a model in this process prefills and decodes, with each kind of cache.

`helpers.latency` measures a server, which adds a queue, a network and streaming.
"""

import statistics
import time

import pandas as pd
import torch
from transformers import PreTrainedModel, StaticCache

WARM_UP_TOKENS = 2


def random_prompt(model: PreTrainedModel, tokens: int, batch: int, seed: int = 0) -> torch.Tensor:
    """Random token ids, shape (batch, tokens), on the model's device: no two prompts are alike."""
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
    """Time prefill and decoding of `generate` on `batch` random prompts.

    Two kinds of runs give both: one stops after its first token, the other after `new_tokens`.

    Args:
        cache: "dynamic" grows with every token. "static" is allocated once, which a compiled
            forward pass needs.
        compiled: decode with `generate`'s own compiled step, recorded as a CUDA graph. A run
            before the timed ones compiles it. It needs a GPU and a static cache.
        repeats: runs of each kind; their medians are returned.

    Returns:
        the settings, `ttft_s` (time to first token in seconds), `prefill_tokens_per_s` and
        `decode_tokens_per_s`, both for all sequences together.

    Raises:
        ValueError: fewer than two new tokens, an unknown cache, or `compiled` without a GPU.
        NotImplementedError: `generate` does not compile this quantization; it would not say so.
    """
    if new_tokens < 2:
        raise ValueError(f"new_tokens: expected at least 2, got {new_tokens}")
    if cache not in ("dynamic", "static"):
        raise ValueError(f"cache: expected dynamic or static, got {cache!r}")
    quantizer = getattr(model, "hf_quantizer", None)
    if compiled and not getattr(quantizer, "is_compileable", True):
        name = model.config.quantization_config.quant_method.value
        raise NotImplementedError(f"generate() does not compile a model quantized by {name}")
    if compiled and (cache, model.device.type) != ("static", "cuda"):
        raise ValueError("compiled: it needs a GPU and cache='static'")

    options = {"do_sample": False}
    if cache == "static":
        # One cache for all runs: a CUDA graph keeps the places of what it was recorded with.
        options["past_key_values"] = StaticCache(
            model.config.get_text_config(), max_cache_len=prompt_tokens + new_tokens
        )
        options["disable_compile"] = not compiled  # on a GPU `generate` compiles if it can

    def run(tokens: int, seed: int) -> float:
        prompt = random_prompt(model, prompt_tokens, batch, seed)
        if cache == "static":
            options["past_key_values"].reset()
        _synchronize(model)
        start = time.perf_counter()
        model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            **options,
        )
        _synchronize(model)
        return time.perf_counter() - start

    run(new_tokens if compiled else WARM_UP_TOKENS, seed=0)
    seeds = range(1, repeats + 1)
    ttft_s = statistics.median(run(1, seed) for seed in seeds)
    total_s = statistics.median(run(new_tokens, seed) for seed in seeds)
    decode_s = max(total_s - ttft_s, 1e-9)
    return {
        "prompt_tokens": prompt_tokens,
        "new_tokens": new_tokens,
        "batch": batch,
        "cache": cache,
        "compiled": compiled,
        "ttft_s": ttft_s,
        "prefill_tokens_per_s": batch * prompt_tokens / ttft_s,
        "decode_tokens_per_s": batch * (new_tokens - 1) / decode_s,
    }


def time_settings(model: PreTrainedModel, settings: list[dict], **common: int) -> pd.DataFrame:
    """`time_generation` with each of several settings, one row each; `common` is for all."""
    return pd.DataFrame([time_generation(model, **common, **setting) for setting in settings])


def memory_bandwidth(repeats: int = 5) -> float:
    """Bytes per second that this machine's CPU reads from memory: the best of `repeats` sums.

    The array of 256 MiB is larger than the CPU's caches.
    """
    numbers = torch.ones(64 * 2**20)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        numbers.sum()
        seconds.append(time.perf_counter() - start)
    return numbers.nbytes / min(seconds)


def _synchronize(model: PreTrainedModel) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize()
