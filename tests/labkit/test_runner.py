"""The runner: what it reports, and how it behaves when something fails or is interrupted."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import httpx2
import nbformat.v4 as v4
import openai
import pytest

from helpers import backends, budget, prices
from helpers.paths import ROOT
from labkit import execution, notebooks, run_cost, runner

PARAMETERS = 'BACKEND = "pocket"  # which server answers\nNUMBER = 1  # any number'


def make(folder: Path, name: str, *cells: str) -> Path:
    """A notebook of a title, a parameters cell and `cells`."""
    first = v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    book = v4.new_notebook(
        metadata={
            "kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}
        },
        cells=[
            v4.new_markdown_cell(f"# {name[:2]} · {name[3:]}"),
            first,
            *(v4.new_code_cell(source) for source in cells),
        ],
    )
    path = folder / f"{name}.ipynb"
    notebooks.write(book, path)
    return path


class FakeLab:
    """What `connect` gives, without a server; counts 10 prompt tokens at each look."""

    backend, model = "pocket", "fake-model"

    def __init__(self):
        self.closed = False
        self.looks = 0

    def usage(self):
        self.looks += 1
        return {"prompt_tokens": 10 * self.looks, "completion_tokens": self.looks}

    def close(self):
        self.closed = True


@pytest.fixture
def lab(monkeypatch):
    fake = FakeLab()

    def connect(backend, **options):
        fake.backend = "custom" if "/" in backend else backend
        return fake

    monkeypatch.setattr("helpers.backends.connect", connect)
    return fake


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    return folder


def results(out: Path, backend: str = "pocket") -> list[dict]:
    return json.loads((out / backend / "results.json").read_text())["results"]


both_ways = pytest.mark.parametrize("in_turn", [True, False], ids=["in turn", "two at a time"])


@both_ways
def test_a_failure_stops_nothing_and_everything_is_reported(
    source, tmp_path, lab, capsys, in_turn, monkeypatch
):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    make(source, "00_good", "print(BACKEND, NUMBER)", "print('SKIPPED: no pictures here')")
    make(source, "01_bad", "print('kept')\n1 / 0", "print('never')")
    make(source, "02_quits", "import sys\nsys.exit(0)", "print('never')")
    make(source, "03_dies", "import os\nos._exit(3)")
    make(source, "04_last", "print('still run')")
    before = {path: path.read_bytes() for path in source.iterdir()}

    report = runner.run(out=tmp_path / "runs", folder=source, pairs=["NUMBER=7"], in_turn=in_turn)

    assert report.exit_code == runner.SOME_FAILED
    assert lab.closed
    assert {path: path.read_bytes() for path in source.iterdir()} == before
    outcome = results(tmp_path / "runs")
    assert [result["status"] for result in outcome] == [
        "passed",
        "failed",
        "failed",
        "failed",
        "passed",
    ]
    assert outcome[0]["skipped"] == ["no pictures here"]
    tokens = (10, 1) if in_turn else (None, None)  # the server does not know whose they are
    assert (outcome[0]["prompt_tokens"], outcome[0]["completion_tokens"]) == tokens
    assert outcome[1]["error"] == "ZeroDivisionError: division by zero"
    assert "1 / 0" in outcome[1]["traceback"]
    assert "\x1b" not in outcome[1]["traceback"]
    assert "before its last cell" in outcome[2]["error"]
    assert "DeadKernel" in outcome[3]["error"]

    folder = tmp_path / "runs/pocket"
    copies = {path.stem: path.read_text() for path in folder.glob("*.ipynb")}
    assert "pocket 7" in copies["00_good"]
    assert "kept" in copies["01_bad"]
    index = (folder / "index.html").read_text()
    for link in re.findall(r'href="([^"]+)"', index):
        assert (folder / link).exists(), link
    assert "passed, 1 skipped" in index
    assert "ZeroDivisionError" in index
    printed = capsys.readouterr().out
    assert "ZeroDivisionError: division by zero" in printed
    assert ("4 of 5 notebooks run two at a time" in printed) == (not in_turn)  # 02 is alone
    notes = report.table()["notes"]
    assert notes["00 · good"] == "no pictures here"
    assert notes["01 · bad"] == "ZeroDivisionError: division by zero"
    if in_turn:
        assert report.total_s >= sum(result["seconds"] for result in outcome) - 1
    assert report.table().loc["total", "min:s"] == execution.minutes(report.total_s)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (4.6, "0:05"), (59.7, "1:00"), (754, "12:34")]
)
def test_minutes(seconds, text):
    assert execution.minutes(seconds) == text


def test_every_link_of_a_run_leads_somewhere(source, tmp_path, lab):
    make(source, "00_first", "print('one')")
    make(source, "01_second", "print('two')")
    runner.run(out=tmp_path, folder=source, names=["0"])
    pages = {page.name: page.read_text() for page in (tmp_path / "pocket").glob("*.html")}
    assert {"index.html", "glossary.html", "00_first.html", "01_second.html"} <= pages.keys()
    for name, page in pages.items():
        links = re.findall(r'<a\b[^>]*href="([^"]+)"', page)
        assert links or not page, name
        for link in links:
            target, _, anchor = link.partition("#")
            assert target.startswith("https:") or not target or target in pages, (name, link)
            if anchor and not target.startswith("https:"):
                assert f'id="{anchor}"' in pages[target or name], (name, link)
    assert "has not run" in pages["01_second.html"]
    assert "01_second.html" in pages["00_first.html"]
    assert "index.html" in pages["00_first.html"]
    assert "passed on pocket" in pages["00_first.html"]


def test_a_rerun_keeps_nothing_of_the_run_before(source, tmp_path, lab):
    make(source, "00_first", "print('one', 'more')")
    assert runner.run(out=tmp_path, folder=source).exit_code == runner.OK
    assert "one more" in (tmp_path / "pocket/00_first.html").read_text()
    make(source, "00_first", "raise SystemExit(1)")
    assert runner.run(out=tmp_path, folder=source).exit_code == runner.SOME_FAILED
    assert "one more" not in (tmp_path / "pocket/00_first.html").read_text()


def test_selection_and_parameters_are_checked_before_anything_runs(source, tmp_path, lab):
    make(source, "00_first", "print('one')")
    make(source, "01_second", "print('two')")
    for arguments, words in [
        ({"names": ["7"]}, ["'7'", "00_first", "01_second"]),
        ({"pairs": ["NUMBR=3"]}, ["NUMBR", "NUMBER"]),
        ({"pairs": ["NUMBER"]}, ["NAME=VALUE"]),
    ]:
        with pytest.raises(runner.RunError) as error:
            runner.run(out=tmp_path, folder=source, **arguments)
        assert all(word in str(error.value) for word in words)
    assert not (tmp_path / "pocket").exists()
    assert runner.run(out=tmp_path, folder=source, names=["1"]).exit_code == runner.OK
    assert [result["name"] for result in results(tmp_path)] == ["01_second"]


def test_parameters_are_literals_or_strings():
    given = ["A=1", "B=0.5", "C=plain words", "D=[1, 2]", "E=None", "F=a=b"]
    wanted = {"A": 1, "B": 0.5, "C": "plain words", "D": [1, 2], "E": None, "F": "a=b"}
    assert runner.parse_parameters(given) == wanted


@pytest.mark.parametrize(
    ("cap", "refusal"),
    [(None, "Set a cap"), (0.1, "above the cap"), (float("nan"), "above the cap"), (0.5, None)],
)
def test_a_paid_backend_needs_a_cap(source, tmp_path, lab, monkeypatch, capsys, cap, refusal):
    monkeypatch.setattr("helpers.backends.BACKENDS", {"costly": SimpleNamespace(paid=True)})
    monkeypatch.setattr("labkit.run_cost.estimate_run", lambda paths, model: 0.25)
    for name in (budget.CAP_VARIABLE, budget.SPENT_VARIABLE, prices.PRICES_VARIABLE):
        monkeypatch.setenv(name, "before")  # so that monkeypatch undoes what the run sets
    make(source, "00_first", f"import os\nprint('cap', os.environ['{budget.CAP_VARIABLE}'])")
    if refusal:
        with pytest.raises(runner.RunError, match=refusal):
            runner.run("costly", out=tmp_path, folder=source, max_usd=cap, price="1,2")
        assert not (tmp_path / "costly").exists()
    else:
        report = runner.run("costly", out=tmp_path, folder=source, max_usd=cap, price="1,2")
        assert report.exit_code == runner.OK
        assert "cap 0.5" in (tmp_path / "costly/00_first.ipynb").read_text()
        assert Path(os.environ[budget.SPENT_VARIABLE]).parent == tmp_path / "costly"
    assert "0.2500 USD" in capsys.readouterr().out
    assert lab.closed


@pytest.mark.parametrize(
    ("backend", "given", "base_url"),
    [("vllm", "vllm", "http://gpu:8000/v1"), ("custom", "http://gpu:8000/v1", None)],
)
def test_the_kernels_get_the_runs_own_model_and_address(
    source, tmp_path, lab, monkeypatch, backend, given, base_url
):
    names = [backends.variable(backend, what) for what in ("MODEL", "URL")]
    for name in names:
        monkeypatch.setenv(name, "before")  # so that monkeypatch undoes what the run sets
    cell = f"import os\nprint(BACKEND, *(os.environ[name] for name in {names}))"
    make(source, "00_first", cell)
    report = runner.run(given, out=tmp_path, folder=source, model="org/model", base_url=base_url)
    assert report.exit_code == runner.OK
    executed = (tmp_path / backend / "00_first.ipynb").read_text()
    assert f"{backend} org/model http://gpu:8000/v1" in executed


class Listing:
    """A client whose server answers `/models` with this."""

    base_url = "https://models.example/v1/"

    def __init__(self, reply):
        self.reply = reply

    def with_options(self, **options):
        return self

    def get(self, path, cast_to):
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


SNAPSHOT = "mistralai/mistral-small-3.2-24b-instruct"
REQUEST = httpx2.Request("GET", Listing.base_url)
PER_TOKEN = {"prompt": "0.0000001", "completion": "0.0000003"}


@pytest.mark.parametrize(
    ("reply", "price"),
    [
        ({"data": [{"id": SNAPSHOT, "pricing": PER_TOKEN}]}, (0.1, 0.3)),  # OpenRouter
        ([{"id": SNAPSHOT, "pricing": {"input": 0.8, "output": 0.9, "hourly": 0}}], (0.8, 0.9)),
        # Not a price for tokens, or in another unit, or none: the snapshot's.
        ([{"id": SNAPSHOT, "pricing": {"input": 0, "output": 0, "hourly": 2.5}}], None),
        ([{"id": SNAPSHOT, "pricing": {"input": 8e-7, "output": 8e-7}}], None),
        ({"data": [{"id": SNAPSHOT, "pricing": {"prompt": "-1", "completion": "-1"}}]}, None),
        ({"data": [{"id": SNAPSHOT, "pricing": {"prompt": "much", "completion": None}}]}, None),
        ({"data": [{"id": SNAPSHOT, "pricing": "cheap"}, {"id": None}, 3]}, None),
        ({"data": [{"id": "other", "pricing": PER_TOKEN}]}, None),
        ({"data": None}, None),
        ("<html>", None),
        (openai.APIConnectionError(request=REQUEST), None),
    ],
)
def test_a_price_comes_from_the_server_or_else_from_the_snapshot(reply, price):
    found = run_cost.find_price(SimpleNamespace(client=Listing(reply), model=SNAPSHOT))
    snapshot = prices.priced_models()[SNAPSHOT]
    assert (found.input, found.output) == (price or (snapshot["input"], snapshot["output"]))
    today = date.today().isoformat()
    assert (f"models.example/v1/models, {today}" if price else "data/prices.json, 20") in str(found)


@pytest.mark.parametrize("given", ["", "0.1", "0.1,0.2,0.3", "a,b", "0.1,-1", "0.1;0.2", "nan,1"])
def test_a_price_that_is_none_is_refused_with_an_example(given):
    with pytest.raises(prices.BudgetError, match=r"0\.1,0\.3"):
        run_cost.find_price(SimpleNamespace(client=Listing({}), model="m"), given)


def test_a_model_without_a_price_and_a_key_that_is_refused():
    lab = SimpleNamespace(client=Listing({"data": []}), model="unknown")
    with pytest.raises(prices.BudgetError, match=r"no price for 'unknown'.*PRICE=IN,OUT"):
        run_cost.find_price(lab)
    response = httpx2.Response(401, request=REQUEST)
    lab.client.reply = openai.AuthenticationError("no", response=response, body=None)
    with pytest.raises(prices.BudgetError, match="refuses the key"):
        run_cost.find_price(lab)
    assert run_cost.find_price(lab, " 0.1, 0.3").output == 0.3


@pytest.mark.parametrize("text", ["[1", "3", '{"m": 3}', '{"m": {"input": 1}}'])
def test_prices_of_the_environment_that_cannot_be_read(text, monkeypatch):
    monkeypatch.setenv(prices.PRICES_VARIABLE, text)
    with pytest.raises(prices.BudgetError, match=prices.PRICES_VARIABLE):
        prices.price("m")


@pytest.mark.parametrize(
    ("arguments", "variables", "word"),
    [
        (["--backend", "nonsense"], {}, "pocket"),
        (["--backend", "openrouter"], {}, "OPENROUTER_API_KEY"),
        (["--backend", "openrouter"], {"ALL_PROXY": "socks5://127.0.0.1:9"}, "socksio"),
    ],
)
def test_a_backend_that_cannot_answer_is_one_line(arguments, variables, word):
    environment = {name: value for name, value in os.environ.items() if "API_KEY" not in name}
    if variables:
        environment |= {"OPENROUTER_API_KEY": "sk-or-v1-" + "0" * 64} | variables
    done = subprocess.run(
        [sys.executable, "-m", "helpers", "run", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert word in done.stderr
    assert "Traceback" not in done.stderr


def start(source: Path, out: Path, *, in_turn: bool = False) -> subprocess.Popen:
    """A run in a process group of its own. To signal the whole group is what Ctrl-C does."""
    script = SCRIPT.format(
        tests=str(Path(__file__).parent), out=str(out), source=str(source), in_turn=in_turn
    )
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


SCRIPT = """
import os, sys
from pathlib import Path
import helpers.backends
from labkit import runner
sys.path.insert(0, {tests!r})
from test_runner import FakeLab
class Lab(FakeLab):
    def close(self): print("lab closed", flush=True)
