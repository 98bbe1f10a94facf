"""Exercises of notebook 04, Vision."""

import base64
import math
import re
from typing import Any

from labkit.exercises.answers import call, mapping, number, shown
from labkit.exercises.asking import Model
from labkit.exercises.engine import USE, build, exercise, judge_number, test

build(
    "04-tokens",
    hint=(
        "How many squares of 28 pixels cover a row, and what comes after each row?",
        'Look at "What an image costs". What happens to an image above 1540 pixels?',
        "Half of it: rows * (columns + 1), each rounded up. What comes before, if a side is longer "
        "than 1540?",
    ),
    example="answer(448, 448) → 272",
)


MOST = 1540  # pixels on a side


def _grid(width: float, height: float) -> int:
    return math.ceil(height / 28) * (math.ceil(width / 28) + 1)


def _tokens(answer: Any, sizes: dict[tuple[int, int], int]) -> str | None:
    for (width, height), expected in sizes.items():
        tokens = number(call(answer, width, height))
        if tokens != expected:
            why = _why_other(tokens, width, height)
            return f"{width} × {height} is {expected:,} tokens, not {shown(tokens)}. {why}".strip()
    return None


def _why_other(tokens: float, width: float, height: float) -> str:
    if (longest := max(width, height)) > MOST:
        exact = width * MOST / longest, height * MOST / longest
        ratio = longest / MOST  # to divide by it is a little more than to multiply, for some sizes
        if tokens in (
            _grid(*exact), _grid(*map(int, exact)), _grid(width / ratio, height / ratio)
        ):  # fmt: skip
            return "After shrinking, round each side to whole pixels."
        if tokens == _grid(width, height):
            return "Was it shrunk first?"
        width, height = map(round, exact)
    elif tokens == _grid(width * MOST / longest, height * MOST / longest):
        return "A small image is not enlarged."
    elif tokens == _grid(width * min(1, 168 / longest), height * min(1, 168 / longest)):
        return "168 pixels are the limit of the pocket model; the 24B's is 1,540."
    rows, columns = math.ceil(height / 28), math.ceil(width / 28)
    if tokens == rows * columns:
        return "Each row ends with one more token."
    if tokens == columns * (rows + 1):
        return "Rows and columns are the wrong way round."
    if tokens == (height // 28) * (width // 28 + 1):
        return "Round up: a part of a square of 28 pixels counts too."
    if tokens == round(height / 28) * (round(width / 28) + 1):
        return "Round up, and not to the nearest."
    if tokens == math.ceil(height / 14) * (math.ceil(width / 14) + 1):
        return "The language model gets one token for 2 × 2 patches of 14 pixels."
    if tokens in (rows * columns + 1, rows * (columns + 1) + 1):
        return "One more token for each row, and none for the whole image."
    return "Was it shrunk first, both sides by the same ratio?" if longest > MOST else ""


@test("04-tokens", "a square of 16 × 16 image tokens")
def tokens_of_a_square(answer: Any) -> str | None:
    """16 rows of 16 image tokens, and one more token for each row."""
    return _tokens(answer, {(448, 448): 272})


@test("04-tokens", "sides that are no multiple of 28")
def tokens_rounded_up(answer: Any) -> str | None:
    """Both sides are rounded up."""
    return _tokens(answer, {(1000, 600): 814, (1, 1): 2})


@test("04-tokens", "upright is not the same as wide")
def tokens_of_an_upright_image(answer: Any) -> str | None:
    """The additional tokens are for rows."""
    return _tokens(answer, {(600, 1000): 828})


@test("04-tokens", "large images are shrunk first")
def tokens_of_a_large_image(answer: Any) -> str | None:
    """The longer side has at most 1540 pixels."""
    sizes = {(1540, 1540): 3080, (4000, 3000): 2352, (1600, 1164): 2240, (2000, 983): 1568}
    return _tokens(answer, sizes)


def _send_image(answer: Any, model: Model) -> None:
    import copy

    from PIL import Image

    from helpers.images import image_part

    said = []
    for color in ("red", "blue"):
        picture = Image.new("RGB", (168, 168), "white")
        picture.paste(color, (52, 52, 116, 116))
        message = copy.deepcopy(dict(answer))
        message["content"] = [
            image_part(picture) if part["type"] == "image_url" else part
            for part in message["content"]
        ]
        reply = model.ask(f"your message with a {color} square", [message], max_tokens=16)
        said.append((reply.choices[0].message.content or "").strip())
    model.note(
        "The answer follows the image."
        if said[0] != said[1]
        else "Both images got the same answer, so the model did not use them."
    )


def _asks_for_color(text: str) -> bool:
    named = set(re.findall(r"\b(red|blue|green|yellow|black|white|orange|purple)\b", text))
    return "square" in text and (len(named) > 1 or bool(re.search(r"colou?r|\bhue\b", text)))


@exercise(
    "04-message",
    hint=(
        "What is the content of a message that has a text and an image?",
        'Look at "From image to message": the content is a list of two parts.',
        'Half of it: {"type": "text", …} and {"type": "image_url", "image_url": {"url": …}}.',
    ),
    kind=USE,
    send=_send_image,
)
def judge_image_message(answer: Any) -> str | None:
    """A user message of a text part and an image part with a data URL."""
    message = mapping(answer, "one message, as a dict", whole=True)
    if message.get("role") != "user":
        return 'The answer should be a dict with the role "user".'
    parts = message.get("content")
    if not isinstance(parts, list | tuple) or not all(isinstance(part, dict) for part in parts):
        return "With an image in it, the content is a list of parts, each a dict."
    types = [part.get("type") for part in parts]
    if {*types} != {"text", "image_url"} or types.count("image_url") > 1:
        return f'There should be one "text" and one "image_url" part; there are {types}.'
    text = " ".join(str(part.get("text")) for part in parts if part["type"] == "text").lower()
    if not _asks_for_color(text):
        return (
            'The "text" should ask for the color of the square. The check looks for two words: '
            '"square", and "color", "colour" or the names of colors.'
        )
    url = next(part for part in parts if part["type"] == "image_url").get("image_url")
    if not isinstance(url, dict):
        return '"image_url" should be a dict with the key "url".'
    head = re.match(
        r"data:image/(png|jpe?g|webp|gif);base64,(.+)", str(url.get("url")), re.I | re.S
    )
    if not head:
        return "The URL should be a data URL: data:image/png;base64,…"
    try:
        base64.b64decode(head[2], validate=True)
    except ValueError:
        return "What follows `base64,` is not base64."
    return None


build(
    "04-pairs",
    hint=(
        "What does a model answer that ignores the images: one answer, or two?",
        'Look at "Ask about it": a pair of images differs in exactly what is asked.',
        "Half of it: a pair counts if both of its answers are right.",
    ),
    example="answer([(True, True), (True, False)]) → 0.5",
)

_BOTH, _FIRST, _SECOND, _NEITHER = (True, True), (True, False), (False, True), (False, False)


@test("04-pairs", "ten pairs, four of them right")
def share_of_ten(answer: Any) -> str | None:
    """Only pairs with two right answers count."""
    share = number(call(answer, [_BOTH] * 4 + [_FIRST] * 3 + [_SECOND] * 2 + [_NEITHER]))
    mistakes = {
        0.9: "One right answer of two may be a guess: both must be right.",
        0.65: "That counts single answers. Count a pair once, if both answers are right.",
        0.7: "That looks at the first answer of each pair only.",
        0.6: "That looks at the second answer of each pair only.",
        0.5: "That counts a pair with two wrong answers, too.",
        40: "A share is a number from 0 to 1, not a percentage.",
        4: "That is the number of pairs. Divide it by the number of all pairs.",
    }
    if hint := judge_number(share, 0.4, mistakes, tolerance=1e-9):
        return f"In 4 of 10 pairs both answers are right, which is a share of 0.4. {hint}"
    return None


@test("04-pairs", "all pairs, and none")
def share_of_extremes(answer: Any) -> str | None:
    """The share goes from 0 to 1."""
    if number(call(answer, [_BOTH])) != 1:
        return "For one pair with two right answers it should return 1."
    if number(call(answer, [_FIRST, _SECOND, _NEITHER])) != 0:
        return "If no pair has two right answers, it should return 0."
    return None
