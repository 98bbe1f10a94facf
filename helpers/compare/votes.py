"""Blind votes between two answers, and what they say: Bradley–Terry with the seat as a factor.

Who votes sees two answers in random order without names. The model (Bradley and Terry, 1952) gives
each entrant a strength: the log-odds that A wins over B are A's strength minus B's. One more number
is for the seat: how much the answer on the left gains by being there. A tie is half a win for both.
"""

import hashlib
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import linprog, minimize
from scipy.sparse.csgraph import connected_components
from scipy.special import expit
from scipy.stats import norm

from helpers import jsonl
from helpers.compare.questions import Question

CHOICES = ("left", "right", "tie")
SEAT = "left seat"
PRIOR_SD = 2.0  # of a strength; a win rate beyond 98 % is then thought unlikely before the votes


@dataclass(frozen=True)
class Ballot:
    """Two answers to a question. The names are not shown before the vote."""

    question: str
    prompt: str
    left: str
    right: str
    left_text: str
    right_text: str

    def vote(self, choice: str) -> "Vote":
        """A vote on this ballot."""
        texts = f"{self.left_text}\0{self.right_text}".encode("utf-8", "replace")
        digest = hashlib.sha256(texts).hexdigest()[:12]
        return Vote(self.question, self.left, self.right, choice, digest)


@dataclass(frozen=True)
class Vote:
    """What was chosen on a ballot: "left", "right" or "tie".

    `texts` is a hash of both answers: a vote on other answers is another one.
    """

    question: str
    left: str
    right: str
    choice: str
    texts: str = ""

    def __post_init__(self):
        if self.choice not in CHOICES:
            raise ValueError(f"choice: {self.choice!r} is not one of {', '.join(CHOICES)}")


def ballots(
    questions: Sequence[Question], answers: Mapping[str, Mapping[str, str]], *, seed: int = 0
) -> list[Ballot]:
    """A ballot for each question and each two entrants, in random order, with random seats.

    Equal answers make no ballot: there is nothing to choose.

    Args:
        answers: for each entrant, question id → answer.
    """
    rng = random.Random(seed)
    made = []
    for question in questions:
        for pair in combinations(answers, 2):
            left, right = rng.sample(pair, 2)
            texts = answers[left][question.id], answers[right][question.id]
            if texts[0] != texts[1]:
                made.append(Ballot(question.id, question.prompt, left, right, *texts))
    rng.shuffle(made)
    return made


def keep(path: str | Path, vote: Vote) -> None:
    """Append a vote to a JSONL file at once, so that a closed page loses nothing."""
    jsonl.append(path, asdict(vote))


def read(path: str | Path) -> list[Vote]:
    """The votes of a file; none if there is no file.

    Raises:
        ValueError: a line is damaged, or no vote.
    """
    records = jsonl.read(path) if Path(path).exists() else []
    try:
        return [Vote(**record) for record in records]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} holds something else than votes: {error}") from None


def simulate(
    ballots: Sequence[Ballot],
    quality: Callable[[str, str], float],
    *,
    left_gain: float = 0.0,
    tie_within: float = 0.5,
    seed: int = 0,
) -> list[Vote]:
    """Votes of a program, not of a person: it likes quality, and perhaps the left seat.

    Args:
        quality: takes an entrant's name and a question's id; a difference of 1 is one unit of
            log-odds.
        left_gain: what the left answer gains by its seat, in the same unit.
        tie_within: half the width of the noisy differences that it calls a tie.
    """
    rng = np.random.default_rng(seed)
    votes = []
    for ballot in ballots:
        noisy = quality(ballot.left, ballot.question) - quality(ballot.right, ballot.question)
        noisy += left_gain + rng.logistic()
        choice = "tie" if abs(noisy) < tie_within else "left" if noisy > 0 else "right"
        votes.append(ballot.vote(choice))
    return votes


@dataclass(frozen=True)
class Strengths:
    """Fitted strengths in log-odds; their mean is 0.

    Attributes:
        names: the entrants, and `SEAT` last if it was fitted.
        values: one for each name.
        covariance: of the values, shape (names, names).
    """

    names: tuple[str, ...]
    values: np.ndarray
    covariance: np.ndarray

    def table(self) -> pd.DataFrame:
        """Index: the names; columns: `strength` with its 95 % interval `low` and `high`."""
        half = norm.isf(0.025) * np.sqrt(np.diag(self.covariance))
        columns = {"strength": self.values, "low": self.values - half, "high": self.values + half}
        return pd.DataFrame(columns, index=pd.Index(self.names, name="entrant"))

    def wins(self, a: str, b: str) -> tuple[float, float, float]:
        """How often A wins over B in equal seats, with its 95 % interval: (share, low, high).

        Raises:
            ValueError: one of them is not in the votes.
        """
        weights = np.zeros(len(self.names))
        weights[self.names.index(a)] += 1
        weights[self.names.index(b)] -= 1
        log_odds = weights @ self.values
        half = norm.isf(0.025) * math.sqrt(weights @ self.covariance @ weights)
        return tuple(float(expit(log_odds + step)) for step in (0, -half, half))


