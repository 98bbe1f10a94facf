"""A page of an explorer: whole in itself, and never more than the text that it was given."""

import re
from html.parser import HTMLParser

import pandas as pd
import pytest
import torch
from PIL import Image

from helpers.widgets import attention, four_bits, image_tokens, tokens, trace
from helpers.widgets.explorer import HERE, Explorer

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&\u2028"
SCRIPTS = sorted(path.name for path in HERE.glob("*.js") if path.stem != "explorer")


class Tags(HTMLParser):
    def __init__(self, page: str):
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attrs)


@pytest.mark.parametrize("script", SCRIPTS)
def test_texts_stay_texts(script):
    table = pd.DataFrame({HOSTILE: [HOSTILE]}, index=[HOSTILE])
    explorer = Explorer(HOSTILE, table, {"text": HOSTILE, HOSTILE: [HOSTILE]}, script)
    page = explorer._repr_html_()
    tags = Tags(page).found
    assert tags.count("script") == tags.count("style") == 1
    assert "img" not in tags
    assert "\u2028" not in page.partition("<script>")[2]


@pytest.mark.parametrize("script", [*SCRIPTS, "explorer.js"])
def test_a_page_needs_nothing_from_elsewhere(script):
    text = (HERE / script).read_text(encoding="utf-8")
    addresses = set(re.findall(r"https?://[^\s\"']+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # a name, which is never fetched
    # Text is never read as HTML.
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)


def test_it_is_a_table_in_a_terminal_and_where_scripts_are_left_out(tmp_path):
    explorer = Explorer("Two", pd.DataFrame({"a": [1], "b": [2]}), {}, SCRIPTS[0])
    assert repr(explorer).startswith("Two\n\n")
    assert re.search(r"0\s+1\s+2", repr(explorer))
    without = re.sub(r"<(script|style)>.*?</\1>", "", explorer._repr_html_(), flags=re.DOTALL)
    assert re.search(r"<td>1</td>\s*<td>2</td>", without)
    saved = explorer.save(tmp_path / "two.html").read_text(encoding="utf-8")
    assert saved.startswith("<!doctype html>")
    assert explorer._repr_html_() in saved


def test_the_same_numbers_give_the_same_page():
    make = lambda: Explorer("T", pd.DataFrame({"a": [1]}), {"x": 0.5}, SCRIPTS[0])  # noqa: E731
    assert make()._repr_html_() == make()._repr_html_()


def test_what_cannot_be_shown_is_refused_in_words():
    weights = torch.rand(1, 1, 70, 70)
    for show, says in (
        (lambda: tokens.explore({}), "nothing to show"),
        (lambda: tokens.explore({"long": "a b " * 250_000}), "1,000,000 characters"),
        (lambda: trace.explore([]), "nothing to show"),
        (lambda: four_bits.explore(torch.randn(3, 7)), "at least 512 weights, not 21"),
        (lambda: four_bits.explore(torch.randn(64, 64), block=63), "even number"),
        (lambda: attention.explore(weights, ["a"] * 70), "at most 64"),
        (lambda: attention.explore(weights[..., :3, :3], ["a"] * 4), "4 tokens for weights of 3"),
        (lambda: image_tokens.explore(Image.new("RGB", (9, 9)), {}), "nothing to show"),
    ):
        with pytest.raises(ValueError, match=says):
            show()


def test_weights_that_are_all_zero_have_no_error():
    made = four_bits.explore(torch.zeros(64, 64))
    assert set(made.table.to_numpy().flatten()) == {"0.0%"}
