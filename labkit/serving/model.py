"""What is served: a model's folder or name, what it needs, and how it is spread over a machine."""

import json
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from transformers import AutoConfig, MistralConfig, PretrainedConfig

from helpers.model import configs, fit, sizes
from helpers.model.cards import GIB
from labkit.serving.errors import ServingError
from labkit.serving.machine import Machine
from pocket_model.build import MODEL_ID, ensure_built

POCKET_NAMES = ("pocket", MODEL_ID)
# vLLM's processes on a CPU, without weights and KV cache. Measured with vLLM 0.32.0 and the pocket
# model: 3.1 GB, of which the weights take 0.3 GB.
CPU_OVERHEAD_BYTES = 3 * 10**9
GPU_SHARE = 0.9  # what vLLM takes of each GPU's memory, unless told otherwise
USUAL_CONTEXT = 32768  # tokens; more is used only if it is asked for
LEAST_CONTEXT = 4096
CPU_SEQUENCES = 4  # at full context, in the KV cache of a CPU


@dataclass(frozen=True)
class Model:
    """A model that vLLM can load with Mistral's own formats.

    Attributes:
        path: its folder, or its repository on the Hub.
        name: what clients call it.
        config: its shape.
        images: whether it accepts images.
        more_bytes: of its files, beyond what `config` describes.
    """

    path: str
    name: str
    config: PretrainedConfig
    images: bool
    more_bytes: int = 0


@dataclass(frozen=True)
class Placement:
    """How one server uses the machine.

    Attributes:
        tensor_parallel: over how many GPUs, or workers of a CPU, each layer is split.
        context: the longest sequence, in tokens.
        kv_gib: memory for the KV cache of a CPU; None on GPUs, where vLLM takes what is free.
    """

    tensor_parallel: int
    context: int
    kv_gib: int | None = None


def find(name: str) -> Model:
    """The model that a user names: "pocket", a folder, or a name that `configs` knows.

    Raises:
        ServingError: there is no such model, or its folder lacks a file.
    """
    if name in POCKET_NAMES:
        built = ensure_built()
        config = AutoConfig.from_pretrained(built)
        config.name_or_path = MODEL_ID
        return Model(str(built / "mistral"), MODEL_ID, config, images=True)
    folder = Path(name).expanduser()
    if folder.is_dir() or name.startswith((".", "/", "~")):
        return _from_folder(folder.absolute())
    try:
        about = configs.about(name)
    except ValueError as error:
        raise ServingError(
            f"{str(error).rstrip('.')}, pocket. For any other model, give the folder that has its "
            "files in Mistral's format."
        ) from error
    repository = about["repository"]
    if not repository.startswith("mistralai/"):
        raise ServingError(
            f"{repository} has no files in Mistral's format, which this command loads. Start it "
            f"yourself: vllm serve {repository}"
        )
    config = configs.load(name)
    return Model(repository, repository, config, hasattr(config, "vision_config"))


