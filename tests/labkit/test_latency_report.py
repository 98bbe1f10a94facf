"""The command and its page, on a scripted server that needs no model."""

import json
import subprocess
import sys

import pytest

from helpers import latency, latency_stats
from helpers.model import cards
from helpers.paths import ROOT
from labkit import latency_report, notebooks

SERVER = ROOT / "benchmarks" / "scripted_server.py"


@pytest.fixture(scope="module")
def url():
    server = subprocess.Popen([sys.executable, str(SERVER)], stdout=subprocess.PIPE, text=True)
    yield server.stdout.readline().strip()
    server.kill()
    server.wait()


def run(url, folder, *more, model="steady-20-5-10"):
    where = ["--backend", "custom", "--base-url", url, "--model", model, "--out", str(folder)]
    return latency_report.main([*where, "--concurrency", "1,3", "--requests", "4", *more])


def test_a_sweep_its_records_and_its_page(url, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("helpers.backends._check_server", lambda *_: None)  # any name is a script
    assert run(url, tmp_path) == 0
    said = capsys.readouterr().out
    assert "at once" in said
    (path,) = tmp_path.glob("*.jsonl")
    found = latency_stats.by_level(latency.read(path))
    assert {level: len(records) for level, records in found.items()} == {1: 4, 3: 4}
    page = path.with_suffix(".html").read_text(encoding="utf-8")
    assert "Latency of steady-20-5-10 on custom" in page
    assert "no request failed" in page
    assert "data:image/png;base64" in page  # the curve
    rate = latency_stats.levels(found).loc[3, "output_tokens_per_s"]
    assert f"{rate:.3f}"[:6] in page  # the same figure as from the records

    before = path.read_bytes()
    assert run(url, tmp_path) == 0
    assert "not asked for again" in capsys.readouterr().out
    assert path.read_bytes() == before


def test_ceiling_and_price_stand_beside(url, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("helpers.backends._check_server", lambda *_: None)
    assert run(url, tmp_path, "--card", "H100", "--scheme", "nf4", "--usd-per-hour", "3.6") == 0
    said = capsys.readouterr().out
    (path,) = tmp_path.glob("*.jsonl")
    about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert about["limits"]["bandwidth"] == cards.card("H100").bandwidth
    assert about["command"].endswith("--scheme nf4 --usd-per-hour 3.6")
    table = latency_stats.limits(latency_stats.by_level(latency.read(path)), **about["limits"])
    page = path.with_suffix(".html").read_text(encoding="utf-8")
    for column in ("ceiling", "usd_per_million"):
        figure = f"{table.loc[3, column]:.3f}"
        assert figure in said
        assert figure in page


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("--card", "RTX 9", "card"), ("--usd-per-hour", "0", "above 0"), ("--shape", "x", "model")],
)
def test_hardware_that_is_not_known_is_said(tmp_path, capsys, option, value, said):
    more = ["--card", "H100"] if option == "--shape" else []
    assert latency_report.main(["--out", str(tmp_path), *more, option, value]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_more_at_once_than_the_stopwatch_holds_is_said(url, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("helpers.backends._check_server", lambda *_: None)
    monkeypatch.setattr(latency, "EXACT_AT_ONCE", 2)
    assert run(url, tmp_path) == 0
    assert "latency_accuracy" in capsys.readouterr().out


def test_failures_are_named(url, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("helpers.backends._check_server", lambda *_: None)
    assert run(url, tmp_path, model="truncated") == 0
    assert "4 × the stream ended without a finish_reason" in capsys.readouterr().out
    (path,) = tmp_path.glob("*.html")
    assert "without a finish_reason" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("levels", ["", "0", "1,x", "-1", "1,,2"])
def test_bad_levels_are_said(tmp_path, capsys, levels):
    assert latency_report.main(["--concurrency", levels, "--out", str(tmp_path)]) == 2
    assert "1,4,16" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_unknown_backend_is_said(tmp_path, capsys):
    assert latency_report.main(["--backend", "nobody", "--out", str(tmp_path)]) == 2
    assert "pocket" in capsys.readouterr().err


def test_the_report_is_cells_of_the_notebook():
    cells = [
        c for c in notebooks.read(latency_report.NOTEBOOK).cells if "report" in notebooks.tags(c)
    ]
    assert len([cell for cell in cells if cell.cell_type == "code"]) >= 3
    assert "RECORDS" in json.dumps([cell.source for cell in cells])
