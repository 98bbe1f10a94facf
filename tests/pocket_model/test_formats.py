"""The built folder's three formats hold one model: transformers', Mistral's own, and NF4."""

import json

import numpy as np
import pytest
import torch
from bitsandbytes.nn import Linear4bit
from safetensors.torch import load_file
from transformers import AutoTokenizer, Mistral3ForConditionalGeneration
from transformers.core_model_loading import PermuteForRope

from helpers.model.loading import load_4bit
from helpers.paths import ROOT
from pocket_model import __main__ as pocket_main
from pocket_model import build, tekken
from pocket_model.adapter import VISION_PREFIXES
from pocket_model.mistral_format import interleave_halves

IMAGE, BREAK, END = (tekken.CONTROL_IDS[name] for name in ("[IMG]", "[IMG_BREAK]", "[IMG_END]"))


@pytest.fixture(scope="module")
def model(model_folder):
    return Mistral3ForConditionalGeneration.from_pretrained(model_folder, dtype=torch.float32)


@pytest.fixture(scope="module")
def params(model_folder):
    return json.loads((model_folder / "mistral" / "params.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def weights(model_folder):
    return load_file(model_folder / "mistral" / "consolidated.safetensors")


@pytest.fixture(scope="module")
def ids(model_folder):
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    chat = [{"role": "user", "content": "Name three colors, and add 17 to 25."}]
    return tokenizer.apply_chat_template(chat, return_tensors="pt", return_dict=True)["input_ids"]


# --- transformers' format --------------------------------------------------------------------


def test_transformers_finds_mistrals_tokenizer(model_folder):
    for folder in (model_folder, model_folder / "nf4"):
        assert type(AutoTokenizer.from_pretrained(folder)).__name__ == "MistralCommonBackend"


def test_the_saved_weights_are_base_plus_adapter_rounded_to_bf16(model_folder, base, model):
    """Built up again with numpy, from the two files, in double precision."""
    saved = load_file(model_folder / "model.safetensors")
    adapter = load_file(build.find_adapter())
    own = dict(base.named_parameters())
    compared = 0
    for name, weight in own.items():
        if name == "model.embed_tokens.weight":
            continue
        theirs = name.replace("model.", "model.language_model.", 1)
        stored = name.replace("model.", "language_model.model.", 1)
        expected = weight.detach().double().numpy()
        pair = theirs.removesuffix(".weight")
        if f"{pair}.lora_a" in adapter:
            low, high = (adapter[f"{pair}.lora_{ab}"].double().numpy() for ab in "ab")
            expected = expected + high @ low
            compared += 1
        found = saved[stored].double().numpy()
        inside = tuple(slice(size) for size in expected.shape)
        # Half a step of bfloat16's eight bits.
        np.testing.assert_allclose(found[inside], expected, rtol=2**-8, atol=1e-6)
        outside = found.copy()
        outside[inside] = 0
        assert not outside.any(), f"{name}: the padding is not zero"
    assert compared > 0
    for name in adapter:
        if name.startswith(VISION_PREFIXES):
            assert torch.equal(saved[name.removeprefix("model.")], adapter[name]), name
    rows = saved["language_model.model.embed_tokens.weight"]
    assert torch.equal(rows[: tekken.CONTROL_COUNT], adapter["control_rows"])


def test_the_size_that_the_texts_name_counts_no_padding(model):
    """Each of the four projections is padded by one third: 9 heads to 12, and 3 to 4."""
    padding = sum(p.numel() // 4 for name, p in model.named_parameters() if ".self_attn." in name)
    assert round((model.num_parameters() - padding) / 1e6) == 142
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for size in (model.num_parameters() - padding, model.num_parameters(), padding):
        assert f"{size / 1e6:.0f} million" in " ".join(text.split())
    assert "142 million" in pocket_main.__doc__


def test_it_generates_with_transformers_alone(model_folder, model, ids):
    settings = model.generation_config
    assert (settings.temperature, settings.do_sample) == (build.DEFAULT_TEMPERATURE, True)
    answer = model.generate(ids, max_new_tokens=4, do_sample=False)
    assert torch.equal(answer[:, : ids.shape[1]], ids)
    with torch.no_grad():
        assert answer[0, ids.shape[1]] == model(ids).logits[0, -1].argmax()


# --- Mistral's format ------------------------------------------------------------------------
#
# Read by Mistral's own definition of it: rotary embeddings as products of complex numbers, one for
# each pair of neighbouring rows.


def norm(states, weight, epsilon=1e-5):
    return states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + epsilon) * weight


def turn(states, angles):
    """States (tokens, heads, head size), angles (tokens, head size / 2)."""
    pairs = torch.view_as_complex(states.unflatten(-1, (-1, 2)).contiguous())
    turned = pairs * torch.polar(torch.ones_like(angles), angles)[:, None]
    return torch.view_as_real(turned).flatten(-2)


def layers(states, weights, prefix, count, heads, key_value_heads, angles, causal):
    for layer in range(count):

        def part(name, layer=layer):
            return weights[f"{prefix}layers.{layer}.{name}.weight"].float()

        seen = norm(states, part("attention_norm"))
        query, key, value = (
            (seen @ part(f"attention.w{which}").T).unflatten(-1, (number, -1))
            for which, number in (("q", heads), ("k", key_value_heads), ("v", key_value_heads))
        )
        query, key = turn(query, angles), turn(key, angles)
        key, value = (x.repeat_interleave(heads // key_value_heads, dim=1) for x in (key, value))
        scores = torch.einsum("qhd,khd->hqk", query, key) / query.shape[-1] ** 0.5
        if causal:
            scores += torch.full_like(scores, -torch.inf).triu(1)
        mixed = torch.einsum("hqk,khd->qhd", scores.softmax(-1), value).flatten(1)
        states = states + mixed @ part("attention.wo").T
        seen = norm(states, part("ffn_norm"))
        gate = torch.nn.functional.silu(seen @ part("feed_forward.w1").T)
        states = states + (gate * (seen @ part("feed_forward.w3").T)) @ part("feed_forward.w2").T
    return states


def frequencies(size, theta):
    return 1.0 / theta ** (torch.arange(0, size, 2).float() / size)


def test_mistrals_text_weights_give_the_same_logits(model, params, weights, ids):
    embeddings = weights["tok_embeddings.weight"].float()
    angles = torch.outer(
        torch.arange(ids.shape[1]).float(), frequencies(params["head_dim"], params["rope_theta"])
    )
    heads = params["n_heads"], params["n_kv_heads"]
    states = layers(embeddings[ids[0]], weights, "", params["n_layers"], *heads, angles, True)
    assert params["tied_embeddings"]
    found = norm(states, weights["norm.weight"].float(), params["norm_eps"]) @ embeddings.T
    with torch.no_grad():
        expected = model(ids).logits[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)
    assert expected.std() > 1


def test_mistrals_vision_weights_give_the_same_image_tokens(model, params, weights):
    vision = params["vision_encoder"]
    pixels = torch.randn(1, 3, 84, 56, generator=torch.Generator().manual_seed(5))
    patches = torch.nn.functional.conv2d(
        pixels, weights["vision_encoder.patch_conv.weight"].float(), stride=vision["patch_size"]
    )[0]
    rows, columns = patches.shape[1:]
    states = norm(patches.flatten(1).T, weights["vision_encoder.ln_pre.weight"].float())
    heads = vision["num_attention_heads"]
    steps = frequencies(vision["hidden_size"] // heads, vision["rope_theta"])
    down, across = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = torch.cat(
        [torch.outer(down.flatten(), steps[::2]), torch.outer(across.flatten(), steps[1::2])], dim=1
    )
    prefix, count = "vision_encoder.transformer.", vision["num_hidden_layers"]
    states = layers(states, weights, prefix, count, heads, heads, angles, False)
    states = norm(states, weights["pre_mm_projector_norm.weight"].float())
    merge = vision["spatial_merge_size"]
    grid = states.T.unflatten(1, (rows // merge, merge, columns // merge, merge))
    cells = grid.permute(1, 3, 0, 2, 4).flatten(2).flatten(0, 1)
    states = cells @ weights["patch_merger.merging_layer.weight"].float().T
    states = torch.nn.functional.gelu(
        states @ weights["vision_language_adapter.w_in.weight"].float().T
    )
    found = states @ weights["vision_language_adapter.w_out.weight"].float().T
    with torch.no_grad():
        features = model.get_image_features(pixels, torch.tensor([[84, 56]]))
    expected = features.pooler_output[0]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.std()))
    assert len(found) == 6


def test_the_row_order_is_what_transformers_turns_back(model, weights):
    """`PermuteForRope` is transformers' own way from Mistral's layout to its own."""
    vision = model.config.vision_config
    for projection, theirs in (("wq", "q_proj"), ("wk", "k_proj")):
        stored = weights[f"vision_encoder.transformer.layers.1.attention.{projection}.weight"]
        back = PermuteForRope().convert({"w": stored}, ["w"], ["w"], config=vision)["w"]
        own = model.model.vision_tower.transformer.layers[1].attention
        assert torch.equal(back.float(), getattr(own, theirs).weight)
        assert not torch.equal(back, stored)


def test_the_rows_of_one_head_by_hand():
    rows = torch.arange(8).float()[:, None]
    assert interleave_halves(rows, 1).flatten().tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert interleave_halves(rows, 2).flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_all_tokenizer_files_are_one(model_folder):
    file = (model_folder / "tekken.json").read_bytes()
    for folder in ("mistral", "nf4"):
        assert (model_folder / folder / "tekken.json").read_bytes() == file


# --- NF4 -------------------------------------------------------------------------------------


def test_the_nf4_folder_is_the_model_quantized_here(model_folder, ids):
    """Reloaded, against a fresh model quantized in memory before it computes anything."""
    reloaded = load_4bit(model_folder / "nf4", compute_dtype=torch.bfloat16, device_map="cpu").model
    fresh = load_4bit(model_folder, compute_dtype=torch.bfloat16, device_map="cpu").model
    settings = reloaded.config.quantization_config
    assert (settings.bnb_4bit_quant_type, settings.bnb_4bit_use_double_quant) == ("nf4", True)
    in_4_bits = {n for n, m in reloaded.named_modules() if isinstance(m, Linear4bit)}
    assert len(in_4_bits) == 30 * 7
    assert all(".language_model.layers." in name for name in in_4_bits)
    with torch.no_grad():
        found, expected = reloaded(ids).logits, fresh(ids).logits
    assert torch.equal(found, expected)
    assert expected.float().std() > 1


def test_vision_tower_and_embeddings_are_not_quantized(model_folder):
    nf4 = load_file(model_folder / "nf4" / "model.safetensors")
    full = load_file(model_folder / "model.safetensors")
    vision = tuple(name.removeprefix("model.") for name in VISION_PREFIXES)
    unchanged = [name for name in full if name.startswith(vision) or "embed_tokens" in name]
    assert len(unchanged) > 40
    for name in unchanged:
        assert nf4[name].dtype == torch.bfloat16
        assert torch.equal(nf4[name], full[name]), name
