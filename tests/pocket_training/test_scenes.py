"""The synthetic pictures: what is drawn is where the graph says, by the pixels."""

import random
from dataclasses import replace

import matplotlib
import numpy as np
import pytest

from pocket_training import charts, picture_tasks, scenes, styles, vision_stage
from pocket_training.styles import Style

PLAIN = Style(smooth=False)


def drawn(kind: str, split: str, count: int):
    for number in range(count):
        yield scenes.SCENES[kind](random.Random(f"test {kind} {number}"), split)


def pixels(scene, scale: float = 1) -> np.ndarray:
    return np.asarray(scene.draw(scale)).astype(int)


def centroid(points) -> tuple[float, float]:
    """Of a polygon's area, by the shoelace formula."""
    x, y = np.array(points).T
    cross = x * np.roll(y, -1) - np.roll(x, -1) * y
    six = 3 * cross.sum()
    return (
        ((x + np.roll(x, -1)) * cross).sum() / six,
        ((y + np.roll(y, -1)) * cross).sum() / six,
    )


def test_every_shape_is_drawn_where_the_graph_says():
    """Without a shape, the same picture differs there and only there."""
    for scene in drawn("shapes", "train", 120):
        quiet = replace(scene, style=replace(scene.style, jpeg=None, edge=None))
        whole = pixels(quiet, 2)
        for shape in quiet.shapes:
            others = tuple(other for other in quiet.shapes if other is not shape)
            mask = np.abs(whole - pixels(replace(quiet, shapes=others), 2)).sum(-1) > 40
            y, x = (np.nonzero(mask)[axis] / 2 for axis in (0, 1))
            left, top = np.min(shape.points(), axis=0) - shape.line / 2
            right, bottom = np.max(shape.points(), axis=0) + shape.line / 2
            found = np.array([x.min(), y.min(), x.max(), y.max()])
            assert np.abs(found - [left, top, right, bottom]).max() < 2.5, shape
            if not shape.line:
                assert np.hypot(*np.subtract((x.mean(), y.mean()), centroid(shape.points()))) < 1.5
                near = np.abs(np.median(whole[mask], axis=0) - shape.rgb).max()
                assert near <= (3 if not scene.style.noise else 12), shape


def test_no_two_shapes_touch_and_all_are_inside():
    for scene in drawn("shapes", "train", 300):
        width, height = scene.size
        taken = np.zeros((int(height), int(width)), dtype=int)
        for shape in scene.shapes:
            alone = replace(scene, shapes=(shape,), style=replace(PLAIN, background=(1, 2, 3)))
            taken += (np.abs(pixels(alone) - [1, 2, 3]).sum(-1) > 0).astype(int)
        assert taken.max() == 1, scene


def test_shapes_are_from_8_to_90_percent_of_the_side_in_all_places():
    sides = [2 * s.radius / min(t.size) for t in drawn("shapes", "train", 400) for s in t.shapes]
    assert min(sides) < 0.1
    assert max(sides) > 0.85
    places = {s for t in drawn("shapes", "train", 400) for s in map(t.position, t.shapes)}
    assert len(places) == 9


def test_cells_are_the_things_own_or_the_nearest_free_ones():
    size = (112, 112)
    assert scenes.cells_of([(10, 10), (100, 60)], size) == [(0, 0), (2, 3)]
    # Two in one cell: the one in its middle keeps it, the other goes right, where it is nearer.
    assert scenes.cells_of([(26, 14), (14, 14)], size) == [(0, 1), (0, 0)]
    for scene in drawn("shapes", "train", 200):
        centers = [(s.x, s.y) for s in scene.shapes]
        assert len(set(scenes.cells_of(centers, scene.size))) == len(centers)


@pytest.mark.parametrize("by_matplotlib", [False, True])
def test_every_bar_ends_where_the_graph_says(by_matplotlib):
    checked = 0
    for scene in drawn("bars", "train", 160):
        if scene.by_matplotlib != by_matplotlib:
            continue
        quiet = replace(scene, style=replace(scene.style, jpeg=None, noise=0, edge=None))
        image, scale = pixels(quiet, 3), 3
        if by_matplotlib:
            scale = image.shape[1] / scene.size[0]
        for (left, top, right, bottom), rgb in zip(quiet.spans(), scene.rgbs, strict=True):
            x, y = (left + right) / 2, (top + bottom) / 2
            # Half a pixel of the model's inside the bar's end has its color, two outside not.
            ends = [(right - 0.5, y), (right + 2, y)]
            if not scene.horizontal:
                ends = [(x, top + 0.5), (x, top - 2)]
            inside, outside = (image[int(b * scale), int(a * scale)] for a, b in ends)
            assert np.abs(inside - rgb).sum() <= 12, scene
            assert np.abs(outside - rgb).sum() > 40, scene
            checked += 1
    assert checked > 50


def test_the_pool_of_matplotlibs_charts_is_drawn_once():
    scene = next(scene for scene in drawn("bars", "train", 100) if scene.by_matplotlib)
    assert charts.matplotlib_chart(scene) is charts.matplotlib_chart(replace(scene))


def test_a_chart_does_not_depend_on_the_processs_settings():
    """The kit's notebooks change them, and so does whoever uses both in one process."""
    scene = next(scene for scene in drawn("bars", "train", 100) if scene.by_matplotlib)
    drawing = charts.matplotlib_chart.__wrapped__
    before = drawing(scene).tobytes()
    with matplotlib.rc_context({"font.size": 30, "axes.grid": True, "axes.edgecolor": "red"}):
        assert drawing(scene).tobytes() == before