helpers.backends.connect = lambda backend, **options: Lab()
os.cpu_count = lambda: 2
folders = {{"out": Path({out!r}), "folder": Path({source!r})}}
sys.exit(runner.run(**folders, in_turn={in_turn}).exit_code)
"""


def test_what_compares_times_is_alone_and_the_longest_begins_first(
    source, tmp_path, lab, monkeypatch
):
    """Each notebook writes when it ran; of two at a time, the times overlap."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    note = (
        "import time\nfrom pathlib import Path\nbegan = time.time()\ntime.sleep(2)\n"
        f"Path({str(tmp_path)!r}, NAME).write_text(f'{{began}} {{time.time()}}')"
    )
    for number in ("00", "01", "02", "03"):
        make(source, f"{number}_noted", f"NAME = {number!r}\n{note}")
    assert runner.run(out=tmp_path, folder=source).exit_code == runner.OK

    times = {
        number: tuple(map(float, (tmp_path / number).read_text().split()))
        for number in ("00", "01", "02", "03")
    }
    began, ended = ({name: each[n] for name, each in times.items()} for n in (0, 1))
    assert max(began["03"], began["01"]) < min(ended["03"], ended["01"])
    assert began["00"] > min(ended["03"], ended["01"])
    assert began["02"] > max(ended["00"], ended["01"], ended["03"])


