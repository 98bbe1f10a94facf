"""HTML pages of executed notebooks: they link to each other, and need no network.

A page is for a browser: also from a disk, by somebody who has neither JupyterLab nor Python.
"""

from __future__ import annotations

import base64
import copy
import logging
import mimetypes
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import jinja2

from helpers.paths import ROOT, write_text
from labkit import notebooks

if TYPE_CHECKING:
    from nbformat import NotebookNode

INDEX = "index.html"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
# Documents beside the notebooks, and the names of their pages. One that is missing is left out.
DOCUMENTS = {
    "GLOSSARY.md": "glossary.html",
    "SERVERS.md": "servers.html",
    "data/pocket/README.md": "model_card.html",
    "WORKSHOP.md": "workshop_plan.html",
}
TEMPLATES = jinja2.Environment(loader=jinja2.PackageLoader("labkit", ""), autoescape=True)
LINK = re.compile(r'(<a\b[^>]*?\bhref=")([^"]+)(")')
IMAGE = re.compile(r'(<img\b[^>]*?\bsrc=")([^":]+)(")')
ANCHOR_LINK = re.compile(r'<a class="anchor-link"[^>]*>.*?</a>')
HEADING = re.compile(r'(<h[1-6]\b[^>]*?\bid=")([^"]*)(")')
MARKDOWN_LINK = re.compile(r"\[[^\]]*\]\([^)]*\)|&nbsp;")


def render(
    book: NotebookNode,
    title: str,
    *,
    source: Path,
    navigation: list[tuple[str, str]] | None = None,
    facts: str = "",
    exclude_input: bool = False,
) -> str:
    """A notebook as one HTML page, readable in a light and in a dark browser.

    What belongs to Colab is left out, and so are progress bars and controls: only a running
    notebook can draw them.

    Args:
        book: the notebook with its outputs.
        title: the title of the browser's tab.
        source: the file that relative links start from.
        navigation: texts and addresses of the links at the top and at the bottom.
        facts: a line under the first links, such as when and on what the notebook ran.
        exclude_input: whether to leave the code out.
    """
    text = body(book, source=source, exclude_input=exclude_input)
    return layout(title, text, navigation=navigation or [], facts=facts)


def layout(title: str, body: str, **parts: Any) -> str:
    """A whole page around `body`; `parts` are the variables of `page.html.j2`."""
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return TEMPLATES.get_template("page.html.j2").render(
        title=title, body=body, style=style, **parts
    )


