"""Tables of latency records: percentiles, goodput, errors, providers, a sweep and its ceilings.

Times are in seconds, rates in output tokens per second. A figure that the records do not give is
`nan`. The terms (TTFT, TPOT, end to end) are defined in `helpers.latency`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from helpers.latency import Record

# How `readable` names the columns, and to how many digits it rounds them.
READABLE = {
    "output_tokens_per_s": ("tokens/s in total", 1),
    "ttft_p50": ("TTFT, median (s)", 3),
    "ttft_p99": ("TTFT, p99 (s)", 3),
    "tpot_p50": ("TPOT, median (s)", 3),
    "e2e_p50": ("end to end, median (s)", 3),
    "goodput": ("goodput", 2),
    "ceiling": ("ceiling (tokens/s)", 1),
    "share": ("share of ceiling", 3),
    "usd_per_million": ("USD per million tokens", 3),
}
MEASURES = {"TTFT (s)": "ttft_s", "TPOT (s)": "tpot_s", "end to end (s)": "e2e_s"}


def summarize(records: Sequence[Record], *, seed: int = 0) -> pd.DataFrame:
    """The distribution of the three times over the requests that succeeded.

    Returns:
        index `measure` (TTFT, TPOT, end to end); columns in seconds, except the first two: `n`,
        `failed`, `min`, `p50` with its 95 % bootstrap interval `low` and `high`, `p90`, `p95`,
        `p99`, `max`. A request without a figure does not count in that row's `n`. A percentile
        is nan if there are too few requests: p90 needs 10, p95 20, p99 100.
    """
    good = _succeeded(records)
    rows = []
    for attribute in MEASURES.values():
        times = _values(good, attribute)
        low, high = _median_interval(times, seed)
        row = {"n": len(times), "failed": len(records) - len(good), "min": times.min()}
        row |= {"p50": times.median(), "low": low, "high": high}
        row |= {f"p{percent}": _percentile(times, percent) for percent in (90, 95, 99)}
        rows.append(row | {"max": times.max()})
    return pd.DataFrame(rows, index=pd.Index(list(MEASURES), name="measure"))


def _succeeded(records: Iterable[Record]) -> list[Record]:
    return [record for record in records if record.error is None]


def _values(records: Iterable[Record], attribute: str) -> pd.Series:
    """That figure of every record that has it."""
    return pd.Series([getattr(record, attribute) for record in records], dtype=float).dropna()


def _percentile(values: pd.Series, percent: int) -> float:
    """nan unless at least one value is expected above it."""
    return values.quantile(percent / 100) if len(values) * (100 - percent) >= 100 else math.nan


def _median_interval(values: Sequence[float], seed: int) -> tuple[float, float]:
    """A 95 % percentile-bootstrap interval of the median; nan for fewer than five values."""
    if len(values) < 5:
        return math.nan, math.nan
    from scipy.stats import bootstrap

    rng = np.random.default_rng(seed)
    interval = bootstrap(
        (values,), np.median, method="percentile", n_resamples=2000, rng=rng
    ).confidence_interval
    return interval.low, interval.high


def output_tokens_per_s(records: Sequence[Record]) -> float:
    """Output tokens per second of all requests together, from the first send to the last end.

    nan if no request succeeded or the server reported no counts.
    """
    good = _succeeded(records)
    tokens = sum(record.output_tokens or 0 for record in good)
    if not tokens:
        return math.nan
    seconds = max(record.end for record in good) - min(record.sent for record in good)
    return tokens / seconds if seconds > 0 else math.nan


def goodput(
    records: Sequence[Record], *, ttft_s: float = math.inf, tpot_s: float = math.inf
) -> float:
    """The share of all requests that succeeded within an objective; nan for no requests.

    The idea is DistServe's (Zhong and others, 2024, arXiv:2401.09670). A reply of one token has no
    TPOT and meets any.

    Args:
        ttft_s: maximum seconds to the first token.
        tpot_s: maximum seconds per output token.
    """
    met = [record.ttft_s <= ttft_s and not record.tpot_s > tpot_s for record in _succeeded(records)]
    return sum(met) / len(records) if records else math.nan


def error_counts(records: Iterable[Record]) -> pd.Series:
    """The number of failed requests by kind: the error message up to the first colon."""
    kinds = [record.error.partition(":")[0] for record in records if record.error]
    return pd.Series(kinds, dtype=object).value_counts().rename_axis("error").rename("requests")


def ratios(pairs: Sequence[tuple[Record, Record]], *, seed: int = 0) -> pd.DataFrame:
    """B against A, pair by pair: the median ratio of each measure with its 95 % interval.

    Returns:
        index `measure`; columns `n` (pairs in which both have the figure), `ratio` (above 1: B is
        slower), `low`, `high`.
    """
    good = [(a, b) for a, b in pairs if a.error is None and b.error is None]
    rows = []
    for attribute in MEASURES.values():
        times = [(getattr(a, attribute), getattr(b, attribute)) for a, b in good]
        logs = pd.Series([math.log(b / a) for a, b in times if a > 0 and b > 0], dtype=float)
        low, high = _median_interval(logs, seed)
        row = {"n": len(logs), "ratio": math.exp(logs.median())}
        rows.append(row | {"low": math.exp(low), "high": math.exp(high)})
    return pd.DataFrame(rows, index=pd.Index(list(MEASURES), name="measure"))


def token_counts(
    records: Iterable[Record], count_tokens: Callable[[str], int] | None = None
) -> pd.DataFrame:
    """The output tokens of each successful reply, counted in three ways.

    A server counts the token that ends a reply, and a tokenizer may tokenize the whole text in
    another way than the model generated it. A difference of one or two is usual.

    Args:
        count_tokens: counts the tokens of a text, such as `helpers.wire.count_tokens`.

    Returns:
        index `request`, the key; columns `usage`, the server's count, which all figures here use;
        `pieces`, the deltas that carried something, which is what a tool without that count has;
        `retokenized`, the tokens of the text that came (reasoning and calls too).
    """
    rows = []
    for number, record in enumerate(_succeeded(records)):
        text = "".join(delta.text for delta in record.deltas)
        usage = math.nan if record.output_tokens is None else record.output_tokens
        retokenized = count_tokens(text) if count_tokens else math.nan
        rows.append((record.key or f"{number}", usage, len(record.deltas), retokenized))
    columns = ["request", "usage", "pieces", "retokenized"]
    return pd.DataFrame(rows, columns=columns).set_index("request")


def by_provider(records: Iterable[Record]) -> pd.DataFrame:
    """The figures of each provider that a gateway, such as OpenRouter, reports.

    Returns:
        index `provider`; columns `requests`, `failed`, the medians `ttft_p50` and `tpot_p50` in
        seconds, and `usd_per_million`: the price of a million output tokens here, their prompts
        included.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.provider or "not reported", []).append(record)
    columns = ["requests", "failed", "ttft_p50", "tpot_p50", "usd_per_million"]
    return _table("provider", groups, columns, usd_per_million=_usd_per_million)


