"""The workshop's notebook is made of the others; copies for learners hold no solution; all runs."""

import ast
import copy
import re
import symtable
from pathlib import Path

import nbclient
import nbformat.v4 as v4
import pytest
from obedient_model import serving

from helpers.paths import ROOT
from labkit import notebooks, runner, workshop, workshop_files
from labkit.exercises.engine import load_all, verdict
from labkit.pages import DOCUMENTS

BOOKS = {path.stem: notebooks.read(path) for path in notebooks.available()}
SOLUTIONS = {
    name: code for book in BOOKS.values() for name, code in workshop.solutions(book).items()
}


def squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", text)


# The notebook


def test_the_committed_notebook_is_what_the_plan_makes():
    assert list(workshop.problems()) == []


def test_a_change_in_a_notebook_is_noticed(monkeypatch):
    real = notebooks.read

    def changed(path):
        book = real(path)
        next(cell for cell in book.cells if cell.id == "first-answer").source += "  # new"
        return book

    monkeypatch.setattr(
        notebooks, "read", lambda path: changed(path) if "00_" in path.name else real(path)
    )
    (problem,) = workshop.problems()
    assert "check --fix" in problem


def test_it_takes_each_part_from_its_notebook_and_no_solution():
    book = workshop.assemble()
    text = "\n".join(cell.source for cell in book.cells)
    for number, part in enumerate(workshop.plan()["parts"], 1):
        assert f"## Part {number} · {part['title']}" in text
        for name in part["exercises"]:
            assert f'check("{name}"' in text
    assert len(re.findall(r"^# ", text, re.M)) == 1 + text.count("# @title")
    assert "<summary>Solution" not in text
    assert all(cell.outputs == [] for cell in notebooks.code_cells(book))
    assert len({cell.id for cell in book.cells}) == len(book.cells)
    minutes = re.search(r"\| (\d+) minutes with a teacher", text)[1]
    assert int(minutes) == 90


def names(cell) -> tuple[set[str], set[str]]:
    """The global names that a cell sets, and those that it uses, in functions too."""
    top = symtable.symtable(notebooks.python(cell), cell.id, "exec")
    sets = {each.get_name() for each in top.get_symbols() if each.is_assigned()}
    sets |= {each.get_name() for each in top.get_symbols() if each.is_imported()}
    uses = {each.get_name() for each in top.get_symbols() if each.is_referenced()}
    inside = list(top.get_children())
    while inside:
        table = inside.pop()
        inside += table.get_children()
        uses |= {each.get_name() for each in table.get_symbols() if each.is_global()}
    return sets, uses


@pytest.mark.parametrize("part", workshop.plan()["parts"], ids=lambda part: part["notebook"])
def test_no_cell_uses_what_another_part_has_left(part):
    # Parts use the same names for other things. So each name comes from the cell of the same
    # notebook from which it comes there.
    (path,) = notebooks.select([part["notebook"]])
    source = notebooks.code_cells(notebooks.read(path))
    setters = {cell.id: names(cell)[0] for cell in source}
    order = list(setters)
    prefix = f"{part['notebook']}-"
    cells = [c for c in notebooks.code_cells(workshop.assemble()) if c.id.startswith(prefix)]
    there = {cell.id.removeprefix(prefix) for cell in cells}
    there |= {cell.id for cell in source if "parameters" in notebooks.tags(cell)}
    for cell in cells:
        if (own := cell.id.removeprefix(prefix)) not in setters:
            continue  # the part's settings
        before = order[: order.index(own) + 1]
        for name in names(cell)[1]:
            found = [each for each in before if name in setters[each]]
            assert not found or found[-1] in there, f"{own} uses {name}, which {found[-1]} sets"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda part: part["cells"].append("gone"), "has no cell 'gone'"),
        (
            lambda part: part["cells"].append({"cell": "build", "without": ["zz"]}),
            "begins with 'zz'",
        ),
        (lambda part: part["exercises"].append("01-gone"), "is called '01-gone'"),
    ],
)
def test_a_plan_that_no_longer_fits_says_where(change, says, monkeypatch):
    plan = copy.deepcopy(workshop.plan())
    change(next(part for part in plan["parts"] if part["notebook"] == "01"))
    monkeypatch.setattr(workshop, "plan", lambda: plan)
    (problem,) = workshop.problems()
    assert says in problem
    assert "01" in problem


# Copies and solutions


@pytest.mark.parametrize("stem", BOOKS)
def test_no_solution_is_left_in_a_copy_for_learners(stem):
    book = BOOKS[stem]
    learners = workshop.without_solutions(book)
    text = squeezed("\n".join(cell.source for cell in learners.cells))
    answers = workshop.solutions(book)
    assert answers
    for name, code in answers.items():
        solution = code.split("check(")[0]
        assert squeezed(solution).strip() not in text, name
        assert f'check("{name}"' in text
    assert not re.search(r"<summary>[^<]*solution", text, re.IGNORECASE)
    # All else stays: the same cells, but for those that held nothing but a solution.
    kept = [cell for cell in book.cells if not workshop.SOLUTION.fullmatch(cell.source + "\n")]
    assert [cell.id for cell in learners.cells] == [cell.id for cell in kept]


def test_hints_and_expected_outputs_stay_folded_where_they_are():
    fold = "<details><summary>{}</summary>\n\n```python\nanswer = {}\n```\n\n</details>\n\n"
    text = fold.format("Hint 1", 1) + fold.format("<b>Solution</b>", 2) + fold.format("Output", 3)
    book = v4.new_notebook(cells=[v4.new_markdown_cell(text)])
    (cell,) = workshop.without_solutions(book).cells
    assert re.findall(r"answer = (\d)", cell.source) == ["1", "3"]


