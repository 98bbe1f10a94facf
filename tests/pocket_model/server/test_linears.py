"""Rounded weights and their products, against the exact ones in double precision."""

import subprocess
import sys

import bitsandbytes.functional as bitsandbytes
import pytest
import torch

from pocket_model.build import QUANTIZATIONS
from pocket_model.processor import bf16_matmul_is_fast
from pocket_model.server import linears
from pocket_model.server.linears import (
    INT4_GROUP,
    Bf16,
    Int4,
    Int8,
    dequantized,
    linear_layer,
    round_to_int4,
    round_to_int8,
)

# The built model's layers (outputs, inputs), those without heads of zeros, and two whose outputs no
# kernel's block divides.
SHAPES = [
    (1280, 576),
    (576, 768),
    (960, 576),
    (576, 576),
    (3072, 576),
    (576, 1536),
    (1003, 576),
    (37, 96),
]
TWICE = "int8 twice"  # two numbers for each weight, as of the last layer
KINDS = {"bf16": Bf16, "int8": Int8, TWICE: lambda weight: Int8(weight, len(weight)), "int4": Int4}
FORMS = [*QUANTIZATIONS, TWICE]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def weights(outputs: int, inputs: int, seed: int = 0) -> torch.Tensor:
    return (0.05 * random(outputs, inputs, seed=seed)).bfloat16()


