"""Build the site: one page for each notebook and document, a search index, and checked links.

Nothing is fetched: neither while the site is built nor when somebody reads it. It works from a
disk, from a web server, and without a kernel.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.paths import NOTEBOOKS, ROOT
from labkit import notebooks, pages
from labkit.site import links

if TYPE_CHECKING:
    from nbformat import NotebookNode

NAME = notebooks.REPOSITORY.rsplit("/", 1)[-1]
# A page with this was made here, and may be replaced and removed.
GENERATOR = "mistral-small-lab site"
FILES = {
    "page.css": Path(pages.__file__).with_name("page.css"),
    "site.js": Path(__file__).with_name("site.js"),
}
IMAGES = ROOT / "docs"
# The README's pictures, and what each shows.
PICTURES = {
    "next-token.png": "How likely each token was. Take another, and the answer changes.",
    "tools.png": "A conversation with tools, message by message and token by token.",
    "image-tokens.png": "What a model sees of an image, and what the image costs.",
}


WORKSHOP = "workshop.ipynb"


class SiteError(RuntimeError):
    """The site cannot be built. The message says why and what to do."""


@dataclass(frozen=True)
class Entry:
    """A page of the site before it has its contents and links around it."""

    name: str
    title: str
    body: str
    facts: str = ""
    elsewhere: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Report:
    """What was built."""

    folder: Path
    pages: int
    size_bytes: int
    seconds: float
    unchecked: int  # links to other hosts, which are not asked
    notes: list[str]  # what a reader of the site would miss

    def __str__(self) -> str:
        checked = f"Every link inside was checked; {self.unchecked} lead to other hosts."
        size = f"{self.pages} pages, {self.size_bytes / 1e6:.1f} MB, in {self.seconds:.0f} s."
        lines = [f"{self.folder / pages.INDEX}: {size}", checked, *self.notes]
        return "\n".join(lines)


def build(out: Path, folder: Path = NOTEBOOKS) -> Report:
    """Write the site of the notebooks in `folder` into the folder `out`.

    Nothing is written if a link, a place or an asset is missing. Pages of an earlier build that the
    site no longer has are removed; every other file stays.

    Raises:
        SiteError: no notebook, one that cannot be read, a dead link, or a folder that is not the
            site's or cannot be written.
    """
    start, notes = time.monotonic(), []
    _refuse_foreign(out)
    paths = _paths(folder)
    shown = pages.names(paths)
    books = [_notebook(path, shown, notes) for path in paths]
    documents = [Entry(*parts) for parts in pages.documents(shown)]
    groups = [("Start", [Entry(pages.INDEX, "Home", "")]), ("Notebooks", [e for e, _ in books])]
    groups.append(("Reference", documents))
    files: dict[str, bytes] = {name: path.read_bytes() for name, path in FILES.items()}
    pictures = {name: text for name, text in PICTURES.items() if (IMAGES / name).exists()}
    files |= {name: (IMAGES / name).read_bytes() for name in pictures}
    home = pages.TEMPLATES.get_template("site/home.html.j2").render(
        name=NAME,
        books=[{"entry": entry, **first} for entry, first in books],
        documents=documents,
        pictures=pictures,
        repository=notebooks.REPOSITORY,
    )
    entries = [Entry(pages.INDEX, NAME, home), *(entry for entry, _ in books), *documents]
    parsed = {entry.name: links.Page(entry.body) for entry in entries}
    files["search-index.js"] = _search_index(entries, parsed).encode()
    site = {
        "name": NAME,
        "generator": GENERATOR,
        "groups": [{"title": title, "pages": list(group)} for title, group in groups if group],
    }
    for number, entry in enumerate(entries):
        text = pages.layout(
            entry.title,
            entry.body,
            navigation=_neighbours(entries, number),
            facts=entry.facts,
            elsewhere=entry.elsewhere,
            site=site,
            name=entry.name,
            sections=[part for part in parsed[entry.name].sections if part.level == 2],
        )
        files[entry.name] = text.encode()
    whole = {name: links.Page(files[name].decode()) for name in parsed}
    if dead := list(links.problems(whole, set(files))):
        count = "1 link or asset is" if len(dead) == 1 else f"{len(dead)} links or assets are"
        raise SiteError("\n".join([f"The site was not written: {count} wrong.", *dead]))
    _write(out, files)
    size, seconds = sum(map(len, files.values())), time.monotonic() - start
    return Report(out, len(entries), size, seconds, len(links.elsewhere(whole)), notes)


def _paths(folder: Path) -> list[Path]:
    """The notebooks with a number in reading order, then the others by name."""
    numbered = notebooks.available(folder)
    # The workshop's has no outputs: its parts are in the others, and its plan is a page.
    others = {path for path in folder.glob("*.ipynb") if path.name != WORKSHOP}
    found = [*numbered, *sorted(others - set(numbered))]
    if not found:
        raise SiteError(f"There are no notebooks in {folder}: name the folder that has them.")
    return found


def _notebook(path: Path, shown: set[str], notes: list[str]) -> tuple[Entry, dict[str, Any]]:
    """A notebook's page, and what its first cell says: what it teaches, needs and takes."""
    try:
        book = notebooks.read(path)
    except Exception as error:  # nbformat raises several kinds for a file that is no notebook
        reason = str(error).partition("\n")[0]
        raise SiteError(f"{path.name} cannot be read as a notebook: {reason}") from error
    code = notebooks.code_cells(book)
    if missing := sum(cell.get("execution_count") is None for cell in code):
        notes.append(
            f"{path.name}: {missing} of {len(code)} code cells did not run, so their outputs are "
            "missing."
        )
    first = _first_table(book)
    own, elsewhere = NOTEBOOKS / path.name, ()  # a copy that ran elsewhere has the same links
    if own.exists():
        colab = notebooks.badge(own).rsplit("(", 1)[1].rstrip(")")
        file = f"{notebooks.REPOSITORY}/blob/{notebooks.BRANCH}/notebooks/{path.name}"
        elsewhere = (("Open in Colab", colab), ("the notebook's file", file))
    title = notebooks.title(book) or path.stem
    body = pages.body(book, source=own, shown=shown)
    return Entry(f"{path.stem}.html", title, body, first["takes"], elsewhere), first


