"""A model in bytes, tokens and operations, computed from its config alone.

The weights and the KV cache are exact to the byte, the activations an estimate; the speeds are
ceilings from the roofline model (Williams et al., 2009), which no software can beat.
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
    "bf16": "two bytes a weight, as published",
    "fp8": "one byte a weight and a float32 scale per output channel",
    "int8": "bitsandbytes LLM.int8(): one byte a weight and a float32 scale per row",
    "nf4": "bitsandbytes NF4: half a byte a weight and a float32 scale per 64",
    "nf4-dq": "NF4 with double quantisation: the scales are 8-bit codes with scales of their own",
}
KV_DTYPES = {"bf16": 2, "fp16": 2, "fp32": 4, "fp8": 1}  # bytes of one number

PREFILL_CHUNK = 2048  # tokens of a prompt read at a time


# Names and numbers from outside


def known_scheme(name: str) -> str:
    """``name`` as ``SCHEMES`` spells it; ValueError with the nearest if it is none of them."""
    scheme = str(name).lower().replace("_", "-")
    if scheme not in SCHEMES:
        raise unknown("scheme", name, list(SCHEMES))
    return scheme


def kv_itemsize(dtype: object) -> int:
    """Bytes of one number; a name of ``KV_DTYPES`` or a torch dtype."""
    name = str(dtype).removeprefix("torch.")
    name = re.sub(r"^b?float(\d+).*", lambda m: ("bf" if name[0] == "b" else "fp") + m[1], name)
    if name not in KV_DTYPES:
        raise unknown("dtype", dtype, list(KV_DTYPES))
    return KV_DTYPES[name]


def expect_whole(name: str, value: object, least: int = 1) -> int:
    """``value`` if it is a whole number of at least ``least`` (0 or 1); ValueError if not."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        expected = "a positive whole number" if least else "a whole number, 0 or more"
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
    return int(value)


def expect_tokens(name: str, value: object, config: PretrainedConfig, least: int = 1) -> int:
    """``value`` if the model has positions for so many tokens; ValueError if not."""
    tokens = expect_whole(name, value, least)
    most = config.get_text_config().max_position_embeddings
    if tokens > most:
        raise ValueError(
            f"{name}: expected at most {most:,} tokens, the model's max_position_embeddings, "
            f"got {tokens:,}"
        )
    return tokens


def expect_rate(name: str, value: object, unit: str) -> float:
    """``value`` if it can be a card's bandwidth or speed in SI units; ValueError if not."""
    if not isinstance(value, Real) or isinstance(value, bool) or not value > 0:
        raise ValueError(f"{name}: expected a positive number of {unit}, got {value!r}")
    if value < 1e9:  # a wrist watch has more: this was meant in units of 10^9 or 10^12
        raise ValueError(f"{name}: expected {unit}, such as 1008e9, got {value!r}: too small")
    return float(value)


# Weights


@dataclass(frozen=True)
class Weights:
    """``count`` equal tensors of ``rows`` × ``columns``, in one part of a model.

    ``linear``: the weight of a linear layer, which a scheme may quantise. ``lm_head`` is one too,
    but stays in bf16 in every scheme here, so it counts as ``False``.
    """

    part: str
    rows: int
    columns: int
    count: int
    linear: bool = False


VISION_PARTS = ("vision tower", "projector")


