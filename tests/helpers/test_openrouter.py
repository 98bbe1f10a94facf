"""Errors explained, patience, streams kept, cost: against a scripted server, not the simulator."""

import email.utils
import http.server
import json
import random
import threading
import time
from types import SimpleNamespace

import httpx2
import openai
import pydantic
import pytest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from openai.types import CompletionUsage

from helpers import openrouter, prices
from helpers.wire import SHIPPED

QUESTION = [{"role": "user", "content": "Hello"}]
GOOD = {
    "id": "gen-1",
    "object": "chat.completion",
    "created": 0,
    "model": "m",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi."}}
    ],
    "usage": {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6},
}


def failure(code, message="simulated", **metadata):
    return {"error": {"code": code, "message": message, "metadata": metadata}}


@pytest.fixture
def script():
    """A server that gives its `.replies` in turn: (status, headers, body); it notes `.came`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.server.came.append(time.monotonic())
            status, headers, body = self.server.replies.pop(0)
            data = json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.replies, server.came = [], []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.client = openai.OpenAI(
        base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="not-needed"
    )
    yield server
    server.client.close()
    server.shutdown()


def caught(script, status, body, headers=None):
    script.replies = [(status, headers or {}, body)]
    client = script.client.with_options(max_retries=0)
    with pytest.raises(openai.APIError) as error:
        client.chat.completions.create(model="m", messages=QUESTION)
    return error.value


# Explained


@pytest.mark.parametrize("status", sorted(openrouter.STATUSES))
def test_retry_is_advised_exactly_where_the_client_retries(script, status):
    error = caught(script, status, failure(status))
    advice = openrouter.explain(error)
    assert advice.code == status
    assert advice.action
    # The openai package's own judgement of the same response.
    assert advice.retry == script.client._should_retry(error.response)


def test_the_servers_words_and_the_providers_are_kept(script):
    body = failure(502, "Provider returned error", raw="out of memory on device 3")
    advice = str(openrouter.explain(caught(script, 502, body)))
    assert "Provider returned error" in advice
    assert "out of memory on device 3" in advice


def test_a_wrong_model_gets_the_nearest_real_one(script):
    body = failure(400, "mistral-small-3 is not a valid model ID")
    advice = openrouter.explain(caught(script, 400, body))
    assert not advice.retry
    assert "mistralai/mistral-small-3.2-24b-instruct" in advice.action
    assert openrouter.near_models("mistral-smal-24b-instruct-2501")[0].endswith("2501")
    assert openrouter.near_models("zzz") == []


def test_a_long_prompt_is_told_to_be_shortened(script):
    body = failure(400, "This endpoint's maximum context length is 32768 tokens.")
    assert "Shorten" in openrouter.explain(caught(script, 400, body)).action


def test_retry_after_in_seconds_and_as_a_date(script):
    error = caught(script, 429, failure(429), {"Retry-After": "7"})
    assert openrouter.explain(error).retry_after_s == 7.0
    later = email.utils.formatdate(time.time() + 30, usegmt=True)
    error = caught(script, 429, failure(429), {"Retry-After": later})
    assert openrouter.explain(error).retry_after_s == pytest.approx(30, abs=2)
    error = caught(script, 429, failure(429), {"Retry-After": "soon"})
    assert openrouter.explain(error).retry_after_s is None


def test_the_openai_dialect_with_words_for_codes(script):
    body = {"error": {"message": "too long", "type": "invalid", "code": "context_length_exceeded"}}
    advice = openrouter.explain(caught(script, 400, body))
    assert advice.code == 400


def test_a_body_that_is_no_object(script):
    assert openrouter.explain(caught(script, 503, "<html>")).code == 503


def test_connection_timeout_and_strangers():
    request = httpx2.Request("POST", "http://localhost")
    assert openrouter.explain(openai.APIConnectionError(request=request)).retry
    assert openrouter.explain(openai.APITimeoutError(request=request)).retry
    assert not openrouter.explain(ZeroDivisionError("x")).retry


@pytest.mark.parametrize(
    ("code", "retry"),
    [(502, True), ("502", True), ("server_error", True), (None, True), (402, False)],
)
def test_an_error_in_the_middle_of_a_stream(code, retry):
    request = httpx2.Request("POST", "http://localhost")
    body = {"code": code, "message": "gone"}
    advice = openrouter.explain(openai.APIError("gone", request, body=body))
    assert advice.retry == retry
    assert "middle of the stream" in advice.summary


def test_a_words_meaning_is_taken_from_the_error_type():
    error = openrouter.NoAnswer({"code": "x", "metadata": {"error_type": "payment_required"}})
    assert openrouter.explain(error).code == 402
    for odd in ({"metadata": "text"}, {"metadata": None, "code": []}, "only words", {}):
        assert openrouter.explain(openrouter.NoAnswer(odd)).retry


def test_what_ends_a_stream_is_a_broken_connection():
    for error in (
        httpx2.RemoteProtocolError("cut"),
        ConnectionError("cut"),
        httpx2.ReadTimeout(""),
    ):
        assert openrouter.explain(error).retry


def test_an_address_that_is_no_api(page):
    for ask in (
        lambda: openrouter.complete(page, model="m", messages=QUESTION),
        lambda: openrouter.key_status(page),
        lambda: openrouter.list_prices(page),
    ):
        with pytest.raises(openrouter.NoAnswer) as error:
            ask()
        assert "base URL" in openrouter.explain(error.value).action


@pytest.fixture
def page():
    """A client whose base URL is that of a web page."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            data = b"<html>Welcome</html>"
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}", api_key="not-needed")
    server.shutdown()


