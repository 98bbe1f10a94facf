"""Synthetic scenes: the world that the pocket model's vision tower is trained on.

A scene is a graph: things with a color, a kind, a size and a place; the bars of a chart; the
regions of a map; a number. It draws itself in a style (`styles`), lists its things for the programs
of questions (`programs`), and labels its cells. A cell is a 28 × 28 pixel square of what the model
sees. It becomes one image token, and its labels train the vision tower.

The held-out split differs in kind from the training split: it has pairs of color and shape that no
training picture shows.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, pairwise, product

import numpy as np
from PIL import Image

from pocket_model.tekken import IMAGE
from pocket_training import charts, styles
from pocket_training.styles import RGB, SIDE, Canvas, Size, Style

CellLabels = list[list[tuple[str, ...]]]  # the words for each row and column of cells
Thing = dict  # what a program knows of a thing: attribute to value, None if it is unclear

CELL = IMAGE["image_patch_size"] * IMAGE["spatial_merge_size"]  # pixels
PLAIN = Style(smooth=False)
UNIT = SIDE / 112  # lengths below are given for pictures of 112 pixels

COLORS = ("red", "blue", "green", "yellow", "purple", "orange", "black", "pink")
# Only training shows these. The more colors a shape comes in, the better both the vision tower and
# the text model learn that a shape and its color are two things. The same holds for shapes.
FURTHER_COLORS = ("brown", "gray", "cyan", "lime", "navy", "magenta", "teal", "tan", "white")
PALETTES = {"train": (*COLORS, *COLORS, *FURTHER_COLORS), "held_out": COLORS}
SHAPES = ("circle", "square", "triangle", "star", "cross")
FURTHER_SHAPES = ("rectangle", "diamond", "oval", "pentagon", "hexagon", "heart", "arrow")
KINDS = {"train": (*SHAPES, *SHAPES, *SHAPES, *FURTHER_SHAPES), "held_out": SHAPES}
HELD_OUT_PAIRS = {
    ("red", "star"),
    ("green", "triangle"),
    ("blue", "cross"),
    ("yellow", "square"),
    ("purple", "circle"),
    ("orange", "star"),
}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
# Words in a cell's labels for how many there are of the same kind, and of the same name.
TIMES = ("", "once", "twice", "triple", "quad", "five-fold")
SAME = ("", "single", "double", "trio", "quartet", "quintet")
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "center", "right")
LARGER = 1.25  # by which the largest must exceed the others, and the others the smallest
EDGE = 0.03  # of the side: nearer to a third's border, a place is unclear


# --- shapes -----------------------------------------------------------------------------------

_PLUS = [(0.34, 1.0), (0.34, 0.34), (1.0, 0.34), (1.0, -0.34), (0.34, -0.34), (0.34, -1.0)]
_PLUS += [(-a, -b) for a, b in _PLUS]
_HEART = [
    (0.95 * math.sin(t) ** 3, -0.07 + -(13 * math.cos(t) - 5 * math.cos(2 * t)
      - 2 * math.cos(3 * t) - math.cos(4 * t)) / 17)
    for t in np.linspace(0, 2 * math.pi, 33)[:-1]
]  # fmt: skip


def _regular(corners: int, far: float, start: float = -math.pi / 2) -> list[tuple[float, float]]:
    angles = [start + k * 2 * math.pi / corners for k in range(corners)]
    return [(far * math.cos(angle), far * math.sin(angle)) for angle in angles]


# Points of each kind, in radii from the center.
OUTLINES: dict[str, list[tuple[float, float]]] = {
    "circle": _regular(40, 1.0),
    "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    "triangle": _regular(3, 1.15),
    "star": [p for a, b in zip(_regular(5, 1.15), _regular(5, 0.46, -0.3 * math.pi), strict=True)
             for p in (a, b)],
    "cross": _PLUS,
    "rectangle": [(-1.1, -0.55), (1.1, -0.55), (1.1, 0.55), (-1.1, 0.55)],
    "diamond": [(0, -1.15), (0.75, 0), (0, 1.15), (-0.75, 0)],
    "oval": [(1.15 * x, 0.68 * y) for x, y in _regular(40, 1.0)],
    "pentagon": _regular(5, 1.05),
    "hexagon": _regular(6, 1.05, 0.0),
    "heart": _HEART,
    "arrow": [(1.1, 0), (0.3, -0.75), (0.3, -0.28), (-1.1, -0.28), (-1.1, 0.28), (0.3, 0.28),
              (0.3, 0.75)],
}  # fmt: skip
REACH = {kind: max(math.hypot(*p) for p in points) for kind, points in OUTLINES.items()}
# How far a kind is turned, in radians: a square on its corner would be called a diamond.
TURNS = {"circle": (0.0,), "triangle": (0.0, 0.0, math.pi, math.pi / 2, -math.pi / 2),
         "star": (0.0,), "cross": (0.0, 0.0, 0.0, math.pi / 4), "rectangle": (0.0, math.pi / 2),
         "diamond": (0.0,), "oval": (0.0, math.pi / 2), "heart": (0.0,),
         "arrow": (0.0, math.pi, math.pi / 2, -math.pi / 2)}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """A shape in a scene: center and radius in pixels, rotation in radians.

    Attributes:
        line: the thickness of the line if only its outline is drawn, in pixels; else 0.
    """

    color: str
    kind: str
    x: float
    y: float
    radius: float
    rgb: RGB
    rotation: float = 0.0
    line: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.color} {self.kind}"

    @property
    def reach(self) -> float:
        """The distance of its farthest point from its center, in pixels."""
        return self.radius * REACH[self.kind] + self.line / 2

    def points(self) -> list[tuple[float, float]]:
        cos, sin = math.cos(self.rotation) * self.radius, math.sin(self.rotation) * self.radius
        return [
            (self.x + a * cos - b * sin, self.y + a * sin + b * cos) for a, b in OUTLINES[self.kind]
        ]


@dataclass(frozen=True)
class Shapes:
    """One to five shapes, each with a cell of its own."""

    size: Size
    style: Style
    shapes: tuple[Shape, ...]

    def draw(self, scale: float = 1) -> Image.Image:
        canvas = Canvas(self.size, self.style, scale)
        for shape in self.shapes:
            canvas.polygon(shape.points(), shape.rgb, shape.line)
        return canvas.finished()

    def things(self) -> list[Thing]:
        """The shapes as programs know them, in the order of reading."""
        return [self._thing(shape) for shape in self._read()]

    def _thing(self, shape: Shape) -> Thing:
        width, height = self.size
        row, column = self.position(shape)
        near = EDGE * max(self.size)
        clear = [
            all(abs(at - side * k / 3) >= near for k in (1, 2))
            for at, side in ((shape.y, height), (shape.x, width))
        ]
        return {
            "kind": shape.kind,
            "color": shape.color,
            "fill": "outlined" if shape.line else "filled",
            "row": row if clear[0] else None,
            "column": column if clear[1] else None,
            "x": shape.x / max(self.size),
            "y": shape.y / max(self.size),
            "size": shape.radius,
        }

    def position(self, shape: Shape) -> tuple[str, str]:
        """Row and column of a shape, by thirds of the picture: ("top", "left")."""
        width, height = self.size
        row = ROWS[min(int(3 * shape.y / height), 2)]
        return row, COLUMNS[min(int(3 * shape.x / width), 2)]

    def position_phrase(self, shape: Shape) -> str:
        """Where a shape is, in words: "at the top left" or "in the center"."""
        return place_phrase(*self.position(shape))

    def _read(self) -> list[Shape]:
        """The shapes in the order of their image tokens: row by row."""
        centers = [(shape.x, shape.y) for shape in self.shapes]
        cells = cells_of(centers, self.size)
        return [s for _, s in sorted(zip(cells, self.shapes, strict=True), key=lambda p: p[0])]

    def description(self) -> str:
        """Every shape with its position, in the order of the image tokens."""
        parts = [f"{a(shape.name)} {self.position_phrase(shape)}" for shape in self._read()]
        return f"There is {listed(parts)}."

    def largest(self) -> Shape | None:
        """The shape that is clearly larger than any other, if there is one."""
        return clearly_first(self.shapes, lambda shape: shape.radius)

    def cell_labels(self) -> CellLabels:
        cells = _blank_cells(self.size)
        largest = self.largest()
        smallest = clearly_first(self.shapes, lambda shape: 1 / shape.radius)
        centers = [(shape.x, shape.y) for shape in self.shapes]
        places = cells_of(centers, self.size)
        for shape, (row, column) in zip(self.shapes, places, strict=True):
            same_color = sum(other.color == shape.color for other in self.shapes)
            same_kind = sum(other.kind == shape.kind for other in self.shapes)
            same_name = sum(other.name == shape.name for other in self.shapes)
            labels = [shape.color, shape.kind, *self.position(shape)]
            # Four counts need four kinds of word: of all, of a color, of a kind, of a name.
            labels += [str(len(self.shapes)), NUMBERS[same_color]]
            labels += [TIMES[same_kind], SAME[same_name]]
            labels += ["largest"] * (shape is largest) + ["smallest"] * (shape is smallest)
            labels += ["outlined"] * bool(shape.line)
            cells[row][column] = tuple(labels)
        return cells


def place_phrase(row: str, column: str) -> str:
    """ "at the top left", "on the left", "at the top" or "in the center"."""
    if row == "middle":
        return "in the center" if column == "center" else f"on the {column}"
    return f"at the {row}" if column == "center" else f"at the {row} {column}"


# --- charts -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bars:
    """A bar chart of two to six bars.

    Attributes:
        heights: of each bar over the height of the plot.
        plot: the plot's left, top, right and bottom in pixels, where the bars are drawn.
        width: of a bar over the distance of two.
        horizontal: bars to the right, the first at the bottom.
        decor: what is drawn around them (`charts`).
        by_matplotlib: drawn by matplotlib itself, in its own fonts and lines.
    """

    size: Size
    style: Style
    colors: tuple[str, ...]
    rgbs: tuple[RGB, ...]
    heights: tuple[float, ...]
    plot: tuple[float, float, float, float]
    width: float = 0.8
    horizontal: bool = False
    decor: charts.Decor | None = None
    by_matplotlib: bool = False

    def spans(self) -> list[tuple[float, float, float, float]]:
        """Left, top, right and bottom of each bar in pixels."""
        left, top, right, bottom = self.plot
        length = (bottom - top) if self.horizontal else (right - left)
        spans = []
        for (low, high), height in zip(
            charts.places(len(self.heights), self.width), self.heights, strict=True
        ):
            if self.horizontal:
                end = left + height * (right - left)
                spans.append((left, bottom - high * length, end, bottom - low * length))
            else:
                begin = bottom - height * (bottom - top)
                spans.append((left + low * length, begin, left + high * length, bottom))
        return spans

    def draw(self, scale: float = 1) -> Image.Image:
        if self.by_matplotlib:
            return charts.matplotlib_chart(self)
        canvas = Canvas(self.size, self.style, scale)
        charts.draw_under(canvas, self)
        for span, rgb in zip(self.spans(), self.rgbs, strict=True):
            canvas.rectangle(span, rgb)
        charts.draw_over(canvas, self)
        return canvas.finished()

    @property
    def one_color(self) -> bool:
        return len(set(self.colors)) < len(self.colors)

    def places(self) -> list[int]:
        """Each bar's place, counted from the left or from the top."""
        count = len(self.heights)
        return [count - 1 - k if self.horizontal else k for k in range(count)]

    def things(self) -> list[Thing]:
        return [
            {"kind": "bar", "color": color, "height": height, "place": ORDINALS[place]}
            for color, height, place in zip(self.colors, self.heights, self.places(), strict=True)
        ]

    def color_of(self, best) -> str:
        """The color of the bar whose height is `best` (`max` or `min`) of all."""
        return self.colors[self.heights.index(best(self.heights))]

    def cell_labels(self) -> CellLabels:
        cells = _blank_cells(self.size)
        middles = [((a + c) / 2, (b + d) / 2) for a, b, c, d in self.spans()]
        for thing, (row, column) in zip(self.things(), cells_of(middles, self.size), strict=True):
            labels = [thing["color"], "bar", str(len(self.heights)), thing["place"]]
            labels += ["tallest"] * (thing["height"] == max(self.heights))
            labels += ["shortest"] * (thing["height"] == min(self.heights))
            cells[row][column] = tuple(labels)
        return cells


