"""Tiny random models: text and image-text models to save and load, and a thin pocket model."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    LlamaConfig,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    PreTrainedTokenizerFast,
)

from pocket_model.architecture import configuration

TEXT = {
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 96,
    "tie_word_embeddings": False,
    "sliding_window": None,
}
VISION = {
    "model_type": "pixtral",
    "num_hidden_layers": 1,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "head_dim": 32,
    "image_size": 56,
    "patch_size": 14,
}
LINEARS_PER_LAYER = 7
BLOCK_PARAMETERS = 2 * (64 * 128 + 2 * 64 * 64 + 128 * 64 + 3 * 64 * 128)


def save(model, folder):
    """Save a model in bfloat16 with a tokenizer of 96 words; returns the folder."""
    model.to(torch.bfloat16).save_pretrained(folder)
    vocabulary = {f"w{i}": i for i in range(96)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    return folder


def text_model():
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(MistralConfig(**TEXT))


def vision_model():
    torch.manual_seed(0)
    config = Mistral3Config(
        text_config={"model_type": "mistral", **TEXT},
        vision_config=VISION,
        image_token_index=10,
        tie_word_embeddings=False,
    )
    return AutoModelForImageTextToText.from_config(config)


def thin_model(seed: int = 0):
    """The pocket model's class and vocabulary, with two layers of width 64."""
    shape = LlamaConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        head_dim=16,
        max_position_embeddings=2048,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_theta": 1e5, "rope_type": "default"},
    )
    torch.manual_seed(seed)
    return Mistral3ForConditionalGeneration(
        configuration(shape, 49_196, heads=4, key_value_heads=2)
    ).eval()


def sharp_model(seed: int = 0):
    """A thin model whose attention and gates are far from uniform, so that errors show."""
    model = thin_model(seed)
    with torch.no_grad():
        for weight in model.model.language_model.parameters():
            if weight.ndim == 1:
                weight += 0.3 * torch.randn(weight.shape)
            else:
                weight *= 6
    return model
