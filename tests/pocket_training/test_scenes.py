"""The synthetic pictures: their answers are checked against the pixels, not against the scene."""

import random
import re

import numpy as np
import pytest
from scipy import ndimage

from pocket_training import picture_tasks, scenes, vision_stage, words

SKILLS = {"colour", "shape", "count", "position", "largest", "tallest", "region", "two pictures"}


def drawn(kind: str, split: str, count: int):
    for number in range(count):
        rng = random.Random(f"test {kind} {number}")
        scene = scenes.SCENES[kind](rng, split)
        yield scene, np.asarray(scene.draw()).astype(int), rng


PAINTS = scenes.COLORS | scenes.FURTHER_COLORS


def nearest_color(pixel: np.ndarray, paints: dict = scenes.COLORS) -> str:
    return min(paints, key=lambda name: np.abs(pixel - paints[name]).sum())


def blobs(pixels: np.ndarray):
    """Connected coloured areas on the light background: their masks."""
    background = pixels[0, 0]
    labels, count = ndimage.label(np.abs(pixels - background).sum(-1) > 60, np.ones((3, 3)))
    return [labels == number for number in range(1, count + 1)]


def answers(scene, rng, skill: str, split: str = "train"):
    return [(q, a) for s, q, a in picture_tasks.questions(scene, split, rng) if s == skill]


def test_shapes_are_counted_placed_and_coloured_as_the_pixels_say():
    for scene, pixels, rng in drawn("shapes", "train", 60):
        if len(scene.shapes) > 1 and abs(pixels[0, 0].sum() - scene.background[0] * 3) > 30:
            continue  # a shape covers the corner that tells the background
        found = blobs(pixels)
        assert len(found) == len(scene.shapes)
        seen = []
        for mask in found:
            y, x = ndimage.center_of_mass(mask)
            color = nearest_color(np.median(pixels[mask], axis=0), PAINTS)
            row = ("top", "middle", "bottom")[int(3 * y / pixels.shape[0])]
            column = ("left", "center", "right")[int(3 * x / pixels.shape[1])]
            seen.append((color, row, column))
        assert sorted(seen) == sorted((t.color, *scene.position(t)) for t in scene.shapes)
        for question, answer in answers(scene, rng, "count"):
            if " shapes" in question and not any(c in question for c in PAINTS):
                assert scenes.NUMBERS[len(found)] in answer
        for _, answer in answers(scene, rng, "largest"):
            largest = max(found, key=np.sum)
            assert nearest_color(np.median(pixels[largest], axis=0), PAINTS) in answer


def test_the_tallest_bar_is_the_tallest_in_pixels():
    for scene, pixels, rng in drawn("bars", "train", 40):
        heights = {}
        for left, top, right, bottom in scene.spans():
            middle = pixels[:, int((left + right) / 2)]
            color = nearest_color(middle[int((top + bottom) / 2)])
            off = np.abs(middle - scenes.COLORS[color]).sum(-1)
            heights[color] = int((off < 60).sum())
        ((_, answer),) = answers(scene, rng, "tallest")
        assert max(heights, key=heights.get) in answer


def test_the_largest_country_owns_the_most_pixels():
    for scene, pixels, rng in drawn("regions", "held_out", 25):
        areas = {
            color: int((np.abs(pixels - rgb).sum(-1) < 6).sum())
            for color, rgb in zip(scene.colors, scene.rgbs, strict=True)
        }
        largest = max(areas, key=areas.get)
        for question, answer in answers(scene, rng, "region", "held_out"):
            legend = re.findall(r"(\w+)(?: is shown in| =) (\w+)", question)
            assert answer == f"The largest country is {dict(map(reversed, legend))[largest]}."


def test_every_cell_has_labels_and_every_label_is_known():
    known = set(vision_stage.vocabulary())
    for kind in scenes.SCENES:
        for scene, pixels, _ in drawn(kind, "train", 15):
            labels = scene.cell_labels()
            assert (len(labels), len(labels[0])) == (pixels.shape[0] // 28, pixels.shape[1] // 28)
            assert all(cell and set(cell) <= known for row in labels for cell in row)


def test_two_pictures_are_asked_about_what_only_one_shows():
    for group in picture_tasks.picture_groups("held_out", "two", groups=40, seed=5):
        for case in group:
            assert len(case.pictures) == 2
            said = case.question if case.skill == "describe one" else case.answer
            picture = case.pictures[0 if "first" in said else 1]
            answer = case.answer.replace(",", "").split()
            for color in (name for name in scenes.COLORS if name in answer):
                pixels = np.asarray(picture).astype(int)
                near = np.abs(pixels - scenes.COLORS[color]).sum(-1) < 60
                assert near.mean() > 0.002, case


def test_descriptions_name_every_shape_where_it_is_drawn():
    for scene, _, rng in drawn("shapes", "held_out", 30):
        asked = picture_tasks.questions(scene, "held_out", rng)
        (answer,) = [answer for skill, _, answer in asked if skill == "describe"]
        for shape in scene.shapes:
            article = "an" if shape.color == "orange" else "a"
            assert f"{article} {shape.name} {scene.position_phrase(shape)}" in answer
        assert answer.count(" a ") + answer.count(" an ") == len(scene.shapes)


def test_held_out_scenes_phrasings_and_countries_are_not_in_training():
    lists = words.pictures()
    for split in (*lists.phrasings.values(), lists.legends, lists.countries):
        assert not set(split.train) & set(split.held_out)
    shown = {"train": set(), "held_out": set()}
    for split, pairs in shown.items():
        for scene, _, _ in drawn("shapes", split, 300):
            pairs |= {(shape.color, shape.kind) for shape in scene.shapes}
    assert not shown["train"] & scenes.HELD_OUT_PAIRS
    assert shown["held_out"] >= scenes.HELD_OUT_PAIRS


def test_the_same_arguments_give_the_same_pictures():
    def once():
        groups = picture_tasks.picture_groups("train", "shapes", groups=5, seed=3)
        return [(c.question, c.answer, c.pictures[0].tobytes()) for group in groups for c in group]

    assert once() == once()


def test_all_skills_of_the_table_are_asked():
    asked = set()
    for kind in ("shapes", "bars", "regions", "number", "two"):
        for group in picture_tasks.picture_groups("held_out", kind, groups=30, seed=1):
            asked |= {case.skill for case in group}
    assert asked >= SKILLS | {"number"}


@pytest.mark.parametrize("seed", [1, 2])
def test_counterfactual_pairs_differ_in_the_picture_and_the_answer_alone(seed):
    for first, second in picture_tasks.counterfactual_pairs("held_out", pairs=30, seed=seed):
        assert first.question == second.question
        assert first.answer != second.answer
        one, other = (np.asarray(case.pictures[0]).astype(int) for case in (first, second))
        assert one.shape == other.shape
        changed = np.abs(one - other).sum(-1) > 0
        assert 0 < changed.mean() < 0.12
