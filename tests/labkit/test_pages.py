"""Pages of notebooks: what they link to, what they leave out, and that they need no network."""

import base64
import re
from pathlib import Path

import nbformat.v4 as v4
import pytest

from helpers.paths import NOTEBOOKS, ROOT
from labkit import notebooks, pages

WIDGET = "application/vnd.jupyter.widget-view+json"


def page(*cells, source=NOTEBOOKS / "03_openrouter.ipynb", **options):
    return pages.render(v4.new_notebook(cells=cells), "A title", source=source, **options)


@pytest.mark.parametrize(
    ("link", "address"),
    [
        ("04_vision.ipynb", "04_vision.html"),
        ("04_vision.ipynb#Exercises", "04_vision.html#exercises"),
        ("../GLOSSARY.md", "glossary.html"),
        ("../GLOSSARY.md#kv-cache", "glossary.html#kv-cache"),
        ("../data/pocket/README.md", "model_card.html"),
        ("#below", "#below"),
        ("#The-playground", "#the-playground"),
        ("https://example.org/a.ipynb", "https://example.org/a.ipynb"),
        ("../data/prices.json", "https:data/prices.json"),
    ],
)
def test_links_lead_to_pages(link, address):
    (found,) = re.findall(r'<a\b[^>]*href="([^"]+)"', page(v4.new_markdown_cell(f"[x]({link})")))
    if address.startswith("https:data"):
        assert found.startswith("https://")
        assert found.endswith(address.removeprefix("https:"))
    else:
        assert found == address


def test_a_page_needs_no_network():
    text = page(*notebooks.read(NOTEBOOKS / "03_openrouter.ipynb").cells)
    sources = re.findall(r'<(?:script|img|iframe|link)\b[^>]*(?:src|href)="([^"]+)"', text)
    assert all(source.startswith("data:") for source in sources)
    assert not re.search(r"cdnjs|unpkg|@import|import [^\n]* from ['\"]http", text)


def test_what_only_colab_or_a_kernel_can_use_is_left_out():
    bar = v4.new_output("display_data", {WIDGET: {"model_id": "1"}, "text/plain": "0%| | 0/8"})
    cells = [
        v4.new_markdown_cell("# Title\n\n[![Open](https://x/colab-badge.svg)](https://x)\n\ntext"),
        v4.new_code_cell("set_up()", metadata={"tags": [notebooks.COLAB_TAG]}),
        v4.new_code_cell("batch()", outputs=[bar, v4.new_output("stream", text="8 answers")]),
    ]
    before = [str(cell) for cell in cells]
    text = page(*cells)
    for gone in ("colab-badge", "set_up", "0%|", "widget-view"):
        assert gone not in text
    for kept in ("text", "batch", "8 answers", "<title>A title</title>"):
        assert kept in text
    assert [str(cell) for cell in cells] == before


def test_navigation_and_facts_are_escaped():
    links = [("← 02 · <b>", "02_x.html"), ("Overview", "index.html")]
    text = page(v4.new_markdown_cell("x"), navigation=links, facts="passed <1>")
    assert text.count('<a href="02_x.html">← 02 · &lt;b&gt;</a>') == 2
    assert "passed &lt;1&gt;" in text


def test_neighbours():
    texts = {path.stem[:2]: pages.navigation(path) for path in notebooks.available()}
    assert [address for _, address in texts["00"]] == ["index.html", "01_architecture.html"]
    assert [text for text, _ in texts["03"]] == [
        "← 02 · Load it in 4 bits",
        "Overview",
        "04 · Vision →",
    ]


def test_a_dark_browser_gets_the_dark_theme():
    text = page(v4.new_markdown_cell("x"))
    assert "color-scheme: light dark" in text
    assert re.search(r"--back: light-dark\(#fff, #1", text)


def test_folds_of_several_cells_stay_whole():
    fold = "<details><summary>Solution</summary>\n\n`x = 1`\n\n</details>"
    text = page(v4.new_markdown_cell(fold), v4.new_markdown_cell("after"))
    assert re.search(r"<summary>Solution</summary>.*x = 1.*</details>.*after", text, re.S)


def test_a_heading_that_comes_twice_has_two_addresses():
    text = page(v4.new_markdown_cell("## Again\n\n## Again\n\n# 05 · A–B"))
    assert re.findall(r'<h\d id="([^"]+)"', text) == ["again", "again-1", "05--ab"]


def test_pictures_of_the_kit_are_in_the_page():
    cell = v4.new_markdown_cell("![shapes](data/images/shapes.png) ![gone](data/gone.png)")
    text = page(cell, source=ROOT / "X.md")
    sources = re.findall(r'<img\b[^>]*src="([^"]+)"', text)
    data = base64.b64encode((ROOT / "data/images/shapes.png").read_bytes()).decode()
    assert sources == [f"data:image/png;base64,{data}", "data/gone.png"]


@pytest.mark.parametrize(
    ("heading", "fragment"),
    [("KV cache", "kv-cache"), ("Query, key, value", "query-key-value"), ("top-p", "top-p")],
)
def test_anchors_are_those_of_github(heading, fragment, tmp_path):
    assert pages.anchor(heading) == fragment
    assert f'id="{fragment}"' in page(v4.new_markdown_cell(f"### {heading}"), source=Path(tmp_path))
