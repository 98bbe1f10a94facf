"""Fixtures for the training's tests: the real tokenizer, and examples of each kind."""

import random

import pytest

from pocket_model import tekken
from pocket_model.chat_format import ChatFormat
from pocket_training import picture_tasks, tool_tasks
from pocket_training.examples import Example, ExampleEncoder
from pocket_training.mixed_tasks import mixed_examples


@pytest.fixture(scope="session")
def tekken_file(base_tokenizer, tmp_path_factory):
    return tekken.write(tekken.convert(base_tokenizer)[0], tmp_path_factory.mktemp("tekken"))


@pytest.fixture(scope="session")
def encoder(tekken_file) -> ExampleEncoder:
    return ExampleEncoder(ChatFormat(tekken_file))


@pytest.fixture(scope="session")
def encode(encoder):
    return encoder.chat_format.encode_text


@pytest.fixture(scope="session")
def examples_of(encoder):
    """A function from a skill or a kind of picture to training examples of it."""

    def examples(kind: str) -> list[Example]:
        if kind == "mixed":
            return mixed_examples(encoder, "train", random.Random(3))
        if kind in tool_tasks.SKILLS:
            (group,) = tool_tasks.tool_groups("train", kind, groups=1, per_group=3, seed=5)
            return [encoder.tool_example(case, "numbered") for case in group]
        drawn = "two" if kind == "two_pictures" else kind
        group = next(picture_tasks.picture_groups("train", drawn, groups=1, seed=5))
        return [encoder.picture_example(case) for case in group]

    return examples