def weights(config: PretrainedConfig) -> list[Weights]:
    """Every tensor of the model, from its configuration alone; a tied ``lm_head`` is not listed.

    Parts: embeddings, attention, feed-forward, norms, lm_head, vision tower, projector. Knows
    mistral, llama, qwen2, gemma2 and mistral3.
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
    taken = 1 if isinstance(features, int) else len(features)
    pixels = vision.num_channels * vision.patch_size**2

    tensors = [
        Weights("vision tower", hidden, pixels, 1),  # patch_conv: a convolution, never quantised
        Weights("vision tower", heads, hidden, 3 * layers, linear=True),
        Weights("vision tower", hidden, heads, layers, linear=True),
        Weights("vision tower", ffn, hidden, 2 * layers, linear=True),
        Weights("vision tower", hidden, ffn, layers, linear=True),
        Weights("vision tower", 1, hidden, 2 * layers + 1),
        Weights("projector", 1, hidden, 1),
        Weights("projector", hidden, hidden * config.spatial_merge_size**2, 1, linear=True),
        Weights("projector", text_hidden, hidden * taken, 1, linear=True),
        Weights("projector", text_hidden, text_hidden, 1, linear=True),
    ]
    if config.multimodal_projector_bias:
        tensors.append(Weights("projector", 1, text_hidden, 2))
    return tensors


def parameters(config: PretrainedConfig) -> int:
    """How many parameters the model has; tied ones count once."""
    return sum(w.count * w.rows * w.columns for w in weights(config))


def linear_bytes(rows: int, columns: int, scheme: str) -> int:
    """One linear layer's weight of ``rows`` (outputs) × ``columns`` (inputs), with its scales.

    - ``fp8``: per-channel scales in float32, as transformers' ``FbgemmFp8Linear`` and vLLM hold
      them for compressed-tensors checkpoints. (On disk a scale may take 2 bytes instead.)
    - ``int8``: as bitsandbytes' ``Linear8bitLt`` (``CB`` and ``SCB``).
    - ``nf4``: two weights a byte, a float32 ``absmax`` per 64 weights (the last block may be
      short) and a table of 16 float32 values for each layer.
    - ``nf4-dq``: ``absmax`` in one byte, a float32 scale per 256 of them, one float32 offset, and
      a second table of 256 float32 values.
    """
    numbers = rows * columns
    blocks = ceil(numbers / 64)
    match scheme:
        case "bf16":
            return 2 * numbers
        case "fp8" | "int8":
            return numbers + 4 * rows
        case "nf4":
            return ceil(numbers / 2) + 4 * blocks + 4 * 16
        case "nf4-dq":
            return ceil(numbers / 2) + blocks + 4 * ceil(blocks / 256) + 4 + 4 * 16 + 4 * 256
    raise unknown("scheme", scheme, list(SCHEMES))


def weight_bytes(config: PretrainedConfig, scheme: str, quantize_vision: bool = False) -> int:
    """All weights in bytes, the quantisation state included, exact.

    The linear layers of the text model are in ``scheme``; embeddings, ``lm_head``, norms and
    biases stay in bf16, and so do vision tower and projector unless ``quantize_vision``. (Rotary
    tables are buffers, not weights: less than a kilobyte.)

    Raises ValueError for an unknown scheme, with the nearest there is.
    """
    scheme = known_scheme(scheme)
    return sum(_bytes_in(w, scheme, quantize_vision) for w in weights(config))


def _bytes_in(w: Weights, scheme: str, quantize_vision: bool = False) -> int:
    quantised = w.linear and (quantize_vision or w.part not in VISION_PARTS)
    return w.count * linear_bytes(w.rows, w.columns, scheme if quantised else "bf16")


# KV cache and pictures


def sliding_windows(config: PretrainedConfig) -> list[int | None]:
    """For each layer how far back it looks, in tokens; None is all the way."""
    text = load_config(config).get_text_config()
    window = getattr(text, "sliding_window", None)
    kinds = getattr(text, "layer_types", None)
    if kinds is None:
        return [window] * text.num_hidden_layers
    return [window if kind == "sliding_attention" else None for kind in kinds]


def kv_cache_bytes(
    config: PretrainedConfig, tokens: int, batch: int = 1, dtype: str = "bf16"
) -> int:
    """The keys and values of ``batch`` sequences of ``tokens`` each, exact.

    2 × key/value heads × head dimension × bytes for each token and layer: in grouped-query
    attention the query heads do not matter. A layer with a sliding window keeps window − 1
    tokens, as transformers does: the next token brings the last one of its window itself.
    (Right after a long prompt PyTorch still holds the rest of it, until the next token.)

    ``dtype``: ``"bf16"``, ``"fp16"``, ``"fp32"``, ``"fp8"`` or a torch dtype. Raises ValueError
    for sizes below 1 and for more tokens than the model has positions.
    """
    config = load_config(config)
    tokens, batch = expect_tokens("tokens", tokens, config), expect_whole("batch", batch)
    text = config.get_text_config()
    kept = sum(min(tokens, w - 1) if w else tokens for w in sliding_windows(config))
    return batch * kept * 2 * text.num_key_value_heads * text.head_dim * kv_itemsize(dtype)


def image_grid(width: int, height: int, config: PretrainedConfig) -> tuple[int, int]:
    """Rows and columns of tokens that a picture of ``width`` × ``height`` pixels becomes.

    It is shrunk until no side is longer than ``image_size``, then cut into squares of
    ``patch_size`` × ``spatial_merge_size`` pixels, as mistral_common's image encoder does.
    """
    config = load_config(config)
    if config.model_type != "mistral3":
        raise ValueError(
            f"vision_config: expected a model that sees (mistral3), got {config.model_type}"
        )
    width, height = expect_whole("width", width), expect_whole("height", height)
    ratio = max(width, height) / config.vision_config.image_size
    if ratio > 1:
        width, height = max(round(width / ratio), 1), max(round(height / ratio), 1)
    square = config.vision_config.patch_size * config.spatial_merge_size
    return ceil(height / square), ceil(width / square)


def image_tokens(width: int, height: int, config: PretrainedConfig) -> int:
    """Tokens that a picture of ``width`` × ``height`` pixels takes in the context.

    Each row ends with one more token, ``[IMG_BREAK]`` or at last ``[IMG_END]``. Raises ValueError
    for sizes below 1 and for a model that has no eyes.
    """
    rows, columns = image_grid(width, height, config)
    return rows * (columns + 1)


# The roofline


def _read_bytes(config: PretrainedConfig, scheme: str) -> int:
    """Bytes of weights that one step reads: all of the text model but the embedding table.

    Of that table a token reads one row, unless ``lm_head`` is the same table (tied).
    """
    skipped = VISION_PARTS if config.tie_word_embeddings else (*VISION_PARTS, "embeddings")
    return sum(_bytes_in(w, scheme) for w in weights(config) if w.part not in skipped)


def _block_parameters(config: PretrainedConfig) -> int:
    linears = (w for w in weights(config) if w.linear and w.part not in VISION_PARTS)
    return sum(w.count * w.rows * w.columns for w in linears)


def decode_limit(
    config: PretrainedConfig,
    scheme: str,
    bandwidth: float,
    context: int = 0,
    batch: int = 1,
    kv_dtype: str = "bf16",
) -> float:
    """The most tokens per second, over all ``batch`` sequences together, when writing.

    Each step reads every weight but the embeddings once, for all sequences, and each sequence's
    KV cache of ``context`` tokens: batch × bandwidth / (weights + cache). ``bandwidth`` is in
    bytes per second. With very large batches arithmetic becomes the limit before bandwidth does.
    """
    config, scheme = load_config(config), known_scheme(scheme)
    bandwidth = expect_rate("bandwidth", bandwidth, "bytes per second")
    context = expect_tokens("context", context, config, least=0)
    batch = expect_whole("batch", batch)
    cached = kv_cache_bytes(config, context, batch, kv_dtype) if context else 0
    return batch * bandwidth / (_read_bytes(config, scheme) + cached)


def prefill_flop(config: PretrainedConfig, prompt_tokens: int) -> int:
    """Multiplications and additions to read one prompt of text.

    2 for each weight of the blocks and token, and 4 × heads × head dimension × layers for each
    pair of a token with one it looks at: for full attention about half of tokens². ``lm_head``
    is used once only, at the end, and left out.
    """
    config = load_config(config)
    tokens, text = expect_tokens("prompt_tokens", prompt_tokens, config), config.get_text_config()
    pairs = 0
    for window in sliding_windows(config):
        reach = min(window or tokens, tokens)
        pairs += reach * (reach + 1) // 2 + (tokens - reach) * reach
    attention = 4 * text.num_attention_heads * text.head_dim * pairs
    return 2 * _block_parameters(config) * tokens + attention


def prefill_limit(
    config: PretrainedConfig,
    prompt_tokens: int,
    flops: float,
    scheme: str = "bf16",
    bandwidth: float | None = None,
    batch: int = 1,
) -> float:
    """The most tokens per second when reading ``batch`` prompts of ``prompt_tokens`` each.

    ``flops`` is the card's floating-point operations per second. With ``bandwidth``, in bytes per
    second, reading the weights once (in ``scheme``) is a limit too: for short prompts the lower
    one. batch × prompt_tokens ÷ the result is the shortest possible time to first token.
    """
    config, scheme, batch = load_config(config), known_scheme(scheme), expect_whole("batch", batch)
    flops = expect_rate("flops", flops, "operations per second")
    seconds = batch * prefill_flop(config, prompt_tokens) / flops
    if bandwidth is not None:
        bandwidth = expect_rate("bandwidth", bandwidth, "bytes per second")
        seconds = max(seconds, _read_bytes(config, scheme) / bandwidth)
    return batch * prompt_tokens / seconds


# What is in memory only for a moment


def activation_bytes(
    config: PretrainedConfig,
    scheme: str,
    context: int,
    batch: int = 1,
    prefill_chunk: int | None = PREFILL_CHUNK,
) -> int:
    """What reading a prompt needs beside weights and cache: an estimate, from above.

    For transformers with SDPA attention. The peak is in one layer: in the feed-forward part
    (three tensors of its width) or, when the prompt is read in chunks, in the attention part,
    which then repeats keys and values for all query heads and makes a mask. Weights in NF4 are
    widened to bf16 one layer at a time. ``prefill_chunk=None`` reads the prompt at once.
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
    widened = 2 * text.hidden_size * text.intermediate_size if scheme.startswith("nf4") else 0
    return batch * max(feed_forward, attention) + widened


def vision_activation_bytes(
    config: PretrainedConfig, width: int, height: int, images: int = 1
) -> int:
    """What looking at ``images`` pictures of one request at once needs: an estimate, from above.

    transformers lines up the patches of all of them and makes a bf16 mask of patches × patches,
    so it grows with the square of their number. Flash attention and vLLM need no such mask.
    """
    rows, columns = image_grid(width, height, config)
    vision = config.vision_config
    patches = expect_whole("images", images) * rows * columns * config.spatial_merge_size**2
    return 2 * patches * (patches + 3 * vision.intermediate_size + 6 * vision.hidden_size)