def by_level(records: Iterable[Record]) -> dict[int, list[Record]]:
    """The records of a file as `sweep` returned them: by concurrency."""
    groups: dict[int, list[Record]] = {}
    for record in records:
        if record.concurrency is not None:
            groups.setdefault(record.concurrency, []).append(record)
    return groups


def level_table(
    levels: dict[int, list[Record]], *, ttft_s: float = math.inf, tpot_s: float = math.inf
) -> pd.DataFrame:
    """A sweep as a table: a row for each concurrency.

    Args:
        levels: from `sweep` or `by_level`.
        ttft_s, tpot_s: the objective in seconds, as for `goodput`.

    Returns:
        index `concurrency`; columns `requests`, `failed`, `output_tokens_per_s` (of all requests),
        the medians `ttft_p50`, `tpot_p50`, `e2e_p50` in seconds, and `goodput`.
    """
    columns = ["requests", "failed", "output_tokens_per_s", "ttft_p50", "tpot_p50", "e2e_p50"]
    return _table(
        "concurrency",
        levels,
        [*columns, "goodput"],
        output_tokens_per_s=output_tokens_per_s,
        goodput=partial(goodput, ttft_s=ttft_s, tpot_s=tpot_s),
    )


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """A table of this module for people: rounded, with units, without columns that are empty."""
    table = table.dropna(axis=1, how="all")
    known = {name: READABLE.get(name, (name, 3)) for name in table.columns}
    table = table.round({name: digits for name, (_, digits) in known.items()})
    table = table.rename(columns={name: words for name, (words, _) in known.items()})
    return table.rename_axis(index={"concurrency": "users at once"})


