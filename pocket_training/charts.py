"""Bar charts: what is drawn around the bars, as matplotlib draws it.

matplotlib takes about 50 ms for a chart, Pillow 2. So most charts imitate its axes, ticks, grids
and legends with Pillow. A quarter of the training's charts are matplotlib's own: a pool of a few
hundred, each drawn once in a process and kept.
"""

import io
import random
from dataclasses import dataclass
from functools import cache

import matplotlib
from PIL import Image

from pocket_training.styles import RGB, SIDE, Canvas, Size, Style, distance

POOL = 400  # different charts by matplotlib
MARGINS = (0.125, 0.12, 0.9, 0.89)  # of the figure: matplotlib's axes by default, from the top


@dataclass(frozen=True)
class Decor:
    """What is around the bars: the plot's face, spines, ticks, labels, a grid, a legend.

    Attributes:
        spines: how many of the four sides have a line: 4, 2 or 1.
        labels: a text under each bar; "" for none.
    """

    face: RGB
    ink: RGB
    spines: int
    ticks: bool
    grid: bool
    legend: bool
    title: str
    labels: tuple[str, ...]


LABELS = (
    ("A", "B", "C", "D", "E", "F"),
    ("2019", "2020", "2021", "2022", "2023", "2024"),
    ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat"),
    ("Ana", "Bo", "Cem", "Dan", "Eva", "Flo"),
    ("one", "two", "three", "four", "five", "six"),
    ("0", "1", "2", "3", "4", "5"),
)
TITLES = ("", "", "Sales", "Results", "Rainfall in mm", "Figure 1", "Votes")


def random_decor(rng: random.Random, style: Style, *, boxed: bool = False) -> Decor | None:
    """Decoration at random, or none; boxed: always, as matplotlib's defaults are."""
    if not boxed and rng.random() < 0.3:
        return None
    face = (255, 255, 255) if boxed and rng.random() < 0.8 else style.background
    if rng.random() < 0.1:
        face = rng.choice([(234, 234, 242), (229, 229, 229), (240, 240, 240)])
    dark = distance(style.background, (0, 0, 0)) < 250
    ink = (220, 220, 220) if dark else (0, 0, 0)
    return Decor(
        face,
        ink,
        spines=4 if boxed and rng.random() < 0.8 else rng.choice([4, 4, 2, 1]),
        ticks=boxed or rng.random() < 0.7,
        grid=rng.random() < 0.3,
        legend=rng.random() < 0.08,
        title=rng.choice(TITLES),
        labels=rng.choice(LABELS) if rng.random() < 0.7 else (),
    )


def places(count: int, width: float) -> list[tuple[float, float]]:
    """Begin and end of each bar over the plot's length, as matplotlib spaces them."""
    margin = 0.05 * (count - 1 + width)
    low, length = -width / 2 - margin, count - 1 + width + 2 * margin
    return [((k - width / 2 - low) / length, (k + width / 2 - low) / length) for k in range(count)]


def random_plot(rng: random.Random, size: Size, decor: Decor | None) -> tuple[float, ...]:
    """Where the bars are, in pixels."""
    width, height = size
    if decor:
        left, top, right, bottom = (edge + rng.uniform(-0.03, 0.03) for edge in MARGINS)
    else:
        left, top, right, bottom = (
            at + sign * rng.uniform(0.0, 0.14)
            for at, sign in ((0.02, 1), (0.02, 1), (0.98, -1), (0.98, -1))
        )
    return (left * width, top * height, right * width, bottom * height)


def matplotlib_layout(rng: random.Random) -> tuple[Size, tuple[float, ...]]:
    """A figure's size in the model's pixels, and its axes."""
    ratio = rng.choice([0.75, 0.75, 0.75, 1.0, 0.6, 0.5])
    width, height = SIDE, round(SIDE * ratio)
    left, top, right, bottom = MARGINS
    return (width, height), (left * width, top * height, right * width, bottom * height)


def draw_under(canvas: Canvas, chart) -> None:
    """What is behind the bars."""
    decor, (left, top, right, bottom) = chart.decor, chart.plot
    if decor is None:
        ink = (90, 90, 90) if distance(canvas.style.background, (0, 0, 0)) > 250 else (200,) * 3
        line = [(left, top), (left, bottom)] if chart.horizontal else [(left, bottom)]
        canvas.lines(line if chart.horizontal else [*line, (right, bottom)], ink, 1.0)
        return
    canvas.pen.rectangle(
        [edge * canvas.factor for edge in (left, top, right, bottom)], fill=decor.face
    )
    if decor.grid:
        for share in (0.2, 0.4, 0.6, 0.8):
            x, y = left + share * (right - left), bottom - share * (bottom - top)
            line = [(x, top), (x, bottom)] if chart.horizontal else [(left, y), (right, y)]
            canvas.lines(line, (176, 176, 176), 0.3)


