"""The rules of the instructions, on answers judged by hand."""

import pytest
from scipy.stats import binomtest

from helpers.instructions import INSTRUCTIONS, score

SENTENCE = (
    "A brown cat dozed every Friday, gently humming in Jill's kitchen, loudly meowing near old "
    "pans; quietly Rex slept there, until Vera, with xylophones, yelled: zoo!"
)
FOLLOWED = {
    "a to z": [SENTENCE, SENTENCE.lower(), f"Here is one: {SENTENCE} Good?"],
    "one word": ["Paris.", "Paris"],
    "five words": ["Blue, deep, wide and cold."],
    "lower case": ["mars and venus.", "mars, 2 venus"],
    "no letter e": ["A dog can run."],
    "last words": ["Thank you for the book. See you soon!", "See you soon!\n"],
    "two given words": ["A lantern hung above the river.", "River, lantern."],
    "JSON": ['{"name": "Tom", "age": 3}', ' {"age": 3, "name": "Tom"}\n'],
    "three bullets": ["- apple\n- pear\n- fig", "- a\n\n- b\n- c\n"],
    "repeat": ["blue kites fly low", " blue kites fly low\n"],
}
VIOLATED = {
    "a to z": ["", "A big cat.", SENTENCE.replace("cat ", ""), SENTENCE[:-5], SENTENCE[2:]],
    "one word": ["", "The capital is Paris."],
    "five words": ["The sea is blue.", ""],
    "lower case": ["Mars and Venus", "", "123"],
    "no letter e": ["The dog runs.", ""],
    "last words": ["See you soon", "Thanks!"],
    "two given words": ["The riverside lanterns.", "A river."],
    "JSON": ['```json\n{"name": "Tom", "age": 3}\n```', '{"name": "Tom"}', "[]", ""],
    "three bullets": ["Fruits:\n- a\n- b\n- c", "- a\n- b", ""],
    "repeat": ["Blue kites fly low", '"blue kites fly low"'],
}
RULES = {instruction.name: instruction.violation for instruction in INSTRUCTIONS}


@pytest.mark.parametrize(("name", "text"), [(n, t) for n in FOLLOWED for t in FOLLOWED[n]])
def test_followed(name, text):
    assert RULES[name](text) is None


@pytest.mark.parametrize(("name", "text"), [(n, t) for n in VIOLATED for t in VIOLATED[n]])
def test_violated_says_why(name, text):
    assert RULES[name](text)


def test_every_rule_is_tried_both_ways():
    assert set(FOLLOWED) == set(VIOLATED) == set(RULES)


def test_the_first_violation_is_named():
    wrong = RULES["a to z"]("Well: a big dog")
    assert wrong == "2 of 26 words, then a word with 'd' instead of 'c'"
    assert RULES["a to z"]("A big") == "2 of 26 words, then nothing instead of 'c'"


def test_score_counts_and_has_an_interval():
    answers = {
        instruction.prompt: FOLLOWED[instruction.name][0] for instruction in INSTRUCTIONS[:6]
    }
    table, (share, low, high) = score(lambda prompt: answers.get(prompt, ""))
    assert share == pytest.approx(6 / len(INSTRUCTIONS))
    assert list(table["followed"]) == [True] * 6 + [False] * (len(INSTRUCTIONS) - 6)
    wilson = binomtest(6, len(INSTRUCTIONS)).proportion_ci(method="wilson")
    assert (low, high) == (wilson.low, wilson.high)


def test_no_content_is_an_empty_answer():
    """OpenAI's reference: a message's content is a string or null."""
    table, (share, *_) = score(lambda prompt: None)
    assert share == 0
    assert set(table["answer"]) == {""}
