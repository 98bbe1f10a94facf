"""The list of words that are not the field's own: each is found, usual words are let through."""

import re

import pytest

from labkit import vocabulary
from labkit.freshness import PACKAGES


@pytest.mark.parametrize(
    ("sentence", "plain"),
    [
        ("A model without eyes.", "vision encoder"),
        ("Two wishes in one reply.", "tool call"),
        ("A failure befalls it.", "affects"),
        ("The examination has 400 cases.", "evaluation"),
        ("It is cut into tokens.", "tokenize"),
        ("Text is cut again into tokens.", "tokenize"),
        ("How many tokens read?", "prompt tokens"),
        ("Drawn by lot.", "at random"),
        ("No graphics card is needed.", "GPU"),
        ("It fits on one card.", "GPU"),
        ("The processor is slow.", "CPU"),
        ("For the reader it is fast.", "user"),
        ("Kanji are dearer.", "expensive"),
        ("The list stands below.", "is"),
        ("Whoever has no key.", "if you"),
        ("It was told on.", "forwarded"),
        ("How to mend it.", "fix"),
        ("Bring it on a stick.", "copy"),
        ("The word predictor is tied.", "lm_head"),
        ("With a stopwatch.", "timer"),
    ],
)
def test_a_word_is_found_and_replaced(sentence, plain):
    (problem,) = vocabulary.problems(sentence)
    assert plain in problem


def test_every_word_of_the_list_is_tested():
    marks = test_a_word_is_found_and_replaced.pytestmark
    sentences = " ".join(sentence for sentence, _ in marks[0].args[1])
    assert len(list(vocabulary.problems(sentences))) == len(marks[0].args[1])
    for pattern in vocabulary.DIALECT:
        assert re.search(rf"\b(?:{pattern})\b", sentences, re.IGNORECASE), pattern


@pytest.mark.parametrize(
    "text",
    [
        "See the model card and the model's card.",
        "API stands for application programming interface. One value stands out.",
        "A logits processor, an image processor.",
        "`fit --card 4090` and `eyes`.",
        "```\neyes = wish\n```",
        "The reading order; a reader; a second-language reader.",
        "This is recommended. Dear Sir,",
    ],
)
def test_usual_words_are_let_through(text):
    assert list(vocabulary.problems(text)) == []


def test_comments_are_comments_and_docstrings():
    source = (
        '"""About the module."""\nx = "a string"  # a comment\n\n\n'
        'def f():\n    """About f."""\n    return "#"\n'
    )
    texts = set(vocabulary.comments(source).split("\n\n"))
    assert texts == {"# a comment", "About the module.", "About f."}


def test_documents_and_code_are_checked(tmp_path):
    for name in vocabulary.DOCUMENTS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("Plain.\n\nIt is on\none card.\n")
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "module.py").write_text("eyes = 1  # it has eyes\n")
    problems = list(vocabulary.check_files(tmp_path))
    assert len(problems) == len(vocabulary.DOCUMENTS) + len(PACKAGES)
    assert 'README.md: dialect: "card" in "Plain. It is on one card."' in problems[0]
    assert problems[-1].startswith("pocket_training/module.py: dialect: ")


def test_the_kits_own_documents_and_code_use_the_fields_words():
    assert list(vocabulary.check_files()) == []
