"""Questions with a rule that scores their answers, in a file of one JSON object a line."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers import jsonl


@dataclass(frozen=True)
class Question:
    """A question and its rule.

    Attributes:
        id: its name, once in a file.
        family: questions of one family are alike, such as "capitals".
        rule: the name of a scorer and its arguments; see `scorers.judge`.
    """

    id: str
    family: str
    prompt: str
    rule: dict[str, Any]


def load(path: str | Path) -> list[Question]:
    """The questions of a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it has no questions, a field is missing, or an id is there twice.
    """
    questions = []
    for number, record in enumerate(jsonl.read(path), 1):
        try:
            questions.append(Question(**record))
        except TypeError as error:
            raise ValueError(
                f"{path}, question {number}: wanted are id, family, prompt and rule ({error})"
            ) from None
    ids = [question.id for question in questions]
    twice = sorted({id_ for id_ in ids if ids.count(id_) > 1})
    if twice or not ids:
        raise ValueError(f"{path}: {f'{twice[0]!r} is there twice' if twice else 'no questions'}")
    return questions


def prompts_hash(questions: Sequence[Question]) -> str:
    """SHA-256 of the ids, prompts and rules, so that a changed question is found."""
    content = [[question.id, question.prompt, question.rule] for question in questions]
    text = json.dumps(content, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
