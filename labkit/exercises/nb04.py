"""Exercises of notebook 04, Vision."""

import base64
import re
from typing import Any

from labkit.exercises.answers import call, mapping, number
from labkit.exercises.engine import exercise, judge_number


@exercise(
    "04-tokens",
    hint="Shrink the image until its longer side is at most 1540. Then count as in notebook 01.",
)
def judge_image_tokens(answer: Any) -> str | None:
    """A function from width and height in pixels to tokens."""
    for (width, height), expected in {
        (448, 448): 272,
        (1000, 600): 814,
        (600, 1000): 828,
        (1540, 1540): 3080,
        (4000, 3000): 2352,
    }.items():
        tokens = number(call(answer, width, height))
        if tokens != expected:
            question = "Was it shrunk first?" if max(width, height) > 1540 else ""
            return f"{width} × {height} is {expected} tokens, not {tokens:g}. {question}".strip()
    return None


@exercise(
    "04-message",
    hint='Two parts: {"type": "text", …} and {"type": "image_url", "image_url": {"url": …}}.',
)
def judge_image_message(answer: Any) -> str | None:
    """A user message of a text part and an image part with a data URL."""
    message = mapping(answer, "one message, as a dict")
    if message.get("role") != "user":
        return 'The answer should be a dict with the role "user".'
    parts = message.get("content")
    if not isinstance(parts, list | tuple) or not all(isinstance(part, dict) for part in parts):
        return "With an image in it, the content is a list of parts, each a dict."
    by_type = {part.get("type"): part for part in parts}
    if len(parts) != 2 or set(by_type) != {"text", "image_url"}:
        types = [part.get("type") for part in parts]
        return f'There should be one "text" and one "image_url" part; there are {types}.'
    text = str(by_type["text"].get("text")).lower()
    if not re.search(r"colou?r", text) or "square" not in text:
        return 'The "text" should ask for the color of the square.'
    url = by_type["image_url"].get("image_url")
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


@exercise(
    "04-pairs",
    hint="A model that ignores the images gives one answer twice: at most one of a pair is right.",
)
def judge_share_of_pairs(answer: Any) -> str | None:
    """A function that returns the share of pairs in which both answers are right."""
    both, first, second, neither = (True, True), (True, False), (False, True), (False, False)
    share = number(call(answer, [both] * 4 + [first] * 3 + [second] * 2 + [neither]))
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
    if number(call(answer, [both])) != 1:
        return "For one pair with two right answers it should return 1."
    return None
