"""Where a model's bytes are: predicted from its config, and measured.

Beside the weights there is the KV cache, which grows with the context, and what a forward pass
needs for a moment.
"""

import threading
from collections.abc import Iterator
from math import ceil, nan
from typing import TYPE_CHECKING

import pandas as pd
import psutil
import torch
from bitsandbytes.nn import Params4bit
from transformers import DynamicCache, PretrainedConfig, PreTrainedModel

from helpers.model.sizes import (
    VISION_PARTS,
    activation_bytes,
    kv_cache_bytes,
    linear_bytes,
    weight_bytes,
    weights,
)
from helpers.model.speed import random_prompt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SAMPLE_SECONDS = 0.005


class Peak:
    """Measures the most memory in use while its block runs.

    On a card: what torch allocated (``bytes``) and what it took from the card (``reserved``).
    Elsewhere: the process's resident memory, looked at every 5 ms, so a shorter peak is missed.

    Attributes:
        before, bytes: at the beginning and at the peak.
        reserved: on a card; None elsewhere.
    """

    def __enter__(self) -> "Peak":
        self.reserved: int | None = None
        self._on_card = torch.cuda.is_available()
        if self._on_card:
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
            return self
        self._process = psutil.Process()
        self.before = self.bytes = self._process.memory_info().rss
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self.bytes = max(self.bytes, self._process.memory_info().rss)

    def __exit__(self, *exception) -> None:
        if self._on_card:
            torch.cuda.synchronize()
            self.bytes = torch.cuda.max_memory_allocated()
            self.reserved = torch.cuda.max_memory_reserved()
            return
        self._done.set()
        self._watcher.join()
        self.bytes = max(self.bytes, self._process.memory_info().rss)


def predicted(
    config: PretrainedConfig, *, double_quant: bool = True, context: int, batch: int = 1
) -> dict[str, int]:
    """Bytes by part that a model in NF4 should need, from its configuration alone.

    Args:
        context: tokens of each of ``batch`` sequences.
    """
    scheme = "nf4-dq" if double_quant else "nf4"
    codes = state = 0
    for one in weights(config):
        if one.linear and one.part not in VISION_PARTS:
            half = ceil(one.rows * one.columns / 2)
            codes += one.count * half
            state += one.count * (linear_bytes(one.rows, one.columns, scheme) - half)
    return {
        "quantised weights": codes,
        "quantisation state": state,
        "kept in 16 bits": weight_bytes(config, scheme) - codes - state,
        "KV cache": kv_cache_bytes(config, context, batch),
        "activations": activation_bytes(config, scheme, context, batch, prefill_chunk=None),
    }


def ledger(model: PreTrainedModel, *, context: int, batch: int = 1) -> pd.DataFrame:
    """Predicted and measured bytes of a model in NF4 that reads a full context.

    The measurement reads ``batch`` random prompts of ``context`` tokens. The weights are counted
    before that, so call it before the model's first forward pass (see `footprint`).

    Returns:
        index ``part``, columns ``predicted``, ``measured`` and ``off`` (a share). The measured
        activations and the allocator's row need a card; elsewhere they are nan.
    """
    table = footprint(model)["bytes"]
    in_4_bits = table.reindex(["quantised weights", "quantisation state"]).fillna(0)
    settings = getattr(model.config, "quantization_config", None)
    words = predicted(
        model.config,
        double_quant=bool(getattr(settings, "bnb_4bit_use_double_quant", False)),
        context=context,
        batch=batch,
    )
    cache = DynamicCache(config=model.config.get_text_config())
    prompt = random_prompt(model, context, batch)
    with Peak() as peak, torch.no_grad():
        model(input_ids=prompt, past_key_values=cache, logits_to_keep=1)
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    measured = {
        **{part: float(size) for part, size in in_4_bits.items()},
        "kept in 16 bits": float(table["total"] - in_4_bits.sum()),
        "KV cache": float(held),
        "activations": nan,
    }
    if peak.reserved is not None:
        measured["activations"] = float(peak.bytes - peak.before - held)
        measured["allocator"] = float(peak.reserved - peak.bytes)
    result = pd.DataFrame({"predicted": pd.Series(words, dtype=float), "measured": measured})
    result = result.reindex(measured)
    result["off"] = result["measured"] / result["predicted"] - 1
    return result.rename_axis("part")


def plot_ledger(table: pd.DataFrame, axes: "Axes") -> None:
    """A ledger as two stacked bars, predicted beside measured."""
    sizes = table[["predicted", "measured"]].fillna(0) / 1e6
    unit = "MB"
    if sizes.to_numpy().sum() > 2e4:
        sizes, unit = sizes / 1e3, "GB"
    sizes.T.plot.barh(stacked=True, ax=axes, width=0.6)
    axes.set(xlabel=unit, title="Memory of a model in 4 bits")
    axes.invert_yaxis()
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.25), ncol=3, frameon=False)


def quantisation_tensors(weight: Params4bit) -> Iterator[torch.Tensor]:
    """The tensors that turn 4-bit codes back into numbers, the second level included.

    One scale (absmax) per 64 weights and the table of 16 values; with double quantisation the
    scales are 8-bit codes themselves, with scales, a table and an offset of their own.
    """
    state = weight.quant_state
    yield state.absmax
    yield state.code
    if state.nested:
        yield state.offset
        yield state.state2.absmax
        yield state.state2.code


def footprint(model: PreTrainedModel) -> pd.DataFrame:
    """Where a model's bytes are: one row a part, and their total.

    Index ``part``; columns ``parameters`` (as the model counts them, not as they are packed),
    ``bytes`` and ``bits_per_parameter``. Tied weights count once, under the embeddings.

    transformers' own ``get_memory_footprint()`` leaves the quantisation state out; here it has a
    row. Call it before the first forward pass: on some processors that repacks the weights.
    """
    parts: dict[str, list[int]] = {}
    seen: set[int] = set()

    def add(part: str, parameters: int, tensors: list[torch.Tensor]) -> None:
        new = {t.data_ptr(): t for t in tensors if t.data_ptr() not in seen}
        seen.update(new)
        row = parts.setdefault(part, [0, 0])
        row[0] += parameters
        row[1] += sum(tensor.nbytes for tensor in new.values())

    for name, parameter in model.named_parameters():  # a tied weight is listed once
        state = getattr(parameter, "quant_state", None)
        if state is None:
            add(_part(name), parameter.numel(), [parameter])
        else:
            add("quantised weights", state.shape.numel(), [parameter.data])
            add("quantisation state", 0, list(quantisation_tensors(parameter)))

    table = pd.DataFrame.from_dict(parts, orient="index", columns=["parameters", "bytes"])
    table = table.sort_values("bytes", ascending=False, kind="stable")
    table.loc["total"] = table.sum()
    table["bits_per_parameter"] = (8 * table["bytes"] / table["parameters"]).where(
        table["parameters"] > 0
    )
    return table.rename_axis("part")


def _part(name: str) -> str:
    """The part of a Mistral or Mistral 3 that a full-precision parameter belongs to."""
    for fragment, part in (
        ("vision_tower", "vision tower"),
        ("multi_modal_projector", "projector"),
        ("embed_tokens", "embeddings"),
        ("lm_head", "lm_head"),
        ("norm", "norms"),
    ):
        if fragment in name:
            return part
    return "other, full precision"
