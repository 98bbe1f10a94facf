"""Load a model in 4 bits (NF4); `helpers.model.saving` saves it so.

The same call loads the 24B on a GPU and the small model on a laptop's CPU. See
`helpers.model.memory` for where the bytes are, and `helpers.model.checkpoints` for the files.
"""

import copy
import gc
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import psutil
import torch
from bitsandbytes.nn import Linear4bit
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.quantizers.quantizers_utils import should_convert_module

from helpers.model import fit
from helpers.model.checkpoints import (
    LoadError,
    check_complete,
    config_folder,
    fetch,
    is_local,
    quantized_in,
)
from helpers.model.configs import auto_class, empty_model
from helpers.model.saving import can_save as can_save
from helpers.model.saving import save_4bit as save_4bit

SKIPPED_IN_TEXT_MODELS = ("lm_head",)
SKIPPED_IN_MISTRAL3 = ("model.vision_tower", "model.multi_modal_projector", "lm_head")


@dataclass(frozen=True)
class Loaded:
    """A model in 4 bits, and which of its linear layers are in 4 bits.

    Attributes:
        tokenizer: Mistral's own, which takes pictures too, if the folder has a `tekken.json`.
        source: the id or folder given to `load_4bit`.
        quantized_modules: the names of the linear layers in 4 bits.
        kept_modules: the names of the linear layers in `compute_dtype`.
        placement: bytes of weights by device, such as {"cuda:0": 14_150_000_000}.
        notes: what to know of this load, such as layers that did not fit on the GPU.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: str
    quantized_modules: tuple[str, ...]
    kept_modules: tuple[str, ...]
    compute_dtype: torch.dtype
    placement: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def skip_modules(config: PretrainedConfig) -> list[str]:
    """The modules that must stay in full precision, named as transformers 5 needs them.

    The list *replaces* transformers' defaults, so `lm_head` must be in it. Names match from the
    start of a module's path, so `vision_tower` alone would skip nothing.
    """
    return list(SKIPPED_IN_MISTRAL3 if config.model_type == "mistral3" else SKIPPED_IN_TEXT_MODELS)


def best_compute_dtype() -> torch.dtype:
    """bfloat16, or float16 on a GPU without it, such as a T4."""
    if not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float16


def load_4bit(
    model_id_or_path: str | Path,
    *,
    revision: str | None = None,
    quant_type: str = "nf4",
    double_quant: bool = True,
    compute_dtype: torch.dtype | None = None,
    device_map: str | dict | None = None,
    attn_implementation: str = "sdpa",
    context: int = 4096,
    force: bool = False,
) -> Loaded:
    """Load a model with its linear layers in 4 bits, and check that the right ones are.

    Embeddings, norms, `lm_head`, and the vision tower and projector of a Mistral 3 stay in
    `compute_dtype`. A checkpoint that is in 4 bits already keeps its own settings. Its files say
    which modules are in 4 bits, because a skip list for an older transformers may be wrong.

    Args:
        model_id_or_path: a folder in transformers' format, or an id on the Hub.
        revision: a branch, tag or commit on the Hub.
        quant_type: "nf4" or "fp4".
        compute_dtype: default: `best_compute_dtype`.
        device_map: None means the first GPU, or the CPU if there is none. "auto" may put layers
            on the CPU; `Loaded.notes` then says so.
        attn_implementation: "sdpa" and "eager" need nothing else; "flash_attention_2" needs a GPU
            and the package flash-attn.
        context: tokens that must fit beside the weights.
        force: load even if the planner says that the model will not fit.

    Raises:
        LoadError: the model does not fit or `attn_implementation` cannot be used (both checked
            before anything is downloaded). Or the model cannot be downloaded, is incomplete, needs
            more memory than there is, or does not run on this GPU; or the wrong layers are in
            4 bits.
    """
    if compute_dtype == torch.bfloat16 and best_compute_dtype() != torch.bfloat16:
        raise LoadError(
            f"{torch.cuda.get_device_name()} has no bfloat16. Leave compute_dtype out, or give "
            "torch.float16."
        )
    compute_dtype = compute_dtype or best_compute_dtype()
    if str(model_id_or_path).startswith("~"):
        model_id_or_path = Path(os.path.expanduser(model_id_or_path))
    folder = config_folder(model_id_or_path, revision=revision)
    config = _read_config(folder)
    _check_attention(config, attn_implementation)
    if not force:
        check_memory(config, context, double_quant=double_quant, device_map=device_map)
    if is_local(model_id_or_path):
        check_complete(folder)
    else:
        folder = fetch(str(model_id_or_path), revision=revision)
    settings = {"device_map": device_map, "attn_implementation": attn_implementation}
    if getattr(config, "quantization_config", None) is None:
        expected, notes = linear_names(config, skip_modules(config)), []
        settings["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=quant_type,
            bnb_4bit_use_double_quant=double_quant,
            bnb_4bit_compute_dtype=compute_dtype,
            llm_int8_skip_modules=skip_modules(config),
        )
    else:
        expected, notes = _skip_list_from_files(config, folder)
    tokenizer = _read_tokenizer(folder)  # first: it is read in a second, the weights in minutes
    model = _load(folder, config, dtype=compute_dtype, **settings)
    check_quantized(model, expected)
    return _describe(model, tokenizer, str(model_id_or_path), compute_dtype, notes)


def _describe(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    source: str,
    compute_dtype: torch.dtype,
    notes: list[str],
) -> Loaded:
    quantized, kept = linear_layers(model)
    placement: Counter[str] = Counter()
    for parameter in model.parameters():
        placement[str(parameter.device)] += parameter.nbytes
    if len(placement) > 1:
        devices = ", ".join(placement)
        notes = [*notes, f"It is spread over {devices}: layers outside the GPU are slow."]
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        source=source,
        quantized_modules=quantized,
        kept_modules=kept,
        compute_dtype=compute_dtype,
        placement=dict(placement),
        notes=tuple(notes),
    )


def check_memory(
    config: PretrainedConfig,
    context: int,
    *,
    double_quant: bool = True,
    device_map: str | dict | None = None,
) -> None:
    """Check that a model in 4 bits fits into the memory that is free now.

    That is the memory of the first GPU. It is the machine's memory without a GPU or with
    `device_map="cpu"`, and both together with "auto".

    Raises:
        LoadError: the planner says that it does not fit. The message says what to change.
    """
    gpu = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0
    ram = psutil.virtual_memory().available
    if not gpu or device_map in ("cpu", {"": "cpu"}):
        room, owner, overhead = ram, "this machine has", 0
    elif device_map == "auto":
        room, owner, overhead = gpu + ram, "GPU and machine have", fit.OVERHEAD_BYTES
    else:
        # mem_get_info counts torch's own context as used only if something ran before.
        room, owner, overhead = gpu, f"{torch.cuda.get_device_name()} has", fit.OVERHEAD_BYTES
    context = min(context, config.get_text_config().max_position_embeddings)
    try:
        plan = fit.Plan(config, room, context, overhead_bytes=overhead)
        row = plan.scheme_plan("nf4-dq" if double_quant else "nf4")
    except ValueError as error:
        raise LoadError(f"The model's size cannot be computed: {error}") from error
    if row.fits:
        return
    advice = "\n".join(f"- {line}" for line in plan.advice)
    raise LoadError(
        f"It will not fit: {row.scheme} with {context:,} tokens needs "
        f"{row.total_bytes / 2**30:.2f} GiB, and {owner} {room / 2**30:.2f} GiB free. Nothing was "
        f"downloaded or loaded.\n{advice}\n"
        "- Or ask a served model instead: notebooks 03 to 06 need no GPU.\n"
        "- load_4bit(…, force=True) tries in spite of this."
    )


def _check_attention(config: PretrainedConfig, name: str) -> None:
    if name == "sdpa":  # a part of PyTorch
        return
    try:
        empty_model(copy.deepcopy(config), attn_implementation=name)
    except (ImportError, ValueError, AttributeError) as error:
        raise LoadError(
            f"attn_implementation={name!r} cannot be used here: {str(error).splitlines()[0]} "
            "Leave it out: the default is part of PyTorch. Or install the package that it needs "
            "(pip install flash-attn). Nothing was downloaded or loaded."
        ) from error


def _read_config(folder: Path) -> PretrainedConfig:
    try:
        return AutoConfig.from_pretrained(folder)
    except Exception as error:  # a wrong value raises errors of any type
        raise LoadError(
            f"The config.json in {folder} is not one that transformers "
            f"{version('transformers')} knows: {error}"
        ) from error


def _read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # a broken file raises errors of any type
        raise LoadError(
            f"The tokenizer in {folder} cannot be read ({type(error).__name__}: "
            f"{str(error)[:200]}). Download or save it again."
        ) from error


def _load(folder: Path, config: PretrainedConfig, **settings: object) -> PreTrainedModel:
    try:
        return auto_class(config).from_pretrained(folder, config=config, **settings).eval()
    except (torch.OutOfMemoryError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else "out of memory"
    except (RuntimeError, ValueError) as error:
        raise LoadError(
            f"The weights in {folder} do not fit its config.json: {str(error).splitlines()[0]} "
            "Download or save them again."
        ) from error
    # Outside the handler, where the traceback no longer holds the half-loaded model.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise LoadError(
        f"The memory ran out while loading ({reason}). The loaded part was freed, and this kernel "
        "still works. Close what else uses the GPU (nvidia-smi shows it), or ask "
        "`python -m helpers fit` what fits."
    )


def linear_layers(model: PreTrainedModel) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of a model's linear layers: those in 4 bits, and the others."""
    linears = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    quantized = tuple(name for name, module in linears.items() if isinstance(module, Linear4bit))
    return quantized, tuple(name for name in linears if name not in quantized)


