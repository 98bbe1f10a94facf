"""Whether a model fits into a memory, on which GPUs, and what to change if it does not.

`python -m helpers fit mistral-small-3.2 --card "RTX 4090" --context 32768` prints a `Plan`. Its
bytes, tokens and limits come from `helpers.model.sizes`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from helpers.model import configs, sizes
from helpers.model.cards import GIB, gpus
from helpers.model.sizes import expect_rate, expect_tokens, expect_whole

if TYPE_CHECKING:
    from transformers import PretrainedConfig

OVERHEAD_BYTES = GIB // 2  # CUDA's context, 0.3 to 0.4 GiB (pytorch#107667), and fragmentation
SMALL_PICTURE = (756, 756)  # pixels: a quarter of the largest picture's tokens


def parse_bytes(text: str) -> int:
    """`"24GiB"` or `"24 GB"` in bytes: GiB is 1024³, GB is 10⁹. A number alone is in GiB.

    Raises:
        ValueError: another unit, or not a positive number.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?)b)?\s*", text, re.IGNORECASE)
    if not match or float(match[1]) == 0:
        raise ValueError(f"memory: expected a size such as 24GiB, 24GB or 24 (GiB), got {text!r}")
    number, prefix, binary = match.groups()
    if prefix is None:
        return int(float(number) * GIB)
    return int(float(number) * (1024 if binary else 1000) ** (1 + "kmgt".index(prefix.lower())))


@dataclass(frozen=True)
class SchemePlan:
    """What one scheme needs, in bytes, and whether it fits.

    Attributes:
        free_bytes: what is left of the memory; negative if so much is missing.
        longest_context: tokens of each sequence that fit; 0 if not even one does.
        tokens_per_s: limit of decoding for all sequences at full context; None without bandwidth.
    """

    scheme: str
    weight_bytes: int
    kv_cache_bytes: int
    activation_bytes: int
    overhead_bytes: int
    free_bytes: int
    longest_context: int
    tokens_per_s: float | None

    @property
    def total_bytes(self) -> int:
        return self.weight_bytes + self.kv_cache_bytes + self.activation_bytes + self.overhead_bytes

    @property
    def fits(self) -> bool:
        return self.free_bytes >= 0


