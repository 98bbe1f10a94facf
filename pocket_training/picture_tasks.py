"""TODO."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from PIL import Image

from pocket_training import words
from pocket_training.scenes import (
    NUMBERS,
    SCENES,
    SHAPES,
    Bars,
    Regions,
    Scene,
    Shapes,
    Words,
    _listed,
    _pair,
    _tint,
    plural,
    random_shapes,
)
from pocket_training.wording import with_courtesy


@dataclass(frozen=True)
class PictureCase:
    """A question about one picture or more, with its one right answer.

    Attributes:
        skill: what it asks, a key of `PHRASINGS` or "bars" (how many there are).
        pictures: what is shown, in order.
        question, answer: the texts, the answer as the model is taught to write it.
        words: of each picture, the words that describe its cells.
    """

    skill: str
    pictures: tuple[Image.Image, ...]
    question: str
    answer: str
    words: tuple["Words", ...] = field(default=(), repr=False)


def phrased(skill: str, split: str, rng: random.Random, **slots) -> str:
    """A question in the split's words; for training at times with words of courtesy around it."""
    template = rng.choice(words.pictures().phrasings[skill][split])
    return with_courtesy(template, split, rng).format(**slots)


def questions(scene: Scene, split: str, rng: random.Random) -> list[tuple[str, str, str]]:
    """Every kind of question that has one right answer in this scene: (skill, question, answer)."""
    found = []

    def ask(skill: str, answer: str, phrasing: str = "", **words) -> None:
        found.append((skill, phrased(phrasing or skill, split, rng, **words), answer))

    if isinstance(scene, Shapes):
        things = scene.things
        for thing in things:
            same_shape = sum(other.shape == thing.shape for other in things)
            same_colour = sum(other.colour == thing.colour for other in things)
            if same_shape == 1:
                ask("colour", f"The {thing.shape} is {thing.colour}.", shape=thing.shape)
            if same_colour == 1:
                ask("shape", f"It is a {thing.shape}.", colour=thing.colour)
            if sum(other.name == thing.name for other in things) == 1:
                answer = f"The {thing.name} is {scene.placed(thing)}."
                ask("position", answer, name=thing.name)
        ask("describe", scene.description())
        kinds = {"shapes": len(things)}
        for thing in things:
            kinds[f"{thing.colour} shapes"] = sum(o.colour == thing.colour for o in things)
            kinds[plural(thing.shape)] = sum(o.shape == thing.shape for o in things)
        for kind in rng.sample(sorted(kinds), min(2, len(kinds))):
            ask("count", _counted(kinds[kind], kind), kind=kind)
        if largest := scene.largest():
            ask("largest", f"The largest shape is the {largest.name}.")
    elif isinstance(scene, Bars):
        ask("tallest", f"The {scene.named(max)} bar is the tallest.")
        ask("shortest", f"The {scene.named(min)} bar is the shortest.")
        ask("bars", _counted(len(scene.heights), "bars"), phrasing="count", kind="bars")
        ask("bar colours", f"The bars are {_listed(scene.colours)}.")
    elif isinstance(scene, Regions):
        for _ in range(2):
            legend, countries = random_legend(scene, split, rng)
            ask("region", f"The largest country is {countries[scene.largest()]}.", legend=legend)
        colour = scene.colours[scene.largest()]
        ask("region colour", f"The {colour} region is the largest.")
    else:
        ask("number", f"The number is {scene.digits}.")
    return found


def random_legend(scene: Regions, split: str, rng: random.Random) -> tuple[str, list[str]]:
    """A sentence that gives each region's colour a country, and the countries by region."""
    countries = rng.sample(words.pictures().countries[split], len(scene.colours))
    style = rng.choice(words.pictures().legends[split])
    parts = [
        style.format(colour=colour, country=country)
        for colour, country in zip(scene.colours, countries, strict=True)
    ]
    rng.shuffle(parts)
    return f"On the map, {_listed(parts)}.", countries


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
        if kind == "two":
            first = random_shapes(rng, split)
            second = random_shapes(rng, split)
            pictures = (_shown(first, rng), _shown(second, rng))
            words = (first.words(), second.words())
            asked = _which_picture(first, second, split, rng)
        else:
            scene = SCENES[kind](rng, split)
            pictures = (_shown(scene, rng),)
            words = (scene.words(),)
            asked = questions(scene, split, rng)
        rng.shuffle(asked)
        cases = [PictureCase(skill, pictures, q, a, words) for skill, q, a in asked[:per_group]]
        if cases:
            yield cases


def counterfactual_pairs(
    split: str, *, pairs: int, seed: int
) -> Iterator[tuple[PictureCase, PictureCase]]:
    """The same question about two pictures that differ in one thing, so that its answer differs."""
    made, number = 0, 0
    while made < pairs:
        rng = random.Random(f"{split} swap {seed} {number}")
        number += 1
        scene = random_shapes(rng, split)
        place = rng.randrange(len(scene.things))
        old = scene.things[place]
        colour, shape = _pair(rng, split, colour=rng.choice([None, old.colour]))
        if (colour, shape) == (old.colour, old.shape):
            continue
        new = replace(old, colour=colour, shape=shape, tint=_tint(rng, colour))
        other = replace(scene, things=(*scene.things[:place], new, *scene.things[place + 1 :]))
        wording = rng.random()
        before = {q: (s, a) for s, q, a in questions(scene, split, random.Random(wording))}
        after = {q: (s, a) for s, q, a in questions(other, split, random.Random(wording))}
        asked = [q for q in before if q in after and before[q][1] != after[q][1]]
        if not asked:
            continue
        question = rng.choice(asked)
        yield (
            PictureCase(before[question][0], (scene.draw(),), question, before[question][1]),
            PictureCase(after[question][0], (other.draw(),), question, after[question][1]),
        )
        made += 1


def _which_picture(first: Shapes, second: Shapes, split: str, rng: random.Random):
    asked = []
    for which, here, there in (("first", first, second), ("second", second, first)):
        for thing in here.things:
            if all(other.name != thing.name for other in there.things):
                question = phrased("two pictures", split, rng, name=thing.name)
                answer = f"The {thing.name} is in the {which} picture."
                asked.append(("two pictures", question, answer))
    which, scene = rng.choice([("first", first), ("second", second)])
    question = phrased("describe one", split, rng, which=which)
    asked.append(("describe one", question, scene.description()))
    return asked


def _counted(count: int, kind: str) -> str:
    # Not "there is" or "there are": to choose between them it would have to count two words early.
    if count != 1:
        return f"I count {NUMBERS[count]} {kind}."
    words = kind.split()
    singular = {plural(shape): shape for shape in SHAPES} | {"shapes": "shape", "bars": "bar"}
    return f"I count one {' '.join([*words[:-1], singular[words[-1]]])}."


def _shown(scene: Scene, rng: random.Random) -> Image.Image:
    """Drawn at one to three times the model's size: the way down to it leaves its own marks."""
    return scene.draw(rng.choice([1, 1, 2, 3]))
