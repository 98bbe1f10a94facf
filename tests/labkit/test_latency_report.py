"""The command and its page, on a scripted server that needs no model."""

import json
import re
import subprocess
import sys

import pytest

from helpers import latency, latency_stats
from helpers.model import cards
from helpers.paths import ROOT
from labkit import latency_report, notebooks
from labkit.cli import main

SERVER = ROOT / "benchmarks" / "scripted_server.py"


@pytest.fixture(scope="module")
def url():
    server = subprocess.Popen([sys.executable, str(SERVER)], stdout=subprocess.PIPE, text=True)
    yield server.stdout.readline().strip()
    server.kill()
    server.wait()


def numbers(text):
    return [float(number) for number in re.findall(r"\d+\.\d+", text)]


def run(url, folder, *more, model="steady-20-5-10"):
    where = ["--backend", "custom", "--base-url", url, "--model", model, "--out", str(folder)]
    return main(["latency", *where, "--concurrency", "1,3", "--requests", "4", *more])


def test_a_sweep_its_records_and_its_page(url, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("helpers.backends.check_server", lambda *_: [])  # any name is a script
    assert run(url, tmp_path) == 0
    printed = capsys.readouterr().out
    assert "users at once" in printed
    assert "tokens/s in total" in printed
    (path,) = tmp_path.glob("*.jsonl")
    levels = latency_stats.by_level(latency.read(path))
    assert {level: len(records) for level, records in levels.items()} == {1: 4, 3: 4}
    page = path.with_suffix(".html").read_text(encoding="utf-8")
    assert "Latency of steady-20-5-10 on custom" in page
    assert "no request failed" in page
    assert "tokens/s in total" in page  # columns have units
    assert not re.search(r"Out\[\d|\bNaN\b|\bnan\b|IPKernelApp", page)
    assert "data:image/png;base64" in page  # the curve
    rate = latency_stats.level_table(levels).loc[3, "output_tokens_per_s"]
    assert pytest.approx(rate, rel=1e-3) in numbers(page)  # the same figure as from the records

    sentence = latency_report.conclusion(levels, 0.8)
    assert sentence.startswith("The objective was met with 3 at once: at least 90% of the requests")
    assert sentence in page
    assert sentence in printed

    before = path.read_bytes()
    assert run(url, tmp_path) == 0
    assert "not sent again" in capsys.readouterr().out
    assert path.read_bytes() == before


def test_ceiling_and_price_are_in_the_page(url, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("helpers.backends.check_server", lambda *_: [])
    assert run(url, tmp_path, "--card", "H100", "--scheme", "nf4", "--usd-per-hour", "3.6") == 0
    printed = capsys.readouterr().out
    (path,) = tmp_path.glob("*.jsonl")
    about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert about["limits"]["bandwidth"] == cards.gpu("H100").bandwidth
    assert about["command"].endswith("--scheme nf4 --usd-per-hour 3.6")
    table = latency_stats.ceilings(latency_stats.by_level(latency.read(path)), **about["limits"])
    page = path.with_suffix(".html").read_text(encoding="utf-8")
    for column in ("ceiling", "usd_per_million"):
        figure = pytest.approx(table.loc[3, column], rel=1e-3)  # as rounded as a table shows it
        assert figure in numbers(printed)
        assert figure in numbers(page)


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [("--card", "RTX 9", "RTX 9"), ("--usd-per-hour", "0", "above 0"), ("--shape", "x", "model")],
)
def test_unknown_hardware_is_one_line(tmp_path, capsys, option, value, word):
    more = ["--card", "H100"] if option == "--shape" else []
    assert main(["latency", "--out", str(tmp_path), *more, option, value]) == 2
    assert word in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_too_high_a_concurrency_gives_a_warning(url, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("helpers.backends.check_server", lambda *_: [])
    monkeypatch.setattr(latency, "MAX_EXACT_CONCURRENCY", 2)
    assert run(url, tmp_path) == 0
    assert "latency_accuracy" in capsys.readouterr().out


def test_failures_are_counted(url, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("helpers.backends.check_server", lambda *_: [])
    assert run(url, tmp_path, model="truncated") == 0
    assert "4 × the stream ended without a finish_reason" in capsys.readouterr().out
    (path,) = tmp_path.glob("*.html")
    assert "without a finish_reason" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("goal", "says"),
    [
        (1.0, r"was met with 4 at once: at least 90% .* within 1 s\. .* were not tried\.$"),
        (0.3, r"was met with 1 at once: .* tokens/s in total\.$"),
        (0.1, r"was never met: .* within 0\.1 s\.$"),
    ],
)
def test_the_conclusion_names_the_highest_level_that_met_the_objective(goal, says):
    def record(level, ttft_s):
        deltas = [latency.Delta(ttft_s, "content", "a"), latency.Delta(1.0, "content", "b")]
        return latency.Record(0.0, deltas=deltas, end=1.0, output_tokens=8, concurrency=level)

    levels = {4: [record(4, 0.7)] * 4, 1: [record(1, 0.2)] * 4}  # in the order of measuring
    assert re.search(says, latency_report.conclusion(levels, goal))


@pytest.mark.parametrize("levels", ["", "0", "1,x", "-1", "1,,2"])
def test_bad_levels_are_one_line(tmp_path, capsys, levels):
    assert main(["latency", "--concurrency", levels, "--out", str(tmp_path)]) == 2
    assert "1,4,16" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_unknown_backend_is_one_line(tmp_path, capsys):
    assert main(["latency", "--backend", "nobody", "--out", str(tmp_path)]) == 2
    assert "pocket" in capsys.readouterr().err


def test_the_report_is_cells_of_the_notebook():
    cells = [
        c for c in notebooks.read(latency_report.NOTEBOOK).cells if "report" in notebooks.tags(c)
    ]
    assert len([cell for cell in cells if cell.cell_type == "code"]) >= 3
    assert "RECORDS" in json.dumps([cell.source for cell in cells])