# Patience


def test_what_can_pass_is_sent_again_and_retry_after_is_kept(script):
    script.replies = [(429, {"Retry-After": "1"}, failure(429)), (200, {}, GOOD)]
    retries = []
    reply = openrouter.complete(
        script.client,
        model="m",
        messages=QUESTION,
        on_retry=lambda a, s: retries.append((a.code, s)),
    )
    assert reply.choices[0].message.content == "Hi."
    ((code, pause),) = retries
    assert code == 429
    assert 1.0 <= pause <= 1.0 + openrouter.JITTER_S
    assert script.came[1] - script.came[0] >= 1.0


def test_an_error_inside_200_is_sent_again_too(script):
    script.replies = [(200, {}, failure(502)), (200, {}, GOOD)]
    assert openrouter.complete(script.client, model="m", messages=QUESTION).id == "gen-1"
    script.replies = [(200, {}, failure(402))]
    with pytest.raises(openrouter.NoAnswer):
        openrouter.complete(script.client, model="m", messages=QUESTION)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404])
def test_what_cannot_pass_is_sent_once(script, status):
    script.replies = [(status, {}, failure(status)), (200, {}, GOOD)]
    with pytest.raises(openai.APIStatusError):
        openrouter.complete(script.client, model="m", messages=QUESTION)
    assert len(script.came) == 1


def test_attempts_end(script):
    script.replies = [(503, {"Retry-After": "0"}, failure(503)) for _ in range(9)]
    with pytest.raises(openai.InternalServerError):
        openrouter.complete(script.client, model="m", messages=QUESTION, attempts=3)
    assert len(script.came) == 3


def test_no_pause_is_begun_that_ends_after_the_total(script):
    script.replies = [(429, {"Retry-After": "30"}, failure(429)), (200, {}, GOOD)]
    begun = time.monotonic()
    with pytest.raises(openai.RateLimitError):
        openrouter.complete(script.client, model="m", messages=QUESTION, total_s=5)
    assert time.monotonic() - begun < 5
    assert len(script.came) == 1


def test_pauses_differ_between_clients(script):
    pauses = []
    for seed in range(4):
        random.seed(seed)
        script.replies = [(503, {}, failure(503)), (200, {}, GOOD)]
        openrouter.complete(
            script.client, model="m", messages=QUESTION, on_retry=lambda a, s: pauses.append(s)
        )
    assert len(set(pauses)) == 4
    assert all(0.5 <= pause <= 0.5 + openrouter.JITTER_S for pause in pauses)


