"""A model in bytes, tokens and operations, computed from its configuration alone.

Weights and KV cache are exact to the byte; activations are an estimate. The speeds are upper limits
of the roofline model (Williams et al., 2009, doi:10.1145/1498765.1498785).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import ceil
from numbers import Integral, Real
from typing import TYPE_CHECKING

from helpers.model.configs import load as load_config
from helpers.model.configs import unknown

if TYPE_CHECKING:
    from transformers import PretrainedConfig

SCHEMES = {
    "bf16": "two bytes per weight, as published",
    "fp8": "one byte per weight and a float32 scale per output channel",
    "int8": "bitsandbytes LLM.int8(): one byte per weight and a float32 scale per row",
    "nf4": "bitsandbytes NF4: half a byte per weight and a float32 scale per 64 weights",
    "nf4-dq": "NF4 with double quantization: the scales are 8-bit codes with scales of their own",
}
KV_DTYPES = {"bf16": 2, "fp16": 2, "fp32": 4, "fp8": 1}  # bytes of one number

PREFILL_CHUNK = 2048  # tokens of a prompt that are read at a time


# Arguments


def known_scheme(name: str) -> str:
    """`name` as `SCHEMES` spells it. Raises ValueError with the nearest names if it is unknown."""
    scheme = str(name).lower().replace("_", "-")
    if scheme not in SCHEMES:
        raise unknown("scheme", name, list(SCHEMES))
    return scheme


def kv_itemsize(dtype: object) -> int:
    """Bytes of one number in the KV cache. `dtype`: a name of `KV_DTYPES` or a torch dtype."""
    name = str(dtype).removeprefix("torch.")
    name = re.sub(r"^b?float(\d+).*", lambda m: ("bf" if name[0] == "b" else "fp") + m[1], name)
    if name not in KV_DTYPES:
        raise unknown("dtype", dtype, list(KV_DTYPES))
    return KV_DTYPES[name]


def expect_whole(name: str, value: object, minimum: int = 1) -> int:
    """`value` as an int. Raises ValueError unless it is whole and at least `minimum` (0 or 1)."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < minimum:
        expected = "a positive whole number" if minimum else "a whole number, 0 or more"
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
    return int(value)


def expect_tokens(name: str, value: object, config: PretrainedConfig, minimum: int = 1) -> int:
    """`value` as an int. Raises ValueError if the model has no positions for so many tokens."""
    tokens = expect_whole(name, value, minimum)
    maximum = config.get_text_config().max_position_embeddings
    if tokens > maximum:
        raise ValueError(
            f"{name}: expected at most {maximum:,} tokens, the model's max_position_embeddings, "
            f"got {tokens:,}"
        )
    return tokens


def expect_rate(name: str, value: object, unit: str) -> float:
    """`value` as a float. Raises ValueError unless it can be a GPU's bandwidth or speed."""
    if not isinstance(value, Real) or isinstance(value, bool) or not value > 0:
        raise ValueError(f"{name}: expected a positive number of {unit}, got {value!r}")
    if value < 1e9:  # less than any GPU: probably given in units of 10^9 or 10^12
        raise ValueError(f"{name}: expected {unit}, such as 1008e9, got {value!r}: too small")
    return float(value)


# Weights


@dataclass(frozen=True)
class Weights:
    """`count` equal tensors of `rows` × `columns` in one part of a model.

    `linear` is true for the weight of a linear layer that a scheme may quantize. It is false for
    `lm_head`, which stays in bf16 in every scheme here.
    """

    part: str
    rows: int
    columns: int
    count: int
    linear: bool = False


VISION_PARTS = ("vision tower", "projector")


