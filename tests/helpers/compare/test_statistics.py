"""The paired statistics against scipy, published examples, and simulation."""

import math

import numpy as np
import pytest
from scipy.stats import bootstrap, chi2, multinomial, ttest_1samp

from helpers.compare import statistics
from helpers.compare.statistics import Pairs, against, holm, interval, pairs, questions_needed


def rights(text):
    return {f"q{n}": mark == "1" for n, mark in enumerate(text)}


def drawn(seed, questions, chance):
    rng = np.random.default_rng(seed)
    return {f"q{n}": bool(mark) for n, mark in enumerate(rng.random(questions) < chance)}


def test_share_is_wilsons_interval():
    # Newcombe (1998), Statistics in Medicine 17, table I: 81 of 263, 15 of 148, 0 of 20
    for right, of, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
    ):
        share = statistics.share(right, of)
        assert share == pytest.approx((right / of, low, high), abs=5e-5)


def test_the_four_cases_are_counted():
    found = pairs(rights("1100101"), rights("1010101"))
    assert found == Pairs(both=3, only_a=1, only_b=1, neither=2)
    assert (found.questions, found.difference) == (7, 0)


def test_mcnemar_on_published_examples():
    # Agresti, Categorical Data Analysis, table 10.1: z² = (86 − 150)² / (86 + 150) = 17.36
    approval = Pairs(both=794, only_a=150, only_b=86, neither=570)
    assert chi2.sf(17.36, 1) == pytest.approx(approval.p_value, rel=0.25)
    assert approval.difference == pytest.approx(-0.04, abs=1e-3)
    # Fagerland, Lydersen, Laake (2013), table 1 (airway hyper-responsiveness): 1, 1, 7, 12
    assert Pairs(1, 1, 7, 12).p_value == pytest.approx(0.0703, abs=5e-5)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 1), (0, 6), (3, 9), (10, 10), (40, 61)])
def test_mcnemar_is_a_sum_of_binomials(only_a, only_b):
    differ = only_a + only_b
    tail = sum(math.comb(differ, k) for k in range(min(only_a, only_b) + 1)) / 2**differ
    assert Pairs(5, only_a, only_b, 5).p_value == pytest.approx(min(1, 2 * tail))


def test_the_order_of_the_two_changes_the_sign_only():
    a, b = drawn(1, 80, 0.5), drawn(2, 80, 0.7)
    assert pairs(a, b).p_value == pairs(b, a).p_value
    assert interval(a, b)[0] == -interval(b, a)[0]


def test_a_model_against_itself_gives_nothing():
    a = drawn(3, 50, 0.6)
    families = {id_: id_[-1] for id_ in a}
    assert pairs(a, dict(a)).p_value == 1
    assert interval(a, dict(a)) == (0, 0, 0)
    assert interval(a, dict(a), families) == (0, 0, 0)
    assert statistics.standard_error(a, dict(a), families) == 0
    assert against("A", {"A": a, "the same": dict(a)}).loc["the same", "p, Holm"] == 1


def test_without_families_the_bootstrap_is_scipys_of_the_mean():
    a, b = drawn(4, 120, 0.5), drawn(5, 120, 0.65)
    differences = [int(b[i]) - int(a[i]) for i in a]
    expected = bootstrap((differences,), np.mean, n_resamples=9999, method="percentile", rng=1)
    low, high = expected.confidence_interval
    assert interval(a, b) == pytest.approx((np.mean(differences), low, high), abs=0.02)


def test_without_families_the_standard_error_is_the_means():
    a, b = drawn(6, 90, 0.4), drawn(7, 90, 0.6)
    differences = np.array([int(b[i]) - int(a[i]) for i in a])
    expected = differences.std(ddof=0) / math.sqrt(90)
    assert statistics.standard_error(a, b) == pytest.approx(expected)


def test_copies_of_a_question_add_nothing_if_they_are_a_family():
    """Each question ten times: by families the interval stays; without them it seems narrower."""
    a, b = drawn(8, 40, 0.4), drawn(9, 40, 0.6)
    copied = [{f"{i}-{n}": right for i, right in one.items() for n in range(10)} for one in (a, b)]
    families = {i: i.split("-")[0] for i in copied[0]}
    alone, by_family = interval(a, b), interval(*copied, families)
    assert by_family == pytest.approx(alone, abs=0.02)
    assert statistics.standard_error(*copied, families) == pytest.approx(
        statistics.standard_error(a, b)
    )
    low, high = interval(*copied)[1:]
    assert high - low < 0.4 * (alone[2] - alone[1])