def bradley_terry(
    votes: Sequence[Vote], *, prior_sd: float = PRIOR_SD, seat: bool = True
) -> Strengths:
    """Fit the strengths by the largest posterior; intervals are from its curvature.

    Args:
        prior_sd: standard deviation of a normal prior around 0 for each strength. It keeps a
            strength finite if an entrant has won or lost every time. `math.inf` means no prior.
        seat: fit the gain of the left seat too. It has no prior: both seats see all entrants.

    Raises:
        ValueError: there are no votes, or there is no prior and the votes have no finite answer.
    """
    if not votes:
        raise ValueError("There are no votes yet.")
    names = sorted({name for vote in votes for name in (vote.left, vote.right)})
    place = {name: number for number, name in enumerate(names)}
    left, right = (np.array([place[getattr(v, s)] for v in votes]) for s in ("left", "right"))
    won = np.array([{"left": 1.0, "right": 0.0, "tie": 0.5}[vote.choice] for vote in votes])
    if math.isinf(prior_sd):
        _require_comparable(names, left, right, won)
    if seat and won.min() == won.max() and won[0] != 0.5:
        raise ValueError(
            f"Every vote was for the {votes[0].choice} answer, so the gain of the seat has no "
            "limit. Such votes say nothing about the models: seat=False ignores the seat."
        )
    design = np.zeros((len(votes), len(names) + seat))
    design[np.arange(len(votes)), left] += 1
    design[np.arange(len(votes)), right] -= 1
    if seat:
        design[:, -1] = 1
    if seat and math.isinf(prior_sd):
        _require_finite(design, won)
    precision = np.zeros(design.shape[1])
    precision[: len(names)] = 0 if math.isinf(prior_sd) else prior_sd**-2

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        odds = design @ values
        cost = np.logaddexp(0, odds) - won * odds
        gradient = design.T @ (expit(odds) - won) + precision * values
        return float(cost.sum() + (precision * values**2).sum() / 2), gradient

    fit = minimize(loss, np.zeros(design.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-8})
    chance = expit(design @ fit.x)
    curvature = design.T @ (design * (chance * (1 - chance))[:, None]) + np.diag(precision)
    # Only differences count, so the mean is put at 0.
    center = np.eye(design.shape[1])
    center[: len(names), : len(names)] -= 1 / len(names)
    covariance = center @ np.linalg.pinv(curvature, hermitian=True) @ center.T
    return Strengths((*names, *[SEAT] * seat), center @ fit.x, covariance)


def _require_comparable(names: list[str], left, right, won) -> None:
    """Without a prior each entrant must be linked to each other by wins in both directions."""
    beats = np.zeros((len(names), len(names)))
    np.add.at(beats, (left, right), won)
    np.add.at(beats, (right, left), 1 - won)
    if connected_components(beats, connection="strong")[0] > 1:
        raise ValueError(
            "Some entrants have only won or only lost against the others, so without a prior "
            "their strengths have no limit. Give a prior, such as prior_sd=2, or vote more."
        )


def _require_finite(design: np.ndarray, won: np.ndarray) -> None:
    """No direction may explain each vote better the farther one goes, or no answer is the best."""
    sign = 2 * won - 1  # 0 for a tie, which no such direction may touch
    better = design * sign[:, None]
    ties = design[sign == 0] if (sign == 0).any() else None
    found = linprog(
        -better.sum(axis=0),
        A_ub=np.vstack([-better, better]),
        b_ub=np.repeat([0.0, 1.0], len(won)),
        A_eq=ties,
        b_eq=None if ties is None else np.zeros(len(ties)),
        bounds=(None, None),
    )
    if -found.fun > 1e-6:
        raise ValueError(
            "Strengths and the seat together explain some votes without a rest, so without a prior "
            "they have no limit. Give a prior, such as prior_sd=2, or vote more."
        )


def tally(votes: Sequence[Vote]) -> pd.DataFrame:
    """Wins, losses and ties of each entrant. Index: the entrants."""
    counts: dict[str, dict[str, int]] = {}
    for vote in votes:
        for name, seat in ((vote.left, "left"), (vote.right, "right")):
            row = counts.setdefault(name, {"wins": 0, "losses": 0, "ties": 0})
            kind = "ties" if vote.choice == "tie" else "wins" if vote.choice == seat else "losses"
            row[kind] += 1
    return pd.DataFrame.from_dict(counts, orient="index").sort_index().rename_axis("entrant")