def test_every_exercise_has_a_solution():
    assert set(SOLUTIONS) == set(load_all())


@pytest.mark.parametrize("name", SOLUTIONS)
def test_every_solution_runs_and_is_right(name):
    said = []

    def check(name, answer, *_):
        said.append(verdict(name, answer, lab))

    with serving() as (lab, _):
        exec(SOLUTIONS[name], {"check": check, "lab": lab})
    assert said == [(True, f"{name}: right!")]


def test_an_exercise_without_a_solution_is_named():
    cells = [
        v4.new_markdown_cell("# 01 · T"),
        v4.new_code_cell('answer = ...\ncheck("01-kv", answer)'),
        v4.new_markdown_cell("## Next"),
    ]
    with pytest.raises(workshop.PlanError, match="01-kv has no folded solution"):
        workshop.solutions(v4.new_notebook(cells=cells))


def test_a_copy_can_be_kept_anywhere():
    text = "[![Open](https://x/colab-badge.svg)](y)\n\n[G](../GLOSSARY.md#a) [n](01_a.ipynb) [h](https://z/../a)"
    (cell,) = workshop.portable(v4.new_notebook(cells=[v4.new_markdown_cell(text)])).cells
    assert "colab-badge" not in cell.source
    assert f"[G]({notebooks.REPOSITORY}/blob/main/GLOSSARY.md#a)" in cell.source
    assert "[n](01_a.ipynb) [h](https://z/../a)" in cell.source


# All of it


@pytest.mark.slow
@pytest.mark.pocket
def test_what_a_teacher_gets(model_folder, tmp_path):
    said = []
    result, table = workshop_files.write(tmp_path, "pocket", said.append)
    assert (result.status, result.error, result.skipped) == ("passed", "", [])
    assert len(said) == 4
    parts = [part["title"] for part in workshop.plan()["parts"]]
    assert list(table.index) == ["settings", *parts]
    assert (table.loc[parts, "seconds to run"] > 0).all()

    stems = {*BOOKS, "workshop"}
    for folder in ("learners", "solutions"):
        assert {path.stem for path in (tmp_path / folder).iterdir()} == stems
    learners = [notebooks.read(path) for path in (tmp_path / "learners").iterdir()]
    assert not any(workshop.SOLUTION.search(c.source) for book in learners for c in book.cells)

    pages = list((tmp_path / "pages").glob("*.html"))
    documents = {Path(name).stem for name in DOCUMENTS.values()}
    assert {page.stem for page in pages} == {*stems, *documents, "index"}
    for page in pages:
        for link in re.findall(r'<a\b[^>]*href="([^"#]+)', page.read_text(encoding="utf-8")):
            assert ":" in link or (page.parent / link).exists(), (page.name, link)

    pictures = sorted((tmp_path / "pictures").glob("*.html"))
    assert [picture.name[0] for picture in pictures] == list("12345")
    for picture in pictures:
        text = picture.read_text(encoding="utf-8")
        assert 'class="kx"' in text
        assert not re.search(r'(?:src|href)="http', text)
    for png in (tmp_path / "pictures").glob("*.png"):  # where a browser draws them
        assert png.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.pocket
def test_the_solved_workshop_says_right_everywhere(model_folder):
    book = workshop.solved(workshop.assemble(with_solutions=True))
    resources = {"metadata": {"path": str(workshop.NOTEBOOK.parent)}}
    nbclient.NotebookClient(book, timeout=300, resources=resources).execute()
    said = " ".join(notebooks.output_text(o) for c in notebooks.code_cells(book) for o in c.outputs)
    wanted = [name for part in workshop.plan()["parts"] for name in part["exercises"]]
    assert [name for name in wanted if f"{name}: right!" not in said] == []


def test_a_server_that_costs_money_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENROUTER_API_KEY", "k" * 20)
    with pytest.raises(runner.RunError, match="costs money"):
        workshop_files.write(tmp_path, "openrouter", lambda line: None)


# The teacher's document

DOCUMENT = (ROOT / "WORKSHOP.md").read_text(encoding="utf-8")


def code_strings() -> list[str]:
    """The texts of the kit's code; what a program fills in is left out."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "labkit").glob("*.j2")]
    for package in ("helpers", "labkit", "pocket_model"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = [p.value if isinstance(p, ast.Constant) else "…" for p in node.values]
                    texts.append("".join(parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
    return texts


def quoted() -> list[str]:
    return [" ".join(text.split()) for text in re.findall(r"“([^”]+)”", DOCUMENT)]


def test_every_quoted_message_is_in_the_code():
    assert len(quoted()) >= 12
    texts = code_strings()
    for message in quoted():
        for piece in filter(None, message.strip("….").split("…")):
            assert any(piece.strip() in text for text in texts), (message, piece)


def test_the_documents_minutes_are_the_plans():
    table = DOCUMENT.partition("## Ninety minutes")[2].partition("\n## ")[0]
    minutes = [int(row) for row in re.findall(r"^\| (\d+) \|", table, re.M)]
    plan = workshop.plan()
    assert minutes == [
        plan["arrival"],
        *(part["minutes"] for part in plan["parts"]),
        plan["closing"],
    ]
    assert sum(minutes) == 90
    half = DOCUMENT.partition("## Half a day")[2].partition("\n## ")[0]
    assert sum(int(row) for row in re.findall(r"^\| (\d+) \|", half, re.M)) == 240
