"""TODO."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from helpers.latency import Record

MEASURES = {"TTFT (s)": "ttft_s", "TPOT (s)": "tpot_s", "end to end (s)": "e2e_s"}


def _good(records: Iterable[Record]) -> list[Record]:
    return [record for record in records if record.error is None]


def summarise(records: Sequence[Record], *, seed: int = 0) -> pd.DataFrame:
    """Spread of the three times in seconds over the requests that succeeded.

    Index ``measure`` (TTFT, TPOT, end to end); columns ``n``, ``failed``, ``min``, ``p50`` with
    its 95 % bootstrap interval ``low`` and ``high``, ``p90``, ``p95``, ``p99``, ``max``. A request
    that lacks a figure is left out of that row's ``n``. A percentile that the requests are too few
    for is nan: p90 needs 10, p95 20, p99 100.
    """
    good = _good(records)
    rows = []
    for name, attribute in MEASURES.items():
        values = _values(good, attribute)
        low, high = _interval(values, np.median, seed)
        shares = {f"p{p}": _percentile(values, p) for p in (50, 90, 95, 99)}
        rows.append(
            {
                "measure": name,
                "n": len(values),
                "failed": len(records) - len(good),
                "min": values.min() if len(values) else math.nan,
                "p50": shares.pop("p50"),
                "low": low,
                "high": high,
                **shares,
                "max": values.max() if len(values) else math.nan,
            }
        )
    return pd.DataFrame(rows).set_index("measure")


def _values(records: Iterable[Record], attribute: str) -> np.ndarray:
    """That figure of every record that has it."""
    values = np.array([getattr(record, attribute) for record in records], dtype=float)
    return values[np.isfinite(values)]


def _percentile(values: np.ndarray, percent: int) -> float:
    enough = len(values) * (100 - percent) >= 100 if percent > 50 else len(values) > 0
    return float(np.percentile(values, percent)) if enough else math.nan


def _interval(values: np.ndarray, statistic: Callable, seed: int) -> tuple[float, float]:
    """A 95 % percentile-bootstrap interval; nan below five values, which say too little."""
    if len(values) < 5:
        return math.nan, math.nan
    from scipy.stats import bootstrap

    found = bootstrap(
        (values,), statistic, method="percentile", n_resamples=2000, rng=np.random.default_rng(seed)
    )
    return found.confidence_interval.low, found.confidence_interval.high


def output_tokens_per_s(records: Sequence[Record]) -> float:
    """Output tokens of all requests together, per second from the first send to the last end.

    nan where nothing came, or nobody counted.
    """
    good = _good(records)
    tokens = sum(record.output_tokens or 0 for record in good)
    if not tokens:
        return math.nan
    seconds = max(record.end for record in good) - min(record.sent for record in good)
    return tokens / seconds if seconds > 0 else math.nan


def goodput(
    records: Sequence[Record], *, ttft_s: float = math.inf, tpot_s: float = math.inf
) -> float:
    """The share of all requests that succeeded within an objective; nan for no requests.

    A reply of one token has no TPOT and meets any.
    """
    if not records:
        return math.nan
    met = [
        record
        for record in _good(records)
        if record.ttft_s <= ttft_s and not record.tpot_s > tpot_s
    ]
    return len(met) / len(records)


def errors(records: Iterable[Record]) -> pd.Series:
    """How many requests failed, by kind: the error's words up to the first colon."""
    kinds = [record.error.partition(":")[0] for record in records if record.error]
    return pd.Series(kinds, dtype=object).value_counts().rename_axis("error").rename("requests")


def ratios(pairs: Sequence[tuple[Record, Record]], *, seed: int = 0) -> pd.DataFrame:
    """B against A, pair by pair: the median ratio of each measure with its 95 % interval.

    Index ``measure``; columns ``n`` (pairs in which both have the figure), ``ratio`` (above 1: B is
    slower), ``low``, ``high``.
    """
    rows = []
    for name, attribute in MEASURES.items():
        logs = np.array(
            [
                math.log(getattr(b, attribute) / getattr(a, attribute))
                for a, b in pairs
                if a.error is None
                and b.error is None
                and getattr(a, attribute) > 0
                and getattr(b, attribute) > 0
            ]
        )
        low, high = _interval(logs, np.median, seed)
        middle = math.exp(np.median(logs)) if len(logs) else math.nan
        rows.append((name, len(logs), middle, math.exp(low), math.exp(high)))
    columns = ["measure", "n", "ratio", "low", "high"]
    return pd.DataFrame(rows, columns=columns).set_index("measure")


def counts(
    records: Iterable[Record], count_tokens: Callable[[str], int] | None = None
) -> pd.DataFrame:
    """The output tokens of each reply that ended well, counted in three ways.

    Index ``request``, its key; columns ``usage``, the server's count, by which all figures here go;
    ``pieces``, the deltas that carried something, which is what a tool without that count has;
    ``retokenised``, the words that came (reasoning and calls too) through ``count_tokens``, such
    as `helpers.wire.count_tokens`. A server counts the token that ends a reply, and a tokenizer
    may cut a whole text otherwise than the model wrote it: a difference of one or two is usual.
    """
    rows = []
    for number, record in enumerate(_good(records)):
        words = "".join(delta.text for delta in record.deltas)
        rows.append(
            {
                "request": record.key or f"{number}",
                "usage": math.nan if record.output_tokens is None else record.output_tokens,
                "pieces": len(record.deltas),
                "retokenised": count_tokens(words) if count_tokens else math.nan,
            }
        )
    columns = ["request", "usage", "pieces", "retokenised"]
    return pd.DataFrame(rows, columns=columns).set_index("request")


