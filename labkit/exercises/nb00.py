"""TODO."""

from typing import Any

from labkit.exercises.engine import exercise


@exercise(
    "00-messages",
    hint='a list of two dicts, each with "role" and "content"; the rule goes to the system.',
    solution="""answer = [
    {"role": "system", "content": "Answer with one word."},
    {"role": "user", "content": "What is the capital of Italy?"},
]""",
)
def _messages(answer: Any) -> str | None:
    if not isinstance(answer, list) or not all(isinstance(message, dict) for message in answer):
        return "A list of dicts is wanted."
    if any(set(message) != {"role", "content"} for message in answer):
        return 'Each message needs exactly the keys "role" and "content".'
    roles = [message["role"] for message in answer]
    if roles != ["system", "user"]:
        return f'The roles should be "system", then "user"; they are {roles}.'
    if not all(str(message["content"]).strip() for message in answer):
        return "One of the messages says nothing."
    return None


@exercise(
    "00-seed",
    hint="with temperature 0 nothing is drawn at all; here it must stay above 0.",
    solution='answer = {"temperature": 1.0, "seed": 7}',
)
def _seed(answer: Any) -> str | None:
    if not isinstance(answer, dict):
        return "A dict of keyword arguments is wanted."
    if not isinstance(answer.get("seed"), int):
        return "What fixes the random draw? It takes a whole number."
    if not answer.get("temperature", 0) > 0:
        return "Leave the temperature above 0, or nothing is drawn and the seed has no work."
    return None