def test_the_largest_region_has_the_most_pixels():
    for scene in drawn("regions", "held_out", 25):
        image = pixels(replace(scene, style=PLAIN))
        counts = {
            color: int((np.abs(image - rgb).sum(-1) == 0).sum())
            for color, rgb in zip(scene.colors, scene.rgbs, strict=True)
        }
        assert max(counts, key=counts.get) == scene.colors[scene.largest()]


def test_numbers_are_in_the_picture():
    for scene in drawn("number", "train", 80):
        quiet = replace(scene, style=replace(PLAIN, background=(1, 2, 3)), ink=(255, 255, 255))
        y, x = np.nonzero(np.abs(pixels(quiet) - [1, 2, 3]).sum(-1) > 60)
        assert x.min() > 0
        assert y.min() > 0
        assert x.max() < scene.size[0] - 1
        assert y.max() < scene.size[1] - 1
        assert abs((x.min() + x.max()) / 2 - scene.center[0]) < 6
        assert len(scene.digits) <= scenes.grid(scene.size)[1]


def test_a_digit_labels_the_cell_that_it_is_in():
    """Where the digits are is read off the picture: they are runs of columns with ink."""
    exact = 0
    for scene in drawn("number", "train", 150):
        _, columns = scenes.grid(scene.size)
        cells = [cell for row in scene.cell_labels() for cell in row]
        found = [number for number, cell in enumerate(cells) if cell != ("empty",)]
        count = scenes.NUMBERS[len(scene.digits)]
        assert [cells[number] for number in found] == [
            ("number", digit, place, count)
            for digit, place in zip(scene.digits, scenes.ORDINALS, strict=False)
        ]
        assert len({number // columns for number in found}) == 1  # in one row: left to right
        quiet = replace(scene, style=replace(PLAIN, background=(1, 2, 3)), ink=(255, 255, 255))
        inked = (np.abs(pixels(quiet) - [1, 2, 3]).sum(-1) > 60).any(0)
        edges = np.flatnonzero(np.diff(inked.astype(int)))  # none is at the picture's own edge
        middles = (edges[::2] + edges[1::2] + 1) / 2 / scene.size[0] * columns
        if len(middles) != len(scene.digits):  # two digits touch
            continue
        away = np.abs(middles - middles.round()).min() > 0.1  # from the borders of cells
        if away and len(set(middles.astype(int))) == len(middles):
            assert [number % columns for number in found] == middles.astype(int).tolist()
            exact += len(middles) > 1
        assert np.abs(np.array(found) % columns + 0.5 - middles).max() < 2.5
    assert exact > 20


def test_everything_contrasts_with_its_background():
    for scene in drawn("shapes", "train", 200):
        assert all(scene.style.contrasts_with(shape.rgb) for shape in scene.shapes)
    style = Style((200, 200, 200), other_end=(90, 90, 90))
    assert not style.contrasts_with((100, 100, 100))
    assert style.contrasts_with((255, 0, 0))


def test_every_cell_has_labels_and_every_label_is_known():
    known = set(vision_stage.vocabulary())
    for kind in scenes.SCENES:
        for scene in drawn(kind, "train", 40):
            labels = scene.cell_labels()
            height, width = pixels(scene).shape[:2]
            if not getattr(scene, "by_matplotlib", False):
                assert (len(labels), len(labels[0])) == (-(-height // 28), -(-width // 28))
            assert all(cell and set(cell) <= known for row in labels for cell in row)


def test_the_encoder_sees_the_cells_that_are_labelled(encoder):
    """The grid of labels has the shape of the picture's tokens, at every size and scale."""
    for kind in scenes.SCENES:
        for number, scene in enumerate(drawn(kind, "train", 40)):
            picture = scene.draw(picture_tasks.SCALES[number % len(picture_tasks.SCALES)])
            _, height, width = vision_stage.pixels(encoder.chat_format, picture).shape
            labels = scene.cell_labels()
            assert (len(labels), len(labels[0])) == (height // 28, width // 28), picture.size


def test_shades_stay_near_those_that_bear_the_name():
    rng = random.Random(0)
    for color, shades in styles.SHADES.items():
        drawn_shades = np.array([styles.random_shade(rng, color) for _ in range(200)])
        assert (drawn_shades >= np.min(shades, axis=0) - 4).all()
        assert (drawn_shades <= np.max(shades, axis=0) + 4).all()


def test_held_out_scenes_show_pairs_that_training_never_shows():
    shown = {"train": set(), "held_out": set()}
    for split, pairs in shown.items():
        for scene in drawn("shapes", split, 300):
            pairs |= {(shape.color, shape.kind) for shape in scene.shapes}
    assert not shown["train"] & scenes.HELD_OUT_PAIRS
    assert shown["held_out"] >= scenes.HELD_OUT_PAIRS
    assert {kind for _, kind in shown["held_out"]} <= set(scenes.SHAPES)


def test_the_same_seed_gives_the_same_pixels():
    for kind in scenes.SCENES:
        one, other = (scenes.SCENES[kind](random.Random(5), "train").draw(2) for _ in range(2))
        assert one.tobytes() == other.tobytes()
