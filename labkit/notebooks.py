"""The notebook files: finding, reading and writing them, and the parts that all of them share.

`python -m helpers check --fix` puts the badge and the Colab set-up cell into the notebooks. A check
fails if one differs.
"""

from __future__ import annotations

# nbformat is imported where it is used: every notebook imports `skip`, and nbformat takes a second.
import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

from helpers.paths import NOTEBOOKS, write_text
from labkit import repository

if TYPE_CHECKING:
    from nbformat import NotebookNode

REPOSITORY = repository.address()
BRANCH = repository.BRANCH
SKIP_MARK = "SKIPPED: "
# These compare times that they measure, which another notebook at the same time would change.
COMPARE_TIMES = ("02", "06")
KERNEL_OPTIONS = [
    # Else each kernel warns on stderr that its connection on this machine is not encrypted.
    "--IPKernelApp.log_level=40",
    # The last garbage collection of a process with torch and transformers takes 2 seconds or more.
    # It frees what the system frees anyway. A frozen object is not collected.
    "--IPKernelApp.exec_lines=__import__('atexit').register(__import__('gc').freeze)",
    # Takes a second to import, for nothing that a notebook needs: see `helpers/__main__.py`.
    "--IPKernelApp.exec_lines=__import__('sys').modules.setdefault('rfc3987_syntax', None)",
]
COLAB_TAG = "colab"
# The set-up cell is folded, on Colab as a form: its title and a button.
COLAB_FOLDED = {"cellView": "form", "jupyter": {"source_hidden": True}}
COLAB_CELL = jinja2.Template(
    Path(__file__).with_name("colab_cell.py.j2").read_text(encoding="utf-8")
).render(repository=REPOSITORY, tag=repository.tag())


def skip(reason: str) -> None:
    """Say that a section cannot be shown on this backend; the runner lists it as skipped."""
    print(f"{SKIP_MARK}{reason}")


def available(folder: Path = NOTEBOOKS) -> list[Path]:
    """The notebooks of `folder` in reading order: the files named `NN_something.ipynb`."""
    return sorted(folder.glob("[0-9][0-9]_*.ipynb"))


def select(names: list[str], folder: Path = NOTEBOOKS) -> list[Path]:
    """The notebooks called `names`, by number (`03` or `3`), stem or file name; all if empty.

    Raises:
        ValueError: a name fits no notebook. The message lists the notebooks.
    """
    notebooks = available(folder)
    if not notebooks:
        raise ValueError(f"there are no notebooks in {folder}")
    chosen: set[Path] = set()
    for name in names:
        key = Path(name).name.removesuffix(".ipynb")
        matches = {path for path in notebooks if key.zfill(2) in (path.stem, path.stem[:2])}
        if not matches:
            known = ", ".join(path.stem for path in notebooks)
            raise ValueError(f"no notebook is called {name!r}; available: {known}")
        chosen |= matches
    return [path for path in notebooks if path in chosen] if names else notebooks


def compares_times(path: Path) -> bool:
    """Whether a notebook compares times that it measures on the embedded model."""
    return path.name.startswith(COMPARE_TIMES)


def read(path: Path) -> NotebookNode:
    """Read a notebook as nbformat 4."""
    import nbformat

    return nbformat.read(path, as_version=4)


def write(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook atomically, so that no program ever reads half of it."""
    import nbformat

    write_text(path, nbformat.writes(notebook) + "\n")


def title(notebook: NotebookNode) -> str:
    """The text of the first heading, such as `03 · Call OpenRouter`; empty if there is none."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (heading := re.search(r"^# +(.+)", cell.source, re.M)):
            return heading[1].strip()
    return ""


def tags(cell: NotebookNode) -> list[str]:
    """The cell's tags."""
    return cell.metadata.get("tags", [])


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The code cells that hold anything."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def python(cell: NotebookNode) -> str:
    """The cell's Python. Lines of `%magic` and `!command` become calls, as IPython does it."""
    from IPython.core.inputtransformer2 import TransformerManager

    return TransformerManager().transform_cell(cell.source)


def syntax_tree(cell: NotebookNode) -> ast.Module:
    """The syntax tree of the cell's Python."""
    return ast.parse(python(cell))


def output_text(output: NotebookNode) -> str:
    """Everything readable in one output: stream, text, HTML, Markdown, JSON or traceback.

    Pictures are left out: base64 can match a pattern by chance.
    """
    if output.output_type == "stream":
        return output.text
    if output.output_type == "error":
        return "\n".join([output.ename, output.evalue, *output.traceback])
    data = output.get("data", {}).items()
    return "\n".join(
        str(value) for kind, value in data if kind == "image/svg+xml" or "image/" not in kind
    )


def skipped(notebook: NotebookNode) -> list[str]:
    """The reasons why sections of an executed notebook were skipped."""
    lines = (
        line
        for cell in code_cells(notebook)
        for output in cell.outputs
        if output.output_type == "stream"
        for line in output.text.splitlines()
    )
    return [line.removeprefix(SKIP_MARK) for line in lines if line.startswith(SKIP_MARK)]


def badge(path: Path) -> str:
    """The Markdown of the "Open in Colab" badge for one notebook."""
    file = f"{REPOSITORY.removeprefix('https://github.com/')}/blob/{BRANCH}/notebooks/{path.name}"
    image = "https://colab.research.google.com/assets/colab-badge.svg"
    return f"[![Open in Colab]({image})](https://colab.research.google.com/github/{file})"


def without_badge(text: str) -> str:
    """A Markdown text without the line of the badge."""
    return re.sub(r"^.*colab-badge\.svg.*\n*", "", text, flags=re.M)


def fix(path: Path) -> bool:
    """Put the badge under the title and the set-up cell first; True if the file changed."""
    import nbformat

    notebook = read(path)
    before = nbformat.writes(notebook)
    head = notebook.cells[0]
    first, _, rest = without_badge(head.source).partition("\n")
    head.source = f"{first}\n\n{badge(path)}\n\n{rest.lstrip()}".rstrip()
    colab = next((cell for cell in notebook.cells if COLAB_TAG in tags(cell)), None)
    if colab is None:
        colab = nbformat.v4.new_code_cell(metadata={"tags": [COLAB_TAG]})
        kinds = [cell.cell_type for cell in notebook.cells]
        notebook.cells.insert(kinds.index("code"), colab)
    colab.source = COLAB_CELL
    colab.metadata.update(COLAB_FOLDED)
    changed = nbformat.writes(notebook) != before
    if changed:
        write(notebook, path)
    return changed
