"""Load a model in 4 bits (NF4), save it so, and load it again in seconds.

The same call loads the 24B on a graphics card and the small model on a laptop's processor. Where
the bytes are says `helpers.model.memory`; which files are needed, `helpers.model.checkpoints`.
"""

import gc
import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path

import psutil
import torch
from bitsandbytes.nn import Linear4bit
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
from transformers.quantizers.quantizers_utils import should_convert_module

from helpers.model import fit
from helpers.model.checkpoints import (
    MANIFEST,
    LoadError,
    check_disk,
    check_whole,
    config_folder,
    fetch,
    is_local,
    quantised_in,
)
from helpers.model.configs import empty_model

SKIPPED_IN_TEXT_MODELS = ("lm_head",)
SKIPPED_IN_MISTRAL3 = ("model.vision_tower", "model.multi_modal_projector", "lm_head")


@dataclass(frozen=True)
class Loaded:
    """A model in 4 bits, and which of its linear layers are so.

    Attributes:
        tokenizer: with a `tekken.json` beside the weights Mistral's own, which takes pictures too.
        source: the id or folder that was asked for.
        kept_modules: the linear layers left in ``compute_dtype``.
        placement: bytes of weights by device, such as {"cuda:0": 14_150_000_000}.
        notes: what a reader should know of this load, such as layers spilled to the processor.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: str
    quantised_modules: tuple[str, ...]
    kept_modules: tuple[str, ...]
    compute_dtype: torch.dtype
    placement: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def skip_modules(config: PretrainedConfig) -> list[str]:
    """The modules that must stay in full precision, named as transformers 5 wants them.

    The list *replaces* transformers' defaults, so ``lm_head`` has to be in it. Names match from
    the start of a module's path, so ``vision_tower`` alone would skip nothing.
    """
    return list(SKIPPED_IN_MISTRAL3 if config.model_type == "mistral3" else SKIPPED_IN_TEXT_MODELS)


def best_compute_dtype() -> torch.dtype:
    """bfloat16, or float16 on a card without it, such as a T4."""
    return torch.bfloat16 if _has_bf16() else torch.float16


def _has_bf16() -> bool:
    return not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)


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

    Stays in ``compute_dtype``: embeddings, norms, ``lm_head``, and a Mistral 3's vision tower and
    projector. A checkpoint that is in 4 bits already keeps its own settings; which of its modules
    are so is read from its files, since a skip list written for an older transformers may name
    them wrongly.

    Args:
        model_id_or_path: a folder in transformers' format, or an id on the Hub.
        quant_type: "nf4" or "fp4".
        compute_dtype: default: `best_compute_dtype`.
        device_map: None means the first card, or the processor where there is none; "auto" may
            spill to the processor, which `Loaded.notes` then says.
        attn_implementation: "sdpa" is everywhere; "flash_attention_2" needs its own package.
        context: tokens that must fit beside the weights.
        force: load although the planner says that it will not fit.

    Raises:
        LoadError: it will not fit (said before anything is fetched), cannot be fetched, is
            incomplete, does not go with this card, ran out of memory, or other layers than meant
            ended in 4 bits.
    """
    if compute_dtype == torch.bfloat16 and not _has_bf16():
        raise LoadError(
            f"{torch.cuda.get_device_name()} has no bfloat16. Leave compute_dtype out, or give "
            "torch.float16."
        )
    compute_dtype = compute_dtype or best_compute_dtype()
    folder = config_folder(model_id_or_path, revision=revision)
    config = _config(folder)
    if not force:
        check_memory(config, context, double_quant=double_quant, device_map=device_map)
    if is_local(model_id_or_path):
        check_whole(folder)
    else:
        folder = fetch(str(model_id_or_path), revision=revision)

    notes = []
    settings = {
        "dtype": compute_dtype,
        "device_map": device_map,
        "attn_implementation": attn_implementation,
    }
    if getattr(config, "quantization_config", None) is None:
        skipped = skip_modules(config)
        settings["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=quant_type,
            bnb_4bit_use_double_quant=double_quant,
            bnb_4bit_compute_dtype=compute_dtype,
            llm_int8_skip_modules=skipped,
        )
        expected = _linear_names(config, skipped)
    else:
        expected, mended = _settle_skip_list(config, folder)
        settings["config"] = config
        notes += [mended] if mended else []
    model = _load(config, folder, settings)
    quantised, kept = linear_layers(model)
    _verify(quantised, expected)
    placement = _placement(model)
    if len(placement) > 1:
        notes.append(f"It is spread over {', '.join(placement)}: what is not on a card is slow.")
    return Loaded(
        model=model,
        tokenizer=AutoTokenizer.from_pretrained(folder),
        source=str(model_id_or_path),
        quantised_modules=quantised,
        kept_modules=kept,
        compute_dtype=compute_dtype,
        placement=placement,
        notes=tuple(notes),
    )


