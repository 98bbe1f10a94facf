"""Where the bytes of a model in memory are: predicted from its configuration, and measured.

They are its weights, the KV cache, which grows with the context, and the activations of a forward
pass.
"""

import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from itertools import accumulate
from math import ceil, nan
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import psutil
import torch
from bitsandbytes.nn import Params4bit
from torch.profiler import ProfilerActivity, profile
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


class PeakMemory:
    """Measures the peak of memory in use while its `with` block runs.

    On a GPU: what torch allocated and reserved. Elsewhere: the resident memory of the process,
    sampled every 5 ms, so that a shorter peak is missed. Memory that the process had freed but not
    given back is resident already: using it again adds nothing.

    Attributes:
        before: bytes in use at the beginning of the block.
        bytes: bytes in use at the peak.
        reserved: bytes that torch's allocator took from the GPU at the peak; None elsewhere.
    """

    def __enter__(self) -> "PeakMemory":
        self.reserved: int | None = None
        self._on_gpu = torch.cuda.is_available()
        if self._on_gpu:
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

    def __exit__(self, *exception: object) -> None:
        if self._on_gpu:
            torch.cuda.synchronize()
            self.bytes = torch.cuda.max_memory_allocated()
            self.reserved = torch.cuda.max_memory_reserved()
            return
        self._done.set()
        self._watcher.join()
        self.bytes = max(self.bytes, self._process.memory_info().rss)


def allocated_peak(step: Callable[[], object], device: torch.device) -> int:
    """The most bytes that torch had allocated on a device while `step` ran, above those before.

    On a GPU its allocator counts them. On a CPU torch's profiler notes each allocation, so the
    count is exact and does not depend on the machine; what other libraries allocate is not in it.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler writes to the notebook
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    notes = sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: e["ts"])
    return max(accumulate((note["args"]["Bytes"] for note in notes), initial=0))


def predict_memory(
    config: PretrainedConfig, *, double_quant: bool = True, context: int, batch: int = 1
) -> dict[str, int]:
    """Bytes by part that a model in NF4 should need, from its configuration alone.

    `batch` sequences of `context` tokens each are read at once.
    """
    scheme = "nf4-dq" if double_quant else "nf4"
    codes = state = 0
    for tensor in weights(config):
        if tensor.linear and tensor.part not in VISION_PARTS:
            packed = ceil(tensor.rows * tensor.columns / 2)
            codes += tensor.count * packed
            state += tensor.count * (linear_bytes(tensor.rows, tensor.columns, scheme) - packed)
    return {
        "quantized weights": codes,
        "quantization state": state,
        "kept in 16 bits": weight_bytes(config, scheme) - codes - state,
        "KV cache": kv_cache_bytes(config, context, batch),
        "activations": activation_bytes(config, scheme, context, batch, prefill_chunk=None),
    }


def memory_table(model: PreTrainedModel, *, context: int, batch: int = 1) -> pd.DataFrame:
    """Predicted and measured bytes of a model in NF4 that reads a full context.

    The weights are counted, then `batch` random prompts of `context` tokens are read. Call it
    before the model's first forward pass (see `memory_footprint`).

    Returns:
        index `part`, columns `predicted` and `measured` in bytes, and `relative_error`, the
        measured over the predicted bytes minus 1. Activations and the allocator's spare memory
        are measured on a GPU only; elsewhere they are nan and absent.
    """
    part_bytes = memory_footprint(model)["bytes"]
    in_4_bits = part_bytes.reindex(["quantized weights", "quantization state"]).fillna(0)
    settings = getattr(model.config, "quantization_config", None)
    predicted = predict_memory(
        model.config,
        double_quant=bool(getattr(settings, "bnb_4bit_use_double_quant", False)),
        context=context,
        batch=batch,
    )
    cache = DynamicCache(config=model.config.get_text_config())
    prompt = random_prompt(model, context, batch)
    with PeakMemory() as peak, torch.no_grad():
        model(input_ids=prompt, past_key_values=cache, logits_to_keep=1)
    cache_bytes = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    measured = {
        **in_4_bits,
        "kept in 16 bits": part_bytes["total"] - in_4_bits.sum(),
        "KV cache": cache_bytes,
        "activations": nan,
    }
    if peak.reserved is not None:
        measured["activations"] = peak.bytes - peak.before - cache_bytes
        measured["allocator"] = peak.reserved - peak.bytes
    table = pd.DataFrame({"predicted": predicted, "measured": measured}, dtype=float)
    table = table.reindex(list(measured))
    table["relative_error"] = table["measured"] / table["predicted"] - 1
    return table.rename_axis("part")


def plot_memory(table: pd.DataFrame, axes: "Axes") -> None:
    """Draw a `memory_table` as two stacked bars, predicted above measured."""
    sizes = table[["predicted", "measured"]].fillna(0) / 1e6
    unit = "MB"
    if sizes.to_numpy().sum() > 2e4:
        sizes, unit = sizes / 1e3, "GB"
    sizes.T.plot.barh(stacked=True, ax=axes, width=0.6, edgecolor="white")
    weights = sizes["predicted"].drop(["KV cache", "activations"]).sum()
    share = weights / sizes["predicted"].sum()
    axes.set(xlabel=f"memory ({unit})", title=f"{share:.0%} of the predicted memory is weights")
    axes.invert_yaxis()
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.25), ncol=3, frameon=False)


def quantization_tensors(weight: Params4bit) -> Iterator[torch.Tensor]:
    """The tensors that turn 4-bit codes back into numbers, the second level included.

    They are one scale (absmax) per 64 weights and a table of 16 values. With double quantization
    the scales are 8-bit codes, with scales, a table and an offset of their own.
    """
    state = weight.quant_state
    yield state.absmax
    yield state.code
    if state.nested:
        yield state.offset
        yield state.state2.absmax
        yield state.state2.code


def memory_footprint(model: PreTrainedModel) -> pd.DataFrame:
    """The bytes of a model's weights: one row per part, and their total.

    Tied weights count once, as embeddings. Call it before the first forward pass, because some
    CPUs rearrange the weights then. transformers' own `get_memory_footprint()` leaves out the
    quantization state.

    Returns:
        index `part`; columns `parameters` (before packing), `bytes` and `bits_per_parameter`.
    """
    rows = []
    for name, parameter in model.named_parameters():  # a tied weight is listed once
        state = getattr(parameter, "quant_state", None)
        if state is None:
            rows.append((_part(name), parameter.numel(), parameter.nbytes))
        else:
            state_bytes = sum(tensor.nbytes for tensor in quantization_tensors(parameter))
            rows.append(("quantized weights", state.shape.numel(), parameter.nbytes))
            rows.append(("quantization state", 0, state_bytes))
    table = pd.DataFrame(rows, columns=["part", "parameters", "bytes"]).groupby("part").sum()
    table = table.sort_values("bytes", ascending=False, kind="stable")
    table.loc["total"] = table.sum()
    table["bits_per_parameter"] = (8 * table["bytes"] / table["parameters"]).where(
        table["parameters"] > 0
    )
    return table


def _part(name: str) -> str:
    """The part of the model that a full-precision parameter belongs to."""
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
