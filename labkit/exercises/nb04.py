"""TODO."""

import math
import re
from typing import Any

from labkit.exercises.engine import exercise


@exercise(
    "04-tokens",
    hint="shrink so that the longer side is at most 1540, then count as in notebook 01.",
    solution="""import math

def answer(width, height):
    ratio = max(width / 1540, height / 1540, 1)
    columns = math.ceil(round(width / ratio) / 28)
    rows = math.ceil(round(height / ratio) / 28)
    return rows * (columns + 1)""",
)
def _image_tokens(answer: Any) -> str | None:
    if not callable(answer):
        return "A function of width and height is wanted."
    for (width, height), tokens in {
        (448, 448): 272,
        (1000, 600): 814,
        (600, 1000): 828,
        (1540, 1540): 3080,
        (4000, 3000): 2352,
    }.items():
        got = answer(width, height)
        if got != tokens:
            why = "Was it shrunk first? " if max(width, height) > 1540 else ""
            return f"{width} × {height} is {tokens} tokens, not {got}. {why}".strip()
    return None


@exercise(
    "04-message",
    hint='two parts: {"type": "text", …} and {"type": "image_url", "image_url": {"url": …}}.',
    solution="""picture = "data:image/png;base64,iVBORw0KGgo="
answer = {
    "role": "user",
    "content": [
        {"type": "text", "text": "What colour is the square?"},
        {"type": "image_url", "image_url": {"url": picture}},
    ],
}""",
)
def _image_message(answer: Any) -> str | None:
    if not isinstance(answer, dict) or answer.get("role") != "user":
        return 'A dict with the role "user" is wanted.'
    parts = answer.get("content")
    if not isinstance(parts, list):
        return "With a picture in it, the content is a list of parts."
    kinds = [part.get("type") for part in parts]
    if sorted(map(str, kinds)) != ["image_url", "text"]:
        return f'One "text" and one "image_url" part are wanted; there are {kinds}.'
    if kinds[0] != "text":
        return "OpenRouter recommends the text first."
    url = parts[1].get("image_url")
    if not isinstance(url, dict):
        return '"image_url" holds a dict with the key "url".'
    if not re.match(r"data:image/(png|jpeg|webp|gif);base64,", str(url.get("url"))):
        return "The address should be a data URL: data:image/png;base64,…"
    return None


@exercise(
    "04-pairs",
    hint="a guess is right for one picture of a pair half of the time; for both it is rarer.",
    solution="""def answer(pairs):
    return sum(first and second for first, second in pairs) / len(pairs)""",
)
def _pairs(answer: Any) -> str | None:
    if not callable(answer):
        return "A function of a list of pairs is wanted."
    pairs = [(True, True), (True, False), (False, True), (True, True), (False, False)]
    got = answer(pairs)
    if got == 0.8:
        return "One right answer of two may be a guess: both must be right."
    if got == 0.6:
        return "That counts single answers; a pair counts once, if both are right."
    if not isinstance(got, float | int) or not math.isclose(got, 0.4):
        return f"For {pairs} it should return 0.4, and it returned {got!r}."
    if not math.isclose(answer([(True, True)]), 1):
        return "One pair, both right: it should return 1."
    return None