def _table(
    index: str,
    groups: dict[Any, list[Record]],
    columns: list[str],
    **figures: Callable[[list[Record]], float],
) -> pd.DataFrame:
    """A row for each group of records: counts, medians in seconds, and further figures."""
    rows = []
    for records in groups.values():
        good = _succeeded(records)
        row = {"requests": len(records), "failed": len(records) - len(good)}
        row |= {
            name.removesuffix("_s") + "_p50": _values(good, name).median()
            for name in MEASURES.values()
        }
        rows.append(row | {name: compute(records) for name, compute in figures.items()})
    return pd.DataFrame(rows, index=pd.Index(list(groups), name=index), columns=columns)


def _usd_per_million(records: Iterable[Record]) -> float:
    """USD for a million output tokens as the server bills them; nan if it reports no cost."""
    paid = [r for r in records if r.cost_usd is not None and r.output_tokens]
    tokens = sum(record.output_tokens for record in paid)
    return 1e6 * sum(record.cost_usd for record in paid) / tokens if tokens else math.nan


def ceilings(
    levels: dict[int, list[Record]],
    *,
    model: Any = None,
    scheme: str = "bf16",
    weight_bytes: int | None = None,
    token_bytes: int | None = None,
    bandwidth: float | None = None,
    usd_per_hour: float | None = None,
) -> pd.DataFrame:
    """The hardware's limit and the price of the tokens, for each level of a sweep.

    Args:
        levels: from `sweep` or `by_level`.
        model: whose weights are read: a name or config as for `helpers.model.sizes.decode_limit`.
        scheme: of the weights: bf16, fp8, int8, nf4 or nf4-dq.
        weight_bytes, token_bytes: what a step reads of the weights, and of each earlier token, if
            the server says so; then model and scheme do not count.
        bandwidth: of the memory that holds them, in bytes per second.
        usd_per_hour: the price of the machine, if it is paid by the hour.

    Returns:
        index `concurrency`; columns `output_tokens_per_s`; `ceiling`, the roofline in tokens/s for
        that many sequences of these lengths, nan without a bandwidth; `share`, how much of it was
        reached; `usd_per_million` output tokens: as the server bills them (prompts included), else
        from the price per hour, else nan.
    """
    rows = []
    for level, records in levels.items():
        rate = output_tokens_per_s(records)
        ceiling = math.nan
        if bandwidth is not None:
            good = _succeeded(records)
            context = _mean_context(good)
            if weight_bytes is None:
                ceiling = _limit(model, scheme, bandwidth, context, level)
            else:
                ceiling = level * bandwidth / (weight_bytes + level * context * (token_bytes or 0))
        usd = _usd_per_million(records)
        if math.isnan(usd) and usd_per_hour is not None:
            usd = usd_per_hour / 3600 / rate * 1e6
        rows.append((level, rate, ceiling, rate / ceiling, usd))
    columns = ["concurrency", "output_tokens_per_s", "ceiling", "share", "usd_per_million"]
    return pd.DataFrame(rows, columns=columns).set_index("concurrency")


def _mean_context(good: list[Record]) -> int:
    """How many tokens are in the cache on average: of a reply that is being generated, half."""
    lengths = [(r.prompt_tokens or 0) + (r.output_tokens or 0) / 2 for r in good]
    return round(sum(lengths) / len(lengths)) if lengths else 0


def _limit(model: Any, scheme: str, bandwidth: float, context: int, level: int) -> float:
    from helpers.model import sizes

    return sizes.decode_limit(model, scheme, bandwidth, context=context, batch=level)
