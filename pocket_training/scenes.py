"""Synthetic pictures with questions: the world that the pocket model's eye is taught.

Every scene knows two things about itself: how to draw itself, and which words describe each of
its cells (the 28 × 28 pixel squares that become one image token). The words teach the vision
tower, the questions teach and test the whole model.

The held-out split differs from the training split in kind: colour-and-shape pairs that no
training picture shows, question phrasings that no training question uses, other country names.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 112  # pixels: the longer side at which the model sees a picture


CELL = 28  # pixels: a patch of 14, merged 2 × 2


COLOURS = {
    "red": (218, 36, 40),
    "blue": (40, 74, 216),
    "green": (38, 156, 62),
    "yellow": (244, 214, 36),
    "purple": (140, 46, 172),
    "orange": (246, 138, 26),
    "black": (24, 24, 24),
    "pink": (246, 150, 194),
}


# Only lessons show these: the more colours a shape comes in, the better both the eye and the text
# model learn that a shape is one thing and its colour another.
FURTHER_COLOURS = {
    "brown": (130, 82, 45),
    "gray": (140, 140, 140),
    "cyan": (40, 205, 215),
    "lime": (150, 230, 40),
    "navy": (20, 30, 104),
    "magenta": (225, 30, 170),
    "teal": (20, 128, 128),
    "tan": (210, 180, 140),
}


PALETTES = {  # by split
    "train": (*COLOURS, *COLOURS, *FURTHER_COLOURS),
    "held_out": tuple(COLOURS),
}


SHAPES = ("circle", "square", "triangle", "star", "cross")


HELD_OUT_PAIRS = {
    ("red", "star"),
    ("green", "triangle"),
    ("blue", "cross"),
    ("yellow", "square"),
    ("purple", "circle"),
    ("orange", "star"),
}


NUMBERS = ("zero", "one", "two", "three", "four", "five")


ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "center", "right")


Words = list[list[tuple[str, ...]]]  # for each row and column of cells, the words that describe it


@dataclass(frozen=True)
class Thing:
    """A shape in a scene: centre and radius in pixels."""

    colour: str
    shape: str
    x: float
    y: float
    radius: float
    tint: tuple[int, int, int]
    turn: float

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class Shapes:
    """One to five shapes on a light ground, each with its centre in a cell of its own."""

    size: tuple[int, int]
    ground: tuple[int, int, int]
    things: tuple[Thing, ...]

    def draw(self, scale: int = 1) -> Image.Image:
        picture = Image.new("RGB", (self.size[0] * scale, self.size[1] * scale), self.ground)
        pen = ImageDraw.Draw(picture)
        for thing in self.things:
            _draw_shape(pen, thing, scale)
        return picture

    def place(self, thing: Thing) -> tuple[str, str]:
        """Row and column of a thing, by thirds of the picture: ("top", "left")."""
        width, height = self.size
        row = ROWS[min(int(3 * thing.y / height), 2)]
        return row, COLUMNS[min(int(3 * thing.x / width), 2)]

    def placed(self, thing: Thing) -> str:
        """Where a thing is, as a sentence says it: "at the top left" or "in the center"."""
        place = self.place(thing)
        return "in the center" if place == ("middle", "center") else f"at the {' '.join(place)}"

    def description(self) -> str:
        """Every thing with its place, in the order of the image tokens: row by row."""
        ordered = sorted(self.things, key=lambda thing: (thing.y // CELL, thing.x // CELL))
        articles = ["an" if thing.name[0] in "aeiou" else "a" for thing in ordered]
        parts = [
            f"{article} {thing.name} {self.placed(thing)}"
            for article, thing in zip(articles, ordered, strict=True)
        ]
        return f"There is {_listed(parts)}."

    def largest(self) -> Thing | None:
        """The thing that is clearly larger than any other, if there is one."""
        first, *rest = sorted(self.things, key=lambda thing: -thing.radius)
        clear = rest and first.radius >= 1.3 * rest[0].radius
        return first if clear else None

    def words(self) -> Words:
        columns, rows = self.size[0] // CELL, self.size[1] // CELL
        cells = [[("white",)] * columns for _ in range(rows)]
        largest = self.largest()
        for thing in self.things:
            alike = {
                "colour": sum(other.colour == thing.colour for other in self.things),
                "shape": sum(other.shape == thing.shape for other in self.things),
            }
            words = [thing.colour, thing.shape, *self.place(thing)]
            # Three counts need three kinds of word: of all, of this colour, of this shape.
            words += [str(len(self.things)), NUMBERS[alike["colour"]], _times(alike["shape"])]
            if thing is largest:
                words.append("largest")
            cells[int(thing.y // CELL)][int(thing.x // CELL)] = tuple(words)
        return cells


@dataclass(frozen=True)
class Bars:
    """A bar chart of two to four coloured bars over a line."""

    size: tuple[int, int]
    ground: tuple[int, int, int]
    colours: tuple[str, ...]
    tints: tuple[tuple[int, int, int], ...]
    heights: tuple[float, ...]
    width: float

    def spans(self) -> list[tuple[float, float, float, float]]:
        """Left, top, right and bottom of each bar in pixels."""
        step, floor = self.size[0] / len(self.heights), self.size[1] - 6
        middles = [step * (place + 0.5) for place in range(len(self.heights))]
        half = self.width / 2
        return [
            (middle - half, floor - height, middle + half, floor)
            for middle, height in zip(middles, self.heights, strict=True)
        ]

    def draw(self, scale: int = 1) -> Image.Image:
        picture = Image.new("RGB", (self.size[0] * scale, self.size[1] * scale), self.ground)
        pen = ImageDraw.Draw(picture)
        for span, tint in zip(self.spans(), self.tints, strict=True):
            pen.rectangle([edge * scale for edge in span], fill=tint)
        floor = (self.size[1] - 5) * scale
        pen.line(
            [4 * scale, floor, (self.size[0] - 4) * scale, floor], fill=(90, 90, 90), width=scale
        )
        return picture

    def named(self, best) -> str:
        """The colour of the bar whose height is ``best`` (``max`` or ``min``) of all."""
        return self.colours[self.heights.index(best(self.heights))]

    def words(self) -> Words:
        columns, rows = self.size[0] // CELL, self.size[1] // CELL
        cells = [[("white",)] * columns for _ in range(rows)]
        for colour, height, span in zip(self.colours, self.heights, self.spans(), strict=True):
            words = [colour, "bar", str(len(self.heights))]
            words += ["tallest"] if height == max(self.heights) else []
            words += ["shortest"] if height == min(self.heights) else []
            for row in range(rows):
                for column in range(columns):
                    wide = _overlap(span[0], span[2], column * CELL, (column + 1) * CELL)
                    high = _overlap(span[1], span[3], row * CELL, (row + 1) * CELL)
                    if wide >= 7 and high >= 9:
                        cells[row][column] = tuple(words)
        return cells


@dataclass(frozen=True)
class Regions:
    """A map: an island cut into coloured regions, one of them clearly the largest."""

    size: tuple[int, int]
    colours: tuple[str, ...]
    tints: tuple[tuple[int, int, int], ...]
    owner: np.ndarray = field(repr=False)  # per pixel: the region's number, -1 for the sea
    sea: tuple[int, int, int] = (205, 228, 246)

    def draw(self, scale: int = 1) -> Image.Image:
        right, below = np.roll(self.owner, -1, axis=1), np.roll(self.owner, -1, axis=0)
        border = (self.owner >= 0) & ((right != self.owner) | (below != self.owner))
        dots = np.array([*self.tints, self.sea], dtype=np.uint8)[self.owner]
        dots[border] = 70
        size = (self.size[0] * scale, self.size[1] * scale)
        return Image.fromarray(dots).resize(size, Image.Resampling.NEAREST)

    def areas(self) -> list[int]:
        """Pixels of each region."""
        return [int((self.owner == number).sum()) for number in range(len(self.colours))]

    def largest(self) -> int:
        areas = self.areas()
        return areas.index(max(areas))

    def words(self) -> Words:
        columns, rows = self.size[0] // CELL, self.size[1] // CELL
        largest, cells = self.largest(), []
        for row in range(rows):
            cells.append([])
            for column in range(columns):
                square = self.owner[row * CELL :, column * CELL :][:CELL, :CELL]
                most = int(np.bincount(square.ravel() + 1).argmax()) - 1
                words = ("sea",) if most < 0 else (self.colours[most], "region")
                cells[-1].append((*words, "largest") if most == largest else words)
        return cells


@dataclass(frozen=True)
class Number:
    """One to three digits in a row, each in a cell of its own."""

    size: tuple[int, int]
    ground: tuple[int, int, int]
    digits: str
    places: tuple[tuple[float, float], ...]  # centre of each digit, pixels
    height: int
    ink: tuple[int, int, int]

    def draw(self, scale: int = 1) -> Image.Image:
        picture = Image.new("RGB", (self.size[0] * scale, self.size[1] * scale), self.ground)
        pen, font = ImageDraw.Draw(picture), ImageFont.load_default(self.height * scale)
        for digit, (x, y) in zip(self.digits, self.places, strict=True):
            pen.text((x * scale, y * scale), digit, fill=self.ink, font=font, anchor="mm")
        return picture

    def words(self) -> Words:
        columns, rows = self.size[0] // CELL, self.size[1] // CELL
        cells = [[("white",)] * columns for _ in range(rows)]
        for digit, (x, y) in zip(self.digits, self.places, strict=True):
            cells[int(y // CELL)][int(x // CELL)] = ("number", digit)
        return cells


Scene = Shapes | Bars | Regions | Number


def random_shapes(
    rng: random.Random,
    split: str,
    *,
    count: int | None = None,
    one_largest: bool | None = None,
    must_have: tuple[str, str] | None = None,
    unlike: tuple[str, str] | None = None,
) -> Shapes:
    """A scene of shapes; ``must_have`` and ``unlike`` are (colour, shape) to show or to avoid."""
    size = rng.choice([(112, 112)] * 5 + [(112, 84), (84, 112)])
    count = count or rng.choice([1, 2, 3, 3, 4, 4, 5])
    if one_largest is None:
        one_largest = count > 1 and rng.random() < 0.5
    while True:
        pairs = [_pair(rng, split) for _ in range(count)]
        # Counting is no lesson when all differ: often repeat a colour or a shape.
        if count > 1 and rng.random() < 0.5:
            pairs[1] = _pair(rng, split, colour=pairs[0][0])
        if count > 2 and rng.random() < 0.5:
            pairs[2] = _pair(rng, split, shape=pairs[0][1])
        if must_have:
            pairs[0] = must_have
        if unlike in pairs:
            continue
        # A lone shape may have any size; beside others, "largest" begins at 1.3 times the next.
        radii = [rng.uniform(8, 11.5 if count > 1 else 20) for _ in range(count)]
        if one_largest:
            radii[rng.randrange(count)] = rng.uniform(15, 17.5)
        things = _scatter(rng, size, pairs, radii)
        if things:
            rng.shuffle(things)
            return Shapes(size, _ground(rng), tuple(things))


def random_bars(rng: random.Random, split: str) -> Bars:
    count = rng.choice([2, 3, 3, 4, 4])
    colours = rng.sample(sorted(COLOURS), count)
    size = rng.choice([(112, 112)] * 4 + [(112, 84)])
    room = size[1] - 16
    while True:
        heights = [rng.uniform(12, room) for _ in range(count)]
        ordered = sorted(heights)
        # A winner by less than six pixels would be a question about the drawing, not the chart.
        if ordered[-1] - ordered[-2] >= 6 and ordered[1] - ordered[0] >= 6:
            break
    tints = tuple(_tint(rng, colour) for colour in colours)
    width = rng.uniform(16, 23)
    return Bars(size, _ground(rng), tuple(colours), tints, tuple(heights), width)


def random_regions(rng: random.Random, split: str, *, count: int | None = None) -> Regions:
    count = count or rng.choice([3, 3, 4, 4, 5])
    colours = rng.sample([name for name in sorted(COLOURS) if name != "black"], count)
    y, x = np.mgrid[:SIDE, :SIDE]
    while True:
        seeds = [(rng.uniform(18, 94), rng.uniform(18, 94)) for _ in range(count)]
        weights = [rng.uniform(0, 900) for _ in range(count)]
        weights[0] += 700
        wobble = [(rng.uniform(0, 6.3), rng.uniform(1, 5)) for _ in range(4)]
        angle = np.arctan2(y - 56, x - 56)
        coast = 50 + sum(a * np.sin((k + 2) * angle + p) for k, (p, a) in enumerate(wobble))
        bent = x + 3 * np.sin(y / 7 + wobble[0][0])  # borders that are not quite straight
        far = [(bent - a) ** 2 + (y - b) ** 2 - w for (a, b), w in zip(seeds, weights, strict=True)]
        owner = np.where(np.hypot(x - 56, y - 56) > coast, -1, np.argmin(far, axis=0))
        tints = tuple(_tint(rng, colour) for colour in colours)
        scene = Regions((SIDE, SIDE), tuple(colours), tints, owner)
        areas = sorted(scene.areas())
        if areas[0] >= 500 and areas[-1] >= 1.35 * areas[-2]:
            return scene


def random_number(rng: random.Random, split: str) -> Number:
    count = rng.choice([1, 2, 2, 3])
    digits = "".join(rng.choice("0123456789") for _ in range(count))
    row = rng.randrange(4)
    first = rng.randrange(4 - count + 1)
    y = row * CELL + rng.uniform(12, 16)
    places = tuple(((first + k) * CELL + rng.uniform(11, 17), y) for k in range(count))
    ink = rng.choice([(20, 20, 20), (120, 20, 20), (20, 30, 120), (10, 90, 30)])
    return Number((SIDE, SIDE), _ground(rng), digits, places, rng.randint(22, 27), ink)


SCENES = {
    "shapes": random_shapes,
    "bars": random_bars,
    "regions": random_regions,
    "number": random_number,
}


def plural(shape: str) -> str:
    return "crosses" if shape == "cross" else f"{shape}s"


def _listed(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _times(count: int) -> str:
    return ("", "once", "twice", "triple", "fourth", "fifth")[count]


def _pair(
    rng: random.Random,
    split: str,
    *,
    colour: str | None = None,
    shape: str | None = None,
) -> tuple[str, str]:
    while True:
        pair = (colour or rng.choice(PALETTES[split]), shape or rng.choice(SHAPES))
        if split == "held_out":
            # Half of what the held-out scenes show is a pair that training never saw.
            if pair in HELD_OUT_PAIRS or colour or shape or rng.random() < 0.5:
                return pair
        elif pair not in HELD_OUT_PAIRS:
            return pair


def _scatter(rng, size, pairs, radii) -> list[Thing] | None:
    """Places without overlap, each centre well inside a cell and a third; or None."""
    width, height = size
    things: list[Thing] = []
    for (colour, shape), radius in sorted(zip(pairs, radii, strict=True), key=lambda p: -p[1]):
        for _ in range(60):
            x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
            edges = [abs(x - k * CELL) for k in range(1, 4)] + [
                abs(y - k * CELL) for k in range(1, 4)
            ]
            edges += [abs(x - width * k / 3) for k in (1, 2)] + [
                abs(y - height * k / 3) for k in (1, 2)
            ]
            # Corners reach a fifth beyond the radius; what touches would look like one shape.
            gaps = [math.hypot(x - o.x, y - o.y) - 1.2 * (radius + o.radius) for o in things]
            apart = min(gaps, default=9) > 1
            cells = {(o.x // CELL, o.y // CELL) for o in things}
            if min(edges) >= 2 and apart and (x // CELL, y // CELL) not in cells:
                tint, turn = _tint(rng, colour), rng.uniform(-0.25, 0.25)
                things.append(Thing(colour, shape, x, y, radius, tint, turn))
                break
        else:
            return None
    return things


def _draw_shape(pen: ImageDraw.ImageDraw, thing: Thing, scale: int) -> None:
    x, y, r = thing.x * scale, thing.y * scale, thing.radius * scale
    if thing.shape == "circle":
        pen.ellipse([x - r, y - r, x + r, y + r], fill=thing.tint)
        return
    corners = {
        "square": [(math.pi / 4 + k * math.pi / 2, 1.2) for k in range(4)],
        "triangle": [(-math.pi / 2 + k * 2 * math.pi / 3, 1.15) for k in range(3)],
        "star": [(-math.pi / 2 + k * math.pi / 5, 1.2 if k % 2 == 0 else 0.48) for k in range(10)],
    }.get(thing.shape)
    if corners is None:  # a cross: twelve corners of a plus sign
        arm, end = 0.34, 1.0
        plus = [(arm, end), (arm, arm), (end, arm), (end, -arm), (arm, -arm), (arm, -end)]
        plus += [(-a, -b) for a, b in plus]
        corners = [(math.atan2(b, a), math.hypot(a, b)) for a, b in plus]
    points = [
        (x + r * far * math.cos(angle + thing.turn), y + r * far * math.sin(angle + thing.turn))
        for angle, far in corners
    ]
    pen.polygon(points, fill=thing.tint)


def _tint(rng: random.Random, colour: str) -> tuple[int, int, int]:
    paint = COLOURS.get(colour) or FURTHER_COLOURS[colour]
    return tuple(min(255, max(0, part + rng.randint(-14, 14))) for part in paint)


def _ground(rng: random.Random) -> tuple[int, int, int]:
    light = rng.randint(238, 255)
    return tuple(min(255, light + rng.randint(-5, 5)) for _ in range(3))


def _overlap(a: float, b: float, c: float, d: float) -> float:
    return max(0.0, min(b, d) - max(a, c))
