"""What servers send in place of a plain answer, and what becomes of it.

The forms are those of OpenAI's reference (the openai package's types), OpenRouter's OpenAPI
document (`error` in a choice, finish_reason "error"), FastAPI's and Mistral's `detail`, vLLM's
`{"object": "error"}` and Ollama's `{"error": "text"}`. Streams are read as the WHATWG standard
"Server-sent events" and the openai package read them.
"""

import gzip
import itertools
import json
import threading
import time
from types import SimpleNamespace

import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from played import KEY, Played, answer, reply, stream

from helpers import latency, latency_stats, openrouter, replies

QUESTION = [{"role": "user", "content": "Hi"}]
DIED = {"code": 502, "message": "Upstream died"}


def complete(*played, **request):
    server = Played(*played)
    try:
        return openrouter.complete(
            server.client, attempts=1, model="m", messages=QUESTION, **request
        )
    finally:
        assert len(server.requests) == 1


# --- status 200 without an answer ----------------------------------------------------------------

NO_ANSWERS = {  # name: body, what the error says, whether to ask again
    "blanks": (b"\n  \n", "not complete JSON", True),
    "nothing": (b"", "not complete JSON", True),
    "cut short": (b'{"id": "gen-1", "cho', "not complete JSON", True),
    "a page as JSON": (b"<html>Sign in</html>", "<html>Sign in", True),
    "not UTF-8": (b'{"choices": ["\xe9"]}', "not complete JSON", True),
    "too deep": (b"[" * 100_000, "not complete JSON", True),
    "null": (None, "None", True),
    "a list": ([answer()], "no answer", True),
    "an empty object": ({}, "{}", True),
    "choices null": ({"choices": None}, "no answer", True),
    "choices empty": ({"choices": []}, "no answer", True),
    "choice null": ({"choices": [None]}, "no answer", True),
    "no message": ({"choices": [{"index": 0, "finish_reason": "stop"}]}, "no answer", True),
    "error a text": ({"error": "out of memory"}, "out of memory", True),
    "error empty": ({"error": {}}, "no answer", True),
    "code a number": ({"error": DIED | {"code": 402}}, "Upstream died", False),
    "code as text": ({"error": DIED | {"code": "402"}}, "Upstream died", False),
    "code a word": ({"error": DIED | {"code": "insufficient_quota"}}, "Upstream died", False),
    "code of its own": ({"error": DIED | {"code": 20}}, "Upstream died", True),
    "vLLM": ({"object": "error", "message": "too long", "code": 400}, "too long", False),
    "FastAPI": ({"detail": "not here"}, "not here", True),
    "error in the choice": (answer("", finish_reason="error", error=DIED), "Upstream died", True),
    "half an answer": (answer("Hal", error=DIED | {"code": 402}), "Upstream died", False),
    "finish_reason error": (answer("", finish_reason="error"), "finish_reason 'error'", True),
}


