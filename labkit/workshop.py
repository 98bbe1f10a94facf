"""The workshop: one notebook out of the cells of several, copies without solutions, the solutions.

`data/workshop.yaml` has the plan. `python -m helpers check --fix` writes the notebook, and a check
fails if it differs from what the plan and the other notebooks make. `make workshop` writes what a
teacher needs into `runs/workshop`.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.paths import DATA, NOTEBOOKS, ROOT
from labkit import notebooks

if TYPE_CHECKING:
    from nbformat import NotebookNode

PLAN = DATA / "workshop.yaml"
NOTEBOOK = NOTEBOOKS / "workshop.ipynb"
SOLUTION = re.compile(
    r"<details>\s*<summary>(?:(?!</summary>).)*solution.*?</details>\s*", re.I | re.S
)
PYTHON_BLOCK = re.compile(r"```python\n(.*?)```", re.S)
CHECKED = re.compile(r'\bcheck\("([^"]+)"')
RELATIVE_LINK = re.compile(r"(\]\()(?:\.\./)+(?=[^)\s]+\))")

HEAD = """# {title}

{badge}

| | |
|---|---|
| **You will be able to** | • ask a model, and see how it chooses the next token<br>• count \
tokens and the memory of a conversation<br>• ask about an image, and test whether the model used \
it<br>• let a model call your functions |
| **You need** | nothing: no GPU, no key, no account. In a class, perhaps the address of the \
teacher's server |
| **How long it takes** | {minutes} minutes with a teacher |

This notebook has parts of four others: {sources}. Run its cells from top to bottom. A part uses
names again, such as `ask`. To go back to a part, run it again from its beginning. New words are in
the [Glossary](../GLOSSARY.md)."""
SETTINGS = 'BACKEND = "pocket"  # or "custom", or an address that your teacher gives you'
ENDING = """## Where to go on

{links}

