"""The site: what is in it, what stops it, and that it touches no file of others."""

import json
import os
import re
import socket

import nbformat
import nbformat.v4 as v4
import pytest

from labkit import cli, notebooks, pages
from labkit.site import build

HEAD = (
    "# 00 · First <b>\n\n| | |\n|---|---|\n| **You will be able to** | • count<br>• say `x` |\n"
    "| **You need** | nothing |\n| **How long it takes** | 5 minutes to read; a second to run |"
)


def write(folder, name, *cells):
    folder.mkdir(exist_ok=True)
    nbformat.write(v4.new_notebook(cells=list(cells)), folder / name)


@pytest.fixture
def books(tmp_path):
    """Two notebooks with a number and one without."""
    folder = tmp_path / "books"
    ran = v4.new_code_cell(
        "print(1)", execution_count=1, outputs=[v4.new_output("stream", text="1")]
    )
    write(folder, "00_first.ipynb", v4.new_markdown_cell(HEAD), ran)
    second = v4.new_markdown_cell("# 01 · Second\n\n## Part\n\nSee [first](00_first.ipynb#part).")
    write(folder, "01_second.ipynb", second, v4.new_markdown_cell("← [00](00_first.ipynb)"))
    write(folder, "extra.ipynb", v4.new_markdown_cell("# A workshop\n\nIn one room."))
    nbformat.write(v4.new_notebook(), folder / "empty.ipynb")
    return folder


def link_to_part(folder):
    """Give the first notebook the place that the second one links to."""
    write(folder, "00_first.ipynb", v4.new_markdown_cell(f"{HEAD}\n\n## Part"))


def test_every_notebook_and_document_has_a_page(books, tmp_path):
    link_to_part(books)
    report = build.build(tmp_path / "out", books)
    shown = {path.name for path in report.folder.glob("*.html")}
    assert shown == {
        *("00_first.html", "01_second.html", "extra.html", "empty.html", "index.html"),
        *(page for page, _, _ in pages.documents()),
    }
    assert {"glossary.html", "model_card.html"} <= shown
    assert report.pages == len(shown)
    files = [path for path in report.folder.iterdir() if path.is_file()]
    assert report.size_bytes == sum(path.stat().st_size for path in files)
    home = (report.folder / "index.html").read_text()
    for text in ("00 · First &lt;b&gt;", "<li>count", "<li>say x", "5 minutes to read<", "nothing"):
        assert text in home
    assert "a second to run" not in home
    assert home.index("01 · Second") < home.index("A workshop")


def test_previous_and_next_follow_the_contents_and_replace_the_notebooks_own(books, tmp_path):
    link_to_part(books)
    folder = build.build(tmp_path / "out", books).folder
    text = (folder / "01_second.html").read_text()
    bar = re.search(r'<nav class="kit".*?</nav>', text, re.S)[0]
    assert re.findall(r'href="([^"]+)"', bar) == ["00_first.html", "empty.html"]
    assert text.count("← ") == 1


def test_a_dead_link_stops_the_build_and_nothing_is_written(books, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["site", "--out", str(out), "--notebooks", str(books)]) == cli.FINDING
    said = capsys.readouterr().err
    assert "The site was not written: 1 link or asset is wrong." in said
    assert '01_second.html: the link "00_first.html#part" leads nowhere' in said
    assert 'has no place called "part"' in said
    assert not out.exists()


def test_the_second_build_removes_its_own_old_pages_only(books, tmp_path):
    link_to_part(books)
    out = tmp_path / "out"
    build.build(out, books)
    (out / "CNAME").write_text("lab.example.org")
    (out / "mine.html").write_text("<p>a page of mine</p>")
    (books / "extra.ipynb").unlink()
    build.build(out, books)
    assert not (out / "extra.html").exists()
    assert (out / "CNAME").exists()
    assert (out / "mine.html").exists()
    assert not list(out.glob(".*"))


def test_a_start_page_of_somebody_else_is_not_replaced(books, tmp_path):
    link_to_part(books)
    (tmp_path / "index.html").write_text("<p>mine</p>")
    with pytest.raises(build.SiteError, match="not from this command"):
        build.build(tmp_path, books)
    assert (tmp_path / "index.html").read_text() == "<p>mine</p>"


def test_folders_that_cannot_be_used_are_named(books, tmp_path):
    link_to_part(books)
    (tmp_path / "file").write_text("x")
    with pytest.raises(build.SiteError, match="is a file"):
        build.build(tmp_path / "file", books)
    with pytest.raises(build.SiteError, match="cannot be written"):
        build.build(tmp_path / "file" / "below", books)
    with pytest.raises(build.SiteError, match="There are no notebooks in"):
        build.build(tmp_path / "out", tmp_path / "nowhere")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_without_permission_is_named(books, tmp_path):
    link_to_part(books)
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(build.SiteError, match="cannot be written"):
        build.build(tmp_path / "locked", books)


@pytest.mark.parametrize("content", ["", "not JSON", "[]", '{"cells": 3}'])
def test_a_broken_notebook_is_named(books, tmp_path, content):
    (books / "02_broken.ipynb").write_text(content)
    with pytest.raises(build.SiteError, match=r"02_broken\.ipynb cannot be read as a notebook"):
        build.build(tmp_path / "out", books)


def test_cells_that_did_not_run_are_said(books, tmp_path):
    link_to_part(books)
    write(books, "03_new.ipynb", v4.new_markdown_cell("# 03 · New"), v4.new_code_cell("1 + 1"))
    (note,) = build.build(tmp_path / "out", books).notes
    assert note.startswith("03_new.ipynb: 1 of 1 code cells")


def test_the_kits_own_site_is_built_without_a_network(tmp_path, monkeypatch):
    """Every link of the committed notebooks and documents, and not one connection."""

    def no_network(*_):
        raise AssertionError("the build asked the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    report = build.build(tmp_path / "out")
    index = (report.folder / "search-index.js").read_text(encoding="utf-8")
    data = json.loads(index.removeprefix("window.siteSections = ").rstrip().rstrip(";"))
    texts = " ".join(text for _, _, _, text in data["sections"])
    assert "will be able to" in texts
    for path in notebooks.available():
        assert (report.folder / f"{path.stem}.html").exists()
    assert report.notes == []
