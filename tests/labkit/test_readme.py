"""README's tree has every file of the packages, and its table what the notebooks import."""

import ast
import re

from helpers.paths import ROOT
from labkit import notebooks

README = (ROOT / "README.md").read_text(encoding="utf-8")
PACKAGES = ("helpers", "labkit", "openrouter_sim", "pocket_model", "pocket_training")


def tree_paths() -> set[str]:
    """The paths of README's tree, whose indentation is four blanks for each folder."""
    tree = re.search(r"## Files\n\n```text\n(.*?)```", README, re.DOTALL)[1]
    folders, paths = [], set()
    for line in tree.splitlines():
        name, depth = line.split()[0], (len(line) - len(line.lstrip())) // 4
        folders[depth:] = [name.rstrip("/")]
        paths.add("/".join(folders))
    return paths


def test_the_tree_has_one_line_for_every_file():
    files = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        # the packages' own docstrings say no more than the folder's line
        if path.name != "__init__.py" or path.parent.name == "helpers"
    }
    listed = {path for path in tree_paths() if path.endswith(".py")}
    assert {path for path in listed if path.split("/")[0] in PACKAGES} == files


def test_the_tree_names_nothing_that_is_gone():
    gone = [path for path in tree_paths() if not any(ROOT.glob(path))]
    assert gone == []


def imported_modules(path) -> set[str]:
    """What a notebook's cells import from the kit: modules, and `helpers.connect`."""
    found = set()
    for cell in notebooks.code_cells(notebooks.read(path)):
        for node in ast.walk(notebooks.syntax_tree(cell)):
            if not isinstance(node, ast.ImportFrom) or node.module.split(".")[0] not in PACKAGES:
                continue
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                is_module = (ROOT / f"{name.replace('.', '/')}.py").exists()
                found.add(name if is_module or node.module == "helpers" else node.module)
    return found


def test_the_table_says_what_each_notebook_imports():
    rows = re.findall(r"^\| (\d\d) \| (`.*`) \|$", README, re.MULTILINE)
    table = {number: set(re.findall(r"`([^`]+)`", modules)) for number, modules in rows}
    assert table == {path.stem[:2]: imported_modules(path) for path in notebooks.available()}
