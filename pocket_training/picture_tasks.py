"""Questions about synthetic pictures, seeded, each with its one right answer."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count

from PIL import Image

from pocket_training import scenes, words
from pocket_training.wording import with_courtesy


@dataclass(frozen=True)
class PictureCase:
    """A question about one picture or more, with its one right answer.

    Attributes:
        skill: what it asks, a key of `phrasings` in the words or "bars" (how many there are).
        pictures: what is shown, in order.
        question, answer: the texts, the answer as the model is taught to write it.
        cell_labels: of each picture, the words that describe its cells.
    """

    skill: str
    pictures: tuple[Image.Image, ...]
    question: str
    answer: str
    cell_labels: tuple[scenes.CellLabels, ...] = field(default=(), repr=False)


Pair = tuple[PictureCase, PictureCase]


def phrase(skill: str, split: str, rng: random.Random, **slots) -> str:
    """A question in the split's words, for training at times with words of courtesy."""
    template = rng.choice(words.pictures().phrasings[skill][split])
    return with_courtesy(template, split, rng).format(**slots)


def questions(scene: scenes.Scene, split: str, rng: random.Random) -> list[tuple[str, str, str]]:
    """Every kind of question that has one right answer in this scene: (skill, question, answer)."""
    drawn = []

    def ask(skill: str, answer: str, phrasing: str = "", **slots) -> None:
        drawn.append((skill, phrase(phrasing or skill, split, rng, **slots), answer))

    if isinstance(scene, scenes.Shapes):
        shapes = scene.shapes
        colors, kinds = [s.color for s in shapes], [s.kind for s in shapes]
        names = [s.name for s in shapes]
        for s in shapes:
            if kinds.count(s.kind) == 1:
                ask("colour", f"The {s.kind} is {s.color}.", shape=s.kind)
            if colors.count(s.color) == 1:
                ask("shape", f"It is a {s.kind}.", colour=s.color)
            if names.count(s.name) == 1:
                ask("position", f"The {s.name} is {scene.position_phrase(s)}.", name=s.name)
        ask("describe", scene.description())
        counts = {"shapes": len(shapes)}
        for s in shapes:
            counts[f"{s.color} shapes"] = colors.count(s.color)
            counts[_plural(s.kind)] = kinds.count(s.kind)
        for counted in rng.sample(sorted(counts), min(2, len(counts))):
            ask("count", _count_answer(counts[counted], counted), kind=counted)
        if largest := scene.largest():
            ask("largest", f"The largest shape is the {largest.name}.")
    elif isinstance(scene, scenes.Bars):
        ask("tallest", f"The {scene.color_of(max)} bar is the tallest.")
        ask("shortest", f"The {scene.color_of(min)} bar is the shortest.")
        ask("bars", _count_answer(len(scene.heights), "bars"), phrasing="count", kind="bars")
        ask("bar colours", f"The bars are {scenes.listed(scene.colors)}.")
    elif isinstance(scene, scenes.Regions):
        for _ in range(2):
            legend, countries = random_legend(scene, split, rng)
            ask("region", f"The largest country is {countries[scene.largest()]}.", legend=legend)
        ask("region colour", f"The {scene.colors[scene.largest()]} region is the largest.")
    else:
        ask("number", f"The number is {scene.digits}.")
    return drawn


def random_legend(scene: scenes.Regions, split: str, rng: random.Random) -> tuple[str, list[str]]:
    """A sentence that gives each region's color a country, and the countries by region."""
    countries = rng.sample(words.pictures().countries[split], len(scene.colors))
    style = rng.choice(words.pictures().legends[split])
    pairs = zip(scene.colors, countries, strict=True)
    parts = [style.format(colour=color, country=country) for color, country in pairs]
    rng.shuffle(parts)
    return f"On the map, {scenes.listed(parts)}.", countries


def picture_groups(
    split: str, kind: str, *, groups: int, seed: int, per_group: int = 6
) -> Iterator[list[PictureCase]]:
    """Groups of questions about the same picture or pictures.

    Args:
        split: "train" or "held_out".
        kind: "shapes", "bars", "regions", "number" or "two".
    """
    for number in range(groups):
        rng = random.Random(f"{split} {kind} {seed} {number}")
        drawn = [scenes.random_shapes] * 2 if kind == "two" else [scenes.SCENES[kind]]
        shown = [draw(rng, split) for draw in drawn]
        # Drawn at one to three times the model's size: scaling it down leaves its own marks.
        pictures = tuple(scene.draw(rng.choice([1, 1, 2, 3])) for scene in shown)
        labels = tuple(scene.cell_labels() for scene in shown)
        drawn = (_which_picture if kind == "two" else questions)(*shown, split, rng)
        rng.shuffle(drawn)
        cases = [PictureCase(skill, pictures, q, a, labels) for skill, q, a in drawn[:per_group]]
        if cases:
            yield cases


def counterfactual_pairs(split: str, *, pairs: int, seed: int) -> Iterator[Pair]:
    """The same question about two pictures that differ in one thing, so that its answer differs."""
    for number in count():
        if not pairs:
            return
        rng = random.Random(f"{split} swap {seed} {number}")
        scene = scenes.random_shapes(rng, split)
        index = rng.randrange(len(scene.shapes))
        old = scene.shapes[index]
        color, kind = scenes.random_pair(rng, split, color=rng.choice([None, old.color]))
        if (color, kind) == (old.color, old.kind):
            continue
        new = replace(old, color=color, kind=kind, rgb=scenes.random_rgb(rng, color))
        other = replace(scene, shapes=(*scene.shapes[:index], new, *scene.shapes[index + 1 :]))
        wording = rng.random()
        drawn = [questions(version, split, random.Random(wording)) for version in (scene, other)]
        before, after = ({q: (skill, a) for skill, q, a in part} for part in drawn)
        changed = [q for q in before if q in after and before[q][1] != after[q][1]]
        if changed:
            question = rng.choice(changed)
            yield tuple(
                PictureCase(answers[question][0], (version.draw(),), question, answers[question][1])
                for version, answers in ((scene, before), (other, after))
            )
            pairs -= 1


def _which_picture(first: scenes.Shapes, second: scenes.Shapes, split: str, rng: random.Random):
    drawn = []
    for which, here, there in (("first", first, second), ("second", second, first)):
        for shape in here.shapes:
            if all(other.name != shape.name for other in there.shapes):
                question = phrase("two pictures", split, rng, name=shape.name)
                answer = f"The {shape.name} is in the {which} picture."
                drawn.append(("two pictures", question, answer))
    which, scene = rng.choice([("first", first), ("second", second)])
    question = phrase("describe one", split, rng, which=which)
    drawn.append(("describe one", question, scene.description()))
    return drawn


def _count_answer(number: int, counted: str) -> str:
    # Not "there is" or "there are": the model would have to count two words before the number.
    if number != 1:
        return f"I count {scenes.NUMBERS[number]} {counted}."
    singular = {_plural(kind): kind for kind in scenes.SHAPES} | {"shapes": "shape", "bars": "bar"}
    *color, noun = counted.split()
    return f"I count one {' '.join([*color, singular[noun]])}."


def _plural(kind: str) -> str:
    return "crosses" if kind == "cross" else f"{kind}s"
