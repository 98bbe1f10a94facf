"""What a teacher needs for a workshop, written into one folder.

- `learners/`: every notebook without solutions
- `solutions/`: every notebook with each exercise solved
- `pages/`: all notebooks as pages, for a room without a network
- `pictures/`: five explorers to project, as pages and as PNG
"""

from __future__ import annotations

import html
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from nbformat import NotebookNode

from helpers import paths
from labkit import execution, notebooks, pages, runner, workshop

# Programs that draw a page as a picture. Without one of them the pages are projected themselves.
BROWSERS = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge"),
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
SIZE, SCALE = (1280, 720), 1.5  # of a page in CSS pixels; the picture has 1920 × 1080
# On white, as large as the window allows, whatever the projector's computer prefers.
PROJECTED = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
:root {{ color-scheme: light; }}
html {{ background: white; color: black; }}
body {{ margin: 0; display: flex; justify-content: center; }}
main {{ width: 660px; padding: 0 20px; }}
</style>
<body><main>{output}</main>
<script>
const main = document.querySelector("main");
const fit = () => {{
  main.style.zoom = 1;
  const box = main.getBoundingClientRect();
  main.style.zoom = Math.max(1, Math.min(innerWidth / box.width, innerHeight / box.height));
}};
addEventListener("load", fit);
addEventListener("resize", fit);
</script>
</body></html>
"""
INDEX = """# Workshop

- [The workshop's notebook](workshop.ipynb): {facts}

All notebooks, with their outputs:

{links}

[Glossary](../GLOSSARY.md)
"""


def write(
    out: Path, backend: str, say: Callable[[str], None]
) -> tuple[execution.Result, pd.DataFrame]:
    """Write all of it, and run the workshop's notebook once.

    Args:
        out: the folder, which is made if it is missing.
        backend: what answers in the run: a name, or an address.
        say: gets a line for each finished folder.

    Returns:
        How the run ended, and the seconds of each part on this machine.

    Raises:
        RunError: the backend costs money, or it cannot be used.
        PlanError: the plan does not fit to the notebooks.
    """
    out = out.resolve()
    for folder in ("learners", "solutions", "pages", "pictures"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    _write_copies(out)
    say(f"{out / 'learners'}: all notebooks without solutions")
    say(f"{out / 'solutions'}: all notebooks, solved")
    result, book = _run(out / "pages", backend)
    _write_pages(out / "pages", result)
    say(f"{out / 'pages' / pages.INDEX}: all notebooks as pages, without a network")
    drawn = _write_pictures(book, out / "pictures")
    how = "pages and PNG" if drawn else "pages (no Chromium or Chrome could draw PNG)"
    say(f"{out / 'pictures'}: five pictures to project, {how}")
    return result, seconds(book)


def _write_copies(out: Path) -> None:
    for path in notebooks.available():
        book = workshop.portable(notebooks.read(path))
        notebooks.write(workshop.without_solutions(book), out / "learners" / path.name)
        notebooks.write(workshop.solved(book), out / "solutions" / path.name)
    book = workshop.portable(workshop.assemble())
    notebooks.write(book, out / "learners" / workshop.NOTEBOOK.name)
    book = workshop.portable(workshop.assemble(with_solutions=True))
    notebooks.write(workshop.solved(book), out / "solutions" / workshop.NOTEBOOK.name)


def _run(folder: Path, backend: str) -> tuple[execution.Result, NotebookNode]:
    """Run the workshop's notebook into `folder`; a page is written beside it."""
    from helpers import backends

    try:
        lab = backends.connect(backend)
    except (RuntimeError, ValueError, OSError) as error:
        raise runner.RunError(str(error)) from error
    with lab.client:
        if backends.BACKENDS[lab.backend].paid:
            lab.close()
            raise runner.RunError(f"{backend} costs money: run the workshop on another backend")
        result = execution.Result(workshop.NOTEBOOK.stem, workshop.plan()["title"])
        copy = folder / workshop.NOTEBOOK.name
        try:
            execution.execute_copy(workshop.NOTEBOOK, copy, {"BACKEND": backend}, result)
        finally:
            lab.close()
    return result, notebooks.read(copy)


def _write_pages(folder: Path, result: execution.Result) -> None:
    """The pages of the other notebooks, from the outputs that come with the kit, and an index."""
    import nbformat.v4 as v4

    links = []
    for path in notebooks.available():
        book = notebooks.read(path)
        title = notebooks.title(book)
        links.append(f"- [{title}]({path.name})")
        page = pages.render(book, title, source=path, navigation=pages.navigation(path))
        paths.write_text(folder / f"{path.stem}.html", page)
    shown = pages.names([workshop.NOTEBOOK, *notebooks.available()])
    pages.write_documents(folder, shown)
    text = INDEX.format(facts=f"{result.summary}, {result.time} min", links="\n".join(links))
    book = v4.new_notebook(cells=[v4.new_markdown_cell(text)])
    page = pages.render(book, "Workshop", source=workshop.NOTEBOOK)
    paths.write_text(folder / pages.INDEX, page)


def seconds(book: NotebookNode) -> pd.DataFrame:
    """For each part of an executed workshop: its minutes in the plan, and the seconds of its cells.

    The set-up cell is not counted.
    """
    rows, name = {}, "settings"
    minutes = {part["title"]: part["minutes"] for part in workshop.plan()["parts"]}
    for cell in book.cells:
        if cell.source.startswith("## "):
            name = cell.source.partition(" · ")[2] or cell.source.removeprefix("## ")
        if cell.cell_type == "code" and notebooks.COLAB_TAG not in notebooks.tags(cell):
            row = rows.setdefault(
                name, {"planned minutes": minutes.get(name), "cells": 0, "seconds to run": 0.0}
            )
            row["cells"] += 1
            row["seconds to run"] += cell.metadata.get("papermill", {}).get("duration") or 0.0
    return pd.DataFrame(rows).T.rename_axis("part")


def _write_pictures(book: NotebookNode, folder: Path) -> bool:
    """The plan's explorers, out of the executed notebook; whether they were drawn as PNG too."""
    by_id = {cell.id: cell for cell in book.cells}
    names = [
        f"{part['notebook']}-{cell}"
        for part in workshop.plan()["parts"]
        for cell in part["pictures"]
    ]
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    drawn = browser is not None
    for number, name in enumerate(names, 1):
        shown = [
            output.data["text/html"]
            for output in by_id[name].outputs
            if "text/html" in output.get("data", {})
        ]
        if not shown:
            continue  # the run ended before it
        stem = folder / f"{number}-{shown[0].partition('aria-label=')[2].split(chr(34))[1]}"
        page = PROJECTED.format(title=html.escape(stem.name), output=shown[0])
        file = stem.with_name(stem.name.lower().replace(" ", "-").replace(",", "") + ".html")
        paths.write_text(file, page)
        drawn = drawn and _draw(browser, file)
    return drawn


def _draw(browser: str, page: Path) -> bool:
    """Draw a page as a PNG of the same name; whether that worked."""
    width, height = SIZE
    command = [
        *(browser, "--headless", "--disable-gpu", "--hide-scrollbars"),
        *(f"--window-size={width},{height}", f"--force-device-scale-factor={SCALE}"),
        f"--screenshot={page.with_suffix('.png')}",
        # A container runs everything as root, and Chromium's sandbox refuses that.
        *(["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),
        page.as_uri(),
    ]
    page.with_suffix(".png").unlink(missing_ok=True)  # of an earlier run
    try:
        done = subprocess.run(command, capture_output=True, timeout=120)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 and page.with_suffix(".png").exists()
