"""The cap on money, against a real server on loopback that states what each reply costs."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import httpx2
import openai
import pytest
from loopback_proxy import proxy
from scripted_pocket import served
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from helpers import budget, prices, wire
from helpers.backends import BACKENDS
from labkit import notebooks, run_cost

SMALL = BACKENDS["openrouter"].model


@pytest.fixture(scope="module")
def priced_server():
    """Each reply states a cost of 0.01 USD, at the end of the stream when streaming."""
    usage = {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11, "cost": 0.01}

    async def chat(request):
        head = {"id": "gen-1", "created": 0, "model": SMALL}
        message = {"role": "assistant", "content": "hé"}
        if not (await request.json()).get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            body = {"object": "chat.completion", "choices": [choice], "usage": usage}
            return JSONResponse(head | body)
        chunk = head | {"object": "chat.completion.chunk"}
        delta = {"index": 0, "delta": message, "finish_reason": None}
        documents = [chunk | {"choices": [delta]}, chunk | {"choices": [], "usage": usage}]
        lines = [f"data: {json.dumps(document)}\n\n" for document in documents]
        return StreamingResponse(iter([": PROCESSING\n\n", *lines, "data: [DONE]\n\n"]))

    with served(Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])) as url:
        yield f"{url}/v1"


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


# What a reply says of its cost. WORST: it does not say, so the worst case stays booked.

WORST = None
ANSWER = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
PIECE = {"choices": [{"delta": {"content": "Hi"}, "finish_reason": None}]}
END = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
COUNTS = {"prompt_tokens": 1000, "completion_tokens": 100}
BY_PRICE = Decimal("0.000095")  # 1000 · 0.075e-6 + 100 · 0.2e-6
COSTS = {
    "a number": (0.01, Decimal("0.01")),
    "a number as a string, as some gateways write it": ("0.01", Decimal("0.01")),
    "a whole number": (1, Decimal(1)),
    "nothing to pay": (0, Decimal(0)),
    "the smallest": (1e-12, Decimal("1e-12")),
    "null": (None, BY_PRICE),
    "a negative number": (-0.01, BY_PRICE),
    "NaN": (math.nan, BY_PRICE),
    "infinity": (math.inf, BY_PRICE),
    "a word": ("free", BY_PRICE),
    "an object": ({"usd": 1}, BY_PRICE),
    "true": (True, BY_PRICE),
}
USAGES = {
    "null": (None, WORST),
    "nothing in it": ({}, WORST),
    "a number": (0.01, WORST),
    "a list": ([COUNTS], WORST),
    "counts only": (COUNTS, BY_PRICE),
    "half of the counts": ({"prompt_tokens": 1000}, WORST),
    "a count of null": ({"prompt_tokens": None, "completion_tokens": 1}, WORST),
    "a negative count": ({"prompt_tokens": -1, "completion_tokens": 1}, WORST),
}


def events(*documents, end="\n\n", colon=": ", done=True) -> bytes:
    data = [json.dumps(document, ensure_ascii=False) for document in documents]
    data += ["[DONE]"] if done else []
    return "".join(f"data{colon}{line}{end}" for line in data).encode()


def with_usage(document, **usage) -> dict:
    return document | {"usage": COUNTS | usage}


CHEAP, DEAR = {"cost": 0.001}, {"cost": 0.01}
LAST = {"choices": [], "usage": COUNTS | DEAR}
BODIES = {
    "one usage at the end": (events(PIECE, END, LAST), DEAR),
    "a usage in every chunk": (events(with_usage(PIECE, **CHEAP), with_usage(END, **DEAR)), DEAR),
    "several at the end": (events(PIECE, END, LAST | {"usage": CHEAP}, LAST), DEAR),
    "null after it": (events(PIECE, with_usage(END, **DEAR), {"choices": [], "usage": None}), DEAR),
    "cut before its end": (events(with_usage(PIECE, **CHEAP), done=False), WORST),
    "an error after some text": (events(PIECE, {"error": {"code": 502}, **PIECE}), WORST),
    "an error at once": (events({"error": {"code": 502}}), {"cost": 0}),
    "lines that end in CR LF": (events(PIECE, LAST, end="\r\n\r\n"), DEAR),
    "lines that end in CR": (events(PIECE, LAST, end="\r\r"), DEAR),
    "no space after the colon": (events(PIECE, LAST, colon=":"), DEAR),
    "comments and other fields": (b": hello\nid: 1\nevent: x\n" + events(LAST), DEAR),
    "a U+2028 in the text": (events({"choices": [], "x": "a\u2028b\u0085", **LAST}), DEAR),
    "an event in two lines": (b'data: {"choices": [],\ndata: "usage": {"cost": 0.01}}\n\n', DEAR),
    "JSON after blanks": (b"\n  \n" + json.dumps(with_usage(ANSWER, **DEAR)).encode(), DEAR),
    "JSON after a byte order mark": (
        json.dumps(with_usage(ANSWER, **DEAR)).encode("utf-8-sig"),
        DEAR,
    ),
    "JSON that is cut": (json.dumps(with_usage(ANSWER, **DEAR)).encode()[:-2], WORST),
    "nothing": (b"", WORST),
    "blanks": (b"\n \n", WORST),
    "a page": (b"<html>Sign in</html>", WORST),
    "no object": (b"[1]", WORST),
    "deeper than any reader": (b"[" * 100_000, WORST),
    "bytes that are no text": (b"\xff\xfe\x00", WORST),
    "an error with status 200": (b'{"error": {"code": 502}, "user_id": "u"}', {"cost": 0}),
}


def played(content: bytes, status=200, headers=None, file=None) -> budget.MeteredClient:
    """A metered client whose every request gets this reply."""
    reply = lambda _: httpx2.Response(status, content=iter([content]), headers=headers)  # noqa: E731
    return budget.MeteredClient(1.0, SMALL, file, transport=httpx2.MockTransport(reply))


QUESTION = {"model": SMALL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}
URL = "http://played.invalid/v1/chat/completions"


def booked(metered, question=QUESTION) -> Decimal | None:
    """What is booked for one request; WORST if it is the request's worst case."""
    size = len(metered.post(URL, json=question).request.content)
    worst = size * Decimal("0.075e-6") + 50 * Decimal("0.2e-6")
    return WORST if metered.booked_usd == worst else metered.booked_usd