@pytest.mark.parametrize("name", NO_ANSWERS)
def test_what_is_no_answer_is_said_and_asked_again_where_that_can_help(name, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    body, says, again = NO_ANSWERS[name]
    with pytest.raises(openrouter.NoAnswer) as caught:
        complete(reply(body))
    assert says in str(caught.value)
    advice = openrouter.explain(caught.value)
    assert advice.retry == again
    assert advice.summary.startswith("Accepted with status 200, then:")
    assert says in advice.server
    server = Played(reply(body), reply(answer()))
    if again:
        both = openrouter.complete(server.client, model="m", messages=QUESTION, attempts=2)
        assert both.choices[0].message.content == "Hi."
    if isinstance(body, bytes):  # the plain client raises its own error for these
        with pytest.raises((ValueError, RecursionError, openrouter.NoAnswer)) as raw:
            replies.message(Played(reply(body)).client.chat.completions.create(
                model="m", messages=QUESTION
            ))  # fmt: skip
        assert openrouter.explain(raw.value).retry == again


@pytest.mark.parametrize("status", [201, 202, 204])
def test_other_statuses_of_success_without_an_answer(status):
    with pytest.raises(openrouter.NoAnswer):
        complete(reply(b"", status))


def test_a_page_is_told_from_an_api():
    for body, retry in ((b"<html>Welcome</html>", False), (b" \n ", True)):
        with pytest.raises(openrouter.NoAnswer) as caught:
            complete(reply(body, headers={"content-type": "text/html"}))
        assert openrouter.explain(caught.value).retry == retry


PARTS = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
    {"type": "text", "text": "H"},
    None,
    {"type": "text", "text": "i."},
    {"type": "text", "text": None},
]
ANSWERS = {  # a server's form of an answer: its text
    "plain": (answer(), "Hi."),
    "an error that is null": (answer() | {"error": None}, "Hi."),
    "an error beside a whole answer": (answer() | {"error": DIED}, "Hi."),
    "an unknown finish_reason": (answer(finish_reason="eos"), "Hi."),
    "no finish_reason": (answer(finish_reason=None), "Hi."),
    "parts, as of Mistral's reasoning models": (answer(PARTS), "Hi."),
    "content null": (answer(None), ""),
    "content of another type": (answer(5), ""),
    "filtered": (answer(None, finish_reason="content_filter"), ""),
    "usage odd": (answer(usage="none"), "Hi."),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_other_forms_of_an_answer_are_taken(name):
    body, text = ANSWERS[name]
    assert replies.text_of(replies.message(complete(reply(body))).content) == text


def test_why_a_connection_broke_is_said():
    with pytest.raises(openai.APIConnectionError) as caught:
        complete(reply(answer(), headers={"content-encoding": "gzip"}))
    assert "incorrect header" in openrouter.explain(caught.value).summary
    record = latency.stream_once(
        Played(reply(AB, headers={"content-encoding": "gzip"})).client, "m", "Hi"
    )
    assert "incorrect header" in record.error
    packed = Played(reply(gzip.compress(AB), headers={"content-encoding": "gzip"}))
    assert latency.stream_once(packed.client, "m", "Hi").text == "Aé"


def test_a_type_that_is_not_named_or_wrong_does_not_matter():
    for content_type in ("text/plain", ""):
        got = complete(reply(answer(), headers={"content-type": content_type}))
        assert replies.message(got).content == "Hi."


# None wherever the openai client takes it, and other ways to say nothing.
@pytest.mark.parametrize(
    "request_",
    [{"extra_headers": None}, {"extra_headers": {}}, {"timeout": None}, {"timeout": 5},
     {"timeout": httpx2.Timeout(5)}, {"stream": None}, {"stream": False}, {"extra_body": None},
     {"extra_query": None}, {"max_tokens": None}, {"extra_headers": {"X-A": openai.Omit()}}],
)  # fmt: skip
def test_what_the_client_allows_is_allowed(request_):
    assert complete(reply(answer()), **request_).choices[0].message.content == "Hi."


def test_a_stream_is_refused_before_it_is_paid():
    server = Played()
    with pytest.raises(ValueError, match="collect"):
        openrouter.complete(server.client, model="m", messages=QUESTION, stream=True)
    assert not server.requests


# --- errors with a status ------------------------------------------------------------------------

PAGE = b"<html><head><title>502</title><style>p {}</style></head><h1>Bad Gateway</h1>nginx</html>"
DETAIL = [{"type": "extra", "loc": ["body", "messages", 0, "name"], "msg": "Extra inputs"}]
BODIES = {  # status, body, what the server says in it
    "OpenAI": (400, {"error": {"message": "bad", "type": "x", "code": None}}, "bad"),
    "FastAPI's validation": (422, {"detail": DETAIL}, "body.messages.0.name: Extra inputs"),
    "FastAPI": (404, {"detail": "no such page"}, "no such page"),
    "detail an object": (404, {"detail": {"error": "no such page"}}, "no such page"),
    "Mistral": (422, {"object": "error", "message": {"detail": DETAIL}, "code": None},
                "body.messages.0.name: Extra inputs"),
    "Mistral's message": (401, {"message": "Unauthorized", "request_id": "1"}, "Unauthorized"),
    "vLLM": (400, {"object": "error", "message": "too many tokens", "code": 400}, "too many"),
    "Ollama": (404, {"error": "model 'x' not found"}, "model 'x' not found"),
    "Google": (400, [{"error": {"code": 400, "message": "no valid key"}}], "no valid key"),
    "Cloudflare": (403, {"success": False, "errors": [{"code": 7, "message": "no route"}]},
                   "no route"),
    "Amazon": (403, {"Message": "denied"}, "denied"),
    "RFC 9457": (400, {"title": "Bad", "detail": "no such field", "status": 400}, "no such field"),
    "another form": (400, {"reason": "no such field"}, "no such field"),
    "nested": (500, {"error": {"error": {"message": "in there"}}}, "in there"),
    "the provider's": (502, {"error": {"message": "Provider returned error", "code": 502,
                                       "metadata": {"raw": {"error": {"message": "no memory"}}}}},
                       "Provider returned error / no memory"),
    "text": (429, b"slow down", "slow down"),
    "a page": (502, PAGE, "502 Bad Gateway nginx"),
    "a long page": (502, b"<p>" + b"x" * 10_000, "x" * 500),
    "message null": (500, {"error": {"message": None}}, ""),
    "null": (500, None, ""),
    "nothing": (503, b"", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_the_words_of_any_error_body_are_shown(name):
    status, body, says = BODIES[name]
    with pytest.raises(openai.APIStatusError) as caught:
        complete(reply(body, status))
    advice = openrouter.explain(caught.value)
    assert advice.code == status
    assert says in advice.server
    assert "None" not in advice.server
    assert "Error code" not in advice.server  # these are the client's words
    assert len(advice.server) <= 2 * replies.MAX_CHARACTERS
    record = latency.stream_once(Played(reply(body, status)).client, "m", "Hi")
    assert says in record.error


@pytest.mark.parametrize("status", [300, 301, 302, 304, 307, 308])
def test_an_address_that_leads_elsewhere(status):
    with pytest.raises(openai.APIStatusError) as caught:
        complete(reply(b"", status))
    advice = openrouter.explain(caught.value)
    assert (advice.code, advice.retry) == (status, False)
    assert "base URL" in advice.action


def test_a_key_that_the_server_repeats_is_left_out():
    body = {"error": {"message": f"Incorrect API key provided: {KEY}.", "code": 401}}
    with pytest.raises(openai.AuthenticationError) as caught:
        complete(reply(body, 401))
    assert str(openrouter.explain(caught.value)).count("Incorrect API key provided: ….") == 1
    record = latency.stream_once(Played(reply(body, 401)).client, "m", "Hi")
    assert "provided: …." in record.error
    assert KEY not in record.error


# RFC 9110, 10.2.3: a number of seconds from 0 up, or a date. Anything else says nothing.
WAITS = {
    "7": 7.0, " 7 ": 7.0, "0": 0.0, "0.5": 0.5, "99999999999": 99999999999.0,
    "Wed, 21 Oct 2015 07:28:00 GMT": 0.0, "Mon, 01 Jan 0001 00:00:00 GMT": 0.0,
    "-5": None, "nan": None, "inf": None, "1e400": None, "soon": None, "": None, "7s": None,
    "7, 7": None, "2026-01-01T00:00:00Z": None, "Wed, 21 Oct 99999 07:28:00 GMT": None,
    "Wed, 21 Oct 2026 07:28:00 -9999": None,
}  # fmt: skip


@pytest.mark.parametrize("value", WAITS)
def test_forms_of_retry_after(value):
    with pytest.raises(openai.RateLimitError) as caught:
        complete(reply({}, 429, {"retry-after": value}))
    assert openrouter.explain(caught.value).retry_after_s == WAITS[value]


def test_retry_after_in_milliseconds():
    with pytest.raises(openai.RateLimitError) as caught:
        complete(reply({}, 429, {"retry-after-ms": "1500", "retry-after": "2"}))
    assert openrouter.explain(caught.value).retry_after_s == 1.5


# --- streams -------------------------------------------------------------------------------------


def event(delta=None, finish=None, **fields):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "1", "object": "chat.completion.chunk", "choices": [choice]} | fields


def line(data, start="data: "):
    return f"{start}{json.dumps(data, ensure_ascii=False)}\n\n".encode()


A, B, STOP = event({"content": "A"}), event({"content": "é"}), event({}, "stop")
ROLE, DONE = event({"role": "assistant", "content": ""}), b"data: [DONE]\n\n"
USAGE = event(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9})
AB = line(ROLE) + line(A) + line(B) + line(STOP) + line(USAGE)
TWO_LINES = b'data: {"choices": [{"index": 0,\ndata: "delta": {"content": "A"}}]}\n\n'

STREAMS = {  # bytes: the text that both readers see, and the finish reason
    "plain": (AB + DONE, "Aé", "stop"),
    "CR": ((AB + DONE).replace(b"\n", b"\r"), "Aé", "stop"),
    "CRLF": ((AB + DONE).replace(b"\n", b"\r\n"), "Aé", "stop"),
    "no [DONE]": (AB, "Aé", "stop"),
    "[DONE] without an end": (AB + b"data: [DONE]", "Aé", "stop"),
    "cut after the text": (line(A) + line(B), "Aé", None),
    "cut within an event": (line(A) + line(B)[:-9], "A", None),
    "no blank line at the end": (line(A) + line(STOP)[:-1], "A", None),
    "data after [DONE]": (AB + DONE + line(A), "Aé", "stop"),
    "data: without a blank": (line(A, "data:") + line(STOP, "data:"), "A", "stop"),
    "comments": (b": wait\n\n" + line(A) + b":\n: x\n\n\n" + line(STOP) + DONE, "A", "stop"),
    "other fields": (b"event: x\nid: 1\nretry: 5\nodd\n" + line(A) + line(STOP), "A", "stop"),
    "an event of two lines": (TWO_LINES + line(STOP), "A", "stop"),
    "U+2028, U+2029, U+0085": (line(event({"content": "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"}))
                               + line(STOP), "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg", "stop"),
    "delta null": (line(A) + line(event(None, "stop")), "A", "stop"),
    "no delta": (line(A) + line({"choices": [{"index": 0, "finish_reason": "stop"}]}), "A", "stop"),
    "delta a text": (line(A) + line(event("x", "stop")), "A", "stop"),
    "choice null": (line(A) + line({"choices": [None]}) + line(STOP), "A", "stop"),
    "choices null": (line(A) + line({"choices": None}) + line(STOP), "A", "stop"),
    "choices a text": (line(A) + line({"choices": "x"}) + line(STOP), "A", "stop"),
    "no choices": (line(A) + line({"object": "ping"}) + line(STOP), "A", "stop"),
    "provider an object": (line(A | {"provider": {"name": "x"}}) + line(STOP), "A", "stop"),
    "finish_reason an object": (line(A) + line(event({}, {"type": "stop"})) + line(STOP), "A",
                                "stop"),
    "content in parts": (line(event({"content": PARTS})) + line(STOP), "Hi.", "stop"),
    "content a number": (line(A) + line(event({"content": 5})) + line(STOP), "A", "stop"),
    "usage null": (line(A | {"usage": None}) + line(STOP), "A", "stop"),
    "usage a text": (line(A | {"usage": "x"}) + line(STOP), "A", "stop"),
    "error null": (line(A | {"error": None}) + line(STOP), "A", "stop"),
    "filtered": (line(A) + line(event({}, "content_filter")), "A", "content_filter"),
    "nothing": (b"", "", None),
}  # fmt: skip
BROKEN = {  # bytes, the text before it, what the error says
    "an error event": (line(A) + line({"error": DIED}), "A", "Upstream died"),
    "an error event without words": (line(A) + line({"error": {"code": 502}}), "A", "error"),
    "an error of text": (line(A) + line({"error": "no memory"}), "A", "no memory"),
    "an error beside choices": (line(A) + line(STOP | {"error": DIED}), "A", "Upstream died"),
    "an error in the choice": (line(A) + line({"choices": [{"index": 0, "delta": {}, "error": DIED,
                               "finish_reason": "error"}]}), "A", "Upstream died"),
    "finish_reason error": (line(A) + line(event({}, "error")), "A", "finish_reason 'error'"),
    "not JSON": (line(A) + b"data: {no\n\n", "A", "not complete JSON: '{no'"),
    "not UTF-8": (line(A) + b'data: "\xe9"\n\n', "A", "not complete JSON"),
    "too deep": (line(A) + b"data: " + b"[" * 100_000 + b"\n\n", "A", "recursion"),
    "cut": (line(A), "A", "finish"),
    "a page": (b"<html>Sign in</html>", "", "text/html"),
    "an answer that is no stream": (json.dumps(answer()).encode(), "", "application/json"),
    "an error that is no stream": (json.dumps({"error": DIED}).encode(), "", "application/json"),
}  # fmt: skip


def collected(pieces, content_type="text/event-stream"):
    server = Played(stream(pieces, content_type))
    return replies.collect(
        server.client.chat.completions.create(model="m", messages=QUESTION, stream=True)
    )


def timed(pieces, content_type="text/event-stream"):
    return latency.stream_once(Played(stream(pieces, content_type)).client, "m", "Hi")


@pytest.mark.parametrize("name", STREAMS)
def test_both_readers_see_what_the_standard_says(name):
    data, text, finish = STREAMS[name]
    got, record = collected([data]), timed([data])
    assert (got.text, got.finish_reason) == (text, finish)
    assert got.usage is None or got.usage.completion_tokens == 2
    assert (record.text, record.finish_reason) == (text, finish)
    assert got.complete == (record.error is None) == (finish is not None)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(STREAMS)), st.lists(st.integers(1, 400), max_size=8))
