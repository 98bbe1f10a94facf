"""Blind votes: the ballots, the file, and Bradley–Terry against a published fit."""

import json
import math
from collections import Counter

import numpy as np
import pytest

from helpers.compare import questions, runs, sheets, votes
from helpers.compare.questions import Question
from helpers.compare.votes import SEAT, Vote, bradley_terry
from helpers.paths import DATA

# Baseball, American League 1987 (Agresti, Categorical Data Analysis, table 10.10): the home team,
# its guest, and how often each won.
GAMES = """Milwaukee Detroit 4 3; Milwaukee Toronto 4 2; Milwaukee NewYork 4 3;
Milwaukee Boston 6 1; Milwaukee Cleveland 4 2; Milwaukee Baltimore 6 0;
Detroit Milwaukee 3 3; Detroit Toronto 4 2; Detroit NewYork 4 3; Detroit Boston 6 0;
Detroit Cleveland 6 1; Detroit Baltimore 4 3; Toronto Milwaukee 2 5; Toronto Detroit 4 3;
Toronto NewYork 2 4; Toronto Boston 4 3; Toronto Cleveland 4 2; Toronto Baltimore 6 0;
NewYork Milwaukee 3 3; NewYork Detroit 5 1; NewYork Toronto 2 5; NewYork Boston 4 3;
NewYork Cleveland 4 2; NewYork Baltimore 6 1; Boston Milwaukee 5 1; Boston Detroit 2 5;
Boston Toronto 3 3; Boston NewYork 4 2; Boston Cleveland 5 2; Boston Baltimore 6 0;
Cleveland Milwaukee 2 5; Cleveland Detroit 3 3; Cleveland Toronto 3 4;
Cleveland NewYork 4 3; Cleveland Boston 4 2; Cleveland Baltimore 2 4;
Baltimore Milwaukee 2 5; Baltimore Detroit 1 5; Baltimore Toronto 1 6;
Baltimore NewYork 2 4; Baltimore Boston 1 6; Baltimore Cleveland 3 4"""
# Estimates against Baltimore with standard errors, as R's BradleyTerry2 prints them, without and
# with the advantage of playing at home.
ALONE = {
    "Boston": (1.1077, 0.3339),
    "Cleveland": (0.6839, 0.3319),
    "Detroit": (1.4364, 0.3396),
    "Milwaukee": (1.5814, 0.3433),
    "NewYork": (1.2476, 0.3359),
    "Toronto": (1.2945, 0.3367),
}
AT_HOME = {
    "Boston": (1.1438, 0.3378),
    "Cleveland": (0.7047, 0.3350),
    "Detroit": (1.4754, 0.3446),
    "Milwaukee": (1.6196, 0.3474),
    "NewYork": (1.2813, 0.3404),
    "Toronto": (1.3271, 0.3403),
}


def games():
    for row in GAMES.split(";"):
        home, guest, home_wins, guest_wins = row.split()
        yield from [Vote("game", home, guest, "left")] * int(home_wins)
        yield from [Vote("game", home, guest, "right")] * int(guest_wins)


@pytest.mark.parametrize(("seat", "published"), [(False, ALONE), (True, AT_HOME)])
def test_baseball_as_published(seat, published):
    fitted = bradley_terry([*games()], prior_sd=math.inf, seat=seat)
    for team, expected in published.items():
        weights = np.zeros(len(fitted.names))
        weights[[fitted.names.index(team), fitted.names.index("Baltimore")]] = 1, -1
        error = math.sqrt(weights @ fitted.covariance @ weights)
        assert (weights @ fitted.values, error) == pytest.approx(expected, abs=1e-4)


def test_the_home_advantage_as_published():
    row = bradley_terry([*games()], prior_sd=math.inf).table().loc[SEAT]
    assert row["strength"] == pytest.approx(0.3023, abs=1e-4)
    assert row["high"] - row["low"] == pytest.approx(2 * 1.959964 * 0.1309, abs=1e-3)


def test_two_entrants_by_hand():
    cast = [Vote("q", "A", "B", "left")] * 6 + [Vote("q", "B", "A", "left")] * 3
    share, low, high = bradley_terry(cast, prior_sd=math.inf, seat=False).wins("A", "B")
    half = 1.959964 * math.sqrt(1 / 6 + 1 / 3)
    odds = math.log(2)
    assert share == pytest.approx(2 / 3)
    assert (low, high) == pytest.approx([1 / (1 + math.exp(-odds - s)) for s in (-half, half)])


def test_ties_are_half_wins_and_names_do_not_matter():
    tied = [Vote("q", "A", "B", "tie")] * 8
    assert bradley_terry(tied).wins("A", "B")[0] == pytest.approx(0.5)
    cast = [*games()]
    renamed = [Vote(v.question, v.left[::-1], v.right[::-1], v.choice) for v in cast]
    one, other = bradley_terry(cast), bradley_terry(renamed)
    assert one.wins("Boston", "Toronto") == pytest.approx(other.wins("notsoB", "otnoroT"))


