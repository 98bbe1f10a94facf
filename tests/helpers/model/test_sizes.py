"""Sizes and limits against independent truths: real bitsandbytes loads, filled caches, encoders.

`python tests/helpers/model/test_sizes.py` prints predicted and measured bytes of all shapes.
"""

import json
import os
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path

import pytest
import torch
from mistral_common.protocol.instruct.chunk import ImageChunk
from mistral_common.tokens.tokenizers.image import ImageConfig, ImageEncoder, SpecialImageIDs
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    DynamicCache,
    Gemma2Config,
    LlamaConfig,
    Mistral3Config,
    MistralConfig,
    PixtralVisionConfig,
    Qwen2Config,
)
from transformers.integrations.fbgemm_fp8 import FbgemmFp8Linear
from transformers.models.pixtral.modeling_pixtral import PixtralVisionModel

from helpers.model import configs, sizes

GIB = 1024**3


def shape(layers, hidden, ffn, heads, kv_heads, head_dim, vocab=130, **more):
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "vocab_size": vocab,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
    } | more


def mistral(*dimensions, **more):
    return MistralConfig(**shape(*dimensions, **{"sliding_window": None} | more))


def mistral3(vision_layers, vision_hidden, vision_ffn, *dimensions, tied=False, bias=False):
    return Mistral3Config(
        text_config={"model_type": "mistral", **shape(*dimensions, sliding_window=None)},
        vision_config={
            "model_type": "pixtral",
            "num_hidden_layers": vision_layers,
            "hidden_size": vision_hidden,
            "intermediate_size": vision_ffn,
            "num_attention_heads": vision_hidden // 16,
            "head_dim": 16,
            "image_size": 112,
            "patch_size": 14,
        },
        image_token_index=10,
        multimodal_projector_bias=bias,
        tie_word_embeddings=tied,
        dtype="bfloat16",
    )


SHAPES = {
    "mistral, short last blocks": mistral(2, 72, 100, 3, 1, 24),
    "mistral, tied": mistral(3, 64, 160, 4, 2, 16, 96, tie_word_embeddings=True),
    "mistral, heads ≠ hidden": mistral(2, 160, 288, 4, 2, 32),
    "mistral, 6M": mistral(2, 512, 1024, 8, 2, 64, 2048),
    "llama, biases": LlamaConfig(
        **shape(2, 64, 96, 4, 4, 16, attention_bias=True, mlp_bias=True),
    ),
    "qwen2": Qwen2Config(**shape(2, 96, 128, 6, 2, 16)),
    "gemma2, tied": Gemma2Config(**shape(4, 64, 96, 4, 2, 32) | {"tie_word_embeddings": True}),
    "mistral3": mistral3(2, 64, 100, 2, 96, 160, 4, 2, 32),
    "mistral3, tied, bias": mistral3(1, 32, 72, 2, 64, 96, 4, 1, 16, tied=True, bias=True),
}


def saved(config, folder):
    torch.manual_seed(0)
    configs.auto_class(config).from_config(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Every shape with random weights, on disk."""
    root = tmp_path_factory.mktemp("shapes")
    return {n: saved(c, root / str(i)) for i, (n, c) in enumerate(SHAPES.items())}


def tensors_of(parameter):
    """A parameter's own tensor and all that bitsandbytes keeps beside it."""
    yield parameter.data
    state = getattr(parameter, "quant_state", None)
    if state is not None:
        yield state.absmax
        yield state.code
        if state.nested:
            yield state.offset
            yield state.state2.absmax
            yield state.state2.code
    scales = getattr(parameter, "SCB", None)
    if scales is not None:
        yield scales


def measured_bytes(folder, config, scheme, quantize_vision=False):
    """The bytes of a model that really is in memory: loaded from disk in `scheme`."""
    if scheme == "fp8":
        return measured_fp8_bytes(config)
    kept = ["lm_head"]
    if not quantize_vision:
        kept += ["model.vision_tower", "model.multi_modal_projector"]
    quantization = {
        "bf16": None,
        "int8": BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept),
    }
    for name in ("nf4", "nf4-dq"):
        quantization[name] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=name == "nf4-dq",
            bnb_4bit_compute_dtype=torch.bfloat16,
            llm_int8_skip_modules=kept,
        )
    model = configs.auto_class(config).from_pretrained(
        folder, dtype=torch.bfloat16, quantization_config=quantization[scheme], device_map="cpu"
    )
    return sum(t.nbytes for p in model.parameters() for t in tensors_of(p))


