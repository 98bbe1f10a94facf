"""What the live widgets share: controls with labels, a status line, and how a cell shows them.

The API is the one that ipywidgets 7.7 and 8 have in common.
"""

import html
import warnings
from typing import Any, Protocol

import ipywidgets as widgets

VIEW = "application/vnd.jupyter.widget-view+json"
WHOLE = {"description_width": "initial"}  # labels are not cut


class Live(Protocol):
    """A live widget: its box, and what ends its work."""

    box: widgets.Widget

    def end(self) -> None: ...


# By cell and kind: the widget that was shown there last.
_shown: dict[tuple[str | None, type], Live] = {}


def button(description: str, tooltip: str) -> widgets.Button:
    layout = widgets.Layout(width="auto")
    return widgets.Button(description=description, tooltip=tooltip, layout=layout)


def wide(kind: type, **options: Any) -> widgets.Widget:
    """A control as wide as the cell."""
    return kind(style=WHOLE, layout=widgets.Layout(width="auto"), **options)


def narrow(kind: type, **options: Any) -> widgets.Widget:
    """A control for a number."""
    return kind(style=WHOLE, layout=widgets.Layout(width="13em"), **options)


def row(*children: widgets.Widget) -> widgets.HBox:
    layout = widgets.Layout(flex_flow="row wrap", align_items="center")
    return widgets.HBox(children, layout=layout)


def status(words: str) -> str:
    """What happened, as HTML that a screen reader speaks."""
    text = html.escape(words)
    return f'<p class="kp kp-status" role="status" aria-live="polite">{text}</p>'


def bundle(shown: Live, page: str, text: str) -> dict[str, Any]:
    """What a cell shows: the widget, and a page and a text where no front end runs.

    A cell that runs again ends the work of its old widget.
    """
    key = (cell_id(), type(shown))
    if (old := _shown.get(key)) is not None and old is not shown:
        old.end()
    _shown[key] = shown
    view = {"version_major": 2, "version_minor": 0, "model_id": shown.box.model_id}
    return {VIEW: view, "text/html": page, "text/plain": text}


def cell_id() -> str | None:
    """The id of the cell that runs, which JupyterLab tells its kernel; None elsewhere."""
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None:
        return None
    with warnings.catch_warnings(action="ignore"):
        parent = kernel.get_parent("shell") or {}
    return parent.get("metadata", {}).get("cellId")
