"""Every notebook is run whole in JupyterLab; then its page is read in both themes and widths.

The tests of a notebook follow each other on one page, so their order matters.
"""

import re

import pytest


def lines(faults: list[str]) -> str:
    return "\n".join(["", *faults])


def test_no_red_box_and_every_cell_ran(notebook):
    red = notebook.red_boxes()
    assert not red, lines(red)
    counts = notebook.page.evaluate(
        "jupyterapp.shell.currentWidget.content.widgets.map((cell) => cell.model.executionCount)"
    )
    cells = zip(notebook.source.cells, counts, strict=True)
    not_run = [i for i, (cell, n) in enumerate(cells) if cell.cell_type == "code" and not n]
    assert not not_run, f"cells that did not run: {not_run}"


@pytest.fixture
def first(notebook):
    """Notebook 00, for what needs to be tested only once."""
    if not notebook.name.startswith("00"):
        pytest.skip("notebook 00 is enough")
    return notebook


def test_only_the_notebook_is_open(first):
    assert first.page.locator("#jp-left-stack").is_hidden(), "the side bar is open"
    assert first.page.locator(".Toastify__toast").count() == 0, "a question covers the page"


def test_the_first_build_is_one_bar_and_a_few_lines(first):
    cell = first.cell_with("connect(BACKEND)")
    text = cell.locator(".jp-OutputArea").inner_text()
    bars = cell.locator("[role=progressbar], progress, .widget-hprogress").count()
    assert bars <= 1, f"{bars} progress bars:\n{text}"
    assert len(text.splitlines()) <= 12, text
    answer = first.cell_with("print(reply.choices[0]").locator(".jp-OutputArea").inner_text()
    assert len(answer.split()) > 2, f"the first answer: {answer!r}"


def test_an_exercise_can_be_answered_after_run_all(first):
    page, cell = first.page, first.cell_with('check("00-seed"')
    cell.locator(".cm-content").click()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.insert_text(
        'answer = {"temperature": 1.0, "seed": 7}\n'
        'check("00-seed", answer)\n'
        'print("said:", ask([{"role": "user", "content": QUESTION}]))'
    )
    page.keyboard.press("ControlOrMeta+Enter")
    cell.get_by_text("said:").wait_for()
    first.wait_for_kernel()
    shown = cell.locator(".jp-OutputArea").inner_text()
    assert "✓" in shown, shown
    assert len(shown.rpartition("said:")[2].split()) > 1, shown
    assert not first.red_boxes(), "an answered exercise shows an error"


@pytest.mark.parametrize(("theme", "width"), [("Light", 1280), ("Dark", 800)])
def test_the_page_is_readable(notebook, faults_of, theme, width):
    notebook.look(theme, width)
    notebook.take_pictures(f"{theme.lower()}-{width}")
    found = faults_of(notebook.page)
    assert not found, lines(found)


def test_solutions_unfold(notebook, solutions_fold):
    solutions_fold(notebook.page, notebook.source)


def test_links_lead_somewhere(notebook):
    dead = []
    for text, address in notebook.page.evaluate("faults.links()"):
        if "/files/" in address or address.startswith("http://127.0.0.1"):
            reply = notebook.page.request.get(address)
            if not reply.ok:
                dead.append(f"{text} → {address.split('?')[0]}: HTTP {reply.status}")
        elif not re.fullmatch(r"https://[\w-]+(\.[\w-]+)+(/\S*)?", address):
            dead.append(f"{text} → {address[:60]}: not a public address")
    assert not dead, lines(dead)


def test_the_glossary_and_the_next_notebook_open(first):
    page = first.page
    for link, tab in (("Glossary", "GLOSSARY.md"), ("01 · ", "01_architecture.ipynb")):
        page.locator(".jp-NotebookPanel a", has_text=link).first.click()
        page.locator(".lm-TabBar-tab", has_text=tab).first.wait_for()
        page.locator(".lm-TabBar-tab", has_text=first.name).first.click()
