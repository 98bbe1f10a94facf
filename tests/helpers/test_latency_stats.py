"""Tables of latency records, against figures computed by hand."""

import math

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from helpers import latency_stats, wire
from helpers.latency import Delta, Record
from helpers.latency_stats import summarize
from helpers.model import configs


def record_of(ttft, last, tokens, end, error=None):
    deltas = [Delta(10 + ttft, "content", "a"), Delta(10 + last, "content", "b")]
    return Record(10.0, deltas=deltas, end=10 + end, output_tokens=tokens, error=error)


def test_summary_by_hand():
    records = [
        record_of(1.0, 2.0, 11, 3.0),
        record_of(2.0, 4.0, 11, 5.0),
        record_of(3.0, 3.0, None, 4.0),
        record_of(9.0, 9.0, 2, 9.0, error="broken: badly"),
    ]
    table = summarize(records)
    assert list(table["n"]) == [3, 2, 3]
    assert list(table["failed"]) == [1, 1, 1]
    assert table.loc["TTFT (s)", "p50"] == pytest.approx(2.0)
    assert table.loc["TPOT (s)", "p50"] == pytest.approx(0.15)
    assert table.loc["end to end (s)", "max"] == pytest.approx(5.0)
    assert table[["p90", "p95", "p99", "low"]].isna().all().all()  # too few requests
    assert latency_stats.output_tokens_per_s(records) == pytest.approx(22 / 5)
    assert latency_stats.error_counts(records).to_dict() == {"broken": 1}
    assert latency_stats.goodput(records) == pytest.approx(3 / 4)
    assert latency_stats.goodput(records, ttft_s=2.5) == pytest.approx(2 / 4)
    assert latency_stats.goodput(records, ttft_s=2.5, tpot_s=0.12) == pytest.approx(1 / 4)
    assert latency_stats.level_table({4: records}, ttft_s=2.5).loc[4, "goodput"] == pytest.approx(
        2 / 4
    )


def test_output_tokens_are_counted_in_three_ways():
    deltas = [Delta(10.3, "content", "A"), Delta(10.34, "content", "BCD")]
    reply = Record(10.0, deltas=deltas, end=10.35, output_tokens=4)
    table = latency_stats.token_counts(
        [reply, record_of(1, 2, 3, 4, error="broken")], wire.count_tokens
    )
    # Mistral's vocabulary has "ABC" and "D", but no "ABCD".
    assert table.to_dict("records") == [{"usage": 4, "pieces": 2, "retokenized": 2}]
    uncounted = latency_stats.token_counts([Record(10.0, deltas=deltas, end=10.35)])
    assert uncounted[["usage", "retokenized"]].isna().all().all()


def test_the_ceilings_of_a_sweep_by_hand():
    """Mistral Small 3 in bf16 on an H100: two answers share each reading of the weights."""
    levels = {2: [record_of(1.0, 2.0, 11, 3.0), record_of(1.0, 2.0, 11, 4.0)]}
    for record in levels[2]:
        record.prompt_tokens = 95
    config = configs.load("mistral-small-3-2501")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    read = sum(p.nbytes for p in model.parameters()) - model.get_input_embeddings().weight.nbytes
    # layers, K and V, heads, dimension, bytes, tokens, users
    cache = 40 * 2 * 8 * 128 * 2 * 100 * 2
    table = latency_stats.ceilings(levels, model=config, bandwidth=3.35e12, usd_per_hour=3.6)
    assert table.loc[2, "ceiling"] == pytest.approx(2 * 3.35e12 / (read + cache), rel=1e-4)
    assert table.loc[2, "output_tokens_per_s"] == pytest.approx(22 / 4)
    counts = {"weight_bytes": 5000, "token_bytes": 30}  # a server's own
    own = latency_stats.ceilings(levels, **counts, bandwidth=1e6)
    assert own.loc[2, "ceiling"] == pytest.approx(2 * 1e6 / (5000 + 30 * 100 * 2), rel=0.01)
    assert table.loc[2, "share"] == pytest.approx(5.5 / table.loc[2, "ceiling"])
    # 3.6 USD an hour are a tenth of a cent a second
    assert table.loc[2, "usd_per_million"] == pytest.approx(0.001 / 5.5 * 1e6)
    for record in levels[2]:
        record.cost_usd = 0.0022
    assert latency_stats.ceilings(levels).loc[2, "usd_per_million"] == pytest.approx(200)
    assert math.isnan(latency_stats.ceilings(levels).loc[2, "ceiling"])
    uncounted = {1: [record_of(1.0, 2.0, None, 3.0)]}  # no count: no rate, so no price
    assert latency_stats.ceilings(uncounted, usd_per_hour=1.0).isna().all().all()
    assert latency_stats.ceilings({1: []}, model=config, bandwidth=1e12)["share"].isna().all()