def measured_fp8_bytes(config):
    """The text model's linear layers replaced by transformers' own fp8 layer, on meta."""
    model = configs.empty_model(config).to(torch.bfloat16)
    for name, module in list(model.named_modules()):
        in_vision = "vision_tower" in name or "projector" in name
        if isinstance(module, torch.nn.Linear) and name != "lm_head" and not in_vision:
            with torch.device("meta"):
                layer = FbgemmFp8Linear(module.in_features, module.out_features, bias=False)
            layer.bias = module.bias
            model.set_submodule(name, layer)
    return sum(p.nbytes for p in model.parameters())


# Weights


@pytest.mark.parametrize("scheme", sizes.SCHEMES)
@pytest.mark.parametrize("name", SHAPES)
def test_weights_of_real_loads_to_the_byte(checkpoints, name, scheme):
    config = SHAPES[name]
    assert sizes.weight_bytes(config, scheme) == measured_bytes(checkpoints[name], config, scheme)


@pytest.mark.parametrize("scheme", ["int8", "nf4", "nf4-dq"])
@pytest.mark.parametrize("name", [name for name in SHAPES if name.startswith("mistral3")])
def test_a_quantized_vision_tower_to_the_byte(checkpoints, name, scheme):
    config = SHAPES[name]
    measured = measured_bytes(checkpoints[name], config, scheme, quantize_vision=True)
    assert sizes.weight_bytes(config, scheme, quantize_vision=True) == measured


@pytest.mark.parametrize("name", configs.names())
def test_parameters_and_bf16_bytes_of_the_real_shapes(name):
    config = configs.load(name)
    published = configs.about(name)["published_parameters"]
    assert sizes.parameters(config) == published
    assert sizes.weight_bytes(config, "bf16") == 2 * published
    assert sizes.weight_bytes(config, "fp8") == measured_fp8_bytes(config)


@pytest.mark.parametrize(
    ("name", "scheme", "quantize_vision", "gib"),
    [
        ("small-3", "nf4", False, 14.15),
        ("small-3", "nf4-dq", False, 13.18),
        ("small-3.2", "nf4", True, 14.38),
        ("small-3.2", "nf4-dq", True, 13.39),
        ("small-3.2", "nf4", False, 14.96),
        ("small-3.2", "nf4-dq", False, 14.00),
        ("mistral-7b-v0.1", "nf4", False, 4.15),
        ("mistral-7b-v0.1", "nf4-dq", False, 3.84),
    ],
)
def test_four_bit_sizes_of_the_real_shapes(name, scheme, quantize_vision, gib):
    size = sizes.weight_bytes(configs.load(name), scheme, quantize_vision=quantize_vision)
    assert round(size / GIB, 2) == gib


def test_weights_on_disk():
    assert sizes.weight_bytes(configs.load("small-3"), "bf16") == 47_144_806_400


# KV cache

CACHED = {
    "full": mistral(2, 64, 96, 4, 2, 16),
    "no grouping": mistral(2, 64, 96, 4, 4, 16),
    "sliding": mistral(2, 64, 96, 4, 2, 16, sliding_window=16),
    "alternating": Gemma2Config(**shape(4, 64, 96, 4, 2, 32), sliding_window=16),
    "qwen2": Qwen2Config(**shape(2, 96, 128, 6, 2, 16)),
    "mistral3": mistral3(1, 32, 64, 2, 64, 96, 4, 2, 32),
}


@pytest.fixture(scope="module")
def cached_models():
    return {name: configs.auto_class(config).from_config(config) for name, config in CACHED.items()}


