"""The committed notebooks pass every structure check, and every check can fail."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable

import nbformat.v4 as v4
import pytest

from helpers.paths import ROOT
from labkit import freshness, notebook_checks, notebooks

# Built from pieces, so that no scanner takes this file for a leak.
OPENROUTER_KEY = "sk-or-v1-" + "0123456789abcdef" * 4
HUB_TOKEN = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz" + "01234567"
GOOGLE_KEY = "AI" + "za" + "SyA1234567890abcdefghijklmnopqrstuvw"
GITHUB_TOKEN = "ghp_" + "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789"


@pytest.mark.parametrize("check", notebook_checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("path", notebooks.available(), ids=lambda path: path.stem)
def test_committed_notebook(path, check):
    assert list(check(notebook_checks.Context(path, notebooks.read(path)))) == []


def code(source, number, tags=(), text=""):
    cell = v4.new_code_cell(source, execution_count=number, metadata={"tags": list(tags)})
    if text:
        cell.outputs = [v4.new_output("stream", name="stdout", text=text)]
    return cell


def set_up_cell():
    cell = code(notebooks.COLAB_CELL, 1, ["colab"], "Not on Colab: nothing to install here.\n")
    cell.metadata.update(notebooks.COLAB_FOLDED)
    return cell


def good(path):
    """A small notebook without a fault, with neighbors in its folder."""
    head = (
        f"# 05 · Sound\n\n{notebooks.badge(path)}\n\n| | |\n|---|---|\n"
        "| **You will be able to** | count |\n| **You need** | nothing |\n"
        "| **How long it takes** | a minute |"
    )
    parameters = 'BACKEND = "pocket"  # which server answers'
    last = (
        "## What you learned\n\nThe terms are in the [glossary](../GLOSSARY.md).\n\n"
        "[Previous](04_before.ipynb) · [Next](06_after.ipynb)"
    )
    return v4.new_notebook(
        cells=[
            v4.new_markdown_cell(head),
            set_up_cell(),
            code(parameters, 2, ["parameters"]),
            code("print(1 + 1)", 3, text="2\n"),
            v4.new_markdown_cell("## Exercises\n\n<details>\n\n`answer = 3`\n\n</details>"),
            code('answer = 3\ncheck("three", answer)', 4),
            v4.new_markdown_cell(last),
        ]
    )


@pytest.fixture
def sound(tmp_path):
    """The path of a sound notebook, in a folder with its neighbors and its fingerprint."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (tmp_path / "GLOSSARY.md").touch()
    for name in ("04_before", "06_after"):
        notebooks.write(v4.new_notebook(), folder / f"{name}.ipynb")
    path = folder / "05_sound.ipynb"
    notebooks.write(good(path), path)
    record = {path.name: freshness.fingerprint(path)}
    (tmp_path / "data").mkdir()
    freshness.record_file(folder).write_text(json.dumps(record))
    return path


def edit(number: int, old: str, new: str) -> Callable:
    """A fault that replaces text in a cell's source."""

    def fault(book):
        assert old in book.cells[number].source
        book.cells[number].source = book.cells[number].source.replace(old, new)

    return fault


def show(text: str) -> Callable:
    """A fault that lets cell 3 print `text`."""

    def fault(book):
        book.cells[3].outputs[0].text = text

    return fault


def change(statement: str) -> Callable:
    """A fault written as a statement on `book`."""
    return lambda book: exec(statement, {"book": book, "v4": v4})