@pytest.mark.parametrize(("backend", "cores"), [("openrouter-sim", 2), ("pocket", 1)])
def test_another_backend_or_a_single_core_runs_them_in_turn(
    source, tmp_path, lab, monkeypatch, capsys, backend, cores
):
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    for name in ("00_first", "01_second"):
        make(source, name)
    assert runner.run(backend, out=tmp_path, folder=source).exit_code == runner.OK
    assert "at a time" not in capsys.readouterr().out
    assert [each["prompt_tokens"] for each in results(tmp_path, backend)] == [10, 10]


def test_a_killed_process_fails_its_notebook_and_ends_the_run(source, tmp_path, lab, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    make(source, "00_first", "print('done')")
    make(source, "01_second", "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)")
    report = runner.run(out=tmp_path, folder=source)
    assert report.exit_code == runner.SOME_FAILED
    assert "BrokenProcessPool" in results(tmp_path)[1]["error"]


def test_the_notebooks_that_compare_times_are_known():
    """On the embedded model: 07 measures vLLM only."""
    measured = re.compile(r"import (.*\b)?(latency|decode_speed|thread_spin|perf_counter)\b")
    found = {
        path.stem[:2]
        for path in notebooks.available()
        if any(measured.search(cell.source) for cell in notebooks.code_cells(notebooks.read(path)))
    }
    assert found - {"07"} == set(notebooks.COMPARE_TIMES)


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's here")
@both_ways
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_what_was_finished(source, tmp_path, number, in_turn):
    make(source, "00_first", "print('done')")
    pid_file = tmp_path / "pid"
    wait = f"import os, time\nopen({str(pid_file)!r}, 'w').write(str(os.getpid()))\ntime.sleep(99)"
    make(source, "01_second", wait)
    make(source, "02_third", "print('never')")
    process = start(source, tmp_path, in_turn=in_turn)
    wait_for(lambda: pid_file.exists() and pid_file.read_text())
    wait_for(lambda: results(tmp_path)[0]["status"] == "passed")
    kernel = int(pid_file.read_text())
    os.killpg(process.pid, number)
    printed, _ = process.communicate(timeout=30)

    assert process.returncode == runner.INTERRUPTED
    assert "lab closed" in printed
    outcome = results(tmp_path)
    assert [result["status"] for result in outcome] == ["passed", "not run", "not run"]
    assert [result["error"] for result in outcome] == ["", "interrupted", ""]
    assert (tmp_path / "pocket/00_first.html").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's here")
@pytest.mark.parametrize("begun", [0, 2])
def test_after_an_interruption_no_other_notebook_begins(source, tmp_path, begun):
    """Whether two run, with others waiting, or the processes for them are only starting."""
    for number in ("00", "01", "03", "04", "05"):
        note = f"from pathlib import Path\nPath({str(tmp_path)!r}, 'begun-{number}').touch()"
        make(source, f"{number}_waits", f"{note}\nimport time\ntime.sleep(99)")
    process = start(source, tmp_path)
    assert "two at a time" in process.stdout.readline()
    wait_for(lambda: len(list(tmp_path.glob("begun-*"))) >= begun)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=30)

    assert process.returncode == runner.INTERRUPTED
    assert len(list(tmp_path.glob("begun-*"))) == begun
    outcome = results(tmp_path)
    assert {result["status"] for result in outcome} == {"not run"}
    assert sum(result["error"] == "interrupted" for result in outcome) == begun
