"""Loading in 4 bits, on tiny random models saved to disk; sizes against arithmetic."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    BitsAndBytesConfig,
    Mistral3Config,
    MistralConfig,
    PreTrainedTokenizerFast,
)

from helpers import loading

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
    model.to(torch.bfloat16).save_pretrained(folder)
    words = {f"w{i}": i for i in range(96)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(MistralConfig(**TEXT))
    return save(model, tmp_path_factory.mktemp("mistral"))


@pytest.fixture(scope="module")
def vision_folder(tmp_path_factory):
    torch.manual_seed(0)
    config = Mistral3Config(
        text_config={"model_type": "mistral", **TEXT},
        vision_config=VISION,
        image_token_index=10,
        tie_word_embeddings=False,
    )
    model = AutoModelForImageTextToText.from_config(config)
    return save(model, tmp_path_factory.mktemp("mistral3"))


@pytest.fixture(scope="module")
def text(text_folder):
    return loading.load_4bit(text_folder)


def test_text_model_quantises_all_blocks_and_keeps_the_head(text):
    assert len(text.quantised_modules) == 2 * LINEARS_PER_LAYER
    assert text.kept_modules == ("lm_head",)
    assert type(text.model).__name__ == "MistralForCausalLM"
    assert text.model.lm_head.weight.dtype == torch.bfloat16


def test_the_settings_are_nf4_double_quant_and_a_16_bit_compute_type(text):
    layer = text.model.model.layers[0].mlp.gate_proj
    assert layer.weight.quant_state.quant_type == "nf4"
    assert layer.weight.quant_state.nested
    assert layer.compute_dtype == text.compute_dtype == loading.best_compute_dtype()


def test_it_answers(text):
    ids = text.tokenizer("w1 w2 w3", return_tensors="pt")
    out = text.model.generate(input_ids=ids["input_ids"], max_new_tokens=3, do_sample=False)
    assert out.shape == (1, 6)


def test_mistral3_keeps_eyes_and_head(vision_folder):
    loaded = loading.load_4bit(vision_folder)
    assert type(loaded.model).__name__ == "Mistral3ForConditionalGeneration"
    assert all(".language_model." in name for name in loaded.quantised_modules)
    assert len(loaded.quantised_modules) == 2 * LINEARS_PER_LAYER
    assert any("vision_tower" in name for name in loaded.kept_modules)
    assert any("multi_modal_projector" in name for name in loaded.kept_modules)
    assert "lm_head" in loaded.kept_modules


def test_mistral3_with_tied_embeddings_keeps_them_tied(tmp_path):
    """As in the pocket model: the head has no weights of its own, and must not get any."""
    config = Mistral3Config(
        text_config={"model_type": "mistral", **TEXT, "tie_word_embeddings": True},
        vision_config=VISION,
        image_token_index=10,
        tie_word_embeddings=True,
    )
    loaded = loading.load_4bit(save(AutoModelForImageTextToText.from_config(config), tmp_path))
    assert len(loaded.quantised_modules) == 2 * LINEARS_PER_LAYER
    assert all(".language_model." in name for name in loaded.quantised_modules)
    head, embeddings = loaded.model.lm_head.weight, loaded.model.get_input_embeddings().weight
    assert head.data_ptr() == embeddings.data_ptr()
    table = loading.footprint(loaded.model)
    assert "lm_head" not in table.index
    assert table.loc["embeddings", "bytes"] == 96 * 64 * 2


@pytest.mark.parametrize(
    ("skipped", "wrongly_quantised"),
    [
        (["vision_tower", "multi_modal_projector", "lm_head"], "vision_tower"),
        (["model.vision_tower", "model.multi_modal_projector"], "lm_head"),
    ],
)
def test_the_two_skip_list_traps_are_noticed(vision_folder, skipped, wrongly_quantised):
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", llm_int8_skip_modules=skipped
    )
    model = AutoModelForImageTextToText.from_pretrained(vision_folder, quantization_config=config)
    quantised, kept = loading.linear_layers(model)
    assert any(wrongly_quantised in name for name in quantised)
    with pytest.raises(RuntimeError, match=wrongly_quantised):
        loading._verify(quantised, kept, list(loading.SKIPPED_IN_MISTRAL3))


@pytest.mark.parametrize("double_quant", [False, True])
def test_footprint_by_arithmetic(text_folder, double_quant):
    table = loading.footprint(loading.load_4bit(text_folder, double_quant=double_quant).model)
    blocks = BLOCK_PARAMETERS // 64
    layers = 2 * LINEARS_PER_LAYER
    if double_quant:  # 8-bit scales; per 256 of them a scale; two tables; an offset
        small_layers = layers  # none has more than 256 blocks of 64
        state = blocks + layers * (16 * 4 + 256 * 4 + 4) + small_layers * 4
    else:
        state = blocks * 4 + layers * 16 * 4
    assert table.loc["quantised weights", "parameters"] == BLOCK_PARAMETERS
    assert table.loc["quantised weights", "bytes"] == BLOCK_PARAMETERS // 2
    assert table.loc["quantisation state", "bytes"] == state
    assert table.loc["embeddings", "bytes"] == 96 * 64 * 2
    assert table.loc["lm_head", "bytes"] == 96 * 64 * 2
    assert table.loc["norms", "bytes"] == 5 * 64 * 2
    assert table.loc["total", "bytes"] == table["bytes"].iloc[:-1].sum()


def test_footprint_counts_every_parameter_once(vision_folder):
    full = AutoModelForImageTextToText.from_pretrained(vision_folder)
    table = loading.footprint(loading.load_4bit(vision_folder).model)
    assert table.loc["total", "parameters"] == sum(p.numel() for p in full.parameters())
    assert {"vision tower", "projector"} <= set(table.index)


def test_footprint_counts_tied_embeddings_once():
    model = AutoModelForCausalLM.from_config(MistralConfig(**{**TEXT, "tie_word_embeddings": True}))
    table = loading.footprint(model)
    assert "lm_head" not in table.index
    assert table.loc["total", "bytes"] == 4 * sum(p.numel() for p in model.parameters())


def test_a_quantised_checkpoint_keeps_its_own_settings(text_folder, tmp_path):
    loaded = loading.load_4bit(text_folder, double_quant=False)
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    again = loading.load_4bit(tmp_path)
    assert again.quantised_modules == loaded.quantised_modules
    assert not again.model.model.layers[0].mlp.up_proj.weight.quant_state.nested


def test_a_card_without_bfloat16_computes_in_float16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert loading.best_compute_dtype() == torch.float16
