"""The pictures in data/images are what their module draws, and each names its source."""

import itertools
import json
import re

import numpy as np
import pytest
from PIL import Image

from pocket_training import example_images

FOLDER = example_images.FOLDER


@pytest.fixture(scope="module")
def countries():
    return json.loads((FOLDER / "europe.json").read_text(encoding="utf-8"))


def test_every_file_has_its_source():
    listed = set(re.findall(r"^\| `([\w.]+)`", (FOLDER / "README.md").read_text(), re.MULTILINE))
    there = {path.name for path in FOLDER.iterdir() if path.suffix in (".png", ".json", ".jpg")}
    assert listed == there


@pytest.mark.parametrize("name", ["battle", "receipt", "chart", "shapes", "europe"])
def test_the_files_are_what_the_module_draws(name, countries):
    drawn = getattr(example_images, name)(*([countries] if name == "europe" else []))
    kept = Image.open(FOLDER / f"{name}.png").convert("RGB")
    assert kept.size == drawn.size
    difference = np.abs(np.asarray(drawn, dtype=int) - np.asarray(kept, dtype=int))
    assert difference.mean() < 1  # another Pillow may smooth letters otherwise


def test_the_map_knows_its_largest_countries(countries):
    assert next(iter(example_images.sizes(countries))) == "Russia"
    # Areas in km2 from the CIA World Factbook; a degree of latitude is 111.2 km. The squeeze is
    # right at 52 degrees north, so only countries near it are compared.
    for name, km2 in {"Germany": 357_022, "Poland": 312_685, "Belarus": 207_600}.items():
        assert example_images.sizes(countries)[name] * 111.2**2 == pytest.approx(km2, rel=0.05)


def test_a_topology_becomes_rings():
    # Two unit squares side by side share an arc, which the second one follows backwards.
    topology = {
        "transform": {"scale": [1, 1], "translate": [10, 50]},
        "arcs": [
            [[1, 0], [0, 1]],
            [[1, 1], [-1, 0], [0, -1], [1, 0]],
            [[1, 0], [1, 0], [0, 1], [-1, 0]],
        ],
        "objects": {
            "countries": {
                "geometries": [
                    {"type": "Polygon", "arcs": [[0, 1]], "properties": {"name": "West"}},
                    {"type": "MultiPolygon", "arcs": [[[2, -1]]], "properties": {"name": "East"}},
                ]
            }
        },
    }
    found = example_images.convert(topology)
    assert {name: abs(example_images.area(rings[0])) for name, rings in found.items()} == {
        "East": 1,
        "West": 1,
    }
    assert {tuple(point) for point in found["East"][0]} == {(11, 50), (12, 50), (12, 51), (11, 51)}


def test_a_ring_over_the_date_line_is_not_torn_apart():
    # From 55 degrees east over 180 to 170 west, as Russia's is; only the part in FRAME remains.
    line = [[55, 60], [180, 60], [180, 65], [-170, 65], [-170, 70], [179, 70], [55, 70], [55, 60]]
    steps = [line[0]] + [[b[0] - a[0], b[1] - a[1]] for a, b in itertools.pairwise(line)]
    shape = {"type": "Polygon", "arcs": [[0]], "properties": {"name": "Far"}}
    topology = {
        "transform": {"scale": [1, 1], "translate": [0, 0]},
        "arcs": [steps],
        "objects": {"countries": {"geometries": [shape]}},
    }
    ((ring,),) = example_images.convert(topology).values()
    assert abs(example_images.area(ring)) == pytest.approx(5 * 10)
