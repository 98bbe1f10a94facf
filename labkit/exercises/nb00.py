"""Exercises of notebook 00, Start here."""

import copy
import re
from typing import Any

from labkit.exercises.answers import WrongForm, call, items, mapping, message_list, number
from labkit.exercises.asking import Model
from labkit.exercises.engine import USE, build, exercise, test

ONE_WORD = re.compile(r"\b(one|single|1|a|\(1\)|only|just)[ -]word\b|\bword only\b", re.IGNORECASE)
CAPITAL_OF_ITALY = re.compile(r"(?=.*\bital(y|ian)\b)(?=.*\bcapital\b)", re.IGNORECASE | re.DOTALL)


def _send_messages(answer: Any, model: Model) -> None:
    model.ask("your messages", [dict(message) for message in answer])
    if getattr(model.lab, "model", "") == "pocket-small" and judge_messages(answer) is None:
        model.note("The pocket model often breaks such a rule. A larger model follows it.")


@exercise(
    "00-messages",
    hint=(
        "Which of the two texts is a rule for all answers, and which is the question?",
        'Look at "Ask again: a conversation". Each message is a dict with a role and a content.',
        'Half of it: [{"role": "system", "content": "Answer with one word."}, …]',
    ),
    kind=USE,
    send=_send_messages,
)
def judge_messages(answer: Any) -> str | None:
    """A system message with the rule, then a user message with the question."""
    if isinstance(answer, str | dict):
        raise WrongForm("The answer should be a list of two dicts.")
    sent = [mapping(message, name="Each message") for message in items(answer)]
    if any(not {"role", "content"} <= set(message) for message in sent):
        return 'Each message needs the keys "role" and "content".'
    roles = [str(message["role"]).strip().lower() for message in sent]
    if roles not in (["system", "user"], ["developer", "user"]):  # OpenAI's newer name
        found = ", ".join(roles) or "none"
        return f'The roles should be "system", then "user". Here they are: {found}.'
    system, user = (_text(message["content"]) for message in sent)
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
        return " ".join(str(mapping(part, name="Each part").get("text", "")) for part in content)
    return str(content)


def _send_settings(answer: Any, model: Model) -> None:
    settings = dict(answer) | {"max_tokens": 16}
    asked = [{"role": "user", "content": "Describe the sea."}]
    first, second = (
        model.ask(f"request {number}", asked, **settings).choices[0].message.content
        for number in (1, 2)
    )
    if first != second:
        note = "The two answers differ: this server does not keep to a seed, or nothing fixed one."
    elif judge_seed(answer) is None:
        note = "The two answers are the same: the seed works."
    elif settings.get("temperature") == 0:
        note = "The two answers are the same, because nothing was sampled."
    else:
        note = "The two answers are the same. That alone does not show that a seed works."
    model.note(note)


@exercise(
    "00-seed",
    hint=(
        "Which setting makes the model sample, and which one fixes the random numbers?",
        'Look at "Change one setting". With temperature 0 nothing is sampled.',
        'Half of it: {"temperature": 1.0, …}. The other key fixes the random numbers.',
    ),
    kind=USE,
    send=_send_settings,
)
def judge_seed(answer: Any) -> str | None:
    """A seed, and a temperature at which it matters."""
    settings = mapping(answer, "a dict of keyword arguments", whole=True)
    # as `lab.seed` writes it for Mistral AI
    settings |= mapping(settings.pop("extra_body", {}), name="extra_body")
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


_TALK = [
    {"role": "user", "content": "What is the capital of Japan?"},
]


def _send_history(answer: Any, model: Model) -> None:
    first = model.ask("first question", _TALK).choices[0].message.content
    talk = answer(copy.deepcopy(_TALK), first, "And what is the capital of Italy?")
    model.ask(f"{len(talk)} messages", [dict(message) for message in talk])


build(
    "00-history",
    hint=(
        "The server remembers nothing. What must the next request contain?",
        'Look at "Ask again: a conversation". What is between the two questions there?',
        'Half of it: [*messages, {"role": "assistant", "content": reply}, …]',
    ),
    example='answer([question], "Tokyo", "And Italy?") returns a list of 3 messages',
    send=_send_history,
)


def _history(
    answer: Any, before: list[dict], reply: str = "Tokyo.", question: str = "Why?"
) -> list:
    result = call(answer, before, reply, question, shown="answer(messages, reply, question)")
    return message_list(result)


@test("00-history", "the new question comes last, as the user's")
def question_is_last(answer: Any) -> str | None:
    """The last message is the new question."""
    result = _history(answer, [dict(m) for m in _TALK])
    if not result or result[-1].get("content") != "Why?":
        return "The last message should have the new question as its content."
    if result[-1].get("role") != "user":
        return 'The new question should have the role "user".'
    return None


@test("00-history", "the model's reply comes before it")
def reply_is_before(answer: Any) -> str | None:
    """The reply is a message of the assistant."""
    result = _history(answer, [dict(m) for m in _TALK])
    if len(result) < 3 or result[-2].get("content") != "Tokyo.":
        return "Without its own reply, the model does not know what was said: put it before."
    if result[-2].get("role") != "assistant":
        return 'The reply should have the role "assistant": the model said it.'
    return None


@test("00-history", "all earlier messages stay, in their order")
def earlier_stay(answer: Any) -> str | None:
    """A longer conversation stays whole."""
    before = [
        {"role": "system", "content": "Be brief."},
        *_TALK,
        {"role": "assistant", "content": "Tokyo."},
        {"role": "user", "content": "And Italy?"},
    ]
    result = _history(answer, copy.deepcopy(before), "Rome.")
    if result[: len(before)] == before:
        return None if len(result) <= len(before) + 2 else "Two messages are added, no more."
    return "A message of the earlier conversation is missing or changed."


@test("00-history", "the list that it is given does not change")
def given_list_stays(answer: Any) -> str | None:
    """The function has no side effect."""
    before = [dict(m) for m in _TALK]
    _history(answer, before)
    return None if before == _TALK else "It changes the list that it is given. Return a new one."