@dataclass(frozen=True)
class Plan:
    """What fits into a memory, by how much, and what to change if nothing does.

    Weights and KV cache are exact, activations an estimate (see `sizes.activation_bytes`). Prompts
    are read one after the other. `print` shows the plan as a table with advice.

    Attributes:
        model: a name of `helpers.model.configs`, or a configuration.
        memory_bytes: what a program can use, such as `cards.gpu("4090").usable_bytes`.
        context: tokens of each sequence, those of its pictures included.
        batch: sequences at once.
        images: pictures in each sequence.
        image_size: their width and height in pixels; None means the largest that the model takes.
        kv_dtype: a name of `sizes.KV_DTYPES`.
        quantize_vision: whether the scheme is for vision tower and projector too.
        prefill_chunk: tokens of a prompt that are read at a time; None reads it at once.
        overhead_bytes: an allowance for CUDA's context and fragmentation.
        bandwidth: of the memory, in bytes per second; the limit of decoding is then shown too.

    Raises:
        ValueError: an argument out of range. The message names it and what was expected.
    """

    model: str | PretrainedConfig
    memory_bytes: float
    context: int
    batch: int = 1
    images: int = 0
    _: KW_ONLY
    image_size: tuple[int, int] | None = None
    kv_dtype: str = "bf16"
    quantize_vision: bool = False
    prefill_chunk: int | None = sizes.PREFILL_CHUNK
    overhead_bytes: int = OVERHEAD_BYTES
    bandwidth: float | None = None

    def __post_init__(self) -> None:
        memory = self.memory_bytes  # may be a float, such as 14.56 * 1024**3
        expect_whole("memory_bytes", int(memory) if isinstance(memory, float) else memory)
        expect_tokens("context", self.context, self.config)
        expect_whole("batch", self.batch)
        expect_whole("images", self.images, minimum=0)
        expect_whole("overhead_bytes", self.overhead_bytes, minimum=0)
        sizes.kv_itemsize(self.kv_dtype)
        if self.prefill_chunk is not None:
            expect_whole("prefill_chunk", self.prefill_chunk)
        if self.bandwidth is not None:
            expect_rate("bandwidth", self.bandwidth, "bytes per second")
        if self.image_tokens >= self.context:
            width, height = self.picture_size
            raise ValueError(
                f"context: expected more than the {self.image_tokens:,} tokens that "
                f"{_counted(self.images, 'picture')} of {width}×{height} take, "
                f"got {self.context:,}"
            )

    @cached_property
    def config(self) -> PretrainedConfig:
        return configs.load(self.model)

    @property
    def name(self) -> str:
        model = self.model
        if isinstance(model, str):
            return configs.about(model)["name"]
        return Path(self.config.name_or_path).name or self.config.model_type

    @cached_property
    def picture_size(self) -> tuple[int, int]:
        """Width and height of each picture, in pixels."""
        longest = getattr(getattr(self.config, "vision_config", None), "image_size", 1)
        return self.image_size or (longest, longest)

    @cached_property
    def image_tokens(self) -> int:
        """Tokens of all pictures of one sequence."""
        if not self.images:
            return 0
        return self.images * sizes.image_tokens(*self.picture_size, self.config)

    @cached_property
    def vision_bytes(self) -> int:
        """Activations of the vision tower for all pictures of one sequence, in bytes."""
        if not self.images:
            return 0
        return sizes.vision_activation_bytes(self.config, *self.picture_size, self.images)

    @property
    def chunk(self) -> int | None:
        """Tokens that are read at a time: pictures are not split into chunks."""
        return self.prefill_chunk and max(self.prefill_chunk, self.image_tokens)

    @cached_property
    def schemes(self) -> tuple[SchemePlan, ...]:
        """The plan of each scheme, from the most precise to the smallest."""
        return tuple(self.scheme_plan(scheme) for scheme in sizes.SCHEMES)

    @property
    def best(self) -> SchemePlan | None:
        """The most precise scheme that fits; None if none does."""
        return next((row for row in self.schemes if row.fits), None)

    @cached_property
    def advice(self) -> tuple[str, ...]:
        """What to know, or what to change if nothing fits; one sentence or two each."""
        return tuple(_remarks(self, self.best) if self.best else _ways_to_fit(self))

    def scheme_plan(self, scheme: str) -> SchemePlan:
        """What one scheme of `sizes.SCHEMES` needs."""
        config = self.config

        def activations(context: int) -> int:
            # Prompts are read one after the other, so the batch does not matter.
            prefill = sizes.activation_bytes(config, scheme, context, prefill_chunk=self.chunk)
            return max(prefill, self.vision_bytes)

        def cache(context: int) -> int:
            return sizes.kv_cache_bytes(config, context, self.batch, self.kv_dtype)

        weights = sizes.weight_bytes(config, scheme, self.quantize_vision)
        room = int(self.memory_bytes) - weights - self.overhead_bytes
        contexts = range(1, config.get_text_config().max_position_embeddings + 1)
        # By bisection, because the need only grows with the context.
        longest = bisect_left(contexts, True, key=lambda n: cache(n) + activations(n) > room)
        return SchemePlan(
            scheme=scheme,
            weight_bytes=weights,
            kv_cache_bytes=cache(self.context),
            activation_bytes=activations(self.context),
            overhead_bytes=self.overhead_bytes,
            free_bytes=room - cache(self.context) - activations(self.context),
            longest_context=longest if longest > self.image_tokens else 0,
            tokens_per_s=self.bandwidth
            and sizes.decode_limit(
                config, scheme, self.bandwidth, self.context, self.batch, self.kv_dtype
            ),
        )

    def table(self) -> pd.DataFrame:
        """One row per scheme; sizes in GiB, `longest context` in tokens."""
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
        pictures = ""
        if self.images:
            pictures = f", of them {self.image_tokens:,} for {_counted(self.images, 'picture')}"
        table = self.table().rename_axis(None)
        formatters = {"longest context": "{:,}".format, "tokens/s at most": "{:.1f}".format}
        return "\n".join(
            [
                f"{self.name} in {_gib(self.memory_bytes)}: {_counted(self.batch, 'sequence')} "
                f"of {self.context:,} tokens{pictures}; sizes in GiB",
                "",
                table.to_string(float_format="{:.2f}".format, formatters=formatters, na_rep="–"),
                "",
                *(f"- {line}" for line in self.advice),
            ]
        )


def _gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _remarks(plan: Plan, best: SchemePlan) -> Iterator[str]:
    """What a plan that fits depends on."""
    room = f"its context can grow to {best.longest_context:,} tokens"
    if best.longest_context == plan.config.get_text_config().max_position_embeddings:
        room = f"enough for all {best.longest_context:,} tokens that the model takes"
    spare = _gib(best.free_bytes)
    yield f"{best.scheme} is the most precise that fits, with {spare} to spare; {room}."
    if best.scheme != "bf16":
        bf16 = plan.schemes[0]
        yield f"bf16 needs {_gib(-bf16.free_bytes)} more: {_gpus_with(bf16.total_bytes)}."
    if best.free_bytes < 0.05 * plan.memory_bytes:
        yield "That is tight: a desktop or a second program on the GPU takes up to 1 GiB."
    if plan.chunk and plan.chunk < plan.context:
        free = replace(plan, prefill_chunk=None).scheme_plan(best.scheme).free_bytes
        engines = "vLLM does"
        if not plan.images:
            engines += f", and transformers with GenerationConfig(prefill_chunk_size={plan.chunk})"
        yield (
            f"The prompt must be read in chunks of {plan.chunk:,} tokens: {engines}. Read at once, "
            f"{best.scheme} {'needs' if free < 0 else 'leaves'} {_gib(abs(free))}"
            f"{' more' if free < 0 else ''}."
        )
    if plan.batch > 1:
        yield (
            "Prompts must be read one after the other, as in continuous batching; generate() on a "
            "padded batch reads them together."
        )
    if plan.images > 1 and plan.vision_bytes == best.activation_bytes:
        yield (
            f"{plan.images} images at once take {_gib(plan.vision_bytes)} in the vision encoder: "
            "one at a time, smaller ones or flash attention need far less."
        )