def check_memory(
    config: PretrainedConfig,
    context: int,
    *,
    double_quant: bool = True,
    device_map: str | dict | None = None,
) -> None:
    """Raise LoadError where the planner says that a model in 4 bits has no room.

    The room is what the first card has free now, and the processor's memory without a card, with
    ``device_map="cpu"``, or added to the card's with "auto".
    """
    card = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0
    ram = psutil.virtual_memory().available
    if not card or device_map in ("cpu", {"": "cpu"}):
        room, place, overhead = ram, "this machine has free", 0
    elif device_map == "auto":
        room, place, overhead = card + ram, "card and machine have free", fit.OVERHEAD_BYTES
    else:
        # torch's own context is in what mem_get_info calls used, if anything ran before.
        room, place, overhead = card, f"{torch.cuda.get_device_name()} has free", fit.OVERHEAD_BYTES
    context = min(context, config.get_text_config().max_position_embeddings)
    planned = fit.plan(config, room, context, overhead_bytes=overhead)
    scheme = "nf4-dq" if double_quant else "nf4"
    row = next(row for row in planned.schemes if row.scheme == scheme)
    if row.fits:
        return
    advice = "\n".join(f"- {line}" for line in planned.advice)
    raise LoadError(
        f"It will not fit: {scheme} with {context:,} tokens needs {row.total_bytes / 2**30:.2f} "
        f"GiB, and {place} {room / 2**30:.2f} GiB. Nothing was fetched or loaded.\n{advice}\n"
        "- Or ask a served model instead: notebooks 03 to 06 need no card.\n"
        "- load_4bit(…, force=True) tries all the same."
    )


def _config(folder: Path) -> PretrainedConfig:
    try:
        return AutoConfig.from_pretrained(folder)
    except (ValueError, OSError) as error:
        raise LoadError(
            f"The config.json in {folder} is not one that transformers "
            f"{version('transformers')} knows: {error}"
        ) from error


def _load(config: PretrainedConfig, folder: Path, settings: dict) -> PreTrainedModel:
    sees = config.model_type == "mistral3"
    auto_class = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    try:
        return auto_class.from_pretrained(folder, **settings).eval()
    except (torch.OutOfMemoryError, MemoryError) as error:
        short = str(error).splitlines()[0] if str(error) else "out of memory"
    except (RuntimeError, ValueError) as error:
        raise LoadError(
            f"The weights in {folder} make no model of its config: {str(error).splitlines()[0]} "
            "Fetch or save them again."
        ) from error
    # Outside the handler, where the traceback no longer holds the half-loaded model.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise LoadError(
        f"The memory ran out while loading ({short}). What was loaded is given up and this "
        "kernel goes on. Close what else uses the card (nvidia-smi shows it), or ask "
        "`python -m helpers fit` what fits."
    )


def linear_layers(model: PreTrainedModel) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of a model's linear layers: those in 4 bits, and those that are not."""
    linears = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    quantised = tuple(name for name, module in linears.items() if isinstance(module, Linear4bit))
    return quantised, tuple(name for name in linears if name not in quantised)


def _linear_names(config: PretrainedConfig, skipped: Iterable[str] = ()) -> set[str]:
    """A model's linear layers outside ``skipped`` modules, from its configuration."""
    names = {n for n, m in empty_model(config).named_modules() if isinstance(m, torch.nn.Linear)}
    return {
        name
        for name in names
        if not any(name == skip or name.startswith(f"{skip}.") for skip in skipped)
    }


