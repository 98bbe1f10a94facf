"""A key in the environment leaves no trace: notebook 03 with every failure, and notebook 00.

All notebooks, six minutes more: `python -m pytest tests/notebooks/test_canary.py --all-notebooks`.
"""

import json
import traceback

import pytest
from openrouter_contract import check_record

from helpers import batches, connect, openrouter
from labkit import notebooks, runner
from openrouter_sim import faults, recorder
from pocket_model import cache

# Well-formed, so that the simulator takes it, and unlike anything else.
CANARY = "sk-or-v1-" + "canary" * 4


@pytest.fixture(scope="module")
def run(model_folder, tmp_path_factory, pytestconfig):
    """Notebooks run with the canary for a key; the folder of results and the wire's record."""
    others = []
    if pytestconfig.getoption("--all-notebooks"):
        others = [path.stem for path in notebooks.available() if path.stem[:2] not in ("00", "03")]
    out = tmp_path_factory.mktemp("runs")
    log = tmp_path_factory.mktemp("wire") / "log.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENROUTER_API_KEY", CANARY)
        patch.setenv(recorder.LOG_VARIABLE, str(log))
        assert runner.run("openrouter-sim", ["03", *others], out).exit_code == runner.OK
        assert runner.run("pocket", ["00"], out).exit_code == runner.OK
    return out, log


@pytest.mark.slow
@pytest.mark.pocket
def test_the_key_was_there_and_nothing_was_skipped(run):
    out, _ = run
    cells = notebooks.code_cells(notebooks.read(out / "openrouter-sim" / "03_openrouter.ipynb"))
    shown = "\n".join(notebooks.output_text(output) for cell in cells for output in cell.outputs)
    assert "key found: True" in shown
    report = json.loads((out / "openrouter-sim" / "results.json").read_text())
    assert {row["status"] for row in report["results"]} == {"passed"}
    (third,) = [row for row in report["results"] if row["name"].startswith("03")]
    assert third["skipped"] == []


@pytest.mark.slow
@pytest.mark.pocket
def test_the_key_is_in_no_file(run):
    out, log = run
    files = [file for file in out.rglob("*") if file.is_file()] + [log]
    files += [file for file in (cache.cache_dir() / "servers").glob("*") if file.is_file()]
    assert len(files) >= 8
    for file in files:
        assert CANARY.encode() not in file.read_bytes(), file


@pytest.mark.pocket
def test_no_failure_shows_the_key(model_folder, monkeypatch, tmp_path):
    """Every failure path: the client's error, its traceback, its explanation, a batch's file."""
    monkeypatch.setenv("OPENROUTER_API_KEY", CANARY)
    lab = connect("openrouter-sim")
    shown = [repr(lab), repr(lab.client), repr(openrouter.key_status(lab.client))]
    hello = [{"role": "user", "content": "Hi"}]
    request = {"model": lab.model, "messages": hello, "max_tokens": 2}
    once = lab.client.with_options(max_retries=0)
    for name in faults.FAULTS:
        try:
            reply = once.chat.completions.create(**request, extra_headers={"X-Simulate": name})
            shown.append(repr(openrouter.message(reply)))
        except Exception as error:
            report = traceback.TracebackException.from_exception(error, capture_locals=False)
            shown += [repr(error), *report.format(), str(openrouter.explain(error))]
    headers = {"X-Simulate": "moderation"}
    batches.run_batch(lab, ["Hi"], tmp_path / "a.jsonl", max_tokens=2, extra_headers=headers)
    shown.append((tmp_path / "a.jsonl").read_text())
    lab.close()
    assert len(shown) > 20
    assert not [text for text in shown if CANARY in text]


@pytest.mark.slow
@pytest.mark.pocket
def test_all_that_notebook_03_sent_and_got_fits_openrouters_document(run):
    _, log = run
    assert check_record(log) >= {200, 400, 401, 402, 403, 404, 408, 429, 502, 503, 524, 529}
