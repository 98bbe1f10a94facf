"""How pictures are drawn: shades of colors, backgrounds, smooth or rough edges, JPEG.

A scene says what is where. Its `Style` says how that looks. The more styles training shows, the
less the vision tower depends on any of them.
"""

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pocket_model.tekken import IMAGE

Size = tuple[float, float]  # width and height in pixels
RGB = tuple[int, int, int]

SIDE = IMAGE["max_image_size"]  # pixels: the longer side at which the model sees a picture

# What a person would call by the name: the kit's own shade first, then those of CSS, matplotlib
# and others. A drawn color is between two of them.
SHADES: dict[str, list[RGB]] = {
    "red": [(218, 36, 40), (255, 0, 0), (214, 39, 40), (178, 24, 34), (229, 57, 53), (200, 16, 46)],
    "blue": [(40, 74, 216), (0, 0, 255), (31, 119, 180), (30, 144, 255), (0, 0, 190)],
    "green": [(38, 156, 62), (0, 128, 0), (44, 160, 44), (0, 200, 0), (34, 139, 34), (80, 175, 80)],
    "yellow": [(244, 214, 36), (255, 255, 0), (255, 215, 0), (250, 230, 80), (240, 220, 0)],
    "purple": [(140, 46, 172), (128, 0, 128), (148, 103, 189), (106, 13, 173), (155, 60, 200)],
    "orange": [(246, 138, 26), (255, 165, 0), (255, 127, 14), (240, 120, 20), (255, 140, 0)],
    "black": [(24, 24, 24), (0, 0, 0), (40, 40, 40)],
    "pink": [(246, 150, 194), (255, 192, 203), (255, 105, 180), (240, 130, 170), (255, 150, 190)],
    "brown": [(130, 82, 45), (165, 42, 42), (139, 69, 19), (140, 86, 75), (110, 65, 30)],
    "gray": [(140, 140, 140), (128, 128, 128), (127, 127, 127), (160, 160, 160), (110, 110, 110)],
    "cyan": [(40, 205, 215), (0, 255, 255), (23, 190, 207), (0, 210, 230)],
    "lime": [(150, 230, 40), (0, 255, 0), (50, 225, 50), (170, 240, 60)],
    "navy": [(20, 30, 104), (0, 0, 128), (10, 20, 90)],
    "magenta": [(225, 30, 170), (255, 0, 255), (230, 0, 200)],
    "teal": [(20, 128, 128), (0, 128, 128), (30, 140, 135)],
    "tan": [(210, 180, 140), (222, 184, 135), (205, 170, 125)],
    "white": [(255, 255, 255), (246, 246, 246)],
}
# Light ones, dark ones and pastels; a style also draws one at random.
BACKGROUNDS = {
    "white": [(255, 255, 255)],
    "light": [(250, 250, 246), (238, 238, 238), (234, 234, 242), (245, 240, 228), (225, 230, 235)],
    "gray": [(128, 128, 128), (190, 190, 190), (100, 100, 105), (211, 211, 211)],
    "dark": [(0, 0, 0), (20, 24, 40), (40, 40, 40), (30, 45, 35)],
    "pastel": [(255, 228, 225), (220, 240, 255), (225, 245, 220), (255, 250, 205), (235, 225, 250)],
    "color": [(70, 110, 160), (150, 60, 60), (60, 120, 80), (230, 190, 90), (120, 80, 140)],
}
LIGHT_ONLY = ("white", "light")
# Between a thing and what is behind it, light or dark: the sum of the channels' differences.
CONTRAST, CONTRAST_ON_DARK = 110, 180
APART = 90  # between two bars or regions, likewise


@dataclass(frozen=True)
class Style:
    """How a picture looks.

    Attributes:
        background: what is behind everything.
        other_end: the background's color at the bottom or right end of a gradient.
        across: the gradient goes from left to right.
        noise: the standard deviation of the noise on top, in shades.
        smooth: with antialiased edges.
        jpeg: the quality of a JPEG file in between.
        frame: a box with ticks around everything, as matplotlib's axes draw it.
        edge: the color of a thin line around filled things.
        seed: of the noise.
    """

    background: RGB = (255, 255, 255)
    other_end: RGB | None = None
    across: bool = False
    noise: float = 0.0
    smooth: bool = True
    jpeg: int | None = None
    frame: bool = False
    edge: RGB | None = None
    seed: int = 0

    def contrasts_with(self, rgb: RGB) -> bool:
        behind = [self.background, self.other_end or self.background]
        least = CONTRAST if sum(self.background) > 450 else CONTRAST_ON_DARK
        return all(distance(rgb, color) >= least for color in behind)


def distance(one: RGB, other: RGB) -> int:
    """The sum of the channels' differences."""
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))


def are_apart(rgbs: Sequence[RGB]) -> bool:
    """Whether all colors can be told from one another."""
    return all(distance(one, other) >= APART for one, other in combinations(rgbs, 2))