ERROR = (
    "book.cells[3].outputs.append(v4.new_output('error', ename='KeyError', evalue='x',"
    " traceback=[{!r}]))"
)
FAULTS = [
    ("execution_counts", change("book.cells[3].execution_count = None")),
    ("execution_counts", change("book.cells[3].execution_count = 9")),
    ("heading", edit(0, "# 05 · ", "# 6 - ")),
    ("heading", edit(4, "## Exercises", "## Exercises\n\n# Again")),
    ("heading", edit(0, "You will be able to", "Aims")),
    ("heading", edit(0, "You need", "Before")),
    ("heading", edit(0, "How long it takes", "Pace")),
    ("badge", edit(0, "05_sound.ipynb", "04_before.ipynb")),
    ("badge", edit(0, "[![Open in Colab]", "\nText first\n\n[![Open in Colab]")),
    ("colab_cell", edit(1, "--depth=1", "--depth=2")),
    ("colab_cell", change("book.cells[1].metadata.tags = []")),
    ("colab_cell", change("del book.cells[1].metadata['cellView']")),
    ("colab_cell", change("book.cells[1].metadata.jupyter.source_hidden = False")),
    ("parameters", change("book.cells[2].metadata.tags = []")),
    ("parameters", edit(2, '"pocket"', '"openrouter"')),
    ("parameters", edit(2, "# which server answers", "\nNUMBER = 3  # of tries")),
    ("exercises", edit(4, "## Exercises", "## More")),
    ("exercises", edit(4, "<details>", "")),
    ("exercises", edit(5, "check(", "print(")),
    ("ending", edit(6, "## What you learned", "## The end")),
    ("ending", edit(6, "04_before.ipynb", "06_after.ipynb")),
    ("ending", edit(6, "06_after.ipynb", "04_before.ipynb")),
    ("glossary", edit(6, "../GLOSSARY.md", "04_before.ipynb")),
    ("dialect", edit(4, "## Exercises", "## Exercises\n\nThe model sends its wish.")),
    ("dialect", edit(3, "print(1 + 1)", "print(1 + 1)  # the model has eyes")),
    ("links", edit(6, "[Next]", "[Gone](../gone.md) [Next]")),
    ("links", edit(6, "[Next]", '<img src="gone.png"> [Next]')),
    ("no_errors", change(ERROR.format("KeyError: x"))),
    ("secrets", edit(3, "1 + 1", repr(OPENROUTER_KEY))),
    ("secrets", show(f"the key is {HUB_TOKEN}\n")),
    ("secrets", show(f"token={GITHUB_TOKEN}\n")),
    ("secrets", change(ERROR.format(f"connect(key={GOOGLE_KEY!r})"))),
    ("secrets", change(f"book.metadata.key = {OPENROUTER_KEY!r}")),
    ("secrets", change(f"book.cells[3].metadata.key = {GOOGLE_KEY!r}")),
    ("secrets", show("Authorization: Bearer " + "abcdefghijklmnopqrstu1\n")),
    ("secrets", edit(3, "1 + 1", 'client(api_key="' + "0a1b2c3d4e5f6071829304" + '")')),
    ("machine_paths", show("saved to /home" + "/user/lab/x.txt\n")),
    ("machine_paths", show("File /tmp/ipykernel_12/3.py\n")),
    ("machine_paths", edit(3, "1 + 1", r"'C:\\Users\\user\\lab'")),
    ("widget_state", change("book.metadata.widgets = {}")),
    ("cell_length", edit(3, "print(1 + 1)", "print(1 + 1)\n" * 31)),
    ("cell_length", lambda book: [edit(n, "", "\n" * 2)(book) for n in (2, 3, 5)]),
    ("timed_checks", edit(3, "print(1 + 1)", "assert ttft_s < 3")),
    ("timed_checks", edit(3, "print(1 + 1)", "assert time.perf_counter() - start < 3")),
    ("lab_stays_open", edit(3, "print(1 + 1)", "lab.close()")),
    ("lab_stays_open", edit(3, "print(1 + 1)", "for x in (sim, lab):\n    x.close()")),
    ("lab_stays_open", edit(3, "print(1 + 1)", "with connect(BACKEND) as lab:\n    pass")),
    ("stale", edit(3, "1 + 1", "1 + 2")),
]


@pytest.mark.parametrize("check", notebook_checks.CHECKS, ids=lambda check: check.__name__)
def test_a_sound_notebook_has_no_problem(sound, check):
    assert list(check(notebook_checks.Context(sound, notebooks.read(sound)))) == []


@pytest.mark.parametrize(("name", "fault"), FAULTS, ids=[name for name, _ in FAULTS])
def test_each_check_sees_its_planted_fault(sound, name, fault):
    book = copy.deepcopy(notebooks.read(sound))
    fault(book)
    notebooks.write(book, sound)
    check = next(check for check in notebook_checks.CHECKS if check.__name__ == name)
    problems = list(check(notebook_checks.Context(sound, notebooks.read(sound))))
    assert problems
    for key in (OPENROUTER_KEY, HUB_TOKEN, GOOGLE_KEY, GITHUB_TOKEN):
        assert key not in str(problems)


def test_every_check_has_a_planted_fault():
    assert {name for name, _ in FAULTS} == {check.__name__ for check in notebook_checks.CHECKS}


def test_what_only_looks_like_a_fault_is_let_through(sound):
    book = notebooks.read(sound)
    text = (
        "mistralai/mistral-small-3.2-24b-instruct sha256 "
        + "0123456789abcdef" * 4
        + " https://example.org/home/page /content/kit sk-... hf_... OPENROUTER_API_KEY\n"
    )
    show(text)(book)
    edit(3, "1 + 1", 'OpenAI(base_url="http://localhost:8000/v1", api_key="not-needed")')(book)
    edit(4, "## Exercises", "## Exercises\n\nNever call `lab.close()`.")(book)
    edit(5, "answer = 3", "other.close()")(book)
    context = notebook_checks.Context(sound, book)
    assert list(notebook_checks.lab_stays_open(context)) == []
    assert list(notebook_checks.secrets(context)) == []
    assert list(notebook_checks.machine_paths(context)) == []


def test_fix_renews_badge_and_set_up_cell(sound):
    book = notebooks.read(sound)
    edit(0, notebooks.badge(sound), "")(book)
    del book.cells[1]
    notebooks.write(book, sound)
    assert notebooks.fix(sound)
    context = notebook_checks.Context(sound, notebooks.read(sound))
    for check in (notebook_checks.badge, notebook_checks.colab_cell, notebook_checks.heading):
        assert list(check(context)) == []
    assert not notebooks.fix(sound)


def test_code_is_formatted_and_linted():
    for command in (["check", "."], ["format", "--check", "."]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
