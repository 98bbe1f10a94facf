"""Timings against a scripted server; the expected figures are computed by hand from its scripts.

A busy machine delays server and client by more than the tolerance. So each test makes several
attempts and one must be right: a wrong definition is wrong in all of them.
`benchmarks/latency_accuracy.py` measures how exact the timer is on a quiet machine.
"""

import json
import math
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial

import numpy as np
import openai
import pytest

from helpers import jsonl, latency, latency_stats
from helpers.attempts import RecordingTransport
from helpers.budget import MeteredClient
from helpers.connection.client import PocketTransport
from helpers.connection.no_answer import OwnServerClient
from helpers.latency import Delta, Record, run_load, stream_once
from helpers.paths import ROOT

TOLERANCE_S = 0.030
ATTEMPTS = 8
SERVER = ROOT / "benchmarks" / "scripted_server.py"


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


# For each script, in seconds, computed by hand: TTFT, TPOT, end to end.
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
        # The server's clock starts when the request has arrived, so nothing can be earlier.
        assert record.ttft_s > wanted[0] - 0.001
        assert record.e2e_s > wanted[2] - 0.001
        if np.allclose(got, wanted, rtol=0, atol=TOLERANCE_S, equal_nan=True):
            return
    pytest.fail(f"{got} instead of {wanted}, {ATTEMPTS} times")


@pytest.mark.parametrize("name", ["plain", "own server", "metered", "pocket", "recording"])
def test_every_http_client_of_the_kit_gives_the_times_of_the_script(client, name):
    """Each client that wraps a stream must keep when its request was sent."""
    clients = {
        "plain": openai.DefaultHttpxClient,
        "own server": OwnServerClient,
        "metered": partial(MeteredClient, 1.0, "mistralai/mistral-small-3.2-24b-instruct"),
        "pocket": lambda: openai.DefaultHttpxClient(transport=PocketTransport()),
        "recording": lambda: openai.DefaultHttpxClient(transport=RecordingTransport()),
    }
    with clients[name]() as http_client:
        body = {"model": "golden", "stream": True, "messages": [], "max_tokens": 9}
        whole = http_client.post(f"{client.base_url}chat/completions", json=body)
        assert whole.elapsed.total_seconds() > 0.349  # a stream that is read in one piece, too
        own = client.with_options(http_client=http_client)
        for _ in range(ATTEMPTS):
            record = stream_once(own, "golden", "hello", max_tokens=9)
            assert record.error is None
            assert record.sent < record.role_only < record.deltas[0].at <= record.end
            assert record.ttft_s > 0.299
            if record.e2e_s == pytest.approx(0.350, abs=TOLERANCE_S):
                return
    pytest.fail(f"{record.e2e_s} instead of 0.350, {ATTEMPTS} times")


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


def test_replies_that_were_read_to_their_end_share_a_connection(client, monkeypatch):
    addresses, real = [], socket.create_connection

    def counted(address, *options, **more):
        addresses.append(address)
        return real(address, *options, **more)

    monkeypatch.setattr(socket, "create_connection", counted)
    with openai.OpenAI(base_url=client.base_url, api_key="none") as fresh:
        for name in ("no usage", "usage on a chunk", "no usage"):
            assert stream_once(fresh, name, "hello").error is None
    assert len(addresses) == 1  # connecting would count as the server's time


def test_a_refusal_is_recorded_not_raised(client):
    record = stream_once(client, "no such script", "hello")
    assert "no script" in record.error
    assert math.isnan(record.ttft_s)
    assert record.e2e_s > 0


def test_a_server_that_stalls_times_out(client):
    begun = time.monotonic()
    record = stream_once(client, "stall", "hello", time_limit_s=0.5)
    assert time.monotonic() - begun < 20  # of the 60 s that it would take
    assert record.text == "A"
    assert "Timeout" in record.error


def test_a_stream_that_never_ends_times_out(client):
    record = stream_once(client, "steady-10-10000-10", "hello", time_limit_s=0.5)
    assert "longer than 0.5 s" in record.error
    assert record.deltas


def test_no_server(client):
    with openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="none") as absent:
        records = run_load(absent, "golden", ["a", "b"], concurrency=2)
    assert all("Connection" in record.error for record in records)
    assert latency_stats.error_counts(records).sum() == 2
    assert math.isnan(latency_stats.output_tokens_per_s(records))
    assert list(latency_stats.summarize(records)["n"]) == [0, 0, 0]