def random_style(rng: random.Random, *, plain: bool = False) -> Style:
    """A style at random; a plain one is white or nearly so, with smooth edges."""
    kinds = list(BACKGROUNDS)
    kind = rng.choices(kinds, [10, 6, 2, 3, 3, 2])[0]
    if plain:
        kind = rng.choice(LIGHT_ONLY)
    base = rng.choice(BACKGROUNDS[kind])
    if kind != "white":
        base = jittered(rng, base, 6)
    style = Style(base, smooth=plain or rng.random() < 0.6, seed=rng.randrange(2**31))
    if plain:
        return style
    if kind != "white" and rng.random() < 0.2:
        turned = jittered(rng, base, 45)
        style = replace(style, other_end=turned, across=rng.random() < 0.5)
    if rng.random() < 0.15:
        style = replace(style, noise=rng.uniform(2, 10))
    if rng.random() < 0.2:
        style = replace(style, jpeg=rng.choice([30, 50, 75, 75, 90]))
    if rng.random() < 0.12:
        style = replace(style, edge=rng.choice([(0, 0, 0), (60, 60, 60)]))
    return replace(style, frame=rng.random() < 0.08)


def jittered(rng: random.Random, rgb: RGB, by: int) -> RGB:
    return tuple(min(255, max(0, part + rng.randint(-by, by))) for part in rgb)


def random_shade(rng: random.Random, color: str) -> RGB:
    """A shade of a color: between two of its shades, a little off."""
    one, other = rng.choice(SHADES[color]), rng.choice(SHADES[color])
    share = rng.random()
    mixed = tuple(round(a + share * (b - a)) for a, b in zip(one, other, strict=True))
    return jittered(rng, mixed, 4)


class Canvas:
    """A picture in the making. Lengths are the model's pixels, whatever the scale."""

    def __init__(self, size: Size, style: Style, scale: float = 1):
        self.size, self.style = size, style
        self.pixels = [max(1, round(side * scale)) for side in size]
        # Smooth edges: drawn several times as large, then averaged.
        self.fine = 1 if not style.smooth else (3 if scale < 1.6 else 2)
        self.factor = scale * self.fine
        self.image = self._background([side * self.fine for side in self.pixels])
        self.pen = ImageDraw.Draw(self.image)
        if style.frame:
            self._frame()

    def _background(self, pixels: Sequence[int]) -> Image.Image:
        style = self.style
        if style.other_end is None:
            return Image.new("RGB", tuple(pixels), style.background)
        ends = np.array([style.background, style.other_end], dtype=float)
        shape = (1, 2, 3) if style.across else (2, 1, 3)
        strip = Image.fromarray(ends.reshape(shape).astype(np.uint8))
        return strip.resize(tuple(pixels), Image.Resampling.BILINEAR)

    def _frame(self) -> None:
        (width, height), near = self.size, 0.06 * SIDE
        left, top, right, bottom = near, 0.3 * near, width - 0.3 * near, height - near
        dark = distance(self.style.background, (0, 0, 0)) < 250
        ink = (200, 200, 200) if dark else (0, 0, 0)
        self.lines([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], ink)
        for share in (0.1, 0.3, 0.5, 0.7, 0.9):
            x, y = left + share * (right - left), bottom - share * (bottom - top)
            self.lines([(x, bottom), (x, bottom + 1.5)], ink)
            self.lines([(left - 1.5, y), (left, y)], ink)

    def scaled(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(x * self.factor, y * self.factor) for x, y in points]

    def polygon(self, points, rgb: RGB, line: float = 0.0) -> None:
        """A closed shape: filled, or only its outline, `line` pixels thick."""
        points = self.scaled(points)
        if line:
            self._closed(points, rgb, line)
            return
        self.pen.polygon(points, fill=rgb)
        if self.style.edge:
            self._closed(points, self.style.edge, 1.0)

    def _closed(self, points, rgb: RGB, line: float) -> None:
        width = max(1, round(line * self.factor))
        self.pen.line([*points, *points[:2]], fill=rgb, width=width, joint="curve")

    def lines(self, points, rgb: RGB, line: float = 0.6) -> None:
        width = max(1, round(line * self.factor))
        self.pen.line(self.scaled(points), fill=rgb, width=width)

    def rectangle(self, box: Sequence[float], rgb: RGB) -> None:
        left, top, right, bottom = (edge * self.factor for edge in box)
        self.pen.rectangle([left, top, right, bottom], fill=rgb)
        if self.style.edge:
            corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
            self._closed(corners, self.style.edge, 1.0)

    def text(self, at, text: str, rgb: RGB, height: float, font: str = "", anchor="mm") -> None:
        """A text whose font is `height` pixels high, around `at`."""
        face = typeface(font, max(2, round(height * self.factor)))
        self.pen.text(self.scaled([at])[0], text, fill=rgb, font=face, anchor=anchor)

    def finished(self) -> Image.Image:
        """The picture, with its noise and what a JPEG file leaves."""
        image = self.image.reduce(self.fine) if self.fine > 1 else self.image
        return finished(image, self.style)


def finished(image: Image.Image, style: Style) -> Image.Image:
    if style.noise:
        width, height = image.size
        tile = _noise()
        top = style.seed % 200
        repeats = (height // 300 + 1, width // 300 + 1, 1)
        noise = np.tile(tile[top : top + 300, top : top + 300], repeats)[:height, :width]
        noisy = np.asarray(image) + (style.noise * noise).astype(np.int16)
        image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    if style.jpeg:
        packed = io.BytesIO()
        image.save(packed, "jpeg", quality=style.jpeg)
        image = Image.open(packed).convert("RGB")
    return image


@cache
def _noise() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((500, 500, 3)).astype(np.float32)


# Pillow's own, and those that come with matplotlib.
FONTS = ("", "DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral")


@cache
def typeface(name: str, size: int) -> ImageFont.FreeTypeFont:
    if not name:
        return ImageFont.load_default(size)
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    return ImageFont.truetype(folder / f"{name}.ttf", size)
