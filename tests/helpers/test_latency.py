"""Timings against a scripted server, whose figures were worked out by hand from its scripts.

A busy machine delays server and client by more than the tolerance, so a few attempts are made and
one must be right: a wrong definition is wrong in all of them. How exact the stopwatch is on a quiet
machine is measured by `benchmarks/latency_accuracy.py`.
"""

import json
import math
import signal
import subprocess
import sys
import time

import numpy as np
import openai
import pytest
import torch
from transformers import AutoModelForCausalLM

from helpers import latency, latency_stats, wire
from helpers.latency import Delta, Record, run_load, stream_once
from helpers.latency_stats import summarise
from helpers.model import configs
from helpers.paths import DATA

TOLERANCE_S = 0.030
ATTEMPTS = 8
SERVER = DATA.parent / "benchmarks" / "scripted_server.py"


@pytest.fixture(scope="module")
def client():
    server = subprocess.Popen(
        [sys.executable, str(SERVER), "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    url = server.stdout.readline().strip()
    with openai.OpenAI(base_url=url, api_key="none") as connected:
        stream_once(connected, "no usage", "the client imports lazily, and connects")
        yield connected
    server.kill()
    server.wait()


# Of each script, in seconds, worked out by hand: TTFT, TPOT, end to end.
BY_HAND = {
    "golden": (0.300, (0.340 - 0.300) / 3, 0.350),
    "comments": (0.100, 0.030 / 3, 0.140),
    "split": (0.120, 0.030 / 3, 0.160),
    "usage on a chunk": (0.100, 0.030 / 3, 0.140),
    "reasoning": (0.100, 0.030 / 3, 0.140),
    "tool call": (0.100, 0.030 / 3, 0.140),
    "no usage": (0.100, math.nan, 0.140),
    "steady-50-11-10": (0.050, 0.010, 0.150),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_times_are_those_of_the_script(client, name):
    wanted = BY_HAND[name]
    for _ in range(ATTEMPTS):
        record = stream_once(client, name, "hello")
        assert record.error is None
        got = (record.ttft_s, record.tpot_s, record.e2e_s)
        # The server's clock starts when the request has arrived: nothing can come before that.
        assert record.ttft_s > wanted[0] - 0.001
        assert record.e2e_s > wanted[2] - 0.001
        if np.allclose(got, wanted, rtol=0, atol=TOLERANCE_S, equal_nan=True):
            return
    pytest.fail(f"{got} instead of {wanted}, {ATTEMPTS} times")


def test_the_role_only_delta_is_kept_apart(client):
    record = stream_once(client, "golden", "hello")
    assert 0.099 < record.role_only - record.sent < record.ttft_s
    assert record.usage > record.deltas[-1].at


def test_figures_exactly():
    deltas = [Delta(5.300, "content", "A"), Delta(5.340, "content", "BCD")]
    record = Record(5.0, role_only=5.1, deltas=deltas, end=5.350, output_tokens=4)
    assert record.ttft_s == pytest.approx(0.300)
    assert record.tpot_s == pytest.approx(0.040 / 3)
    assert record.e2e_s == pytest.approx(0.350)


def test_an_open_loops_clock_starts_with_the_schedule():
    record = Record(5.0, scheduled=3.0, deltas=[Delta(5.3, "content", "A")], end=5.35)
    assert record.ttft_s == pytest.approx(2.3)
    assert record.e2e_s == pytest.approx(2.35)


CONTENT = {
    "golden": ([("content", "A"), ("content", "BCD")], "ABCD", "stop"),
    "split": ([("content", "é"), ("content", "BCD")], "éBCD", "stop"),
    "reasoning": ([("reasoning", "hm"), ("content", "BCD")], "BCD", "stop"),
    "tool call": ([("tool_call", "add"), ("tool_call", '{"a": 1}')], "", "tool_calls"),
}


@pytest.mark.parametrize("name", CONTENT)
def test_what_arrived(client, name):
    record = stream_once(client, name, "hello")
    deltas, text, finish = CONTENT[name]
    assert [(delta.kind, delta.text) for delta in record.deltas] == deltas
    assert (record.text, record.finish_reason) == (text, finish)
    assert (record.prompt_tokens, record.output_tokens) == (7, 4)


FAILURES = {  # script: what the error says
    "error": "the provider failed",
    "truncated": "without a finish_reason",
    "cut": "incomplete",
    "garbage": "JSON",
    "odd": "not a chunk",
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_broken_stream_is_an_error_and_keeps_what_came(client, name):
    record = stream_once(client, name, "hello")
    assert record.text == "A"
    assert FAILURES[name] in record.error
    assert record.e2e_s > 0.1


def test_a_refusal_is_recorded_not_raised(client):
    record = stream_once(client, "no such script", "hello")
    assert "no script" in record.error
    assert math.isnan(record.ttft_s)
    assert record.e2e_s > 0


def test_a_server_that_stalls_is_given_up(client):
    begun = time.monotonic()
    record = stream_once(client, "stall", "hello", time_limit_s=0.5)
    assert time.monotonic() - begun < 20  # of the 60 s that it would take
    assert record.text == "A"
    assert "Timeout" in record.error


def test_a_stream_that_never_ends_is_given_up(client):
    record = stream_once(client, "steady-10-10000-10", "hello", time_limit_s=0.5)
    assert "longer than 0.5 s" in record.error
    assert record.deltas


def test_nobody_there(client):
    with openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="none") as nobody:
        records = run_load(nobody, "golden", ["a", "b"], concurrency=2)
    assert all("Connection" in record.error for record in records)
    assert latency_stats.errors(records).sum() == 2
    assert math.isnan(latency_stats.output_tokens_per_s(records))
    assert list(summarise(records)["n"]) == [0, 0, 0]


# --- loads ------------------------------------------------------------------------------------


def overlap(records) -> int:
    """Most requests under way at once."""
    moments = [(r.sent, 1) for r in records] + [(r.end, -1) for r in records]
    under_way = most = 0
    for _, step in sorted(moments):
        under_way += step
        most = max(most, under_way)
    return most


def test_a_closed_loop_has_so_many_under_way(client):
    for level in (1, 3):
        records = run_load(client, "golden", [f"{n}" for n in range(6)], concurrency=level)
        assert [record.text for record in records] == ["ABCD"] * 6
        assert overlap(records) == level
        seconds = max(r.end for r in records) - min(r.sent for r in records)
        assert latency_stats.output_tokens_per_s(records) == pytest.approx(24 / seconds)


def test_an_open_loop_sends_on_schedule_whatever_the_server_does(client):
    records = run_load(client, "golden", [f"{n}" for n in range(8)], rate=20, arrivals="constant")
    due = [record.scheduled - records[0].scheduled for record in records]
    assert due == pytest.approx([n / 20 for n in range(8)])
    assert all(record.sent >= record.scheduled for record in records)
    assert overlap(records) >= 4  # each takes 350 ms, and one comes every 50 ms


def test_poisson_arrivals_have_the_rate_and_the_spread_of_strangers():
    offsets = latency._offsets(20_000, 50.0, "poisson", seed=1)
    gaps = np.diff(offsets)
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.05)
    assert gaps.std() == pytest.approx(1 / 50, rel=0.05)  # of an exponential: equal to its mean
    assert offsets == latency._offsets(20_000, 50.0, "poisson", seed=1)


@pytest.mark.parametrize(
    "options",
    [{}, {"concurrency": 2, "rate": 1.0}, {"concurrency": 0}, {"rate": -1.0}, {"rate": math.inf},
     {"rate": 1.0, "arrivals": "bursts"}],
)  # fmt: skip
def test_loads_that_make_no_sense_are_refused(client, options):
    with pytest.raises(ValueError, match=r"concurrency|arrivals"):
        run_load(client, "golden", ["a"], **options)


def test_the_users_of_a_closed_loop_begin_one_after_the_other(client, monkeypatch):
    monkeypatch.setattr(latency, "RAMP_S", 0.3)
    records = run_load(client, "steady-900-2-10", ["a", "b", "c"], concurrency=3)
    assert (np.diff(sorted(record.sent for record in records)) > 0.15).all()


def test_a_server_that_dies_mid_sweep_leaves_what_had_come(tmp_path):
    server = subprocess.Popen([sys.executable, str(SERVER)], stdout=subprocess.PIPE, text=True)
    url, ended = server.stdout.readline().strip(), []

    def note(record):
        ended.append(record)
        if len(ended) == 3:
            server.kill()
            server.wait()

    path = tmp_path / "records.jsonl"
    try:
        with openai.OpenAI(base_url=url, api_key="none") as mortal:
            found = latency.sweep(
                mortal, "golden", ["a", "b", "c", "d"], [1, 2], path=path, done=note, warm_up=0,
                time_limit_s=10,
            )  # fmt: skip
    finally:
        server.kill()
        server.wait()
    assert [record.error for record in found[1][:3]] == [None] * 3
    broken = [found[1][3], *found[2]]
    assert all(record.error for record in broken)
    assert len(latency.read(path)) == 8  # the failures are on file as well
    table = latency_stats.levels(found)
    assert list(table["failed"]) == [1, 4]
    assert table.loc[2, ["ttft_p50", "output_tokens_per_s"]].isna().all()
    assert all(0 < record.e2e_s < 10 for record in broken)


def test_no_requests_are_no_figures(client):
    assert run_load(client, "golden", [], concurrency=4) == []
    assert list(summarise([])["n"]) == [0, 0, 0]
    assert math.isnan(latency_stats.output_tokens_per_s([]))
    assert math.isnan(latency_stats.goodput([]))
    assert latency_stats.errors([]).empty
    assert latency_stats.levels({}).empty


def test_records_are_kept_on_disk_and_not_asked_for_again(client, tmp_path):
    path = tmp_path / "records.jsonl"
    first = run_load(client, "golden", ["a", "b"], concurrency=2, path=path)
    data = path.read_bytes()
    path.write_bytes(data + data[: len(data) // 4])  # a third line, cut off by a crash
    more = run_load(client, "golden", ["a", "b", "c"], concurrency=2, path=path)
    assert more[:2] == first
    assert more[2].text == "ABCD"
    assert sorted(record.key for record in latency.read(path)) == ["load/0", "load/1", "load/2"]
    assert {record.key: record for record in latency.read(path)} == {r.key: r for r in more}
    other = run_load(client, "no usage", ["a"], concurrency=1, path=path, label="other")
    assert other[0].key == "other/0"


def test_what_failed_is_asked_again(client, tmp_path):
    path = tmp_path / "records.jsonl"
    run_load(client, "truncated", ["a"], concurrency=1, path=path)
    (again,) = run_load(client, "golden", ["a"], concurrency=1, path=path)
    assert again.error is None
    (kept,) = latency.read(path)
    assert kept == again


SCRIPT = """
import sys, openai
from helpers import latency
client = openai.OpenAI(base_url=sys.argv[1], api_key="none")
prompts = [str(n) for n in range(12)]
try:
    found = latency.sweep(client, "golden", prompts, [1, 2], path=sys.argv[2], warm_up=0)
finally:
    print("BACK")
table = latency_stats.levels(found)
print(table.to_json())
print(latency_stats.errors(found[1]).to_json())
"""


def start_sweep(client, path):
    command = [sys.executable, "-c", SCRIPT, str(client.base_url), str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_for_lines(path, count):
    deadline = time.monotonic() + 120
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ctrl_c_keeps_and_labels_what_there_is(client, tmp_path):
    path = tmp_path / "records.jsonl"
    running = start_sweep(client, path)
    wait_for_lines(path, 3)
    running.send_signal(signal.SIGINT)
    said = running.communicate(timeout=60)[0].splitlines()
    assert running.returncode == 0
    table, errors = json.loads(said[1]), json.loads(said[2])
    assert list(table["requests"]) == ["1"]  # the second level was not begun
    assert table["failed"]["1"] == errors["not finished"] > 0
    figures = [value for column in table.values() for value in column.values() if value is not None]
    assert all(0 <= value < 1e6 for value in figures)


def test_a_killed_sweep_goes_on(client, tmp_path):
    path = tmp_path / "records.jsonl"
    running = start_sweep(client, path)
    wait_for_lines(path, 4)
    running.send_signal(signal.SIGKILL)
    running.wait()
    running.stdout.close()
    kept = {record.key: record for record in latency.read(path)}
    assert 4 <= len(kept) < 24
    again = start_sweep(client, path)
    said = again.communicate(timeout=120)[0].splitlines()
    table = json.loads(said[1])
    assert table["requests"] == {"1": 12, "2": 12}
    assert table["failed"] == {"1": 0, "2": 0}
    everything = {record.key: record for record in latency.read(path)}
    assert len(everything) == 24
    assert all(everything[key] == record for key, record in kept.items())


def test_a_mistake_in_ones_own_code_is_raised(client):
    with pytest.raises(ZeroDivisionError):
        run_load(client, "no usage", ["a", "b"], concurrency=1, done=lambda record: 1 / 0)


def test_a_sweep_varies_its_prompts_and_shows_each_level(client):
    seen = []
    found = latency.sweep(
        client, "no usage", ["a", "b"], [1, 2], after=lambda level, _: seen.append(level)
    )
    assert seen == list(found) == [1, 2]
    assert [record.at_once for record in found[2]] == [2, 2]
    assert latency._varied("a", "x") == "x a"
    message = {"role": "user", "content": "a"}
    assert latency._varied([message], "x") == [{"role": "user", "content": "x a"}]


@pytest.mark.parametrize(("vary", "different"), [(True, 4), (False, 2)])
def test_prompts_of_a_sweep_may_be_declared_fixed(monkeypatch, vary, different):
    asked = []

    def answer(client, model, messages, **options):
        asked.append(messages)
        return Record(0.0, end=1.0)

    monkeypatch.setattr(latency, "stream_once", answer)
    latency.sweep(None, "any", ["a", "b"], [1, 2], warm_up=0, vary=vary)
    assert (len(asked), len(set(asked))) == (4, different)


# --- figures ----------------------------------------------------------------------------------


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
    table = summarise(records)
    assert list(table["n"]) == [3, 2, 3]
    assert list(table["failed"]) == [1, 1, 1]
    assert table.loc["TTFT (s)", "p50"] == pytest.approx(2.0)
    assert table.loc["TPOT (s)", "p50"] == pytest.approx(0.15)
    assert table.loc["end to end (s)", "max"] == pytest.approx(5.0)
    assert table[["p90", "p95", "p99", "low"]].isna().all().all()  # too few to say
    assert latency_stats.output_tokens_per_s(records) == pytest.approx(22 / 5)
    assert latency_stats.errors(records).to_dict() == {"broken": 1}
    assert latency_stats.goodput(records) == pytest.approx(3 / 4)
    assert latency_stats.goodput(records, ttft_s=2.5) == pytest.approx(2 / 4)
    assert latency_stats.goodput(records, ttft_s=2.5, tpot_s=0.12) == pytest.approx(1 / 4)
    assert latency_stats.levels({4: records}, ttft_s=2.5).loc[4, "goodput"] == pytest.approx(2 / 4)


def test_output_tokens_are_counted_in_three_ways(client):
    reply = stream_once(client, "golden", "hello")
    table = latency_stats.counts([reply, record_of(1, 2, 3, 4, error="broken")], wire.count_tokens)
    # Mistral's vocabulary has "ABC" and "D", but no "ABCD".
    assert table.to_dict("records") == [{"usage": 4, "pieces": 2, "retokenised": 2}]
    mute = latency_stats.counts([stream_once(client, "no usage", "hello")])
    assert mute[["usage", "retokenised"]].isna().all().all()


def test_the_limits_beside_a_sweep_by_hand():
    """Mistral Small 3 in bf16 on an H100: two answers share each reading of the weights."""
    found = {2: [record_of(1.0, 2.0, 11, 3.0), record_of(1.0, 2.0, 11, 4.0)]}
    for record in found[2]:
        record.prompt_tokens = 95
    config = configs.load("mistral-small-3-2501")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    read = sum(p.nbytes for p in model.parameters()) - model.get_input_embeddings().weight.nbytes
    # layers, K and V, heads, dimension, bytes, tokens, users
    cache = 40 * 2 * 8 * 128 * 2 * 100 * 2
    table = latency_stats.limits(found, model=config, bandwidth=3.35e12, usd_per_hour=3.6)
    assert table.loc[2, "ceiling"] == pytest.approx(2 * 3.35e12 / (read + cache), rel=1e-4)
    assert table.loc[2, "output_tokens_per_s"] == pytest.approx(22 / 4)
    assert table.loc[2, "share"] == pytest.approx(5.5 / table.loc[2, "ceiling"])
    # 3.6 USD an hour are a tenth of a cent a second
    assert table.loc[2, "usd_per_million"] == pytest.approx(0.001 / 5.5 * 1e6)
    for record in found[2]:
        record.cost_usd = 0.0022
    assert latency_stats.limits(found).loc[2, "usd_per_million"] == pytest.approx(200)
    assert math.isnan(latency_stats.limits(found).loc[2, "ceiling"])
    mute = {1: [record_of(1.0, 2.0, None, 3.0)]}  # nobody counted: no rate, so no price
    assert latency_stats.limits(mute, usd_per_hour=1.0).isna().all().all()
    assert latency_stats.limits({1: []}, model=config, bandwidth=1e12)["share"].isna().all()


def test_providers_apart():
    records = [record_of(n, n + 1, 11, n + 2) for n in (1.0, 2.0, 5.0)]
    records += [record_of(1.0, 1.0, 2, 1.0, error="broken")]
    for record, name in zip(records, ["A", "A", "B", None], strict=True):
        record.provider, record.cost_usd = name, 0.0011
    table = latency_stats.by_provider(records)
    assert table["requests"].to_dict() == {"A": 2, "B": 1, "not said": 1}
    assert table.loc["A", "ttft_p50"] == pytest.approx(1.5)
    assert table.loc["B", "usd_per_million"] == pytest.approx(100)
    assert table.loc["not said", "failed"] == 1
    assert list(latency_stats.by_provider([]).index) == []


def test_percentiles_are_numpys_and_given_where_there_are_enough():
    rng = np.random.default_rng(0)
    waits = rng.exponential(1.0, 100)
    records = [record_of(wait, wait + 1, 11, wait + 2) for wait in waits]
    row = summarise(records).loc["TTFT (s)"]
    for percent in (50, 90, 95, 99):
        assert row[f"p{percent}"] == pytest.approx(np.percentile(waits, percent))
    assert summarise(records[:19]).loc["TTFT (s)", ["p90", "p95"]].isna().tolist() == [False, True]


def test_the_medians_interval_covers_the_truth_about_19_times_of_20():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        waits = rng.exponential(1.0, 30)
        low, high = latency_stats._interval(waits, np.median, seed=0)
        covered += low <= math.log(2) <= high  # the median of an exponential
    assert 88 <= covered <= 100


def test_ratios_are_of_pairs():
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


def test_compare_asks_both_the_same_in_turn():
    asked = []

    def ask(name):
        return lambda prompt: asked.append((name, prompt)) or record_of(1, 2, 3, 4)

    pairs = latency.compare(ask("a"), ask("b"), ["1", "2", "3", "4", "5", "6"])
    assert len(pairs) == 6
    for prompt, start in zip("123456", range(0, 12, 2), strict=True):
        assert {name for name, asked_for in asked[start : start + 2] if asked_for == prompt} == {
            "a",
            "b",
        }
    assert {asked[start][0] for start in range(0, 12, 2)} == {"a", "b"}  # not always the same first


def test_a_record_survives_its_file():
    record = stream = Record(
        1.5, 1.0, 1.6, [Delta(2.0, "content", "é\u2028x")], 2.5, 3.0, 7, 4, 0.25, "stop", "A",
        None, "load/0", 2, "2026-01-02T03:04:05.678+00:00",
    )  # fmt: skip
    line = json.loads(stream.line())
    assert "error" not in line
    back = Record(**{**line, "deltas": [Delta(*delta) for delta in line["deltas"]]})
    assert back == record
    never = Record(math.nan, error=latency.NOT_FINISHED, key="load/1")
    assert "NaN" not in never.line()
