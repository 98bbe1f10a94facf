"""Chat messages in OpenAI's form, as `ChatFormat.encode` takes them."""

import json
from collections.abc import Sequence
from random import Random

from PIL import Image

from pocket_model.call_id import new_call_id


def system(text: str) -> dict:
    return {"role": "system", "content": text}


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict:
    return {"role": "assistant", "content": text}


def assistant_calls(calls: list[dict]) -> dict:
    return {"role": "assistant", "tool_calls": calls}


def tool_result(call: dict, content: str) -> dict:
    name = call["function"]["name"]
    return {"role": "tool", "tool_call_id": call["id"], "name": name, "content": content}


def user_images(pictures: Sequence[Image.Image], text: str, *, text_first: bool = False) -> dict:
    images = [{"type": "image", "image": picture} for picture in pictures]
    texts = [{"type": "text", "text": text}]
    return {"role": "user", "content": texts + images if text_first else images + texts}


def tool_call(name: str, arguments: dict, call_id: str) -> dict:
    function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
    return {"id": call_id, "type": "function", "function": function}


def call_id(rng: Random) -> str:
    # As `rng.choices` draws: other numbers would change every case that comes after.
    return new_call_id(lambda below: int(rng.random() * below))