@contextmanager
def unpacked(model: PreTrainedModel) -> Iterator[None]:
    """Keep bitsandbytes on a CPU from packing a model's 4-bit layers for good.

    Packed layers compute row by row: fast for one prompt, and slow for many rows. They also pass
    no gradient, so a model that answers in this block can still be trained.
    """
    layers = [m for m in model.modules() if isinstance(m, Linear4bit) and not m.training]
    for layer in layers:
        layer.training = True  # it packs in evaluation only; unpacked, both compute the same
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False


def linear_names(config: PretrainedConfig, skipped: Iterable[str] = ()) -> set[str]:
    """The names of a model's linear layers outside `skipped` modules, from its configuration."""
    outside = tuple(f"{module}." for module in skipped)
    names = sum(linear_layers(empty_model(config)), ())
    return {name for name in names if not f"{name}.".startswith(outside)}


def check_quantized(model: PreTrainedModel, expected: set[str]) -> None:
    """Check which linear layers of a model are in 4 bits.

    Raises:
        LoadError: others than the `expected` ones, by name.
    """
    quantized = set(linear_layers(model)[0])
    if quantized != expected:
        raise LoadError(
            "The skip list did not do what it says. Quantized against it: "
            f"{sorted(quantized - expected)[:3]}; left out: {sorted(expected - quantized)[:3]}. "
            "Does this version of transformers match module names in another way?"
        )


