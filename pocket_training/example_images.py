"""Draws the pictures of `data/images`, all of them, from nothing but this file and europe.json.

    python -m pocket_training.example_images                  # the pictures
    python -m pocket_training.example_images convert countries-50m.json   # europe.json, from npm

The README in that folder says where everything comes from.
"""

import json
import math
import random
import sys
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pocket_training import scenes

DATA = Path(__file__).parent.parent / "data"
FOLDER = DATA / "images"
FRAME = (-25.0, 34.0, 60.0, 72.0)  # west, south, east, north, in degrees
SQUEEZE = math.cos(math.radians(52))  # a degree of longitude is that much shorter here
FILLS = ["#f4c095", "#b5d99c", "#f7e6a1", "#c9b6e4", "#a8d8ea", "#f2a7a7"]
SEA, INK = "#dcebf5", "#333333"
TINY = 0.02  # square degrees: smaller islands are left out
NAMED = 40  # the map names that many countries, the largest

Ring = list[list[float]]  # points of longitude and latitude, in degrees


# --- the map ----------------------------------------------------------------------------------


def convert(topology: dict) -> dict[str, list[Ring]]:
    """A TopoJSON of countries as outer rings in FRAME, by name."""
    scale, shift = topology["transform"]["scale"], topology["transform"]["translate"]
    # Each point is the step from the one before.
    arcs = [(np.cumsum(arc, axis=0) * scale + shift).tolist() for arc in topology["arcs"]]

    def ring(numbers: list[int]) -> Ring:
        points: Ring = []
        for number in numbers:  # ~n is arc n backwards; arcs share their ends
            arc = arcs[number] if number >= 0 else arcs[~number][::-1]
            points += arc[1:] if points else arc
        longitudes, latitudes = np.transpose(points)
        # Beyond 180 degrees east the count begins again: go on instead.
        return np.stack([np.unwrap(longitudes, period=360), latitudes], axis=1).tolist()

    countries: dict[str, list[Ring]] = {}
    for country in topology["objects"]["countries"]["geometries"]:
        shapes = country.get("arcs", [])
        outer = [shapes[0]] if country["type"] == "Polygon" else [shape[0] for shape in shapes]
        cut = [cut_to_frame(ring(numbers)) for numbers in outer]
        kept = [np.round(points, 2).tolist() for points in cut if abs(area(points)) > TINY]
        if kept:
            countries[country["properties"]["name"]] = kept
    return dict(sorted(countries.items()))


def cut_to_frame(ring: Ring) -> list[tuple[float, float]]:
    """The part of a ring inside FRAME (Sutherland and Hodgman), in degrees."""
    west, south, east, north = FRAME
    points = [(longitude, latitude) for longitude, latitude in ring]
    for axis, bound, sign in ((0, west, 1), (0, east, -1), (1, south, 1), (1, north, -1)):
        cut = []
        for a, b in zip(points, points[1:] + points[:1], strict=True):
            inside_a, inside_b = (sign * (p[axis] - bound) >= 0 for p in (a, b))
            if inside_a:
                cut.append(a)
            if inside_a != inside_b:
                share = (bound - a[axis]) / (b[axis] - a[axis])
                cut.append((a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])))
        points = cut
    return points


def _crosses(points: np.ndarray) -> np.ndarray:
    x, y = np.reshape(points, (-1, 2)).T
    return x * np.roll(y, -1) - np.roll(x, -1) * y


def area(points) -> float:
    """Signed area of a ring (the shoelace formula)."""
    return _crosses(points).sum() / 2


def sizes(countries: dict[str, list[Ring]]) -> dict[str, float]:
    """Each country's area on the map, in squeezed square degrees, the largest first."""
    areas = {name: SQUEEZE * sum(abs(area(r)) for r in rings) for name, rings in countries.items()}
    # Rounded, so that two equal areas keep the order of their names.
    return dict(sorted(areas.items(), key=lambda pair: -round(pair[1], 6)))


