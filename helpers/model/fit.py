"""Will it fit, where, and what to change when it does not.

    python -m helpers fit mistral-small-3.2 --card "RTX 4090" --context 32768

The bytes, tokens and limits come from ``helpers.model.sizes`` and can be used from here too.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import nan
from typing import TYPE_CHECKING

import pandas as pd

from helpers.model import configs
from helpers.model.cards import GIB, Card, card, cards
from helpers.model.configs import load as load_config
from helpers.model.sizes import (
    KV_DTYPES,
    PREFILL_CHUNK,
    SCHEMES,
    activation_bytes,
    decode_limit,
    expect_rate,
    expect_tokens,
    expect_whole,
    image_tokens,
    kv_cache_bytes,
    kv_itemsize,
    parameters,
    prefill_flop,
    prefill_limit,
    vision_activation_bytes,
    weight_bytes,
)

if TYPE_CHECKING:
    from transformers import PretrainedConfig


__all__ = [
    "SCHEMES",
    "Card",
    "Plan",
    "SchemePlan",
    "activation_bytes",
    "card",
    "cards",
    "decode_limit",
    "image_tokens",
    "kv_cache_bytes",
    "load_config",
    "main",
    "parameters",
    "parse_bytes",
    "plan",
    "prefill_flop",
    "prefill_limit",
    "vision_activation_bytes",
    "weight_bytes",
    "what_fits_where",
]


OVERHEAD_BYTES = GIB // 2  # CUDA's context, 0.3 to 0.4 GiB (pytorch#107667), and fragmentation


def parse_bytes(text: str) -> int:
    """``"24GiB"`` or ``"24 GB"`` in bytes: GiB is 1024³, GB is 10⁹.

    Raises ValueError for anything without a unit, or not positive.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt])(i?)b\s*", text, re.IGNORECASE)
    if not match or float(match[1]) == 0:
        raise ValueError(f"memory: expected a size with its unit, such as 24GiB, got {text!r}")
    power = 1 + "kmgt".index(match[2].lower())
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


@dataclass(frozen=True)
class SchemePlan:
    """What one scheme needs, in bytes, and whether that fits.

    ``longest_context``: tokens for each sequence, 0 if not even one fits. ``tokens_per_s``: the
    roofline's limit for all sequences at full context, None where no bandwidth was given.
    """

    scheme: str
    weight_bytes: int
    kv_cache_bytes: int
    activation_bytes: int
    overhead_bytes: int
    free_bytes: int  # negative: this much is missing
    longest_context: int
    tokens_per_s: float | None

    @property
    def total_bytes(self) -> int:
        return self.weight_bytes + self.kv_cache_bytes + self.activation_bytes + self.overhead_bytes

    @property
    def fits(self) -> bool:
        return self.free_bytes >= 0


@dataclass(frozen=True)
class _Request:
    """What is asked of the memory. ``images`` pictures of ``image_size`` lie in each context."""

    config: PretrainedConfig
    memory_bytes: int
    context: int
    batch: int
    images: int
    image_size: tuple[int, int] | None
    kv_dtype: str
    quantize_vision: bool
    prefill_chunk: int | None
    overhead_bytes: int
    bandwidth: float | None

    @cached_property
    def image_tokens(self) -> int:
        return self.images * image_tokens(*self.image_size, self.config) if self.images else 0

    @cached_property
    def looking_bytes(self) -> int:
        if not self.images:
            return 0
        return vision_activation_bytes(self.config, *self.image_size, self.images)

    @property
    def chunk(self) -> int | None:
        """Pictures are not split into chunks."""
        return self.prefill_chunk and max(self.prefill_chunk, self.image_tokens)

    def transient_bytes(self, scheme: str, context: int) -> int:
        # Prompts are read one after the other, so the batch does not count.
        reading = activation_bytes(self.config, scheme, context, prefill_chunk=self.chunk)
        return max(reading, self.looking_bytes)

    def growing_bytes(self, scheme: str, context: int) -> int:
        cached = kv_cache_bytes(self.config, context, self.batch, self.kv_dtype)
        return cached + self.transient_bytes(scheme, context)

    def fixed_bytes(self, scheme: str) -> int:
        return weight_bytes(self.config, scheme, self.quantize_vision) + self.overhead_bytes

    def free_bytes(self, scheme: str) -> int:
        return (
            self.memory_bytes - self.fixed_bytes(scheme) - self.growing_bytes(scheme, self.context)
        )

    def fits(self, scheme: str) -> bool:
        return self.free_bytes(scheme) >= 0

    def longest_context(self, scheme: str) -> int:
        """By bisection: the need only grows with the context."""
        room = self.memory_bytes - self.fixed_bytes(scheme)
        low, high = 0, self.config.get_text_config().max_position_embeddings
        while room > 0 and low < high:
            middle = (low + high + 1) // 2
            if self.growing_bytes(scheme, middle) <= room:
                low = middle
            else:
                high = middle - 1
        return low if low > self.image_tokens else 0

    def scheme_plan(self, scheme: str) -> SchemePlan:
        limit = self.bandwidth and decode_limit(
            self.config, scheme, self.bandwidth, self.context, self.batch, self.kv_dtype
        )
        return SchemePlan(
            scheme=scheme,
            weight_bytes=weight_bytes(self.config, scheme, self.quantize_vision),
            kv_cache_bytes=kv_cache_bytes(self.config, self.context, self.batch, self.kv_dtype),
            activation_bytes=self.transient_bytes(scheme, self.context),
            overhead_bytes=self.overhead_bytes,
            free_bytes=self.free_bytes(scheme),
            longest_context=self.longest_context(scheme),
            tokens_per_s=limit,
        )


