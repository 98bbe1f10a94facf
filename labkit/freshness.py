"""Outputs that are never older than the code: which files a notebook depends on, and execution.

A notebook's fingerprint covers its cells, the modules that they import, what those import, its own
exercises, and the data files that any of this code names. `execute_in_place` records the
fingerprint, and the check `stale` compares it.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from nbclient import NotebookClient
from nbformat import NotebookNode

from helpers import paths
from helpers.paths import DATA, ROOT
from labkit import notebooks, pages
from labkit.exercises.record import VARIABLE as PROGRESS_VARIABLE

if TYPE_CHECKING:
    from grimp import ImportGraph

PACKAGES = ("helpers", "labkit", "openrouter_sim", "pocket_model", "pocket_training")
# Its server runs as a process of its own, so no import leads from a client to the server's modules.
# All of this package counts as soon as any part of it is imported.
WHOLE_PACKAGE = "pocket_model"
# What the recipe generates from. No notebook's output depends on it. Of its parent folder, only
# the files count whose names are in the code.
WORDS = DATA / "pocket" / "words"
# `DATA / "images" / f"{name}.png"`, or the same as one string: "../data/images/europe.png".
DATA_PATH = re.compile(r'(?:\bDATA|"data")((?:\s*/\s*f?"[^"]+")+)|"(?:\.\./)?data/([^"\s]+)"')

TIMEOUT_S = 600


@cache
def import_graph() -> ImportGraph:
    """Which module of the kit imports which; imports for type checkers are left out."""
    import grimp  # a requirement of development only

    return grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)


def imported_modules(cell: NotebookNode) -> set[str]:
    """The kit's modules that a cell imports."""
    names = set()
    for node in ast.walk(notebooks.syntax_tree(cell)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names & import_graph().modules


def with_imports(modules: set[str]) -> set[str]:
    """These modules, the packages that contain them, and all that they import."""
    graph = import_graph()
    waiting, done = set(modules), set()
    while waiting:
        module = waiting.pop()
        done.add(module)
        more = set(graph.find_modules_directly_imported_by(module))
        if package := module.rpartition(".")[0]:
            more.add(package)
        if module == WHOLE_PACKAGE:
            more |= graph.find_descendants(module)
        waiting |= more - done
    return done


def module_file(module: str) -> Path:
    """The file of a module of the kit."""
    base = ROOT.joinpath(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def data_files(code: str) -> set[Path]:
    """The files in `data/` that the code names, with all files of a folder that it names."""
    files = set()
    for chain, path in DATA_PATH.findall(code):
        names = re.findall(r'"([^"]+)"', chain) or [path]
        pattern = re.sub(r"\{.*?\}", "*", "/".join(names))  # f"{name}.png" means any name
        for entry in DATA.glob(pattern):
            inside = {file for file in (entry, *entry.rglob("*")) if file.is_file()}
            if entry == WORDS.parent:
                inside = {file for file in inside if f'"{file.name}"' in code}
            files |= inside
    # Report pages are made from the records beside them, and they are not committed.
    skipped = (".html", ".md")
    return {file for file in files if WORDS not in file.parents and file.suffix not in skipped}


def dependencies(path: Path) -> set[Path]:
    """The files of code and data that the outputs of the notebook at `path` depend on."""
    cells = notebooks.code_cells(notebooks.read(path))
    exercises = {f"labkit.exercises.nb{path.stem[:2]}"} & import_graph().modules
    modules = with_imports(exercises.union(*(imported_modules(cell) for cell in cells)))
    files = {module_file(module) for module in modules}
    code = [cell.source for cell in cells] + [file.read_text(encoding="utf-8") for file in files]
    return files | data_files("\n".join(code))


def fingerprint(path: Path) -> str:
    """SHA-256 of the notebook's cells and of the files that its outputs depend on.

    Without the badge and the set-up cell: a copy of this repository at another address is as fresh.
    """
    digest = hashlib.sha256()
    for cell in notebooks.read(path).cells:
        tags = sorted(notebooks.tags(cell))
        if notebooks.COLAB_TAG not in tags:
            source = notebooks.without_badge(cell.source)
            digest.update(json.dumps([cell.cell_type, source, tags]).encode())
    for file in sorted(dependencies(path)):
        digest.update(file.relative_to(ROOT).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def dependency_counts(paths: list[Path]) -> pd.DataFrame:
    """What each notebook imports, and how many files and lines of code it depends on."""
    rows = []
    for path in paths:
        files = dependencies(path)
        code = [file for file in files if file.suffix == ".py"]
        lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in code)
        cells = notebooks.code_cells(notebooks.read(path))
        imports = sorted(set().union(*(imported_modules(cell) for cell in cells)))
        counts = {"code files": len(code), "code lines": lines, "data files": len(files - {*code})}
        rows.append({"notebook": path.stem} | counts | {"imports": ", ".join(imports)})
    return pd.DataFrame(rows).set_index("notebook")


def record_file(folder: Path) -> Path:
    """Where the fingerprints of a folder's notebooks are: `data/freshness.json` beside it."""
    return folder.parent / "data" / "freshness.json"


def recorded(folder: Path = paths.NOTEBOOKS) -> dict[str, str]:
    """The fingerprints recorded at the last execution, by file name."""
    file = record_file(folder)
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def execute_in_place(path: Path) -> None:
    """Run the notebook with its own parameters, and replace it if every cell succeeded.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed. The file is as it was.
        nbclient.exceptions.CellTimeoutError: a cell took too long. The file is as it was.
        nbclient.exceptions.DeadKernelError: the kernel died. The file is as it was.
    """
    notebook = notebooks.read(path)
    # The outputs are for everybody: no one's own progress is in them.
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {PROGRESS_VARIABLE: str(Path(folder) / "progress.json")}
        NotebookClient(
            notebook,
            kernel_name="python3",
            timeout=TIMEOUT_S,
            record_timing=False,
            coalesce_streams=True,
            extra_arguments=notebooks.KERNEL_OPTIONS,
            store_widget_state=False,
            resources={"metadata": {"path": str(path.parent)}},
        ).execute(env=environment)
    tidy(notebook)
    notebooks.write(notebook, path)
    record = recorded(path.parent) | {path.name: fingerprint(path)}
    names = [other.name for other in notebooks.available(path.parent)]
    current = {name: record[name] for name in names if name in record}
    paths.write_text(record_file(path.parent), json.dumps(current, indent=2) + "\n")


def tidy(notebook: NotebookNode) -> None:
    """Remove what only this run or this machine knows."""
    notebook.cells = [
        cell for cell in notebook.cells if "injected-parameters" not in notebooks.tags(cell)
    ]
    pages.prefer_html(notebook)
    for cell in notebook.cells:
        for key in ("papermill", "execution", "collapsed", "scrolled"):
            cell.metadata.pop(key, None)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