# --- loads ------------------------------------------------------------------------------------


def overlap(records) -> int:
    """The maximum of requests under way at once."""
    moments = [(r.sent, 1) for r in records] + [(r.end, -1) for r in records]
    under_way = maximum = 0
    for _, step in sorted(moments):
        under_way += step
        maximum = max(maximum, under_way)
    return maximum


def test_a_closed_loop_keeps_its_concurrency(client):
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


def test_poisson_arrivals_have_the_rate_and_spread_of_a_poisson_process():
    times = latency.arrival_times(20_000, 50.0, seed=1)
    gaps = np.diff(times)
    assert times[0] == 0
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.05)
    assert gaps.std() == pytest.approx(1 / 50, rel=0.05)  # of an exponential: equal to its mean
    assert times == latency.arrival_times(20_000, 50.0, seed=1)
    assert latency.arrival_times(0, 50.0) == []


@pytest.mark.parametrize(
    "options",
    [{}, {"concurrency": 2, "rate": 1.0}, {"concurrency": 0}, {"rate": -1.0}, {"rate": math.inf},
     {"rate": 1.0, "arrivals": "bursts"}],
)  # fmt: skip
def test_invalid_loads_are_refused(client, options):
    with pytest.raises(ValueError, match=r"concurrency|arrivals"):
        run_load(client, "golden", ["a"], **options)


def test_the_users_of_a_closed_loop_start_one_after_the_other(client, monkeypatch):
    monkeypatch.setattr(latency, "RAMP_UP_INTERVAL_S", 0.3)
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
            levels = latency.sweep(
                mortal, "golden", ["a", "b", "c", "d"], [1, 2], path=path, on_record=note,
                warm_up=0, time_limit_s=10,
            )  # fmt: skip
    finally:
        server.kill()
        server.wait()
    assert [record.error for record in levels[1][:3]] == [None] * 3
    broken = [levels[1][3], *levels[2]]
    assert all(record.error for record in broken)
    assert len(latency.read(path)) == 8  # the failures are on file as well
    table = latency_stats.level_table(levels)
    assert list(table["failed"]) == [1, 4]
    assert table.loc[2, ["ttft_p50", "output_tokens_per_s"]].isna().all()
    assert all(0 < record.e2e_s < 10 for record in broken)


def test_no_requests_are_no_records(client):
    assert run_load(client, "golden", [], concurrency=4) == []
    assert run_load(client, "golden", [], rate=5.0) == []


def test_records_are_on_disk_and_not_requested_again(client, tmp_path):
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


def test_failed_requests_are_sent_again(client, tmp_path):
    path = tmp_path / "records.jsonl"
    run_load(client, "truncated", ["a"], concurrency=1, path=path)
    (again,) = run_load(client, "golden", ["a"], concurrency=1, path=path)
    assert again.error is None
    (kept,) = latency.read(path)
    assert kept == again