def body(
    book: NotebookNode,
    *,
    source: Path,
    exclude_input: bool = False,
    shown: set[str] | None = None,
) -> str:
    """The cells of a notebook as HTML, with links between pages.

    Args:
        book, source, exclude_input: as those of `render`.
        shown: the pages of notebooks that there are; None for all. A link to another notebook
            leads to the repository.
    """
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    tags = {"enabled": True, "remove_cell_tags": {notebooks.COLAB_TAG}}
    exporter = HTMLExporter(
        config=Config(TagRemovePreprocessor=tags),
        template_file="base.html.j2",  # the cells alone: no style sheet, and nothing from a network
        exclude_input=exclude_input,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    exporter.log.setLevel(logging.ERROR)  # plots have no alternative text; the cell says what it is
    resources = {"metadata": {"path": str(source.parent)}}
    text, _ = exporter.from_notebook_node(_printable(book), resources)
    text = ANCHOR_LINK.sub("", text)
    seen: Counter[str] = Counter()

    def own_anchor(match: re.Match) -> str:
        name = anchor(unquote(match[2]))
        seen[name] += 1
        number = f"-{seen[name] - 1}" if seen[name] > 1 else ""  # as GitHub does it
        return f"{match[1]}{name}{number}{match[3]}"

    text = HEADING.sub(own_anchor, text)
    text = IMAGE.sub(lambda match: f"{match[1]}{_inlined(match[2], source)}{match[3]}", text)
    return LINK.sub(lambda match: f"{match[1]}{_address(match[2], source, shown)}{match[3]}", text)


def anchor(heading: str) -> str:
    """The fragment of a heading's address as GitHub makes it: `Query, key` is `query-key`."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def prefer_html(notebook: NotebookNode) -> None:
    """Where an output is a widget and HTML, keep the HTML: a page without a kernel can show it."""
    for cell in notebooks.code_cells(notebook):
        for output in cell.outputs:
            data = output.get("data", {})
            if "text/html" in data:
                data.pop(WIDGET_VIEW, None)


def _printable(book: NotebookNode) -> NotebookNode:
    """A copy without the badge, whose picture is on the network, and without widgets."""
    book = copy.deepcopy(book)
    book.metadata.pop("widgets", None)
    prefer_html(book)
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = notebooks.without_badge(cell.source)
    *others, last = book.cells or [None]
    if others and last.cell_type == "markdown" and "](" in last.source:
        words = re.search(r"\w", MARKDOWN_LINK.sub("", last.source))
        book.cells = book.cells if words else others  # links to the neighbors: a page has its own
    for cell in notebooks.code_cells(book):
        cell.outputs = [
            output for output in cell.outputs if WIDGET_VIEW not in output.get("data", {})
        ]
    return book


def _address(link: str, source: Path, shown: set[str] | None = None) -> str:
    """Where a link of the document `source` leads from a page."""
    path, _, fragment = link.partition("#")
    if re.match(r"[a-z]+:", path) or path.endswith(".html"):
        return link
    fragment = f"#{anchor(unquote(fragment))}" if fragment else ""
    if not path:
        return fragment
    inside = os.path.relpath(source.parent / path, ROOT).replace(os.sep, "/")
    page = Path(path).with_suffix(".html").name
    if path.endswith(".ipynb") and (shown is None or page in shown):
        return page + fragment
    if inside in DOCUMENTS:
        return DOCUMENTS[inside] + fragment
    return f"{notebooks.REPOSITORY}/blob/{notebooks.BRANCH}/{inside}{fragment}"


def _inlined(address: str, source: Path) -> str:
    """A picture of the kit as a data URL, so that a page is one file; else the same address."""
    file = (source.parent / unquote(address)).resolve()
    kind, _ = mimetypes.guess_type(file.name)
    if not (file.is_file() and file.is_relative_to(ROOT) and str(kind).startswith("image/")):
        return address
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"


def navigation(path: Path) -> list[tuple[str, str]]:
    """Links to the notebook before the one at `path`, to the overview, and to the one after it."""
    files = notebooks.available(path.parent)
    if path not in files:  # the workshop's, which is not in their order
        return [("Overview", INDEX)]
    place = files.index(path)
    links = [("Overview", INDEX)]
    if place > 0:
        links.insert(0, (f"← {_title(files[place - 1])}", f"{files[place - 1].stem}.html"))
    if place + 1 < len(files):
        links.append((f"{_title(files[place + 1])} →", f"{files[place + 1].stem}.html"))
    return links


def _title(path: Path) -> str:
    return notebooks.title(notebooks.read(path)) or path.stem


def documents(shown: set[str] | None = None) -> Iterator[tuple[str, str, str]]:
    """The documents beside the notebooks, such as the glossary: page, title, body.

    `shown` has the pages of notebooks, as for `body`.
    """
    import nbformat

    for name, page in DOCUMENTS.items():
        if (ROOT / name).exists():
            text = (ROOT / name).read_text(encoding="utf-8")
            book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
            yield page, notebooks.title(book), body(book, source=ROOT / name, shown=shown)


def names(paths: Iterable[Path]) -> set[str]:
    """The file names of these notebooks' pages."""
    return {f"{path.stem}.html" for path in paths}


def write_documents(target: Path, shown: set[str]) -> None:
    """Write the pages of the documents. `shown` has the pages of notebooks, as for `body`."""
    for page, title, text in documents(shown):
        write_text(target / page, layout(title, text, navigation=[("Overview", INDEX)]))


def write_placeholders(target: Path, folder: Path, backend: str) -> None:
    """For each notebook that has no page yet: a page that says so. No link leads nowhere."""
    import nbformat

    for path in notebooks.available(folder):
        page = target / f"{path.stem}.html"
        if not page.exists():
            title = _title(path)
            text = (
                f"# {title}\n\nThis notebook has not run on `{backend}` yet. To run it:\n\n"
                f"```bash\nmake run BACKEND={backend} NOTEBOOKS={path.stem[:2]}\n```"
            )
            book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
            links = navigation(path)
            write_text(page, render(book, title, source=path, navigation=links))
