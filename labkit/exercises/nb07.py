"""Exercises of notebook 07, Serve it."""

import json
import math
from itertools import takewhile
from typing import Any

from labkit.exercises.answers import WrongForm, call, items, mapping, number, shown
from labkit.exercises.asking import Model
from labkit.exercises.engine import USE, build, exercise, test


@exercise(
    "07-flag",
    hint=(
        "How would you write as JSON: of images, four?",
        'Look at "The command": the flag maps the kind of input to the number allowed.',
        "Half of it: a JSON object with the key image, in double quotes.",
    ),
)
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


build(
    "07-conversations",
    hint=(
        "What is in the memory of the GPU before the first conversation begins?",
        'Look at "What fits beside the weights?": vLLM takes a share of the memory.',
        "Half of it: free = 0.9 * gpu_bytes - weight_bytes. A conversation needs "
        "tokens * bytes_per_token.",
    ),
    example="answer(80e9, 48e9, 160 * 1024, 8000) → 18",
)


def _conversations(answer: Any, *given: float) -> float:
    return number(call(answer, *given), "The result", ("conversations", "users"))


@test("07-conversations", "a GPU with 80 GB, weights of 48 GB")
def conversations_of_a_class(answer: Any) -> str | None:
    """What the weights leave, divided by one conversation."""
    value = _conversations(answer, 80e9, 48e9, 160 * 1024, 8000)
    for wrong, said in {
        18.31: "Only whole conversations count.",
        19: "Round down: only whole conversations count.",
        54: "The weights are on the same GPU.",
        54.93: "The weights are on the same GPU.",
        24: "vLLM takes 90 % of the memory.",
        24.41: "vLLM takes 90 % of the memory.",
        21: "vLLM takes 90 % of the whole memory, the weights included.",
        21.97: "vLLM takes 90 % of the whole memory, the weights included.",
        146_484: "That is in tokens. How many conversations of 8,000 tokens is it?",
    }.items():
        if math.isclose(value, wrong, rel_tol=0.002):
            return said
    return None if value == 18 else f"18 fit, not {shown(value)}."


@test("07-conversations", "longer conversations, another cache")
def conversations_of_another(answer: Any) -> str | None:
    """No number of the example is fixed in the function."""
    value = _conversations(answer, 24e9, 14e9, 80 * 1024, 32768)
    return (
        None
        if value == 2
        else f"With 24 GB, 14 GB, 80 KiB and 32,768 tokens 2 fit, not {shown(value)}."
    )


@test("07-conversations", "weights that do not fit leave room for none")
def conversations_of_none(answer: Any) -> str | None:
    """No negative number of conversations."""
    value = _conversations(answer, 24e9, 48e9, 160 * 1024, 8000)
    return None if value == 0 else "If the weights do not fit, no conversation does: return 0."


LEAST_SHARED = 300  # characters: about 60 tokens


def _common(first: str, second: str) -> str:
    """What two texts begin with."""
    pairs = zip(first, second, strict=False)
    return "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _send_pair(answer: Any, model: Model) -> None:
    for number_, messages in enumerate(items(answer), 1):
        reply = model.ask(f"request {number_}", [dict(m) for m in messages], max_tokens=8)
        details = getattr(reply.usage, "prompt_tokens_details", None)
        cached = getattr(details, "cached_tokens", None) or 0
        model.replies[-1] = (
            f"request {number_}",
            f"{reply.usage.prompt_tokens} prompt tokens, {cached} of them from the cache",
        )
    model.note(
        "The server reused what it had. If you check again, it may have both requests in its cache."
        if cached
        else "This server reports no reused tokens: its cache may be off, or it does not say."
    )


@exercise(
    "07-prefix",
    hint=(
        "Which part of a second prompt can a server know already: its beginning or its end?",
        'Look at "Prefix caching": five questions after the same long text.',
        'Half of it: text = "The sea was calm. " * 20 is long enough. Which message of both '
        "requests should it be?",
    ),
    kind=USE,
    send=_send_pair,
)
def judge_prefix(answer: Any) -> str | None:
    """Two lists of messages that begin alike and end otherwise."""
    pair = items(answer, "a list of two lists of messages")
    if len(pair) != 2 or any(isinstance(each, str | dict) for each in pair):
        raise WrongForm("The answer should be a list of two requests, each a list of messages.")
    texts = []
    for messages in pair:
        found = [mapping(each, name="Each message") for each in items(messages)]
        if not found or any(not {"role", "content"} <= set(each) for each in found):
            raise WrongForm('Each message should be a dict with "role" and "content".')
        if any(not isinstance(each["content"], str) for each in found):
            raise WrongForm("The content of each message should be a string.")
        texts.append("".join(f"[{each['role']}]{each['content']}" for each in found))
    first, second = texts
    if first == second:
        return "The two requests are the same: ask two different things about one text."
    shared = _common(first, second)
    if len(shared) >= LEAST_SHARED:
        return None
    ending = _common(first[::-1], second[::-1])
    if len(ending) >= LEAST_SHARED:
        return "They end alike. Only a common beginning is reused: put the long text first."
    if min(len(first), len(second)) < LEAST_SHARED:
        return f"They are too short to matter: the common text needs {LEAST_SHARED} characters."
    return f"They begin alike for {len(shared)} characters only. At least {LEAST_SHARED} should be."
