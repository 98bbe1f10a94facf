"""A short crowd of rough clients against the servers: `benchmarks/crowd.py` takes a minute."""

import asyncio
import importlib
import random

import nbformat.v4 as v4
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


def test_a_workshop_sends_what_the_notebook_sends(crowd, lab, monkeypatch, capsys):
    if lab.backend != "pocket":
        pytest.skip("a workshop is at the pocket server")
    room = importlib.import_module("crowd_workshop")
    monkeypatch.setenv("CUSTOM_BASE_URL", str(lab.client.base_url))
    monkeypatch.setenv("CUSTOM_MODEL", lab.model)
    settings = v4.new_code_cell('BACKEND = "x"', metadata={"tags": ["parameters"]})
    words = [
        "from helpers import connect\nlab = connect(BACKEND)",
        """for word in ("one", "two"):
    message = {"role": "user", "content": word}
    lab.client.chat.completions.create(model=lab.model, messages=[message], max_tokens=2)""",
    ]
    asking = [v4.new_code_cell(text, id=f"04-{n}") for n, text in enumerate(words)]
    (cell,) = room.record(v4.new_notebook(cells=[settings, *asking]))
    assert cell.part == "04"
    assert [body["messages"][0]["content"] for body in cell.bodies] == ["one", "two"]

    seen = room.attend(lab.client, [cell, cell], 0, random.Random(0))
    assert seen.failures == []
    assert len(seen.waits_s) == 2
    assert min(seen.waits_s) > 0
    cell.bodies[0]["temperature"] = 9  # refused by the server
    refused = room.attend(lab.client, [cell], 0, random.Random(0))
    room.print_part("Images", [cell], [seen, refused])
    printed = capsys.readouterr().out
    assert "failures: 1 of 4 requests" in printed
    assert "temperature" in printed
