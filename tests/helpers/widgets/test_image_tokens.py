"""An image's grid as Mistral's own library makes it."""

import numpy as np
import pytest
from mistral_common.protocol.instruct.chunk import ImageChunk
from mistral_common.tokens.tokenizers.image import ImageConfig, ImageEncoder, SpecialImageIDs
from PIL import Image

from helpers import images
from helpers.model import configs
from helpers.widgets import image_tokens


@pytest.mark.parametrize("size", [(640, 480), (300, 900), (1540, 20), (28, 28)])
def test_the_tokens_are_mistral_commons(size):
    encoder = ImageEncoder(ImageConfig(14, 1540, 2), SpecialImageIDs(10, 12, 13))
    config = configs.load("mistral-small-3.2-2506")
    made = image_tokens.explore(Image.new("RGB", size, "red"), {"24B": config})
    for side, entry in zip(made.data["sides"], made.data["models"]["24B"], strict=True):
        assert max(entry["sent"]) == side
        chunk = ImageChunk(image=Image.new("RGB", tuple(entry["sent"])))
        assert entry["tokens"] == len(encoder(chunk).tokens)
        assert entry["tokens"] == entry["rows"] * (entry["columns"] + 1)
        assert made.table.loc[f"{side} pixels", "24B"] == entry["tokens"]


def test_a_page_has_the_picture_small(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    pocket = configs.load("mistral-small-3.2-2506")
    pocket.vision_config.image_size = 168
    made = image_tokens.explore(tmp_path / "noise.png", {"pocket": pocket})
    url = made.data["pictures"]["pocket"]
    small = images.image_of({"image_url": {"url": url}})
    assert max(small.size) == 168
    assert len(made._repr_html_()) < 300_000


def test_what_is_no_picture_is_refused_in_words():
    with pytest.raises(images.ImageError):
        image_tokens.explore("no such file.png", {})
