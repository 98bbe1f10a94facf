"""Two models on the same questions: what their difference is worth.

The questions are the same for both, so only those count on which the two differ: a hard question is
hard for both, and cancels. Formulas: exact McNemar (McNemar, 1947); standard errors by family
(Miller, 2024, arXiv:2411.00640, equation 4); number of questions (Connor, 1987, Biometrics 43);
several comparisons (Holm, 1979).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest, bootstrap, norm

Rights = Mapping[str, bool]  # question id → whether the answer is right


def share(right: int, of: int) -> tuple[float, float, float]:
    """The share of right answers with Wilson's 95 % interval: (share, low, high).

    Raises:
        ValueError: there are no answers.
    """
    if not of:
        raise ValueError("There are no answers, so there is no share of right ones.")
    test = binomtest(right, of)
    return test.statistic, *test.proportion_ci(method="wilson")


@dataclass(frozen=True)
class Pairs:
    """The same questions, answered by A and B: how many both, one or none answered right."""

    both: int
    only_a: int
    only_b: int
    neither: int

    @property
    def questions(self) -> int:
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def difference(self) -> float:
        """B's share of right answers minus A's."""
        return (self.only_b - self.only_a) / self.questions

    @property
    def p_value(self) -> float:
        """Exact McNemar: how often two equal models would differ by as much, or more.

        Of the questions on which they differ, each is as likely A's as B's if they are equal.
        """
        differ = self.only_a + self.only_b
        return binomtest(self.only_b, differ).pvalue if differ else 1.0


def pairs(a: Rights, b: Rights) -> Pairs:
    """Count the four cases.

    Raises:
        ValueError: there are no answers, or the two did not answer the same questions.
    """
    ids = same_questions(a, b)
    counts = [sum((bool(a[i]), bool(b[i])) == case for i in ids) for case in _CASES]
    return Pairs(*counts)


_CASES = [(True, True), (True, False), (False, True), (False, False)]


def same_questions(a: Mapping[str, object], b: Mapping[str, object]) -> list[str]:
    """The ids of the questions that both answered, in A's order.

    Raises:
        ValueError: there are none, or the two did not answer the same questions.
    """
    if not a or not b:
        raise ValueError("There is nothing to compare: one of the two has no answers.")
    if a.keys() != b.keys():
        missing = sorted(a.keys() ^ b.keys())
        raise ValueError(
            f"The two did not answer the same questions: {len(missing)} have an answer of one "
            f"alone, such as {', '.join(missing[:3])}. Ask the rest, or leave these out for both."
        )
    return list(a)


def interval(
    a: Rights, b: Rights, families: Mapping[str, str] | None = None, *, seed: int = 0
) -> tuple[float, float, float]:
    """B's share minus A's with a 95 % interval by paired bootstrap: (difference, low, high).

    Whole questions are drawn, with both answers, or whole families of questions if `families`
    names them. Questions of a family are alike, so they say less than as many different ones. The
    interval is somewhat too narrow with few families (below about 20).

    Args:
        families: question id → its family.

    Raises:
        ValueError: see `pairs`; or all questions are of one family.
    """
    sums, sizes = _by_family(a, b, families)
    difference = float(sums.sum() / sizes.sum())
    if not sums.any():
        return difference, 0.0, 0.0  # in every family the two are equal
    if len(sums) == 1:
        raise ValueError("One family alone says nothing about others: ask questions of several.")
    result = bootstrap(
        (sums, sizes),
        lambda s, n, axis=-1: s.sum(axis=axis) / n.sum(axis=axis),
        paired=True,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return difference, float(low), float(high)


def points(difference: float, low: float, high: float) -> str:
    """An interval in percentage points, such as "+27 points (+10 to +44)"."""
    return f"{100 * difference:+.0f} points ({100 * low:+.0f} to {100 * high:+.0f})"


def standard_error(a: Rights, b: Rights, families: Mapping[str, str] | None = None) -> float:
    """The standard error of B's share minus A's; by families if they are given.

    Raises:
        ValueError: see `pairs`.
    """
    sums, sizes = _by_family(a, b, families)
    deviations = sums - sizes * sums.sum() / sizes.sum()
    return float(np.sqrt((deviations**2).sum()) / sizes.sum())


def _by_family(a: Rights, b: Rights, families: Mapping[str, str] | None):
    """The differences added up by family, and the number of questions of each."""
    ids = same_questions(a, b)
    names = [families[i] for i in ids] if families else ids
    table = pd.DataFrame({"family": names, "difference": [int(b[i]) - int(a[i]) for i in ids]})
    groups = table.groupby("family", sort=False)["difference"]
    return groups.sum().to_numpy(float), groups.size().to_numpy(float)


def questions_needed(
    gap: float, disagreement: float, *, power: float = 0.8, alpha: float = 0.05
) -> int:
    """How many questions it takes to see a gap between two models.

    Args:
        gap: the true difference of their shares of right answers, such as 0.05 for 5 points.
        disagreement: the share of questions that only one of them answers right.
        power: how likely the gap is to be seen.
        alpha: how likely equal models are to look different.

    Raises:
        ValueError: the gap is 0, or larger than the disagreement.
    """
    gap = abs(gap)
    if not 0 < gap <= disagreement <= 1:
        raise ValueError(
            f"A gap of {gap:g} with a disagreement of {disagreement:g} cannot be: 0 < gap <= "
            "disagreement <= 1, because a gap comes from questions that only one answers right."
        )
    wrong_alarm, missed = norm.isf(alpha / 2), norm.isf(1 - power)
    root = wrong_alarm * math.sqrt(disagreement) + missed * math.sqrt(disagreement - gap**2)
    return math.ceil((root / gap) ** 2)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several comparisons, made larger so that one false alarm in all is as rare."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def against(
    baseline: str, rights: Mapping[str, Rights], families: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Each of several models, or ways to ask one, against a baseline.

    Returns:
        index: the names. Columns: `right` (share), `difference` (to the baseline) with its 95 %
        interval `low` and `high` by families, `only baseline` and `only this` (questions), `p`
        (exact McNemar) and `p, Holm`. The baseline has a share only.

    Raises:
        KeyError: the baseline is not among them.
        ValueError: see `pairs`.
    """
    base = rights[baseline]
    rows, others = {}, [name for name in rights if name != baseline]
    for name, right in rights.items():
        rows[name] = {"right": share(sum(right.values()), len(right))[0]}
        if name != baseline:
            both = pairs(base, right)
            difference, low, high = interval(base, right, families)
            rows[name] |= {"difference": difference, "low": low, "high": high}
            rows[name] |= {"only baseline": both.only_a, "only this": both.only_b}
            rows[name]["p"] = both.p_value
    for name, adjusted in zip(others, holm([rows[n]["p"] for n in others]), strict=True):
        rows[name]["p, Holm"] = adjusted
    return pd.DataFrame.from_dict(rows, orient="index").astype(
        {"only baseline": "Int64", "only this": "Int64"}
    )


def false_alarms(
    questions: int, right: float, rounds: int, *, seed: int = 0,
    alarm: Callable[[Pairs], bool] = lambda found: found.p_value < 0.05,
) -> float:  # fmt: skip
    """The share of rounds in which two equal models look different. They are drawn at random.

    Args:
        right: the share of questions that each answers right, independently.
        alarm: what is taken as a difference.
    """
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, rounds, questions)) < right
    counts: Iterable = zip(*(np.sum((a == x) & (b == y), axis=1) for x, y in _CASES), strict=True)
    return float(np.mean([alarm(Pairs(*map(int, each))) for each in counts]))
