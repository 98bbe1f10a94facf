"""What an explorer is: data, a table, and a page that needs neither a kernel nor a network."""

import hashlib
import html
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Explorer:
    """Numbers that a real model computed, to look at and to touch.

    In a notebook it shows as a page, in a terminal as a table. Where scripts are left out, as on
    GitHub, the page keeps the table.

    Attributes:
        title: what it shows.
        table: the numbers as text.
        data: what the page is made from, as JSON has it.
        script: the name of a file beside this one. It has one expression, a function of the page's
            element, the data, and what `explorer.js` offers.

    Raises:
        ValueError: the table is empty.
    """

    title: str
    table: pd.DataFrame
    data: dict[str, Any] = field(repr=False)
    script: str = field(repr=False)

    def __post_init__(self):
        if self.table.empty:
            raise ValueError("There is nothing to show: give at least one text, message or model.")

    def __repr__(self) -> str:
        return f"{self.title}\n\n{self.table.to_string()}"

    def _repr_html_(self) -> str:
        data = json.dumps(self.data, ensure_ascii=False)
        # "</script>" in a text must not end the script.
        for character in "<>&\u2028\u2029":
            data = data.replace(character, f"\\u{ord(character):04x}")
        name = f"explorer-{hashlib.sha256((self.script + data).encode()).hexdigest()[:12]}"
        shown = self.table.to_html(border=0, classes="kx-table", escape=True)
        files = ("explorer.css", "explorer.js", self.script)
        style, offered, script = ((HERE / f).read_text(encoding="utf-8").strip() for f in files)
        title = html.escape(self.title)
        return (
            f'<style>{style}</style>\n<div id="{name}" class="kx" role="group" '
            f'aria-label="{title}"><p class="kx-title"><b>{title}</b></p>'
            f'<div class="kx-live"></div><div class="kx-plain">{shown}</div></div>\n'
            # The same page can have it twice.
            f"<script>document.querySelectorAll('[id={name}]:not([data-ready])').forEach(root => {{"
            f"root.dataset.ready = ''; "
            f"({script})(root.querySelector('.kx-live'), {data}, {offered}); "
            "root.querySelector('.kx-plain').hidden = true;});</script>"
        )

    def save(self, path: str | Path) -> Path:
        """Write it as a page of its own, which a browser opens from the disk."""
        path, title = Path(path), html.escape(self.title)
        head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        scheme = '<meta name="color-scheme" content="light dark">'
        width = '<meta name="viewport" content="width=device-width">'
        # Said, so that programs that check the contrast know what is behind the text.
        style = "<style>html { background: Canvas; color: CanvasText; }</style>"
        page = (
            f"{head}{scheme}{width}{style}<body><main>{self._repr_html_()}</main></body></html>\n"
        )
        path.write_text(page, encoding="utf-8")
        return path