def test_pieces_of_any_size_are_the_same_stream(name, cuts):
    data, text, finish = STREAMS[name]
    ends = [0, *sorted(cuts), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(ends)]
    record = timed(pieces)
    assert (record.text, record.finish_reason) == (text, finish)


@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_a_stream_is_said_and_the_text_before_it_is_kept(name):
    data, text, says = BROKEN[name]
    content_type = says if "/" in says else "text/event-stream"
    got, record = collected([data], content_type), timed([data], content_type)
    assert got.text == record.text == text
    assert not got.complete
    assert says in record.error
    assert says in f"{got.error} {openrouter.explain(got.error)}"


def endless(start, monkeypatch, **options):
    """A stream that sends comments for ever after its start, by a clock that counts events."""
    clock = itertools.count()
    monkeypatch.setattr(latency, "_now", lambda: float(next(clock)))
    pieces = itertools.chain([start], itertools.repeat(b": wait\n\n"))
    return latency.stream_once(Played(stream(pieces)).client, "m", "Hi", **options)


def test_comments_for_ever_end_at_the_time_limit_or_with_the_run(monkeypatch):
    record = endless(line(A), monkeypatch, time_limit_s=100)
    assert (record.text, record.error) == ("A", "took longer than 100 s")
    stop = threading.Event()
    stop.set()
    assert "interrupted" in endless(line(A), monkeypatch, stop=stop).error
    whole = endless(AB + DONE, monkeypatch, time_limit_s=100)
    assert (whole.text, whole.error) == ("Aé", None)
    assert whole.end < 5  # at [DONE], whatever the server sends after it


