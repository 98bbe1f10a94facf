"""A fingerprint follows what a notebook's outputs depend on, and nothing else."""

from pathlib import Path

import nbformat.v4 as v4
import pytest

from helpers.paths import DATA, NOTEBOOKS, ROOT
from labkit import freshness, notebooks, workshop

FILES = {
    "fakekit/__init__.py": "from .first import one",
    "fakekit/first.py": "def one():\n    from fakekit import second\n    return second",
    "fakekit/second.py": 'NAME = DATA / "table.json"',
    "fakekit/third.py": (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from fakekit import types_only\n"
        "COMMAND = ['-m', 'fakekit.named_only']\n"
        "TEXT = 'see data/named_only.json'"
    ),
    "fakekit/client.py": "from fakeserver import lease",
    "fakekit/types_only.py": "",
    "fakekit/named_only.py": "",
    "fakeserver/__init__.py": "",
    "fakeserver/lease.py": "COMMAND = ['-m', 'fakeserver']",
    "fakeserver/core.py": 'FOLDER = ROOT / "data" / "pocket"\nFILE = FOLDER / "adapter.bin"',
    "fakeserver/server/__init__.py": "",
    "fakeserver/server/app.py": "from fakeserver import core",
    "data/table.json": "[1]",
    "data/set/deep/one.txt": "1",
    "data/set/deep/report.html": "",
    "data/set/other.txt": "",
    "data/pictures/one.png": "",
    "data/pictures/one.json": "",
    "data/whole.txt": "",
    "data/named_only.json": "",
    "data/pocket/adapter.bin": "",
    "data/pocket/other.json": "",
    "data/pocket/words/tools.yaml": "",
}
CELL = """\
%matplotlib inline
from fakekit import client, third
folder = DATA / "set/deep"
picture = DATA / "pictures" / f"{name}.png"
whole = open("../data/whole.txt")"""
DEPENDENCIES = {
    *("fakekit/__init__.py", "fakekit/first.py", "fakekit/second.py", "fakekit/third.py"),
    *("fakekit/client.py", "fakeserver/__init__.py", "fakeserver/lease.py", "fakeserver/core.py"),
    *("fakeserver/server/__init__.py", "fakeserver/server/app.py"),
    *("data/table.json", "data/set/deep/one.txt", "data/pictures/one.png", "data/whole.txt"),
    "data/pocket/adapter.bin",
}


@pytest.fixture
def kit(tmp_path, monkeypatch):
    """A small kit of two packages and one notebook; its folder."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(freshness, "ROOT", tmp_path)
    monkeypatch.setattr(freshness, "DATA", tmp_path / "data")
    monkeypatch.setattr(freshness, "WORDS", tmp_path / "data" / "pocket" / "words")
    monkeypatch.setattr(freshness, "PACKAGES", ("fakekit", "fakeserver"))
    monkeypatch.setattr(freshness, "WHOLE_PACKAGE", "fakeserver")
    monkeypatch.syspath_prepend(tmp_path)
    freshness.import_graph.cache_clear()
    cell = v4.new_code_cell(CELL, execution_count=1)
    cell.outputs = [v4.new_output("stream", name="stdout", text="old\n")]
    notebooks.write(v4.new_notebook(cells=[cell]), tmp_path / "00_one.ipynb")
    yield tmp_path
    freshness.import_graph.cache_clear()


@pytest.mark.parametrize("name", FILES)
def test_follows_imports_and_named_data_only(kit, name):
    before = freshness.fingerprint(kit / "00_one.ipynb")
    with (kit / name).open("a") as file:
        file.write(" ")
    assert (freshness.fingerprint(kit / "00_one.ipynb") != before) == (name in DEPENDENCIES)


def test_counts_what_a_notebook_depends_on(kit):
    counts = freshness.dependency_counts([kit / "00_one.ipynb"]).loc["00_one"]
    assert counts["code files"] == sum(name.endswith(".py") for name in DEPENDENCIES)
    assert counts["data files"] == sum(not name.endswith(".py") for name in DEPENDENCIES)
    lines = [len(FILES[name].splitlines()) for name in DEPENDENCIES if name.endswith(".py")]
    assert counts["code lines"] == sum(lines)


def test_follows_the_source_and_not_the_outputs(kit):
    path = kit / "00_one.ipynb"
    before = freshness.fingerprint(path)
    book = notebooks.read(path)
    book.cells[0].outputs[0].text = "new\n"
    notebooks.write(book, path)
    assert freshness.fingerprint(path) == before
    book.cells[0].source += "\n1"
    notebooks.write(book, path)
    assert freshness.fingerprint(path) != before


def edited(monkeypatch, folder: Path) -> None:
    """Let every file in `folder`, or the file itself, appear with one more byte."""
    read = Path.read_bytes
    monkeypatch.setattr(
        Path,
        "read_bytes",
        lambda self: read(self) + (b" " if folder in (self, *self.parents) else b""),
    )


@pytest.mark.parametrize("path", notebooks.available(), ids=lambda path: path.stem)
def test_no_committed_notebook_depends_on_a_training_word(path, monkeypatch):
    assert list((DATA / "pocket" / "words").glob("*.yaml"))
    before = freshness.fingerprint(path)
    with monkeypatch.context() as patch:
        edited(patch, DATA / "pocket" / "words")
        assert freshness.fingerprint(path) == before
        edited(patch, DATA / "pocket" / "adapter.safetensors")
        assert freshness.fingerprint(path) != before


@pytest.mark.parametrize("path", notebooks.available(), ids=lambda path: path.stem)
def test_a_committed_notebook_depends_on_the_server_and_on_its_own_exercises(path):
    files = freshness.dependencies(path)
    assert files >= set((ROOT / "pocket_model").rglob("*.py"))
    exercises = [file.name for file in files if file.match("labkit/exercises/nb*.py")]
    assert exercises == [f"nb{path.stem[:2]}.py"]


def test_execution_replaces_only_what_succeeded(tmp_path):
    for folder in ("notebooks", "data"):
        (tmp_path / folder).mkdir()
    path = tmp_path / "notebooks" / "00_one.ipynb"
    cells = [v4.new_code_cell("print('fine')"), v4.new_code_cell("1 / 0")]
    cells[0].metadata["execution"] = {"iopub.execute_input": "2026-01-01"}
    book = v4.new_notebook(cells=cells, metadata={"widgets": {"state": {}}})
    notebooks.write(book, path)
    broken = path.read_bytes()
    with pytest.raises(Exception, match="ZeroDivisionError"):
        freshness.execute_in_place(path)
    assert path.read_bytes() == broken
    book.cells[1].source = "print('too')"
    notebooks.write(book, path)
    freshness.execute_in_place(path)
    done = notebooks.read(path)
    assert [cell.execution_count for cell in notebooks.code_cells(done)] == [1, 2]
    assert set(done.metadata) == {"kernelspec", "language_info"}
    assert not any("execution" in cell.metadata for cell in done.cells)
    assert freshness.recorded(path.parent)[path.name] == freshness.fingerprint(path)


def test_the_folder_of_notebooks_holds_only_notebooks():
    seen = [file for file in NOTEBOOKS.iterdir() if not file.name.startswith(".")]
    assert sorted(seen) == [*notebooks.available(), workshop.NOTEBOOK]
    assert freshness.recorded().keys() <= {path.name for path in notebooks.available()}