@pytest.mark.parametrize(("cost", "expected"), COSTS.values(), ids=COSTS)
def test_the_cost_that_a_usage_names(cost, expected):
    assert booked(played(json.dumps(with_usage(ANSWER, cost=cost)).encode())) == expected


@pytest.mark.parametrize(("usage", "expected"), USAGES.values(), ids=USAGES)
def test_a_usage_without_a_cost(usage, expected):
    assert booked(played(json.dumps(ANSWER | {"usage": usage}).encode())) == expected


@pytest.mark.parametrize(("body", "usage"), BODIES.values(), ids=BODIES)
def test_where_a_body_says_its_cost(body, usage):
    """The event-stream format: https://html.spec.whatwg.org/multipage/server-sent-events.html"""
    assert booked(played(body)) == (WORST if usage is WORST else Decimal(str(usage["cost"])))


@pytest.mark.parametrize("status", [400, 429, 502])
def test_an_error_costs_nothing_unless_it_says_so(status):
    error = {"error": {"code": status, "message": "no"}}
    assert booked(played(json.dumps(error).encode(), status)) == 0
    assert booked(played(b"<html>", status)) == 0
    assert booked(played(json.dumps(error | {"usage": DEAR, "choices": []}).encode(), status)) == (
        Decimal("0.01")
    )


@pytest.mark.parametrize(
    ("error", "sent"),
    [
        *[(httpx2.ConnectError, False), (httpx2.ProxyError, False)],
        *[(httpx2.ReadTimeout, True), (KeyboardInterrupt, True)],
    ],
)
@pytest.mark.parametrize("after", [None, b"data: {}\n\n"])
def test_what_was_sent_and_not_answered_may_be_billed(error, sent, after):
    def pieces():
        yield after
        raise error("broken")

    def answer(_):
        if after is None:
            raise error("broken")
        return httpx2.Response(200, content=pieces())

    metered = budget.MeteredClient(1.0, SMALL, transport=httpx2.MockTransport(answer))
    with pytest.raises(error):
        metered.post(URL, json=QUESTION)
    assert (metered.booked_usd > 0) == (sent or after is not None)


def test_a_stream_that_is_left_stays_booked():
    metered = played(events(PIECE, PIECE, END, LAST))
    with metered.stream("POST", URL, json=QUESTION) as reply:
        next(reply.iter_bytes())
    assert metered.booked_usd == Decimal("0.01")  # it had arrived whole
    assert reply.request.headers["accept-encoding"] == "identity"  # the meter reads plain bytes
    metered = played(events(PIECE))
    with metered.stream("POST", URL, json=QUESTION):
        pass
    assert 0 < metered.booked_usd < Decimal("0.0001")