def test_equal_families_are_a_t_test_of_their_means():
    a, b = drawn(10, 100, 0.5), drawn(11, 100, 0.6)
    families = {i: str(n // 5) for n, i in enumerate(a)}
    means = [
        np.mean([int(b[i]) - int(a[i]) for i in a if families[i] == f])
        for f in {*families.values()}
    ]
    # scipy divides by n − 1, Miller's formula by n
    expected = ttest_1samp(means, 0)
    error = np.mean(means) / expected.statistic * math.sqrt(19 / 20)
    assert statistics.standard_error(a, b, families) == pytest.approx(abs(error))


@pytest.mark.parametrize(("gap", "disagreement"), [(0.1, 0.3), (0.05, 0.1), (0.2, 0.4)])
def test_that_many_questions_show_the_gap_as_often_as_promised(gap, disagreement):
    needed = questions_needed(gap, disagreement)
    chances = [(disagreement + gap) / 2, (disagreement - gap) / 2, 1 - disagreement]
    draws = multinomial.rvs(needed, chances, size=1500, random_state=1)
    seen = np.mean([Pairs(0, int(a), int(b), int(n)).p_value < 0.05 for b, a, n in draws])
    assert 0.70 < seen < 0.86  # the exact test is a little stricter than the formula's


def test_more_questions_for_smaller_gaps_and_more_power():
    assert questions_needed(0.02, 0.2) > questions_needed(0.05, 0.2) > questions_needed(0.2, 0.2)
    assert questions_needed(0.05, 0.2, power=0.95) > questions_needed(0.05, 0.2)
    # Connor (1987): (1.96 √d + 0.8416 √(d − g²))² / g², by hand for d = 0.2, g = 0.1
    by_hand = (1.959964 * math.sqrt(0.2) + 0.841621 * math.sqrt(0.19)) ** 2 / 0.01
    assert questions_needed(-0.1, 0.2) == math.ceil(by_hand)


@pytest.mark.parametrize(("gap", "disagreement"), [(0, 0.2), (0.3, 0.2), (0.1, 1.2), (0.1, 0)])
def test_a_gap_that_cannot_be(gap, disagreement):
    with pytest.raises(ValueError, match="only one answers right"):
        questions_needed(gap, disagreement)


def test_holm_as_published():
    # R's manual, p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm")
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    # the same values in another order, and Wikipedia's example
    assert holm([0.04, 0.01, 0.03, 0.005]) == pytest.approx([0.06, 0.03, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_against_a_baseline():
    all_ = {"A": rights("111000"), "B": rights("111111"), "C": rights("000000")}
    table = against("A", all_)
    assert table.loc["A", "right"] == 0.5
    assert math.isnan(table.loc["A", "p"])
    assert table.loc["B", ["only baseline", "only this", "difference"]].tolist() == [0, 3, 0.5]
    assert table.loc["C", ["only baseline", "only this"]].tolist() == [3, 0]
    assert table.loc["B", "p"] == 0.25
    assert table.loc["B", "p, Holm"] == 0.5
    with pytest.raises(KeyError):
        against("Z", all_)


def test_equal_models_alarm_rarely():
    assert statistics.false_alarms(60, 0.5, 1000, seed=1) < 0.05
    assert statistics.false_alarms(60, 0.5, 200, alarm=lambda found: True) == 1


def test_points_in_words():
    assert statistics.points(0.271, 0.104, -0.05) == "+27 points (+10 to -5)"


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ({}, {}, "nothing to compare"),
        ({"q": True}, {}, "nothing to compare"),
        ({"q": True}, {"r": True}, "2 have an answer of one alone, such as q, r"),
        ({"q": True, "r": True}, {"q": True}, "1 have an answer of one alone, such as r"),
    ],
)
def test_empty_and_unequal_sets(a, b, message):
    for function in (pairs, interval, statistics.standard_error):
        with pytest.raises(ValueError, match=message):
            function(a, b)


def test_one_family_alone_and_no_answers():
    a, b = rights("1010"), rights("1111")
    with pytest.raises(ValueError, match="One family alone"):
        interval(a, b, dict.fromkeys(a, "only"))
    with pytest.raises(ValueError, match="no answers"):
        statistics.share(0, 0)
