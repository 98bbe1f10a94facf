"""Synthetic pictures: the world that the pocket model's vision tower is trained on.

Every scene can draw itself, and can label each of its cells (the 28 × 28 pixel squares that become
one image token). The labels train the vision tower. The questions of `picture_tasks` train and test
the whole model.

The held-out split differs in kind from the training split: it has pairs of color and shape that no
training picture shows, phrasings that no training question uses, and other names of countries.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Size = tuple[int, int]  # width and height in pixels
RGB = tuple[int, int, int]
CellLabels = list[list[tuple[str, ...]]]  # the words for each row and column of cells

SIDE = 112  # pixels: the longer side at which the model sees a picture
CELL = 28  # pixels: a patch of 14, merged 2 × 2

COLORS = {
    "red": (218, 36, 40),
    "blue": (40, 74, 216),
    "green": (38, 156, 62),
    "yellow": (244, 214, 36),
    "purple": (140, 46, 172),
    "orange": (246, 138, 26),
    "black": (24, 24, 24),
    "pink": (246, 150, 194),
}
# Only training shows these. The more colors a shape comes in, the better both the vision tower and
# the text model learn that a shape and its color are two things.
FURTHER_COLORS = {
    "brown": (130, 82, 45),
    "gray": (140, 140, 140),
    "cyan": (40, 205, 215),
    "lime": (150, 230, 40),
    "navy": (20, 30, 104),
    "magenta": (225, 30, 170),
    "teal": (20, 128, 128),
    "tan": (210, 180, 140),
}
PALETTES = {"train": (*COLORS, *COLORS, *FURTHER_COLORS), "held_out": tuple(COLORS)}
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
TIMES = ("", "once", "twice", "triple", "fourth", "fifth")  # labels for counts of one shape
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "center", "right")


@dataclass(frozen=True)
class Shape:
    """A shape in a scene: center and radius in pixels, rotation in radians."""

    color: str
    kind: str
    x: float
    y: float
    radius: float
    rgb: RGB
    rotation: float

    @property
    def name(self) -> str:
        return f"{self.color} {self.kind}"

    def draw(self, pen: ImageDraw.ImageDraw, scale: int) -> None:
        x, y, r = self.x * scale, self.y * scale, self.radius * scale
        if self.kind == "circle":
            pen.ellipse([x - r, y - r, x + r, y + r], fill=self.rgb)
            return
        corners = [(angle + self.rotation, r * far) for angle, far in _CORNERS[self.kind]]
        points = [(x + far * math.cos(angle), y + far * math.sin(angle)) for angle, far in corners]
        pen.polygon(points, fill=self.rgb)


_PLUS = [(0.34, 1.0), (0.34, 0.34), (1.0, 0.34), (1.0, -0.34), (0.34, -0.34), (0.34, -1.0)]
_PLUS += [(-a, -b) for a, b in _PLUS]
_CORNERS = {  # angle, and distance from the center in radii
    "square": [(math.pi / 4 + k * math.pi / 2, 1.2) for k in range(4)],
    "triangle": [(-math.pi / 2 + k * 2 * math.pi / 3, 1.15) for k in range(3)],
    "star": [(-math.pi / 2 + k * math.pi / 5, 1.2 if k % 2 == 0 else 0.48) for k in range(10)],
    "cross": [(math.atan2(b, a), math.hypot(a, b)) for a, b in _PLUS],
}


@dataclass(frozen=True)
class Shapes:
    """One to five shapes on a light background, each with its center in a cell of its own."""

    size: Size
    background: RGB
    shapes: tuple[Shape, ...]

    def draw(self, scale: int = 1) -> Image.Image:
        picture, pen = _canvas(self.size, self.background, scale)
        for shape in self.shapes:
            shape.draw(pen, scale)
        return picture

    def position(self, shape: Shape) -> tuple[str, str]:
        """Row and column of a shape, by thirds of the picture: ("top", "left")."""
        width, height = self.size
        row = ROWS[min(int(3 * shape.y / height), 2)]
        return row, COLUMNS[min(int(3 * shape.x / width), 2)]

    def position_phrase(self, shape: Shape) -> str:
        """Where a shape is, in words: "at the top left" or "in the center"."""
        position = " ".join(self.position(shape))
        return "in the center" if position == "middle center" else f"at the {position}"

    def description(self) -> str:
        """Every shape with its position, in the order of the image tokens: row by row."""
        ordered = sorted(self.shapes, key=lambda shape: (shape.y // CELL, shape.x // CELL))
        parts = [f"{shape.name} {self.position_phrase(shape)}" for shape in ordered]
        parts = [f"{'an' if part[0] in 'aeiou' else 'a'} {part}" for part in parts]
        return f"There is {listed(parts)}."

    def largest(self) -> Shape | None:
        """The shape that is clearly larger than any other, if there is one."""
        first, *rest = sorted(self.shapes, key=lambda shape: -shape.radius)
        clear = rest and first.radius >= 1.3 * rest[0].radius
        return first if clear else None

    def cell_labels(self) -> CellLabels:
        cells, largest = _blank_cells(self.size), self.largest()
        for shape in self.shapes:
            same_color = sum(other.color == shape.color for other in self.shapes)
            same_kind = sum(other.kind == shape.kind for other in self.shapes)
            labels = [shape.color, shape.kind, *self.position(shape)]
            # Three counts need three kinds of word: of all, of this color, of this shape.
            labels += [str(len(self.shapes)), NUMBERS[same_color], TIMES[same_kind]]
            labels += ["largest"] if shape is largest else []
            cells[int(shape.y // CELL)][int(shape.x // CELL)] = tuple(labels)
        return cells


@dataclass(frozen=True)
class Bars:
    """A bar chart of two to four colored bars over a line; heights and width in pixels."""

    size: Size
    background: RGB
    colors: tuple[str, ...]
    rgbs: tuple[RGB, ...]
    heights: tuple[float, ...]
    width: float

    def spans(self) -> list[tuple[float, float, float, float]]:
        """Left, top, right and bottom of each bar in pixels."""
        step, floor, half = self.size[0] / len(self.heights), self.size[1] - 6, self.width / 2
        middles = [step * (index + 0.5) for index in range(len(self.heights))]
        return [
            (middle - half, floor - height, middle + half, floor)
            for middle, height in zip(middles, self.heights, strict=True)
        ]

    def draw(self, scale: int = 1) -> Image.Image:
        picture, pen = _canvas(self.size, self.background, scale)
        for span, rgb in zip(self.spans(), self.rgbs, strict=True):
            pen.rectangle([edge * scale for edge in span], fill=rgb)
        floor, right = (self.size[1] - 5) * scale, (self.size[0] - 4) * scale
        pen.line([4 * scale, floor, right, floor], fill=(90, 90, 90), width=scale)
        return picture

    def color_of(self, best) -> str:
        """The color of the bar whose height is `best` (`max` or `min`) of all."""
        return self.colors[self.heights.index(best(self.heights))]

    def cell_labels(self) -> CellLabels:
        cells = _blank_cells(self.size)
        for color, height, span in zip(self.colors, self.heights, self.spans(), strict=True):
            labels = [color, "bar", str(len(self.heights))]
            labels += ["tallest"] if height == max(self.heights) else []
            labels += ["shortest"] if height == min(self.heights) else []
            for row, column in product(range(len(cells)), range(len(cells[0]))):
                wide = _overlap(span[0], span[2], column * CELL, (column + 1) * CELL)
                high = _overlap(span[1], span[3], row * CELL, (row + 1) * CELL)
                if wide >= 7 and high >= 9:
                    cells[row][column] = tuple(labels)
        return cells


@dataclass(frozen=True)
class Regions:
    """A map: an island divided into colored regions, one of them clearly the largest."""

    size: Size
    colors: tuple[str, ...]
    rgbs: tuple[RGB, ...]
    owner: np.ndarray = field(repr=False)  # per pixel: the region's number, -1 for the sea
    sea: RGB = (205, 228, 246)

    def draw(self, scale: int = 1) -> Image.Image:
        right, below = np.roll(self.owner, -1, axis=1), np.roll(self.owner, -1, axis=0)
        border = (self.owner >= 0) & ((right != self.owner) | (below != self.owner))
        pixels = np.array([*self.rgbs, self.sea], dtype=np.uint8)[self.owner]
        pixels[border] = 70
        size = (self.size[0] * scale, self.size[1] * scale)
        return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)

    def areas(self) -> list[int]:
        """Pixels of each region."""
        return [int((self.owner == number).sum()) for number in range(len(self.colors))]

    def largest(self) -> int:
        return int(np.argmax(self.areas()))

    def cell_labels(self) -> CellLabels:
        cells, largest = _blank_cells(self.size), self.largest()
        for row, column in product(range(len(cells)), range(len(cells[0]))):
            square = self.owner[row * CELL :, column * CELL :][:CELL, :CELL]
            commonest = int(np.bincount(square.ravel() + 1).argmax()) - 1
            labels = ("sea",) if commonest < 0 else (self.colors[commonest], "region")
            cells[row][column] = (*labels, "largest") if commonest == largest else labels
        return cells


@dataclass(frozen=True)
class Number:
    """One to three digits in a row, each in a cell of its own."""

    size: Size
    background: RGB
    digits: str
    centers: tuple[tuple[float, float], ...]  # of each digit, pixels
    height: int
    ink: RGB

    def draw(self, scale: int = 1) -> Image.Image:
        picture, pen = _canvas(self.size, self.background, scale)
        font = ImageFont.load_default(self.height * scale)
        for digit, (x, y) in zip(self.digits, self.centers, strict=True):
            pen.text((x * scale, y * scale), digit, fill=self.ink, font=font, anchor="mm")
        return picture

    def cell_labels(self) -> CellLabels:
        cells = _blank_cells(self.size)
        for digit, (x, y) in zip(self.digits, self.centers, strict=True):
            cells[int(y // CELL)][int(x // CELL)] = ("number", digit)
        return cells


Scene = Shapes | Bars | Regions | Number


def _canvas(size: Size, background: RGB, scale: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGB", (size[0] * scale, size[1] * scale), background)
    return picture, ImageDraw.Draw(picture)


def _blank_cells(size: Size) -> CellLabels:
    return [[("white",)] * (size[0] // CELL) for _ in range(size[1] // CELL)]


def _overlap(a: float, b: float, c: float, d: float) -> float:
    return max(0.0, min(b, d) - max(a, c))


def listed(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


# --- at random --------------------------------------------------------------------------------


def random_shapes(rng: random.Random, split: str, *, count: int | None = None) -> Shapes:
    size = rng.choice([(112, 112)] * 5 + [(112, 84), (84, 112)])
    count = count or rng.choice([1, 2, 3, 3, 4, 4, 5])
    one_largest = count > 1 and rng.random() < 0.5
    while True:
        pairs = [random_pair(rng, split) for _ in range(count)]
        # If all shapes differ, counting teaches nothing: often repeat a color or a shape.
        if count > 1 and rng.random() < 0.5:
            pairs[1] = random_pair(rng, split, color=pairs[0][0])
        if count > 2 and rng.random() < 0.5:
            pairs[2] = random_pair(rng, split, kind=pairs[0][1])
        # A lone shape may have any size; beside others, "largest" begins at 1.3 times the next.
        radii = [rng.uniform(8, 11.5 if count > 1 else 20) for _ in range(count)]
        if one_largest:
            radii[rng.randrange(count)] = rng.uniform(15, 17.5)
        shapes = _scatter(rng, size, pairs, radii)
        if shapes:
            rng.shuffle(shapes)
            return Shapes(size, _random_background(rng), tuple(shapes))


def random_bars(rng: random.Random, split: str) -> Bars:
    count = rng.choice([2, 3, 3, 4, 4])
    colors = rng.sample(sorted(COLORS), count)
    size = rng.choice([(112, 112)] * 4 + [(112, 84)])
    while True:
        heights = [rng.uniform(12, size[1] - 16) for _ in range(count)]
        low, second, *_ = ordered = sorted(heights)
        # If less than six pixels decided, the question would be about the drawing, not the chart.
        if second - low >= 6 and ordered[-1] - ordered[-2] >= 6:
            break
    rgbs = tuple(random_rgb(rng, color) for color in colors)
    width = rng.uniform(16, 23)
    return Bars(size, _random_background(rng), tuple(colors), rgbs, tuple(heights), width)


def random_regions(rng: random.Random, split: str, *, count: int | None = None) -> Regions:
    count = count or rng.choice([3, 3, 4, 4, 5])
    colors = rng.sample([name for name in sorted(COLORS) if name != "black"], count)
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
        rgbs = tuple(random_rgb(rng, color) for color in colors)
        scene = Regions((SIDE, SIDE), tuple(colors), rgbs, owner)
        areas = sorted(scene.areas())
        if areas[0] >= 500 and areas[-1] >= 1.35 * areas[-2]:
            return scene


def random_number(rng: random.Random, split: str) -> Number:
    count = rng.choice([1, 2, 2, 3])
    digits = "".join(rng.choice("0123456789") for _ in range(count))
    row, first = rng.randrange(4), rng.randrange(4 - count + 1)
    y = row * CELL + rng.uniform(12, 16)
    centers = tuple(((first + k) * CELL + rng.uniform(11, 17), y) for k in range(count))
    ink = rng.choice([(20, 20, 20), (120, 20, 20), (20, 30, 120), (10, 90, 30)])
    return Number((SIDE, SIDE), _random_background(rng), digits, centers, rng.randint(22, 27), ink)


SCENES = dict(shapes=random_shapes, bars=random_bars, regions=random_regions, number=random_number)


def random_pair(
    rng: random.Random, split: str, *, color: str | None = None, kind: str | None = None
) -> tuple[str, str]:
    """A color and a shape that the split may show, one of them given or none."""
    while True:
        pair = (color or rng.choice(PALETTES[split]), kind or rng.choice(SHAPES))
        if split == "held_out":
            # Half of what the held-out scenes show is a pair that training never saw.
            if pair in HELD_OUT_PAIRS or color or kind or rng.random() < 0.5:
                return pair
        elif pair not in HELD_OUT_PAIRS:
            return pair


def random_rgb(rng: random.Random, color: str) -> RGB:
    """A shade of a color."""
    shade = COLORS.get(color) or FURTHER_COLORS[color]
    return tuple(min(255, max(0, part + rng.randint(-14, 14))) for part in shade)


def _random_background(rng: random.Random) -> RGB:
    light = rng.randint(238, 255)
    return tuple(min(255, light + rng.randint(-5, 5)) for _ in range(3))


def _scatter(rng, size, pairs, radii) -> list[Shape] | None:
    """Places without overlap, each center well inside a cell and a third; or None."""
    width, height = size
    shapes: list[Shape] = []
    for (color, kind), radius in sorted(zip(pairs, radii, strict=True), key=lambda p: -p[1]):
        for _ in range(60):
            x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
            edges = [abs(at - k * CELL) for at in (x, y) for k in (1, 2, 3)]
            edges += [
                abs(at - side * k / 3) for at, side in ((x, width), (y, height)) for k in (1, 2)
            ]
            # Corners reach a fifth beyond the radius. Shapes that touch would look like one.
            gaps = [math.hypot(x - o.x, y - o.y) - 1.2 * (radius + o.radius) for o in shapes]
            apart = min(gaps, default=9) > 1
            cells = {(o.x // CELL, o.y // CELL) for o in shapes}
            if min(edges) >= 2 and apart and (x // CELL, y // CELL) not in cells:
                rgb, rotation = random_rgb(rng, color), rng.uniform(-0.25, 0.25)
                shapes.append(Shape(color, kind, x, y, radius, rgb, rotation))
                break
        else:
            return None
    return shapes