SCRIPT = """
import sys, openai
from helpers import latency, latency_stats
client = openai.OpenAI(base_url=sys.argv[1], api_key="none")
prompts = [str(n) for n in range(12)]
try:
    levels = latency.sweep(client, "golden", prompts, [1, 2], path=sys.argv[2], warm_up=0)
finally:
    print("BACK")
table = latency_stats.level_table(levels)
print(table.to_json())
print(latency_stats.error_counts(levels[1]).to_json())
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
    lines = running.communicate(timeout=60)[0].splitlines()
    assert running.returncode == 0
    table, errors = json.loads(lines[1]), json.loads(lines[2])
    assert list(table["requests"]) == ["1"]  # the second level was not begun
    assert table["failed"]["1"] == errors["not finished"] > 0
    figures = [value for column in table.values() for value in column.values() if value is not None]
    assert all(0 <= value < 1e6 for value in figures)


def test_a_killed_sweep_resumes(client, tmp_path):
    path = tmp_path / "records.jsonl"
    running = start_sweep(client, path)
    wait_for_lines(path, 4)
    running.send_signal(signal.SIGKILL)
    running.wait()
    running.stdout.close()
    kept = {record.key: record for record in latency.read(path)}
    assert 4 <= len(kept) < 24
    again = start_sweep(client, path)
    lines = again.communicate(timeout=120)[0].splitlines()
    table = json.loads(lines[1])
    assert table["requests"] == {"1": 12, "2": 12}
    assert table["failed"] == {"1": 0, "2": 0}
    everything = {record.key: record for record in latency.read(path)}
    assert len(everything) == 24
    assert all(everything[key] == record for key, record in kept.items())


def test_an_event_ends_a_sweep_as_ctrl_c_does(client):
    stop = threading.Event()
    levels = latency.sweep(
        client, "golden", list("abcd"), [1, 2], warm_up=0, stop=stop,
        on_record=lambda record: stop.set(),
    )  # fmt: skip
    assert list(levels) == [1]
    errors = [record.error for record in levels[1]]
    assert errors == [None, *[latency.NOT_FINISHED] * 3]
    assert latency.sweep(client, "golden", ["a"], [1], warm_up=0, stop=stop) == {}


def test_an_error_in_the_callers_code_is_raised(client):
    with pytest.raises(ZeroDivisionError):
        run_load(client, "no usage", ["a", "b"], concurrency=1, on_record=lambda record: 1 / 0)


def test_a_sweep_varies_its_prompts_and_shows_each_level(client):
    seen = []
    levels = latency.sweep(
        client, "no usage", ["a", "b"], [1, 2], on_level=lambda level, _: seen.append(level)
    )
    assert seen == list(levels) == [1, 2]
    assert [record.concurrency for record in levels[2]] == [2, 2]


MESSAGE = {"role": "user", "content": "b"}
PARTS = [{"role": "user", "content": [{"type": "text", "text": "c"}]}]


@pytest.mark.parametrize(
    ("vary", "sent"),
    [
        (True, ["(1/0) a", [{**MESSAGE, "content": "(1/1) b"}], PARTS,
                "(3/0) a", [{**MESSAGE, "content": "(3/1) b"}], PARTS]),
        (False, ["a", [MESSAGE], PARTS] * 2),
    ],
)  # fmt: skip
def test_prompts_of_a_sweep_differ_unless_they_are_to_stay(monkeypatch, vary, sent):
    asked = []

    def answer(client, model, messages, **options):
        asked.append(messages)
        return Record(0.0, end=1.0)

    monkeypatch.setattr(latency, "stream_once", answer)
    monkeypatch.setattr(latency, "RAMP_UP_INTERVAL_S", 0.2)
    latency.sweep(None, "any", ["a", [MESSAGE], PARTS], [1, 3], warm_up=0, vary=vary)
    assert asked == sent


def test_compare_sends_both_the_same_in_turn():
    asked = []

    def ask(name):
        return lambda prompt: asked.append((name, prompt)) or Record(0.0, provider=name)

    pairs = latency.compare(ask("a"), ask("b"), ["1", "2", "3", "4", "5", "6"])
    assert [(a.provider, b.provider) for a, b in pairs] == [("a", "b")] * 6
    for prompt, start in zip("123456", range(0, 12, 2), strict=True):
        assert {name for name, asked_for in asked[start : start + 2] if asked_for == prompt} == {
            "a",
            "b",
        }
    assert {asked[start][0] for start in range(0, 12, 2)} == {"a", "b"}  # not always the same first


def test_a_record_survives_its_file(tmp_path):
    path = tmp_path / "records.jsonl"
    record = Record(
        1.5, 1.0, 1.6, [Delta(2.0, "content", "é\u2028x")], 2.5, 3.0, 7, 4, 0.25, "stop", "A",
        None, "load/0", 2, "2026-01-02T03:04:05.678+00:00",
    )  # fmt: skip
    never = Record(math.nan, error=latency.NOT_FINISHED, key="load/1")
    for each in (record, never):
        jsonl.append(path, each.to_json())
    assert "error" not in record.to_json()
    assert b"NaN" not in path.read_bytes()
    back, unsent = latency.read(path)
    assert back == record
    assert unsent.error == latency.NOT_FINISHED
    assert math.isnan(unsent.sent)


@pytest.mark.parametrize("place", [".", "no such folder/records.jsonl"])
def test_nothing_is_sent_if_the_records_cannot_be_kept(tmp_path, monkeypatch, place):
    sent = []
    monkeypatch.setattr(latency, "stream_once", lambda *_, **__: sent.append(1) or Record(0.0))
    with pytest.raises(OSError, match="director"):
        run_load(None, "any", ["a"], concurrency=1, path=tmp_path / place)
    assert not sent


def test_a_file_of_something_else_is_said(tmp_path):
    path = tmp_path / "batch.jsonl"
    jsonl.append(path, {"prompt": "a", "status": "done"})
    with pytest.raises(ValueError, match=r"batch\.jsonl holds something else"):
        latency.read(path)