@pytest.mark.parametrize(
    ("more", "usd"),
    [
        ({}, "0.2e-6"),
        ({"max_tokens": 2}, "0.4e-6"),
        ({"max_tokens": 2, "max_completion_tokens": 3}, "0.6e-6"),
        ({"n": 3}, "0.6e-6"),
        ({"max_tokens": None}, "3276.8e-6"),
        ({"max_tokens": "many"}, "3276.8e-6"),
        ({"n": None}, "0.2e-6"),
    ],
)
def test_the_worst_case_is_never_below_what_can_be_billed(more, usd):
    metered = played(b"")
    size = len(metered.post(URL, json={"max_tokens": 1} | more).request.content)
    assert metered.booked_usd == size * Decimal("0.075e-6") + Decimal(usd)


def test_the_worst_case_of_a_prompt_is_above_its_tokens():
    """Rare letters take several tokens each, and a small file can be a large picture."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 50}}
    text = {"type": "text", "text": "\u2c81\u0f40\U0001f9ec" * 200}
    messages = [{"role": "user", "content": [text, picture]}]
    metered = played(b"")
    metered.post(URL, json=QUESTION | {"messages": messages})
    tokens = len(wire.encode([{"role": "user", "content": text["text"]}])) + 3080
    assert metered.booked_usd > tokens * Decimal("0.075e-6")


def test_a_text_that_looks_like_a_data_url_counts():
    metered = played(b"")
    metered.post(URL, json={"messages": [{"role": "user", "content": "data: " + "7 " * 10**6}]})
    assert metered.booked_usd > 10**6 * Decimal("0.075e-6")


@pytest.mark.parametrize("content", [b"", b"[]", b"[" * 100_000])
def test_a_request_that_is_no_json_object_counts_as_one_without_a_limit(content):
    metered = played(b"")
    metered.post(URL, content=content)
    assert metered.booked_usd >= Decimal("3276.8e-6")


def test_what_only_reads_costs_nothing():
    metered = played(json.dumps({"usage": DEAR, "data": {"usage": 5}}).encode())
    metered.get("http://played.invalid/v1/key")
    assert metered.booked_usd == 0


# The file in which processes add up what they spend

PAID = json.dumps(with_usage(ANSWER, **DEAR)).encode()


def test_the_sum_has_no_error_in_its_last_digit(tmp_path):
    ledger = budget.Ledger(tmp_path / "spent")
    for _ in range(10):
        ledger.add(Decimal("0.1"))
        ledger.add(Decimal("1e-15"))
    assert ledger.total() == Decimal("1.00000000000001")


def test_a_line_that_was_not_written_to_its_end_is_no_money_and_no_obstacle(tmp_path):
    file = tmp_path / "spent"
    played(PAID, file=file).post(URL, json=QUESTION)
    whole = file.read_bytes()
    (reserved, corrected) = whole.splitlines(keepends=True)
    for cut in range(1, len(corrected)):
        file.write_bytes(reserved + corrected[:cut])
        metered = played(PAID, file=file)
        # Killed before the correction was written: the worst case counts, which is not less.
        left = metered.booked_usd
        assert left in (Decimal(json.loads(reserved)["usd"]), Decimal("0.01"))
        assert metered.post(URL, json=QUESTION).status_code == 200
        assert metered.booked_usd == left + Decimal("0.01")


@pytest.mark.parametrize("damage", [b"0.01\n", b'{"usd": null}\n'])
def test_a_damaged_file_stops_the_run_with_words_and_forgets_nothing(tmp_path, damage):
    file = tmp_path / "spent"
    played(PAID, file=file).post(URL, json=QUESTION)
    file.write_bytes(damage + file.read_bytes())
    before = file.read_bytes()
    reply = played(PAID, file=file).post(URL, json=QUESTION)
    assert reply.status_code == 402
    assert f"{file} has a damaged line" in reply.json()["error"]["message"]
    assert file.read_bytes() == before


def test_a_file_that_was_deleted_or_cannot_be_written(tmp_path):
    file = tmp_path / "spent"
    metered = played(PAID, file=file)
    metered.post(URL, json=QUESTION)
    file.unlink()
    assert metered.booked_usd == Decimal("0.01")
    metered.post(URL, json=QUESTION)
    assert metered.booked_usd == Decimal("0.02")
    reply = played(PAID, file=tmp_path / "no-folder" / "spent").post(URL, json=QUESTION)
    assert reply.status_code == 402  # nothing is sent that cannot be counted
    assert "no-folder" in reply.json()["error"]["message"]


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
