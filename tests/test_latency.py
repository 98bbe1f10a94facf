"""Timings against a scripted server that plays a stream whose figures were worked out by hand.

The stream: 0 send, 100 role-only delta, 300 "A" (one token), 340 "BCD" (three tokens),
345 finish, 346 usage: four tokens, 350 [DONE] (milliseconds).
"""

import json
import math
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
import pytest

from helpers.latency import Delta, Record, output_tokens_per_s, run_load, stream_once, summarise

TOLERANCE_S = 0.030


def chunk(delta=None, finish=None, **extra):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    head = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "scripted"}
    return json.dumps({**head, "choices": choices, **extra})


USAGE = {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}
GOLDEN = [
    (100, chunk({"role": "assistant", "content": ""})),
    (300, chunk({"content": "A"})),
    (340, chunk({"content": "BCD"})),
    (345, chunk({}, "stop")),
    (346, chunk(usage=USAGE)),
    (350, "[DONE]"),
]


@contextmanager
def scripted(script, status=200):
    """A server that plays ``script`` to every request; yields a client and what was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            start = time.perf_counter()
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(json.loads(body))
            self.send_response(status)
            kind = "text/event-stream" if status == 200 else "application/json"
            self.send_header("Content-Type", kind)
            self.end_headers()
            for at_ms, data in script:
                time.sleep(max(0, at_ms / 1000 - (time.perf_counter() - start)))
                line = f"data: {data}\n\n" if status == 200 else data
                self.wfile.write(line.encode())
                self.wfile.flush()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
            client.models  # noqa: B018 - the client imports lazily; not while the clock runs
            client.chat.completions  # noqa: B018
            yield client, asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def golden():
    with scripted(GOLDEN) as (client, asked):
        stream_once(client, "scripted", "warm up: the first connection is slower")
        return stream_once(client, "scripted", "hello", temperature=0.15), asked[-1]


def test_the_request_carries_the_parameters_and_asks_for_usage(golden):
    _, asked = golden
    assert asked["temperature"] == 0.15
    assert asked["stream"] is True
    assert asked["stream_options"] == {"include_usage": True}
    assert asked["messages"] == [{"role": "user", "content": "hello"}]


def test_golden_stream_times(golden):
    record, _ = golden
    assert record.role_only - record.sent == pytest.approx(0.100, abs=TOLERANCE_S)
    assert record.ttft_s == pytest.approx(0.300, abs=TOLERANCE_S)
    assert record.tpot_s == pytest.approx((0.340 - 0.300) / 3, abs=TOLERANCE_S)
    assert record.usage - record.sent == pytest.approx(0.346, abs=TOLERANCE_S)
    assert record.e2e_s == pytest.approx(0.350, abs=TOLERANCE_S)


def test_golden_stream_figures_exactly():
    deltas = [Delta(5.300, "content", "A"), Delta(5.340, "content", "BCD")]
    record = Record(5.0, role_only=5.1, deltas=deltas, end=5.350, output_tokens=4)
    assert record.ttft_s == pytest.approx(0.300)
    assert record.tpot_s == pytest.approx(0.040 / 3)
    assert record.e2e_s == pytest.approx(0.350)


def test_golden_stream_content(golden):
    record, _ = golden
    assert record.text == "ABCD"
    assert [delta.kind for delta in record.deltas] == ["content", "content"]
    assert (record.prompt_tokens, record.output_tokens) == (7, 4)
    assert record.finish_reason == "stop"
    assert record.error is None


def test_reasoning_and_tool_calls_are_first_tokens_too():
    call = {"index": 0, "id": "abcDEF123", "function": {"name": "add", "arguments": "{}"}}
    script = [
        (0, chunk({"role": "assistant"})),
        (10, chunk({"reasoning": "hm"})),
        (20, chunk({"tool_calls": [call]})),
        (30, chunk({}, "tool_calls")),
        (30, "[DONE]"),
    ]
    with scripted(script) as (client, _):
        record = stream_once(client, "scripted", "hello")
    assert [(d.kind, d.text) for d in record.deltas] == [
        ("reasoning", "hm"),
        ("tool_call", "add{}"),
    ]
    assert record.role_only < record.deltas[0].at
    assert record.text == ""


def test_without_usage_there_is_no_tpot():
    with scripted([step for step in GOLDEN if "usage" not in step[1]]) as (client, _):
        record = stream_once(client, "scripted", "hello")
    assert record.output_tokens is None
    assert math.isnan(record.tpot_s)
    assert record.ttft_s == pytest.approx(0.300, abs=0.1)


def test_a_cut_stream_is_an_error_and_keeps_what_came():
    with scripted(GOLDEN[:2]) as (client, _):
        record = stream_once(client, "scripted", "hello")
    assert record.text == "A"
    assert "finish_reason" in record.error


def test_a_refusal_is_recorded_not_raised():
    body = json.dumps({"error": {"message": "no such model", "code": 404}})
    with scripted([(0, body)], status=404) as (client, _):
        record = stream_once(client, "scripted", "hello")
    assert "no such model" in record.error
    assert math.isnan(record.ttft_s)
    assert record.e2e_s > 0


def test_closed_loop_runs_that_many_at_once():
    with scripted(GOLDEN) as (client, asked):
        start = time.perf_counter()
        records = run_load(client, "scripted", [f"prompt {i}" for i in range(4)], concurrency=2)
        seconds = time.perf_counter() - start
    assert [record.text for record in records] == ["ABCD"] * 4
    assert {request["messages"][0]["content"] for request in asked} == {
        f"prompt {i}" for i in range(4)
    }
    assert 0.65 < seconds < 1.2  # two rounds of 0.35 s; four if one after the other, 1.4 s
    assert output_tokens_per_s(records) == pytest.approx(16 / seconds, rel=0.1)


def record_of(ttft, last, tokens, end, error=None):
    deltas = [Delta(10 + ttft, "content", "a"), Delta(10 + last, "content", "b")]
    return Record(10.0, deltas=deltas, end=10 + end, output_tokens=tokens, error=error)


def test_summary_by_hand():
    records = [
        record_of(1.0, 2.0, 11, 3.0),
        record_of(2.0, 4.0, 11, 5.0),
        record_of(3.0, 3.0, None, 4.0),
        record_of(9.0, 9.0, 2, 9.0, error="broken"),
    ]
    table = summarise(records)
    assert list(table["n"]) == [3, 2, 3]
    assert list(table["failed"]) == [1, 1, 1]
    assert table.loc["TTFT (s)", "median"] == pytest.approx(2.0)
    assert table.loc["TTFT (s)", "p90"] == pytest.approx(2.8)
    assert table.loc["TPOT (s)", "median"] == pytest.approx(0.15)
    assert table.loc["end to end (s)", "max"] == pytest.approx(5.0)
    assert output_tokens_per_s(records) == pytest.approx(22 / 5)


def test_summary_of_nothing_is_empty_not_an_error():
    assert list(summarise([])["n"]) == [0, 0, 0]
    assert math.isnan(output_tokens_per_s([]))