@pytest.mark.parametrize("tokens", [1, 15, 16, 40])
@pytest.mark.parametrize("name", CACHED)
@torch.no_grad()
def test_kv_cache_really_filled(cached_models, name, tokens):
    """All but the last token read at once, the last one alone; two sequences."""
    config, model = CACHED[name], cached_models[name]
    cache = DynamicCache(config=config)
    for part in torch.zeros(2, tokens, dtype=torch.long).split([tokens - 1, 1], dim=1):
        if part.shape[1]:
            model(input_ids=part, past_key_values=cache)
    tensors = [t for layer in cache.layers for t in (layer.keys, layer.values)]
    measured = sum(t.nbytes for t in tensors)
    assert sizes.kv_cache_bytes(config, tokens, batch=2, dtype=tensors[0].dtype) == measured
    # What PyTorch holds for it: a cut-off cache is a view of one token more.
    held = sum(t.untyped_storage().nbytes() for t in tensors)
    assert measured <= held <= measured * 16 / 15


def test_the_fixture_has_both_kinds_of_layers():
    assert sizes.sliding_windows(CACHED["alternating"]) == [16, None, 16, None]
    assert sizes.sliding_windows(CACHED["sliding"]) == [16, 16]
    assert sizes.sliding_windows(CACHED["full"]) == [None, None]


@pytest.mark.parametrize(
    ("name", "kib"),
    [
        ("small-3", 160),
        ("small-3.2", 160),
        ("mistral-7b-v0.1", 128),
        ("mistral-7b-v0.3", 128),
        ("llama-3.3-70b", 320),
        ("qwen2.5-32b", 256),
        ("gemma-2-27b", 368),
        ("llama-2-13b", 800),
    ],
)
def test_kv_cache_per_token(name, kib):
    config = configs.load(name)
    assert sizes.kv_cache_bytes(config, 1) == kib * 1024
    assert sizes.kv_cache_bytes(config, 1, dtype="fp8") == kib * 512


def test_a_window_stops_the_cache_growing():
    config = configs.load("mistral-7b-v0.1")
    assert sizes.kv_cache_bytes(config, 32768) == sizes.kv_cache_bytes(config, 4095)
    assert sizes.kv_cache_bytes(config, 4095) == 4095 * 128 * 1024
    gemma = configs.load("gemma-2-27b")
    assert sizes.kv_cache_bytes(gemma, 8192) == 368 * 1024 * (4095 + 8192) // 2


# Pictures


@pytest.mark.parametrize(
    "size",
    [
        (1, 1),
        (28, 28),
        (29, 28),
        (448, 448),
        (640, 480),
        (800, 600),
        (1000, 600),
        (1024, 768),
        (1540, 1540),
        (1541, 1540),
        (2000, 1333),
        (3000, 40),
        (1, 3100),
    ],
)
def test_image_tokens_of_mistral_commons_encoder(size):
    encoder = ImageEncoder(ImageConfig(14, 1540, 2), SpecialImageIDs(10, 12, 13))
    tokens = encoder(ImageChunk(image=Image.new("RGB", size))).tokens
    assert sizes.image_tokens(*size, configs.load("small-3.2")) == len(tokens)


def test_image_tokens_of_the_encoder_over_many_small_sizes():
    """A model that takes 112 pixels at most, so that most of these are shrunk."""
    config = SHAPES["mistral3"]
    encoder = ImageEncoder(ImageConfig(14, 112, 2), SpecialImageIDs(10, 12, 13))
    for width in range(1, 300, 13):
        for height in range(1, 300, 17):
            tokens = encoder(ImageChunk(image=Image.new("RGB", (width, height)))).tokens
            assert sizes.image_tokens(width, height, config) == len(tokens), (width, height)


@pytest.mark.parametrize(
    ("size", "tokens"),
    [((1540, 1540), 3080), ((1000, 600), 814), ((4000, 3000), 2352), ((448, 448), 272)],
)
def test_image_tokens_of_known_sizes(size, tokens):
    assert sizes.image_tokens(*size, configs.load("small-3.1")) == tokens


# The roofline

H100 = 3350e9