The solutions are in these notebooks, folded under each exercise."""


class PlanError(ValueError):
    """The plan names what a notebook does not have; the message says what."""


@cache
def plan() -> dict[str, Any]:
    """The plan, as `data/workshop.yaml` has it."""
    import yaml

    return yaml.safe_load(PLAN.read_text(encoding="utf-8"))


def assemble(folder: Path = NOTEBOOKS, *, with_solutions: bool = False) -> NotebookNode:
    """The workshop's notebook, without outputs; solutions only for the teacher.

    Raises:
        PlanError: a cell, a line or an exercise of the plan is gone.
    """
    import nbformat.v4 as v4

    parts = plan()["parts"]
    paths = {part["notebook"]: notebooks.select([part["notebook"]], folder)[0] for part in parts}
    titles = {n: notebooks.title(notebooks.read(path)) for n, path in paths.items()}
    links = [f"[{titles[n]}]({path.name})" for n, path in paths.items()]
    minutes = plan()["arrival"] + plan()["closing"] + sum(part["minutes"] for part in parts)
    head = HEAD.format(
        title=plan()["title"],
        badge=notebooks.badge(NOTEBOOK),
        minutes=minutes,
        sources=", ".join(links),
    )
    folded = {"tags": [notebooks.COLAB_TAG], **notebooks.COLAB_FOLDED}
    cells = [
        v4.new_markdown_cell(head, id="title"),
        v4.new_code_cell(notebooks.COLAB_CELL, id="colab", metadata=folded),
        v4.new_markdown_cell("Settings: change them here.", id="settings-text"),
        v4.new_code_cell(SETTINGS, id="settings", metadata={"tags": ["parameters"]}),
    ]
    for number, part in enumerate(parts, 1):
        heading = f"## Part {number} · {part['title']}"
        cells.append(v4.new_markdown_cell(heading, id=f"part-{number}"))
        cells += _part(part, notebooks.read(paths[part["notebook"]]))
    book = v4.new_notebook(cells=cells)
    cells = cells if with_solutions else without_solutions(book).cells
    ending = ENDING.format(links="\n".join(f"- {link}" for link in links))
    cells.append(v4.new_markdown_cell(ending, id="ending"))
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return v4.new_notebook(cells=cells, metadata=metadata)


def _part(part: dict[str, Any], book: NotebookNode) -> Iterator[NotebookNode]:
    """The cells of one part: settings, lesson, exercises."""
    import nbformat.v4 as v4

    number = part["notebook"]
    by_id = {cell.id: cell for cell in book.cells}
    settings = next(cell for cell in book.cells if "parameters" in notebooks.tags(cell))
    lines = [line for line in settings.source.splitlines() if not line.startswith("BACKEND")]
    if lines:
        yield v4.new_code_cell("\n".join(lines), id=f"{number}-settings")
    for place, entry in enumerate(part["cells"]):
        if isinstance(entry, dict) and "text" in entry:
            yield v4.new_markdown_cell(entry["text"].strip(), id=f"{number}-text-{place}")
            continue
        name, without = (
            (entry["cell"], entry["without"]) if isinstance(entry, dict) else (entry, [])
        )
        if name not in by_id:
            raise PlanError(f"{PLAN.name}: notebook {number} has no cell {name!r}")
        yield _copied(by_id[name], number, without)
    yield v4.new_markdown_cell("### Exercises", id=f"{number}-exercises")
    for name in part["exercises"]:
        for cell in _exercise(name, book):
            yield _copied(cell, number)


def _copied(cell: NotebookNode, number: str, without: list[str] | None = None) -> NotebookNode:
    """A cell as it is in the workshop: without output, its heading one level down."""
    new = copy.deepcopy(cell)
    new.id = f"{number}-{cell.id}"
    for start in without or []:
        kept = [line for line in new.source.splitlines() if not line.strip().startswith(start)]
        if len(kept) == len(new.source.splitlines()):
            raise PlanError(
                f"{PLAN.name}: no line of cell {cell.id} in notebook {number} begins with {start!r}"
            )
        new.source = "\n".join(kept)
    if new.cell_type == "code":
        new.outputs, new.execution_count = [], None
    else:
        new.source = re.sub(r"^### Exercise \d+ · ", "### Exercise · ", new.source, flags=re.M)
        new.source = re.sub(r"^(##+ )", r"#\1", new.source, flags=re.M)
    return new


def _exercise(name: str, book: NotebookNode) -> list[NotebookNode]:
    """The cells of an exercise, from its heading to the next one."""
    cells = book.cells
    stub = next((n for n, cell in enumerate(cells) if name in _checked(cell)), None)
    if stub is None:
        raise PlanError(f"{PLAN.name}: no exercise in {notebooks.title(book)!r} is called {name!r}")
    starts = [n for n, cell in enumerate(cells) if _is_heading(cell)] + [len(cells)]
    start = max(n for n in starts if n < stub)
    end = min(n for n in starts if n > stub)
    return cells[start:end]


def _is_heading(cell: NotebookNode) -> bool:
    return cell.cell_type == "markdown" and cell.source.startswith("#")


def _checked(cell: NotebookNode) -> list[str]:
    """The names of the exercises that a code cell checks."""
    return CHECKED.findall(cell.source) if cell.cell_type == "code" else []


def _without_solution(cell: NotebookNode) -> NotebookNode:
    cell = copy.deepcopy(cell)
    if cell.cell_type == "markdown":
        cell.source = SOLUTION.sub("", cell.source).rstrip()
    return cell


def without_solutions(book: NotebookNode) -> NotebookNode:
    """A copy for learners. Cells that held a solution only are gone."""
    book = copy.deepcopy(book)
    cells = [(_without_solution(cell), cell.source.strip()) for cell in book.cells]
    book.cells = [cell for cell, before in cells if cell.source.strip() or not before]
    return book


def solutions(book: NotebookNode) -> dict[str, str]:
    """For each exercise of a notebook: the code of its folded solution, and the check after it.

    Raises:
        PlanError: an exercise has no solution.
    """
    found: dict[str, str] = {}
    waiting: list[tuple[str, str]] = []
    for cell in book.cells:
        if _is_heading(cell) and waiting:
            raise PlanError(f"{notebooks.title(book)!r}: {waiting[0][0]} has no folded solution")
        waiting += [(name, _check_lines(cell)) for name in _checked(cell)[:1]]
        if cell.cell_type == "markdown" and (fold := SOLUTION.search(cell.source)) and waiting:
            name, checks = waiting.pop()
            code = "\n\n".join(block.strip() for block in PYTHON_BLOCK.findall(fold[0]))
            found[name] = f"{code}\n{checks}"
    if waiting:
        raise PlanError(f"{notebooks.title(book)!r}: {waiting[0][0]} has no folded solution")
    return found


def _check_lines(cell: NotebookNode) -> str:
    """The calls of `check` in a stub, as they are written there."""
    lines = [ast.get_source_segment(cell.source, node) for node in ast.parse(cell.source).body]
    return "\n".join(line for line in lines if CHECKED.match(line))


def solved(book: NotebookNode) -> NotebookNode:
    """A copy for the teacher: every stub is the solution, so that all checks say "right"."""
    book, answers = copy.deepcopy(book), solutions(book)
    for cell in book.cells:
        for name in _checked(cell)[:1]:
            cell.source = answers[name]
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return book


def portable(book: NotebookNode) -> NotebookNode:
    """A copy that can be kept anywhere: links to the kit's files lead to the repository."""
    book = copy.deepcopy(book)
    address = f"{notebooks.REPOSITORY}/blob/{notebooks.BRANCH}/"
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = RELATIVE_LINK.sub(rf"\1{address}", notebooks.without_badge(cell.source))
    return book


def problems() -> Iterator[str]:
    """What is wrong with the committed notebook of the workshop."""
    import nbformat

    try:
        text = nbformat.writes(assemble()) + "\n"
    except ValueError as error:
        yield str(error)
        return
    if not NOTEBOOK.exists() or NOTEBOOK.read_text(encoding="utf-8") != text:
        yield (
            f"{NOTEBOOK.relative_to(ROOT)} differs from what {PLAN.relative_to(ROOT)} makes "
            "(`check --fix` writes it)"
        )