def _settle_skip_list(config: PretrainedConfig, folder: Path) -> tuple[set[str], str]:
    """What a 4-bit checkpoint really holds in 4 bits; its config's skip list mended to say so.

    Returns the names of those modules, and a note where the list had to be mended.
    """
    stored = quantised_in(folder)
    linears = _linear_names(config)
    held = {name for name in linears if stored & set(_names_in_files(name))}
    if not held:
        raise LoadError(
            f"{folder} says that it is quantised, but none of its weights is in bitsandbytes' 4 "
            "bits. load_4bit loads full checkpoints and bitsandbytes' 4-bit ones; for others use "
            "the engine that they were made for."
        )
    settings = config.quantization_config
    settings = settings if isinstance(settings, dict) else settings.to_dict()
    own = settings.get("llm_int8_skip_modules")
    if own is not None and {name for name in linears if should_convert_module(name, own)} == held:
        return held, ""
    config.quantization_config = settings | {"llm_int8_skip_modules": sorted(linears - held)}
    return held, (
        f"Its skip list {own} does not name, for transformers {version('transformers')}, what its "
        "files hold in full precision; the list was taken from the files."
    )


def _names_in_files(module: str) -> tuple[str, ...]:
    """A module's names in checkpoints, past and present."""
    bare = module.removeprefix("model.")
    older = bare.replace("language_model.", "language_model.model.", 1)
    return module, bare, older, f"language_model.{module}"


def _verify(quantised: Iterable[str], expected: set[str]) -> None:
    too_many, too_few = sorted(set(quantised) - expected), sorted(expected - set(quantised))
    if too_many or too_few:
        raise LoadError(
            "The skip list did not do what it says: "
            f"quantised against it {too_many[:3]}, left out {too_few[:3]}. "
            "Does this version of transformers match module names in another way?"
        )


def _placement(model: PreTrainedModel) -> dict[str, int]:
    found: dict[str, int] = {}
    for parameter in model.parameters():
        where = str(parameter.device)
        found[where] = found.get(where, 0) + parameter.nbytes
    return found


# Save and reload


def save_4bit(loaded: Loaded, folder: str | Path) -> Path:
    """Save a model in 4 bits with its tokenizer; `load_4bit` then needs nothing else.

    Written beside the target first and renamed when whole. A list of all files, with their sizes
    and SHA-256, goes with them.

    Raises:
        LoadError: the processor has rearranged the weights, the folder is taken, or the disk is
            too small.
    """
    folder = Path(folder)
    if not saves_whole(loaded.model):
        raise LoadError(
            "This model has computed on a processor for which bitsandbytes rearranged its "
            "weights and rounded their scales, so a save would be another model. Load it again "
            "and save it before its first answer."
        )
    if folder.exists() and any(folder.iterdir()):
        raise LoadError(f"{folder} is not empty. Choose another folder, or delete it first.")
    size = sum(loaded.placement.values())
    check_disk(size, folder, f"Saving {loaded.source} in 4 bits")
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        loaded.model.save_pretrained(unfinished)
        loaded.tokenizer.save_pretrained(unfinished)
        files = {path.name: path for path in sorted(unfinished.iterdir())}
        manifest = {
            "source": loaded.source,
            "date": f"{date.today()}",
            "versions": {name: version(name) for name in ("torch", "transformers", "bitsandbytes")},
            "bytes": {name: path.stat().st_size for name, path in files.items()},
            "sha256": {name: _sha256(path) for name, path in files.items()},
        }
        (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def check_saved(folder: str | Path) -> None:
    """Read a save of `save_4bit` to the last byte; LoadError names the file that has changed."""
    folder = Path(folder)
    check_whole(folder)
    if not (folder / MANIFEST).is_file():
        raise LoadError(f"{folder} has no {MANIFEST}: it was not saved by save_4bit.")
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    for name, digest in manifest["sha256"].items():
        if _sha256(folder / name) != digest:
            raise LoadError(f"{folder} is broken: {name} is not what was saved. Save it again.")


def saves_whole(model: PreTrainedModel) -> bool:
    """Whether the 4-bit weights are still as quantised.

    bitsandbytes rearranges them at the first forward pass on a processor with bf16 instructions:
    the scales lose their second level and are rounded to bf16, and turning them back before a save
    does not restore what was rounded.
    """
    wanted = getattr(model.config, "quantization_config", None)
    nested = bool(getattr(wanted, "bnb_4bit_use_double_quant", False))
    states = [
        module.weight.quant_state for module in model.modules() if isinstance(module, Linear4bit)
    ]
    return all(
        not getattr(state, "packing_format_for_cpu", False)
        and bool(state.nested) == nested
        and state.absmax.dtype == (torch.uint8 if nested else torch.float32)
        for state in states
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
