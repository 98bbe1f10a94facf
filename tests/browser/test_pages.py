"""The pages that `make run` writes, of the committed notebooks, opened from the disk."""

from pathlib import Path

import pytest

from labkit import execution, notebooks, pages, runner


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The folder of a run."""
    target, results = tmp_path_factory.mktemp("pages"), []
    for path in notebooks.available():
        book = notebooks.read(path)
        page = pages.render(book, path.stem, source=path, navigation=pages.navigation(path))
        (target / f"{path.stem}.html").write_text(page, encoding="utf-8")
        results.append(execution.Result(path.stem, notebooks.title(book), execution.PASSED))
    pages.write_documents(target, pages.names(notebooks.available()))
    runner.Report(target, "pocket", "pocket-small", results).write()
    return target


def test_links_lead_from_page_to_page(folder, chromium):
    page = chromium.new_page()
    page.goto((folder / pages.INDEX).as_uri())
    last, before = [path.stem for path in notebooks.available()][:-3:-1]
    for file, link in (
        (f"{last}.html", page.locator(f"a[href='{last}.html']").first),
        (f"{before}.html", page.locator(f"a[href='{before}.html']").last),
        (pages.INDEX, page.locator(f"a[href='{pages.INDEX}']").first),
        ("glossary.html", page.locator("a[href='glossary.html']").first),
    ):
        link.click()
        page.wait_for_url(f"**/{file}")
    page.close()


def test_every_page_links_only_to_pages_that_exist(folder, chromium):
    page, dead = chromium.new_page(), []
    for file in sorted(folder.glob("*.html")):
        page.goto(file.as_uri())
        for address in page.locator("a[href]").evaluate_all("links => links.map((a) => a.href)"):
            local, _, _ = address.removeprefix("file://").partition("#")
            exists = Path(local).is_file() and local.endswith(".html")
            if not exists and not address.startswith("https://"):
                dead.append(f"{file.name}: {address}")
    page.close()
    assert not dead, "\n".join(["", *dead])


def test_solutions_unfold(folder, chromium, solutions_fold):
    page = chromium.new_page()
    for path in notebooks.available():
        page.goto((folder / f"{path.stem}.html").as_uri())
        solutions_fold(page, notebooks.read(path))
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 800])
def test_the_pages_are_readable(folder, chromium, faults_of, scheme, width):
    page = chromium.new_page(color_scheme=scheme, viewport={"width": width, "height": 1000})
    found = []
    for file in sorted(folder.glob("*.html")):
        page.goto(file.as_uri())
        found += [f"{file.name}, {fault}" for fault in faults_of(page)]
    page.close()
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(folder, chromium, serious_faults, scheme):
    page = chromium.new_page(color_scheme=scheme, viewport={"width": 1280, "height": 1000})
    found = []
    for file in sorted(folder.glob("*.html")):
        page.goto(file.as_uri())
        found += [f"{file.name}, {fault}" for fault in serious_faults(page)]
    page.close()
    assert not found, "\n".join(["", *found])
