"""The text model's linear layers in the four forms that the server can hold their weights in.

A decoding step reads every weight once, so the time of a token is nearly that of reading them.
Fewer bytes make it shorter, if a kernel multiplies them as they are:

- `bf16`: 2 bytes a weight, as the model is built.
- `int8`: 1 byte, and one scale for each output of a layer.
- `int4`: half a byte, and a scale and a zero for each 32 weights. torch's own kernel.
- `nf4`: half a byte too, as bitsandbytes reads the 4-bit copy. A table gives each weight's value.
  On CPUs without AVX512-BF16 all weights are widened for every token, which is slow.

Weights of `int8` and `int4` are rounded from bf16 when the server starts. Where rounding to `int8`
costs most answers, a weight is two int8 numbers: the second holds what the first leaves.
"""

import itertools
from collections.abc import Mapping
from typing import Protocol

import torch
from torch.nn.functional import linear, pad

from pocket_model.build import Quantization
from pocket_model.processor import bf16_matmul_is_fast, dtype_for_many_rows

ROWS_AT_A_TIME = 32
INT4_GROUP = 32
INT4_ROWS = 16  # torch packs as many outputs together
# Of the vocabulary's head, which formats for 4 bits usually keep in more.
HEAD: dict[Quantization, Quantization] = {
    "int8": "int8", "bf16": "bf16", "int4": "int8", "nf4": "bf16"
}  # fmt: skip
# The products that are two int8 numbers a weight in every layer. In the last layer all are. The
# second numbers are 5 % of what `int8` reads. With one number, more calls would be made where no
# tool fits. `data/pocket/README.md` has the answers that rounding costs.
TWICE = ("v_proj",)
Tensors = Mapping[str, torch.Tensor]


class Linear(Protocol):
    """A linear layer without a bias: rows of shape (n, inputs) to (n, outputs), in one dtype.

    In int8 and int4 a row's result does not depend on the other rows, nor on the number of threads,
    to the bit. In bf16 that is so where the CPU has instructions for it. (For threads it was tried
    with AVX512-BF16, not with AMX.) Elsewhere bf16 weights are multiplied in float32, and the last
    bits of a row may depend on both. So it is with many rows.

    Args:
        many: for many rows of one prompt: multiply in the dtype that is fastest for many rows.

    Attributes:
        nbytes: of all that is read for one row.
    """

    nbytes: int

    def __call__(self, rows: torch.Tensor, *, many: bool = False) -> torch.Tensor: ...


class _Widened:
    """A layer whose weights can be widened: many rows are worth the time that this takes."""

    wide = dtype_for_many_rows()

    def few(self, rows: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def weights(self) -> torch.Tensor:
        """The weights in `wide`, (outputs, inputs)."""
        raise NotImplementedError

    def __call__(self, rows: torch.Tensor, *, many: bool = False) -> torch.Tensor:
        if many:
            return linear(rows.to(self.wide), self.weights()).to(rows.dtype)
        return self.few(rows)


class Float32(_Widened):
    """Weights in float32: a test's, or bf16 ones on a CPU that cannot multiply bf16 fast."""

    def __init__(self, weight: torch.Tensor):
        self.weight = weight.float()
        self.nbytes = self.weight.nbytes

    def few(self, rows: torch.Tensor) -> torch.Tensor:
        return linear(rows.float(), self.weight)

    def weights(self) -> torch.Tensor:
        return self.weight.to(self.wide)


class Bf16(_Widened):
    """bf16 weights in the order in which oneDNN reads them.

    `linear` reorders them for every product, which takes time (measured: `pocket-bf16-packed`). For
    many rows on a CPU that multiplies float32 faster they are put back and widened.
    """

    def __init__(self, weight: torch.Tensor):
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, 1)
        # Found once, because it is called for every token; builds without oneDNN lack it.
        self.multiply = torch.ops.mkldnn._linear_pointwise.default
        self.nbytes = weight.nbytes

    def product(self, rows: torch.Tensor) -> torch.Tensor:
        return self.multiply(rows, self.packed, None, "none", [], "")

    def few(self, rows: torch.Tensor) -> torch.Tensor:
        if len(rows) > ROWS_AT_A_TIME:  # with AMX, oneDNN adds up more rows in another order
            return torch.cat([self.few(part) for part in rows.split(ROWS_AT_A_TIME)])
        return self.product(rows)

    def weights(self) -> torch.Tensor:
        return self.packed.to_dense(self.wide)

    def __call__(self, rows: torch.Tensor, *, many: bool = False) -> torch.Tensor:
        if len(rows) == 1:  # oneDNN adds up a single row in another order than a row among others
            return self.multiply(rows.expand(2, -1), self.packed, None, "none", [], "")[:1]
        if many and self.wide == torch.bfloat16:
            return self.product(rows)
        return super().__call__(rows, many=many)


