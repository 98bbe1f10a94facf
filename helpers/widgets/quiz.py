"""Five questions about a notebook, to answer on the page: no kernel and no network is needed."""

import random
from dataclasses import dataclass

import pandas as pd
import yaml

from helpers.paths import DATA
from helpers.widgets.explorer import Explorer

LETTERS = "ABCD"


@dataclass(frozen=True)
class Question:
    """A question with its options as they are shown.

    Attributes:
        right: the place of the right option, from 0.
        why: a sentence that is shown after a choice.
    """

    text: str
    options: tuple[str, ...]
    right: int
    why: str


def load(notebook: str) -> list[Question]:
    """The questions of a notebook, such as "03".

    The order of the options is random, and the same each time. The right ones are spread over all
    places, so that no place is more likely than another.

    Raises:
        ValueError: there are no questions about this notebook.
    """
    path = DATA / "quiz" / f"{notebook}.yaml"
    if not path.is_file():
        raise ValueError(f"There are no questions about notebook {notebook!r}.")
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    generator = random.Random(f"quiz {notebook}")
    places = [*range(len(LETTERS)), int(notebook) % len(LETTERS)]
    generator.shuffle(places)
    questions = []
    for entry, right in zip(entries, places, strict=True):
        options = generator.sample(entry["wrong"], k=len(entry["wrong"]))
        options.insert(right, entry["right"])
        questions.append(Question(entry["question"], tuple(options), right, entry["why"]))
    return questions


def explore(notebook: str) -> Explorer:
    """Answer the questions about a notebook on the page.

    Raises:
        ValueError: as for `load`.
    """
    questions = load(notebook)
    rows = {
        question.text: dict(zip(LETTERS, question.options, strict=True)) for question in questions
    }
    data = {
        "questions": [
            {"text": q.text, "options": q.options, "right": q.right, "why": q.why}
            for q in questions
        ]
    }
    table = pd.DataFrame(rows).T.rename_axis("question")
    return Explorer(f"Five questions about notebook {notebook}", table, data, "quiz.js")