def _ways_to_fit(plan: Plan) -> Iterator[str]:
    """What to change so that the smallest scheme fits: one thing at a time, then several."""
    smallest = min(plan.schemes, key=lambda row: row.total_bytes)
    scheme = smallest.scheme

    def fits(**changes: object) -> bool:
        return replace(plan, **changes).scheme_plan(scheme).fits

    def largest(field: str) -> int:
        """How many fit, if fewer than planned do; 0 if not even one does."""
        fewer = range(1, getattr(plan, field))
        return bisect_left(fewer, True, key=lambda number: not fits(**{field: number}))

    yield f"Nothing fits: {scheme} is the smallest and needs {_gib(-smallest.free_bytes)} more."
    batch, images, context = largest("batch"), largest("images"), smallest.longest_context
    eight_bits = sizes.kv_itemsize(plan.kv_dtype) > 1 and fits(kv_dtype="fp8")
    small = plan.images and fits(image_size=SMALL_PICTURE)
    then = f"then {scheme} fits"
    single_changes = [
        (context, f"Shorten the context: {scheme} has room for {context:,} tokens."),
        (batch, f"Serve fewer at once: {scheme} has room for {_counted(batch, 'sequence')}."),
        (images, f"Send fewer pictures: {scheme} has room for {_counted(images, 'picture')}."),
        (small, f"Shrink the pictures to {'×'.join(map(str, SMALL_PICTURE))}: {then}."),
        (
            eight_bits,
            f"Keep the KV cache in 8 bits (vLLM: --kv-cache-dtype fp8): {then}.",
        ),
        (fits(prefill_chunk=512), f"Read prompts in chunks of 512 tokens: {then}."),
    ]
    works = [text for fitting, text in single_changes if fitting]
    yield from works
    alone = replace(plan, batch=1, images=min(plan.images, 1))
    if not works and alone != plan and (room := alone.scheme_plan(scheme).longest_context):
        picture = " with one picture" if plan.images else ""
        tokens = min(room, plan.context)
        yield f"Reduce everything: one sequence{picture} has room for {tokens:,} tokens."
    yield f"Use more memory: {_gpus_with(smallest.total_bytes)}."
    split = smallest.weight_bytes + smallest.kv_cache_bytes
    for number in (2, 4, 8):
        if split / number + smallest.total_bytes - split <= plan.memory_bytes:
            yield (
                f"Share it among {number} such GPUs (vLLM: --tensor-parallel-size {number}): each "
                f"holds 1/{number} of weights and cache."
            )
            break
    other = configs.load("7b")
    is_smaller = 2 * sizes.parameters(other) < sizes.parameters(plan.config)
    takes_context = plan.context <= other.max_position_embeddings
    if is_smaller and takes_context and fits(model=other, images=0):
        without = ", without pictures" if plan.images else ""
        yield f"Take a smaller model: Mistral 7B v0.3 fits in {scheme}{without}."


def _gpus_with(total_bytes: int) -> str:
    """The smallest two GPUs and the smallest Mac that have so much memory, in words."""
    names = [name for name, gpu in gpus().items() if gpu.usable_bytes >= total_bytes]
    macs = [name for name in names if name.startswith("Apple")]
    smallest = [name for name in names if name not in macs][:2] + macs[:1]
    if not smallest:
        return f"{_gib(total_bytes)} is more than any GPU of the table has"
    return f"{', '.join(smallest)} and larger have at least {_gib(total_bytes)}"


def what_fits_where(model: str | PretrainedConfig, context: int, **options: object) -> pd.DataFrame:
    """The most precise scheme that fits on each GPU and Mac, what it leaves and its decode limit.

    Args:
        model, context, options: as for `Plan`.

    Returns:
        one row per GPU, smallest usable memory first. Columns: `usable` and `spare` in GiB,
        `scheme` (`"none"` if nothing fits), `longest context` in tokens and `tokens/s at most`.
    """
    rows = {}
    for gpu in gpus().values():
        plan = Plan(model, gpu.usable_bytes, context, bandwidth=gpu.bandwidth, **options)
        best = plan.best or plan.schemes[-1]
        rows[gpu.name] = {
            "usable": gpu.usable_bytes / GIB,
            "scheme": best.scheme if best.fits else "none",
            "spare": best.free_bytes / GIB,
            "longest context": best.longest_context,
            "tokens/s at most": best.tokens_per_s if best.fits else nan,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("GPU")
