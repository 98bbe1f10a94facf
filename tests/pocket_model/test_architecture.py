"""The pocket model computes what its base computes, whatever was put around it."""

import numpy as np
import pytest
import torch
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from pocket_model import tekken
from pocket_model.adapter import VISION_PREFIXES, merge_adapter, save_adapter
from pocket_model.architecture import HEADS, KEY_VALUE_HEADS, assemble, pad_heads

TEXT = "The capital of France is Paris, founded about 250 BC. Die Hauptstadt von Japan: 東京!\n"
# Where the same sums are added in another order, float32 differs in the last digits; logits here
# are of the order of ten.
ROUNDING = 1e-3


@pytest.fixture(scope="module")
def converted(base_tokenizer):
    return tekken.convert(base_tokenizer)


@pytest.fixture(scope="module")
def assembled(base, base_tokenizer, converted):
    return assemble(base, base_tokenizer, converted[1])


@pytest.fixture(scope="module")
def padded(assembled):
    return pad_heads(assembled)


@pytest.fixture(scope="module")
def ids(converted, tmp_path_factory):
    path = tekken.write(converted[0], tmp_path_factory.mktemp("tokenizer"))
    tokenizer = MistralTokenizer.from_file(path).instruct_tokenizer.tokenizer
    return torch.tensor([tokenizer.encode(TEXT, bos=False, eos=False)])


def base_ids_of(ids, converted):
    return torch.from_numpy(converted[1])[ids]


def test_logits_equal_the_bases_bit_by_bit(base, assembled, ids, converted):
    assert isinstance(base, LlamaForCausalLM)
    base_ids = torch.from_numpy(converted[1])
    known = base_ids >= 0
    with torch.no_grad():
        expected = base(base_ids_of(ids, converted)).logits
        found = assembled(ids).logits
    assert torch.equal(found[..., known], expected[..., base_ids[known]])
    assert expected.std() > 1  # not all zero


def test_greedy_text_equals_the_bases(base, padded, ids, converted):
    settings = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
    prompt = ids[:, :12]
    expected = base.generate(base_ids_of(prompt, converted), **settings)
    # Before training, some control tokens have the very row of a word, and tie with it.
    control = list(range(tekken.CONTROL_COUNT))
    found = padded.generate(prompt, suppress_tokens=control, **settings)
    assert torch.equal(base_ids_of(found, converted), expected)


def test_heads_of_zeros_change_no_logit(assembled, padded, ids):
    text = padded.config.text_config
    assert (text.num_attention_heads, text.num_key_value_heads) == (HEADS, KEY_VALUE_HEADS)
    with torch.no_grad():
        expected, found = assembled(ids).logits, padded(ids).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING)
    assert expected.std() > 1


def test_heads_of_zeros_change_no_picture(assembled, padded, ids):
    image, line_break, end = (
        tekken.CONTROL_IDS[name] for name in ("[IMG]", "[IMG_BREAK]", "[IMG_END]")
    )
    # 56 × 84 pixels: two rows of three image tokens
    seen = [image] * 3 + [line_break] + [image] * 3 + [end]
    tokens = torch.cat([torch.tensor([seen]), ids], dim=1)
    inputs = {
        "input_ids": tokens,
        "pixel_values": torch.randn(1, 3, 56, 84, generator=torch.Generator().manual_seed(0)),
        "image_sizes": torch.tensor([[56, 84]]),
    }
    with torch.no_grad():
        expected, found = assembled(**inputs).logits, padded(**inputs).logits
        other = assembled(**{**inputs, "pixel_values": -inputs["pixel_values"]}).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING)
    assert not torch.allclose(other, expected, rtol=0, atol=ROUNDING)  # the picture is read


def test_the_vision_tower_is_the_same_for_the_same_seed(base, base_tokenizer, assembled, converted):
    before = torch.get_rng_state()
    again = assemble(base, base_tokenizer, converted[1], seed=0).state_dict()
    assert torch.equal(torch.get_rng_state(), before)  # the caller's random numbers are untouched
    for name, weight in assembled.state_dict().items():
        assert torch.equal(again[name], weight), name


# --- the adapter -------------------------------------------------------------------------------


@pytest.fixture
def adapter(assembled):
    weights = dict(assembled.named_parameters())
    adapter = {
        name: weight.detach()
        for name, weight in weights.items()
        if name.startswith(VISION_PREFIXES)
    }
    adapter["control_rows"] = torch.randn(tekken.CONTROL_COUNT, 576)
    return adapter


CHANGED = "model.language_model.layers.3.mlp.up_proj"


def test_the_adapter_is_added_to_the_bases_weights(
    base, base_tokenizer, converted, adapter, tmp_path
):
    low, high = torch.randn(4, 576), torch.randn(1536, 4)
    adapter |= {f"{CHANGED}.lora_a": low, f"{CHANGED}.lora_b": high}
    save_adapter(adapter, tmp_path / "adapter.safetensors")
    model = assemble(base, base_tokenizer, converted[1])
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    after = merge_adapter(model, tmp_path / "adapter.safetensors").state_dict()
    rounded = [pair.bfloat16().double().numpy() for pair in (high, low)]
    expected = before[f"{CHANGED}.weight"].double().numpy() + rounded[0] @ rounded[1]
    np.testing.assert_allclose(after[f"{CHANGED}.weight"].numpy(), expected, rtol=0, atol=1e-4)
    rows = after["model.language_model.embed_tokens.weight"]
    assert torch.equal(rows[: tekken.CONTROL_COUNT], adapter["control_rows"].bfloat16().float())
    assert torch.equal(
        rows[tekken.CONTROL_COUNT :],
        before["model.language_model.embed_tokens.weight"][tekken.CONTROL_COUNT :],
    )
    untouched = "model.language_model.layers.4.mlp.up_proj.weight"
    assert torch.equal(after[untouched], before[untouched])


@pytest.mark.parametrize(
    "fault", ["a tensor too many", "one missing", "half a pair", "no such layer", "another shape"]
)
def test_an_adapter_that_does_not_fit_is_refused(fault, assembled, adapter, tmp_path):
    path = tmp_path / "adapter.safetensors"
    save_adapter(adapter, path)
    broken = load_file(path)
    if fault == "a tensor too many":
        broken["strange"] = torch.zeros(1)
    elif fault == "one missing":
        del broken["model.multi_modal_projector.linear_1.weight"]
    elif fault == "half a pair":
        broken[f"{CHANGED}.lora_a"] = torch.zeros(4, 576)
    elif fault == "no such layer":
        name = CHANGED.replace("layers.3", "layers.99")
        broken |= {f"{name}.lora_a": torch.zeros(4, 576), f"{name}.lora_b": torch.zeros(1536, 4)}
    else:
        broken["control_rows"] = torch.zeros(1, 576)
    save_file(broken, path)
    with pytest.raises(ValueError, match="does not fit the model"):
        merge_adapter(assembled, path)
