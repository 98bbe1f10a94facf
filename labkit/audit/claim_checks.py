"""Claims recomputed: one small function a claim, from configs, tables or the claim's own numbers.

Each takes what `data/claims.yaml` gives it and returns a `Finding`: what is right, in words, and
the verdict that follows. Give it other numbers and the verdict changes: nothing here knows the
answer.
"""

from __future__ import annotations

import copy
import json
import math
import re
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from helpers.model import cards, configs, fit
from helpers.paths import DATA
from labkit.audit import published_scores

if TYPE_CHECKING:
    from transformers import PretrainedConfig

GB, GIB, KIB = 1e9, 2**30, 2**10
SCHEME_4BIT = "nf4-dq"


class Finding(NamedTuple):
    """What a check found: the right value in words, and the verdict on the claim."""

    value: str
    verdict: str


CHECKS: dict[str, Callable[..., Finding]] = {}


def _check(function: Callable[..., Finding]) -> Callable[..., Finding]:
    """Enter a function into CHECKS under its own name."""
    CHECKS[function.__name__] = function
    return function


# --- what the checks stand on ---------------------------------------------------------------------


def _layers(name: str) -> int:
    return configs.load(name).get_text_config().num_hidden_layers


def _cache(config: PretrainedConfig, tokens: int = 1) -> int:
    """KV cache in bytes, 16 bits a number, one reader."""
    return fit.kv_cache_bytes(config, tokens)


def _without_sharing(config: PretrainedConfig) -> PretrainedConfig:
    """The same shape with a key/value head for every query head."""
    other = copy.deepcopy(config)
    text = other.get_text_config()
    text.num_key_value_heads = text.num_attention_heads
    return other


def _limit(config: str, gpu: str) -> float:
    """Tokens per second at best: one stream, empty context, bf16."""
    return fit.decode_limit(configs.load(config), "bf16", cards.card(gpu).bandwidth)


def _openrouter() -> dict:
    return json.loads((DATA / "prices.json").read_text(encoding="utf-8"))["models"]


