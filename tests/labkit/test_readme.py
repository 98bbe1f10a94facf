"""README's tree has every file of the packages, and its table how long each notebook takes."""

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


# The times in words that the notebooks use.
WORDS = {"an hour": 60, "one hour": 60, "half an hour": 30}


def minutes_to_read(path) -> int:
    """What the notebook's first cell says."""
    head = notebooks.read(path).cells[0].source
    text = re.search(r"How long it takes\W*(.+?) to read", head)[1]
    return WORDS.get(text) or int(re.fullmatch(r"(?:about )?(\d+) minutes", text)[1])


def test_the_table_says_how_long_each_notebook_takes():
    rows = re.findall(r"^\| \[(\d\d) .*?\| (\d+) \| \[open\]", README, re.MULTILINE)
    assert {number: int(minutes) for number, minutes in rows} == {
        path.stem[:2]: minutes_to_read(path) for path in notebooks.available()
    }


def test_learning_comes_before_checking():
    assert README.index("make lab\n```") < README.index("make run\n```")
    # Commands for a change of the kit are in CONTRIBUTING.
    assert "pocket_training" not in README.partition("## Files")[0]