def test_each_provider_has_a_row():
    records = [record_of(n, n + 1, 11, n + 2) for n in (1.0, 2.0, 5.0)]
    records += [record_of(1.0, 1.0, 2, 1.0, error="broken")]
    for record, name in zip(records, ["A", "A", "B", None], strict=True):
        record.provider, record.cost_usd = name, 0.0011
    table = latency_stats.by_provider(records)
    assert table["requests"].to_dict() == {"A": 2, "B": 1, "not reported": 1}
    assert table.loc["A", "ttft_p50"] == pytest.approx(1.5)
    assert table.loc["B", "usd_per_million"] == pytest.approx(100)
    assert table.loc["not reported", "failed"] == 1
    assert list(latency_stats.by_provider([]).index) == []


def test_percentiles_are_numpys_and_given_where_there_are_enough():
    rng = np.random.default_rng(0)
    waits = rng.exponential(1.0, 100)
    records = [record_of(wait, wait + 1, 11, wait + 2) for wait in waits]
    row = summarize(records).loc["TTFT (s)"]
    for percent in (50, 90, 95, 99):
        assert row[f"p{percent}"] == pytest.approx(np.percentile(waits, percent))
    assert summarize(records[:19]).loc["TTFT (s)", ["p90", "p95"]].isna().tolist() == [False, True]


def test_the_medians_interval_covers_the_truth_about_19_times_of_20():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        records = [record_of(wait, wait, 1, wait) for wait in rng.exponential(1.0, 30)]
        row = summarize(records).loc["TTFT (s)"]
        covered += row["low"] <= math.log(2) <= row["high"]  # the median of an exponential
    assert 88 <= covered <= 100


def test_ratios_compare_pairs():
    # B takes 1.5 times as long as A, while the machine slows down tenfold: only pairs show it.
    pairs = []
    for slow in np.linspace(1, 10, 12):
        a, b = (
            record_of(slow, 2 * slow, 11, 3 * slow),
            record_of(1.5 * slow, 3 * slow, 11, 6 * slow),
        )
        pairs.append((a, b))
    pairs.append((record_of(1, 2, 11, 3), record_of(1, 2, 11, 3, error="broken")))
    table = latency_stats.ratios(pairs)
    assert list(table["n"]) == [12, 12, 12]
    assert table["ratio"].tolist() == pytest.approx([1.5, 1.5, 2.0])
    assert table["low"].tolist() == pytest.approx(table["high"].tolist())
    assert latency_stats.ratios([])["ratio"].isna().all()


def test_no_requests_are_no_figures():
    assert list(summarize([])["n"]) == [0, 0, 0]
    assert math.isnan(latency_stats.output_tokens_per_s([]))
    assert math.isnan(latency_stats.goodput([]))
    assert latency_stats.error_counts([]).empty
    assert latency_stats.level_table({}).empty
    assert "goodput" in latency_stats.level_table({})
    assert latency_stats.token_counts([]).empty
    assert latency_stats.ceilings({}).empty


def test_a_readable_table_has_units_and_no_empty_column():
    records = {1: [record_of(0.12345, 0.5, 5, 0.6)], 4: [record_of(0.2, 0.5, 5, 0.6)]}
    shown = latency_stats.readable(latency_stats.ceilings(records, usd_per_hour=3.6))
    assert shown.index.name == "users at once"
    assert list(shown.columns) == ["tokens/s in total", "USD per million tokens"]
    shown = latency_stats.readable(latency_stats.level_table(records))
    assert shown.loc[1, "TTFT, median (s)"] == 0.123
    assert "p99" not in latency_stats.readable(summarize(records[1]))
