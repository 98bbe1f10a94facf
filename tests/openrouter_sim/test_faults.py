"""The failures that the simulator shows on request, and those of the server behind it."""

import contextlib
import json
import os
import shlex
import time

import httpx2
import openai
import pytest
from openrouter_contract import check_record
from scripted_pocket import body, message_of, scripted_simulator

from helpers import openrouter, prices
from openrouter_sim import faults
from openrouter_sim.__main__ import curl


def test_a_failure_ends_for_every_client(sim):
    """Whether a program counts its retries for the server, always says 0, or says nothing."""
    for headers in ({}, {"x-stainless-retry-count": "0"}):
        for fault, status in (("unavailable 2", 503), ("rate-limit 1", 429)):
            question = [{"role": "user", "content": f"{fault} {headers}"}]
            sent, times = body(messages=question), int(fault[-1])
            statuses = [sim.post(sent, fault, **headers).status_code for _ in range(5)]
            again = [status] * times + [200]
            assert statuses == (again * 5)[:5]


def test_another_body_key_or_failure_is_another_request(sim):
    for number in range(3):
        sent = body(messages=[{"role": "user", "content": f"Number {number}"}])
        for key in (faults.KEY, "sk-or-v1-somebody-else"):
            for fault in ("unavailable 1", "overloaded 1"):
                assert sim.post(sent, fault, key).status_code >= 500
                assert sim.post(sent, fault, key).status_code == 200


def test_the_count_of_openais_clients_is_believed(sim):
    for sent in ("2", "7"):
        reply = sim.post(body(), "unavailable 2", **{"x-stainless-retry-count": sent})
        assert reply.status_code == 200
    for sent in ("-1", "two", "9" * 5000, ""):
        reply = sim.post(body(seed=7), "unavailable 9", **{"x-stainless-retry-count": sent})
        assert reply.status_code == 503


@pytest.mark.parametrize(
    "header",
    ["no-such", "unavailable two", "unavailable 1 2", "unavailable -1", "slow 99999", "; ="],
)
def test_a_header_that_names_no_failure(sim, header):
    reply = sim.post(body(), header)
    assert reply.status_code == 400
    assert "X-Simulate knows: bad-request, " in message_of(reply)


@pytest.mark.parametrize("name", ["mid-stream", "truncated", "cut", "comments"])
def test_a_failure_of_streams_needs_a_stream(sim, name):
    reply = sim.post(body(), name)
    assert reply.status_code == 400
    assert '"stream": true' in message_of(reply)
    assert sim.post(body(stream=True), name + " 0").status_code == 200


@pytest.mark.parametrize("name", [n for n, f in faults.FAULTS.items() if not f.effect])
def test_an_error_status_comes_as_the_table_says(sim, name):
    fault, reply = faults.FAULTS[name], sim.post(body(), name)
    assert reply.status_code == fault.status == reply.json()["error"]["code"]
    assert fault.headers.items() <= {k.title(): v for k, v in reply.headers.items()}.items()


def test_status_200_with_an_error_inside(client):
    reply = client.chat.completions.create(**body(), extra_headers={"X-Simulate": "error-in-200"})
    assert reply.choices is None
    assert reply.error["code"] == 502


@pytest.mark.parametrize("length", [1, 2, 9])
@pytest.mark.parametrize("name", ["mid-stream", "truncated", "cut"])
def test_a_stream_breaks_however_short_its_answer_is(client, name, length):
    request = body(stream=True, max_tokens=length, extra_headers={"X-Simulate": name})
    got = openrouter.collect(client.chat.completions.create(**request))
    assert got.text == "w0 w1 w2 "[: 3 * length]
    assert not got.complete
    assert openrouter.explain(got.error).retry


def test_comments_and_a_late_first_byte_change_no_answer(client, monkeypatch):
    monkeypatch.setattr(faults, "SLOW_S", 0.3)
    for name in ("comments", "slow"):
        begun = time.monotonic()
        request = body(stream=True, extra_headers={"X-Simulate": name})
        got = openrouter.collect(client.chat.completions.create(**request))
        assert got.complete
        assert got.text == "w0 w1 "
    assert time.monotonic() - begun >= 0.3


# When the model behind it fails


@pytest.mark.parametrize(("status", "expected"), [(500, 502), (400, 400)])
def test_an_answer_that_breaks_off_is_an_error_and_free_unless_it_streamed(
    sim, monkeypatch, status, expected
):
    monkeypatch.setattr(sim.pocket, "fails_after", 3)
    monkeypatch.setattr(sim.pocket, "status", status)
    key = f"sk-or-v1-of-a-broken-answer-{status}"
    reply = sim.post(body(max_tokens=9), key=key)
    assert reply.status_code == expected
    assert "the engine fails" in message_of(reply)
    assert sim.get("/key", key).json()["data"]["usage"] == 0
    with openai.OpenAI(base_url=sim.base_url, api_key=key, max_retries=0) as client:
        stream = client.chat.completions.create(**body(max_tokens=9), stream=True)
        got = openrouter.collect(stream)
    assert got.text == "w0 w1 w2 "
    assert "the engine fails" in str(got.error)
    assert sim.get("/key", key).json()["data"]["usage"] == 10 * 75e-9 + 3 * 200e-9


def test_a_server_that_is_gone_is_a_502(monkeypatch):
    with scripted_simulator(monkeypatch, prices.priced_models()) as sim:
        sim.simulator.gateway._pocket.base_url = "http://127.0.0.1:9/v1/"
        for reply in (sim.post(body()), sim.post(body(stream=True))):
            assert reply.status_code == 502
            assert "pocket server does not answer" in message_of(reply)


def test_the_record_fits_openrouters_description(sim, monkeypatch):
    """That of all tests above, and at least this."""
    monkeypatch.setattr(faults, "SLOW_S", 0)
    for fault in faults.FAULTS:
        sim.post(body(), fault)
        with contextlib.suppress(httpx2.RemoteProtocolError):  # the failure "cut"
            sim.post(body(stream=True), fault)
    assert check_record(sim.log) >= {200, 400, 403, 429, 529}


@pytest.mark.skipif(os.name == "nt", reason="another shell, other quotation marks")
def test_the_line_to_copy_is_a_request():
    command, url, *options = shlex.split(curl("http://127.0.0.1:8765/api/v1", "a/b"))
    assert (command, url) == ("curl", "http://127.0.0.1:8765/api/v1/chat/completions")
    values = dict(zip(options[1::2], options[::2], strict=True))
    assert {f"Authorization: Bearer {faults.KEY}", "X-Simulate: rate-limit"} <= values.keys()
    (body,) = [value for value, option in values.items() if option == "-d"]
    assert json.loads(body)["model"] == "a/b"
