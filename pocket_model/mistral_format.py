"""Write a model in Mistral's own format, which the 24B's repositories on the Hub have too.

It consists of `params.json` and `consolidated.safetensors`. vLLM reads it with `--config_format
mistral --load_format mistral`. Two things differ from transformers' format: the names, and the
order of the rows that rotary embeddings rotate. Mistral rotates neighboring rows (0 with 1, 2
with 3 …), transformers row i with row i + half a head. So query and key weights are reordered.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from pocket_model.tekken import CONTROL_IDS, IMAGE

# Applied in this order to the names of transformers' tensors.
RENAMES = {
    "model.language_model.embed_tokens.": "tok_embeddings.",
    "model.language_model.": "",
    "model.vision_tower.": "vision_encoder.",
    "model.multi_modal_projector.norm.": "pre_mm_projector_norm.",
    "model.multi_modal_projector.patch_merger.": "patch_merger.",
    "model.multi_modal_projector.linear_1.": "vision_language_adapter.w_in.",
    "model.multi_modal_projector.linear_2.": "vision_language_adapter.w_out.",
    "lm_head.": "output.",
    ".self_attn.": ".attention.",
    ".q_proj.": ".wq.",
    ".k_proj.": ".wk.",
    ".v_proj.": ".wv.",
    ".o_proj.": ".wo.",
    ".mlp.": ".feed_forward.",
    ".gate_proj.": ".w1.",
    ".down_proj.": ".w2.",
    ".up_proj.": ".w3.",
    ".input_layernorm.": ".attention_norm.",
    ".post_attention_layernorm.": ".ffn_norm.",
}


def write(model, folder: Path) -> None:
    """Save a `Mistral3ForConditionalGeneration` into `folder`, in the model's own dtype."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(params(model.config), indent=2)
    (folder / "params.json").write_text(text + "\n", encoding="utf-8")
    save_file(tensors(model), folder / "consolidated.safetensors", metadata={"format": "pt"})


def params(config) -> dict:
    """The content of `params.json` for a `Mistral3Config`."""
    text, vision = config.text_config, config.vision_config
    return {
        "dim": text.hidden_size,
        "n_layers": text.num_hidden_layers,
        "head_dim": text.head_dim,
        "hidden_dim": text.intermediate_size,
        "n_heads": text.num_attention_heads,
        "n_kv_heads": text.num_key_value_heads,
        "rope_theta": text.rope_parameters["rope_theta"],
        "norm_eps": text.rms_norm_eps,
        "vocab_size": text.vocab_size,
        # The 24B's file has neither of these two: its head has weights of its own, and its
        # context has the 128 thousand tokens that are vLLM's default.
        "tied_embeddings": text.tie_word_embeddings,
        "max_position_embeddings": text.max_position_embeddings,
        "vision_encoder": {
            "hidden_size": vision.hidden_size,
            "num_channels": vision.num_channels,
            "max_image_size": IMAGE["max_image_size"],
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "rope_theta": vision.rope_parameters["rope_theta"],
            "intermediate_size": vision.intermediate_size,
            "num_hidden_layers": vision.num_hidden_layers,
            "num_attention_heads": vision.num_attention_heads,
            "adapter_bias": config.multimodal_projector_bias,
            "mm_projector_id": "patch_merge",
            "spatial_merge_size": config.spatial_merge_size,
            "add_pre_mm_projector_layer_norm": True,
            "image_token_id": config.image_token_index,
            "image_break_token_id": CONTROL_IDS["[IMG_BREAK]"],
            "image_end_token_id": CONTROL_IDS["[IMG_END]"],
        },
    }


def tensors(model) -> dict[str, torch.Tensor]:
    """The model's weights with Mistral's names and row order."""
    text, vision = model.config.text_config, model.config.vision_config
    heads = {
        "layers": {"wq": text.num_attention_heads, "wk": text.num_key_value_heads},
        "vision_encoder": dict.fromkeys(("wq", "wk"), vision.num_attention_heads),
    }
    weights = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and text.tie_word_embeddings:
            continue  # the same tensor as the embeddings
        for theirs, mistrals in RENAMES.items():
            name = name.replace(theirs, mistrals)
        part, projection = name.split(".")[0], name.split(".")[-2]
        if projection in heads.get(part, ()):
            tensor = interleave_halves(tensor, heads[part][projection])
        weights[name] = tensor.contiguous()
    return weights


def interleave_halves(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Reorder a weight of shape (heads × head size, hidden) from transformers' rows to Mistral's.

    Rows i and i + half of each head, which rotary embeddings rotate together, become neighbors.
    """
    halves = weight.unflatten(0, (heads, 2, -1))
    return halves.transpose(1, 2).reshape(weight.shape)
