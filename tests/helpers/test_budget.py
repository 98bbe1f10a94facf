"""The cap on money, against a real server on loopback that states what each reply costs."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from loopback_proxy import proxy

from helpers import budget, prices
from helpers.backends import BACKENDS
from labkit import notebooks, run_cost

SMALL = BACKENDS["openrouter"].model


@pytest.fixture(scope="module")
def priced_server():
    """Each reply states a cost of 0.01 USD, at the end of the stream when streaming."""
    app = FastAPI()
    usage = {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11, "cost": 0.01}

    @app.post("/v1/chat/completions")
    async def chat(request: Request):
        head = {"id": "gen-1", "created": 0, "model": SMALL}
        message = {"role": "assistant", "content": "hé"}
        if not (await request.json()).get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return head | {"object": "chat.completion", "choices": [choice], "usage": usage}
        chunk = head | {"object": "chat.completion.chunk"}
        delta = {"index": 0, "delta": message, "finish_reason": None}
        documents = [chunk | {"choices": [delta]}, chunk | {"choices": [], "usage": usage}]
        lines = [f"data: {json.dumps(document)}\n\n" for document in documents]
        return StreamingResponse(iter([": PROCESSING\n\n", *lines, "data: [DONE]\n\n"]))

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        pass
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    server.should_exit = True
    thread.join()


def client(url):
    return openai.OpenAI(base_url=url, api_key="x", http_client=budget.metered_client(SMALL))


def ask(metered, stream):
    reply = metered.chat.completions.create(
        model=SMALL, messages=[{"role": "user", "content": "hi"}], stream=stream, max_tokens=100
    )
    return "".join(c.choices[0].delta.content for c in reply if c.choices) if stream else reply


@pytest.mark.parametrize("stream", [False, True])
def test_requests_stop_at_the_cap_across_clients(priced_server, stream, tmp_path, monkeypatch):
    monkeypatch.setenv(budget.CAP_VARIABLE, "0.03001")
    monkeypatch.setenv(budget.SPENT_VARIABLE, str(tmp_path / "spent"))
    for _ in range(3):  # as three notebooks, one after the other
        assert ask(client(priced_server), stream)
    with pytest.raises(openai.APIStatusError, match=r"cap is 0\.0300 USD") as error:
        ask(client(priced_server), stream)
    assert error.value.status_code == 402


def test_parallel_requests_cannot_pass_the_cap_together(priced_server, monkeypatch):
    monkeypatch.setenv(budget.CAP_VARIABLE, "0.0301")  # three replies, and a worst case of 0.00002
    monkeypatch.delenv(budget.SPENT_VARIABLE, raising=False)
    metered = client(priced_server)
    worst = {"model": SMALL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100_000}

    def try_once(_):
        try:  # 100,000 tokens may cost 0.02 USD, so two at a time would be too many
            metered.chat.completions.create(**worst)
        except openai.APIStatusError as error:
            return error.status_code
        return 200

    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(try_once, range(8)))
    assert 1 <= codes.count(200) <= 2
    assert set(codes) == {200, 402}


def test_a_capped_run_honours_the_environments_proxy(priced_server, monkeypatch):
    monkeypatch.setenv(budget.CAP_VARIABLE, "0.02001")
    monkeypatch.delenv(budget.SPENT_VARIABLE, raising=False)
    with proxy(forwards=True) as seen:
        metered = client(priced_server)
        for _ in range(2):
            assert ask(metered, False).usage.cost == 0.01
        with pytest.raises(openai.APIStatusError, match="cap is"):
            ask(metered, False)
    assert seen == [f"POST {priced_server}/chat/completions"] * 2


def test_a_capped_run_tunnels_https_through_the_proxy(monkeypatch):
    monkeypatch.setenv(budget.CAP_VARIABLE, "1")
    with proxy(forwards=False) as seen:
        for direct_hosts, expected in (("", ["CONNECT models.invalid:443"]), ("*", [])):
            monkeypatch.setenv("NO_PROXY", direct_hosts)
            seen.clear()
            metered = client("https://models.invalid/v1").with_options(max_retries=0, timeout=5)
            with pytest.raises(openai.APIConnectionError):
                ask(metered, False)
            assert seen == expected


def test_a_model_without_a_price_is_refused_before_anything_is_paid(monkeypatch):
    monkeypatch.setenv(budget.CAP_VARIABLE, "1")
    with pytest.raises(prices.BudgetError, match="no price"):
        budget.metered_client("unknown/model")


def test_without_a_cap_nothing_is_metered(monkeypatch):
    monkeypatch.delenv(budget.CAP_VARIABLE, raising=False)
    assert budget.metered_client(SMALL) is None


@pytest.mark.parametrize("cap", ["-1", "nan", "inf", "abc"])
def test_a_cap_that_is_none(cap, monkeypatch):
    monkeypatch.setenv(budget.CAP_VARIABLE, cap)
    with pytest.raises(prices.BudgetError, match="number of USD"):
        budget.metered_client(SMALL)


def test_cost_by_price_is_the_sum_of_tokens_times_price():
    # 0.075 and 0.20 USD per million, as data/prices.json has them
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 500_000}
    assert prices.cost(usage, SMALL) == pytest.approx(0.075 + 0.10)
    assert prices.cost(usage | {"cost": 0.5}, SMALL) == 0.5
    with pytest.raises(prices.BudgetError, match="no price"):
        prices.price("unknown/model")


@pytest.mark.parametrize("body", [b"", b"garbage", b"data: {broken\n\n", b'{"error": {}}', b"[]"])
def test_a_reply_without_usage_costs_nothing_and_breaks_nothing(body):
    assert budget.last_usage(body) is None


def test_the_estimate_of_a_run_is_above_what_its_tokens_cost():
    counted = json.loads(run_cost.RUN_TOKENS.read_text())["notebooks"]
    paths = notebooks.available()
    assert set(counted) == {path.stem for path in paths}
    by_hand = sum(
        row["prompt_tokens"] * 0.075e-6 + row["completion_tokens"] * 0.20e-6
        for row in counted.values()
    )
    assert by_hand < run_cost.estimate_run(paths, SMALL) < 0.10
    with pytest.raises(prices.BudgetError, match="no price"):
        run_cost.estimate_run(paths, BACKENDS["mistral"].model)


@pytest.mark.parametrize(
    ("backend", "counts", "left_out", "kept"),
    [
        ("pocket", 7, 0, True),
        ("openrouter-sim", 7, 0, True),
        ("vllm", 7, 0, False),
        ("pocket", None, 0, False),
        ("pocket", 7, 1, False),  # the other counts would be lost
    ],
)
def test_token_counts_are_kept_from_whole_runs_on_the_pocket_model_only(
    tmp_path, monkeypatch, backend, counts, left_out, kept
):
    target = tmp_path / "run_tokens.json"
    monkeypatch.setattr(run_cost, "RUN_TOKENS", target)
    names = [path.stem for path in notebooks.available()]
    rows = [{"name": n, "prompt_tokens": counts, "completion_tokens": counts} for n in names]
    results = tmp_path / "results.json"
    started = "2026-01-02T03:04:05+00:00"
    results.write_text(
        json.dumps({"backend": backend, "started": started, "results": rows[left_out:]})
    )
    if not kept:
        with pytest.raises(prices.BudgetError, match="whole runs"):
            run_cost.record_tokens(results)
        assert not target.exists()
        return
    run_cost.record_tokens(results)
    saved = json.loads(target.read_text())
    assert saved["notebooks"] == {
        name: {"prompt_tokens": 7, "completion_tokens": 7} for name in names
    }
    assert backend in saved["command"]
    assert saved["date"] == "2026-01-02"
