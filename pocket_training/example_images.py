"""Draws the pictures of this folder, all of them, from nothing but this file and europe.json.

    python -m pocket_training.example_images                  # the pictures
    python -m pocket_training.example_images convert countries-50m.json   # europe.json, from npm

README.md beside this file says where everything comes from.
"""

import json
import math
import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw

from pocket_training import scenes

HERE = Path(__file__).parent.parent / "data" / "images"
FRAME = (-25.0, 34.0, 60.0, 72.0)  # west, south, east, north, in degrees
SQUEEZE = math.cos(math.radians(52))  # a degree of longitude is that much shorter here
FILLS = ["#f4c095", "#b5d99c", "#f7e6a1", "#c9b6e4", "#a8d8ea", "#f2a7a7"]
SEA, INK = "#dcebf5", "#333333"
TINY = 0.02  # square degrees: smaller islands are left out
NAMED = 40  # the map names that many countries, the largest


# --- the map ----------------------------------------------------------------------------------


def convert(topology: dict) -> dict[str, list[list[list[float]]]]:
    """A TopoJSON of countries as outer rings of [longitude, latitude] in FRAME, by name."""
    scale, shift = topology["transform"]["scale"], topology["transform"]["translate"]
    arcs = []
    for arc in topology["arcs"]:  # each point is the step from the one before
        x = y = 0
        points = []
        for dx, dy in arc:
            x, y = x + dx, y + dy
            points.append([x * scale[0] + shift[0], y * scale[1] + shift[1]])
        arcs.append(points)

    def ring(numbers: list[int]) -> list[list[float]]:
        points: list[list[float]] = []
        for number in numbers:  # ~n is arc n backwards; arcs share their ends
            arc = arcs[number] if number >= 0 else arcs[~number][::-1]
            points += arc[1:] if points else arc
        turn, before = 0, points[0][0]
        for point in points:  # beyond 180 degrees east the count starts anew: go on instead
            turn += 360 * ((point[0] - before < -180) - (point[0] - before > 180))
            before = point[0]
            point[0] += turn
        return points

    found: dict[str, list] = {}
    for country in topology["objects"]["countries"]["geometries"]:
        shapes = country.get("arcs", [])
        rings = [ring(one[0]) for one in ([shapes] if country["type"] == "Polygon" else shapes)]
        cut = [cut_to_frame(r) for r in rings]
        kept = [[[round(x, 2), round(y, 2)] for x, y in r] for r in cut if abs(area(r)) > TINY]
        if kept:
            found[country["properties"]["name"]] = kept
    return dict(sorted(found.items()))


def cut_to_frame(ring: list[list[float]]) -> list[tuple[float, float]]:
    """The part of a ring inside FRAME (Sutherland and Hodgman), in degrees."""
    west, south, east, north = FRAME
    points = [(lon, lat) for lon, lat in ring]
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


def squeezed(ring: list[list[float]]) -> list[tuple[float, float]]:
    return [(x * SQUEEZE, y) for x, y in ring]


def area(points: list[tuple[float, float]]) -> float:
    """Signed area of a ring (the shoelace formula)."""
    turned = points[1:] + points[:1]
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, turned, strict=True)) / 2


