"""The pages that `make run` writes, opened from the disk without a server."""

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.paths import ROOT
from labkit import notebooks


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The folder of a run of notebook 07."""
    out = tmp_path_factory.mktemp("runs")
    command = [sys.executable, "-m", "helpers", "run", "--notebooks", "07", "--out", str(out)]
    subprocess.run(command, cwd=ROOT, check=True)
    return out / "pocket"


def follow(page, link) -> str:
    """Click on a link; returns the name of the file that opens."""
    with page.expect_navigation():
        link.click()
    return Path(page.url).name


def test_links_lead_from_page_to_page(folder, chromium):
    page = chromium.new_page()
    page.goto((folder / "index.html").as_uri())
    names = [path.stem for path in notebooks.available()]
    assert follow(page, page.locator("a[href^='07']").first) == f"{names[7]}.html"
    assert follow(page, page.locator("a[href^='06']").last) == f"{names[6]}.html"
    assert follow(page, page.locator("a[href='index.html']").first) == "index.html"
    assert follow(page, page.locator("a[href='glossary.html']").first) == "glossary.html"


def test_every_page_links_only_to_what_exists(folder, chromium):
    page, dead = chromium.new_page(), []
    for file in sorted(folder.glob("*.html")):
        page.goto(file.as_uri())
        for address in page.locator("a[href]").evaluate_all("links => links.map((a) => a.href)"):
            local = address.startswith("file:")
            target = Path(address.removeprefix("file://").partition("#")[0])
            if address.endswith(".ipynb") or (local and not target.is_file()):
                dead.append(f"{file.name}: {address}")
    assert not dead, "\n".join(["", *dead])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_is_readable(folder, chromium, pictures, faults_of, scheme):
    page = chromium.new_page(color_scheme=scheme)
    found = []
    for name in ("07_serve", "06_latency", "glossary"):
        page.goto((folder / f"{name}.html").as_uri())
        for width in (1280, 800):
            page.set_viewport_size({"width": width, "height": 1000})
            label = f"page-{name}-{scheme}-{width}"
            page.screenshot(path=pictures / f"{label}.png", full_page=True)
            found += [f"{label}, {fault}" for fault in faults_of(page)]
    assert not found, "\n".join(["", *found])