class Int8(_Widened):
    """int8 weights; of the last `twice` outputs two numbers a weight, which is as exact as bf16."""

    def __init__(self, weight: torch.Tensor, twice: int = 0):
        self.weight, self.scales = round_to_int8(weight)
        self.nbytes = self.weight.nbytes + self.scales.nbytes
        self.left: Int8 | None = None
        self.outputs = slice(len(weight) - twice, None)
        if twice:
            exact = weight[self.outputs]
            self.left = Int8(exact.float() - dequantized(exact, "int8"))
            self.nbytes += self.left.nbytes

    def few(self, rows: torch.Tensor) -> torch.Tensor:
        rows = rows.bfloat16()
        product = torch._weight_int8pack_mm(rows, self.weight, self.scales)
        if self.left:
            product[:, self.outputs] += self.left.few(rows)
        return product

    def weights(self) -> torch.Tensor:
        weight = torch.mul(self.weight, self.scales[:, None].to(self.wide))
        if self.left:
            weight[self.outputs] += self.left.weights()
        return weight


def round_to_int8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (outputs, inputs) as int8, and the bf16 scale of each output."""
    scales = (weight.abs().amax(dim=1, keepdim=True).float() / 127).bfloat16()
    rounded = (weight.float() / scales.float().clamp(min=1e-20)).round_().clamp_(-127, 127)
    return rounded.to(torch.int8), scales[:, 0]


def dequantized(
    weight: torch.Tensor, quantization: Quantization, *, twice: bool = False
) -> torch.Tensor:
    """A layer's weights as they are after rounding, in float32.

    Args:
        twice: two numbers for each weight, if they are int8.
    """
    match quantization:
        case "int8" if twice:
            first = dequantized(weight, "int8")
            return first + dequantized(weight.float() - first, "int8")
        case "int8":
            values, scales = round_to_int8(weight)
            return values.float() * scales.float()[:, None]
        case "int4":
            values, scales, zeros = round_to_int4(weight)
            groups = (values.unflatten(1, (-1, INT4_GROUP)) - 8) * scales.float()[..., None]
            return (groups + zeros.float()[..., None]).flatten(1)
    return weight.float()


class Int4:
    def __init__(self, weight: torch.Tensor):
        self.outputs = len(weight)
        values, scales, zeros = round_to_int4(pad(weight, (0, 0, 0, -len(weight) % INT4_ROWS)))
        self.packed = torch._convert_weight_to_int4pack_for_cpu(values, 1)
        self.scales_and_zeros = torch.stack([scales, zeros], -1).transpose(0, 1).contiguous()
        self.nbytes = self.packed.nbytes + self.scales_and_zeros.nbytes

    def __call__(self, rows: torch.Tensor, *, many: bool = False) -> torch.Tensor:
        product = torch._weight_int4pack_mm_for_cpu(
            rows.bfloat16(), self.packed, INT4_GROUP, self.scales_and_zeros
        )
        return product[:, : self.outputs]


def round_to_int4(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights (outputs, inputs) as int32 from 0 to 15, with the bf16 scale and zero of each group.

    A weight is (value - 8) * scale + zero. Scales and zeros have the shape (outputs, groups).
    """
    groups = weight.float().unflatten(1, (-1, INT4_GROUP))
    low, high = groups.aminmax(dim=-1)
    scales = ((high - low) / 15).clamp(min=1e-6).bfloat16()
    zeros = (low + 8 * scales.float()).bfloat16()
    values = (groups - zeros.float()[..., None]) / scales.float()[..., None] + 8
    return values.round_().clamp_(0, 15).int().flatten(1), scales, zeros


class Nf4:
    """Layers that bitsandbytes computes, one after another."""

    def __init__(self, weights: list[tuple[torch.Tensor, Tensors]]):
        """Each layer's packed weights, and what belongs to them by its name in the file."""
        from bitsandbytes.nn import Linear4bit, Params4bit  # takes a second

        dtype = torch.bfloat16 if bf16_matmul_is_fast() else torch.float32
        self.layers, self.nbytes = [], 0
        for packed, others in weights:
            self.nbytes += packed.nbytes + sum(other.nbytes for other in others.values())
            parameter = Params4bit.from_prequantized(packed, dict(others), device="cpu")
            outputs, inputs = parameter.quant_state.shape
            layer = Linear4bit(inputs, outputs, bias=False, compute_dtype=dtype, device="meta")
            layer.weight = parameter
            self.layers.append(layer.eval())

    def __call__(self, rows: torch.Tensor, *, many: bool = False) -> torch.Tensor:
        return torch.cat([layer(rows) for layer in self.layers], dim=-1)


def is_twice(name: str, *, last: bool) -> bool:
    """Whether a weight of a linear layer is two numbers in `int8`."""
    return last or name.endswith(TWICE)


def linear_layer(
    quantization: Quantization, tensors: Tensors, names: list[str], *, last: bool = False
) -> Linear:
    """The layers called `names` as one, their outputs one after another.

    Args:
        tensors: a model file's, by name.
        last: they are of the model's last layer.
    """
    weights = [tensors[f"{name}.weight"] for name in names]
    if quantization == "nf4":
        prefixes = [f"{name}.weight." for name in names]
        others = [
            {key.removeprefix(p): tensors[key] for key in tensors if key.startswith(p)}
            for p in prefixes
        ]
        return Nf4(list(zip(weights, others, strict=True)))
    weight = torch.cat(weights)
    match quantization:
        case "int8":
            twice = [is_twice(name, last=last) for name in names]
            assert twice == sorted(twice), "those that are two numbers come last"
            return Int8(weight, sum(map(len, itertools.compress(weights, twice))))
        case "int4":
            return Int4(weight)
    if weight.dtype == torch.bfloat16 and bf16_matmul_is_fast():
        return Bf16(weight)
    return Float32(weight)