def draw_over(canvas: Canvas, chart) -> None:
    """What is before the bars and beside them."""
    decor, (left, top, right, bottom) = chart.decor, chart.plot
    if decor is None:
        return
    around = [(left, top), (left, bottom), (right, bottom), (right, top), (left, top)]
    sides = {4: around, 2: around[:3], 1: around[:2] if chart.horizontal else around[1:3]}
    canvas.lines(sides[decor.spines], decor.ink, 0.5)
    small = 0.036 * SIDE
    if decor.ticks:
        for step in range(5):
            share = step / 4.2
            x, y = left + share * (right - left), bottom - share * (bottom - top)
            number = str(step * 10)
            if chart.horizontal:
                canvas.lines([(x, bottom), (x, bottom + 1)], decor.ink, 0.4)
                canvas.text((x, bottom + 4), number, decor.ink, small)
            else:
                canvas.lines([(left - 1, y), (left, y)], decor.ink, 0.4)
                canvas.text((left - 2, y), number, decor.ink, small, anchor="rm")
    for label, (low, high) in zip(decor.labels, places(len(chart.heights), chart.width)):  # noqa: B905
        share = (low + high) / 2
        if chart.horizontal:
            at, anchor = (left - 2, bottom - share * (bottom - top)), "rm"
        else:
            at, anchor = (left + share * (right - left), bottom + 4), "mm"
        canvas.text(at, label, decor.ink, small, anchor=anchor)
    if decor.title:
        canvas.text(((left + right) / 2, top - 4), decor.title, decor.ink, 0.045 * SIDE)
    low = top + 2 + 4 * len(chart.rgbs)
    covers = any(span[1] < low + 1 and span[2] > right - 16 for span in chart.spans())
    if decor.legend and not chart.one_color and not covers:
        canvas.rectangle((right - 15, top + 1, right - 1, low), decor.face)
        for number, rgb in enumerate(chart.rgbs):
            y = top + 2 + 4 * number
            canvas.rectangle((right - 14, y, right - 10, y + 2), rgb)


@cache
def matplotlib_chart(chart) -> Image.Image:
    """The chart as matplotlib draws it, about three times as large as the model sees it.

    With matplotlib's own settings, whatever the process has changed them to.
    """
    with matplotlib.rc_context(matplotlib.rcParamsDefault):
        return _drawn_by_matplotlib(chart)


def _drawn_by_matplotlib(chart) -> Image.Image:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    decor, (width, height) = chart.decor, chart.size
    figure = Figure(figsize=(6.4, 6.4 * height / width), dpi=56)
    left, top, right, bottom = chart.plot
    # Axes from the bottom, as matplotlib counts.
    box = (left / width, 1 - bottom / height, (right - left) / width, (bottom - top) / height)
    axes = figure.add_axes(box, facecolor=[part / 255 for part in decor.face])
    colors = [[part / 255 for part in rgb] for rgb in chart.rgbs]
    places = range(len(chart.heights))
    values = [100 * height for height in chart.heights]
    if chart.horizontal:
        bars = axes.barh(places, values, height=chart.width, color=colors)
    else:
        bars = axes.bar(places, values, width=chart.width, color=colors)
    (axes.set_xlim if chart.horizontal else axes.set_ylim)(0, 100)
    if decor.labels:
        labels = decor.labels[: len(values)]
        (axes.set_yticks if chart.horizontal else axes.set_xticks)(places, labels)
    axes.set_title(decor.title)
    if decor.grid:
        axes.grid(axis="x" if chart.horizontal else "y")
        axes.set_axisbelow(True)
    if decor.spines < 4:
        axes.spines[["top", "right"]].set_visible(False)
    if decor.legend and not chart.one_color:
        axes.legend(bars, decor.labels[: len(values)] or [str(k) for k in places], fontsize=7)
    packed = io.BytesIO()
    FigureCanvasAgg(figure).print_png(packed)
    return Image.open(packed).convert("RGB")