@dataclass(frozen=True)
class Plan:
    """What each scheme needs of ``memory_bytes``, and advice. ``print`` shows it as a table."""

    name: str
    memory_bytes: int
    context: int
    batch: int
    images: int
    image_tokens: int
    schemes: tuple[SchemePlan, ...]
    advice: tuple[str, ...]

    @property
    def best(self) -> SchemePlan | None:
        """The first scheme that fits, from the most precise to the smallest; None if none does."""
        return next((row for row in self.schemes if row.fits), None)

    def table(self) -> pd.DataFrame:
        """One row a scheme; sizes in GiB."""
        rows = {}
        for row in self.schemes:
            rows[row.scheme] = {
                "weights": row.weight_bytes / GIB,
                "KV cache": row.kv_cache_bytes / GIB,
                "activations": row.activation_bytes / GIB,
                "overhead": row.overhead_bytes / GIB,
                "total": row.total_bytes / GIB,
                "spare": row.free_bytes / GIB,
                "fits": "yes" if row.fits else "no",
                "longest context": row.longest_context,
            }
            if row.tokens_per_s is not None:
                rows[row.scheme]["tokens/s at most"] = row.tokens_per_s if row.fits else nan
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("scheme")

    def __str__(self) -> str:
        sequences = f"{self.batch} sequence{'s' if self.batch > 1 else ''}"
        pictures = ""
        if self.images:
            pictures = f", of them {self.image_tokens:,} for {_counted(self.images, 'picture')}"
        shown = _text(self.table().rename_axis(None))
        return "\n".join(
            [
                f"{self.name} in {_gib(self.memory_bytes)}: "
                f"{sequences} of {self.context:,} tokens{pictures}; sizes in GiB",
                "",
                shown,
                "",
                *(f"- {line}" for line in self.advice),
            ]
        )


def _text(table: pd.DataFrame) -> str:
    formatters = {"longest context": "{:,}".format, "tokens/s at most": "{:.1f}".format}
    return table.to_string(float_format="{:.2f}".format, formatters=formatters, na_rep="–")


def _gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def plan(
    model: str | PretrainedConfig,
    memory_bytes: float,
    context: int,
    batch: int = 1,
    images: int = 0,
    *,
    image_size: tuple[int, int] | None = None,
    kv_dtype: str = "bf16",
    quantize_vision: bool = False,
    prefill_chunk: int | None = PREFILL_CHUNK,
    overhead_bytes: int = OVERHEAD_BYTES,
    bandwidth: float | None = None,
) -> Plan:
    """What fits into ``memory_bytes``, by how much, and what to change when nothing does.

    ``batch`` sequences of ``context`` tokens each, whose prompts are read one after the other in
    chunks of ``prefill_chunk`` tokens (None: each at once). ``images`` pictures of ``image_size``
    pixels (width, height; the largest the model takes if not given) lie in each context, and
    their tokens are part of it. Weights and KV cache are exact, activations an estimate (see
    ``activation_bytes``), ``overhead_bytes`` an allowance for CUDA's context and fragmentation.
    With ``bandwidth``, in bytes per second, the decode limit is shown too.

    Raises ValueError, naming the argument and what was expected.
    """
    config = load_config(model)
    context = expect_tokens("context", context, config)
    if isinstance(memory_bytes, float):
        memory_bytes = int(memory_bytes)  # such as 14.56 * 1024**3
    images = expect_whole("images", images, least=0)
    if images and image_size is None:
        longest = getattr(getattr(config, "vision_config", None), "image_size", 1)
        image_size = (longest, longest)
    if bandwidth is not None:
        bandwidth = expect_rate("bandwidth", bandwidth, "bytes per second")
    request = _Request(
        config=config,
        memory_bytes=expect_whole("memory_bytes", memory_bytes),
        context=context,
        batch=expect_whole("batch", batch),
        images=images,
        image_size=image_size,
        kv_dtype=kv_dtype,
        quantize_vision=quantize_vision,
        prefill_chunk=prefill_chunk,
        overhead_bytes=expect_whole("overhead_bytes", overhead_bytes, least=0),
        bandwidth=bandwidth,
    )
    if request.image_tokens >= context:
        raise ValueError(
            f"context: expected more than the {request.image_tokens:,} tokens that "
            f"{_counted(images, 'picture')} of {image_size[0]}×{image_size[1]} take, "
            f"got {context:,}"
        )
    rows = tuple(request.scheme_plan(scheme) for scheme in SCHEMES)
    return Plan(
        name=configs.about(model)["name"] if isinstance(model, str) else config.model_type,
        memory_bytes=request.memory_bytes,
        context=context,
        batch=request.batch,
        images=images,
        image_tokens=request.image_tokens,
        schemes=rows,
        advice=tuple(_advice(request, rows)),
    )


