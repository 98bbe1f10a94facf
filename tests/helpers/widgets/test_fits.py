"""What a model needs, against sums that are made by hand from its config."""

import pytest

from helpers.model import cards, configs
from helpers.widgets import fits

SMALL = "mistral-small-3.2-2506"
# The count of a model without weights, by transformers; and 2 bytes for each in bf16.
PARAMETERS = configs.count_parameters(configs.empty_model(configs.load(SMALL)))
# 40 layers, a key and a value, 8 heads of 128 numbers of 2 bytes.
BYTES_PER_TOKEN = 40 * 2 * 8 * 128 * 2


@pytest.mark.parametrize(("context", "users"), [(2048, 1), (32768, 4), (131072, 32)])
def test_weights_and_cache_are_the_configs(context, users):
    weights, cache, _, _ = fits.parts(SMALL, "bf16", context, users, 0)
    assert weights == 2 * PARAMETERS
    assert cache == BYTES_PER_TOKEN * context * users


def test_images_that_exceed_the_context_have_no_plan():
    assert fits.parts(SMALL, "bf16", 2048, 1, 1) is None
    assert fits.parts(SMALL, "bf16", 4096, 1, 1) is not None


def test_the_page_has_every_combination_and_every_gpu():
    made = fits.explore(SMALL, ("bf16", "nf4-dq"), context=8192)
    assert made.data["gpus"] == {n: g.usable_bytes for n, g in cards.gpus().items()}
    for scheme in ("bf16", "nf4-dq"):
        for n, context in enumerate(fits.CONTEXTS):
            for m, users in enumerate(fits.USERS):
                needs = made.data["needs"][scheme][n][m]
                assert needs == [fits.parts(SMALL, scheme, context, users, i) for i in fits.IMAGES]
        own = fits.parts(SMALL, scheme, 8192, 1, 0)
        assert made.table.loc[scheme, "all"] == pytest.approx(sum(own) / cards.GIB, abs=0.06)
    assert made.data["first"] == {"gpu": "RTX 4090", "context": 2}