def _skip_list_from_files(config: PretrainedConfig, folder: Path) -> tuple[set[str], list[str]]:
    """What a 4-bit checkpoint really holds in 4 bits; corrects the skip list in `config`.

    Returns the names of those modules, and a note if the list had to be corrected.
    """
    stored = quantized_in(folder)
    linears = linear_names(config)
    quantized = {name for name in linears if stored & set(_names_in_files(name))}
    if not quantized:
        raise LoadError(
            f"The config.json in {folder} says that the model is quantized, but none of its "
            "weights is in bitsandbytes' 4 bits. load_4bit loads full checkpoints and "
            "bitsandbytes' 4-bit ones. For others use the engine that they were made for."
        )
    settings = config.quantization_config
    settings = settings if isinstance(settings, dict) else settings.to_dict()
    listed = settings.get("llm_int8_skip_modules")
    if listed is not None and quantized == {n for n in linears if should_convert_module(n, listed)}:
        return quantized, []
    config.quantization_config = settings | {"llm_int8_skip_modules": sorted(linears - quantized)}
    return quantized, [
        f"Its skip list {listed} does not name what its files hold in full precision, as "
        f"transformers {version('transformers')} reads it. The list was taken from the files."
    ]


def _names_in_files(module: str) -> tuple[str, ...]:
    """A module's names in the checkpoints of this and of older versions of transformers."""
    bare = module.removeprefix("model.")
    older = bare.replace("language_model.", "language_model.model.", 1)
    return module, bare, older, f"language_model.{module}"
