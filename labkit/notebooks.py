"""What a notebook file of this kit is: where it lies, how it opens on Colab, how it skips.

Everything that all notebooks share is written here once. `python -m helpers check --fix` puts
the badge and the set-up cell into the notebooks, and a check fails when one differs.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat

from helpers.paths import NOTEBOOKS, write_text

REPOSITORY = "https://github.com/mistral-small-lab/mistral-small-lab"


BRANCH = "main"


SKIP_MARK = "SKIPPED: "


# Each kernel would warn on stderr that it listens on this machine's loopback without encryption.
QUIET_KERNEL = ["--IPKernelApp.log_level=40"]


COLAB_TAG = "colab"


COLAB_CELL = f'''\
# On Colab: fetch the kit and install it, keeping Colab's torch. Elsewhere: nothing to do.
import sys

if "google.colab" in sys.modules:
    import os
    import site
    import subprocess
    import sysconfig
    from importlib.metadata import version

    os.chdir("/content")
    kit = "{REPOSITORY}"
    if not os.path.isdir("{REPOSITORY.rsplit("/", 1)[1]}"):
        subprocess.run(["git", "clone", "--depth=1", kit], check=True)
    os.chdir("{REPOSITORY.rsplit("/", 1)[1]}/notebooks")
    with open("/content/keep.txt", "w") as keep:
        keep.write(f"torch=={{version('torch')}}")
    print(f"Installing requirements.txt and the kit; torch {{version('torch')}} stays.")
    pip = [sys.executable, "-m", "pip", "install", "-q", "-c", "/content/keep.txt"]
    subprocess.run([*pip, "-r", "../requirements.txt"], check=True)
    subprocess.run([*pip, "--no-deps", "-e", ".."], check=True)
    site.addsitedir(sysconfig.get_path("purelib"))  # so that this kernel sees it at once
else:
    print("Not on Colab: nothing to install here.")'''


def skip(reason: str) -> None:
    """Say that a section cannot be shown on this backend; the runner lists it as skipped."""
    print(f"{SKIP_MARK}{reason}")


def available(folder: Path = NOTEBOOKS) -> list[Path]:
    """The notebooks of `folder` in reading order: the files named `NN_something.ipynb`."""
    return sorted(folder.glob("[0-9][0-9]_*.ipynb"))


def select(words: list[str], folder: Path = NOTEBOOKS) -> list[Path]:
    """The notebooks that `words` name by number (`03` or `3`), stem or file name; all if empty.

    Raises ValueError, listing what there is, when a word names none.
    """
    notebooks = available(folder)
    names = ", ".join(path.stem for path in notebooks) or "none"
    if not notebooks:
        raise ValueError(f"there are no notebooks in {folder}")
    chosen: set[Path] = set()
    for word in words:
        key = Path(word).name.removesuffix(".ipynb")
        found = {path for path in notebooks if path.stem == key or path.stem[:2] == key.zfill(2)}
        if not found:
            raise ValueError(f"no notebook is called {word!r}; available: {names}")
        chosen |= found
    return [path for path in notebooks if path in chosen] if words else notebooks


def read(path: Path) -> nbformat.NotebookNode:
    """Read a notebook as nbformat 4."""
    return nbformat.read(path, as_version=4)


def write(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write a notebook atomically: readers see the old file or the new one, never half of it."""
    write_text(path, nbformat.writes(notebook) + "\n")


def title(notebook: nbformat.NotebookNode) -> str:
    """The text of the first heading, such as `03 · Call OpenRouter`; empty if there is none."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (heading := re.search(r"^# +(.+)", cell.source, re.M)):
            return heading[1].strip()
    return ""


def tags(cell: nbformat.NotebookNode) -> list[str]:
    """The cell's tags."""
    return cell.metadata.get("tags", [])


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The code cells that hold anything."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def syntax_tree(cell: nbformat.NotebookNode) -> ast.Module:
    """The cell's Python, with `%magic` and `!command` lines made into calls as IPython does."""
    from IPython.core.inputtransformer2 import TransformerManager

    return ast.parse(TransformerManager().transform_cell(cell.source))


def output_text(output: nbformat.NotebookNode) -> str:
    """Everything readable in one output: stream, text, HTML, Markdown, JSON or traceback.

    Pictures are left out: they are base64, in which patterns turn up by chance.
    """
    if output.output_type == "stream":
        return output.text
    if output.output_type == "error":
        return "\n".join([output.ename, output.evalue, *output.traceback])
    data = output.get("data", {}).items()
    return "\n".join(
        str(value)
        for kind, value in data
        if kind == "image/svg+xml" or not kind.startswith("image/")
    )


def skipped(notebook: nbformat.NotebookNode) -> list[str]:
    """The reasons for which sections of an executed notebook were skipped."""
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


def fix(notebook: nbformat.NotebookNode, path: Path) -> bool:
    """Put the badge under the title and the set-up cell first; True if anything changed."""
    before = nbformat.writes(notebook)
    head = notebook.cells[0]
    lines = [line for line in head.source.splitlines() if "colab-badge.svg" not in line]
    while len(lines) > 1 and not lines[1].strip():
        del lines[1]
    head.source = "\n".join([lines[0], "", badge(path), "", *lines[1:]]).rstrip()
    colab = next((cell for cell in notebook.cells if COLAB_TAG in tags(cell)), None)
    if colab is None:
        colab = nbformat.v4.new_code_cell(metadata={"tags": [COLAB_TAG]})
        first = next(i for i, cell in enumerate(notebook.cells) if i and cell.cell_type == "code")
        notebook.cells.insert(first, colab)
    colab.source = COLAB_CELL
    return nbformat.writes(notebook) != before
