"""How many questions of another author's test set training asks too: the command `overlap`.

Every step of training draws its questions anew, so a sample of steps is searched. Two questions
are the same if their words are, without case, punctuation and the values of numbers.
"""

import re
from collections import Counter
from collections.abc import Iterator

from tqdm import tqdm

from pocket_model.tekken import CONTROL_IDS
from pocket_training import chat_tasks, train
from pocket_training.examples import ExampleEncoder
from pocket_training.lora import SEED
from pocket_training.stranger.evaluate import SKILLS, load_cases

STEPS = 2000
BEGIN, END = CONTROL_IDS["[INST]"], CONTROL_IDS["[/INST]"]


def words(text: str) -> str:
    """A text's words alone; every number is the same."""
    return " ".join(re.findall(r"\w+", re.sub(r"\d+", "0", text.lower())))


def asked_in_training(encoder: ExampleEncoder, steps: int) -> Iterator[str]:
    """The words of every question of so many steps: tools, pictures, and both. And all chats'."""
    for chat in chat_tasks.prompts("train", train.CHATS["train"], SEED):
        yield words(chat[-1]["content"])
    for step in range(steps):
        for _, row in train.draw_rows(step, encoder, []):
            for tokens, _ in row.continuations:
                if END in tokens:
                    last = len(tokens) - tokens[::-1].index(END) - 1
                    first = max((n + 1 for n in range(last) if tokens[n] == BEGIN), default=0)
                    yield words(encoder.chat_format.decode(tokens[first:last]))


def asked_by_stranger(case: dict) -> str:
    """The words of a case's last question."""
    content = case["messages"][-1]["content"]
    if isinstance(content, list):
        content = " ".join(part["text"] for part in content if part["type"] == "text")
    return words(content or "")


def run(encoder: ExampleEncoder, steps: int = STEPS) -> list[list[str]]:
    """A table's cells: for each skill the cases, and those whose question training asked too."""
    seen = set(tqdm(asked_in_training(encoder, steps), desc="training's questions", unit=""))
    cases, same = Counter(), Counter()
    for case in load_cases():
        cases[case["skill"]] += 1
        same[case["skill"]] += asked_by_stranger(case) in seen
    rows = [[SKILLS[skill][0], str(cases[skill]), str(same[skill])] for skill in SKILLS]
    return [["skill", "cases", "asked in training too"], *rows]
