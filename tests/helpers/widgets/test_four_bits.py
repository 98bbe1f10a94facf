"""Four bits as bitsandbytes has them."""

import pytest
import torch

from helpers.widgets import four_bits

functional = pytest.importorskip("bitsandbytes").functional


@pytest.fixture(scope="module")
def weights():
    return torch.randn(64, 128, generator=torch.Generator().manual_seed(0)) * 0.02


@pytest.mark.parametrize("scheme", ["nf4", "fp4"])
@pytest.mark.parametrize("block", [64, 128])
def test_codes_and_bytes_are_bitsandbytes(weights, scheme, block):
    packed, state = functional.quantize_4bit(weights, quant_type=scheme, blocksize=block)
    codes, scales = four_bits.quantize(weights.reshape(-1, block), scheme)
    theirs = torch.stack([packed.flatten() >> 4, packed.flatten() & 15], dim=-1).long()
    # By value, since FP4 has a code for 0 and one for -0; and a tie may go either way.
    book = four_bits.code_book(scheme)
    assert (book[theirs.flatten()] == book[codes.flatten()]).float().mean() > 0.999
    assert list(four_bits.pack(theirs)) == packed.flatten().tolist()
    torch.testing.assert_close(scales.flatten(), state.absmax.float())
    became = functional.dequantize_4bit(packed, state)
    error = ((became - weights).pow(2).mean() / weights.pow(2).mean()).sqrt()
    assert four_bits.error(weights, scheme, block) == pytest.approx(float(error), rel=1e-3)


def test_the_scale_and_its_ends_are_kept(weights):
    for scheme in ("nf4", "even"):
        blocks = weights.reshape(-1, 64)
        codes, scales = four_bits.quantize(blocks, scheme)
        found = four_bits.dequantize(codes, scales, scheme)
        assert torch.equal(found.abs().amax(-1), blocks.abs().amax(-1))


def test_smaller_blocks_and_nf4_err_less_on_normal_weights(weights):
    errors = [four_bits.error(weights, "nf4", block) for block in four_bits.BLOCKS]
    assert errors == sorted(errors)
    at_64 = {scheme: four_bits.error(weights, scheme, 64) for scheme in four_bits.SCHEMES}
    assert min(at_64, key=at_64.get) == "nf4"


def test_the_page_shows_one_block(weights):
    made = four_bits.explore(weights, first=128)
    assert made.data["weights"] == pytest.approx(weights.flatten()[128:192].tolist(), abs=1e-6)
    nf4 = made.data["schemes"]["nf4"]
    assert len(bytes.fromhex(nf4["bytes"])) == 32
    assert [int(nf4["bytes"].replace(" ", "")[n], 16) for n in range(64)] == nf4["codes"]
    assert list(made.table.index) == list(four_bits.BLOCKS)
