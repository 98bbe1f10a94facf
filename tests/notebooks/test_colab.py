"""An imitation of Colab: its packages, the set-up cell as it is, then whole notebooks.

`make test-colab` runs it, for about five minutes; the first time, it installs 1 GB into
`.venv-colab`. It downloads from the package index, and fetches the kit from this checkout: what is
not committed is not tried. It does not run in `make test`.
"""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbclient
import nbformat
import nbformat.v4 as v4
import pytest

from helpers.paths import ROOT
from labkit import colab, colab_packages, notebooks, workshop

BASE = (ROOT / ".venv-colab").resolve()
WHOLE = ("00", "03", "04", "05")
USERDATA = """
class SecretNotFoundError(Exception): pass
class NotebookAccessError(Exception): pass
class TimeoutException(Exception): pass
def get(name):
    import os
    raise globals()[os.environ.get("COLAB_SECRET_RAISES", "SecretNotFoundError")](name)
"""  # the names are those of googlecolab/colabtools


def run(*command: object, **options) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def site_packages(venv: Path) -> Path:
    return Path(
        run(venv / "bin/python", "-c", "import site; print(site.getsitepackages()[0])")[:-1]
    )


@pytest.fixture(scope="session")
def base() -> Path:
    """An environment with Colab's version of each package that the kit needs and Colab has."""
    wanted, present = (ROOT / "requirements.txt").read_text(), colab_packages.packages()
    names = re.findall(r"^([\w-]+)", wanted, re.M)
    tested = colab.pins((ROOT / "constraints.txt").read_text())
    there = {name: present[name] for name in map(colab.canonical, names) if name in present}
    # Not Colab's torch: the CUDA build is large, and the CPU build is on an index of its own.
    there |= {"torch": tested["torch"]}
    stamp = BASE / ".installed"
    if not stamp.exists() or json.loads(stamp.read_text()) != there:
        shutil.rmtree(BASE, ignore_errors=True)
        run(sys.executable, "-m", "venv", BASE)
        pins = present | there
        pinned = [f"{name}=={pin}\n" for name, pin in pins.items() if name != "setuptools"]
        (BASE / "colab.txt").write_text("".join(pinned))
        run(BASE / "bin/pip", "install", "-q", "-c", BASE / "colab.txt", *there)
        stamp.write_text(json.dumps(there))
    return BASE


