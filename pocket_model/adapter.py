"""The trained parts of the pocket model: what `data/pocket` holds and the base does not.

One safetensors file with the vision tower and the projector in full, the rows of the 40 control
tokens, and low-rank changes to the text model's linears (LoRA): a pair A (rank, in) and
B (out, rank) for each, whose product is added to the base's weight.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from helpers.paths import DATA
from pocket_model.tekken import CONTROL_COUNT

PARTS = DATA / "pocket" / "parts.safetensors"
HELD_OUT_REPLIES = DATA / "pocket" / "held_out_replies.json"
EYE = ("model.vision_tower.", "model.multi_modal_projector.")
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def apply_parts(model, path: Path = PARTS):
    """Put the trained parts into an `architecture.assemble`d model, in place; return it.

    Raises:
        ValueError: the file holds something that the model has no place for, or lacks something;
            the model is then unchanged.
    """
    parts = load_file(path)
    weights = dict(model.named_parameters())
    wanted = {name for name in weights if name.startswith(EYE)}
    pairs = {name.removesuffix(".lora_a") for name in parts if name.endswith(".lora_a")}
    expected = wanted | {"control_rows"} | {f"{p}.lora_{ab}" for p in pairs for ab in "ab"}
    strange = (expected ^ set(parts)) | {p for p in pairs if f"{p}.weight" not in weights}
    shapes = {name: weights[name].shape for name in wanted}
    shapes["control_rows"] = (CONTROL_COUNT, model.config.text_config.hidden_size)
    strange |= {name for name in set(shapes) & set(parts) if parts[name].shape != shapes[name]}
    if strange:
        raise ValueError(f"{path.name} does not fit the model: {', '.join(sorted(strange)[:3])}")
    with torch.no_grad():
        for name in wanted:
            weights[name].copy_(parts[name])
        model.get_input_embeddings().weight[:CONTROL_COUNT] = parts["control_rows"].float()
        for name in pairs:
            weight = weights[f"{name}.weight"]
            weight += parts[f"{name}.lora_b"].float() @ parts[f"{name}.lora_a"].float()
    return model


def save_parts(parts: dict[str, torch.Tensor], path: Path) -> None:
    """Write trained parts in bfloat16, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = {name: part.detach().to(torch.bfloat16).contiguous() for name, part in parts.items()}
    unfinished = path.with_suffix(".tmp")
    save_file(half, unfinished, metadata={"format": "pt"})
    unfinished.replace(path)
