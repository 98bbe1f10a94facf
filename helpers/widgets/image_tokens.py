"""An image as a model gets it: shrunk, in a grid of tokens."""

import base64
import io
from collections.abc import Mapping, Sequence

import pandas as pd
from PIL import Image
from transformers import PretrainedConfig

from helpers import images
from helpers.model import sizes
from helpers.widgets.explorer import Explorer

CELL = 28  # pixels of a token, on each side
SIDES = (112, 168, 280, 448, 784, 1120, 1540, 2048)  # pixels, of the longer side
SHOWN = 448  # pixels of the longer side in the page


def explore(
    source: images.Source,
    configs: Mapping[str, PretrainedConfig],
    *,
    sides: Sequence[int] = SIDES,
    usd_per_million: float | None = None,
) -> Explorer:
    """Look at an image under the grids of some models, at several sizes.

    Args:
        source: an image, or a file's path; see `images.image_part`, which says what is wrong
            with what is none.
        configs: the models' configs by name.
        sides: the longer side of what is sent, in pixels.
        usd_per_million: the price of a million tokens, if it shall be shown.
    """
    picture = images.image_of(images.image_part(source))
    shown: dict[str, list[dict]] = {}
    for name, config in configs.items():
        shown[name] = []
        for side in sides:
            scale = side / max(picture.size)
            width, height = (max(1, round(scale * length)) for length in picture.size)
            rows, columns = sizes.image_grid(width, height, config)
            tokens = sizes.image_tokens(width, height, config)
            grid = {"rows": rows, "columns": columns, "tokens": tokens}
            shown[name].append({"sent": [width, height], **grid})
    seen = {}
    for name, entries in shown.items():
        limit = max(max(e["columns"], e["rows"]) for e in entries) * CELL
        seen[name] = _as_url(picture, min(limit, SHOWN))
    rows = {
        f"{side} pixels": {name: shown[name][number]["tokens"] for name in shown}
        for number, side in enumerate(sides)
    }
    table = pd.DataFrame(rows).T.rename_axis("longer side")
    data = {
        "sides": list(sides),
        "models": shown,
        "pictures": seen,
        "usd_per_million": usd_per_million,
    }
    return Explorer("An image in tokens", table, data, "image_tokens.js")


def _as_url(picture: Image.Image, side: int) -> str:
    small = picture.copy()
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