def test_the_first_of_several_answers_is_collected():
    choices = [{"index": n, "delta": {"content": t}} for n, t in enumerate("AX")]
    got = collected([line({"choices": choices}), line(STOP)])
    assert got.text == "A"


def test_a_stream_of_another_type_is_read_all_the_same():
    assert timed([AB], "text/plain").error is None
    assert collected([AB], "").complete


def test_kinds_of_what_a_delta_carries():
    call = {"function": {"name": "f", "arguments": "{}"}}
    odd = [None, {}, {"function": None}, {"function": {"name": None, "arguments": 3}}]
    delta = {"reasoning_content": "r", "content": PARTS, "tool_calls": [*odd, call]}
    texts = ["r", "hm", "H", "i.", "f{}"]
    pairs = replies.kinds_and_texts(delta)
    assert [text for _, text in pairs] == texts
    assert {kind for kind, _ in pairs} == {"reasoning", "content", "tool_call"}
    assert replies.kinds_and_texts({"reasoning": ["x"], "tool_calls": "x", "content": {}}) == []


# A server's counts: what is no number from 0 up is unknown, never zero and never an error.
@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 2, "cost": 0.5}, (7, 2, 0.5)),
        ({"prompt_tokens": "7", "completion_tokens": 2.0, "cost": "0.5"}, (7, 2, 0.5)),
        ({"prompt_tokens": None, "completion_tokens": -2, "cost": True}, (None, None, None)),
        ({"completion_tokens": "two", "cost": [1]}, (None, None, None)),
        ({}, (None, None, None)),
        (None, (None, None, None)),
        ([1], (None, None, None)),
    ],
)
def test_counts_of_a_stream(usage, counts):
    record = timed([line(A), line(B), line(STOP | {"usage": usage})])
    assert (record.prompt_tokens, record.output_tokens, record.cost_usd) == counts
    assert (record.tpot_s >= 0) == bool(record.output_tokens)


