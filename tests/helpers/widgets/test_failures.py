"""The failures as they are shown, against requests without the kit's and the openai package's code.

The failures are the simulator's own. Requests, replies and pauses are real.
"""

import json
import re
import urllib.error
import urllib.request
from itertools import pairwise

import openai
import pytest
from openai import _constants as package
from solutions import solve

from helpers import attempts, openrouter
from helpers.attempts import COMPLETE, PACKAGE, PLAIN
from helpers.widgets import failures
from openrouter_sim import faults
from openrouter_sim.faults import FAULTS, STREAM_EFFECTS, Fault

pytestmark = [pytest.mark.slow, pytest.mark.pocket]

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
STREAMS = {name for name, fault in FAULTS.items() if fault.effect in STREAM_EFFECTS}
AGAIN = {"timeout", "rate-limit", "rate-limit-wait", "provider-error", "unavailable"}
AGAIN |= {"unavailable-wait", "edge-timeout", "overloaded", "error-in-200"}
SLACK_S = 0.5  # this machine may be busy with something else


@pytest.fixture(scope="module")
def shown(simulator):
    return failures.explore(simulator)


def raw(lab, name: str) -> tuple[int, dict, str]:
    """Status, headers and body of a failure, by Python's own client."""
    body = {"model": lab.model, "messages": [{"role": "user", "content": "Hi!"}], "max_tokens": 8}
    request = urllib.request.Request(
        f"{lab.client.base_url}chat/completions",
        json.dumps(body | {"stream": name in STREAMS}).encode(),
        {"Authorization": f"Bearer {lab.client.api_key}", "X-Simulate": name},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as reply:
            return reply.status, reply.headers, "" if name in STREAMS else reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def test_every_failure_is_there_in_one_group(shown):
    assert list(shown.data["faults"]) == list(shown.table.index) == list(FAULTS)
    groups = {name: entry["group"] for name, entry in shown.data["faults"].items()}
    assert set(groups.values()) == set(shown.data["groups"])
    assert {name for name, group in groups.items() if group == failures.AGAIN} == AGAIN
    assert {n for n, group in groups.items() if group == failures.BREAKS} == STREAMS - {"comments"}


@pytest.mark.parametrize("name", FAULTS)
def test_status_and_body_are_what_another_client_gets(simulator, shown, name):
    entry = shown.data["faults"][name]
    status, headers, body = raw(simulator, name)
    assert (entry["status"], entry["retry_after"]) == (status, headers["Retry-After"])
    if "error" in (sent := json.loads(body or "{}")):
        assert json.loads(entry["body"]) == sent
        assert entry["code"] == sent["error"]["code"]
        assert entry["server"].startswith(sent["error"]["message"])
    else:
        assert entry["code"] == (502 if name == "mid-stream" else None)
        assert '"error"' not in entry["body"] or name == "mid-stream"


def test_the_exceptions_are_the_openai_packages(shown):
    by_status = {400: openai.BadRequestError, 403: openai.PermissionDeniedError}
    by_status |= {404: openai.NotFoundError, 408: openai.APIStatusError, 429: openai.RateLimitError}
    for entry in shown.data["faults"].values():
        if entry["status"] != 200:
            expected = by_status.get(entry["status"], openai.InternalServerError)
            assert (entry["exception"], entry["source"]) == (expected.__name__, PACKAGE)


def test_what_can_be_retried_is_what_the_exercise_says(shown):
    entries = [entry for name, entry in shown.data["faults"].items() if name not in STREAMS]
    entries = [entry for entry in entries if entry["code"]]  # no answer has no status
    helps = {entry["code"] for entry in entries if entry["retry"]}
    rule = solve("03-retry")  # of a status, the attempt and the Retry-After
    assert helps == {e["code"] for e in entries if rule(e["code"], 1, None) is not False}
    assert not helps & {entry["code"] for entry in entries if not entry["retry"]}


@pytest.mark.parametrize("name", sorted(AGAIN))
def test_three_clients_make_as_many_attempts_as_they_say(shown, name):
    runs = shown.data["faults"][name]["runs"]
    count = lambda run: len(run["attempts"])  # noqa: E731
    assert [count(run) for run in runs[COMPLETE]] == [1, 2, 3, 4]
    assert all(run["ending"] == "an answer" for run in runs[COMPLETE])
    assert [count(run) for run in runs[PLAIN]] == [1, 1]
    if name == "error-in-200":  # status 200: the package sees no failure
        assert [count(run) for run in runs[PACKAGE]] == [1, 1]
        assert runs[PACKAGE][1]["source"] == "openrouter.message"
    else:
        most = 1 + package.DEFAULT_MAX_RETRIES
        assert [count(run) for run in runs[PACKAGE]] == [*range(1, most + 1), most]
        endings = [run["ending"] for run in runs[PACKAGE]]
        assert endings == ["an answer"] * most + [shown.data["faults"][name]["exception"]]


@pytest.mark.parametrize("name", sorted(set(FAULTS) - AGAIN))
def test_what_no_retry_helps_is_sent_once(shown, name):
    for client, runs in shown.data["faults"][name]["runs"].items():
        nothing = client == COMPLETE and name in STREAMS
        assert [len(run["attempts"]) for run in runs] == [0 if nothing else 1] * 2
        assert not nothing or "ValueError" in runs[1]["ending"]


@pytest.mark.parametrize("name", sorted(AGAIN))
def test_pauses_are_as_long_as_the_server_or_the_backoff_says(shown, name):
    wait = FAULTS[name].headers.get("Retry-After")
    for client in (PACKAGE, COMPLETE):
        for run in shown.data["faults"][name]["runs"][client]:
            for number, (each, after) in enumerate(pairwise(run["attempts"])):
                pause_s = after["sent"] - each["ended"]
                doubled = package.INITIAL_RETRY_DELAY * 2**number
                least, most = float(wait or doubled), float(wait or doubled)
                if client == COMPLETE:
                    most += openrouter.JITTER_S
                elif not wait:
                    least *= 0.75  # the package's jitter makes a pause shorter
                assert least - 0.01 <= pause_s <= most + SLACK_S
                assert (f"Retry-After: {wait}" in each["why"]) == (wait is not None)
                assert each["failed"]


def test_a_broken_stream_keeps_its_text(simulator, shown):
    for name in ("mid-stream", "truncated", "cut"):
        entry = shown.data["faults"][name]
        assert entry["text"]
        assert entry["finish_reason"] is None
        pieces = re.findall(r'"content": "([^"]*)"', entry["body"])
        assert entry["body"].endswith("characters") or "".join(pieces) == entry["text"]
        whole = attempts.send(simulator, name, failing=0)
        assert whole.text.startswith(entry["text"])
        assert whole.finish_reason == "length"


def test_words_of_a_server_stay_text(simulator, monkeypatch):
    says = Fault("it is flagged", 403, f"flagged: {HOSTILE}")
    monkeypatch.setattr(faults, "FAULTS", {"rate-limit": says, "truncated": FAULTS["truncated"]})
    made = failures.explore(simulator)
    entry = made.data["faults"]["rate-limit"]
    assert entry["server"] == f"flagged: {HOSTILE}"
    assert HOSTILE in entry["body"]
    page = made._repr_html_()
    assert page.count("<script>") == page.count("</script>") == 1
    assert "<img" not in page


def test_another_server_is_refused_in_words(lab):
    with pytest.raises(ValueError, match="simulator only"):
        failures.explore(lab)
