"""Exercises of notebook 07, Serve it."""

import json
from typing import Any

from labkit.exercises.answers import mapping
from labkit.exercises.engine import exercise, number_exercise


@exercise("07-flag", hint="It is a JSON object that maps the kind of input to the number allowed.")
def judge_image_limit(answer: Any) -> str | None:
    """The value of `--limit-mm-per-prompt` for four images."""
    value = answer
    if isinstance(answer, str):
        text = answer.strip().removeprefix("--limit-mm-per-prompt").strip(" =").strip("'`")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            return "vLLM reads it as JSON, and it is not JSON: check braces and double quotes."
    limit = mapping(value, "a string with a JSON object").get("image")
    if isinstance(limit, dict):  # vLLM's longer form
        limit = limit.get("count")
    return None if limit == 4 else "Four images: the key is image, the value 4."


number_exercise(
    "07-conversations",
    18,
    hint="what the weights leave of the memory that vLLM takes, divided by one conversation.",
    mistakes={
        18.31: "Only whole conversations count.",
        54: "The weights are on the same GPU.",
        54.93: "The weights are on the same GPU.",
        24: "vLLM takes 90 % of the memory.",
        24.41: "vLLM takes 90 % of the memory.",
        146_484: "That is in tokens. How many conversations of 8,000 tokens is it?",
    },
    units=("conversations", "users"),
)

number_exercise(
    "07-workshop",
    300,
    hint="requests per second × tokens per answer.",
    mistakes={
        18_000: "That is per minute.",
        150: "Each learner asks twice a minute.",
        600: "That is what one learner gets in a minute.",
    },
    units=("tokens per second", "tokens/s", "tokens/second", "tok/s", "t/s"),
)
