"""Batches: nothing lost, nothing paid twice, nothing over the budget."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time

import httpx2
import pytest
from played import Played, answer, reply

from helpers import batches, jsonl, openrouter, prices
from openrouter_sim import faults

PROMPTS = [f"What is {n} plus {n}?" for n in range(12)]
SETTINGS = {"max_tokens": 4, "temperature": 0}


def spent(lab) -> float:
    return openrouter.key_status(lab.client).usage


def test_every_prompt_is_answered_in_order_and_costs_what_was_charged(simulator, tmp_path):
    before = spent(simulator)
    table = batches.run_batch(simulator, PROMPTS, tmp_path / "a.jsonl", **SETTINGS)
    assert list(table["prompt"]) == PROMPTS
    assert set(table["status"]) == {"done"}
    assert table["usd"].sum() == pytest.approx(spent(simulator) - before)
    # Each answer is what the prompt gets when it is sent alone.
    alone = simulator.client.chat.completions.create(
        model=simulator.model, messages=[{"role": "user", "content": PROMPTS[7]}], **SETTINGS
    )
    assert table["text"][7] == alone.choices[0].message.content


def test_a_second_run_pays_nothing_and_other_settings_are_other_requests(simulator, tmp_path):
    first = batches.run_batch(simulator, PROMPTS[:3], tmp_path / "a.jsonl", **SETTINGS)
    before = spent(simulator)
    again = batches.run_batch(simulator, PROMPTS[:3], tmp_path / "a.jsonl", **SETTINGS)
    assert spent(simulator) == before
    assert again["text"].equals(first["text"])
    batches.run_batch(simulator, PROMPTS[:3], tmp_path / "a.jsonl", **SETTINGS | {"max_tokens": 3})
    assert spent(simulator) > before


def test_equal_prompts_are_asked_once_each(simulator, tmp_path):
    before = spent(simulator)
    table = batches.run_batch(simulator, ["Hi", "Hi", "Hi"], tmp_path / "a.jsonl", **SETTINGS)
    assert len(set(table["usd"])) == 1
    assert spent(simulator) - before == pytest.approx(3 * table["usd"][0])
    assert len(batches.read(tmp_path / "a.jsonl")) == 3


def test_no_more_requests_than_allowed_are_under_way(simulator, tmp_path, monkeypatch):
    real, under_way, counts = openrouter.complete, [], []

    def watched(*args, **request):
        under_way.append(1)
        counts.append(len(under_way))
        try:
            return real(*args, **request)
        finally:
            under_way.pop()

    monkeypatch.setattr(openrouter, "complete", watched)
    batches.run_batch(simulator, PROMPTS, tmp_path / "a.jsonl", concurrency=3, **SETTINGS)
    assert max(counts) == 3


def test_a_budget_stops_the_batch_and_lists_the_rest(simulator, tmp_path, capsys):
    before = spent(simulator)
    limit = 0.000006
    table = batches.run_batch(simulator, PROMPTS, tmp_path / "a.jsonl", max_usd=limit, **SETTINGS)
    assert spent(simulator) - before <= limit
    assert 0 < (table["status"] == "done").sum() < len(PROMPTS)
    assert (table["status"] == "not sent").sum() + (table["status"] == "done").sum() == 12
    assert "stopped by the budget" in capsys.readouterr().err
    rest = batches.run_batch(simulator, PROMPTS, tmp_path / "a.jsonl", max_usd=1, **SETTINGS)
    assert set(rest["status"]) == {"done"}
    assert rest["usd"].sum() == pytest.approx(spent(simulator) - before)


def test_a_budget_needs_a_price(lab, tmp_path):
    with pytest.raises(prices.BudgetError, match="no price"):
        batches.run_batch(lab, PROMPTS[:1], tmp_path / "a.jsonl", max_usd=1)
    table = batches.run_batch(lab, PROMPTS[:1], tmp_path / "a.jsonl", **SETTINGS)
    assert table["usd"].isna().all()


def test_a_failure_is_kept_with_its_reason_and_tried_again_later(simulator, tmp_path):
    path = tmp_path / "a.jsonl"
    long = "word " * 9000
    table = batches.run_batch(simulator, ["Hi", long], path, **SETTINGS)
    assert list(table["status"]) == ["done", "failed"]
    assert "Shorten" in table["error"][1]
    headers = {"X-Simulate": "moderation"}
    failed = batches.run_batch(simulator, PROMPTS[:2], path, extra_headers=headers, **SETTINGS)
    assert set(failed["status"]) == {"failed"}
    assert "moderation" in failed["error"][0]


def test_one_odd_reply_does_not_cost_the_others(simulator, tmp_path, monkeypatch):
    real = openrouter.message

    def odd(reply):
        if next(turn) == 3:
            raise AttributeError("odd")
        return real(reply)

    turn = iter(range(1000))
    monkeypatch.setattr(openrouter, "message", odd)
    table = batches.run_batch(
        simulator, PROMPTS[:6], tmp_path / "a.jsonl", concurrency=2, **SETTINGS
    )
    assert (table["status"] == "failed").sum() == 1
    assert (table["status"] == "done").sum() == 5
    assert "odd" in table[table["status"] == "failed"]["error"].item()


def test_a_batch_ends_if_an_answer_cannot_be_kept(simulator, tmp_path, monkeypatch):
    attempts = []

    def full_disk(*_, **__):
        attempts.append(1)
        raise OSError("No space left on device")

    monkeypatch.setattr(jsonl, "append", full_disk)
    with pytest.raises(OSError, match="No space"):
        batches.run_batch(simulator, PROMPTS, tmp_path / "a.jsonl", concurrency=2, **SETTINGS)
    assert len(attempts) == 2


def test_an_empty_account_ends_the_batch_and_lists_the_rest(simulator, tmp_path):
    poor = dataclasses.replace(
        simulator, client=simulator.client.with_options(api_key=faults.NEARLY_EMPTY, max_retries=0)
    )
    many = [f"What is {n} minus {n}?" for n in range(60)]
    table = batches.run_batch(poor, many, tmp_path / "a.jsonl", concurrency=2, **SETTINGS)
    counts = table["status"].value_counts()
    assert counts["done"] >= 2
    assert 1 <= counts["failed"] <= 2
    assert counts["not sent"] >= 20
    assert "402" in table["error"].iloc[-1]


def test_an_attempt_that_timed_out_counts_against_the_budget(simulator, tmp_path):
    slow = {"extra_headers": {"X-Simulate": "slow"}, **SETTINGS}
    worst = openrouter.estimate_cost(
        [{"role": "user", "content": PROMPTS[0]}], simulator.model, max_tokens=4
    ).max_usd
    table = batches.run_batch(
        simulator, PROMPTS, tmp_path / "a.jsonl", concurrency=1, attempts=1, total_s=0.5,
        max_usd=2.5 * worst, **slow,
    )  # fmt: skip
    assert (table["status"] == "failed").sum() == 2
    assert (table["status"] == "not sent").sum() == len(PROMPTS) - 2


def test_lines_that_unicode_would_break_and_files_cut_inside_a_character(tmp_path):
    path = tmp_path / "a.jsonl"
    odd = "a\u2028b\u0085c é"
    answers = [{"key": str(n), "status": "done", "text": odd} for n in range(2)]
    lines = [json.dumps(each, ensure_ascii=False) for each in answers]
    data = "\n".join(lines).encode()
    path.write_bytes(data[: data.rindex("é".encode()) + 1])  # half of the last character
    assert batches.read(path) == {"0": {"status": "done", "text": odd}}


def test_a_half_written_line_is_passed_over(simulator, tmp_path):
    path = tmp_path / "a.jsonl"
    batches.run_batch(simulator, PROMPTS[:3], path, **SETTINGS)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    table = batches.run_batch(simulator, PROMPTS[:3], path, **SETTINGS)
    assert set(table["status"]) == {"done"}
    assert len(batches.read(path)) == 3


# --- odd replies, played ----------------------------------------------------------------------

SMALL = "mistralai/mistral-small-3.2-24b-instruct"
COUNTS = {"prompt_tokens": 1000, "completion_tokens": 100}


def played(*replies):
    server = Played(*replies)
    server.model = SMALL
    return server


# `usage` may be missing (OpenAI's reference), and servers send much in its place. The answer is
# paid all the same: it is kept, and never asked for again. Its cost is by price or unknown.
@pytest.mark.parametrize(
    ("usage", "usd"),
    [
        (COUNTS, 1000 * 0.075e-6 + 100 * 0.2e-6),
        (COUNTS | {"cost": "0.5"}, 0.5),
        (COUNTS | {"cost": None}, 1000 * 0.075e-6 + 100 * 0.2e-6),
        ({"prompt_tokens": "1000", "completion_tokens": "100"}, 1000 * 0.075e-6 + 100 * 0.2e-6),
        ({"prompt_tokens": None, "completion_tokens": None}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_good_answer_is_kept_whatever_its_usage(tmp_path, usage, usd):
    server = played(reply(answer() | {"usage": usage}))
    for _ in range(2):
        table = batches.run_batch(server, ["Hi"], tmp_path / "a.jsonl")
        assert list(table["status"]) == ["done"]
        assert list(table["text"]) == ["Hi."]
        assert table["usd"][0] == pytest.approx(usd or math.nan, nan_ok=True)
    assert len(server.requests) == 1


def test_an_unknown_cost_counts_as_the_worst_case_against_the_budget(tmp_path):
    worst = openrouter.estimate_cost(
        [{"role": "user", "content": "Hi"}], SMALL, max_tokens=10
    ).max_usd
    for name, body in (("uncounted", answer()), ("blank", b"")):
        table = batches.run_batch(
            played(*(reply(body) for _ in range(3))), ["Hi"] * 3, tmp_path / name,
            max_usd=2.5 * worst, max_tokens=10, concurrency=1, attempts=1,
        )  # fmt: skip
        assert (table["status"] == "not sent").sum() == 1


CALL = {"id": "abcDEF123", "type": "function", "function": {"name": "f", "arguments": "{}"}}
THOUGHT = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]


@pytest.mark.parametrize(
    ("message", "finish", "says"),
    [
        ({"content": None}, "stop", "finish_reason: stop"),
        ({"content": None}, "content_filter", "finish_reason: content_filter"),
        ({"content": None, "refusal": "I cannot."}, "stop", "it refused: I cannot."),
        ({"content": None, "tool_calls": [CALL]}, "tool_calls", "it has tool_calls instead"),
        ({"content": None, "reasoning": "hm"}, "length", "it has reasoning instead"),
        ({"content": THOUGHT}, "length", "finish_reason: length"),
    ],
)
def test_an_answer_without_text_is_paid_so_it_is_kept_and_says_why(tmp_path, message, finish, says):
    path = tmp_path / "a.jsonl"
    body = answer(message={"role": "assistant"} | message, finish_reason=finish, usage=COUNTS)
    server = played(reply(body))
    for _ in range(2):
        table = batches.run_batch(server, ["Hi"], path)
        assert list(table["status"]) == ["done"]
        assert list(table["text"]) == [""]
        assert says in table["error"][0]
        assert table["usd"][0] > 0
    assert len(server.requests) == 1
    (kept,) = batches.read(path).values()
    assert kept["message"].items() >= message.items()


DIED = {"code": 502, "message": "Upstream died"}


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"\n \n", 200, "not complete JSON"),
        (answer("", finish_reason="error", error=DIED), 200, "Upstream died"),
        ({"detail": [{"loc": ["body", "x"], "msg": "no such field"}]}, 422, "body.x: no such"),
        (b"", 503, "503"),
    ],
)
def test_a_failure_always_has_words_and_is_asked_again_by_the_next_run(
    tmp_path, body, status, says
):
    path = tmp_path / "a.jsonl"
    server = played(reply(body, status), reply(answer()))
    table = batches.run_batch(server, ["Hi"], path, attempts=1)
    assert list(table["status"]) == ["failed"]
    assert says in table["error"][0]
    assert list(batches.run_batch(server, ["Hi"], path)["text"]) == ["Hi."]


def test_nothing_is_sent_if_the_answers_cannot_be_kept_or_read(tmp_path):
    server = played()
    with pytest.raises(OSError, match=str(tmp_path)):
        batches.run_batch(server, ["Hi"], tmp_path)
    for line in ('{"key": "load/0", "sent": 1.5}', '{"status": "done"}', '{"key": [1]}'):
        path = tmp_path / "other.jsonl"
        path.write_text(line + "\n")
        with pytest.raises(ValueError, match=r"other\.jsonl holds something else"):
            batches.run_batch(server, ["Hi"], path)
    # A damaged line may be an answer that was paid: the caller decides, nothing is sent meanwhile.
    path.write_text('{"key": "a", "status": "done"}\n{"key": "b", "st\n{"key": "c"}\n')
    with pytest.raises(ValueError, match="line 2"):
        batches.run_batch(server, ["Hi"], path)
    assert not server.requests
    assert path.read_text().count("\n") == 3


SCRIPT = """
import sys
from helpers import batches, connect
lab = connect("openrouter-sim", base_url=sys.argv[1])
prompts = [f"What is {n} plus {n}?" for n in range(int(sys.argv[3]))]
table = batches.run_batch(lab, prompts, sys.argv[2], max_tokens=1, temperature=0)
print("DONE", (table["status"] == "done").sum(), table["usd"].sum())
"""


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "count"), [(signal.SIGINT, 60), (signal.SIGKILL, 200)])
def test_an_interrupted_batch_goes_on(model_folder, tmp_path, ending, count):
    """A server of its own outlives the batch; its account says what was paid for."""
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "openrouter_sim", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = next(w for w in server.stdout.readline().split() if w.startswith("http")).rstrip(";")
        path = tmp_path / "kept.jsonl"
        command = [sys.executable, "-c", SCRIPT, url, str(path), str(count)]
        environment = {n: v for n, v in os.environ.items() if n != "OPENROUTER_API_KEY"}
        batch = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        while not path.exists() or path.read_bytes().count(b"\n") < count // 2:
            assert batch.poll() is None
            time.sleep(0.05)
        batch.send_signal(ending)
        batch.wait(timeout=120)
        time.sleep(2)  # what was under way ends
        kept = batches.read(path)
        assert count // 2 <= len(kept) < count

        again = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert f"DONE {count}" in again.stdout, again.stderr
        assert len(batches.read(path)) == count
        counted = sum(answer["usd"] for answer in batches.read(path).values())
        key = {"Authorization": "Bearer sk-or-v1-simulated-working"}
        paid = httpx2.get(f"{url}/key", headers=key).json()["data"]["usage"]
        if ending == signal.SIGINT:
            assert paid == pytest.approx(counted)  # none paid twice
        else:  # killed: no more than what was under way was paid and lost
            dearest = max(answer["usd"] for answer in batches.read(path).values())
            assert counted * (1 - 1e-9) <= paid <= counted + 4 * dearest + 1e-12
    finally:
        server.kill()