def _and(words: list[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1]


# --- size and layers ------------------------------------------------------------------------------


@_check
def parameters(config: str, billions: int) -> Finding:
    """All parameters of the model on the meta device, rounded to a billion."""
    count = configs.count_parameters(configs.empty_model(configs.load(config))) / 1e9
    return Finding(f"{count:.2f} billion", "right" if round(count) == billions else "wrong")


@_check
def fewer_layers(config: str, rivals: list[str]) -> Finding:
    """Fewer than every rival."""
    own, others = _layers(config), [_layers(rival) for rival in rivals]
    verdict = "right" if own < min(others) else "wrong"
    return Finding(f"{own} layers against {_and([str(other) for other in others])}", verdict)


@_check
def share_of_layers(config: str, rivals: list[str], percent: float) -> Finding:
    """Right if each rival's share is within a point; misleading if it lies among different ones."""
    shares = [100 * _layers(config) / _layers(rival) for rival in rivals]
    if all(abs(share - percent) <= 1 for share in shares):
        verdict = "right"
    else:
        verdict = "misleading" if min(shares) <= percent <= max(shares) else "wrong"
    return Finding(f"{_and([f'{share:.1f} %' for share in shares])} of their layers", verdict)


# --- speed ----------------------------------------------------------------------------------------


@_check
def vendor_speed(config: str, gpu: str, tokens_per_s: float) -> Finding:
    """A rate without a setup: plausible as long as one stream in bf16 could reach it."""
    limit = _limit(config, gpu)
    value = f"at most {limit:.0f} tokens/s for one stream in bf16 on one {gpu}"
    return Finding(value, "plausible" if tokens_per_s <= limit else "vendor claim")


@_check
def times_faster(config: str, rival: str, times: float) -> Finding:
    """A vendor's ratio of speeds is credible when the bytes to read have about the same ratio."""
    size = fit.parameters(configs.load(rival)) / fit.parameters(configs.load(config))
    read = _limit(config, "H100") / _limit(rival, "H100")  # the bandwidth cancels out
    value = (
        f"{configs.about(rival)['name']} has {size:.3f} times the parameters and reads {read:.2f} "
        "times the bytes per token"
    )
    credible = math.isclose(read, times, rel_tol=0.1)
    return Finding(value, "vendor claim" if credible else "misleading")


@_check
def timed_run(config: str, gpu: str, tokens: int, seconds: float) -> Finding:
    """A stopwatch reading against what one stream in bf16 could reach, if the weights fit."""
    rate, limit = tokens / seconds, _limit(config, gpu)
    weights = fit.weight_bytes(configs.load(config), "bf16") / GB
    if weights * GB > cards.card(gpu).memory_bytes:
        value = f"{rate:.1f} tokens/s; its {weights:.0f} GB in bf16 do not fit on one {gpu}"
        return Finding(value, "misleading")
    value = f"{rate:.1f} tokens/s; at most {limit:.1f} for one stream in bf16 on one {gpu}"
    return Finding(value, "plausible" if rate <= limit else "misleading")


# --- memory ---------------------------------------------------------------------------------------


@_check
def fits(config: str, cards: list[str]) -> Finding:
    """Plausible if in 4 bits every card has room for 8,192 tokens, activations counted."""
    shape = configs.load(config)
    rooms = {}
    for card in cards:
        planned = fit.plan(shape, cards.card(card).usable_bytes, context=1)
        four_bit = {scheme.scheme: scheme for scheme in planned.schemes}[SCHEME_4BIT]
        rooms[card] = four_bit.longest_context
    value = "room for " + _and([f"{room:,} tokens on {card}" for card, room in rooms.items()])
    return Finding(value, "plausible" if min(rooms.values()) >= 8192 else "misleading")


@_check
def serving_memory(config: str, gigabytes: float) -> Finding:
    """A figure for serving in bf16 is plausible when the weights fit and a context beside them."""
    shape = configs.load(config)
    weights = fit.weight_bytes(shape, "bf16")
    tokens = int((gigabytes * GB - weights) // _cache(shape))
    if tokens <= 0:
        return Finding(f"{weights / GB:.2f} GB of weights do not fit", "wrong")
    value = f"{weights / GB:.2f} GB of weights, which leaves room for {tokens:,} tokens of context"
    return Finding(value, "plausible")


@_check
def room_left(config: str, scheme: str, gigabytes: float) -> Finding:
    """Right if the weights and the whole context fit, half true if only a part of the context."""
    shape = configs.load(config)
    positions = shape.get_text_config().max_position_embeddings
    weights = fit.weight_bytes(shape, scheme)
    tokens = int((gigabytes * GB - weights) // _cache(shape))
    value = (
        f"{weights / GB:.2f} GB of {scheme.upper()} weights leave room for {max(tokens, 0):,} of "
        f"{positions:,} tokens of context"
    )
    if tokens <= 0:
        return Finding(value, "wrong")
    return Finding(value, "right" if tokens >= positions else "half true")


@_check
def fits_on_card(config: str, scheme: str, card: str, context: int) -> Finding:
    """Plausible if the card holds weights, a short context, activations and CUDA."""
    usable = cards.card(card).usable_bytes
    planned = fit.plan(configs.load(config), usable, context)
    row = {row.scheme: row for row in planned.schemes}[scheme]
    value = (
        f"{row.weight_bytes / GIB:.2f} GiB of weights on {card} of {usable / GIB:.2f} GiB; with "
        f"{context:,} tokens of context {abs(row.free_bytes) / GIB:.2f} GiB "
        f"{'are left' if row.fits else 'are missing'}"
    )
    return Finding(value, "plausible" if row.fits else "misleading")


@_check
def four_bit_size(config: str, gigabytes: float) -> Finding:
    """The weights in NF4: with double quantisation in GB, without in GiB."""
    shape = configs.load(config)
    double = fit.weight_bytes(shape, SCHEME_4BIT) / GB
    single = fit.weight_bytes(shape, "nf4") / GIB
    value = f"{double:.2f} GB with double quantisation, {single:.2f} GiB without"
    near = any(abs(size - gigabytes) <= 0.1 for size in (double, single))
    return Finding(value, "right" if near else "wrong")


@_check
def kv_share(config: str, share: float) -> Finding:
    """What sharing heads saves of the cache. Of the whole memory it can only save less."""
    shape = configs.load(config)
    shared, alone = _cache(shape), _cache(_without_sharing(shape))
    value = (
        f"KV cache {shared / KIB:.0f} instead of {alone / KIB:.0f} KiB per token; "
        "weights and total as before"
    )
    return Finding(value, "half true" if math.isclose(shared / alone, share) else "wrong")


# --- attention and context ------------------------------------------------------------------------


@_check
def window(config: str, later: str, window: int) -> Finding:
    """Right if every version has it, half true if this one has and a later one has not."""
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


@_check
def has_window(config: str) -> Finding:
    """Whether the config has a sliding window at all."""
    size = configs.load(config).get_text_config().sliding_window
    if size is None:
        return Finding("sliding_window is null, every layer attends to everything", "wrong")
    return Finding(f"a window of {size:,} tokens", "plausible")


@_check
def gqa(config: str) -> Finding:
    """Does sharing heads let the cache hold more *tokens*, or only fewer bytes for each?"""
    shape = configs.load(config)
    alone = _without_sharing(shape)
    tokens = [(_cache(one, 32_768) / _cache(one, 1)) for one in (shape, alone)]
    value = (
        f"{shape.num_attention_heads} query heads share {shape.num_key_value_heads} key/value "
        f"heads, so the cache is {_cache(alone) // _cache(shape)} times smaller; "
        f"{'no token more is' if tokens[0] == tokens[1] else 'more tokens are'} seen"
    )
    return Finding(value, "wrong" if tokens[0] == tokens[1] else "plausible")


@_check
def positions(config: str, tokens: int | None) -> Finding:
    """The positions in the config; `tokens` is None where the claim is that nobody knows."""
    known = configs.load(config).get_text_config().max_position_embeddings
    return Finding(f"{known:,} tokens", "right" if known == tokens else "wrong")


@_check
def output_limit(config: str, max_tokens: int) -> Finding:
    """How much of the context a limit on the answer leaves for the prompt."""
    known = configs.load(config).get_text_config().max_position_embeddings
    left = known - max_tokens
    whole = "the whole context" if left <= 0 else f"{max_tokens / known:.0%}"
    value = f"{whole} of {known:,}, which leaves {max(left, 0):,} tokens for the prompt"
    return Finding(value, "right" if left > 0 else "misleading")


@_check
def overtaken_vision(config: str, later: str) -> Finding:
    """A promise of eyes is outdated once a later version has them and this one has not."""
    before, after = configs.load(config), configs.load(later)
    if not hasattr(after, "vision_config"):
        return Finding("no later version has a vision tower", "unverifiable")
    layers = after.vision_config.num_hidden_layers
    verdict = "wrong" if hasattr(before, "vision_config") else "outdated"
    return Finding(f"{configs.about(later)['name']} has a vision tower of {layers} layers", verdict)


@_check
def overtaken_context(config: str, later: str, tokens: int) -> Finding:
    """A promise of a longer context is outdated once a later version takes it."""
    before, after = (
        configs.load(name).get_text_config().max_position_embeddings for name in (config, later)
    )
    verdict = "outdated" if before < tokens <= after else "wrong"
    return Finding(f"{configs.about(later)['name']} takes {after:,} tokens", verdict)


# --- quality, from published tables ---------------------------------------------------------------


@_check
def mmlu_above(table: str, model: str, percent: float) -> Finding:
    """The vendor's round figure against the vendor's own card."""
    score = published_scores.table(table).loc["MMLU", model]
    value = f"{score} % is what the base model's own card reports"
    return Finding(value, "right" if score > percent else "vendor claim")


@_check
def matches(table: str, group: str, model: str, rival: str) -> Finding:
    """Half true if the model is ahead on some benchmarks of a group and behind on others."""
    rows = published_scores.table(table).query("group == @group")
    ahead = list(rows.index[rows[model] >= rows[rival]])
    behind = list(rows.index[rows[model] < rows[rival]])
    value = f"ahead on {', '.join(ahead) or 'none'}; behind on {', '.join(behind) or 'none'}"
    verdict = "half true" if ahead and behind else "right" if ahead else "wrong"
    return Finding(value, verdict)


@_check
def never_lower(table: str, groups: list[str], model: str, rival: str) -> Finding:
    """Wrong as soon as one benchmark of these groups is lower."""
    rows = published_scores.table(table).query("group in @groups")
    lower = list(rows.index[rows[model] < rows[rival]])
    return Finding(f"lower on {', '.join(lower) or 'none'}", "wrong" if lower else "right")


@_check
def beats(table: str, benchmark: str, model: str, score: float, rival: str) -> Finding:
    """Right if the model has that score (in per cent) and the rival a lower one."""
    row = published_scores.table(table).loc[benchmark]
    scale = 100 if row["unit"] == "share" else 1
    own, other = (round(scale * row[name], 2) for name in (model, rival))
    right = own > other and math.isclose(own, score, abs_tol=0.1)
    return Finding(f"{own} against {rival}'s {other}", "right" if right else "wrong")


@_check
def gain_over_base(table: str, benchmark: str, base: str, score: float, points: float) -> Finding:
    """A gain over the base model against what the base model's own card reports."""
    before = published_scores.table(table).loc[benchmark, base]
    value = f"the base model reports {before} %, so it would be {score - before:.1f} points"
    right = math.isclose(score - before, points, abs_tol=0.5)
    return Finding(value, "plausible" if right else "wrong")


@_check
def changed_by(before: float, after: float, percent: float) -> Finding:
    """A relative change, within two points of what is claimed."""
    change = 100 * (after / before - 1)
    value = f"{change:+.1f} %".replace("-", "−")
    return Finding(value, "right" if abs(change - percent) <= 2 else "wrong")


@_check
def equivalent_size(
    config: str, table: str, ability: str, billions: float, times: float
) -> Finding:
    """How many times the model's size another size is; and the vendor's factors elsewhere."""
    factor = billions * 1e9 / fit.parameters(configs.load(config))
    others = published_scores.table(table)["Llama 2"].drop(ability)
    words = _and([f"{other:.1f}" for other in others])
    value = f"{factor:.1f} times; of {ability} only, elsewhere {words} times"
    return Finding(value, "right" if factor > times else "wrong")


@_check
def count(claimed: int, noun: str, listed: list[str]) -> Finding:
    """What is listed, counted."""
    number = len(set(listed))
    value = f"{number} {noun}"
    if number == claimed:
        return Finding(value, "right")
    return Finding(value, "half true" if 0 < number < claimed else "wrong")


# --- prices, API and software ---------------------------------------------------------------------


@_check
def openrouter_id(model: str, means: str) -> Finding:
    """The id in the dated list, or the one that is meant."""
    ids = list(_openrouter())
    if model in ids:
        return Finding(model, "right")
    return Finding(" or ".join(one for one in ids if one.endswith(means)), "wrong")


@_check
def price(model: str, usd_per_million: float) -> Finding:
    """A single price is possible between what reading and what writing costs."""
    row = _openrouter()[model]
    inside = row["input"] <= usd_per_million <= row["output"]
    value = f"${row['input']:.2f} in and ${row['output']:.2f} out"
    return Finding(value, "plausible" if inside else "wrong")


@_check
def first_choice(reply: dict) -> Finding:
    """The article's own expression, run on a reply of status 200."""
    try:
        content = reply.get("choices", [])[0].get("message", {}).get("content", "")
    except (IndexError, TypeError) as error:
        name = type(error).__name__
        value = f"{name} when a reply of status 200 holds an error and no choices"
        return Finding(value, "misleading")
    return Finding(f"the text {content!r}", "right")


@_check
def json_value(old: str, now: str) -> Finding:
    """Which of two forms of a setting is JSON."""

    def is_json(text: str) -> bool:
        try:
            json.loads(text)
        except json.JSONDecodeError:
            return False
        return True

    if is_json(old):
        return Finding(old, "right")
    return Finding(now if is_json(now) else "neither form is JSON", "outdated")


@_check
def tool_call_ids(ids: list[str]) -> Finding:
    """The rule that mistral_common enforces."""
    refused = [one for one in ids if not re.fullmatch(r"[a-zA-Z0-9]{9}", one)]
    if refused:
        return Finding(f"refused: {', '.join(refused)}", "wrong")
    many = "both" if len(ids) == 2 else f"all {len(ids)}"
    return Finding(f"nine letters or digits, {many}", "right")


@_check
def in_a_release(name: str) -> Finding:
    """Whether the installed transformers, a release, has a class."""
    import transformers

    if hasattr(transformers, name) and "dev" not in transformers.__version__:
        return Finding(f"any release that has {name}, as the installed one does", "outdated")
    return Finding(f"no installed release has {name}", "right")


@_check
def without_remote_code(config: str) -> Finding:
    """Whether transformers' own classes read the config."""
    shape = configs.load(config)
    if type(shape).__module__.startswith("transformers."):
        value = f"not needed, transformers itself has the model type {shape.model_type}"
        return Finding(value, "outdated")
    return Finding("needed", "right")


@_check
def load_in_4bit() -> Finding:
    """Really try the keyword, on a tiny random model of the same class."""
    from transformers import AutoModelForCausalLM, MistralConfig
    from transformers.utils import logging

    tiny = MistralConfig(
        num_hidden_layers=1,
        hidden_size=32,
        intermediate_size=32,
        num_attention_heads=1,
        num_key_value_heads=1,
        vocab_size=32,
    )
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with tempfile.TemporaryDirectory() as folder:
            AutoModelForCausalLM.from_config(tiny).save_pretrained(folder)
            AutoModelForCausalLM.from_pretrained(folder, load_in_4bit=True)
    except TypeError as error:
        name = type(error).__name__
        value = f"{name}; quantization_config=BitsAndBytesConfig(…) instead"
        return Finding(value, "outdated")
    finally:
        if bars:
            logging.enable_progress_bar()
    return Finding("it loads", "right")