def sizes(countries: dict) -> dict[str, float]:
    """Each country's area on the map, in squeezed square degrees, the largest first."""
    found = {name: sum(abs(area(squeezed(r))) for r in rings) for name, rings in countries.items()}
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def europe(countries: dict, width: int = 1000, fine: int = 3) -> Image.Image:
    """The political map: neighbours in different colours, the large countries named."""
    west, south, east, north = FRAME
    dots = width / ((east - west) * SQUEEZE)
    image = Image.new("RGB", (fine * width, round(fine * dots * (north - south))), SEA)
    pen = ImageDraw.Draw(image)

    def place(points):
        return [(fine * dots * (x - west * SQUEEZE), fine * dots * (north - y)) for x, y in points]

    large = list(sizes(countries))
    corners = {name: {tuple(p) for r in rings for p in r} for name, rings in countries.items()}
    colours: dict[str, str] = {}
    for name in large:
        taken = {colours[other] for other in colours if corners[name] & corners[other]}
        colours[name] = next((c for c in FILLS if c not in taken), FILLS[0])
        for points in (squeezed(r) for r in countries[name]):
            pen.polygon(place(points), fill=colours[name], outline="white", width=fine)
    for name in large[:NAMED]:
        body = max((squeezed(r) for r in countries[name]), key=lambda points: abs(area(points)))
        turned = body[1:] + body[:1]
        cross = [a[0] * b[1] - b[0] * a[1] for a, b in zip(body, turned, strict=True)]
        middle = [
            sum((a[i] + b[i]) * c for a, b, c in zip(body, turned, cross, strict=True))
            / (6 * area(body))
            for i in range(2)
        ]
        size = min(26, max(9, 5 * abs(area(body)) ** 0.4))
        pen.text(*place([middle]), name, fill=INK, anchor="mm", font_size=fine * size)
    return image.resize((width, image.height // fine), Image.Resampling.LANCZOS)


# --- the others -------------------------------------------------------------------------------


def battle() -> Image.Image:
    """Two creatures, their levels and health, and four things to do."""
    image = Image.new("RGB", (960, 640), "#cfe8d5")
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, 960, 230), fill="#bfe3f2")
    pen.ellipse((540, 225, 920, 315), fill="#9ccb8f")
    pen.ellipse((40, 395, 440, 485), fill="#9ccb8f")

    # the opponent, a small brown toad
    pen.ellipse((650, 170, 820, 285), fill="#8a6b3f", outline=INK, width=3)
    for x in (675, 755):
        pen.ellipse((x, 140, x + 44, 190), fill="#8a6b3f", outline=INK, width=3)
        pen.ellipse((x + 12, 150, x + 34, 176), fill="white", outline=INK, width=2)
        pen.ellipse((x + 18, 156, x + 28, 170), fill=INK)
    pen.arc((690, 200, 780, 255), 10, 170, fill=INK, width=4)
    pen.ellipse((640, 262, 710, 296), fill="#7a5c34", outline=INK, width=3)
    pen.ellipse((760, 262, 830, 296), fill="#7a5c34", outline=INK, width=3)

    # one's own, a large orange fox seen from behind
    pen.ellipse((110, 300, 340, 465), fill="#e8813a", outline=INK, width=3)
    pen.ellipse((130, 215, 270, 345), fill="#e8813a", outline=INK, width=3)
    for x, tip in ((140, 130), (215, 265)):
        pen.polygon([(x, 250), (tip, 165), (x + 50, 235)], fill="#e8813a", outline=INK, width=3)
    pen.polygon(
        [(310, 430), (425, 370), (440, 260), (330, 340)], fill="#e8813a", outline=INK, width=3
    )
    pen.polygon([(390, 297), (432, 318), (440, 260)], fill="#f7f0e0", outline=INK, width=3)

    def board(x, y, name, level, share, count):
        pen.rounded_rectangle((x, y, x + 370, y + 110), 14, fill="#fbf7e4", outline=INK, width=4)
        pen.text((x + 20, y + 14), name, fill=INK, font_size=30)
        pen.text((x + 350, y + 14), f"Lv {level}", fill=INK, font_size=30, anchor="ra")
        pen.text((x + 20, y + 64), "HP", fill=INK, font_size=22)
        pen.rectangle((x + 62, y + 66, x + 262, y + 86), fill="#777777")
        colour = "#3fa34d" if share > 0.5 else "#e0a526" if share > 0.2 else "#cc3333"
        pen.rectangle((x + 64, y + 68, x + 64 + 196 * share, y + 84), fill=colour)
        pen.text((x + 350, y + 62), count, fill=INK, font_size=22, anchor="ra")

    board(40, 40, "MUDTOAD", 17, 0.85, "")
    board(550, 350, "EMBERFOX", 42, 0.38, "51 / 134")
    pen.rectangle((0, 500, 960, 640), fill="#3b4a5a", outline=INK, width=5)
    pen.text((40, 530), "What will\nEMBERFOX do?", fill="white", font_size=34)
    pen.rectangle((520, 506, 954, 634), fill="#fbf7e4", outline=INK, width=4)
    for words, x, y in (
        ("FIGHT", 570, 520),
        ("BAG", 790, 520),
        ("TEAM", 570, 580),
        ("RUN", 790, 580),
    ):
        pen.text((x, y), words, fill=INK, font_size=34)
    pen.polygon([(545, 528), (545, 552), (562, 540)], fill=INK)
    return image


