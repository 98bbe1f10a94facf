"""Checks of speed and memory, from the configs and the GPUs of `data/accelerators.json`."""

from __future__ import annotations

import math

from helpers.model import cards, configs, fit, sizes
from labkit.audit.claim_checks.finding import Finding, enumerate_in_words

GB, GIB = 1e9, 2**30
DOUBLE_QUANTIZED = "nf4-dq"


def _limit(config: str, gpu: str) -> float:
    """Tokens per second at best: one sequence, empty context, bf16."""
    return sizes.decode_limit(configs.load(config), "bf16", cards.gpu(gpu).bandwidth)


def _weights_and_room(config: str, scheme: str, gigabytes: float) -> tuple[float, int]:
    """The weights in GB, and the tokens whose KV cache in 16 bits fits beside them."""
    shape = configs.load(config)
    weight_bytes = sizes.weight_bytes(shape, scheme)
    free_bytes = gigabytes * GB - weight_bytes
    return weight_bytes / GB, max(int(free_bytes // sizes.kv_cache_bytes(shape, 1)), 0)


def _plan(config: str, scheme: str, gpu: str, context: int) -> fit.SchemePlan:
    plan = fit.Plan(configs.load(config), cards.gpu(gpu).usable_bytes, context)
    return {row.scheme: row for row in plan.schemes}[scheme]


# --- speed ----------------------------------------------------------------------------------------


def vendor_speed(config: str, gpu: str, tokens_per_s: float) -> Finding:
    """A rate without a setup is plausible if one stream in bf16 can reach it."""
    limit = _limit(config, gpu)
    value = f"at most {limit:.0f} tokens/s for one stream in bf16 on one {gpu}"
    return Finding(value, "plausible" if tokens_per_s <= limit else "vendor claim")


def times_faster(config: str, rival: str, times: float) -> Finding:
    """A vendor's ratio of speeds is credible if the bytes to read have about the same ratio."""
    size = sizes.parameters(configs.load(rival)) / sizes.parameters(configs.load(config))
    read = _limit(config, "H100") / _limit(rival, "H100")  # the bandwidth cancels out
    value = (
        f"{configs.about(rival)['name']} has {size:.3f} times the parameters and reads {read:.2f} "
        "times the bytes per token"
    )
    credible = math.isclose(read, times, rel_tol=0.1)
    return Finding(value, "vendor claim" if credible else "misleading")


def timed_run(config: str, gpu: str, tokens: int, seconds: float) -> Finding:
    """A measured time against what one stream in bf16 can reach, if the weights fit."""
    rate, limit = tokens / seconds, _limit(config, gpu)
    weight_bytes = sizes.weight_bytes(configs.load(config), "bf16")
    if weight_bytes > cards.gpu(gpu).memory_bytes:
        size = f"{weight_bytes / GB:.0f} GB"
        value = f"{rate:.1f} tokens/s; its {size} in bf16 do not fit on one {gpu}"
        return Finding(value, "misleading")
    value = f"{rate:.1f} tokens/s; at most {limit:.1f} for one stream in bf16 on one {gpu}"
    return Finding(value, "plausible" if rate <= limit else "misleading")


# --- memory ---------------------------------------------------------------------------------------


def fits(config: str, gpus: list[str]) -> Finding:
    """Plausible if in 4 bits each GPU has room for 8,192 tokens, activations included."""
    room = {gpu: _plan(config, DOUBLE_QUANTIZED, gpu, 1).longest_context for gpu in gpus}
    value = enumerate_in_words(f"{tokens:,} tokens on {gpu}" for gpu, tokens in room.items())
    return Finding(f"room for {value}", "plausible" if min(room.values()) >= 8192 else "misleading")


def fits_on_gpu(config: str, scheme: str, gpu: str, context: int) -> Finding:
    """Plausible if the GPU holds weights, a short context, activations and CUDA."""
    plan = _plan(config, scheme, gpu, context)
    usable = cards.gpu(gpu).usable_bytes / GIB
    value = (
        f"{plan.weight_bytes / GIB:.2f} GiB of weights, and {gpu} has {usable:.2f} GiB; "
        f"with {context:,} tokens of context {abs(plan.free_bytes) / GIB:.2f} GiB "
        f"{'are left' if plan.fits else 'are missing'}"
    )
    return Finding(value, "plausible" if plan.fits else "misleading")


def serving_memory(config: str, gigabytes: float) -> Finding:
    """A figure for serving in bf16 is plausible if weights and some context fit."""
    weights, tokens = _weights_and_room(config, "bf16", gigabytes)
    if not tokens:
        return Finding(f"{weights:.2f} GB of weights do not fit", "wrong")
    value = f"{weights:.2f} GB of weights, which leaves room for {tokens:,} tokens of context"
    return Finding(value, "plausible")


def room_left(config: str, scheme: str, gigabytes: float) -> Finding:
    """Right if weights and the whole context fit, half true if only a part of the context fits."""
    longest = configs.load(config).get_text_config().max_position_embeddings
    weights, tokens = _weights_and_room(config, scheme, gigabytes)
    value = (
        f"{weights:.2f} GB of {scheme.upper()} weights leave room for {tokens:,} of "
        f"{longest:,} tokens of context"
    )
    if not tokens:
        return Finding(value, "wrong")
    return Finding(value, "right" if tokens >= longest else "half true")


def four_bit_size(config: str, gigabytes: float) -> Finding:
    """The weights in NF4: in GB with double quantization, in GiB without."""
    shape = configs.load(config)
    double = sizes.weight_bytes(shape, DOUBLE_QUANTIZED) / GB
    single = sizes.weight_bytes(shape, "nf4") / GIB
    value = f"{double:.2f} GB with double quantization, {single:.2f} GiB without"
    near = any(abs(size - gigabytes) <= 0.1 for size in (double, single))
    return Finding(value, "right" if near else "wrong")
