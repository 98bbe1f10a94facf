"""Texts and chats as the tokens that a model reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.tekken import Tekkenizer

from helpers import wire
from helpers.widgets.explorer import Explorer

MISTRAL = "Mistral's Tekken"
LONGEST = 20_000  # characters of a text; every token is an element of the page


def split(text: str | list[dict], file: str | Path | None = None) -> list[dict[str, Any]]:
    """The tokens of a text, or of a chat in OpenAI's form, each with its id and its text.

    Args:
        file: a `tekken.json`, such as the pocket model's; Mistral's own vocabulary if None.

    Returns:
        dicts with "id", "text" and "kind". The kind is "control" for a control token, "part" for
        a part of a character, whose text is its bytes, and else "text".
    """
    chosen = wire.tokenizer() if file is None else wire.from_file(Path(file))
    tekken = chosen.instruct_tokenizer.tokenizer
    if isinstance(text, str):
        ids = tekken.encode(text, bos=False, eos=False)
    else:
        request = ChatCompletionRequest.from_openai(messages=text)
        ids = chosen.encode_chat_completion(request).tokens
    return [piece(tekken, token) for token in ids]


def piece(tekken: Tekkenizer, token: int) -> dict[str, Any]:
    """One token, as in `split`."""
    if tekken.is_special(token):
        return {"id": token, "text": tekken.id_to_piece(token), "kind": "control"}
    data = tekken.id_to_byte_piece(token)
    try:
        return {"id": token, "text": data.decode(), "kind": "text"}
    except UnicodeDecodeError:
        return {"id": token, "text": data.hex(" "), "kind": "part"}


def explore(
    texts: Mapping[str, str | list[dict]],
    *,
    files: Mapping[str, str | Path] | None = None,
    usd_per_million: float | None = None,
) -> Explorer:
    """Look at texts and chats token by token.

    Args:
        texts: what to look at, by name: a text, or a chat's messages.
        files: further tokenizers by name, each a `tekken.json`.
        usd_per_million: the price of a million tokens, if it shall be shown.

    Raises:
        ValueError: there is no text, or one is too long for a page.
    """
    for name, text in texts.items():
        if len(str(text)) > LONGEST:
            raise ValueError(
                f"{name!r} has {len(str(text)):,} characters. A page shows up to {LONGEST:,}; "
                "`helpers.wire.count_tokens` counts the tokens of any text."
            )
    tokenizers = {MISTRAL: None, **(files or {})}
    shown = {
        name: {
            "characters": len(text) if isinstance(text, str) else None,
            "bytes": len(text.encode()) if isinstance(text, str) else None,
            "tokens": {kind: split(text, file) for kind, file in tokenizers.items()},
        }
        for name, text in texts.items()
    }
    rows = {
        name: {
            "characters": each["characters"],
            "bytes": each["bytes"],
            **{kind: len(tokens) for kind, tokens in each["tokens"].items()},
        }
        for name, each in shown.items()
    }
    table = pd.DataFrame(rows).T.astype("Int64")
    data = {"texts": shown, "usd_per_million": usd_per_million}
    return Explorer("Tokens", table, data, "tokens.js")