class Runtime:
    """A machine of Colab, with a Drive as its working folder."""

    def __init__(self, base: Path, folder: Path):
        self.content, self.drive = folder / "content", folder / "content/drive/MyDrive"
        self.drive.mkdir(parents=True)
        self.python = folder / "usr/bin/python"
        # pip and setuptools are Colab's too.
        run(sys.executable, "-m", "venv", "--without-pip", folder / "usr")
        site = site_packages(folder / "usr")
        (site / "colabs_own.pth").write_text(f"{site_packages(base)}\n")
        (site / "google/colab").mkdir(parents=True)
        (site / "google/colab/__init__.py").touch()
        (site / "google/colab/userdata.py").write_text(USERDATA)
        startup = folder / "ipython/profile_default/startup"
        startup.mkdir(parents=True)
        (startup / "colab.py").write_text("import google.colab\n")
        spec = folder / "jupyter/kernels/python3"
        spec.mkdir(parents=True)
        argv = [str(self.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        kernel = {"argv": argv, "display_name": "Colab", "language": "python"}
        (spec / "kernel.json").write_text(json.dumps(kernel))
        self.environment = {
            "IPYTHONDIR": str(folder / "ipython"),
            "JUPYTER_PATH": str(folder / "jupyter"),
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # no warning of the debugger
            # `git clone` of the repository's address takes this checkout.
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.file://{ROOT}.insteadOf",
            "GIT_CONFIG_VALUE_0": notebooks.REPOSITORY,
        }

    def execute(self, book: nbformat.NotebookNode, monkeypatch) -> list[str]:
        """Execute a notebook in a new kernel; returns what its set-up cell printed, and the rest.

        The only change: the folder `/content` is elsewhere.
        """
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        book = nbformat.from_dict(book)
        setup = next(cell for cell in book.cells if notebooks.COLAB_TAG in notebooks.tags(cell))
        setup.source = setup.source.replace("/content/", f"{self.content}/")
        resources = {"metadata": {"path": str(self.drive)}}
        client = nbclient.NotebookClient(book, timeout=300, resources=resources)
        client.execute()
        cells = notebooks.code_cells(book)
        return ["".join(map(notebooks.output_text, cell.outputs)) for cell in cells]


@pytest.fixture(scope="session")
def runtime(base, tmp_path_factory) -> Runtime:
    return Runtime(base, tmp_path_factory.mktemp("colab"))


def small_notebook(*sources: str) -> nbformat.NotebookNode:
    setup = v4.new_code_cell(notebooks.COLAB_CELL, metadata={"tags": [notebooks.COLAB_TAG]})
    return v4.new_notebook(cells=[setup, *map(v4.new_code_cell, sources)])


def packages(python: Path) -> dict[str, str]:
    listed = json.loads(run(python, "-m", "pip", "list", "--format=json"))
    return {colab.canonical(each["name"]): each["version"] for each in listed}


def test_the_set_up_says_what_it_does_and_runs_twice(runtime, monkeypatch):
    before = packages(runtime.python)
    old = small_notebook("1")
    old.cells.insert(0, v4.new_code_cell("import transformers, huggingface_hub"))
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="Please restart now") as error:
        runtime.execute(old, monkeypatch)
    said = str(error.value)
    assert "huggingface-hub" in said
    assert 'File "' not in said  # no traceback
    after = packages(runtime.python)
    replaced = {name for name in before if after[name] != before[name]}
    assert replaced <= set(colab.REPLACED)
    assert not {"jupyterlab", "pytest", "ruff", "papermill"} & (after.keys() - before.keys())
    (result,) = re.findall(r"^Replaced: .* It took \d+ s\.$", said, re.M)
    print(f"\nset-up cell: {result}")

    again = small_notebook("import helpers, os; print(helpers.__file__, os.getcwd())")
    setup, where = runtime.execute(again, monkeypatch)
    assert setup.startswith("The kit is already set up.")
    assert where.count(str(runtime.content)) == 2


@pytest.mark.parametrize("number", WHOLE)
def test_a_whole_notebook(runtime, monkeypatch, number):
    (path,) = notebooks.select([number])
    runtime.execute(notebooks.read(path), monkeypatch)


def test_the_workshop_from_first_to_last_cell(runtime, monkeypatch):
    book = notebooks.read(workshop.NOTEBOOK)
    start = time.monotonic()
    shown = runtime.execute(book, monkeypatch)
    print(f"\nthe workshop: {len(shown)} code cells in {time.monotonic() - start:.0f} s")
    assert len(shown) == len(notebooks.code_cells(book))
    answers = [text for text in shown if "not answered yet" in text]
    assert len(answers) == sum(len(part["exercises"]) for part in workshop.plan()["parts"])


NEEDS_A_SECRET = """
from helpers import connect
from helpers.backends import BackendError
try:
    connect("mistral")
except BackendError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("SecretNotFoundError", "has no secret MISTRAL_API_KEY"),
        ("NotebookAccessError", "may not read it"),
        ("TimeoutException", "did not answer when asked for the secret MISTRAL_API_KEY"),
    ],
)
def test_a_secret_that_cannot_be_read_has_its_sentence_and_stops_no_other_backend(
    runtime, monkeypatch, reason, says
):
    monkeypatch.setenv("COLAB_SECRET_RAISES", reason)
    monkeypatch.delenv("MISTRAL_API_KEY", raising=False)
    book = small_notebook(NEEDS_A_SECRET, 'print(connect("pocket").model)')
    _, said, model = runtime.execute(book, monkeypatch)
    assert says in said
    assert model.splitlines()[-1] == "pocket-small"