# --- maps -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Regions:
    """A map: land divided into colored regions, one of them clearly the largest."""

    size: Size
    colors: tuple[str, ...]
    rgbs: tuple[RGB, ...]
    owner: np.ndarray = field(repr=False)  # per pixel: the region's number, -1 for the sea
    sea: RGB = (205, 228, 246)
    border: RGB | None = (70, 70, 70)
    style: Style = PLAIN

    def draw(self, scale: float = 1) -> Image.Image:
        right, below = np.roll(self.owner, -1, axis=1), np.roll(self.owner, -1, axis=0)
        border = (self.owner >= 0) & ((right != self.owner) | (below != self.owner))
        pixels = np.array([*self.rgbs, self.sea], dtype=np.uint8)[self.owner]
        if self.border:
            pixels[border] = self.border
        size = (round(self.size[0] * scale), round(self.size[1] * scale))
        resample = Image.Resampling.BILINEAR if self.style.smooth else Image.Resampling.NEAREST
        return styles.finished(Image.fromarray(pixels).resize(size, resample), self.style)

    def areas(self) -> list[int]:
        """Pixels of each region."""
        return [int((self.owner == number).sum()) for number in range(len(self.colors))]

    def largest(self) -> int:
        return int(np.argmax(self.areas()))

    def things(self) -> list[Thing]:
        pairs = zip(self.colors, self.areas(), strict=True)
        return [{"kind": "region", "color": color, "size": float(area)} for color, area in pairs]

    def cell_labels(self) -> CellLabels:
        cells, largest = _blank_cells(self.size), self.largest()
        areas = self.areas()
        smallest = areas.index(min(areas))
        for row, column in product(range(len(cells)), range(len(cells[0]))):
            square = self.owner[row * CELL :, column * CELL :][:CELL, :CELL]
            commonest = int(np.bincount(square.ravel() + 1).argmax()) - 1
            labels = ["sea"] if commonest < 0 else [self.colors[commonest], "region"]
            labels += [NUMBERS[len(self.colors)]] if commonest >= 0 else []
            labels += ["largest"] * (commonest == largest)
            labels += ["smallest"] * (commonest == smallest)
            cells[row][column] = tuple(labels)
        return cells


