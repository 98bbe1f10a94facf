"""The text model, with as little Python as possible around each token.

transformers calls a module for each norm and product. For one token of so small a model, this
takes longer than the arithmetic. Here is the same arithmetic in one loop over the layers. Query,
key and value are one product, and so are gate and up.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch.nn.functional import embedding, rms_norm, scaled_dot_product_attention, silu

from pocket_model import memory
from pocket_model.build import Quantization
from pocket_model.processor import bf16_matmul_is_fast
from pocket_model.server.linears import HEAD, Float32, Linear, Tensors, linear_layer

TEXT = "language_model.model"


class KeyValues:
    """The keys and values of one conversation, with room for those to come.

    Attributes:
        tensor: shape (layers, 2, key-value heads, capacity, head size). The memory of tokens to
            come is reserved, not used.
        length: how many tokens it has.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype):
        self.tensor = torch.empty(shape, dtype=dtype)
        memory.keep_small_pages(self.tensor.data_ptr(), self.tensor.nbytes)
        self.length = 0

    @property
    def capacity(self) -> int:
        """How many tokens there is room for."""
        return self.tensor.shape[-2]

    def layers(self, end: int) -> Iterator[tuple[torch.Tensor, ...]]:
        """Views for each layer: keys and values of shape (1, key-value heads, end, head size).

        They are followed by the keys and values that come after the last token, for writing:
        (end - length, key-value heads, head size).
        """
        seen = self.tensor[..., :end, :].flatten(0, 1)
        new = seen[:, :, self.length :].transpose(1, 2).unbind()
        seen = seen[:, None].unbind()
        return zip(seen[::2], seen[1::2], new[::2], new[1::2], strict=True)

    def part(self, start: int, end: int) -> torch.Tensor:
        """A copy of those of some tokens: a view would keep the memory of all."""
        return self.tensor[..., start:end, :].clone()

    def append(self, part: torch.Tensor) -> None:
        """Write what `part` gave, after the last token."""
        end = self.length + part.shape[-2]
        self.tensor[..., self.length : end, :] = part
        self.length = end


class _Layer(NamedTuple):
    attention_norm: torch.Tensor
    query_key_value: Linear
    output: Linear
    mlp_norm: torch.Tensor
    gate_up: Linear
    down: Linear