RECEIPT = {
    "shop": "CORNER CAFE",
    "date": "2026-05-14",
    "items": [("Espresso", 2, 2.50), ("Croissant", 1, 2.80), ("Orange juice", 1, 4.20)],
    "tax_percent": 10,
}


def receipt() -> Image.Image:
    """A till receipt, a little crooked on a dark table, as a phone would see it."""
    paper = Image.new("RGB", (420, 560), "#fdfcf7")
    pen = ImageDraw.Draw(paper)
    pen.text((210, 40), RECEIPT["shop"], fill=INK, font_size=34, anchor="mm")
    pen.text((210, 80), f"{RECEIPT['date']}  09:41", fill=INK, font_size=22, anchor="mm")
    net = sum(count * price for _, count, price in RECEIPT["items"])
    tax = net * RECEIPT["tax_percent"] / 100
    lines = [(f"{n} x {name}", n * price) for name, n, price in RECEIPT["items"]]
    lines += [("", None), ("Subtotal", net), (f"VAT {RECEIPT['tax_percent']} %", tax)]
    lines += [("", None), ("TOTAL EUR", net + tax)]
    for row, (words, amount) in enumerate(lines):
        y = 130 + 40 * row
        if amount is None:
            pen.line((30, y + 14, 390, y + 14), fill=INK, width=2)
            continue
        size = 30 if words.startswith("TOTAL") else 24
        pen.text((30, y), words, fill=INK, font_size=size)
        pen.text((390, y), f"{amount:.2f}", fill=INK, font_size=size, anchor="ra")
    pen.text((210, 510), "Paid by card. Thank you!", fill=INK, font_size=22, anchor="mm")
    table = Image.new("RGB", (600, 700), "#5b4636")
    turned = paper.rotate(2.5, Image.Resampling.BICUBIC, expand=True, fillcolor="#5b4636")
    table.paste(turned, ((600 - turned.width) // 2, (700 - turned.height) // 2))
    return table


def chart() -> Image.Image:
    """A bar chart: population of six countries, from data/population.json."""
    table = json.loads((HERE.parent / "population.json").read_text(encoding="utf-8"))["people"]
    names = ["Germany", "France", "Italy", "Spain", "Ukraine", "Poland"]
    image = Image.new("RGB", (840, 560), "white")
    pen = ImageDraw.Draw(image)
    pen.text((420, 34), "Population (millions)", fill=INK, font_size=30, anchor="mm")
    for tick in range(0, 101, 20):
        y = 480 - 4 * tick
        pen.line((80, y, 800, y), fill="#dddddd", width=2)
        pen.text((70, y), str(tick), fill=INK, font_size=20, anchor="rm")
    for place, name in enumerate(names):
        x, height = 110 + 118 * place, 4 * table[name] / 1e6
        pen.rectangle((x, 480 - height, x + 76, 480), fill="#3b6ea5")
        pen.text((x + 38, 500), name, fill=INK, font_size=22, anchor="mm")
    return image


def shapes() -> Image.Image:
    """A scene of the pocket model's own world, drawn four times as large as it sees it."""
    return scenes.random_shapes(random.Random(3), "held_out").draw(4)


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["convert"]:
        found = convert(json.loads(Path(arguments[1]).read_text(encoding="utf-8")))
        text = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
        (HERE / "europe.json").write_text(text + "\n", encoding="utf-8")
        return
    countries = json.loads((HERE / "europe.json").read_text(encoding="utf-8"))
    drawn = {
        "europe": europe(countries),
        "battle": battle(),
        "receipt": receipt(),
        "chart": chart(),
        "shapes": shapes(),
    }
    for name, image in drawn.items():
        image.save(HERE / f"{name}.png", optimize=True)
        print(f"{name}.png", *image.size)


if __name__ == "__main__":
    main(sys.argv[1:])
