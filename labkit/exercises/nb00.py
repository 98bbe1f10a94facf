"""Exercises of notebook 00, Start here."""

import re
from typing import Any

from labkit.exercises.answers import WrongForm, items, mapping, number
from labkit.exercises.engine import exercise

ONE_WORD = re.compile(r"\b(one|single|1|a|\(1\)|only|just)[ -]word\b|\bword only\b", re.IGNORECASE)
CAPITAL_OF_ITALY = re.compile(r"(?=.*\bital(y|ian)\b)(?=.*\bcapital\b)", re.IGNORECASE | re.DOTALL)


@exercise(
    "00-messages",
    hint='Write two dicts, each with "role" and "content". The rule belongs in the system message.',
)
def judge_messages(answer: Any) -> str | None:
    """A system message with the rule, then a user message with the question."""
    if isinstance(answer, str | dict):
        raise WrongForm("The answer should be a list of two dicts.")
    messages = [mapping(message, "a list of dicts") for message in items(answer)]
    if any(not {"role", "content"} <= set(message) for message in messages):
        return 'Each message needs the keys "role" and "content".'
    roles = [str(message["role"]).strip().lower() for message in messages]
    if roles not in (["system", "user"], ["developer", "user"]):  # OpenAI's newer name
        sent = ", ".join(roles) or "none"
        return f'The roles should be "system", then "user". Here they are: {sent}.'
    system, user = (_text(message["content"]) for message in messages)
    if not system.strip() or not user.strip():
        return "The content of one message is empty."
    if not ONE_WORD.search(system) or re.search(r"\bnot\b|n't\b", system):
        return "The system message should hold the rule: answers of one word."
    if not CAPITAL_OF_ITALY.match(user):
        return "The user message should ask for the capital of Italy."
    return None


def _text(content: Any) -> str:
    """The text of a message's content, which may be a list of parts."""
    if isinstance(content, list | tuple):
        return " ".join(str(mapping(part).get("text", "")) for part in content)
    return str(content)


@exercise(
    "00-seed", hint="With temperature 0 nothing is sampled. Here the temperature must stay above 0."
)
def judge_seed(answer: Any) -> str | None:
    """A seed, and a temperature at which it matters."""
    settings = mapping(answer, "a dict of keyword arguments")
    settings |= mapping(settings.pop("extra_body", {}))  # as `lab.seed` writes it for Mistral AI
    if "random_seed" in settings:
        settings["seed"] = settings.pop("random_seed")
    if "seed" not in settings:
        return "Which argument fixes the random choices?"
    if isinstance(settings["seed"], str) or number(settings["seed"], "The seed") % 1:
        return "The seed should be an integer, such as 7."
    if "temperature" not in settings:
        return "Which argument makes the model sample at random?"
    temperature = settings["temperature"]
    if isinstance(temperature, str):
        return "The temperature should be a number, not a string."
    if number(temperature, "The temperature") <= 0:
        return "Keep the temperature above 0. At 0 nothing is sampled, and a seed has no effect."
    if number(temperature) > 2:
        return "Servers refuse a temperature above 2."
    if unknown := set(settings) - _known_settings():
        return f"A request has no argument {sorted(map(str, unknown))[0]!r}."
    return None


def _known_settings() -> set[str]:
    from openai.types.chat.completion_create_params import CompletionCreateParamsBase

    return set(CompletionCreateParamsBase.__annotations__)