def europe(countries: dict[str, list[Ring]], width: int = 1000, fine: int = 3) -> Image.Image:
    """The political map: neighbors in different colors, the large countries named."""
    west, south, east, north = FRAME
    dots = fine * (width / ((east - west) * SQUEEZE))  # per degree of latitude
    image = Image.new("RGB", (fine * width, round(dots * (north - south))), SEA)
    pen = ImageDraw.Draw(image)
    corner = (west * SQUEEZE, north)
    # By country, in pixels.
    outlines = {
        name: [(np.array(r) * (SQUEEZE, 1) - corner) * (dots, -dots) for r in countries[name]]
        for name in sizes(countries)
    }
    corners = {name: {tuple(p) for r in rings for p in r} for name, rings in countries.items()}
    fills: dict[str, str] = {}
    for name, rings in outlines.items():
        taken = {fills[other] for other in fills if corners[name] & corners[other]}
        fills[name] = next((fill for fill in FILLS if fill not in taken), FILLS[0])
        for points in rings:
            pen.polygon(points.ravel().tolist(), fill=fills[name], outline="white", width=fine)
    for name, rings in list(outlines.items())[:NAMED]:
        body = max(rings, key=lambda points: abs(area(points)))
        crosses = _crosses(body)[:, None]
        middle = ((body + np.roll(body, -1, axis=0)) * crosses).sum(axis=0) / (3 * crosses.sum())
        size = min(26, max(9, 5 * (abs(area(body)) / dots**2) ** 0.4))
        pen.text(tuple(middle), name, fill=INK, anchor="mm", font_size=fine * size)
    return image.resize((width, image.height // fine), Image.Resampling.LANCZOS)


# --- the others -------------------------------------------------------------------------------


def battle() -> Image.Image:
    """Two creatures, their levels and health, and four things to do."""
    image = Image.new("RGB", (960, 640), "#cfe8d5")
    pen = ImageDraw.Draw(image)
    oval, polygon = (partial(draw, outline=INK, width=3) for draw in (pen.ellipse, pen.polygon))
    box, text = partial(pen.rounded_rectangle, outline=INK, width=4), partial(pen.text, fill=INK)
    pen.rectangle((0, 0, 960, 230), fill="#bfe3f2")
    pen.ellipse((540, 225, 920, 315), fill="#9ccb8f")
    pen.ellipse((40, 395, 440, 485), fill="#9ccb8f")

    # the opponent, a small brown toad
    oval((650, 170, 820, 285), fill="#8a6b3f")
    for x in (675, 755):
        oval((x, 140, x + 44, 190), fill="#8a6b3f")
        oval((x + 12, 150, x + 34, 176), fill="white", width=2)
        pen.ellipse((x + 18, 156, x + 28, 170), fill=INK)
    pen.arc((690, 200, 780, 255), 10, 170, fill=INK, width=4)
    for x in (640, 760):
        oval((x, 262, x + 70, 296), fill="#7a5c34")

    # the player's own, a large orange fox seen from behind
    oval((110, 300, 340, 465), fill="#e8813a")
    oval((130, 215, 270, 345), fill="#e8813a")
    for x, tip in ((140, 130), (215, 265)):
        polygon([(x, 250), (tip, 165), (x + 50, 235)], fill="#e8813a")
    polygon([(310, 430), (425, 370), (440, 260), (330, 340)], fill="#e8813a")
    polygon([(390, 297), (432, 318), (440, 260)], fill="#f7f0e0")

    for x, y, name, level, share, count in (
        (40, 40, "MUDTOAD", 17, 0.85, ""),
        (550, 350, "EMBERFOX", 42, 0.38, "51 / 134"),
    ):
        box((x, y, x + 370, y + 110), 14, fill="#fbf7e4")
        text((x + 20, y + 14), name, font_size=30)
        text((x + 350, y + 14), f"Lv {level}", font_size=30, anchor="ra")
        text((x + 20, y + 64), "HP", font_size=22)
        pen.rectangle((x + 62, y + 66, x + 262, y + 86), fill="#777777")
        color = "#3fa34d" if share > 0.5 else "#e0a526"
        pen.rectangle((x + 64, y + 68, x + 64 + 196 * share, y + 84), fill=color)
        text((x + 350, y + 62), count, font_size=22, anchor="ra")
    pen.rectangle((0, 500, 960, 640), fill="#3b4a5a", outline=INK, width=5)
    pen.text((40, 530), "What will\nEMBERFOX do?", fill="white", font_size=34)
    box((520, 506, 954, 634), 0, fill="#fbf7e4")
    for index, choice in enumerate(("FIGHT", "BAG", "TEAM", "RUN")):
        text((570 + 220 * (index % 2), 520 + 60 * (index // 2)), choice, font_size=34)
    pen.polygon([(545, 528), (545, 552), (562, 540)], fill=INK)
    return image


RECEIPT = {
    "shop": "CORNER CAFE",
    "date": "2026-05-14",
    "items": [("Espresso", 2, 2.50), ("Croissant", 1, 2.80), ("Orange juice", 1, 4.20)],
    "tax_percent": 10,
}


def receipt() -> Image.Image:
    """A till receipt, a little crooked on a dark table, as in a phone's photo."""
    paper = Image.new("RGB", (420, 560), "#fdfcf7")
    pen = ImageDraw.Draw(paper)
    text = partial(pen.text, fill=INK)
    text((210, 40), RECEIPT["shop"], font_size=34, anchor="mm")
    text((210, 80), f"{RECEIPT['date']}  09:41", font_size=22, anchor="mm")
    net = sum(count * price for _, count, price in RECEIPT["items"])
    tax = net * RECEIPT["tax_percent"] / 100
    lines = [(f"{n} x {name}", n * price) for name, n, price in RECEIPT["items"]]
    lines += [("", None), ("Subtotal", net), (f"VAT {RECEIPT['tax_percent']} %", tax)]
    lines += [("", None), ("TOTAL EUR", net + tax)]
    for y, (label, amount) in zip(range(130, 1000, 40), lines, strict=False):
        if amount is None:
            pen.line((30, y + 14, 390, y + 14), fill=INK, width=2)
            continue
        size = 30 if label.startswith("TOTAL") else 24
        text((30, y), label, font_size=size)
        text((390, y), f"{amount:.2f}", font_size=size, anchor="ra")
    text((210, 510), "Paid by card. Thank you!", font_size=22, anchor="mm")
    table = Image.new("RGB", (600, 700), "#5b4636")
    turned = paper.rotate(2.5, Image.Resampling.BICUBIC, expand=True, fillcolor="#5b4636")
    table.paste(turned, ((600 - turned.width) // 2, (700 - turned.height) // 2))
    return table


def chart() -> Image.Image:
    """A bar chart: population of six countries, from data/population.json."""
    people = json.loads((DATA / "population.json").read_text(encoding="utf-8"))["people"]
    image = Image.new("RGB", (840, 560), "white")
    pen = ImageDraw.Draw(image)
    text = partial(pen.text, fill=INK)
    text((420, 34), "Population (millions)", font_size=30, anchor="mm")
    for tick in range(0, 101, 20):
        y = 480 - 4 * tick
        pen.line((80, y, 800, y), fill="#dddddd", width=2)
        text((70, y), str(tick), font_size=20, anchor="rm")
    names = ("Germany", "France", "Italy", "Spain", "Ukraine", "Poland")
    for x, name in zip(range(110, 1000, 118), names, strict=False):
        pen.rectangle((x, 480 - 4 * people[name] / 1e6, x + 76, 480), fill="#3b6ea5")
        text((x + 38, 500), name, font_size=22, anchor="mm")
    return image


def shapes() -> Image.Image:
    """A scene of the pocket model's own world, drawn four times as large as the model gets it."""
    return scenes.random_shapes(random.Random(3), "held_out", count=4, plain=True).draw(4)


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["convert"]:
        countries = convert(json.loads(Path(arguments[1]).read_text(encoding="utf-8")))
        text = json.dumps(countries, ensure_ascii=False, separators=(",", ":"))
        (FOLDER / "europe.json").write_text(text + "\n", encoding="utf-8")
        return
    countries = json.loads((FOLDER / "europe.json").read_text(encoding="utf-8"))
    for draw in (partial(europe, countries), battle, receipt, chart, shapes):
        name = getattr(draw, "func", draw).__name__
        image = draw()
        image.save(FOLDER / f"{name}.png", optimize=True)
        print(f"{name}.png", *image.size)


if __name__ == "__main__":
    main(sys.argv[1:])
