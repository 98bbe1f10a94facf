"""TODO."""

import json
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from pocket_training.exam_cases import TARGETS


def _order(skill: str) -> tuple[int, str]:
    names = list(TARGETS)
    return (names.index(skill) if skill in names else len(names), skill)


def _row(skill: str, verdicts: list[bool]) -> dict:
    """One line of the table, with Wilson's 95 % interval."""
    test = binomtest(sum(verdicts), len(verdicts))
    low, high = test.proportion_ci(method="wilson")
    return {
        "skill": skill,
        "right": sum(verdicts),
        "of": len(verdicts),
        "share": round(sum(verdicts) / len(verdicts), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "target": TARGETS.get(skill),
    }


def table(result: dict) -> str:
    """The result as text, one line a skill."""
    lines = [f"{'skill':46} {'right':>9} {'share':>7}  {'95 % interval':15} target"]
    for line in result["rows"]:
        if "ratio" in line:
            lines.append(
                f"{line['skill'][:46]:46} {line['of']:>9} {line['ratio']:>7.3f}  "
                f"{'':15} ≤ {line['target']:.2f}"
            )
            continue
        target = f"{line['target']:.0%}" if line["target"] else "–"
        count = f"{line['right']}/{line['of']}"
        interval = f"{line['low']:.1%} – {line['high']:.1%}"
        lines.append(f"{line['skill']:46} {count:>9} {line['share']:>7.1%}  {interval:15} {target}")
    return "\n".join(lines)


def markdown(result: dict) -> str:
    """The result as the table of the model card."""
    lines = ["| skill | right | share | 95 % interval | target |", "|---|---|---|---|---|"]
    for line in result["rows"]:
        if "ratio" in line:
            count, share, interval = line["of"], f"{line['ratio']:.3f} ×", ""
            target = f"≤ {line['target']:.2f} ×"
        else:
            count, share = f"{line['right']} of {line['of']}", f"{line['share']:.1%}"
            interval = f"{line['low']:.1%} – {line['high']:.1%}"
            target = f"{line['target']:.0%}" if line["target"] else "none"
        lines.append(f"| {line['skill']} | {count} | {share} | {interval} | {target} |")
    return "\n".join(lines)


def paired(result: dict, saved: dict) -> list[dict]:
    """Each skill of two results on the same cases: what one gets right beyond the other.

    Args:
        result: of `run`, or saved.
        saved: what it is compared with.

    Returns:
        one dict a skill: "gained" and "lost" cases, "of", and the "difference" of shares with
        its 95 % interval ("low", "high") by Newcombe's score method for paired proportions
        (Statistics in Medicine 17, 1998, method 10).

    Raises:
        ValueError: the two were judged by other rules, or not asked the same number of cases.
    """
    if result.get("rules") != saved.get("rules"):
        raise ValueError("the two were judged by different rules; evaluate both anew")
    lines = []
    for skill, verdicts in result["right"].items():
        new, old = (
            np.array([v in (True, "1") for v in r]) for r in (verdicts, saved["right"][skill])
        )
        if len(new) != len(old):
            raise ValueError(f"{skill}: {len(new)} cases against {len(old)}; ask both the same")
        low, high = _newcombe(new, old)
        lines.append(
            {
                "skill": skill,
                "gained": int((new & ~old).sum()),
                "lost": int((old & ~new).sum()),
                "of": len(new),
                "difference": round(float(new.mean() - old.mean()), 4),
                "low": round(low, 4),
                "high": round(high, 4),
            }
        )
    return lines


def _newcombe(new: np.ndarray, old: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the difference of two paired proportions."""
    n, shares, bounds = len(new), [new.mean(), old.mean()], []
    for verdicts in (new, old):
        bounds.append(binomtest(int(verdicts.sum()), n).proportion_ci(method="wilson"))
    both, neither = (new & old).sum(), (~new & ~old).sum()
    gained, lost = (new & ~old).sum(), (old & ~new).sum()
    spread = (both + gained) * (both + lost) * (neither + gained) * (neither + lost)
    product = both * neither - gained * lost
    if product > n / 2:  # the method's continuity correction
        product -= n / 2
    elif product > 0:
        product = 0
    phi = product / np.sqrt(spread) if spread else 0.0
    difference = shares[0] - shares[1]
    down, up = (shares[0] - bounds[0].low, bounds[0].high - shares[0])
    down_old, up_old = (shares[1] - bounds[1].low, bounds[1].high - shares[1])
    low = difference - np.sqrt(down**2 - 2 * phi * down * up_old + up_old**2)
    high = difference + np.sqrt(up**2 - 2 * phi * up * down_old + down_old**2)
    return float(low), float(high)


def paired_table(lines: list[dict]) -> str:
    """`paired`'s lines as text."""
    text = [f"{'skill':46} {'gained':>6} {'lost':>6} {'of':>5} {'difference':>11}  95 % interval"]
    for line in lines:
        interval = f"{line['low']:+.1%} … {line['high']:+.1%}"
        text.append(
            f"{line['skill']:46} {line['gained']:>6} {line['lost']:>6} {line['of']:>5} "
            f"{line['difference']:>+11.1%}  {interval}"
        )
    return "\n".join(text)


def save(result: dict, path: Path) -> None:
    """Write a result as JSON; the verdicts as strings of 0 and 1, case by case."""
    marks = {
        skill: "".join("01"[v] for v in verdicts) for skill, verdicts in result["right"].items()
    }
    path.write_text(
        json.dumps(result | {"right": marks}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
