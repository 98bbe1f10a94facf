"""The address of this repository, and the tag that Colab installs: one setting in `pyproject.toml`.

`python -m helpers check --repository URL --fix` changes it, and with it all that names the address.
"""

import re
import tomllib
from pathlib import Path

from helpers.paths import ROOT, write_text

SETTING = "pyproject.toml"
DOCUMENTS = (SETTING, "README.md", "CONTRIBUTING.md")
BRANCH = "main"
ADDRESS = re.compile(
    r"https://github\.com/(?P<owner>[A-Za-z0-9](?:-?[A-Za-z0-9]){0,38})/(?P<name>[\w.-]{1,100}?)"
    r"(?:\.git)?/?",
    re.ASCII,
)


def _project(root: Path) -> dict:
    return tomllib.loads((root / SETTING).read_text(encoding="utf-8"))["project"]


def address(root: Path = ROOT) -> str:
    """The repository's address, such as `https://github.com/owner/name`."""
    return _project(root)["urls"]["Repository"]


def tag(root: Path = ROOT) -> str:
    """The tag of this version, such as `v0.1.0`."""
    return f"v{_project(root)['version']}"


def parse(url: str) -> str:
    """A repository's address as it is written everywhere: without `.git` and a slash at the end.

    Raises:
        ValueError: Colab cannot open notebooks from this address.
    """
    match = ADDRESS.fullmatch(url.strip())
    if match is None or match["name"] in (".", ".."):
        raise ValueError(
            f"{url!r} is not the address of a repository on GitHub, and Colab opens notebooks only "
            "from there. It looks like https://github.com/OWNER/NAME, with nothing after the name."
        )
    return f"https://github.com/{match['owner']}/{match['name']}"


def change(url: str, root: Path = ROOT) -> list[str]:
    """Write another address into all files but the notebooks; returns the names of the changed.

    Raises:
        ValueError: it is not a repository's address. Nothing is changed.
    """
    new, old = parse(url), address(root)
    old_slug, new_slug = (text.removeprefix("https://github.com/") for text in (old, new))
    # The address itself, and Colab's links to it. Another repository may begin with the same name.
    named = re.compile(rf"(github\.com/|/github/){re.escape(old_slug)}(?![\w-]|\.\w)")
    old_name, new_name = old.split("/")[-1], new.split("/")[-1]
    folder = re.compile(rf"(git clone {re.escape(new)} && cd ){re.escape(old_name)}(?![\w.-])")
    changed = []
    for name in DOCUMENTS:
        text = (root / name).read_text(encoding="utf-8")
        renewed = named.sub(lambda match: match[1] + new_slug, text)
        renewed = folder.sub(lambda match: match[1] + new_name, renewed)
        if renewed != text:
            write_text(root / name, renewed)
            changed.append(name)
    return changed