# --- numbers ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Number:
    """One to four digits in a row, anywhere.

    Each digit labels the cell that it is in. If several are in one cell, the others label the
    nearest cells, and their order stays. So the vision encoder has to take them apart.
    """

    size: Size
    style: Style
    digits: str
    center: tuple[float, float]  # pixels
    height: float  # of the font, pixels
    ink: RGB
    font: str = ""

    def draw(self, scale: float = 1) -> Image.Image:
        canvas = Canvas(self.size, self.style, scale)
        canvas.text(self.center, self.digits, self.ink, self.height, self.font)
        return canvas.finished()

    def things(self) -> list[Thing]:
        return [{"kind": "number", "digits": self.digits}]

    def cell_labels(self) -> CellLabels:
        cells = _blank_cells(self.size)
        row = min(int(self.center[1] / self.size[1] * len(cells)), len(cells) - 1)
        of_all = NUMBERS[len(self.digits)]
        for column, digit, place in zip(self._columns(), self.digits, ORDINALS, strict=False):
            cells[row][column] = ("number", digit, place, of_all)
        return cells

    def _columns(self) -> tuple[int, ...]:
        """Each digit's column of cells: from left to right, as near to it as can be."""
        face = styles.typeface(self.font, round(self.height))
        ends = [face.getlength(self.digits[:count]) for count in range(len(self.digits) + 1)]
        left, (_, columns) = self.center[0] - ends[-1] / 2, grid(self.size)
        middles = [(left + sum(pair) / 2) / self.size[0] * columns for pair in pairwise(ends)]
        return min(
            combinations(range(columns), len(middles)),
            key=lambda found: math.dist([column + 0.5 for column in found], middles),
        )