@pytest.mark.parametrize(
    ("bandwidth", "scheme", "tokens_per_s", "digits"),
    [
        (1008e9, "nf4", 72.8, 1),
        (1008e9, "nf4-dq", 78.7, 1),
        (2039e9, "bf16", 44.5, 1),
        (2039e9, "nf4", 147, 0),
        (2039e9, "nf4-dq", 159, 0),
        (H100, "bf16", 73, 0),
        (H100, "nf4", 242, 0),
        (H100, "nf4-dq", 261, 0),
        (4800e9, "bf16", 105, 0),
        (4800e9, "nf4", 347, 0),
        (4800e9, "nf4-dq", 375, 0),
        (300e9, "nf4", 21.7, 1),
        (300e9, "nf4-dq", 23.4, 1),
        (400e9, "bf16", 8.7, 1),
        (400e9, "nf4", 28.9, 1),
    ],
)
def test_decode_limits_of_the_24b(bandwidth, scheme, tokens_per_s, digits):
    limit = sizes.decode_limit(configs.load("small-3"), scheme, bandwidth)
    assert round(limit, digits) == tokens_per_s


def test_the_vision_tower_does_not_slow_down_decoding():
    text, vision = configs.load("small-3"), configs.load("small-3.2")
    assert sizes.decode_limit(text, "nf4", H100) == sizes.decode_limit(vision, "nf4", H100)


def test_a_tied_head_is_read_too():
    tied, untied = (
        mistral(2, 64, 96, 4, 2, 16, 4096, tie_word_embeddings=tie) for tie in (True, False)
    )
    assert sizes.decode_limit(tied, "bf16", H100) == sizes.decode_limit(untied, "bf16", H100)


def test_context_slows_down_and_a_batch_shares_the_weights():
    config = configs.load("small-3.2")
    alone = sizes.decode_limit(config, "nf4", H100)
    assert sizes.decode_limit(config, "nf4", H100, context=32768) == pytest.approx(
        1 / (1 / alone + 32768 * 160 * 1024 / H100)
    )
    assert sizes.decode_limit(config, "nf4", H100, batch=8) == pytest.approx(8 * alone)
    many = sizes.decode_limit(config, "nf4", H100, context=8192, batch=64)
    assert many < H100 / (8192 * 160 * 1024)  # the caches alone


@pytest.mark.parametrize("name", ["full", "no grouping", "mistral3"])
@torch.no_grad()
def test_prefill_operations_as_pytorch_counts_them(cached_models, name):
    """Eager attention multiplies every pair of tokens; only those that look back are needed."""
    config, model, tokens = CACHED[name], cached_models[name], 50
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.zeros(1, tokens, dtype=torch.long), logits_to_keep=1)
    model.set_attn_implementation("sdpa")
    counts = {str(op): n for op, n in counter.get_flop_counts()["Global"].items()}
    attention = counts["aten.bmm"] * (tokens + 1) / (2 * tokens)
    text = config.get_text_config()
    linear = counts["aten.mm"] - 2 * text.vocab_size * text.hidden_size
    assert sizes.prefill_flop(config, tokens) == linear + attention


def test_prefill_of_the_24b():
    config = configs.load("small-3")
    flop = 2 * 22.23e9 * 8192 + 2 * 40 * 4096 * 8192**2
    assert sizes.prefill_flop(config, 8192) == pytest.approx(flop, rel=1e-3)
    limit = sizes.prefill_limit(config, 8192, 989e12)
    assert limit == pytest.approx(8192 / (flop / 989e12), rel=1e-3)
    # Ten tokens are over before the weights have come from memory.
    assert sizes.prefill_limit(config, 10, 989e12, "nf4", H100) == pytest.approx(
        10 * sizes.decode_limit(config, "nf4", H100)
    )


def test_a_window_saves_operations():
    window, full = configs.load("mistral-7b-v0.1"), configs.load("mistral-7b-v0.3")
    assert sizes.prefill_flop(window, 4096) == sizes.prefill_flop(full, 4096)
    pairs = sum(min(i, 4096) for i in range(1, 32769))
    saved = 4 * 32 * 128 * 32 * (32768 * 32769 // 2 - pairs)
    assert sizes.prefill_flop(full, 32768) - sizes.prefill_flop(window, 32768) == saved


# Activations


class PeakMemory(TorchDispatchMode):
    """The most bytes of new tensors alive at once, as operations make and drop them."""

    def __init__(self, known):
        super().__init__()
        self.known = {t.untyped_storage()._cdata for t in known}
        self.live = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor.untyped_storage())
        return out

    def add(self, storage):
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.known.add(key)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self.drop, key, size)

    def drop(self, key, size):
        self.known.discard(key)
        self.live -= size


