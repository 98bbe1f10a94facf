"""The model shapes of `data/model_configs`, as configurations and as models without weights.

Each file is a `config.json` with the field names of transformers 5, and one more key, `_lab`. It
holds the repository, the date of writing and the parameter count that the model's page shows.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from transformers import CONFIG_MAPPING

from helpers.paths import DATA

if TYPE_CHECKING:
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        PretrainedConfig,
        PreTrainedModel,
    )

FOLDER = DATA / "model_configs"

ALIASES = {
    "7b": "mistral-7b-v0.3",
    "mistral-7b": "mistral-7b-v0.3",
    "small": "mistral-small-3.2-2506",
    "mistral-small": "mistral-small-3.2-2506",
    "small-3": "mistral-small-3-2501",
    "small-3.1": "mistral-small-3.1-2503",
    "small-3.2": "mistral-small-3.2-2506",
    "mistral-small-3": "mistral-small-3-2501",
    "mistral-small-3.1": "mistral-small-3.1-2503",
    "mistral-small-3.2": "mistral-small-3.2-2506",
    "llama-70b": "llama-3.3-70b",
    "llama-13b": "llama-2-13b",
    "qwen-32b": "qwen2.5-32b",
    "gemma-27b": "gemma-2-27b",
}

TEXT_TYPES = ("mistral", "llama", "qwen2", "gemma2")
_SIZES = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads")
TEXT_SIZES = (
    *_SIZES,
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
)
VISION_SIZES = (*_SIZES, "head_dim", "image_size", "patch_size", "num_channels")


def names() -> list[str]:
    """The names that `load` and `about` take, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def unknown(what: str, name: object, known: list[str]) -> ValueError:
    """The error to raise if `name` is not in `known`; its message lists the nearest, then all."""
    nearest = difflib.get_close_matches(str(name).lower(), known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
    return ValueError(f"{what}: there is no {name!r}.{hint} There are: {', '.join(known)}")


def resolve(name: str) -> str:
    """The stem of the file in `data/model_configs` that `name` stands for.

    Args:
        name: a stem, one of `ALIASES`, or a repository on the Hub, in upper or lower case.

    Raises:
        ValueError: no such name. The message lists the nearest.
    """
    stems = names()
    wanted = str(name).strip().lower().replace("_", "-").replace(" ", "-")
    known = {stem: stem for stem in stems} | ALIASES
    if "/" in wanted:
        known = {_read(stem)["_lab"]["repository"].lower(): stem for stem in stems}
    if wanted not in known:
        raise unknown("model", name, [*stems, *ALIASES])
    return known[wanted]


def _read(stem: str) -> dict:
    return json.loads((FOLDER / f"{stem}.json").read_text(encoding="utf-8"))


def load(model: str | dict | PretrainedConfig) -> PretrainedConfig:
    """The configuration of a model, checked.

    Args:
        model: a name that `resolve` knows, the content of a `config.json`, or a configuration,
            which is returned as it is.

    Raises:
        ValueError: an unknown name, or a missing field. transformers would silently fill a
            missing field with the value of another model.
    """
    where = "the config"
    if isinstance(model, str):
        stem = resolve(model)
        model, where = _read(stem), f"{stem}.json"
    check(model, where)
    if not isinstance(model, dict):
        return model
    fields = {field: value for field, value in model.items() if field != "_lab"}
    return CONFIG_MAPPING[fields.pop("model_type")].from_dict(fields)


def about(name: str) -> dict:
    """Where a shape comes from: name, repository, source, written (a date), published_parameters.

    Raises:
        ValueError: no such name. The message lists the nearest.
    """
    return _read(resolve(name))["_lab"]


def check(config: PretrainedConfig | dict, where: str = "the config") -> None:
    """Check the fields that a size depends on.

    Args:
        config: the content of a `config.json`, or a configuration.
        where: what the message calls it.

    Raises:
        ValueError: a field is missing or invalid. The message names each and what was expected.
    """
    problems = list(_problems(config))
    if problems:
        raise ValueError(f"{where}: {'; '.join(problems)}")


def _problems(config: PretrainedConfig | dict) -> Iterator[str]:
    kind = _get(config, "model_type")
    if kind not in (*TEXT_TYPES, "mistral3"):
        expected = ", ".join((*TEXT_TYPES, "mistral3"))
        yield f"model_type is {kind!r}, expected one of {expected}"
        return
    if not isinstance(_get(config, "tie_word_embeddings"), bool):
        yield "tie_word_embeddings is missing, expected true or false"
    if kind != "mistral3":
        yield from _size_problems(config, TEXT_SIZES, "")
        return

    yield from _size_problems(config, ("spatial_merge_size",), "")
    if not isinstance(_get(config, "multimodal_projector_bias"), bool):
        yield "multimodal_projector_bias is missing, expected true or false"
    for part, types, sizes in (
        ("text_config", TEXT_TYPES, TEXT_SIZES),
        ("vision_config", ("pixtral",), VISION_SIZES),
    ):
        inner = _get(config, part)
        if inner is None:
            yield f"{part} is missing, expected the fields of that part"
        elif _get(inner, "model_type") not in types:
            yield f"{part}.model_type is {_get(inner, 'model_type')!r}, expected {', '.join(types)}"
        else:
            yield from _size_problems(inner, sizes, f"{part}.")


def _size_problems(config: object, fields: tuple[str, ...], prefix: str) -> Iterator[str]:
    for field in fields:
        value = _get(config, field)
        if value is None:
            yield f"{prefix}{field} is missing, expected a positive whole number"
        elif not isinstance(value, int) or isinstance(value, bool) or value < 1:
            yield f"{prefix}{field} is {value!r}, expected a positive whole number"


def _get(config: object, field: str) -> object:
    return config.get(field) if isinstance(config, dict) else getattr(config, field, None)


def auto_class(
    config: PretrainedConfig,
) -> type[AutoModelForCausalLM | AutoModelForImageTextToText]:
    """The class of transformers that loads the model.

    3.1 and 3.2 (`mistral3`) have a vision tower, so they need the image-text class.
    """
    import transformers  # its model classes import torch, which takes seconds

    if config.model_type == "mistral3":
        return transformers.AutoModelForImageTextToText
    return transformers.AutoModelForCausalLM


def empty_model(config: PretrainedConfig, **settings: Any) -> PreTrainedModel:
    """The whole model on PyTorch's meta device: every tensor has its shape and takes no memory.

    Args:
        settings: as for `from_config` of transformers, such as `attn_implementation`.
    """
    import torch  # here, because its import takes seconds and a configuration does not need it

    with torch.device("meta"):
        return auto_class(config).from_config(config, **settings)


def count_parameters(model: PreTrainedModel) -> int:
    """The number of parameters of a model; tied weights count once."""
    return sum(parameter.numel() for parameter in model.parameters())
