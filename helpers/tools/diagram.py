"""A conversation with tools as a sequence diagram of user, model and tools."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image

LANES = {"user": 0.0, "model": 1.0, "tools": 2.0}
MARGIN = 0.15  # beside the outer lanes, in distances between lanes
WIDTH, LINE, FONT_SIZE = 7.5, 0.16, 9  # the figure and a line of text in inches; points
CHARACTERS, MAX_LINES = 40, 6  # of a text between two lanes; most capitals fit too
IMAGE_LINES, IMAGE_PIXELS = 5, (450, 150)  # the box that each image is scaled to
BLACK, GREEN, RED = "#1a1a1a", "#17692b", "#b3261e"


@dataclass
class Arrow:
    """One message, or one tool call of a message."""

    sender: str
    receiver: str
    text: str
    color: str = BLACK
    image: "Image | None" = None

    def label(self) -> str:
        """The text in lines that fit between two lanes; a long text is cut."""
        options = {"max_lines": MAX_LINES, "placeholder": " …", "break_on_hyphens": False}
        return textwrap.fill(self.text, CHARACTERS, **options)

    def height(self) -> float:
        """In lines."""
        return self.label().count("\n") + 2 + (IMAGE_LINES if self.image else 0)


def draw(messages: Sequence[dict]) -> None:
    """Draw a conversation: an arrow for each message and each tool call, from top to bottom.

    Args:
        messages: the conversation, in OpenAI's form. Images in data URLs are drawn. A result
            with the key `error`, as `run_tools` writes it, is red and has a ✗.
    """
    import matplotlib.pyplot as plt

    arrows = list(_arrows(messages))
    height = 2 + sum(arrow.height() for arrow in arrows)
    figure = plt.figure(figsize=(WIDTH, height * LINE))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(-MARGIN, 2 + MARGIN), ylim=(height, 0))
    ax.axis("off")
    for name, x in LANES.items():
        ax.vlines(x, 1.5, height, color="lightgray", zorder=0)
        ax.text(x, 1, name, ha="center", weight="bold")
    y = 1.5
    for arrow in arrows:
        y += arrow.height()
        _draw_arrow(ax, arrow, y)
    plt.show()


def _draw_arrow(ax: "Axes", arrow: Arrow, y: float) -> None:
    from PIL import ImageOps

    start, end = LANES[arrow.sender], LANES[arrow.receiver]
    middle = (start + end) / 2
    ax.annotate("", (end, y), (start, y), arrowprops={"arrowstyle": "->", "color": arrow.color})
    if arrow.image:
        image = ImageOps.pad(arrow.image.convert("RGBA"), IMAGE_PIXELS, color="white")
        lines = IMAGE_LINES - 0.3  # a little space above and below
        half = lines * LINE * image.width / image.height / 2 * (2 + 2 * MARGIN) / WIDTH
        ax.imshow(
            image, extent=(middle - half, middle + half, y - 0.2, y - 0.2 - lines), aspect="auto"
        )
        y -= IMAGE_LINES
    style = {"ha": "center", "va": "bottom", "fontsize": FONT_SIZE, "color": arrow.color}
    ax.text(middle, y - 0.15, arrow.label(), parse_math=False, **style)  # "$" is a dollar


def _arrows(messages: Sequence[dict]) -> Iterator[Arrow]:
    for message in messages:
        role, calls = message["role"], message.get("tool_calls") or []
        text, image = _text_and_image(message.get("content") or "")
        if role == "tool":
            mark, color = ("✗ ", RED) if text.startswith('{"error":') else ("", GREEN)
            yield Arrow("tools", "model", mark + text, color, image)
        elif role == "assistant":
            if text or not calls:
                yield Arrow("model", "user", text or "(an empty answer)")
            for call in calls:
                function = call["function"]
                text = f"{function['name']}({function['arguments']})"
                yield Arrow("model", "tools", text, GREEN)
        else:
            yield Arrow("user", "model", f"{role}: {text}" if role != "user" else text, image=image)


def _text_and_image(content: Any) -> tuple[str, "Image | None"]:
    if isinstance(content, str):
        return content, None
    from helpers import images

    text, image = "", None
    for part in content:
        if part.get("type") == "image_url" and image is None:
            image = images.image_of(part)
            text += "" if image else " [image]"
        else:
            text += part.get("text", " [image]")
    return text.strip(), image
