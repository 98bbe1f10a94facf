"""Blind votes as a widget: two answers in random order, without names, with buttons or keys.

Each vote is in a file at once. Where no front end runs, the votes that were recorded are shown.
"""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from helpers.compare import votes
from helpers.compare.votes import Ballot, Vote

VIEW = "application/vnd.jupyter.widget-view+json"
KEYS = {"1": "left", "2": "right", "0": "tie"}
HOW = "To vote, run this cell in JupyterLab or on Colab."
SHOWN = 12  # recorded votes on a page without a front end
STYLE = (
    "<style>.kv { font: 14px/1.5 system-ui, sans-serif; color: inherit; max-width: 46em; }"
    ".kv-text { white-space: pre-wrap; overflow-wrap: anywhere; padding: .3em .8em;"
    " border-left: 3px solid rgba(127, 134, 141, .7); }"
    ".kv td, .kv th { text-align: left; padding: .1em .8em .1em 0; vertical-align: top;"
    " overflow-wrap: anywhere; }</style>"
)


class VoteBox:
    """Ballots, one after the other. As the last expression of a cell it shows itself.

    A ballot that the file has a vote on is not shown again, so a session goes on where it ended.

    Args:
        ballots: from `votes.ballots`.
        path: the JSONL file of your votes; its folder is made if it is missing.
        recorded: the votes that are shown where no front end runs.
    """

    def __init__(self, ballots: Sequence[Ballot], path: str | Path, recorded: Sequence[Vote] = ()):
        self.path, self.recorded = Path(path), list(recorded)
        done = set(votes.read(self.path))
        self.open = [b for b in ballots if done.isdisjoint(map(b.vote, votes.CHOICES))]
        self.cast = len(ballots) - len(self.open)
        self.prompt, self.left, self.right = (widgets.HTML() for _ in range(3))
        self.status = widgets.HTML()
        self.key = widgets.Text(
            description="Key", placeholder="1 left, 2 right, 0 tie", continuous_update=True
        )
        self.key.observe(self._on_key, names="value")
        words = {"left": "Left is better (1)", "right": "Right is better (2)", "tie": "Tie (0)"}
        self.buttons = {name: self._button(name, text) for name, text in words.items()}
        half = widgets.Layout(flex="1 1 18em", min_width="0", width="auto")
        self.left.layout, self.right.layout = half, half
        wrap = widgets.Layout(flex_flow="row wrap")
        self.box = widgets.VBox(
            [
                self.prompt,
                widgets.HBox([self.left, self.right], layout=wrap),
                widgets.HBox([*self.buttons.values(), self.key], layout=wrap),
                self.status,
            ]
        )
        self._show("")

    def vote(self, choice: str) -> None:
        """Vote on the ballot that is shown: "left", "right" or "tie"."""
        if not self.open:
            return
        ballot = self.open[0]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            votes.keep(self.path, ballot.vote(choice))
        except OSError as error:
            self._show(f"The vote is not kept: {self.path.name} cannot be written "
                       f"({error.strerror}). Free some space, then vote again.")  # fmt: skip
            return
        self.open.pop(0)
        self.cast += 1
        self._show(f"Kept: {choice}.")

    def _button(self, choice: str, text: str) -> widgets.Button:
        layout = widgets.Layout(width="auto")
        button = widgets.Button(description=text, tooltip=f"Vote: {choice}", layout=layout)
        button.on_click(lambda _: self.vote(choice))
        return button

    def _on_key(self, change: dict) -> None:
        typed = change["new"].strip()[-1:]
        if not typed:
            return
        self.key.value = ""
        if typed in KEYS:
            self.vote(KEYS[typed])
        else:
            self._show("The keys are 1 (left), 2 (right) and 0 (tie).")

    def _show(self, said: str) -> None:
        for button in self.buttons.values():
            button.disabled = not self.open
        self.key.disabled = not self.open
        if self.open:
            ballot = self.open[0]
            self.prompt.value = f"{STYLE}<p class='kv'><b>{html.escape(ballot.prompt)}</b></p>"
            self.left.value = _answer("Left", ballot.left_text)
            self.right.value = _answer("Right", ballot.right_text)
            said = f"{said} {len(self.open)} to go."
        else:
            self.prompt.value = self.left.value = self.right.value = ""
            said = f"{said} {self.cast} votes are in {self.path.name}; none is open."
        text = html.escape(said.strip())
        self.status.value = f'<p class="kv" role="status" aria-live="polite">{text}</p>'

    def _repr_mimebundle_(self, **options: Any) -> dict:
        """The widget, and the recorded session for where no front end runs."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        return {VIEW: view, "text/html": self.as_html(), "text/plain": self.as_text()}

    def as_html(self) -> str:
        """The recorded session as a table."""
        head = "<tr><th>question</th><th>left</th><th>right</th><th>vote</th></tr>"
        rows = "".join(
            f"<tr>{''.join(f'<td>{html.escape(text)}</td>' for text in _row(vote))}</tr>"
            for vote in self.recorded[:SHOWN]
        )
        title = f"<p>{html.escape(self._title())}</p>"
        return f"{STYLE}<div class='kv'>{title}<table>{head}{rows}</table></div>"

    def as_text(self) -> str:
        """The recorded session as text."""
        rows = [" | ".join(_row(vote)) for vote in self.recorded[:SHOWN]]
        return "\n".join([self._title(), *rows])

    def _title(self) -> str:
        count = len(self.recorded)
        return f"{HOW} Here: the first {min(SHOWN, count)} of {count} recorded votes."


def _answer(seat: str, text: str) -> str:
    shown = html.escape(text) if text.strip() else "<i>(no text)</i>"
    return f"<div class='kv'><b>{seat}</b><div class='kv-text'>{shown}</div></div>"


def _row(vote: Vote) -> tuple[str, str, str, str]:
    return vote.question, vote.left, vote.right, vote.choice
