"""Load a model in 4 bits (NF4) and see where its bytes are.

The same call loads the 24B on a graphics card and the small model on a laptop's processor.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

SKIPPED_IN_TEXT_MODELS = ("lm_head",)
SKIPPED_IN_MISTRAL3 = ("model.vision_tower", "model.multi_modal_projector", "lm_head")


@dataclass(frozen=True)
class Loaded:
    """A model in 4 bits, and which of its linear layers are so.

    ``kept_modules`` are the linear layers left in ``compute_dtype``.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    quantised_modules: tuple[str, ...]
    kept_modules: tuple[str, ...]
    compute_dtype: torch.dtype


def skip_modules(config: PretrainedConfig) -> list[str]:
    """The modules that must stay in full precision, named as transformers 5 wants them.

    The list *replaces* transformers' defaults, so ``lm_head`` has to be in it. Names match from
    the start of a module's path, so ``vision_tower`` alone would skip nothing.
    """
    return list(SKIPPED_IN_MISTRAL3 if config.model_type == "mistral3" else SKIPPED_IN_TEXT_MODELS)


def best_compute_dtype() -> torch.dtype:
    """bfloat16, or float16 on a card without it, such as a T4."""
    if torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def load_4bit(
    model_id_or_path: str | Path,
    *,
    double_quant: bool = True,
    compute_dtype: torch.dtype | None = None,
    device_map: str | dict | None = None,
) -> Loaded:
    """Load a model with its linear layers in NF4, and check that the right ones are.

    Stays in ``compute_dtype``: embeddings, norms, ``lm_head``, and a Mistral 3's vision tower and
    projector. A checkpoint that is already quantised keeps its own settings and is not checked.
    ``device_map=None`` means the first card, or the processor where there is none.

    Raises RuntimeError when a layer that should have been kept was quantised, or the reverse.
    """
    config = AutoConfig.from_pretrained(model_id_or_path)
    already_quantised = getattr(config, "quantization_config", None) is not None
    compute_dtype = compute_dtype or best_compute_dtype()
    skipped = skip_modules(config)

    settings = {"dtype": compute_dtype, "device_map": device_map}
    if not already_quantised:
        settings["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=double_quant,
            bnb_4bit_compute_dtype=compute_dtype,
            llm_int8_skip_modules=skipped,
        )
    sees = config.model_type == "mistral3"
    auto_class = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    model = auto_class.from_pretrained(model_id_or_path, **settings).eval()

    quantised, kept = linear_layers(model)
    if not already_quantised:
        _verify(quantised, kept, skipped)
    tokenizer = AutoTokenizer.from_pretrained(model_id_or_path)
    return Loaded(model, tokenizer, quantised, kept, compute_dtype)


def linear_layers(model: PreTrainedModel) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of a model's linear layers: those in 4 bits, and those that are not."""
    linears = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    quantised = tuple(name for name, module in linears.items() if isinstance(module, Linear4bit))
    return quantised, tuple(name for name in linears if name not in quantised)


def _verify(quantised: tuple[str, ...], kept: tuple[str, ...], skipped: list[str]) -> None:
    def is_skipped(name: str) -> bool:
        return any(name == skip or name.startswith(f"{skip}.") for skip in skipped)

    wrongly_quantised = [name for name in quantised if is_skipped(name)]
    wrongly_kept = [name for name in kept if not is_skipped(name)]
    if wrongly_quantised or wrongly_kept:
        raise RuntimeError(
            "the skip list did not do what it says: "
            f"quantised against it {wrongly_quantised[:3]}, left out {wrongly_kept[:3]}. "
            "Does this version of transformers match module names in another way?"
        )


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