Scene = Shapes | Bars | Regions | Number


# --- cells ------------------------------------------------------------------------------------


def grid(size: Size) -> tuple[int, int]:
    """Rows and columns of cells: as many as cover the picture."""
    return -(-round(size[1]) // CELL), -(-round(size[0]) // CELL)


def _blank_cells(size: Size) -> CellLabels:
    rows, columns = grid(size)
    return [[("empty",)] * columns for _ in range(rows)]


def cells_of(centers: Sequence[tuple[float, float]], size: Size) -> list[tuple[int, int]]:
    """A cell for each thing, no two the same: the one it is in, else the nearest free one.

    A thing in the middle of its cell keeps it before one at the edge.
    """
    rows, columns = grid(size)
    at = [(y / size[1] * rows, x / size[0] * columns) for x, y in centers]
    free = set(product(range(rows), range(columns)))
    found: dict[int, tuple[int, int]] = {}

    def off(cell: tuple[int, int], place: tuple[float, float]) -> float:
        return math.hypot(place[0] - cell[0] - 0.5, place[1] - cell[1] - 0.5)

    own = {n: (min(int(y), rows - 1), min(int(x), columns - 1)) for n, (y, x) in enumerate(at)}
    for number in sorted(own, key=lambda n: (off(own[n], at[n]), at[n])):
        cell = own[number]
        if cell not in free:
            cell = min(sorted(free), key=lambda c: off(c, at[number]))
        free.discard(cell)
        found[number] = cell
    return [found[number] for number in range(len(at))]


def clearly_first(things: Sequence, size):
    """The one whose `size` is clearly more than any other's, or None."""
    ordered = sorted(things, key=lambda thing: -size(thing))
    if len(ordered) < 2 or size(ordered[0]) < LARGER * size(ordered[1]):
        return None
    return ordered[0]


def listed(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def a(noun: str) -> str:
    """A noun with its article: "an orange star"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


# --- at random --------------------------------------------------------------------------------


def _size(rng: random.Random, *, square: float = 0.55) -> Size:
    """Width and height: often a square, else as screens and papers are, wide or tall."""
    if rng.random() < square:
        return (SIDE, SIDE)
    short = round(SIDE * rng.choice([0.9, 0.75, 0.75, 0.67, 0.56, 0.5]))
    if short % CELL < 3:  # a pixel or two more would be a row of cells more, or not
        short -= short % CELL
    return (SIDE, short) if rng.random() < 0.6 else (short, SIDE)


def random_shapes(
    rng: random.Random, split: str, *, count: int | None = None, plain: bool = False
) -> Shapes:
    """Shapes at random; plain ones are filled, on white or nearly so."""
    count = count or rng.choice([1, 1, 2, 3, 3, 4, 4, 5, 5])
    while True:
        style, size = styles.random_style(rng, plain=plain), _size(rng)
        pairs = [random_pair(rng, split) for _ in range(count)]
        # If all shapes differ, counting teaches nothing: often repeat a color, a shape or both.
        if count > 1 and rng.random() < 0.5:
            pairs[1] = random_pair(rng, split, color=pairs[0][0])
        if count > 2 and rng.random() < 0.5:
            pairs[2] = random_pair(rng, split, kind=pairs[0][1])
        if count > 1 and rng.random() < 0.25:
            alike = rng.randint(2, count)
            pairs[:alike] = pairs[:1] * alike
        radii = _radii(rng, count, min(size))
        shapes = _scatter(rng, size, pairs, radii, style, outlines=0.0 if plain else 0.2)
        if shapes:
            rng.shuffle(shapes)
            return Shapes(size, style, tuple(shapes))


def _radii(rng: random.Random, count: int, side: float) -> list[float]:
    """Radii in pixels: from 8 % to 90 % of the shorter side for a lone shape."""
    high = {1: 0.45, 2: 0.23, 3: 0.2, 4: 0.17, 5: 0.15}[count] * side
    low = 0.045 * side
    if count == 1:
        return [rng.uniform(low, high)]
    kind = rng.random()
    if kind < 0.35:
        return [rng.uniform(low, high) for _ in range(count)]
    if kind < 0.65:  # all alike
        radius = rng.uniform(low, high)
        return [radius * rng.uniform(0.95, 1.05) for _ in range(count)]
    radii = [rng.uniform(low, high / 1.8) for _ in range(count)]
    radii[rng.randrange(count)] = rng.uniform(high / 1.25, high * 1.15)
    return radii


def _scatter(rng, size, pairs, radii, style, *, outlines: float) -> list[Shape] | None:
    """Places without overlap: anywhere, in one quadrant, or in a row; or None."""
    width, height = size
    layout = rng.choices(["anywhere", "quadrant", "row"], [75, 10, 15])[0]
    left, top, right, bottom = 0.0, 0.0, width, height
    if layout == "quadrant":
        left, right = rng.choice([(0.0, width / 2), (width / 2, width)])
        top, bottom = rng.choice([(0.0, height / 2), (height / 2, height)])
        radii = [max(0.045 * min(size), radius / 2) for radius in radii]
    outlined = rng.random() < outlines
    shapes: list[Shape] = []
    order = list(range(len(pairs)))
    rng.shuffle(order)
    level = rng.uniform(0.25, 0.75) * height
    for number, ((color, kind), radius) in enumerate(zip(pairs, radii, strict=True)):
        # A small star or heart is a dot.
        radius = max(radius, 0.09 * min(size)) if kind in FURTHER_SHAPES else radius
        rgb = styles.random_shade(rng, color)
        if not style.contrasts_with(rgb):
            return None
        turn = rng.choice(TURNS.get(kind, (0.0,)))
        if rng.random() < 0.5:
            turn += rng.uniform(-0.25, 0.25)
        thin = outlined and rng.random() < 0.8
        line = max(1.6 * UNIT, radius * rng.uniform(0.1, 0.22)) if thin else 0.0
        for _ in range(60):
            shape = Shape(color, kind, 0, 0, radius, rgb, turn, line)
            reach = shape.reach
            if layout == "row":
                x = (order[number] + 0.5) * width / len(pairs)
                y = level + rng.uniform(-0.02, 0.02) * height
            else:
                if right - left < 2 * reach or bottom - top < 2 * reach:
                    return None
                x = rng.uniform(left + reach, right - reach)
                y = rng.uniform(top + reach, bottom - reach)
            shape = replace(shape, x=x, y=y)
            gap = min((math.hypot(x - o.x, y - o.y) - reach - o.reach for o in shapes), default=9)
            inside = reach <= min(x, y, width - x, height - y) + 1
            if inside and gap > 1.5 * UNIT:
                shapes.append(shape)
                break
        else:
            return None
    return shapes


def random_bars(
    rng: random.Random, split: str, *, plain: bool = False, count: int | None = None
) -> Bars:
    """A bar chart at random, whose tallest and shortest bars are clearly so."""
    count = count or rng.choice([2, 3, 3, 4, 4, 5, 5, 6])
    if split == "train" and not plain and rng.random() < 0.25:
        return _matplotlib_bars(random.Random(f"chart {rng.randrange(charts.POOL)}"))
    while True:
        style, size = styles.random_style(rng, plain=plain), _size(rng)
        style = replace(style, frame=False)
        horizontal = not plain and rng.random() < 0.25
        decor = None if plain else charts.random_decor(rng, style)
        plot = charts.random_plot(rng, size, decor)
        length = plot[2] - plot[0] if horizontal else plot[3] - plot[1]
        heights = _heights(rng, count, 6 * UNIT / length)
        colors = _bar_colors(rng, split, count, one=0.0 if plain else 0.15)
        rgbs = [styles.random_shade(rng, color) for color in colors]
        if len(set(colors)) == 1:
            rgbs = rgbs[:1] * count
        width = rng.uniform(0.45, 0.92)
        step = (plot[3] - plot[1] if horizontal else plot[2] - plot[0]) / count
        behind = style if decor is None else replace(style, background=decor.face, other_end=None)
        apart = len(set(colors)) == 1 or styles.are_apart(rgbs)
        visible = apart and all(behind.contrasts_with(rgb) for rgb in rgbs)
        if visible and step * width >= 6 * UNIT:
            return Bars(size, style, colors, tuple(rgbs), heights, plot, width, horizontal, decor)


def _matplotlib_bars(rng: random.Random) -> Bars:
    """A chart as matplotlib draws it, in the colors that people give it."""
    count = rng.choice([2, 3, 3, 4, 4, 5, 5, 6])
    size, plot = charts.matplotlib_layout(rng)
    horizontal = rng.random() < 0.25
    length = plot[2] - plot[0] if horizontal else plot[3] - plot[1]
    heights = _heights(rng, count, 6 * UNIT / length)
    colors = _bar_colors(rng, "train", count, one=0.2)
    rgbs = [styles.random_shade(rng, color) for color in colors]
    if len(set(colors)) == 1:
        rgbs = rgbs[:1] * count
    style, decor = Style(), charts.random_decor(rng, Style(), boxed=True)
    heights = tuple(height / max(heights) / 1.05 for height in heights)
    width = rng.choice([0.8, 0.8, 0.5, 0.6])
    return Bars(size, style, colors, tuple(rgbs), heights, plot, width, horizontal, decor, True)


def _heights(rng: random.Random, count: int, least: float) -> tuple[float, ...]:
    """Heights from 0 to 1; the first and the last two differ by at least `least`."""
    while True:
        heights = [rng.uniform(0.08, 0.97) for _ in range(count)]
        low, second, *_ = ordered = sorted(heights)
        # If less than six pixels decided, the question would be about the drawing, not the chart.
        if second - low >= least and ordered[-1] - ordered[-2] >= least:
            return tuple(heights)


def _bar_colors(rng: random.Random, split: str, count: int, *, one: float) -> tuple[str, ...]:
    palette = [color for color in dict.fromkeys(PALETTES[split]) if color not in ("white", "tan")]
    if split == "train" and rng.random() < 0.6:
        palette = list(COLORS)
    if rng.random() < one:
        return (rng.choice(palette),) * count
    return tuple(rng.sample(palette, count))


def random_regions(
    rng: random.Random, split: str, *, count: int | None = None, plain: bool = False
) -> Regions:
    """A map at random: an island in the sea, or land to all edges."""
    count = count or rng.choice([3, 3, 4, 4, 5])
    palette = COLORS if plain else dict.fromkeys(PALETTES[split])
    palette = [name for name in palette if name not in ("black", "white", "navy", "cyan")]
    colors = rng.sample(sorted(palette), count)
    y, x = np.mgrid[:SIDE, :SIDE] / UNIT
    sea, border, style = (205, 228, 246), (70, 70, 70), Style(smooth=False)
    if not plain:
        sea = rng.choice([(205, 228, 246), (255, 255, 255), (173, 216, 230), (230, 230, 230)])
        border = rng.choice([(70, 70, 70), (0, 0, 0), (255, 255, 255), None])
        style = replace(styles.random_style(rng), frame=False)
    shore = 50 if plain or rng.random() < 0.7 else 99

    def clear(areas: list[int], least: float) -> bool:
        ordered = sorted(areas)
        apart = plain or ordered[1] >= LARGER * ordered[0]
        return ordered[0] >= least and ordered[-1] >= 1.35 * ordered[-2] and apart

    while True:
        seeds = [(rng.uniform(18, 94), rng.uniform(18, 94)) for _ in range(count)]
        weights = [rng.uniform(0, 900) for _ in range(count)]
        weights[0] += 700
        wobble = [(rng.uniform(0, 6.3), rng.uniform(1, 5)) for _ in range(4)]
        # Every fourth pixel tells whether the areas are worth all of them.
        coarse = _owners(x[::4, ::4], y[::4, ::4], seeds, weights, wobble, shore)
        if not clear(np.bincount(coarse.ravel() + 1, minlength=count + 1)[1:].tolist(), 25):
            continue
        owner = _owners(x, y, seeds, weights, wobble, shore)
        rgbs = tuple(styles.random_shade(rng, color) for color in colors)
        scene = Regions((SIDE, SIDE), tuple(colors), rgbs, owner, sea, border, style)
        if clear(scene.areas(), 500 * UNIT**2) and styles.are_apart([*rgbs, sea]):
            return scene


def _owners(x, y, seeds, weights, wobble, shore: float) -> np.ndarray:
    """Which region's seed is the nearest, for points of a map; -1 in the sea."""
    angle = np.arctan2(y - 56, x - 56)
    coast = shore + sum(a * np.sin((k + 2) * angle + p) for k, (p, a) in enumerate(wobble))
    bent = x + 3 * np.sin(y / 7 + wobble[0][0])  # borders that are not quite straight
    far = [(bent - a) ** 2 + (y - b) ** 2 - w for (a, b), w in zip(seeds, weights, strict=True)]
    return np.where(np.hypot(x - 56, y - 56) > coast, -1, np.argmin(far, axis=0))


def random_number(rng: random.Random, split: str, *, plain: bool = False) -> Number:
    """A number of up to four digits, in any font, of any size, anywhere."""
    while True:
        style, size = styles.random_style(rng, plain=plain), _size(rng, square=0.7)
        count = min(rng.choice([1, 2, 2, 3, 3, 4, 4]), grid(size)[1])
        digits = "".join(rng.choice("0123456789") for _ in range(count))
        if len(digits) > 1 and digits[0] == "0" and rng.random() < 0.8:
            continue
        height, font = rng.uniform(0.16, 0.75) * SIDE, rng.choice(styles.FONTS)
        ink = styles.random_shade(rng, rng.choice(["black", "black", *PALETTES[split]]))
        left, top, right, bottom = styles.typeface(font, round(height)).getbbox(digits, anchor="mm")
        room = [size[0] - (right - left) - 4, size[1] - (bottom - top) - 4]
        if min(room) < 0 or not style.contrasts_with(ink):
            continue
        center = (2 - left + rng.uniform(0, room[0]), 2 - top + rng.uniform(0, room[1]))
        style = replace(style, frame=False)
        return Number(size, style, digits, center, height, ink, font)


SCENES = dict(shapes=random_shapes, bars=random_bars, regions=random_regions, number=random_number)


def random_pair(
    rng: random.Random, split: str, *, color: str | None = None, kind: str | None = None
) -> tuple[str, str]:
    """A color and a shape that the split may show, one of them given or none."""
    while True:
        pair = (color or rng.choice(PALETTES[split]), kind or rng.choice(KINDS[split]))
        if split == "held_out":
            # Half of what the held-out scenes show is a pair that training never saw.
            if pair in HELD_OUT_PAIRS or color or kind or rng.random() < 0.5:
                return pair
        elif pair not in HELD_OUT_PAIRS:
            return pair
