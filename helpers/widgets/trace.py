"""A conversation with tools, message by message: who sends what to whom."""

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from mistral_common.exceptions import MistralCommonException

from helpers import images, wire
from helpers.widgets import tokens
from helpers.widgets.explorer import Explorer

LONGEST = 120  # characters of a message in the table
EMPTY = "(an empty answer)"
MAX_SHOWN = 400  # tokens of a message on the page

# The control tokens of the format v11: what each says to the model.
MEANINGS = {
    "<s>": "the conversation begins",
    "[SYSTEM_PROMPT]": "the system prompt begins",
    "[/SYSTEM_PROMPT]": "it ends",
    "[INST]": "the user's message begins",
    "[/INST]": "it ends: the model's turn",
    "[IMG]": "a part of an image",
    "[IMG_BREAK]": "the end of a row of the image",
    "[IMG_END]": "the end of the image",
    "[TOOL_CALLS]": "a call begins, with the tool's name",
    "[CALL_ID]": "the call's id follows",
    "[ARGS]": "the arguments follow",
    "[TOOL_RESULTS]": "a result begins, with the call's id",
    "[TOOL_CONTENT]": "the result itself follows",
    "[/TOOL_RESULTS]": "it ends: the model's turn",
    "</s>": "the model's message ends",
}
OPENS = ("[SYSTEM_PROMPT]", "[INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]")
CLOSES = ("[/SYSTEM_PROMPT]", "[/INST]", "[/TOOL_RESULTS]", "</s>")
# A conversation that is sent ends with a user or a tool. This one is encoded too, and cut off.
_NEXT = {"role": "user", "content": "x"}


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
            words = text or EMPTY
            yield arrow | {"text": words, "error": error, "message": shown}
        for call in calls:
            function = call["function"]
            words = f"{function['name']}({function['arguments']})"
            yield arrow | {"receiver": "tools", "text": words, "message": call}


def wire_tokens(messages: Sequence[dict]) -> list[list[int]]:
    """The tokens of each of `arrows`, as 3.2 reads them (wire format v11).

    All lists together are the whole conversation. The descriptions of tools are not in it.

    Raises:
        ValueError: the format does not have the messages one by one, or forbids something.
    """
    messages = list(messages)
    more = [_NEXT] if messages and messages[-1]["role"] == "assistant" else []
    try:
        ids = wire.encode([*messages, *more])
    except MistralCommonException as error:
        raise ValueError(str(error)) from error
    tekken = wire.tokenizer().instruct_tokenizer.tokenizer
    parts, closed = [[]], False
    for token in ids:
        piece = tekken.id_to_piece(token) if tekken.is_special(token) else ""
        begins = closed or piece in OPENS
        if begins and len(parts[0]) > 1:  # the first token, <s>, belongs to the first message
            parts.append([])
        parts[-1].append(token)
        closed = piece in CLOSES
    parts = parts[: len(parts) - len(more)]
    if len(parts) != len(list(arrows(messages))):
        raise ValueError("some of these messages become one in Mistral's format")
    return parts


def explore(messages: Sequence[dict]) -> Explorer:
    """Look at a conversation with tools step by step: as JSON, and as the tokens of 3.2.

    Args:
        messages: the conversation, in OpenAI's form.
    """
    steps = list(arrows(messages))
    # Only the last answer can be empty. It is not sent, so it has no tokens.
    sent = [*messages]
    if sent and sent[-1]["role"] == "assistant" and steps[-1]["text"] == EMPTY:
        sent.pop()
    refused = ""
    try:
        read = wire_tokens(sent)
    except ValueError as error:
        refused, read = f"No tokens: {error}", []
    read += [[]] * (len(steps) - len(read))
    rows = [
        {
            "from": step["sender"],
            "to": step["receiver"],
            "tokens": len(ids),
            "what": ("✗ " if step["error"] else "") + _cut(step["text"]),
        }
        for step, ids in zip(steps, read, strict=True)
    ]
    table = pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="step"))
    if refused:
        table = table.drop(columns="tokens", errors="ignore")
    for step, ids in zip(steps, read, strict=True):
        step["message"] = json.dumps(step["message"], indent=2, ensure_ascii=False)
        step["count"], step["tokens"] = len(ids), _shown(ids)
    data = {"steps": steps, "meanings": MEANINGS, "refused": refused, "most": MAX_SHOWN}
    return Explorer("The conversation", table, data, "trace.js")


def _shown(ids: Sequence[int]) -> list[dict]:
    """The tokens for the page: image tokens in a row become one entry with their number."""
    tekken, shown = wire.tokenizer().instruct_tokenizer.tokenizer, []
    for kind, run in itertools.groupby(tokens.piece(tekken, token) for token in ids):
        times = len(list(run))
        many = kind["kind"] == "control" and times > 1
        shown += [kind | {"text": f"{kind['text']} × {times}"}] if many else [kind] * times
    return shown[:MAX_SHOWN]


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