def _from_folder(folder: Path) -> Model:
    wanted = {
        "params.json": "params.json",
        "tekken.json": "tekken.json",
        "the weights (consolidated….safetensors)": "consolidated*.safetensors",
    }
    missing = [words for words, pattern in wanted.items() if not any(folder.glob(pattern))]
    if missing:
        state = "lacks" if folder.is_dir() else "is no folder, so it lacks"
        raise ServingError(
            f"{folder} {state} {' and '.join(missing)}. vLLM reads Mistral's own format here. For "
            "the 24B: hf download mistralai/Mistral-Small-3.2-24B-Instruct-2506 params.json "
            f"tekken.json consolidated.safetensors --local-dir {folder}"
        )
    try:
        params = json.loads((folder / "params.json").read_text(encoding="utf-8"))
        config = MistralConfig(
            vocab_size=params["vocab_size"],
            hidden_size=params["dim"],
            intermediate_size=params["hidden_dim"],
            num_hidden_layers=params["n_layers"],
            num_attention_heads=params["n_heads"],
            num_key_value_heads=params["n_kv_heads"],
            head_dim=params["head_dim"],
            max_position_embeddings=params.get("max_position_embeddings")
            or params.get("max_seq_len")
            or USUAL_CONTEXT,
            sliding_window=None,
            tie_word_embeddings=params.get("tied_embeddings", False),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ServingError(f"{folder}/params.json is not a model's: {error!r}") from error
    on_disk = sum(file.stat().st_size for file in folder.glob("consolidated*.safetensors"))
    more = max(0, on_disk - sizes.weight_bytes(config, "bf16"))
    return Model(str(folder), folder.name, config, "vision_encoder" in params, more)


def place(
    model: Model,
    machine: Machine,
    replicas: int = 1,
    context: int | None = None,
    tensor_parallel: int | None = None,
) -> Placement:
    """How many GPUs a server of this model needs, and the context that its memory allows.

    Raises:
        ServingError: the memory is too small, or the numbers do not fit this machine.
    """
    longest = model.config.get_text_config().max_position_embeddings
    if context and not 1 <= context <= longest:
        raise ServingError(f"{model.name} reads 1 to {longest:,} tokens, not {context:,}.")
    wanted = context or min(longest, LEAST_CONTEXT)
    most = context or min(longest, USUAL_CONTEXT)
    if not machine.gpu_bytes:
        return _place_on_cpu(model, machine, replicas, wanted, most, tensor_parallel or 1)
    number = len(machine.gpu_bytes)
    kv_heads = model.config.get_text_config().num_key_value_heads
    choices = [tensor_parallel] if tensor_parallel else [1, 2, 4, 8]
    choices = [gpus for gpus in choices if gpus * replicas <= number and kv_heads % gpus == 0]
    if not choices:
        each = f" with {tensor_parallel} GPUs each" if tensor_parallel else ""
        raise ServingError(
            f"{replicas} servers{each} do not fit on {number} GPUs. {model.name} can be split by a "
            f"divisor of its {kv_heads} key/value heads."
        )
    for gpus in choices:
        memory = gpus * GPU_SHARE * min(machine.gpu_bytes) - model.more_bytes
        overhead = gpus * fit.OVERHEAD_BYTES
        row = _plan(model, memory, wanted, overhead).scheme_plan("bf16")
        if row.fits:
            return Placement(gpus, _whole(min(most, row.longest_context)))
    raise _too_small(model, _plan(model, memory, wanted, overhead), f"{gpus} GPUs")


def _place_on_cpu(
    model: Model, machine: Machine, replicas: int, wanted: int, most: int, workers: int
) -> Placement:
    memory = machine.free_bytes / replicas - model.more_bytes
    plan = _plan(model, memory, wanted, workers * CPU_OVERHEAD_BYTES)
    row = plan.scheme_plan("bf16")
    if not row.fits:
        share = f"each of {replicas} servers" if replicas > 1 else "this machine's free memory"
        raise _too_small(model, plan, share)
    context = _whole(min(most, row.longest_context))
    one = sizes.kv_cache_bytes(model.config, context)
    room = row.free_bytes + row.kv_cache_bytes
    kv_gib = ceil(min(CPU_SEQUENCES * one, max(one, room)) / GIB)
    return Placement(workers, context, kv_gib)


def _plan(model: Model, memory: float, context: int, overhead: int) -> fit.Plan:
    return fit.Plan(model.config, max(1, int(memory)), context, overhead_bytes=overhead)


def _whole(context: int) -> int:
    """Rounded down to whole blocks of 1,024 tokens, if it is larger."""
    return context // 1024 * 1024 or context


def _too_small(model: Model, plan: fit.Plan, where: str) -> ServingError:
    row = plan.scheme_plan("bf16")
    return ServingError(
        f"{model.name} needs {row.total_bytes / GIB:.1f} GiB in bf16 with a context of "
        f"{plan.context:,} tokens, and {where} has {plan.memory_bytes / GIB:.1f} GiB for it. "
        "Nothing was installed. `python -m helpers fit` shows which GPUs are large enough, and "
        "what 4 bits change."
    )
