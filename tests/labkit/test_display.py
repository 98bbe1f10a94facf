"""Tables, paragraphs and verdicts as a notebook shows them."""

import re

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell

from labkit import display
from labkit.exercises import check


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would show: a list of dicts from MIME type to content."""
    found = []
    monkeypatch.setattr(display, "_shell", lambda: InteractiveShell())
    monkeypatch.setattr("IPython.display.display", lambda data, raw: found.append(data))
    return found


def left_columns(frame):
    """The names of the columns that `table_html` puts to the left."""
    places = re.findall(
        r"text-(\d+)[ \"]", re.search("<table class=.*", display.table_html(frame))[0]
    )
    return [frame.columns[-int(place)] for place in places]


def test_text_is_left_and_numbers_are_right_in_any_form():
    frame = pd.DataFrame(
        {
            "text": ["L4", None, "H100"],
            "flag": [True, False, True],
            "float": [1.5, float("nan"), 2],
            "integer": pd.array([1, None, 2], dtype="Int64"),
            "percent": ["62.5 %", "+12%", "−3 %"],
            "bytes": ["1,234 GiB", "≈3 MB", "5 kB"],
            "mostly numbers": ["12.0", "does not fit", 3],
            "mostly words": ["4,096", "none", "none"],
        }
    )
    assert left_columns(frame) == ["text", "flag", "mostly words"]


def test_missing_values_are_a_dash_in_every_type():
    frame = pd.DataFrame(
        {
            "float": [1.5, float("nan")],
            "object": ["a", None],
            "time": pd.to_datetime(["2026-01-01", None]),
            "integer": pd.array([1, None], dtype="Int64"),
            "nullable": pd.array([0.5, None], dtype="Float64"),
        }
    )
    page = display.table_html(frame)
    assert page.count("<td>–</td>") == 5
    assert not re.search("NaN|None|NaT|NA&gt;", page)
    assert "<td>1</td>" in page  # an integer stays one


def test_a_table_is_the_same_each_time_and_escapes_its_text():
    frame = pd.DataFrame({"text": ["<b>", "x"]}, index=["twice", "twice"])
    assert display.table_html(frame) == display.table_html(frame)
    assert "&lt;b&gt;" in display.table_html(frame)


def test_the_name_of_the_index_is_in_the_one_line_of_header():
    page = display.table_html(pd.DataFrame({"a": [1]}, pd.Index(["x"], name="row")))
    assert re.search(r"<th>row</th>\s*<th>a</th>\s*</tr>\s*</thead>", page)


def test_an_empty_table_is_no_problem():
    assert "<table" in display.table_html(pd.DataFrame({"a": []}))


def test_the_kit_style_is_registered_and_breaks_printed_lines_at_words(shown, monkeypatch):
    shell = InteractiveShell()
    monkeypatch.setattr(display, "_shell", lambda: shell)
    display.use_kit_style()
    formatter = shell.display_formatter.formatters["text/html"]
    assert "table.kit" in formatter(pd.DataFrame({"a": [1]}))
    assert "word-break: normal" in shown[0]["text/html"]


def test_a_paragraph_is_escaped_and_kept_as_text(shown):
    display.show_text("a < b")
    assert "a &lt; b</div>" in shown[0]["text/html"]
    assert shown[0]["text/plain"] == "a < b"


@pytest.mark.parametrize(
    ("answer", "beginning"),
    [(..., "○ 00-seed: not answered"), ({"seed": 7}, "✗ 00-seed: not yet."),
     ({"seed": 7, "temperature": 1}, "✓ 00-seed: right!")],
)  # fmt: skip
def test_a_verdict_is_told_by_sign_and_word(shown, answer, beginning):
    check("00-seed", answer)
    assert shown[0]["text/plain"].startswith(beginning)
    visible = re.sub("<.*?>", "", shown[0]["text/html"])
    assert visible.startswith(beginning)


def test_without_a_notebook_a_verdict_is_printed(capsys):
    check("00-seed", {"<b>": 1})
    assert capsys.readouterr().out.startswith("✗ 00-seed: not yet.")
