"""The playground's controls, and how they are arranged. What they do is in `app`."""

import html
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets

from helpers.backends import BACKENDS
from helpers.widgets import live, uploads
from helpers.widgets.live import WHOLE, button, narrow, row, wide
from helpers.widgets.playground import transcript
from helpers.widgets.playground.conversation import Conversation, showable
from helpers.widgets.playground.starters import starters

# A question that was not answered is given back; a page is slow with more in one line.
MAX_GIVEN_BACK = 20_000
SMALL_BACKENDS = ("pocket", "openrouter-sim")


def heading(backend: str) -> str:
    """The head of a column as HTML."""
    badge = f' <span class="kp-badge">{transcript.SMALL}</span>'
    title = html.escape(f"{backend}: {BACKENDS[backend].title}")
    return f'<p class="kp kp-who">{title}{badge if backend in SMALL_BACKENDS else ""}</p>'


def _checkbox(description: str) -> widgets.Checkbox:
    layout = widgets.Layout(width="auto", margin="2px 1em 2px 2px")
    return widgets.Checkbox(description=description, indent=False, layout=layout)


class Panel:
    """The controls. Every one has a label, and they follow each other as the Tab key goes.

    Args:
        backend: which is chosen first.
        chat: whose settings are shown first.
        tools: the functions that can be offered.
        columns: the widgets of the two chats.
    """

    def __init__(
        self,
        backend: str,
        chat: Conversation,
        tools: Sequence[Callable],
        columns: Sequence[widgets.Widget],
    ):
        kind = widgets.Dropdown
        self.backend = kind(options=[backend], description="Backend", style=WHOLE)
        self.second = kind(options=[backend], description="Second backend", style=WHOLE)
        self.compare = _checkbox("Compare two backends")
        self.tools = _checkbox("Tools")
        self.tools.disabled = not tools
        self.system = wide(widgets.Textarea, description="System prompt", rows=2)
        self.system.value = chat.system
        self.temperature = narrow(
            widgets.BoundedFloatText, description="Temperature", min=0, max=2, step=0.05
        )
        self.temperature.value = chat.temperature
        self.max_tokens = narrow(
            widgets.BoundedIntText, description="Max tokens", min=1, max=32_768
        )
        self.max_tokens.value = chat.max_tokens
        self.seed = narrow(widgets.Text, description="Seed", placeholder="none")
        self.seed.value = "" if chat.seed is None else str(chat.seed)
        self.missing, self.again = widgets.HTML(), button("Look again", "Look for backends again")
        prompts = [("choose a prompt", None), *((each.label, each) for each in starters())]
        self.starter = wide(kind, options=prompts, description="Try")
        self.question = wide(widgets.Text, description="Question")
        self.send = button("Send", "Send the question (Enter in the box does it too)")
        self.send.button_style = "primary"
        self.stop = button("Stop", "End the answer that is under way")
        self.new = button("New chat", "Remove all turns")
        self.no_picture = button("Remove picture", "Send the next question without it")
        self.picture = widgets.HTML()
        self.status = widgets.HTML()
        self.python = button("Show as Python", "The last request as a program")
        self.curl = button("Show as curl", "The last request as a command")
        self.program = wide(widgets.Textarea, description="Program", rows=14)
        self.uploads = row()
        names = ", ".join(getattr(tool, "__name__", "?") for tool in tools) or "none"
        tool_names = widgets.HTML(f'<span class="kp">({html.escape(names)})</span>')
        self.columns = row(*columns)
        self.columns.layout.align_items = "flex-start"
        self.box = widgets.VBox(
            [
                widgets.HTML(transcript.style()),
                row(self.backend, self.compare, self.second),
                row(self.tools, tool_names),
                self.system,
                row(self.temperature, self.max_tokens, self.seed),
                row(self.missing, self.again),
                self.starter,
                self.columns,
                self.question,
                row(self.send, self.stop, self.uploads, self.no_picture),
                self.picture,
                self.status,
                row(self.new, self.python, self.curl),
                self.program,
            ]
        )
        _show(self.program, False)
        self.say("Type a question and press Enter.")

    def say(self, words: str) -> None:
        """Tell what happened, also to a screen reader."""
        self.status.value = live.status(words)

    def offer(self, ready: dict[str, str | None], connected: Sequence[str]) -> None:
        """Offer the backends that are ready, and say of the others what is missing."""
        names = [name for name, reason in ready.items() if reason is None or name in connected]
        for menu in (self.backend, self.second):
            chosen = menu.value
            menu.options = names
            menu.value = chosen if chosen in names else names[0]
        if self.second.value == self.backend.value and len(names) > 1:
            self.second.value = next(name for name in names if name != self.backend.value)
        reasons = [
            f"<li><b>{html.escape(name)}</b>: {html.escape(reason)}</li>"
            for name, reason in ready.items()
            if reason is not None and name not in connected
        ]
        summary = f"<summary>{len(reasons)} backends are not ready: why?</summary>"
        items = f"<ul>{''.join(reasons)}</ul>"
        self.missing.value = f'<details class="kp">{summary}{items}</details>' if reasons else ""

    def on_upload(self, take: Callable[[Any], None]) -> None:
        """Call `take` with the value of each upload."""
        uploads.accept(self.uploads, take, "A picture of 9 MB at most, for the next question")

    def show_picture(self, part: dict | None, name: str = "") -> None:
        """Show the picture that the next question has, or none."""
        _show(self.no_picture, part is not None)
        if part is None:
            self.picture.value = ""
            return
        source, label = html.escape(part["image_url"]["url"]), html.escape(showable(name))
        self.picture.value = (
            f'<div class="kp"><img src="{source}" alt="the picture for the next question">'
            f"<p>With the next question: {label}</p></div>"
        )

    def show_second(self, shown: bool) -> None:
        """Show or hide the second backend and its chat."""
        _show(self.second, shown)
        _show(self.columns.children[1], shown)

    def show_program(self, text: str) -> None:
        """Show an export. It is text in a box, to copy."""
        self.program.value = text
        _show(self.program, True)
        self.say("The program is in the box below.")


def _show(widget: widgets.Widget, shown: bool) -> None:
    # None leaves it to the style sheet.
    widget.layout.display = None if shown else "none"