# --- anything at all -----------------------------------------------------------------------------

NAMES = (
    "arguments", "choices", "code", "completion_tokens", "content", "cost", "data", "delta",
    "detail", "error", "error_type", "errors", "finish_reason", "function", "id", "index", "loc",
    "message", "metadata", "msg", "name", "pricing", "prompt_tokens", "provider", "raw",
    "reasoning", "refusal", "text", "thinking", "tool_calls", "type", "usage",
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
LEAVES |= st.sampled_from(["error", "stop", "content_filter", "context_length_exceeded", "502"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)
    ),
    max_leaves=20,
)
CHOICES = st.fixed_dictionaries({"choices": st.lists(VALUES, max_size=2)})
MESSAGES = st.builds(lambda message: answer(message=message), VALUES)
BODIES_AT_RANDOM = VALUES | CHOICES | MESSAGES


@settings(max_examples=60, deadline=None)
@given(BODIES_AT_RANDOM, st.sampled_from([200, 200, 200, 201, 400, 422, 429, 500]))
def test_any_reply_is_an_answer_or_an_error_with_words(body, status):
    try:
        assert isinstance(
            replies.text_of(replies.message(complete(reply(body, status))).content), str
        )
    except (openrouter.NoAnswer, openai.APIStatusError) as error:
        advice = openrouter.explain(error)
        assert advice.summary
        assert advice.action
        assert isinstance(advice.server, str)
        assert str(advice)