def test_one_sided_votes_need_a_prior():
    cast = [Vote("q", "A", "B", "left")] * 3
    with pytest.raises(ValueError, match=r"only won or only lost.*Give a prior"):
        bradley_terry(cast, prior_sd=math.inf, seat=False)
    # A always beats B but for the right seat, which then wins more the more A is worth.
    seats = [Vote("q", "A", "B", "left"), Vote("q", "B", "A", "left"), Vote("q", "B", "A", "right")]
    with pytest.raises(ValueError, match=r"the seat together.*Give a prior"):
        bradley_terry(seats, prior_sd=math.inf)
    assert np.isfinite(bradley_terry(seats).table()).all(axis=None)
    balanced = [*seats, Vote("q", "A", "B", "right")]
    assert np.abs(bradley_terry(balanced, prior_sd=math.inf).values).max() < 1e-6
    share, low, high = bradley_terry(cast, seat=False).wins("A", "B")
    assert 0.5 < share < 1
    assert low < 0.5 < high
    with pytest.raises(ValueError, match="Every vote was for the left answer"):
        bradley_terry(cast)


def test_a_narrow_prior_pulls_to_equality():
    cast = [Vote("q", "A", "B", "left")] * 6 + [Vote("q", "B", "A", "right")] * 2
    shares = [bradley_terry(cast, prior_sd=sd, seat=False).wins("A", "B")[0] for sd in (0.1, 1, 9)]
    assert 0.5 < shares[0] < shares[1] < shares[2]


def test_no_votes_and_unknown_choices():
    with pytest.raises(ValueError, match="no votes yet"):
        bradley_terry([])
    with pytest.raises(ValueError, match="not one of left, right, tie"):
        Vote("q", "A", "B", "both")


ASKED = [
    Question(f"q{n}", "f", f"Question {n}?", {"rule": "exact", "text": "x"}) for n in range(200)
]


def test_ballots_have_random_seats_and_no_equal_answers():
    texts = {"A": {q.id: f"a {q.id}" for q in ASKED}, "B": {q.id: f"b {q.id}" for q in ASKED}}
    texts["B"]["q7"] = texts["A"]["q7"]
    made = votes.ballots(ASKED, texts, seed=3)
    assert {ballot.question for ballot in made} == {q.id for q in ASKED} - {"q7"}
    assert 70 < Counter(ballot.left for ballot in made)["A"] < 130
    for ballot in made:
        assert ballot.left_text == texts[ballot.left][ballot.question]
        assert ballot.right_text == texts[ballot.right][ballot.question]
    assert made != votes.ballots(ASKED, texts, seed=4)
    assert made == votes.ballots(ASKED, texts, seed=3)


@pytest.mark.parametrize("gain", [-1.0, 0.0, 1.5])
def test_a_planted_bias_is_found(gain):
    texts = {name: {q.id: f"{name} {q.id}" for q in ASKED} for name in "ABC"}
    pool = votes.ballots(ASKED, texts)
    strengths = {"A": 1.0, "B": 0.0, "C": -1.0}
    cast = votes.simulate(pool, lambda name, _: strengths[name], left_gain=gain, tie_within=0)
    table = bradley_terry(cast, prior_sd=math.inf).table()
    assert table.loc[SEAT, "strength"] == pytest.approx(gain, abs=0.35)
    assert table.loc["A", "strength"] > table.loc["B", "strength"] > table.loc["C", "strength"]


def test_votes_survive_in_a_file(tmp_path):
    file = tmp_path / "votes.jsonl"
    assert votes.read(file) == []
    cast = [Vote("q", "A", "B", "left", "abc"), Vote("q", "B", "A", "tie")]
    for vote in cast:
        votes.keep(file, vote)
    assert votes.read(file) == cast
    file.write_text('{"question": "q"}\n')
    with pytest.raises(ValueError, match="something else than votes"):
        votes.read(file)


def test_tally_counts_each_vote_for_both():
    table = votes.tally([Vote("q", "A", "B", "left"), Vote("q", "B", "A", "tie")])
    assert table.loc["A"].tolist() == [1, 0, 1]
    assert table.loc["B"].tolist() == [0, 1, 1]


def test_the_recorded_session_is_what_its_description_says():
    """`data/compare/votes.jsonl`: by a program that likes right answers and the right seat."""
    folder = DATA / "compare"
    asked, answers = (
        questions.load(folder / "questions.jsonl"),
        sheets.recorded(folder / "pocket-and-base.json"),
    )
    right = runs.score(asked, answers).rights
    pool = votes.ballots(asked, answers, seed=8)
    cast = votes.simulate(
        pool, lambda name, id_: 1.5 * right[name][id_], left_gain=-0.8, tie_within=0.4, seed=8
    )
    assert votes.read(folder / "votes.jsonl") == cast
    row = bradley_terry(cast).table().loc[SEAT]
    assert row["high"] < 0
    assert (
        json.loads((folder / "votes.jsonl").read_text().splitlines()[0])["choice"] in votes.CHOICES
    )
