"""The model shapes the kit talks about, from ``data/model_configs``: built without weights.

Each file is a ``config.json`` in transformers 5's own names, plus one key, ``_lab``, with the
repository it describes, when it was written down and the parameter count shown on the model's page.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from transformers import CONFIG_MAPPING

from helpers.paths import DATA

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

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
    """The names that ``load`` and ``about`` take, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def unknown(what: str, name: object, known: list[str]) -> ValueError:
    """The error for a ``name`` that is not one of ``known``: with the nearest of them, and all."""
    near = difflib.get_close_matches(str(name).lower(), known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return ValueError(f"{what}: no {name!r}; {hint}There are: {', '.join(known)}")


def resolve(name: str) -> str:
    """The file of ``data/model_configs`` that ``name`` means, by its stem.

    ``name`` is a stem, one of ``ALIASES`` or a repository on the Hub. Raises ValueError, with the
    nearest names there are, for any other.
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
    """The configuration that ``model`` names, such as ``"mistral-small-3.2-2506"``.

    See ``resolve`` for the names. A ``config.json`` as read is made into a configuration, and a
    configuration is handed back, checked. Raises ValueError for an unknown name, and for a field
    that is missing: transformers would fill it with another model's value without a word.
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

    Raises ValueError for an unknown name, with the nearest there are.
    """
    return _read(resolve(name))["_lab"]


def check(config: PretrainedConfig | dict, where: str = "the config") -> None:
    """Raise ValueError, naming each field that is missing or no use, and what was expected.

    ``config`` is a ``config.json`` as read or a transformers configuration; ``where`` names it.
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
            yield f"{part} is missing, expected the shape of that part"
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


def empty_model(config: PretrainedConfig) -> PreTrainedModel:
    """The whole model on PyTorch's meta device: every shape, no memory.

    3.1 and 3.2 have eyes (``mistral3``), so they need the image-text class.
    """
    import torch  # here, because it takes seconds and a config alone does not need it
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    sees = config.model_type == "mistral3"
    auto_class = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    with torch.device("meta"):
        return auto_class.from_config(config)


def count_parameters(model: PreTrainedModel) -> int:
    """Parameters of a model; tied weights count once."""
    return sum(parameter.numel() for parameter in model.parameters())
