"""A sweep as a page and as text: a table, and a plot with a point for each request."""

import html
import math
from pathlib import Path

import pandas as pd

from helpers import latency_stats
from helpers.latency import Record
from helpers.widgets.dashboard.measuring import Sweep

STYLE = Path(__file__).parents[1].joinpath("dashboard.css").read_text(encoding="utf-8")
COLUMNS = ["requests", "failed", "output_tokens_per_s", "ttft_p50", "tpot_p50"]
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 620, 170, 64, 34, 18  # of the plot, in pixels
NOTHING = "No request has ended yet."


def figures(sweep: Sweep) -> pd.DataFrame:
    """The figures of each level so far, as `latency_stats.level_table` computes them."""
    # A copy: the sweep may add a record meanwhile.
    levels = {level: list(records) for level, records in list(sweep.records.items())}
    return latency_stats.level_table(levels)[COLUMNS]


def points(sweep: Sweep) -> list[tuple[float, float, Record]]:
    """For each request: when it ended (s after the first was sent), its TTFT (s), and its record.

    The TTFT of a request that failed is nan.
    """
    records = [record for level in list(sweep.records.values()) for record in list(level)]
    if not records:
        return []
    start = min(record.sent for record in records)
    return [
        (record.end - start, math.nan if record.error else record.ttft_s, record)
        for record in records
    ]


def as_html(sweep: Sweep) -> str:
    """The sweep as HTML that needs neither a kernel nor a script."""
    parts = [f'<p class="kd-note"><b>{html.escape(sweep.server)}</b></p>' if sweep.server else ""]
    if sweep.error:
        parts.append(f'<p class="kd-error"><b>The sweep ended.</b> {html.escape(sweep.error)}</p>')
    if not sweep.records:
        return f'<div class="kd">{parts[0]}{"".join(parts[1:])}<p>{NOTHING}</p></div>'
    table = latency_stats.readable(figures(sweep)).fillna("")
    failed = latency_stats.error_counts(
        record for records in list(sweep.records.values()) for record in list(records)
    )
    parts += [table.reset_index().to_html(index=False, border=0, classes="kd-table"), plot(sweep)]
    parts += [
        f'<p class="kd-note">{count} failed: {html.escape(str(kind))}</p>'
        for kind, count in failed.items()
    ]
    return f'<div class="kd">{"".join(parts)}</div>'


def plot(sweep: Sweep) -> str:
    """A point for each request as SVG: to the right when it ended, upwards its TTFT."""
    made = points(sweep)
    last = max([end for end, _, _ in made] + [0.1])
    highest = max([ttft for _, ttft, _ in made if not math.isnan(ttft)] + [0.01])
    across, up = WIDTH - LEFT - 10, HEIGHT - BOTTOM - TOP

    def x(seconds: float) -> float:
        return round(LEFT + across * seconds / last, 1)

    def y(seconds: float) -> float:
        return round(HEIGHT - BOTTOM - up * seconds / highest, 1)

    marks, level = [], None
    for end, ttft, record in made:
        if record.concurrency != level:
            level = record.concurrency
            began = x(max(0.0, record.sent - made[0][2].sent)) if marks else LEFT
            marks.append(
                f'<path class="kd-line" d="M{began} {TOP}V{HEIGHT - BOTTOM}"/>'
                f'<text x="{began + 3}" y="{TOP - 5}">{_users(level)}</text>'
            )
        if math.isnan(ttft):
            marks.append(
                f'<text class="kd-failed" x="{x(end)}" y="{y(0) - 3}" text-anchor="middle">✗</text>'
            )
        else:
            marks.append(f'<circle class="kd-dot" cx="{x(end)}" cy="{y(ttft)}" r="3.5"/>')
    axis = (
        f'<path class="kd-axis" d="M{LEFT} {TOP}V{y(0)}H{LEFT + across}"/>'
        f'<text x="{LEFT - 6}" y="{y(highest) + 4}" text-anchor="end">{highest:.3g} s</text>'
        f'<text x="{LEFT - 6}" y="{y(0)}" text-anchor="end">0 s</text>'
        f'<text x="{x(last)}" y="{HEIGHT - 18}" text-anchor="end">{last:.3g} s</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 3}">'
        "a point is a request: when it ended, and its TTFT (✗ failed)</text>"
    )
    label = f"TTFT of {len(made)} requests, up to {highest:.3g} seconds"
    return (
        f'<svg class="kd-plot" role="img" aria-label="{label}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}">{axis}{"".join(marks)}</svg>'
    )


def as_text(sweep: Sweep) -> str:
    """The sweep as text for a terminal."""
    lines = [sweep.server] if sweep.server else []
    lines += [f"The sweep ended. {sweep.error}"] if sweep.error else []
    if not sweep.records:
        return "\n".join([*lines, NOTHING])
    return "\n".join([*lines, latency_stats.readable(figures(sweep)).to_string()])


def style() -> str:
    """The style sheet, as an element."""
    return f"<style>{STYLE.strip()}</style>"


def _users(level: int | None) -> str:
    return "1 user" if level == 1 else f"{level} users"