def weights(config: PretrainedConfig) -> list[Weights]:
    """Every tensor of a model, from its configuration alone; a tied `lm_head` is not listed.

    The parts are embeddings, attention, feed-forward, norms, lm_head, vision tower and projector.
    The model types are mistral, llama, qwen2, gemma2 and mistral3.
    """
    config = load_config(config)
    text = config.get_text_config()
    layers, hidden, ffn = text.num_hidden_layers, text.hidden_size, text.intermediate_size
    queries = text.num_attention_heads * text.head_dim
    keys = text.num_key_value_heads * text.head_dim

    tensors = [
        Weights("embeddings", text.vocab_size, hidden, 1),
        Weights("attention", queries, hidden, layers, linear=True),  # q_proj
        Weights("attention", keys, hidden, 2 * layers, linear=True),  # k_proj, v_proj
        Weights("attention", hidden, queries, layers, linear=True),  # o_proj
        Weights("feed-forward", ffn, hidden, 2 * layers, linear=True),  # gate_proj, up_proj
        Weights("feed-forward", hidden, ffn, layers, linear=True),  # down_proj
        Weights("norms", 1, hidden, (4 if text.model_type == "gemma2" else 2) * layers + 1),
    ]
    all_biased = getattr(text, "attention_bias", False)
    if all_biased or text.model_type == "qwen2":
        tensors += [
            Weights("attention", 1, queries, layers),
            Weights("attention", 1, keys, 2 * layers),
        ]
    if all_biased:
        tensors.append(Weights("attention", 1, hidden, layers))
    if getattr(text, "mlp_bias", False):
        tensors += [
            Weights("feed-forward", 1, ffn, 2 * layers),
            Weights("feed-forward", 1, hidden, layers),
        ]
    if not config.tie_word_embeddings:
        tensors.append(Weights("lm_head", text.vocab_size, hidden, 1))
    if config.model_type == "mistral3":
        tensors += _vision_weights(config)
    return tensors


def _vision_weights(config: PretrainedConfig) -> list[Weights]:
    vision, text_hidden = config.vision_config, config.text_config.hidden_size
    layers, hidden, ffn = vision.num_hidden_layers, vision.hidden_size, vision.intermediate_size
    heads = vision.num_attention_heads * vision.head_dim
    features = config.vision_feature_layer
    feature_layers = 1 if isinstance(features, int) else len(features)
    pixels = vision.num_channels * vision.patch_size**2

    tensors = [
        Weights("vision tower", hidden, pixels, 1),  # patch_conv: a convolution, never quantized
        Weights("vision tower", heads, hidden, 3 * layers, linear=True),
        Weights("vision tower", hidden, heads, layers, linear=True),
        Weights("vision tower", ffn, hidden, 2 * layers, linear=True),
        Weights("vision tower", hidden, ffn, layers, linear=True),
        Weights("vision tower", 1, hidden, 2 * layers + 1),
        Weights("projector", 1, hidden, 1),
        Weights("projector", hidden, hidden * config.spatial_merge_size**2, 1, linear=True),
        Weights("projector", text_hidden, hidden * feature_layers, 1, linear=True),
        Weights("projector", text_hidden, text_hidden, 1, linear=True),
    ]
    if config.multimodal_projector_bias:
        tensors.append(Weights("projector", 1, text_hidden, 2))
    return tensors


def parameters(config: PretrainedConfig) -> int:
    """The number of parameters of a model; tied weights count once."""
    return sum(w.count * w.rows * w.columns for w in weights(config))


def linear_bytes(rows: int, columns: int, scheme: str) -> int:
    """Bytes of one linear layer's weight of `rows` (outputs) × `columns` (inputs), with its scales.

    - `fp8`: scales per output channel in float32. transformers' `FbgemmFp8Linear` and vLLM hold
      them so for compressed-tensors checkpoints. (On disk a scale may take 2 bytes.)
    - `int8`: as in bitsandbytes' `Linear8bitLt` (`CB` and `SCB`).
    - `nf4`: two weights per byte, a float32 `absmax` per 64 weights (the last block may be short)
      and a table of 16 float32 values for each layer.
    - `nf4-dq`: `absmax` in one byte, a float32 scale per 256 of them, one float32 offset, and
      a second table of 256 float32 values.

    Raises:
        ValueError: an unknown scheme. The message lists the nearest.
    """
    scheme = known_scheme(scheme)
    numbers = rows * columns
    blocks = ceil(numbers / 64)
    if scheme == "bf16":
        return 2 * numbers
    if scheme in ("fp8", "int8"):
        return numbers + 4 * rows
    if scheme == "nf4":
        return ceil(numbers / 2) + 4 * blocks + 4 * 16
    return ceil(numbers / 2) + blocks + 4 * ceil(blocks / 256) + 4 + 4 * 16 + 4 * 256


def weight_bytes(config: PretrainedConfig, scheme: str, quantize_vision: bool = False) -> int:
    """Bytes of all weights with their quantization state, exact.

    The linear layers of the text model are in `scheme`. Embeddings, `lm_head`, norms and biases
    stay in bf16; so do vision tower and projector unless `quantize_vision` is set. Rotary tables
    are buffers, not weights: they take less than a kilobyte.

    Raises:
        ValueError: an unknown scheme. The message lists the nearest.
    """
    return sum(_bytes_in(w, scheme, quantize_vision) for w in weights(config))


