"""Prompts to begin with, by skill, each with the share that the pocket model answers rightly."""

import json
from dataclasses import dataclass

from helpers.paths import DATA

SHAPES = DATA / "images" / "shapes.png"
MEASURED = DATA / "pocket" / "evaluation-stranger.json"

# The prompt, the skill's name in the evaluation, and whether it has the picture and the tools.
PROMPTS = (
    ("What is the capital of Japan?", "everyday questions, without a picture", False, False),
    ("What colour is the large circle?", "picture: colour", True, False),
    ("What shape is yellow?", "picture: shape", True, False),
    ("How many circles are there?", "picture: count", True, False),
    ("Is there a red square?", "picture: is there …?", True, False),
    ("Where is the yellow circle?", "picture: position", True, False),
    ("What is the population of Japan in millions?", "tool call, known tools", False, True),
    ("Convert 12 miles to kilometers.", "the tool's result in the answer", False, True),
    ("What is 17 * 23, and what is 5 + 9?", "two calls in one turn", False, True),
    ("Thanks, that is all.", "no suitable tool, no call", False, True),
)


@dataclass(frozen=True)
class Starter:
    """A prompt to begin with.

    Attributes:
        text: the prompt.
        skill: what it asks for, as the evaluation calls it.
        has_picture, has_tools: what it needs.
        right, of: how many of another author's cases of this skill the pocket model got right.
    """

    text: str
    skill: str
    has_picture: bool
    has_tools: bool
    right: int
    of: int

    @property
    def label(self) -> str:
        """The skill with its measured share, and the prompt."""
        return f"{self.skill}: right in {self.right / self.of:.0%} of {self.of} · {self.text}"


def starters() -> list[Starter]:
    """The prompts. The share is the skill's, not that of the single prompt."""
    rows = json.loads(MEASURED.read_text(encoding="utf-8"))["rows"]
    measured = {row["skill"]: (row["right"], row["of"]) for row in rows}
    return [Starter(*prompt, *measured[prompt[1]]) for prompt in PROMPTS if prompt[1] in measured]
