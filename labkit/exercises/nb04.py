"""Exercises of notebook 04, Vision."""

import math
import re
from typing import Any

from labkit.exercises.engine import exercise


@exercise(
    "04-tokens",
    hint="Shrink the image until its longer side is at most 1540. Then count as in notebook 01.",
)
def judge_image_tokens(answer: Any) -> str | None:
    """A function from width and height in pixels to tokens."""
    if not callable(answer):
        return "The answer should be a function of width and height."
    for (width, height), expected in {
        (448, 448): 272,
        (1000, 600): 814,
        (600, 1000): 828,
        (1540, 1540): 3080,
        (4000, 3000): 2352,
    }.items():
        tokens = answer(width, height)
        if tokens != expected:
            question = "Was it shrunk first?" if max(width, height) > 1540 else ""
            return f"{width} × {height} is {expected} tokens, not {tokens}. {question}".strip()
    return None


@exercise(
    "04-message",
    hint='Two parts: {"type": "text", …} and {"type": "image_url", "image_url": {"url": …}}.',
)
def judge_image_message(answer: Any) -> str | None:
    """A user message of a text part and an image part with a data URL."""
    if not isinstance(answer, dict) or answer.get("role") != "user":
        return 'The answer should be a dict with the role "user".'
    parts = answer.get("content")
    if not isinstance(parts, list):
        return "With an image in it, the content is a list of parts."
    types = [part.get("type") for part in parts]
    if sorted(map(str, types)) != ["image_url", "text"]:
        return f'There should be one "text" and one "image_url" part; there are {types}.'
    if types[0] != "text":
        return "OpenRouter recommends the text first."
    url = parts[1].get("image_url")
    if not isinstance(url, dict):
        return '"image_url" should be a dict with the key "url".'
    if not re.match(r"data:image/(png|jpeg|webp|gif);base64,", str(url.get("url"))):
        return "The URL should be a data URL: data:image/png;base64,…"
    return None


@exercise(
    "04-pairs",
    hint="A model that ignores the images gives one answer twice: at most one of a pair is right.",
)
def judge_share_of_pairs(answer: Any) -> str | None:
    """A function that returns the share of pairs in which both answers are right."""
    if not callable(answer):
        return "The answer should be a function of a list of pairs."
    pairs = [(True, True), (True, False), (False, True), (True, True), (False, False)]
    share = answer(pairs)
    if share == 0.8:
        return "One right answer of two may be a guess: both must be right."
    if share == 0.6:
        return "That counts single answers. Count a pair once, if both answers are right."
    if not isinstance(share, float | int) or not math.isclose(share, 0.4):
        return f"For {pairs} it should return 0.4, and it returned {share!r}."
    if not math.isclose(answer([(True, True)]), 1):
        return "For one pair with two right answers it should return 1."
    return None
