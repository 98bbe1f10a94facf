"""The trained part of the pocket model: what `data/pocket` holds and the base does not.

One safetensors file holds three things. The vision tower and the projector are there in full, and
so are the embedding rows of the 40 control tokens. The text model's linear layers have low-rank
changes (LoRA): a pair A (rank, in) and B (out, rank), whose product B · A is added to the weight.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from pocket_model.cache import atomic_write
from pocket_model.tekken import CONTROL_COUNT

VISION_PREFIXES = ("model.vision_tower.", "model.multi_modal_projector.")
TARGET_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def merge_adapter(model, path: Path):
    """Add the trained part to a model from `architecture.assemble`, in place; return the model.

    Raises:
        ValueError: the file has a tensor that does not fit the model, or lacks one. The model is
            then unchanged.
    """
    adapter = load_file(path)
    weights = dict(model.named_parameters())
    vision = {name for name in weights if name.startswith(VISION_PREFIXES)}
    layers = {name.removesuffix(".lora_a") for name in adapter if name.endswith(".lora_a")}
    expected = vision | {"control_rows"} | {f"{layer}.lora_{ab}" for layer in layers for ab in "ab"}
    shapes = {name: weights[name].shape for name in vision}
    shapes["control_rows"] = (CONTROL_COUNT, model.config.text_config.hidden_size)
    misfits = expected ^ set(adapter)
    misfits |= {layer for layer in layers if f"{layer}.weight" not in weights}
    misfits |= {name for name in set(shapes) & set(adapter) if adapter[name].shape != shapes[name]}
    if misfits:
        raise ValueError(f"{path.name} does not fit the model: {', '.join(sorted(misfits)[:3])}")
    with torch.no_grad():
        for name in vision:
            weights[name].copy_(adapter[name])
        model.get_input_embeddings().weight[:CONTROL_COUNT] = adapter["control_rows"].float()
        for layer in layers:
            weight = weights[f"{layer}.weight"]
            weight += adapter[f"{layer}.lora_b"].float() @ adapter[f"{layer}.lora_a"].float()
    return model


def save_adapter(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Write the trained part in bfloat16."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = {
        name: tensor.detach().to(torch.bfloat16).contiguous() for name, tensor in tensors.items()
    }
    with atomic_write(path) as unfinished:
        save_file(half, unfinished, metadata={"format": "pt"})