def _layer(quantization: Quantization, tensors: Tensors, prefix: str, *, last: bool) -> _Layer:
    own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    def product(*names: str) -> Linear:
        return linear_layer(quantization, own, list(names), last=last)

    return _Layer(
        own["input_layernorm.weight"].float(),
        product("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        product("self_attn.o_proj"),
        own["post_attention_layernorm.weight"].float(),
        product("mlp.gate_proj", "mlp.up_proj"),
        product("mlp.down_proj"),
    )


def without_idle_heads(tensors: dict[str, torch.Tensor], heads: list[int], size: int) -> list[int]:
    """Cut the heads at the end that no layer uses, in place: their output weights are zeros.

    Such heads add nothing. In the built model they are a fourth (see `architecture.pad_heads`).

    Args:
        heads: of the queries, keys and values.

    Returns:
        how many of each are left.
    """
    outputs = [name for name in tensors if name.endswith("self_attn.o_proj.weight")]
    columns = torch.stack([tensors[name].any(0) for name in outputs]).any(0).nonzero()
    group = heads[0] // heads[1]
    kept = int(columns.max()) // (group * size) + 1 if len(columns) else 1
    for name in outputs:
        tensors[name] = tensors[name][:, : kept * group * size]
        for projection, count in zip("qkv", (kept * group, kept, kept), strict=True):
            other = name.replace("o_proj", f"{projection}_proj")
            tensors[other] = tensors[other][: count * size]
    return [kept * group, kept, kept]


class Decoder:
    """A built model's text part.

    Products are computed in the dtype of their quantization; sums, norms and rotations in float32.

    Args:
        folder: the built model, or its 4-bit copy for "nf4".

    Attributes:
        context: most tokens of a conversation.
        weight_bytes: what a step reads: the layers and the vocabulary's head, not the embeddings.
        token_bytes: of a token's keys and values.
    """

    def __init__(self, folder: Path, quantization: Quantization):
        config = json.loads((folder / "config.json").read_text())["text_config"]
        tensors = load_file(folder / "model.safetensors")
        self.context: int = config["max_position_embeddings"]
        self._heads = [config["num_attention_heads"], *[config["num_key_value_heads"]] * 2]
        self._size, self._epsilon = config["head_dim"], config["rms_norm_eps"]
        if quantization != "nf4":  # a 4-bit layer cannot be cut
            self._heads = without_idle_heads(tensors, self._heads, self._size)
        layers = config["num_hidden_layers"]
        self._layers = [
            _layer(quantization, tensors, f"{TEXT}.layers.{n}.", last=n == layers - 1)
            for n in range(layers)
        ]
        self._norm = tensors[f"{TEXT}.norm.weight"].float()
        self._embeddings = tensors[f"{TEXT}.embed_tokens.weight"].clone()
        self._dtype, self._attend_in_float32 = self._embeddings.dtype, not bf16_matmul_is_fast()
        head = {"head.weight": self._embeddings}
        self._head = linear_layer(HEAD[quantization], head, ["head"])
        # In float32 both are held once. In bf16 the head has an order of its own.
        if isinstance(self._head, Float32):
            self._embeddings = self._head.weight
        every = [linear for layer in self._layers for linear in layer if callable(linear)]
        self.weight_bytes = sum(linear.nbytes for linear in [*every, self._head])
        self.token_bytes = self.key_values(1).tensor.nbytes
        base = config["rope_parameters"]["rope_theta"]
        frequencies = base ** -(torch.arange(0, self._size, 2).float() / self._size)
        angles = torch.outer(torch.arange(self.context).float(), frequencies)[:, None]
        self._rotations = torch.polar(torch.ones_like(angles), angles)

    def key_values(self, capacity: int) -> KeyValues:
        """An empty cache for so many tokens."""
        shape = (len(self._layers), 2, self._heads[1], capacity, self._size)
        return KeyValues(shape, self._dtype)

    def embed(self, tokens: list[int]) -> torch.Tensor:
        """Input embeddings, float32 of shape (tokens, hidden)."""
        return embedding(torch.tensor(tokens), self._embeddings).float()

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """From hidden states (n, hidden) to float32 of shape (n, vocabulary)."""
        return self._head(self._normed(states, self._norm)).float()

    def run(
        self, states: torch.Tensor, spans: list[tuple[KeyValues, int]], *, many: bool = False
    ) -> torch.Tensor:
        """The next tokens of one or more conversations; their caches grow by these tokens.

        Args:
            states: (tokens, hidden): one conversation's embeddings after the other's.
            spans: of each conversation, the cache and how many of the tokens are its own.
            many: see `Linear`. If False, a conversation's numbers do not depend on the others.

        Returns:
            Their last hidden states, in the shape of `states`.
        """
        ends = [cache.length + new for cache, new in spans]
        if any(end > cache.capacity for (cache, _), end in zip(spans, ends, strict=True)):
            raise ValueError("a cache has no room for so many tokens")
        places = torch.cat(
            [torch.arange(end - new, end) for (_, new), end in zip(spans, ends, strict=True)]
        )
        rotations, counts = self._rotations[places], [new for _, new in spans]
        caches = [cache.layers(end) for (cache, _), end in zip(spans, ends, strict=True)]
        for layer, *seen in zip(self._layers, *caches, strict=True):
            heads = layer.query_key_value(self._normed(states, layer.attention_norm), many=many)
            heads = heads.view(len(states), -1, self._size)
            rotated = self._rotated(heads[:, : -self._heads[2]], rotations)
            query, key = rotated.split(self._heads[:2], dim=1)
            attended, start = [], 0
            for (keys, values, new_keys, new_values), new in zip(seen, counts, strict=True):
                rows = slice(start, start := start + new)
                new_keys.copy_(key[rows])
                new_values.copy_(heads[rows, -self._heads[2] :])
                attended.append(self._attention(query[rows], keys, values))
            attended = attended[0] if len(attended) == 1 else torch.cat(attended)
            states = states + layer.output(attended.to(self._dtype), many=many)
            gate_up = layer.gate_up(self._normed(states, layer.mlp_norm), many=many)
            gate, up = gate_up.chunk(2, dim=-1)
            states = states + layer.down(silu(gate) * up, many=many)
        for (cache, _), end in zip(spans, ends, strict=True):
            cache.length = end
        return states

    def _rotated(self, heads: torch.Tensor, rotations: torch.Tensor) -> torch.Tensor:
        """RoPE: each number of a head's first half and its partner turn by one angle.

        As a complex number, such a pair is turned by one multiplication. Afterwards the pairs are
        neighbours. Queries and keys are in the same order, so their products are the same.
        """
        first, second = heads.float().chunk(2, dim=-1)
        return torch.view_as_real(torch.complex(first, second) * rotations).flatten(-2)

    def _attention(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        """Attention of the last tokens: (new, heads, size) to (new, heads * size)."""
        new, length = len(query), keys.shape[2]
        if self._attend_in_float32:  # torch's kernel for bf16 is slow without bf16 instructions
            keys, values = keys.float(), values.float()  # (measured: `pocket-bf16-attention`)
        query = query.to(keys.dtype)
        if new == 1:
            # The heads that share keys are rows of one head here. The sums are the same, and the
            # kernel reads the keys once for all these heads (measured: `pocket-shared-keys`).
            rows = query.reshape(1, keys.shape[1], -1, self._size)
            return scaled_dot_product_attention(rows, keys, values).view(1, -1)
        mask = torch.ones(new, length, dtype=torch.bool).tril(length - new)
        output = scaled_dot_product_attention(
            query.transpose(0, 1)[None], keys, values, attn_mask=mask, enable_gqa=True
        )
        return output[0].transpose(0, 1).flatten(1)

    def _normed(self, states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return rms_norm(states, weight.shape, weight, self._epsilon).to(self._dtype)
