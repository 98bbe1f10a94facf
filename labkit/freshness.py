"""Outputs that are never older than the code: re-execute notebooks, and know when to.

A notebook's fingerprint covers its cells, every helper that it imports (and what those import)
and the data that any of them names. `make notebooks` records it; the check `stale` compares.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import time
from contextlib import closing
from pathlib import Path

from nbclient import NotebookClient
from nbformat import NotebookNode

from helpers import paths
from helpers.paths import DATA, ROOT
from labkit import notebooks

RECORD = "freshness.json"
TIMEOUT_S = 600


def imported_helpers(tree: ast.AST, package: str = "helpers") -> set[str]:
    """Names under `helpers` that the code imports, wherever the import stands.

    `package` is the package of the code, against which relative imports are resolved.
    """
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(parents if node.level else []), *filter(None, [node.module])])
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and re.fullmatch(r"helpers\.[\w.]+", str(node.value)):
            names |= {node.value, f"{node.value}.__main__"}  # run by name: python -m pocket_model
    return {name for name in names if name.split(".")[0] == "helpers"}


def module_files(name: str) -> list[Path]:
    """The files that importing `name` runs: the packages above it, then the module itself.

    A name that is no module, such as a function, gives its packages only.
    """
    files = []
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        base = ROOT.joinpath(*parts[:end])
        files += [file for file in (base / "__init__.py", base.with_suffix(".py")) if file.exists()]
    return files


def helper_files(tree: ast.AST) -> set[Path]:
    """Every file of `helpers` that the code imports, directly or through another."""
    found: set[Path] = set()
    waiting = [file for name in imported_helpers(tree) for file in module_files(name)]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        package = ".".join(file.parent.relative_to(ROOT).parts)
        names = imported_helpers(ast.parse(file.read_text(encoding="utf-8")), package)
        waiting += [other for name in names for other in module_files(name)]
    return found


def data_files(trees: list[ast.AST]) -> set[Path]:
    """The files under the entries of `data/` that a string in the code names."""
    words = {
        part
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 200
        for part in re.split(r"[/\\\s]", node.value)
    }
    named = [entry for entry in DATA.glob("*") if entry.name in words]
    files = {file for entry in named for file in (entry, *entry.rglob("*")) if file.is_file()}
    # Report pages are drawn from the records beside them and are not committed.
    return {f for f in files if "__pycache__" not in f.parts and f.suffix != ".html"}


def fingerprint(path: Path) -> str:
    """SHA-256 over the notebook's cells and the helpers and data that they lead to."""
    cells = notebooks.read(path).cells
    digest = hashlib.sha256()
    for cell in cells:
        tags = sorted(notebooks.tags(cell))
        digest.update(json.dumps([cell.cell_type, cell.source, tags]).encode())
    code = ast.Module(
        [
            node
            for cell in cells
            if cell.cell_type == "code"
            for node in notebooks.syntax_tree(cell).body
        ],
        type_ignores=[],
    )
    helpers = helper_files(code)
    trees = [code, *(ast.parse(file.read_text(encoding="utf-8")) for file in helpers)]
    for file in sorted(helpers | data_files(trees)):
        digest.update(file.relative_to(ROOT).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def recorded(folder: Path = paths.NOTEBOOKS) -> dict[str, str]:
    """The fingerprints noted at the last execution, by file name."""
    file = folder / RECORD
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def execute(path: Path) -> None:
    """Run the notebook on its own defaults and replace it, only if every cell succeeded.

    Raises nbclient's CellExecutionError, CellTimeoutError or DeadKernelError; the file is then
    as it was.
    """
    notebook = notebooks.read(path)
    NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=TIMEOUT_S,
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=notebooks.QUIET_KERNEL,
        store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    tidy(notebook)
    notebooks.write(notebook, path)
    record = recorded(path.parent) | {path.name: fingerprint(path)}
    kept = {
        one.name: record[one.name] for one in notebooks.available(path.parent) if one.name in record
    }
    paths.write_text(path.parent / RECORD, json.dumps(kept, indent=2) + "\n")


def tidy(notebook: NotebookNode) -> None:
    """Leave out what only this run or this machine knows."""
    notebook.cells = [
        cell for cell in notebook.cells if "injected-parameters" not in notebooks.tags(cell)
    ]
    for cell in notebook.cells:
        for key in ("papermill", "execution", "collapsed", "scrolled"):
            cell.metadata.pop(key, None)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


def main(paths: list[Path]) -> int:
    """Re-execute `paths` in place on the embedded model; 1 if one failed."""
    from helpers.backends import connect

    failed = []
    with closing(connect("pocket")):  # one server for all
        for path in paths:
            start = time.monotonic()
            try:
                execute(path)
                print(f"{path.name}: {time.monotonic() - start:.0f} s", flush=True)
            except Exception as error:
                failed.append(path.name)
                print(f"{path.name}: FAILED, left as it was\n{error}", flush=True)
    return 1 if failed else 0
