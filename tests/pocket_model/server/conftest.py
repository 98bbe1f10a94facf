"""Fixtures of the server's tests that need the tokenizer, and no model."""

from pathlib import Path

import pytest

from pocket_model.chat_format import ChatFormat
from pocket_model.server.grammar import Grammars


@pytest.fixture(scope="session")
def chat_format(model_folder: Path) -> ChatFormat:
    return ChatFormat(model_folder / "tekken.json")


@pytest.fixture(scope="session")
def grammars(chat_format: ChatFormat) -> Grammars:
    return Grammars(chat_format)
