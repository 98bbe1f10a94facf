"""Tables of an evaluation: with intervals, against the targets, and against another result."""

import json
from pathlib import Path

import numpy as np
from scipy.stats import binomtest


def share_row(label: str, target: float | None, scores: list[bool]) -> dict:
    """One row of the result for a skill, with Wilson's 95 % interval."""
    right, cases = sum(scores), len(scores)
    low, high = binomtest(right, cases).proportion_ci(method="wilson")
    return _rounded(
        skill=label, right=right, of=cases, share=right / cases, low=low, high=high, target=target
    )


def chat_row(base_losses: list[float], losses: list[float]) -> dict:
    """The row for chat: the mean loss on the base's replies over the base's own, in nats."""
    label, target = "chat kept: loss on the base's replies, over the base's own", 1.05
    base, own = float(np.mean(base_losses)), float(np.mean(losses))
    return _rounded(
        skill=label, of=len(losses), base_nats=base, nats=own, ratio=own / base, target=target
    )


def _rounded(**values) -> dict:
    return {key: round(v, 4) if isinstance(v, float) else v for key, v in values.items()}


def table(result: dict) -> list[list[str]]:
    """A result's rows as cells, the header first."""
    cells = [["skill", "right", "share", "95 % interval", "target"]]
    for row in result["rows"]:
        if "ratio" in row:
            columns = [str(row["of"]), f"{row['ratio']:.3f} ×", "", f"≤ {row['target']:.2f} ×"]
        else:
            target = f"{row['target']:.0%}" if row["target"] else "none"
            interval = f"{row['low']:.1%} – {row['high']:.1%}"
            columns = [f"{row['right']} of {row['of']}", f"{row['share']:.1%}", interval, target]
        cells.append([row["skill"], *columns])
    return cells


def paired_table(rows: list[dict]) -> list[list[str]]:
    """The rows of `paired` as cells, the header first."""
    cells = [["skill", "gained", "lost", "of", "difference", "95 % interval"]]
    for row in rows:
        counts = [str(row[key]) for key in ("gained", "lost", "of")]
        interval = f"{row['low']:+.1%} – {row['high']:+.1%}"
        cells.append([row["skill"], *counts, f"{row['difference']:+.1%}", interval])
    return cells


def as_text(cells: list[list[str]]) -> str:
    """Cells as aligned columns."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [[cell.ljust(w) for cell, w in zip(row, widths, strict=True)] for row in cells]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def as_markdown(cells: list[list[str]]) -> str:
    """Cells as the model card has them."""
    header, *rows = (f"| {' | '.join(row)} |" for row in cells)
    return "\n".join([header, "|---" * len(cells[0]) + "|", *rows])


def paired(result: dict, saved: dict) -> list[dict]:
    """Each skill of two results, on the first cases that both have: what one gets right beyond.

    A skill that only one of them has is left out.

    Args:
        result: of `evaluate.run`, or saved.
        saved: what it is compared with.

    Returns:
        one dict a skill: "gained" and "lost" cases, "of", and the "difference" of shares with
        its 95 % interval ("low", "high") by Newcombe's score method for paired proportions
        (Statistics in Medicine 17, 1998, method 10).

    Raises:
        ValueError: the two were scored in different ways, or have no case in common.
    """
    if result.get("scoring_version") != saved.get("scoring_version"):
        raise ValueError("the two were scored in different ways; evaluate both again")
    rows = []
    for skill, scores in result["right"].items():
        both = (scores, saved["right"].get(skill, ()))
        common = min(map(len, both))  # the first cases are the same, whatever their number
        if not common:
            continue
        new, old = (np.array([mark in (True, "1") for mark in marks[:common]]) for marks in both)
        low, high = newcombe_interval(new, old)
        gained, lost = int((new & ~old).sum()), int((old & ~new).sum())
        counts = {"skill": skill, "gained": gained, "lost": lost, "of": len(new)}
        difference = float(new.mean() - old.mean())
        rows.append(_rounded(**counts, difference=difference, low=low, high=high))
    if not rows:
        raise ValueError("the two results have no case in common")
    return rows


def newcombe_interval(new: np.ndarray, old: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the difference of two paired proportions, from (cases,) of bools."""
    cases, share, share_old = len(new), new.mean(), old.mean()
    tests = (binomtest(int(scores.sum()), cases) for scores in (new, old))
    bounds, bounds_old = (test.proportion_ci(method="wilson") for test in tests)
    both, neither = (new & old).sum(), (~new & ~old).sum()
    gained, lost = (new & ~old).sum(), (old & ~new).sum()
    spread = (both + gained) * (both + lost) * (neither + gained) * (neither + lost)
    product = both * neither - gained * lost
    if product > 0:  # the method's continuity correction
        product = max(product - cases / 2, 0)
    phi = product / np.sqrt(spread) if spread else 0.0
    down, up = share - bounds.low, bounds.high - share
    down_old, up_old = share_old - bounds_old.low, bounds_old.high - share_old
    low = share - share_old - np.sqrt(down**2 - 2 * phi * down * up_old + up_old**2)
    high = share - share_old + np.sqrt(up**2 - 2 * phi * up * down_old + down_old**2)
    return float(low), float(high)


def save(result: dict, path: Path) -> None:
    """Write a result as JSON; the scores as strings of 0 and 1, case by case."""
    marks = {skill: "".join("01"[v] for v in scores) for skill, scores in result["right"].items()}
    text = json.dumps(result | {"right": marks}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
