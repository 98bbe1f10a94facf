"""Exercises of notebook 10, Playground."""

import html
from typing import Any

from labkit.exercises.answers import WrongForm, call, kind
from labkit.exercises.engine import exercise, number_exercise

number_exercise(
    "10-memory",
    5600,
    hint="The prompt of request n has n questions and the n - 1 answers before it.",
    mistakes={
        1100: "That is the last request alone. Add up all ten.",
        1200: "That is the whole conversation once. Add up the prompts of all ten requests.",
        200: "That counts each question once. Every request sends the earlier ones again.",
        1000: "Those are the answers. A request sends questions and earlier answers.",
        6600: "An answer is not a part of its own prompt: request n has n - 1 answers.",
        5500: "The tenth question belongs to the tenth prompt: n questions and n - 1 answers.",
        12000: "The prompts are not all as long as the last: the first has 20 tokens.",
        11000: "The prompts are not all as long as the last: the first has 20 tokens.",
        4500: "Those are the answers that are sent again. The questions come on top.",
    },
    units=("tokens", "prompt tokens"),
)

# A conversation of two questions, the first with a tool call.
_CALL = {"id": "abcdefgh1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
_CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "", "tool_calls": [_CALL]},
    {"role": "tool", "tool_call_id": "abcdefgh1", "content": "1"},
    {"role": "assistant", "content": "1."},
    {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "2."},
]


@exercise(
    "10-edit",
    hint="Find the place of the question. Keep what is before it, and append the new question.",
)
def judge_edit(answer: Any) -> str | None:
    """A function that changes the n-th question and drops what follows."""
    for number, place in ((2, 5), (1, 1)):
        chat = [dict(message) for message in _CHAT]
        shown = repr(chat)
        try:
            result = call(answer, chat, number, "New?")
        except WrongForm as wrong:  # its example would show the whole conversation
            raise WrongForm(str(wrong).replace(shown, "messages")) from None
        if not isinstance(result, list | tuple) or not all(isinstance(m, dict) for m in result):
            return f"It should return a list of messages, not {kind(result)}."
        result, expected = list(result), [*_CHAT[:place], {"role": "user", "content": "New?"}]
        if result == expected:
            if chat != _CHAT:
                return "The list that it was given has changed. Return a new one."
            continue
        if len(result) > len(expected):
            return "What follows the changed question should be gone: it answered the old one."
        if not result or result[-1].get("content") != "New?":
            return f"The last message should be question {number} with the new text."
        if result[-1].get("role") != "user":
            return 'The new question should have the role "user".'
        if result[0] != _CHAT[0]:
            return "The system prompt should stay at the beginning."
        return f"Before question {number}, every message should stay as it was, tools included."
    return None


@exercise(
    "10-escape",
    hint="Three characters have a meaning in HTML: & < >. Each becomes an entity, such as &lt;.",
)
def judge_escape(answer: Any) -> str | None:
    """A function that turns any text into HTML that shows it as it is."""
    for text, problem in (
        ("Hello!", "A text without special characters should stay as it is."),
        ("1 < 2", "The character < becomes &lt; in HTML."),
        ("2 > 1", "The character > becomes &gt; in HTML."),
        ("a & b", "The character & becomes &amp; in HTML."),
        ("<script>alert(1)</script>", "A page would still run the script."),
        ("&lt;b&gt;", "The text &lt; should be shown as &lt; so its & becomes &amp; first."),
    ):
        result = call(answer, text)
        if not isinstance(result, str):
            return f"It should return a string, not {kind(result)}."
        if result.count("&amp;lt;") > text.count("&lt;"):
            return "It escapes its own entities: replace & first, then the others."
        # Entities have several names; what counts is what a page shows.
        if html.unescape(result) != text or "<" in result or ">" in result:
            return problem
        if html.unescape(html.unescape(result)) != html.unescape(text):
            return problem
    return None
