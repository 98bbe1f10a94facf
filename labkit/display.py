"""How notebooks look: tables, paragraphs, plots and printed lines that a narrow page can show.

A notebook calls `use_kit_style()` once. Colab shows each output in a frame of its own, so tables
and paragraphs carry their own style.
"""

import html
import numbers
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# Both have a contrast above 3 : 1 on white and on black.
ORANGE, GRAY = "#fa520f", "#7f868d"
SERIES = (ORANGE, GRAY, "#2b6cb0", "#fdba9b", "#20262c")  # in this order, for several series

# JupyterLab and nbconvert break printed lines anywhere (`word-break: break-all`).
PRINTED_LINES = """<style>
.jp-OutputArea-output pre { word-break: normal; overflow-wrap: break-word; white-space: pre-wrap; }
</style>"""

TABLE_STYLE = """
table.kit { table-layout: auto; margin: 0; border-collapse: collapse; }
table.kit th, table.kit td { text-align: right; vertical-align: top; white-space: normal;
  overflow-wrap: break-word; padding: 0.3em 0.6em; max-width: 36em; }
table.kit.dataframe tr > th:first-child { text-align: left; }
table.kit.short-names tbody th { white-space: nowrap; }
"""
# A column's place is counted from the right: the index, of one or more columns, is not counted.
# The rules of a place are the same in every table, because a page has one style sheet.
TEXT_COLUMN = "table.kit.text-{0} tr > :nth-last-child({0}) {{ text-align: left; }}\n"
LONG_COLUMN = "table.kit.long-{0} td:nth-last-child({0}) {{ min-width: 14em; }}\n"
LONG_TEXT = 40  # characters; a column with a longer text gets the minimal width
SHORT_NAME = 20  # characters; shorter names of rows are not broken

# A number as text, with a sign or a currency before it and a short unit behind it: "$1.50", "12 %".
NUMBER_TEXT = re.compile(r"[<>≈~$€+−-]*\d[\d,.]*(e[+-]?\d+)? ?(%|×|[A-Za-zµ]{1,3}(/s)?)?")

PLOTS = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "figure.facecolor": "white",  # readable on a dark page too
    "savefig.facecolor": "white",
}


def use_kit_style() -> None:
    """Set how this notebook shows tables, plots and printed lines. Call it once, at the beginning.

    Outside a notebook only the options of pandas and matplotlib are set.
    """
    import matplotlib
    import pandas as pd

    pd.set_option("display.max_colwidth", None, "display.max_rows", 100)
    matplotlib.rcParams.update(PLOTS)
    matplotlib.rcParams["axes.prop_cycle"] = matplotlib.cycler(color=SERIES)
    if (shell := _shell()) is not None:
        shell.display_formatter.formatters["text/html"].for_type(pd.DataFrame, table_html)
        show_html(PRINTED_LINES, "")


def show_text(text: str) -> None:
    """Show a paragraph that wraps at words, in the page's own font."""
    body = html.escape(str(text))
    style = "white-space: pre-wrap; max-width: 50em; padding: 0.2em 0.6em"
    show_html(f'<div style="{style}">{body}</div>', str(text))


def show_html(page: str, text: str) -> None:
    """Show `page` in a notebook, and `text` where HTML cannot be shown, such as in a terminal."""
    if _shell() is None:
        print(text)
        return
    from IPython.display import display

    display({"text/html": page, "text/plain": text}, raw=True)


def table_html(frame: "pd.DataFrame") -> str:
    """`frame` as HTML: text to the left, numbers to the right, missing values as "–".

    A column of numbers and words is to the right if more than half are numbers. A wide table
    scrolls inside its box, and texts wrap at words.
    """
    shown = frame.copy()
    if frame.index.nlevels == frame.columns.nlevels == 1 and frame.columns.name is None:
        shown = shown.rename_axis(index=None, columns=frame.index.name)  # one line of header
    style, classes = TABLE_STYLE, ["kit"]
    for place in range(frame.shape[1]):
        column, from_right = frame.iloc[:, place], frame.shape[1] - place
        missing = column.isna()
        if missing.any() and column.dtype != float:
            # pandas writes None, NA and NaT as they are, whatever `na_rep` says
            shown.isetitem(place, column.astype(object).where(~missing, float("nan")))
        present = column[~missing]
        if 2 * sum(map(_is_number, present)) <= len(present):
            style += TEXT_COLUMN.format(from_right)
            classes.append(f"text-{from_right}")
        if any(len(str(value)) > LONG_TEXT for value in present):
            style += LONG_COLUMN.format(from_right)
            classes.append(f"long-{from_right}")
    if all(len(str(name)) <= SHORT_NAME for name in frame.index):
        classes.append("short-names")
    table = shown.to_html(classes=classes, border=0, na_rep="–", max_rows=100)
    return f'<style>{style}</style>\n<div style="overflow-x: auto">{table}</div>'


def _shell() -> Any:
    """The running IPython kernel; None outside a notebook."""
    from IPython import get_ipython

    return get_ipython()


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return NUMBER_TEXT.fullmatch(value) is not None
    return isinstance(value, numbers.Number) and not isinstance(value, bool)