@settings(max_examples=60, deadline=None)
@given(st.lists(BODIES_AT_RANDOM | st.builds(event, VALUES, VALUES), max_size=4))
def test_any_stream_is_read_or_broken_with_words(events):
    data = b"".join(map(line, [A, *events]))
    got, record = collected([data]), timed([data])
    assert got.text.startswith("A")
    assert record.text.startswith("A")
    if got.error:
        assert openrouter.explain(got.error).action
    for table in (latency_stats.summarize, latency_stats.by_provider, latency_stats.error_counts):
        table([record, record])
    json.dumps(record.to_json(), allow_nan=False)


# --- lists and keys ------------------------------------------------------------------------------


def test_odd_entries_of_a_list_of_prices():
    price = {"prompt": "0.000001", "completion": "-1"}
    entries = [None, {}, {"id": None}, {"id": "small", "pricing": None}, "small",
               {"id": "small-2", "pricing": price}, {"id": "small-3", "pricing": {}}]  # fmt: skip
    table = openrouter.list_prices(Played(reply({"data": entries})).client, "small")
    assert list(table.index) == ["small-2", "small-3"]
    assert table.loc["small-2", "input"] == pytest.approx(1.0)
    assert table[["input", "output"]].isna().sum().sum() == 3


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"data": null}', b'{"data": [1]}'])
def test_a_key_status_that_is_none(body):
    with pytest.raises(openrouter.NoAnswer):
        openrouter.key_status(Played(reply(body)).client)
    assert openrouter.key_status(Played(reply({"data": {"usage": 1.5}})).client).usage == 1.5


def test_a_reply_need_not_be_the_clients_own_object():
    plain = SimpleNamespace(content="Hi.")
    assert replies.message(SimpleNamespace(choices=[SimpleNamespace(message=plain)])) is plain
