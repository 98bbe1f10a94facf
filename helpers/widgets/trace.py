"""A conversation with tools, message by message: who sends what to whom."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from helpers import images
from helpers.widgets.explorer import Explorer

LONGEST = 120  # characters of a message in the table


def arrows(messages: Sequence[dict]) -> Iterator[dict[str, Any]]:
    """One dict for each message, and for each tool call of a message.

    Returns:
        "sender" and "receiver" out of "user", "model" and "tools"; the "text"; whether it is an
        "error", as `run_tools` writes it; and an "image" as a data URL, if there is one.
    """
    for message in messages:
        role, calls = message["role"], message.get("tool_calls") or []
        text, image = _text_and_image(message.get("content") or "")
        ways = {"tool": ("tools", "model"), "assistant": ("model", "user")}
        sender, receiver = ways.get(role, ("user", "model"))
        if role in ("system", "developer"):
            text = f"{role}: {text}"
        arrow = {"sender": sender, "receiver": receiver, "error": False, "image": image}
        shown = _without_images(message)
        if role != "assistant" or text or not calls:
            error = role == "tool" and text.startswith('{"error":')
            words = text or "(an empty answer)"
            yield arrow | {"text": words, "error": error, "message": shown}
        for call in calls:
            function = call["function"]
            words = f"{function['name']}({function['arguments']})"
            yield arrow | {"receiver": "tools", "text": words, "message": call}


def explore(messages: Sequence[dict]) -> Explorer:
    """Look at a conversation with tools step by step.

    Args:
        messages: the conversation, in OpenAI's form.
    """
    steps = list(arrows(messages))
    rows = [
        {
            "from": step["sender"],
            "to": step["receiver"],
            "what": ("✗ " if step["error"] else "") + _cut(step["text"]),
        }
        for step in steps
    ]
    table = pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="step"))
    for step in steps:
        step["message"] = json.dumps(step["message"], indent=2, ensure_ascii=False)
    return Explorer("The conversation", table, {"steps": steps}, "trace.js")


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 2] + " …"


def _text_and_image(content: Any) -> tuple[str, str | None]:
    if isinstance(content, str):
        return content.strip(), None
    text, image = "", None
    for part in content:
        url = part["image_url"]["url"] if part.get("type") == "image_url" else None
        if url and image is None and images.image_of(part):
            image = url
        else:
            text += part.get("text", " [image]")
    return text.strip(), image


def _without_images(message: dict) -> dict:
    """The message as it is sent, but for the images' data."""
    if not isinstance(message.get("content"), list):
        return message
    parts = [
        part | {"image_url": {"url": f"{part['image_url']['url'][:40]}…"}}
        if part.get("type") == "image_url"
        else part
        for part in message["content"]
    ]
    return message | {"content": parts}
