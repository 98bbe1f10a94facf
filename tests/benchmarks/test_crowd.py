"""A short crowd of rough clients against the servers: `benchmarks/crowd.py` takes a minute."""

import asyncio
import importlib

import pytest

from helpers import connect
from helpers.paths import ROOT

pytestmark = pytest.mark.pocket


@pytest.fixture(scope="module")
def crowd():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        yield importlib.import_module("crowd")


@pytest.fixture(scope="module", params=["pocket", "openrouter-sim"])
def lab(request, model_folder):
    backend = request.param
    lab = connect(backend, **({"batching": True} if backend == "pocket" else {}))
    yield lab
    lab.close()


@pytest.fixture
def target(crowd, lab, monkeypatch):
    monkeypatch.setattr(crowd, "PATIENCE_S", 600)  # a busy machine is no fault of the server
    headers = {"Authorization": f"Bearer {lab.client.api_key}"}
    return crowd.Target(str(lab.client.base_url).rstrip("/"), lab.model, headers)


def test_a_server_stays_well_among_rough_clients(crowd, target, lab):
    # Behind the simulator, one request is answered at a time.
    clients, seconds = (24, 8) if lab.backend == "pocket" else (8, 4)
    report = asyncio.run(crowd.crowd(target, clients, seconds, seed=0))
    assert report.faults == []
    assert sum(outcomes.total() for outcomes in report.outcomes.values()) >= clients
    assert report.probes_s


def test_the_script_prints_what_happened(crowd, lab, monkeypatch, capsys):
    monkeypatch.setattr(crowd, "connected", lambda _: lab)
    monkeypatch.setattr(lab, "close", lambda: None)
    monkeypatch.setattr(crowd, "PROBE_S", 600)
    monkeypatch.setattr(crowd, "KEPT_MB", 10_000)  # what a server keeps shows in a minute only
    code = crowd.main(["--clients", "2", "--seconds", "1"])
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert "small request: median" in printed
    assert "memory" in printed


def test_a_classroom_of_two(crowd, lab, monkeypatch, capsys):
    if lab.backend != "pocket":
        pytest.skip("a classroom is at the pocket server")
    room = importlib.import_module("crowd_classroom")
    monkeypatch.setenv("CUSTOM_BASE_URL", str(lab.client.base_url))
    monkeypatch.delenv("CUSTOM_MODEL", raising=False)
    visits = room.classroom(2)
    assert [each.get("error") for each in visits] == [None, None]
    assert all(0 < each["first answer"] < each["all four answers"] for each in visits)
    monkeypatch.setenv("CUSTOM_BASE_URL", "http://127.0.0.1:9/v1")
    room.print_visits([*visits, *room.classroom(1)])
    printed = capsys.readouterr().out
    assert "errors: 1 of 3 learners" in printed
    assert "nothing listens on port 9" in printed
