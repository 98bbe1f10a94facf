"""Checks of size, attention and context, from the models' configs in `data/model_configs`."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

from helpers.model import configs, sizes
from labkit.audit.claim_checks.finding import Finding, enumerate_in_words

if TYPE_CHECKING:
    from transformers import PretrainedConfig

KIB = 2**10


def _layers(name: str) -> int:
    return configs.load(name).get_text_config().num_hidden_layers


def _context_length(name: str) -> int:
    """Tokens of prompt and answer together."""
    return configs.load(name).get_text_config().max_position_embeddings


def _without_sharing(config: PretrainedConfig) -> PretrainedConfig:
    """The same shape with one key/value head for each query head."""
    other = copy.deepcopy(config)
    text = other.get_text_config()
    text.num_key_value_heads = text.num_attention_heads
    return other


# --- size -----------------------------------------------------------------------------------------


def parameters(config: str, billions: int) -> Finding:
    """All parameters of the model on the meta device, rounded to a billion."""
    count = configs.count_parameters(configs.empty_model(configs.load(config))) / 1e9
    return Finding(f"{count:.2f} billion", "right" if round(count) == billions else "wrong")


def fewer_layers(config: str, rivals: list[str]) -> Finding:
    """Right if every rival has more layers."""
    own, others = _layers(config), [_layers(rival) for rival in rivals]
    value = f"{own} layers against {enumerate_in_words(others)}"
    return Finding(value, "right" if own < min(others) else "wrong")


def share_of_layers(config: str, rivals: list[str], percent: float) -> Finding:
    """Right if each rival's share is within a point; misleading if it is between their shares."""
    shares = [100 * _layers(config) / _layers(rival) for rival in rivals]
    if all(abs(share - percent) <= 1 for share in shares):
        verdict = "right"
    else:
        verdict = "misleading" if min(shares) <= percent <= max(shares) else "wrong"
    return Finding(
        f"{enumerate_in_words(f'{share:.1f} %' for share in shares)} of their layers", verdict
    )


# --- attention ------------------------------------------------------------------------------------


def window(config: str, later: str, window: int) -> Finding:
    """Right if both versions have the window, half true if the later one does not."""
    first, second = configs.load(config), configs.load(later)
    if first.sliding_window != window:
        return Finding(f"the window is {first.sliding_window}", "wrong")
    layers = first.num_hidden_layers
    version, later_version = config.rsplit("-", 1)[1], later.rsplit("-", 1)[1]
    value = (
        f"{window:,} in each of {layers} layers of {version}, a reach of {layers * window:,} "
        f"tokens; {second.sliding_window or 'none'} in {later_version}"
    )
    return Finding(value, "right" if second.sliding_window == window else "half true")


def has_window(config: str) -> Finding:
    """Plausible if the config has a sliding window at all."""
    size = configs.load(config).get_text_config().sliding_window
    if size is None:
        return Finding("sliding_window is null, every layer attends to all tokens", "wrong")
    return Finding(f"a window of {size:,} tokens", "plausible")


def gqa(config: str) -> Finding:
    """Whether shared heads let the cache hold more tokens, or only need fewer bytes for each."""

    def tokens_in_cache(shape: PretrainedConfig) -> float:
        return sizes.kv_cache_bytes(shape, 32_768) / sizes.kv_cache_bytes(shape, 1)

    shape = configs.load(config)
    alone = _without_sharing(shape)
    times = sizes.kv_cache_bytes(alone, 1) // sizes.kv_cache_bytes(shape, 1)
    same = tokens_in_cache(shape) == tokens_in_cache(alone)
    value = (
        f"{shape.num_attention_heads} query heads share {shape.num_key_value_heads} key/value "
        f"heads, so the cache is {times} times smaller; {'no more' if same else 'more'} tokens "
        "are seen"
    )
    return Finding(value, "wrong" if same else "plausible")


def kv_share(config: str, share: float) -> Finding:
    """What shared heads save of the cache. Of the whole memory they can only save less."""
    shape = configs.load(config)
    shared = sizes.kv_cache_bytes(shape, 1)
    alone = sizes.kv_cache_bytes(_without_sharing(shape), 1)
    value = (
        f"KV cache {shared / KIB:.0f} instead of {alone / KIB:.0f} KiB per token; "
        "the weights are as large as before"
    )
    return Finding(value, "half true" if math.isclose(shared / alone, share) else "wrong")


# --- context --------------------------------------------------------------------------------------


def context_length(config: str, tokens: int | None) -> Finding:
    """The positions in the config; `tokens` is None if the claim is that nobody knows."""
    known = _context_length(config)
    return Finding(f"{known:,} tokens", "right" if known == tokens else "wrong")


def output_limit(config: str, max_tokens: int) -> Finding:
    """How much of the context a limit on the answer leaves for the prompt."""
    known = _context_length(config)
    left = known - max_tokens
    part = "the whole context" if left <= 0 else f"{max_tokens / known:.0%}"
    value = f"{part} of {known:,}, which leaves {max(left, 0):,} tokens for the prompt"
    return Finding(value, "right" if left > 0 else "misleading")


def overtaken_context(config: str, later: str, tokens: int) -> Finding:
    """The promise of a longer context is outdated if a later version has it."""
    before, after = _context_length(config), _context_length(later)
    value = f"{configs.about(later)['name']} takes {after:,} tokens"
    return Finding(value, "outdated" if before < tokens <= after else "wrong")


def overtaken_vision(config: str, later: str) -> Finding:
    """The promise of vision is outdated if only a later version has a vision tower."""
    before, after = configs.load(config), configs.load(later)
    if not hasattr(after, "vision_config"):
        return Finding("no later version has a vision tower", "unverifiable")
    layers = after.vision_config.num_hidden_layers
    value = f"{configs.about(later)['name']} has a vision tower of {layers} layers"
    return Finding(value, "wrong" if hasattr(before, "vision_config") else "outdated")