def _advice(request: _Request, rows: tuple[SchemePlan, ...]) -> Iterator[str]:
    best = next((row for row in rows if row.fits), None)
    if best is None:
        yield from _ways_out(request, min(rows, key=lambda row: row.total_bytes))
        return
    room = f"its context can grow to {best.longest_context:,} tokens"
    if best.longest_context == request.config.get_text_config().max_position_embeddings:
        room = f"enough for all {best.longest_context:,} tokens the model can take"
    yield (
        f"{best.scheme} is the most precise that fits, with {_gib(best.free_bytes)} to spare; "
        f"{room}."
    )
    if best.scheme != "bf16":
        bf16 = rows[0]
        yield f"bf16 lacks {_gib(-bf16.free_bytes)}: {_roomier(bf16.total_bytes)}."
    if best.free_bytes < 0.05 * request.memory_bytes:
        yield "That is tight: a desktop or a second programme on the card takes up to 1 GiB."
    chunk = request.chunk
    if chunk and chunk < request.context:
        left = replace(request, prefill_chunk=None).free_bytes(best.scheme)
        verdict = f"lacks {_gib(-left)}" if left < 0 else f"leaves {_gib(left)}"
        where = "vLLM does"
        if not request.images:
            where += f", transformers with GenerationConfig(prefill_chunk_size={chunk})"
        yield (
            f"This counts on reading the prompt in chunks of {chunk:,} tokens, as {where}; "
            f"read at once, {best.scheme} {verdict}."
        )
    if request.batch > 1:
        yield (
            "It counts on reading one prompt after the other, as continuous batching does; "
            "generate() on a padded batch reads them together."
        )
    if request.images > 1 and request.looking_bytes == best.activation_bytes:
        yield (
            f"Looking at {request.images} pictures at once takes {_gib(request.looking_bytes)}: "
            "one at a time, smaller ones or flash attention need far less."
        )


def _ways_out(request: _Request, smallest: SchemePlan) -> Iterator[str]:
    """What to change so that the smallest scheme fits: one thing at a time, then several."""
    scheme = smallest.scheme
    yield f"Nothing fits: {scheme} is the smallest and lacks {_gib(-smallest.free_bytes)}."
    changed = False
    for line in _single_changes(request, smallest):
        changed = True
        yield line
    alone = replace(request, batch=1, images=min(request.images, 1))
    if not changed and alone != request and (room := alone.longest_context(scheme)):
        picture = " with one picture" if request.images else ""
        tokens = min(room, request.context)
        yield f"Ask for less of everything: one sequence{picture} has room for {tokens:,} tokens."
    yield f"Use more memory: {_roomier(smallest.total_bytes)}."
    share = _cards_to_share(request, smallest)
    if share:
        yield (
            f"Share it among {share} such cards (vLLM: --tensor-parallel-size {share}): each "
            f"holds 1/{share} of weights and cache."
        )
    if parameters(request.config) > 2 * parameters(load_config("7b")):
        small = replace(request, config=load_config("7b"), images=0)
        if small.context <= small.config.max_position_embeddings and small.fits(scheme):
            without = ", without pictures" if request.images else ""
            yield f"Take a smaller model: Mistral 7B v0.3 fits in {scheme}{without}."