@pytest.mark.parametrize(
    ("dimensions", "context", "chunk"),
    [
        ((1, 256, 1024, 8, 2, 32), 512, 512),
        ((1, 256, 3072, 8, 2, 32), 256, 256),
        ((1, 256, 1024, 8, 2, 32), 1024, 256),
        ((1, 256, 2048, 8, 8, 32), 1024, 256),
        ((1, 256, 256, 16, 4, 64), 1024, 128),
    ],
)
@torch.no_grad()
def test_activations_as_pytorch_allocates_them(dimensions, context, chunk):
    config = mistral(*dimensions)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    ids, cache = torch.zeros(1, context, dtype=torch.long), DynamicCache(config=config)
    with PeakMemory([*model.parameters(), *model.buffers(), ids]) as memory:
        for part in ids.split(chunk, dim=1):
            model(input_ids=part, past_key_values=cache, logits_to_keep=1)
    measured = memory.peak - sizes.kv_cache_bytes(config, context)
    estimate = sizes.activation_bytes(config, "bf16", context, prefill_chunk=chunk)
    assert measured <= estimate <= 1.25 * measured


@pytest.mark.parametrize("images", [1, 3])
@torch.no_grad()
def test_activations_of_the_vision_tower(images):
    """Three pictures need more than three times as much: the mask grows with the square."""
    config = mistral3(2, 64, 256, 2, 64, 96, 4, 2, 32)
    config.vision_config = PixtralVisionConfig(
        **config.vision_config.to_dict() | {"image_size": 280}
    )
    tower = PixtralVisionModel(config.vision_config).to(torch.bfloat16)
    pixels = torch.zeros(images, 3, 280, 280, dtype=torch.bfloat16)
    with PeakMemory([*tower.parameters(), *tower.buffers(), pixels]) as memory:
        tower(pixels, image_sizes=[(280, 280)] * images)
    estimate = sizes.vision_activation_bytes(config, 280, 280, images)
    assert memory.peak <= estimate <= 1.25 * memory.peak


# Bad input

SMALL = configs.load("mistral-small-3.2-2506")
TEXT_ONLY = configs.load("mistral-small-3-2501")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sizes.weight_bytes(SMALL, "nf5"), "scheme: there is no 'nf5'. Did you mean nf4"),
        (lambda: sizes.weight_bytes(SMALL, "int4"), "There are: bf16, fp8, int8, nf4, nf4-dq"),
        (lambda: sizes.kv_cache_bytes(SMALL, 0), "tokens: expected a positive whole number, got 0"),
        (lambda: sizes.kv_cache_bytes(SMALL, 1.5), "tokens: expected a positive whole number"),
        (
            lambda: sizes.kv_cache_bytes(SMALL, 131073),
            "at most 131,072 tokens, the model's max",
        ),
        (lambda: sizes.kv_cache_bytes(SMALL, 10, batch=-1), "batch: expected a positive whole"),
        (lambda: sizes.kv_cache_bytes(SMALL, 10, dtype="nf4"), "dtype: there is no 'nf4'"),
        (lambda: sizes.image_tokens(0, 10, SMALL), "width: expected a positive whole number"),
        (lambda: sizes.image_tokens(10, -1, SMALL), "height: expected a positive whole number"),
        (
            lambda: sizes.image_tokens(10, 10, TEXT_ONLY),
            "vision_config: expected a model",
        ),
        (lambda: sizes.decode_limit(SMALL, "nf4", 1008), "bandwidth: expected bytes per second"),
        (lambda: sizes.decode_limit(SMALL, "nf4", -1e12), "bandwidth: expected a positive number"),
        (lambda: sizes.decode_limit(SMALL, "nf4", H100, context=-1), "context: expected a whole"),
        (
            lambda: sizes.decode_limit(SMALL, "nf4", H100, context=2**20),
            "context: expected at",
        ),
        (lambda: sizes.prefill_limit(SMALL, 10, 989), "flops: expected operations per second"),
        (lambda: sizes.prefill_limit(SMALL, 0, 989e12), "prompt_tokens: expected a positive"),
    ],
)
def test_bad_input_names_the_argument_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# The whole process