def _first_table(book: NotebookNode) -> dict[str, Any]:
    """The rows of the table in a notebook's first cell; what is not there is empty."""
    first = book.cells[0].source if book.cells else ""
    rows = re.findall(r"^\|([^|]*)\|(.*)\|\s*$", first, re.MULTILINE)

    def row(pattern: str) -> str:
        texts = [text.strip() for name, text in rows if re.search(pattern, name.lower())]
        return re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", texts[0]) if texts else ""

    goals = [goal.strip(" •") for goal in re.split(r"<br\s*/?>", row("able to"))]
    takes = row("long|time|takes").partition(";")[0]
    return {"goals": list(filter(None, goals)), "needs": row("need"), "takes": takes}


def _neighbours(entries: list[Entry], number: int) -> list[tuple[str, str]]:
    """The links to the page before and the page after, in the order of the contents."""
    found = []
    if number > 0:
        found.append((f"← {entries[number - 1].title}", entries[number - 1].name))
    if number + 1 < len(entries):
        found.append((f"{entries[number + 1].title} →", entries[number + 1].name))
    return found


def _search_index(entries: list[Entry], parsed: dict[str, links.Page]) -> str:
    """The texts that the search looks at, as a script: a page from the disk may load one."""
    sections = [
        [number, part.anchor, part.heading, part.text]
        for number, entry in enumerate(entries)
        for part in parsed[entry.name].sections
    ]
    index = {"pages": [[entry.name, entry.title] for entry in entries], "sections": sections}
    return f"window.siteSections = {json.dumps(index, ensure_ascii=False)};\n"


def _refuse_foreign(out: Path, names: Iterable[str] = (pages.INDEX,)) -> None:
    """Refuse a folder in which somebody else made a page of one of the site's names."""
    if out.exists() and not out.is_dir():
        raise SiteError(f"{out} is a file: name a folder with --out.")
    for page in (out / name for name in names if name.endswith(".html")):
        if page.exists() and not _own(page):
            raise SiteError(
                f"{page} is there, and not from this command. It is not replaced: name another "
                "folder with --out."
            )


def _own(page: Path) -> bool:
    try:
        text = page.read_text("utf-8", "replace")
    except OSError:  # nothing that may not be read is the site's
        return False
    return f'<meta name="generator" content="{GENERATOR}">' in text


def _write(out: Path, files: dict[str, bytes]) -> None:
    """Write all files, and remove pages of an earlier build that are gone."""
    _refuse_foreign(out, files)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            part = out / f".{name}.part"
            part.write_bytes(content)
            os.replace(part, out / name)
        for page in out.glob("*.html"):
            if page.name not in files and _own(page):
                page.unlink()
    except OSError as error:
        reason = f"{error.strerror or error}"
        raise SiteError(
            f"{out} cannot be written ({reason}): name a folder that you may write to with --out."
        ) from error