def _single_changes(request: _Request, smallest: SchemePlan) -> Iterator[str]:
    scheme = smallest.scheme
    if smallest.longest_context:
        yield f"Shorten the context: {scheme} has room for {smallest.longest_context:,} tokens."
    if batch := _most(request, scheme, "batch"):
        yield f"Serve fewer at once: {scheme} has room for {_counted(batch, 'sequence')}."
    if images := _most(request, scheme, "images"):
        yield f"Send fewer pictures: {scheme} has room for {_counted(images, 'picture')}."
    if request.images and replace(request, image_size=(756, 756)).fits(scheme):
        yield f"Shrink the pictures: of 756×756 pixels they fit in {scheme}."
    if kv_itemsize(request.kv_dtype) > 1 and replace(request, kv_dtype="fp8").fits(scheme):
        yield f"Keep the KV cache in 8 bits (vLLM: --kv-cache-dtype fp8): then {scheme} fits."
    if replace(request, prefill_chunk=512).fits(scheme):
        yield f"Read the prompt in chunks of 512 tokens: then {scheme} fits."


def _most(request: _Request, scheme: str, field: str) -> int:
    """The most of ``field``, fewer than asked for, that fits; 0 if not even one does."""
    fewer = range(getattr(request, field) - 1, 0, -1)
    return next((n for n in fewer if replace(request, **{field: n}).fits(scheme)), 0)


def _roomier(total_bytes: int) -> str:
    roomy = [name for name, place in cards().items() if place.usable_bytes >= total_bytes]
    macs = [name for name in roomy if name.startswith("Apple")]
    boards = [name for name in roomy if name not in macs]
    named = ", ".join(boards[:2] + macs[:1])
    return f"{_gib(total_bytes)} " + (
        f"is on {named} and larger" if named else "is more than anything in the table has"
    )


def _cards_to_share(request: _Request, row: SchemePlan) -> int:
    """2, 4 or 8 equal cards that hold it together; 0 if eight do not."""
    split = row.weight_bytes + row.kv_cache_bytes
    each = row.activation_bytes + row.overhead_bytes
    enough = (n for n in (2, 4, 8) if split / n + each <= request.memory_bytes)
    return next(enough, 0)


def what_fits_where(model: str | PretrainedConfig, context: int, **options: object) -> pd.DataFrame:
    """Every card and Mac: the most precise scheme that fits, what is left and the decode limit.

    One row a card; columns ``usable`` and ``spare`` in GiB, ``scheme`` (``"none"``), ``longest
    context`` and ``tokens/s at most``. ``options`` are ``plan``'s.
    """
    rows = {}
    for place in cards().values():
        planned = plan(model, place.usable_bytes, context, bandwidth=place.bandwidth, **options)
        best = planned.best or planned.schemes[-1]
        rows[place.name] = {
            "usable": place.usable_bytes / GIB,
            "scheme": best.scheme if best.fits else "none",
            "spare": best.free_bytes / GIB,
            "longest context": best.longest_context,
            "tokens/s at most": best.tokens_per_s if best.fits else nan,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("card")


def _image_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)[x×](\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT, such as 1540x1540, got {text!r}")
    return int(match[1]), int(match[2])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m helpers fit",
        description="Does a model fit into a memory, and how fast can it be there at best? "
        "Without --memory and --card: on every card and Mac of the table.",
    )
    parser.add_argument("model", help=f"such as mistral-small-3.2; {', '.join(configs.names())}")
    parser.add_argument("--memory", help="what a programme can have, such as 24GiB")
    parser.add_argument("--card", help='such as "RTX 4090": its usable memory and its bandwidth')
    parser.add_argument("--context", type=int, default=8192, help="tokens (default: 8192)")
    parser.add_argument("--batch", type=int, default=1, help="sequences at once (default: 1)")
    parser.add_argument("--images", type=int, default=0, help="pictures in each (default: 0)")
    parser.add_argument(
        "--image-size", type=_image_size, help="such as 1024x768 (default: largest)"
    )
    parser.add_argument("--kv-dtype", default="bf16", help=", ".join(KV_DTYPES))
    parser.add_argument("--quantize-vision", action="store_true", help="the eyes in the scheme too")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print a plan; returns the exit code: 0 something fits, 1 nothing does, 2 a bad argument."""
    options = _parser().parse_args(argv)
    asked = {
        name: getattr(options, name)
        for name in ("context", "batch", "images", "image_size", "kv_dtype", "quantize_vision")
    }
    try:
        if options.card is None and options.memory is None:
            table = what_fits_where(options.model, **asked)
            print(_text(table.rename_axis(None)))
            return 0 if (table["scheme"] != "none").any() else 1
        chosen = card(options.card) if options.card else None
        memory = parse_bytes(options.memory) if options.memory else chosen.usable_bytes
        bandwidth = chosen.bandwidth if chosen else None
        planned = plan(options.model, memory, bandwidth=bandwidth, **asked)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(planned)
    if chosen:
        print(f"- {chosen.name}: {chosen.bandwidth / 1e9:,.0f} GB/s. {chosen.note}".rstrip())
    return 0 if planned.best else 1