def by_provider(records: Iterable[Record]) -> pd.DataFrame:
    """The figures of each provider that a gateway, such as OpenRouter, says has answered.

    Index ``provider``; columns ``requests``, ``failed``, ``ttft_p50`` and ``tpot_p50`` in seconds,
    and ``usd_per_million``: what a million output tokens cost here, their prompts included.
    """
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.provider or "not said", []).append(record)
    rows = [
        {"provider": name, **_figures(some), "usd_per_million": _usd_per_million(some)}
        for name, some in found.items()
    ]
    columns = ["provider", "requests", "failed", "ttft_p50", "tpot_p50", "usd_per_million"]
    return pd.DataFrame(rows, columns=columns).set_index("provider")


def _figures(records: Sequence[Record]) -> dict:
    """What the tables of several loads have in common: counts, and medians in seconds."""
    good = _good(records)
    counted = {"requests": len(records), "failed": len(records) - len(good)}
    medians = {
        attribute.removesuffix("_s") + "_p50": _percentile(_values(good, attribute), 50)
        for attribute in MEASURES.values()
    }
    return counted | medians


def _usd_per_million(records: Iterable[Record]) -> float:
    """USD for a million output tokens by the server's own account; nan where it names no cost."""
    paid = [r for r in records if r.cost_usd is not None and r.output_tokens]
    tokens = sum(record.output_tokens for record in paid)
    return 1e6 * sum(record.cost_usd for record in paid) / tokens if tokens else math.nan


def limits(
    found: dict[int, list[Record]],
    *,
    model: Any = None,
    scheme: str = "bf16",
    bandwidth: float | None = None,
    usd_per_hour: float | None = None,
) -> pd.DataFrame:
    """What the hardware could do at most, and what the tokens cost, beside each level of a sweep.

    Args:
        found: from `sweep` or `by_level`.
        model: whose weights are read: a name or config as for `helpers.model.fit.decode_limit`, or
            "pocket".
        scheme: what they are in: bf16, fp8, int8, nf4 or nf4-dq.
        bandwidth: of the memory that holds them, in bytes per second.
        usd_per_hour: what the machine costs, if it is paid for by the hour.

    Returns:
        index ``at once``; columns ``output_tokens_per_s``; ``ceiling``, the roofline for so many
        sequences of these lengths, nan without a bandwidth; ``share`` of it that was reached;
        ``usd_per_million`` output tokens: by the server's own account (prompts included) where it
        gives one, else by the hour, else nan.
    """
    rows = []
    for level, records in found.items():
        rate = output_tokens_per_s(records)
        ceiling = math.nan
        if bandwidth is not None:
            ceiling = _ceiling(model, scheme, bandwidth, level, _good(records))
        usd = _usd_per_million(records)
        if math.isnan(usd) and usd_per_hour is not None:
            usd = usd_per_hour / 3600 / rate * 1e6
        rows.append((level, rate, ceiling, rate / ceiling, usd))
    columns = ["at once", "output_tokens_per_s", "ceiling", "share", "usd_per_million"]
    return pd.DataFrame(rows, columns=columns).set_index("at once")


def _ceiling(model: Any, scheme: str, bandwidth: float, level: int, good: list[Record]) -> float:
    from helpers.model import fit

    if model == "pocket":
        from transformers import AutoConfig

        from pocket_model.build import ensure_built

        model = AutoConfig.from_pretrained(ensure_built())
    # Half of a reply is there while it is written, on the average.
    lengths = [(r.prompt_tokens or 0) + (r.output_tokens or 0) / 2 for r in good]
    context = round(sum(lengths) / len(lengths)) if lengths else 0
    return fit.decode_limit(model, scheme, bandwidth, context=context, batch=level)


def by_level(records: Iterable[Record]) -> dict[int, list[Record]]:
    """The records of a file as `sweep` returned them: by how many were under way at once."""
    found: dict[int, list[Record]] = {}
    for record in records:
        if record.at_once is not None:
            found.setdefault(record.at_once, []).append(record)
    return found


def levels(
    found: dict[int, list[Record]], *, ttft_s: float = math.inf, tpot_s: float = math.inf
) -> pd.DataFrame:
    """A sweep as a table: a row for each concurrency.

    Columns: ``requests``, ``failed``, ``output_tokens_per_s`` (of all), ``ttft_p50``, ``tpot_p50``,
    ``e2e_p50`` in seconds, and ``goodput``, the share within the objective.
    """
    rows = [
        {
            "at once": level,
            **_figures(records),
            "output_tokens_per_s": output_tokens_per_s(records),
            "goodput": goodput(records, ttft_s=ttft_s, tpot_s=tpot_s),
        }
        for level, records in found.items()
    ]
    columns = ["requests", "failed", "output_tokens_per_s", "ttft_p50", "tpot_p50", "e2e_p50"]
    return pd.DataFrame(rows, columns=["at once", *columns, "goodput"]).set_index("at once")
