"""Exercises of notebook 00, Start here."""

from typing import Any

from labkit.exercises.engine import exercise


@exercise(
    "00-messages",
    hint='Write two dicts, each with "role" and "content". The rule belongs in the system message.',
)
def judge_messages(answer: Any) -> str | None:
    """A system message, then a user message, neither of them empty."""
    if not isinstance(answer, list) or not all(isinstance(message, dict) for message in answer):
        return "The answer should be a list of dicts."
    if any(set(message) != {"role", "content"} for message in answer):
        return 'Each message needs exactly the keys "role" and "content".'
    roles = [message["role"] for message in answer]
    if roles != ["system", "user"]:
        return f'The roles should be "system", then "user"; they are {roles}.'
    if not all(str(message["content"]).strip() for message in answer):
        return "The content of one message is empty."
    return None


@exercise(
    "00-seed", hint="With temperature 0 nothing is sampled. Here the temperature must stay above 0."
)
def judge_seed(answer: Any) -> str | None:
    """A seed, and a temperature at which it matters."""
    if not isinstance(answer, dict):
        return "The answer should be a dict of keyword arguments."
    if not isinstance(answer.get("seed"), int):
        return "Which argument fixes the random choices? Its value is an integer."
    if not answer.get("temperature", 0) > 0:
        return "Keep the temperature above 0. At 0 nothing is sampled, and a seed has no effect."
    return None
