"""LoRA adapters: added to a model, saved, and loaded onto the same model again."""

import hashlib
import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

# Layers of the language model alone. The vision tower of a Mistral 3 has layers of the same names.
LANGUAGE_MODEL = r"(.*language_model\.|model\.)layers\.\d+\.(self_attn|mlp)\.\w+_proj"
BASE = "base.json"  # beside the adapter: which model it belongs to
ROWS = 64  # of the embeddings, for the fingerprint
OLDEST_TORCHAO = (0, 16)  # peft refuses an older one


class AdapterError(RuntimeError):
    """An adapter cannot be used; the message says why and what to do."""


def add(
    model: "PreTrainedModel | PeftModel",
    *,
    rank: int = 16,
    alpha: int = 32,
    targets: str | list[str] = LANGUAGE_MODEL,
    name: str = "default",
    seed: int = 0,
) -> "PeftModel":
    """Add a LoRA adapter to a model and make it the one that is trained.

    Each chosen linear layer W gets two small matrices: W x + (alpha / rank) · B A x. A is random,
    B begins at zero, so at first nothing changes.

    Args:
        targets: a regular expression for whole module names, or endings of names.
        name: a second adapter on the same model needs another one.
        seed: of A.
    """
    from peft import LoraConfig, PeftModel, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, task_type="CAUSAL_LM")
    with torch.random.fork_rng(), _peft_at_ease():
        torch.manual_seed(seed)
        if isinstance(model, PeftModel):
            model.add_adapter(name, config)
            model.set_adapter(name)
            return model
        return get_peft_model(model, config, adapter_name=name)


def trainable_share(model: torch.nn.Module) -> tuple[int, float]:
    """The number of trainable parameters, and their share of all; 4-bit weights count one each."""
    trained = all_ = 0
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        count = parameter.numel() if state is None else state.shape.numel()
        trained += count if parameter.requires_grad else 0
        all_ += count
    return trained, trained / all_


def fingerprint(model: torch.nn.Module) -> str:
    """12 hexadecimal digits that tell a base model from others, in bf16 and in 4 bits alike.

    They come from weights that stay in 16 bits in both: the norms and the first embeddings. A model
    into which an adapter was merged has those of its base.
    """
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        if "vision_tower" in name or "lora_" in name:
            continue
        if "norm" in name or "embed_tokens" in name:
            digest.update(parameter[:ROWS].detach().cpu().bfloat16().view(torch.uint8).numpy())
    return digest.hexdigest()[:12]


def save(model: "PeftModel", folder: str | Path, *, name: str = "default") -> Path:
    """Save an adapter, and which base it belongs to. Returns the adapter's folder."""
    folder = Path(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the base has no address on the Hub
        model.save_pretrained(folder, selected_adapters=[name], save_embedding_layers=False)
    if name != "default":  # peft makes a folder for each other adapter
        folder = folder / name
    (folder / BASE).write_text(json.dumps({"base": fingerprint(model)}) + "\n", encoding="utf-8")
    return folder


def load(
    model: "PreTrainedModel | PeftModel", folder: str | Path, *, name: str = "default"
) -> "PeftModel":
    """Load an adapter onto its base, for answers. The base may be in bf16 or in 4 bits.

    Args:
        name: a second adapter on the same model needs another one. It is then the one in use.

    Raises:
        AdapterError: there is no adapter, or it belongs to another model.
    """
    from peft import PeftModel

    folder = Path(folder)
    try:
        wanted = json.loads((folder / BASE).read_text(encoding="utf-8"))["base"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(
            f"{folder.name} has no adapter of this kit: {BASE} is missing or broken. Give the "
            "folder that adapters.save returned."
        ) from error
    found = fingerprint(model)
    if found != wanted:
        raise AdapterError(
            f"The adapter in {folder.name} was trained on another model ({wanted}) than this one "
            f"({found}). Its changes mean nothing there: load its own base, or train it again."
        )
    with _peft_at_ease():
        if isinstance(model, PeftModel):
            model.load_adapter(folder, adapter_name=name)
            model.set_adapter(name)
            return model.eval()
        return PeftModel.from_pretrained(model, folder, adapter_name=name).eval()


@contextmanager
def _peft_at_ease() -> Iterator[None]:
    """Without a warning that only peft's authors can heed, and without an old torchao.

    peft ends with an error where torchao is too old, as on Colab, although nothing here needs it.
    """
    hidden = {}
    try:
        parts = version("torchao").split(".")[:2]
        if tuple(int(part) for part in parts) < OLDEST_TORCHAO:
            hidden = {"torchao": sys.modules.get("torchao", sys)}
    except (PackageNotFoundError, ValueError):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        if hidden:
            sys.modules["torchao"] = None  # Python's way to say that there is none
        try:
            yield
        finally:
            for name, module in hidden.items():
                del sys.modules[name]
                if module is not sys:
                    sys.modules[name] = module