WHOLE_PROCESS = """
import copy, gc, json, sys
import bitsandbytes as bnb, psutil, torch
from transformers import AutoModelForCausalLM, DynamicCache, MistralConfig
torch.manual_seed(0)

def rss():
    gc.collect()
    return psutil.Process().memory_info().rss

def quantized(linear, scheme):
    if scheme == "int8":
        layer = bnb.nn.Linear8bitLt(1, 1, bias=False, has_fp16_weights=False)
        layer.weight = bnb.nn.Int8Params(linear.weight.data, requires_grad=False)
        layer.to("cpu").weight.CB = None  # the weight itself: its copy would be a second one
        return layer
    layer = bnb.nn.Linear4bit(1, 1, bias=False)
    layer.weight = bnb.nn.Params4bit(linear.weight.data, requires_grad=False, quant_type="nf4",
                                     compress_statistics=scheme == "nf4-dq")
    return layer.to("cpu")

def layer_of(model, scheme):
    layer = copy.deepcopy(model.model.layers[0]).to_empty(device="cpu")
    for parameter in layer.parameters():
        parameter.data.normal_()
    for name, module in list(layer.named_modules()):
        if scheme != "bf16" and isinstance(module, torch.nn.Linear):
            layer.set_submodule(name, quantized(module, scheme))
    return layer

def measure(scheme, shape, tokens):
    config = MistralConfig(**shape)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    torch.ones(4096, 4096) @ torch.ones(4096, 16)  # the libraries' own buffers
    before = rss()
    layer = layer_of(model, scheme)  # one; quantizing on a CPU is slow
    layers = [layer] + [copy.deepcopy(layer) for _ in range(config.num_hidden_layers - 1)]
    model.model.layers = torch.nn.ModuleList(layers)
    for module in (model.model.embed_tokens, model.model.norm, model.lm_head):
        module.to_empty(device="cpu").weight.data.fill_(1)
    cache = DynamicCache(config=config)
    heads = (1, config.num_key_value_heads, tokens, config.head_dim)
    for index in range(config.num_hidden_layers):
        cache.update(torch.ones(heads, dtype=torch.bfloat16),
                     torch.ones(heads, dtype=torch.bfloat16), index)
    return rss() - before

print(json.dumps([measure(*case) for case in json.loads(sys.argv[1])]))
"""


@pytest.mark.slow
def test_the_whole_process_grows_as_predicted():
    """More than 1 GB each: layers, embeddings, head and a filled cache; within 5 %."""
    cases = [
        (scheme, shape(layers, 1024, 4096, 8, 2, 128, 32768), 2048)
        for scheme, layers in [("bf16", 30), ("int8", 60), ("nf4-dq", 110)]
    ]
    done = subprocess.run(
        [sys.executable, "-c", WHOLE_PROCESS, json.dumps(cases)],
        capture_output=True,
        text=True,
        check=True,
        # Big blocks go back to the system when freed: what was quantized would count otherwise.
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
    )
    for (scheme, dimensions, tokens), grown in zip(cases, json.loads(done.stdout), strict=True):
        config = MistralConfig(**dimensions | {"sliding_window": None})
        predicted = sizes.weight_bytes(config, scheme) + sizes.kv_cache_bytes(config, tokens)
        print(f"{scheme}: predicted {predicted:,}, grown by {grown:,} ({grown / predicted:.3f})")
        assert predicted > 1e9
        assert grown == pytest.approx(predicted, rel=0.05)


def table():
    """Predicted and measured bytes of every shape and scheme."""
    print(f"{'shape':28}{'scheme':8}{'predicted':>14}{'measured':>14}{'difference':>12}")
    with tempfile.TemporaryDirectory() as root:
        for index, (name, config) in enumerate(SHAPES.items()):
            folder = saved(config, Path(root) / str(index))
            for scheme in sizes.SCHEMES:
                predicted = sizes.weight_bytes(config, scheme)
                measured = measured_bytes(folder, config, scheme)
                print(f"{name:28}{scheme:8}{predicted:14,}{measured:14,}{predicted - measured:12,}")


if __name__ == "__main__":
    table()