def _bytes_in(w: Weights, scheme: str, quantize_vision: bool = False) -> int:
    quantized = w.linear and (quantize_vision or w.part not in VISION_PARTS)
    return w.count * linear_bytes(w.rows, w.columns, scheme if quantized else "bf16")


# KV cache and pictures


def sliding_windows(config: PretrainedConfig) -> list[int | None]:
    """The attention window of each layer in tokens; None is full attention."""
    text = load_config(config).get_text_config()
    window = getattr(text, "sliding_window", None)
    kinds = getattr(text, "layer_types", None)
    if kinds is None:
        return [window] * text.num_hidden_layers
    return [window if kind == "sliding_attention" else None for kind in kinds]


def kv_cache_bytes(
    config: PretrainedConfig, tokens: int, batch: int = 1, dtype: str = "bf16"
) -> int:
    """Bytes of the keys and values of `batch` sequences of `tokens` tokens each, exact.

    For each token and layer: 2 × key/value heads × head dimension × bytes of one number. The
    number of query heads does not matter in grouped-query attention. A layer with a sliding window
    keeps window − 1 tokens, as transformers does: the next token is itself one of its window.
    (Right after a long prompt PyTorch holds the other tokens too, until the next one.)

    Args:
        dtype: `"bf16"`, `"fp16"`, `"fp32"`, `"fp8"` or a torch dtype.

    Raises:
        ValueError: a size below 1, or more tokens than the model has positions.
    """
    config = load_config(config)
    tokens, batch = expect_tokens("tokens", tokens, config), expect_whole("batch", batch)
    text = config.get_text_config()
    kept = sum(min(tokens, w - 1) if w else tokens for w in sliding_windows(config))
    return batch * kept * 2 * text.num_key_value_heads * text.head_dim * kv_itemsize(dtype)


def image_grid(width: int, height: int, config: PretrainedConfig) -> tuple[int, int]:
    """Rows and columns of image tokens of a picture of `width` × `height` pixels.

    As in mistral_common's image encoder: the picture is shrunk until no side is longer than
    `image_size`. Each square with sides of `patch_size` × `spatial_merge_size` pixels is a token.

    Raises:
        ValueError: a size below 1, or a model without a vision tower.
    """
    config = load_config(config)
    if config.model_type != "mistral3":
        raise ValueError(
            "vision_config: expected a model with a vision tower (mistral3), "
            f"got {config.model_type}"
        )
    width, height = expect_whole("width", width), expect_whole("height", height)
    ratio = max(width, height) / config.vision_config.image_size
    if ratio > 1:
        width, height = max(round(width / ratio), 1), max(round(height / ratio), 1)
    square = config.vision_config.patch_size * config.spatial_merge_size
    return ceil(height / square), ceil(width / square)


def image_tokens(width: int, height: int, config: PretrainedConfig) -> int:
    """Tokens that a picture of `width` × `height` pixels takes in the context.

    Each row of `image_grid` ends with one more token: `[IMG_BREAK]`, and `[IMG_END]` in the last.
    """
    rows, columns = image_grid(width, height, config)
    return rows * (columns + 1)


# The roofline


def _read_bytes(config: PretrainedConfig, scheme: str) -> int:
    """Bytes of weights that one decoding step reads: the text model without the embedding table.

    A token reads one row of that table only, unless `lm_head` is the same table (tied).
    """
    skipped = VISION_PARTS if config.tie_word_embeddings else (*VISION_PARTS, "embeddings")
    return sum(_bytes_in(w, scheme) for w in weights(config) if w.part not in skipped)


def decode_limit(
    config: PretrainedConfig,
    scheme: str,
    bandwidth: float,
    context: int = 0,
    batch: int = 1,
    kv_dtype: str = "bf16",
) -> float:
    """The upper limit of decoding, in tokens per second over all `batch` sequences together.

    Each step reads all weights but the embeddings once, and the KV cache of each sequence:
    batch × bandwidth / (weights + caches). For very large batches arithmetic is the lower limit.

    Args:
        bandwidth: of the memory, in bytes per second.
        context: tokens in the KV cache of each sequence.

    Raises:
        ValueError: an argument out of range. The message names it.
    """
    config = load_config(config)
    bandwidth = expect_rate("bandwidth", bandwidth, "bytes per second")
    context = expect_tokens("context", context, config, minimum=0)
    batch = expect_whole("batch", batch)
    cached = kv_cache_bytes(config, context, batch, kv_dtype) if context else 0
    return batch * bandwidth / (_read_bytes(config, scheme) + cached)


