"""A file of training conversations, read and checked: every problem with its line.

One JSON object a line, `{"id": …, "messages": [{"role": …, "content": …}, …]}`, as fine-tuning
programs take it: perhaps a system message, then user and assistant in turns. The last is the
assistant's.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

from helpers.finetune import labels

SHOWN = 8  # problems in a message


class DataError(ValueError):
    """A training file cannot be used; the message names each line, and what to change."""


def read(path: str | Path) -> list[dict[str, Any]]:
    """The conversations of a file, each a dict with `id` and `messages`.

    Raises:
        DataError: the file is missing or empty, or a line is not a conversation.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name} cannot be read: {error}") from error
    lines: list[dict[str, Any]] = []
    problems: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            problems.append(f"line {number} is not JSON: {error}")
            continue
        found = list(_problems(value))
        problems += [f"line {number}: {problem}" for problem in found]
        if not found:
            lines.append({"id": f"line {number}", **value})
    if not lines and not problems:
        problems = ["it has no line: give one conversation a line."]
    _raise(path.name, problems)
    return lines


def _problems(value: Any) -> Iterator[str]:
    messages = value.get("messages") if isinstance(value, dict) else None
    if not isinstance(messages, list) or not messages:
        yield 'there are no messages: {"messages": [{"role": …, "content": …}]} is expected.'
        return
    if not all(isinstance(message, dict) for message in messages):
        yield "a message is not an object with role and content."
        return
    for message in messages:
        if not isinstance(content := message.get("content"), str) or not content.strip():
            yield f"the {message.get('role')}'s message is empty or no text."
    roles = [message.get("role") for message in messages]
    if "assistant" not in roles:
        yield "there is no assistant turn, so there is nothing to learn."
        return
    turns = roles[1:] if roles[0] == "system" else roles
    expected = ["user", "assistant"] * (len(turns) // 2 + 1)
    for place, (role, wanted) in enumerate(zip(turns, expected, strict=False), 1):
        if role != wanted:
            yield f"turn {place} is the {role}'s where the {wanted}'s is expected."
            return
    if turns[-1] != "assistant":
        yield "it ends with the user: the last turn must be the assistant's."


def encode(
    lines: Sequence[dict[str, Any]], tokenizer: MistralTokenizer, longest: int
) -> list[labels.Example]:
    """Conversations as token ids and labels.

    Args:
        longest: tokens that an example may have. Nothing is cut off: a cut answer has no end.

    Raises:
        DataError: an example is longer, or Mistral's format forbids it.
    """
    examples, problems = [], []
    for line in lines:
        try:
            example = labels.encode(tokenizer, line["messages"])
        except ValueError as error:
            problems.append(f"{line['id']}: {error}")
            continue
        if len(example.ids) > longest:
            problems.append(
                f"{line['id']} has {len(example.ids)} tokens, more than {longest}: shorten it, "
                "leave it out, or raise the limit (which costs memory)."
            )
        examples.append(example)
    _raise("The data", problems)
    return examples


def check_apart(train: Sequence[dict[str, Any]], held_out: Sequence[dict[str, Any]]) -> None:
    """Check that no held-out message was trained on, whatever its case and punctuation.

    Raises:
        DataError: some were, or the same message is in one file twice with different answers.
    """
    problems: list[str] = []
    seen: dict[str, tuple[str, str]] = {}
    for line in train:
        answer = line["messages"][-1]["content"]
        name, earlier = seen.setdefault(_words(line), (line["id"], answer))
        if earlier != answer:
            problems.append(f"{line['id']} asks the same as {name}, with another answer.")
    for line in held_out:
        if _words(line) in seen:
            problems.append(f"{line['id']} is held out, and {seen[_words(line)][0]} is the same.")
    _raise("Training and held-out data", problems)


def _words(line: dict[str, Any]) -> str:
    asked = " ".join(m["content"] for m in line["messages"][:-1] if m["role"] != "system")
    return " ".join(re.findall(r"\w+", asked.casefold()))


def _raise(what: str, problems: list[str]) -> None:
    if problems:
        more = len(problems) - SHOWN
        rest = [f"… and {more} more"] if more > 0 else []
        shown = "\n".join(f"- {problem}" for problem in [*problems[:SHOWN], *rest])
        raise DataError(f"{what} cannot be used:\n{shown}")