def packed(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """A weight in NF4, its statistics quantized too: what a model file has of it."""
    values, state = bitsandbytes.quantize_4bit(
        weight, blocksize=64, compress_statistics=True, quant_type="nf4"
    )
    return {"": values} | {f".{key}": value for key, value in state.as_dict(packed=True).items()}


def file_of(quantization: str, **layers: torch.Tensor) -> dict[str, torch.Tensor]:
    """The tensors of a model file that has these layers."""
    if quantization != "nf4":
        return {f"{name}.weight": weight for name, weight in layers.items()}
    return {
        f"{name}.weight{key}": value
        for name, weight in layers.items()
        for key, value in packed(weight).items()
    }


def layer_of(form: str, tensors: dict[str, torch.Tensor], names: list[str]) -> linears.Linear:
    """`linear_layer`, with the last layer's form."""
    return linear_layer(form.removesuffix(" twice"), tensors, names, last=form == TWICE)


def widened(quantization: str, weight: torch.Tensor) -> torch.Tensor:
    """The weights that a layer of this form multiplies with, in double precision."""
    match quantization:
        case "int8":
            values, scales = round_to_int8(weight)
            return values.double() * scales.double()[:, None]
        case form if form == TWICE:
            first = widened("int8", weight)
            return first + widened("int8", (weight.double() - first).float())
        case "int4":
            values, scales, zeros = (each.double() for each in round_to_int4(weight))
            groups = (values - 8).unflatten(1, (-1, INT4_GROUP)) * scales[..., None]
            return (groups + zeros[..., None]).flatten(1)
        case "nf4":
            values, state = bitsandbytes.quantize_4bit(
                weight, blocksize=64, compress_statistics=True, quant_type="nf4"
            )
            return bitsandbytes.dequantize_4bit(values, state).double()
    return weight.double()


def unusual_weights() -> dict[str, torch.Tensor]:
    """Rows at the edges of what can be rounded: each a tensor of (3, 128)."""
    constant = torch.tensor([0.3, -2.0, 1e-4])[:, None].expand(3, 128)
    outlier = random(3, 128) * 0.01
    outlier[:, 17] = torch.tensor([1e4, -1e4, 3e37])
    shifted = 1 + random(3, 128) * 0.001  # far from zero, and near each other
    one_sided = random(3, 128).abs()
    found = {
        "normal": weights(3, 128),
        "zero": torch.zeros(3, 128),
        "constant": constant,
        "a huge outlier": outlier,
        "far from zero": shifted,
        "positive": one_sided,
        "negative": -one_sided,
        "small": random(3, 128) * 1e-4,
        "two values": random(3, 128).sign(),
    }
    return {name: weight.bfloat16() for name, weight in found.items()}


UNUSUAL = unusual_weights()


# --- rounding --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", UNUSUAL)
def test_int8_is_off_by_half_a_scale_at_most(name):
    weight = UNUSUAL[name].double()
    values, scales = round_to_int8(UNUSUAL[name])
    assert (values.dtype, scales.dtype) == (torch.int8, torch.bfloat16)
    error = (weight - widened("int8", UNUSUAL[name])).abs()
    assert (error <= 0.50001 * scales.double()[:, None]).all()
    # The scale is the least that the largest weight allows, but for its own rounding.
    torch.testing.assert_close(
        scales.double(), weight.abs().amax(dim=1) / 127, rtol=2**-8, atol=1e-30
    )


@pytest.mark.parametrize("name", UNUSUAL)
def test_int8_twice_is_off_by_a_step_of_fifteen_bits_at_most(name):
    weight = UNUSUAL[name].double()
    error = (weight - dequantized(UNUSUAL[name], "int8", twice=True).double()).abs()
    # Half of a 127th of half a 127th, and what rounding to a bf16 scale adds.
    limit = 1.01 * weight.abs().amax(dim=1, keepdim=True) / 127 / 2 / 127 / 2
    assert (error <= limit + 1e-12).all()


@pytest.mark.parametrize("name", UNUSUAL)
def test_int4_is_off_by_half_a_groups_scale_and_the_rounding_of_scale_and_zero(name):
    groups = UNUSUAL[name].double().unflatten(1, (-1, INT4_GROUP))
    low, high = groups.amin(dim=-1), groups.amax(dim=-1)
    values, scales, zeros = round_to_int4(UNUSUAL[name])
    assert scales.shape == zeros.shape == (3, 128 // INT4_GROUP)
    assert (scales.dtype, zeros.dtype) == (torch.bfloat16, torch.bfloat16)
    assert values.min() >= 0
    assert values.max() <= 15
    exact_scale = ((high - low) / 15).clamp(min=1e-6)
    exact_zero = low + 8 * scales.double()
    torch.testing.assert_close(scales.double(), exact_scale, rtol=2**-8, atol=0)
    torch.testing.assert_close(zeros.double(), exact_zero, rtol=2**-8, atol=0)
    moved = 15 * (scales.double() - exact_scale).abs() + (zeros.double() - exact_zero).abs()
    error = (UNUSUAL[name].double() - widened("int4", UNUSUAL[name])).abs()
    limit = 0.50001 * scales.double() + moved
    assert (error.unflatten(1, (-1, INT4_GROUP)) <= limit[..., None]).all()


@pytest.mark.parametrize("name", UNUSUAL)
@pytest.mark.parametrize("quantization", ["int8", TWICE, "bf16", "int4"])
def test_dequantized_weights_are_those_that_a_layer_multiplies_with(quantization, name):
    form = quantization.removesuffix(" twice")
    found = dequantized(UNUSUAL[name], form, twice=quantization == TWICE)
    assert found.dtype == torch.float32
    exact = widened(quantization, UNUSUAL[name])
    torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_rows_of_zeros_stay_zero(quantization):
    assert not widened(quantization, torch.zeros(3, 128, dtype=torch.bfloat16)).any()
    layer = linear_layer(quantization, {"a.weight": torch.zeros(37, 96).bfloat16()}, ["a"])
    assert not layer(random(3, 96).bfloat16()).any()


@pytest.mark.parametrize("value", [0.3125, -2.0, 1.0])
def test_int4_keeps_constant_rows_that_bf16_has(value):
    weight = torch.full((3, 128), value).bfloat16()
    torch.testing.assert_close(widened("int4", weight), weight.double(), rtol=0, atol=1e-6)


def test_an_outlier_costs_precision_in_its_own_row_or_group_only():
    plain = weights(2, 128)
    outlier = plain.clone()
    outlier[0, 40] = 1000
    for quantization, touched in (("int8", slice(None)), ("int4", slice(32, 64))):
        rounded = widened(quantization, outlier)
        before = widened(quantization, plain)
        assert torch.equal(rounded[1], before[1])
        assert rounded[0, 40] == pytest.approx(1000, rel=2**-7)
        others = torch.ones(128, dtype=torch.bool)
        others[touched] = False
        assert torch.equal(rounded[0, others], before[0, others])


# --- products --------------------------------------------------------------------------------


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize(
    ("quantization", "shape"),
    [
        (quantization, shape)
        for quantization in FORMS
        for shape in [(576, 1536), (1003, 576), (37, 96), (1, 64), (32, 32)]
        # bitsandbytes' kernel takes whole blocks only, which all of the built model's layers are.
        if quantization != "nf4" or shape == (576, 1536)
    ],
)
def test_a_product_is_the_exact_one_but_for_the_rounding_to_bf16(quantization, shape, many):
    weight, rows = weights(*shape), random(30, shape[1], seed=1).bfloat16()
    layer = layer_of(quantization, file_of(quantization, a=weight), ["a"])
    exact = rows.double() @ widened(quantization, weight).T
    with torch.inference_mode():
        product = layer(rows, many=many).double()
    assert product.shape == exact.shape
    # A product's terms may be rounded to bf16 too, and so may widened weights.
    terms = rows.double().abs() @ widened(quantization, weight).abs().T
    assert ((product - exact).abs() <= 2**-8 * exact.abs() + 2**-9 * terms).all()
    assert (product - exact).square().mean().sqrt() <= 2**-8 * exact.square().mean().sqrt()


@pytest.mark.parametrize("quantization", ["bf16", "int8", TWICE, "int4"])
def test_many_rows_have_nearly_the_numbers_of_few(quantization):
    layer = layer_of(quantization, {"a.weight": weights(576, 1536)}, ["a"])
    rows = random(70, 1536, seed=1).bfloat16()
    few, many = layer(rows).float(), layer(rows, many=True).float()
    assert (few - many).square().mean().sqrt() <= 2**-8 * few.square().mean().sqrt()


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_has_the_same_result_beside_any_others(kind, shape, threads):
    """To the bit: a reply must not depend on other requests in its batch."""
    if kind == "bf16" and not bf16_matmul_is_fast():
        pytest.skip("without bf16 instructions, bf16 weights are multiplied in float32")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        layer, rows = KINDS[kind](weights(*shape)), random(70, shape[1], seed=1).bfloat16()
        with torch.inference_mode():
            alone = torch.cat([layer(row[None]) for row in rows])
            others = [
                count for count in range(1, 71) if not layer(rows[:count]).equal(alone[:count])
            ]
    finally:
        torch.set_num_threads(before)
    assert others == []


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_layers_that_are_joined_keep_their_order(quantization):
    layers = {name: weights(32 + 64 * i, 64, seed=i) for i, name in enumerate(["q", "k", "v"])}
    tensors = file_of(quantization, **layers)
    rows = random(3, 64, seed=9).bfloat16()
    with torch.inference_mode():
        joined = linear_layer(quantization, tensors, ["q", "k", "v"])(rows)
        single = [linear_layer(quantization, tensors, [name])(rows) for name in layers]
    assert joined.shape == (3, 32 + 96 + 160)
    torch.testing.assert_close(joined, torch.cat(single, dim=1), rtol=2**-7, atol=2**-9)


@pytest.mark.parametrize("wide", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("many", [False, True])
def test_the_values_are_two_int8_numbers_a_weight_and_queries_and_keys_one(many, wide, monkeypatch):
    monkeypatch.setattr(linears._Widened, "wide", wide)
    names = ["q_proj", "k_proj", "v_proj"]
    layers = {name: weights(64, 96, seed=seed) for seed, name in enumerate(names)}
    rows = random(70, 96, seed=9).bfloat16()
    product = linear_layer("int8", file_of("int8", **layers), names)(rows, many=many).double()

    def error(form: str) -> list[float]:
        """Of queries, keys and values, if their weights were rounded to this form."""
        exact = torch.cat([rows.double() @ widened(form, w).T for w in layers.values()], dim=1)
        return [part.square().mean().sqrt().item() for part in (product - exact).split(64, dim=1)]

    of_one, of_two = error("int8"), error(TWICE)
    assert all(of_one[part] < 0.7 * of_two[part] for part in (0, 1))
    assert of_two[2] < 0.7 * of_one[2]


@pytest.mark.parametrize("quantization", ["bf16", "nf4"])
def test_without_bf16_instructions_the_products_are_computed_in_float32(quantization, monkeypatch):
    monkeypatch.setattr(linears, "bf16_matmul_is_fast", lambda: False)
    weight, rows = weights(128, 64), random(5, 64, seed=1).bfloat16()
    layer = linear_layer(quantization, file_of(quantization, a=weight), ["a"])
    if quantization == "bf16":
        assert layer.weight.dtype == torch.float32
        assert torch.equal(layer.weight.bfloat16(), weight)
    else:
        assert [each.compute_dtype for each in layer.layers] == [torch.float32]
    with torch.inference_mode():
        product = layer(rows).double()
    exact = rows.double() @ widened(quantization, weight).T
    assert (product - exact).square().mean().sqrt() <= 2**-8 * exact.square().mean().sqrt()


def test_a_build_of_torch_without_onednn_can_load_the_server():
    """As builds for Apple's processors: there, asking for an operation of `mkldnn` fails."""
    code = (
        "import types, torch; torch.ops.mkldnn = types.SimpleNamespace()\n"
        "torch.backends.mkldnn.is_available = lambda: False\n"
        "import pocket_model.server.engine\n"
        "from pocket_model.server.linears import Float32\n"
        "assert Float32(torch.eye(2)).few(torch.ones(1, 2)).tolist() == [[1, 1]]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
