"""Draws the pictures of the test set from `pictures.jsonl`, one line a picture.

    python -m pocket_training.stranger.draw            all pictures
    python -m pocket_training.stranger.draw NAME …     these only

A line says everything: size, background, and each shape, polygon or text with its place and
colour. Charts go to matplotlib and keep its defaults. The same line gives the same picture.
"""

import io
import json
import math
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

EXAM = Path(__file__).resolve().parents[2] / "data" / "stranger"
FINE = 3  # shapes are drawn three times as large, then shrunk, so that edges are smooth


def read_specs():
    """All lines of `pictures.jsonl` by picture name."""
    lines = (EXAM / "pictures.jsonl").read_text(encoding="utf-8").splitlines()
    return {spec["file"]: spec for spec in map(json.loads, lines)}


def font_path(name):
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf")


def ground(spec):
    """The background as an RGB picture."""
    width, height = spec["size"]
    kind, colour = spec["ground"]["kind"], np.array(spec["ground"]["colour"], float)
    field = np.ones((height, width, 3)) * colour
    rng = np.random.default_rng(spec.get("seed", 0))
    if kind == "gradient":
        angle = spec["ground"]["angle"]
        ys, xs = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
        t = xs * math.cos(angle) + ys * math.sin(angle)
        t = (t - t.min()) / (t.max() - t.min())
        other = np.array(spec["ground"]["colour2"], float)
        field = colour + t[..., None] * (other - colour)
    elif kind == "noise":
        field += rng.normal(0, spec["ground"]["strength"], (height, width, 1))
    elif kind == "paper":
        coarse = rng.normal(0, 1, (height // 8 + 2, width // 8 + 2))
        soft = Image.fromarray(coarse.astype(np.float32)).resize((width, height), Image.BICUBIC)
        field += 3 * np.asarray(soft)[..., None] + rng.normal(0, 1.5, (height, width, 1))
        every = spec["ground"].get("lines")
        if every:
            field[every // 2 :: every] = field[every // 2 :: every] * 0.6 + np.array([64, 76, 92])
    return Image.fromarray(np.clip(field, 0, 255).astype(np.uint8))


def outline_of(item):
    """The corners of a shape around (0, 0) with radius 1, or None for round ones."""
    shape = item["shape"]
    ring = lambda n, start, r=1: [  # noqa: E731
        (r * math.cos(start + 2 * math.pi * i / n), r * math.sin(start + 2 * math.pi * i / n))
        for i in range(n)
    ]
    up = -math.pi / 2
    if shape == "square":
        return [(-0.75, -0.75), (0.75, -0.75), (0.75, 0.75), (-0.75, 0.75)]
    if shape == "rectangle":
        return [(-1, -0.5), (1, -0.5), (1, 0.5), (-1, 0.5)]
    if shape == "triangle":
        return ring(3, up)
    if shape == "hexagon":
        return ring(6, 0)
    if shape == "star":
        inner = ring(5, up + math.pi / 5, 0.42)
        return [p for pair in zip(ring(5, up), inner, strict=True) for p in pair]
    if shape == "cross":
        a = 0.31
        return [(-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a), (a, 1), (-a, 1), (-a, a),
                (-1, a), (-1, -a), (-a, -a)]  # fmt: skip
    if shape == "arrow":  # to the right
        return [(-1, -0.22), (0.2, -0.22), (0.2, -0.6), (1, 0), (0.2, 0.6), (0.2, 0.22), (-1, 0.22)]
    if shape == "heart":
        ts = [2 * math.pi * i / 60 for i in range(60)]
        curve = [13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) for t in ts]
        curve = [c - math.cos(4 * t) for c, t in zip(curve, ts, strict=True)]
        return [
            (16 * math.sin(t) ** 3 / 17, -c / 17 - 0.12) for t, c in zip(ts, curve, strict=True)
        ]
    return None


def draw_item(pen, item):
    """One shape, polygon or line of text, on a canvas that is FINE times as large."""
    colour, edge = tuple(item["colour"]), item.get("edge")
    if "text" in item:
        font = ImageFont.truetype(font_path(item["font"]), round(item["height"] * FINE))
        place = (item["cx"] * FINE, item["cy"] * FINE)
        pen.text(place, item["text"], font=font, fill=colour, anchor="mm")
        return
    if "points" in item:
        corners = [(x * FINE, y * FINE) for x, y in item["points"]]
    else:
        cx, cy, r = item["cx"] * FINE, item["cy"] * FINE, item["r"] * FINE
        turn = math.radians(item.get("angle", 0))
        corners = outline_of(item)
        if corners is None:  # a circle or an oval
            flat = 0.6 if item["shape"] == "oval" else 1
            ts = [2 * math.pi * i / 120 for i in range(120)]
            corners = [(math.cos(t), flat * math.sin(t)) for t in ts]
        cos, sin = math.cos(turn), math.sin(turn)
        corners = [(cx + r * (x * cos - y * sin), cy + r * (x * sin + y * cos)) for x, y in corners]
    if not item.get("hollow"):
        pen.polygon(corners, fill=colour)
    line = item.get("line", 0)
    if line:
        ink, wide = tuple(edge or colour), max(1, round(line * FINE))
        pen.line([*corners, corners[0], corners[1]], fill=ink, width=wide, joint="curve")


def canvas(spec):
    """A picture of shapes, polygons and text."""
    picture = ground(spec)
    layer = Image.new("RGBA", (picture.width * FINE, picture.height * FINE), (0, 0, 0, 0))
    for item in spec["items"]:
        if "text" in item and item.get("angle"):
            sheet = Image.new("RGBA", layer.size, (0, 0, 0, 0))
            draw_item(ImageDraw.Draw(sheet), item)
            middle = (item["cx"] * FINE, item["cy"] * FINE)
            sheet = sheet.rotate(item["angle"], Image.BICUBIC, center=middle)
            layer.alpha_composite(sheet)
        else:
            draw_item(ImageDraw.Draw(layer), item)
    layer = layer.resize(picture.size, Image.BOX if spec.get("smooth", True) else Image.NEAREST)
    picture.paste(layer, (0, 0), layer)
    return picture


def chart(spec):
    """A bar chart with matplotlib's defaults, as most people leave them."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(matplotlib.rcParamsDefault):
        figure = Figure(figsize=spec["inches"], dpi=spec["dpi"], layout="tight")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        colours = spec.get("colours")
        draw = axes.barh if spec.get("sideways") else axes.bar
        keys = dict(color=colours) if colours else {}
        if spec.get("legend"):
            keys["label"] = spec["names"]
        bars = draw(spec["names"], spec["values"], **keys)
        if spec.get("values_on_bars"):
            axes.bar_label(bars)
        if spec.get("grid"):
            axes.grid(True, axis="x" if spec.get("sideways") else "y")
            axes.set_axisbelow(True)
        if spec.get("legend"):
            axes.legend()
        if spec.get("title"):
            axes.set_title(spec["title"])
        if spec.get("label"):
            (axes.set_xlabel if spec.get("sideways") else axes.set_ylabel)(spec["label"])
        if spec.get("headroom"):
            top = max(spec["values"]) * spec["headroom"]
            (axes.set_xlim if spec.get("sideways") else axes.set_ylim)(0, top)
        data = io.BytesIO()
        figure.savefig(data, format="png")
    return Image.open(data).convert("RGB")


def picture_of(spec):
    return chart(spec) if spec["kind"] == "bars" else canvas(spec)


def save(spec, folder):
    picture = picture_of(spec)
    path = Path(folder) / spec["file"]
    if path.suffix == ".jpg":
        picture.save(path, quality=spec["quality"])
    else:
        if spec.get("few_colours"):
            picture = picture.quantize(64, dither=Image.Dither.NONE)
        picture.save(path, optimize=True)


def main(names):
    specs = read_specs()
    folder = EXAM / "pictures"
    folder.mkdir(exist_ok=True)
    for name in names or specs:
        save(specs[name], folder)


if __name__ == "__main__":
    main(sys.argv[1:])
