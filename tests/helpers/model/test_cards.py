"""The table of GPUs and Macs, and how a name is looked up in it."""

import json

import pytest

from helpers.model import cards
from helpers.paths import DATA


def test_every_gpu_has_its_figures_and_their_sources():
    entries = json.loads((DATA / "accelerators.json").read_text(encoding="utf-8"))
    for name, entry in entries["accelerators"].items():
        assert 0.6 * entry["memory_gib"] < entry["usable_gib"] <= entry["memory_gib"], name
        assert 100 <= entry["bandwidth_gb_per_s"] <= 8000, name
        assert entry["bf16_tflops"] is None or 50 <= entry["bf16_tflops"] <= 3000, name
        assert entry["datasheet"], name
        source = entry["usable_source"]
        assert source in entries["usable_sources"] or source.startswith(("https", "own")), name
    assert len(cards.gpus()) == len(entries["accelerators"]) >= 20


@pytest.mark.parametrize(
    ("name", "full_name"),
    [
        ("RTX 4090", "RTX 4090"),
        ("4090", "RTX 4090"),
        ("nvidia h100", "H100"),
        ("t4", "T4 (Colab)"),
        ("L4", "L4"),
        ("M4 Max 128", "Apple M4 Max 128GB"),
        ("apple m2 16gb", None),
    ],
)
def test_gpus_by_a_part_of_their_name(name, full_name):
    if full_name is None:
        with pytest.raises(ValueError, match=r"GPU: there is no 'apple m2 16gb'\. Did you mean"):
            cards.gpu(name)
    else:
        assert cards.gpu(name).name == full_name


def test_a_name_that_fits_several_gpus():
    with pytest.raises(ValueError, match="fits A100-40, A100-80"):
        cards.gpu("A100")
