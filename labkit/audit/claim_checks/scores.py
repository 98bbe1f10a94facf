"""Checks of benchmark figures, from `data/published_scores` or the claim's own numbers."""

from __future__ import annotations

import math

from helpers.model import configs, sizes
from labkit.audit import published_scores
from labkit.audit.claim_checks.finding import Finding, enumerate_in_words


def mmlu_above(table: str, model: str, percent: float) -> Finding:
    """The vendor's round figure against the vendor's own model card."""
    score = published_scores.table(table).loc["MMLU", model]
    value = f"{score} % in the base model's own model card"
    return Finding(value, "right" if score > percent else "vendor claim")


def matches(table: str, group: str, model: str, rival: str) -> Finding:
    """Half true if the model is ahead on some benchmarks of a group and behind on others."""
    rows = published_scores.table(table).query("group == @group")
    ahead = list(rows.index[rows[model] >= rows[rival]])
    behind = list(rows.index[rows[model] < rows[rival]])
    value = f"ahead on {', '.join(ahead) or 'none'}; behind on {', '.join(behind) or 'none'}"
    verdict = "half true" if ahead and behind else "right" if ahead else "wrong"
    return Finding(value, verdict)


def never_lower(table: str, groups: list[str], model: str, rival: str) -> Finding:
    """Wrong if one benchmark of these groups is lower."""
    rows = published_scores.table(table).query("group in @groups")
    lower = list(rows.index[rows[model] < rows[rival]])
    return Finding(f"lower on {', '.join(lower) or 'none'}", "wrong" if lower else "right")


def beats(table: str, benchmark: str, model: str, score: float, rival: str) -> Finding:
    """Right if the model has that score (in per cent) and the rival a lower one."""
    row = published_scores.table(table).loc[benchmark]
    scale = 100 if row["unit"] == "share" else 1
    own, other = (round(scale * row[name], 2) for name in (model, rival))
    right = own > other and math.isclose(own, score, abs_tol=0.1)
    return Finding(f"{own} against {rival}'s {other}", "right" if right else "wrong")


def gain_over_base(table: str, benchmark: str, base: str, score: float, points: float) -> Finding:
    """A gain over the base model against the base model's own model card."""
    before = published_scores.table(table).loc[benchmark, base]
    value = f"the base model reports {before} %, so it would be {score - before:.1f} points"
    right = math.isclose(score - before, points, abs_tol=0.5)
    return Finding(value, "plausible" if right else "wrong")


def changed_by(before: float, after: float, percent: float) -> Finding:
    """A relative change, within two points of the claim."""
    change = 100 * (after / before - 1)
    value = f"{change:+.1f} %".replace("-", "−")
    return Finding(value, "right" if abs(change - percent) <= 2 else "wrong")


def equivalent_size(
    config: str, table: str, ability: str, billions: float, times: float
) -> Finding:
    """How many times the model's size another size is; and the vendor's factors elsewhere."""
    factor = billions * 1e9 / sizes.parameters(configs.load(config))
    others = published_scores.table(table)["Llama 2"].drop(ability)
    factors = enumerate_in_words(f"{other:.1f}" for other in others)
    value = f"{factor:.1f} times, for {ability} only; for other abilities {factors} times"
    return Finding(value, "right" if factor > times else "wrong")


def count(claimed: int, noun: str, listed: list[str]) -> Finding:
    """The number of different items in the article's own list."""
    number = len(set(listed))
    value = f"{number} {noun}"
    if number == claimed:
        return Finding(value, "right")
    return Finding(value, "half true" if 0 < number < claimed else "wrong")