def prefill_flop(config: PretrainedConfig, prompt_tokens: int) -> int:
    """Multiplications and additions to prefill one prompt of text.

    2 for each weight of the blocks and each token, plus 4 × heads × head dimension × layers for
    each pair of a token with one that it attends to. Full attention has about tokens² / 2 such
    pairs. `lm_head` is left out, because only the last token needs it.
    """
    config = load_config(config)
    tokens, text = expect_tokens("prompt_tokens", prompt_tokens, config), config.get_text_config()
    pairs = 0
    for window in sliding_windows(config):
        width = min(window or tokens, tokens)
        pairs += width * (width + 1) // 2 + (tokens - width) * width
    attention = 4 * text.num_attention_heads * text.head_dim * pairs
    linears = (w for w in weights(config) if w.linear and w.part not in VISION_PARTS)
    return 2 * tokens * sum(w.count * w.rows * w.columns for w in linears) + attention


def prefill_limit(
    config: PretrainedConfig,
    prompt_tokens: int,
    flops: float,
    scheme: str = "bf16",
    bandwidth: float | None = None,
    batch: int = 1,
) -> float:
    """The upper limit of prefilling `batch` prompts of `prompt_tokens` each, in tokens per second.

    batch × prompt_tokens ÷ the result is the shortest possible time to first token, in seconds.

    Args:
        flops: floating-point operations of the GPU per second.
        bandwidth: of its memory, in bytes per second. Reading the weights once, in `scheme`, is
            then a limit too: the lower one for short prompts.

    Raises:
        ValueError: an argument out of range. The message names it.
    """
    config, scheme, batch = load_config(config), known_scheme(scheme), expect_whole("batch", batch)
    flops = expect_rate("flops", flops, "operations per second")
    seconds = batch * prefill_flop(config, prompt_tokens) / flops
    if bandwidth is not None:
        bandwidth = expect_rate("bandwidth", bandwidth, "bytes per second")
        seconds = max(seconds, _read_bytes(config, scheme) / bandwidth)
    return batch * prompt_tokens / seconds


# Activations


def activation_bytes(
    config: PretrainedConfig,
    scheme: str,
    context: int,
    batch: int = 1,
    prefill_chunk: int | None = PREFILL_CHUNK,
) -> int:
    """Bytes that prefill needs beside weights and KV cache: an estimate, an upper bound.

    It is for transformers with SDPA attention. The peak is in one layer: in the feed-forward part
    (three tensors of its width), or in the attention part if the prompt is read in chunks.
    Attention then repeats keys and values for all query heads and makes a mask. NF4 weights are
    dequantized to bf16 one layer at a time.

    Args:
        context: tokens of each of `batch` prompts.
        prefill_chunk: tokens that are read at a time; None reads the whole prompt at once.
    """
    config, scheme = load_config(config), known_scheme(scheme)
    context, batch = expect_tokens("context", context, config), expect_whole("batch", batch)
    text = config.get_text_config()
    chunk = context if prefill_chunk is None else expect_whole("prefill_chunk", prefill_chunk)
    chunk = min(chunk, context)
    queries = text.num_attention_heads * text.head_dim

    feed_forward = 2 * chunk * (3 * text.intermediate_size + 5 * text.hidden_size)
    attention = 2 * chunk * (2 * queries + 5 * text.hidden_size)
    if chunk < context:  # a mask of one byte for each pair, three while it is used
        feed_forward += chunk * context
        attention += 3 * chunk * context + 4 * context * queries
    dequantized = 2 * text.hidden_size * text.intermediate_size if scheme.startswith("nf4") else 0
    return batch * max(feed_forward, attention) + dequantized


def vision_activation_bytes(
    config: PretrainedConfig, width: int, height: int, images: int = 1
) -> int:
    """Bytes that the vision tower needs for the pictures of one request: an upper bound.

    The estimate is for `images` pictures of `width` × `height` pixels. transformers puts their
    patches into one sequence and makes a bf16 mask of patches × patches, so the need grows with
    the square of their number. Flash attention and vLLM need no such mask.
    """
    rows, columns = image_grid(width, height, config)
    vision = config.vision_config
    patches = expect_whole("images", images) * rows * columns * config.spatial_merge_size**2
    return 2 * patches * (patches + 3 * vision.intermediate_size + 6 * vision.hidden_size)