# Streams


def chunk(text=None, finish=None, usage=None):
    choice = SimpleNamespace(finish_reason=finish, delta=SimpleNamespace(content=text))
    return SimpleNamespace(usage=usage, choices=[] if usage else [choice])


def broken(pieces, error):
    yield from (chunk(piece) for piece in pieces)
    raise error


def test_a_whole_stream():
    pieces = []
    usage = CompletionUsage(prompt_tokens=4, completion_tokens=3, total_tokens=7)
    stream = [chunk(""), chunk("A"), chunk("BC"), chunk(finish="stop"), chunk(usage=usage)]
    got = openrouter.collect(stream, pieces.append)
    assert (got.text, got.finish_reason, got.usage) == ("ABC", "stop", usage)
    assert got.complete
    assert pieces == ["A", "BC"]


def test_partial_text_survives_whatever_ends_the_stream():
    for error in (httpx2.RemoteProtocolError("cut"), ConnectionResetError(), ValueError("json")):
        got = openrouter.collect(broken(["A", "B"], error))
        assert got.text == "AB"
        assert got.error is error
        assert not got.complete


def test_ctrl_c_leaves_what_had_arrived_and_the_callers_own_errors_are_its_own():
    got = openrouter.Streamed()
    with pytest.raises(KeyboardInterrupt):
        openrouter.collect(broken(["A", "B"], KeyboardInterrupt()), result=got)
    assert got.text == "AB"
    with pytest.raises(ZeroDivisionError):
        openrouter.collect([chunk("A")], on_text=lambda piece: 1 / 0)


def test_a_stream_that_just_ends_is_not_whole():
    got = openrouter.collect([chunk("A")])
    assert got.text == "A"
    assert isinstance(got.error, ConnectionError)


# Form


class Review(pydantic.BaseModel):
    sentiment: str
    stars: int


def reply(text, finish="stop"):
    message = SimpleNamespace(content=text)
    return SimpleNamespace(choices=[SimpleNamespace(message=message, finish_reason=finish)])


def test_an_answer_that_fits():
    assert openrouter.parsed(reply('{"sentiment": "good", "stars": 5}'), Review).stars == 5


@pytest.mark.parametrize(
    ("text", "finish", "says"),
    [
        ('{"sentiment": "good"}', "stop", "stars: Field required"),
        ('{"sentiment": "good", "stars": "many"}', "stop", "stars: Input should be"),
        ('{"sentiment": "go', "length", "cut off at max_tokens"),
        ("", "stop", "Invalid JSON"),
    ],
)
def test_an_answer_that_does_not_fit_says_what_is_missing_and_is_kept(text, finish, says):
    with pytest.raises(openrouter.SchemaMismatch, match=says) as mismatch:
        openrouter.parsed(reply(text, finish), Review)
    assert mismatch.value.text == text
    assert not openrouter.explain(mismatch.value).retry


# Money


def test_an_estimate_is_the_official_tokenizers_count_times_the_price():
    model = "mistralai/mistral-small-3.2-24b-instruct"
    text = "Explain quantum computing in simple words."
    estimate = openrouter.estimate_cost([{"role": "user", "content": text}], model, max_tokens=100)
    tokenizer = MistralTokenizer.from_file(str(SHIPPED)).instruct_tokenizer.tokenizer
    # <s>, [INST] and [/INST] around the text
    assert estimate.prompt_tokens == len(tokenizer.encode(text, bos=False, eos=False)) + 3
    assert estimate.min_usd == pytest.approx(estimate.prompt_tokens * 0.075e-6)
    assert estimate.max_usd - estimate.min_usd == pytest.approx(100 * 0.2e-6)
    with pytest.raises(prices.BudgetError, match="no price"):
        openrouter.estimate_cost(QUESTION, "no/such", max_tokens=1)
