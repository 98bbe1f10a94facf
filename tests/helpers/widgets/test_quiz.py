"""The quizzes: well formed, and not to be guessed from the place or the length of an option."""

import json
import re
from collections import Counter

import pytest
from scipy.stats import binomtest

from helpers.paths import DATA
from helpers.widgets import quiz
from labkit import notebooks

NUMBERS = sorted(path.stem for path in (DATA / "quiz").glob("*.yaml"))
QUESTIONS = [(number, question) for number in NUMBERS for question in quiz.load(number)]


def test_every_quiz_has_five_questions_of_four_different_options():
    for number in NUMBERS:
        questions = quiz.load(number)
        assert len({question.text for question in questions}) == 5, number
        for question in questions:
            assert len(set(question.options)) == 4, question.text
            assert question.text.endswith("?")
            assert question.why.endswith(".")
            assert all(isinstance(option, str) and option for option in question.options)


def test_every_notebook_that_shows_a_quiz_has_one_of_its_own():
    shown = {}
    for path in notebooks.available():
        code = "\n".join(cell.source for cell in notebooks.code_cells(notebooks.read(path)))
        if found := re.findall(r'quiz\.explore\("(\d\d)"\)', code):
            shown[path.stem[:2]] = found
    assert shown == {number: [number] for number in NUMBERS}


def test_the_order_is_the_same_each_time():
    assert quiz.load("03") == quiz.load("03")
    assert quiz.load("03")[0].options != quiz.load("04")[0].options


def test_the_right_options_are_at_every_place_about_as_often():
    places = Counter(question.right for _, question in QUESTIONS)
    assert max(places.values()) - min(places.values()) <= len(NUMBERS) // 4 + 1
    for number in NUMBERS:  # and within each quiz
        assert set(Counter(q.right for q in quiz.load(number)).values()) == {1, 2}


def test_the_length_of_an_option_does_not_give_it_away():
    """The right option has each rank by length about as often as chance would have it."""
    ranks = Counter()
    for _, question in QUESTIONS:
        lengths = [len(option) for option in question.options]
        ranks[sorted(lengths).index(lengths[question.right])] += 1
    for rank in range(4):
        assert binomtest(ranks[rank], len(QUESTIONS), 1 / 4).pvalue > 0.1, ranks


def test_the_page_holds_the_questions_and_escapes_them(monkeypatch):
    evil = quiz.Question("</script><b>?", ("<i>", "b", "c", "d"), 0, "Why.")
    monkeypatch.setattr(quiz, "load", lambda notebook: [evil])
    page = quiz.explore("00")._repr_html_()
    assert page.count("</script>") == 1
    assert "<i>" not in page
    assert json.loads(json.dumps(quiz.explore("00").data))["questions"][0]["right"] == 0


def test_without_scripts_the_questions_can_be_read_and_the_answers_are_hidden():
    shown = repr(quiz.explore("00"))
    assert "A chat has three turns." in shown
    assert quiz.load("00")[0].why not in shown


@pytest.mark.parametrize("number", ["99", "", "../00", "0"])
def test_a_notebook_without_a_quiz_gets_words(number):
    with pytest.raises(ValueError, match="There are no questions about notebook"):
        quiz.load(number)
