"""The pocket model's architecture: the classes of Mistral Small 3.1 and 3.2, much smaller.

`Mistral3ForConditionalGeneration` joins three parts, here as in the 24B: a Pixtral vision tower,
a projector that merges 2 × 2 patches into one token, and a Mistral text model. The text model's
weights are the base's; vision tower, projector and adapter come from `data/pocket`.
"""

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    PixtralVisionConfig,
)

from pocket_model.tekken import CONTROL_IDS, CONTROL_TABLE, IMAGE

# The base has 9 query heads and 3 key-value heads, which cannot be divided among 2 or 4 devices.
# Heads of zeros make them 12 and 4, so that the model can be sharded as the 24B can.
HEADS, KEY_VALUE_HEADS = 12, 4


SPECIAL_IDS = {
    "bos_token_id": CONTROL_IDS["<s>"],
    "eos_token_id": CONTROL_IDS["</s>"],
    "pad_token_id": CONTROL_IDS["<pad>"],
}


def configuration(
    base_config, vocabulary: int, *, heads: int | None = None, key_value_heads: int | None = None
) -> Mistral3Config:
    """The `Mistral3Config` around a base's text config.

    Args:
        base_config: the base's own config (a Llama's or Mistral's).
        vocabulary: size of the Tekken vocabulary, control tokens included.
        heads, key_value_heads: default: the base's.
    """
    text = MistralConfig(
        vocab_size=vocabulary,
        hidden_size=base_config.hidden_size,
        intermediate_size=base_config.intermediate_size,
        num_hidden_layers=base_config.num_hidden_layers,
        num_attention_heads=heads or base_config.num_attention_heads,
        num_key_value_heads=key_value_heads or base_config.num_key_value_heads,
        head_dim=base_config.head_dim,
        max_position_embeddings=base_config.max_position_embeddings,
        rms_norm_eps=base_config.rms_norm_eps,
        rope_parameters=base_config.rope_parameters,
        sliding_window=None,
        tie_word_embeddings=True,
        **SPECIAL_IDS,
    )
    vision = PixtralVisionConfig(
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=4,
        image_size=IMAGE["max_image_size"],
        patch_size=IMAGE["image_patch_size"],
        hidden_act="silu",
    )
    return Mistral3Config(
        text_config=text,
        vision_config=vision,
        image_token_index=CONTROL_IDS["[IMG]"],
        spatial_merge_size=IMAGE["spatial_merge_size"],
        multimodal_projector_bias=False,
        tie_word_embeddings=True,
        **SPECIAL_IDS,
    )


def assemble(base, base_tokenizer, base_ids: np.ndarray, *, seed: int = 0):
    """The untrained pocket model: text weights of the base, a random vision tower and projector.

    Args:
        base: the base model, a `LlamaForCausalLM`, in float32.
        base_tokenizer: its fast tokenizer.
        base_ids: shape (vocabulary,), from `tekken.convert`.
        seed: for the weights of vision tower and projector.

    Returns:
        A `Mistral3ForConditionalGeneration` in float32, in evaluation mode.
    """
    config = configuration(base.config, len(base_ids))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Mistral3ForConditionalGeneration(config)
    state = base.model.state_dict()
    state["embed_tokens.weight"] = embedding_rows(base, base_tokenizer, base_ids)
    model.model.language_model.load_state_dict(state, strict=True)
    model.tie_weights()
    model.generation_config = GenerationConfig(**SPECIAL_IDS)
    return model.eval()


def embedding_rows(base, base_tokenizer, base_ids: np.ndarray) -> torch.Tensor:
    """The base's embeddings in Tekken's order, shape (vocabulary, hidden).

    Tokens that the base lacks get the mean of all rows: single bytes, which no text in the base's
    languages contains, and those control tokens for which `CONTROL_TABLE` names no base tokens.
    """
    rows = base.get_input_embeddings().weight.detach()
    table = rows.mean(dim=0).repeat(len(base_ids), 1)
    known = torch.from_numpy(base_ids >= 0)
    table[known] = rows[torch.from_numpy(base_ids)[known]]
    for token_id, _, base_tokens in CONTROL_TABLE:
        if base_tokens:
            ids = base_tokenizer.convert_tokens_to_ids(list(base_tokens))
            table[token_id] = rows[ids].mean(dim=0)
    return table


def pad_heads(model):
    """A copy of the model with 12 query and 4 key-value heads; the added heads are zeros.

    A head whose values or output weights are zero adds nothing, so no logit changes.
    """
    text = model.config.text_config
    config = configuration(text, text.vocab_size, heads=HEADS, key_value_heads=KEY_VALUE_HEADS)
    padded = Mistral3ForConditionalGeneration(config).to(model.dtype)
    weights = padded.state_dict()
    for name, tensor in model.state_dict().items():
        weights[name].zero_()
        weights[name][tuple(slice(size) for size in tensor.shape)] = tensor
    padded.generation_config = model.generation_config
    return padded.eval()
