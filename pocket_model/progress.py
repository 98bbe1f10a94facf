"""Progress of what takes a while, shown in a notebook, a terminal or a pipe.

A notebook shows what a program writes to stderr in red, like an error. So there the progress is an
output of its own, which is updated in place. A notebook that a program executes, such as papermill,
shows nothing: its outputs must not depend on how long something took.
"""

import html
import shutil
import sys
import time

BAR_WIDTH = 12


class Progress:
    """A sentence, and below it a bar with what is being done.

    Args:
        title: the sentence, without its full stop.
        quiet_s: seconds before anything is shown; what ends earlier shows nothing.
        lines: write one line for each step to stderr if that is no terminal.
    """

    def __init__(self, title: str, *, quiet_s: float = 0.0, lines: bool = True):
        self.title = title
        self.quiet_s = quiet_s
        self._start = time.monotonic()
        self._state: tuple[str, float | None] = ("starting", None)
        self._shown = None
        self._view = _choose_view(lines)
        self.refresh()

    def update(self, doing: str, done: float | None) -> None:
        """Show what is being done now, and the share of all that is done: 0 to 1, or None."""
        self._state = (doing, done)
        self.refresh()

    def refresh(self) -> None:
        """Show how many seconds have passed: call it at least once a second."""
        seconds = int(time.monotonic() - self._start)
        state = (*self._state, seconds)
        if self._view and seconds >= self.quiet_s and state != self._shown:
            if not self._shown:
                self._view.begin(self.title)
            self._shown = state
            self._view.show(*state)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()  # an interrupted cell keeps no bar

    def end(self, sentence: str = "") -> None:
        """Replace the bar by a sentence, or by nothing. The end of a `with` block does it too."""
        if self._shown:
            self._view.end(sentence)
            self._shown = None


class _Notebook:
    """One output of a cell, updated in place."""

    def begin(self, title: str) -> None:
        from IPython.display import display

        self.title = title
        self.handle = display({"text/plain": f"{title}."}, raw=True, display_id=True)

    def show(self, doing: str, done: float | None, seconds: int) -> None:
        title, doing = f"{self.title}.", f"{doing}, {seconds} s"
        value = "" if done is None else f' value="{done:.3f}"'  # without one, the bar moves
        label = html.escape(title)
        bar = f'<progress max="1"{value} aria-label="{label}"></progress>'
        self._replace(f"{title} {doing}", f"{label}<br>{bar} {html.escape(doing)}")

    def end(self, sentence: str) -> None:
        self._replace(sentence, html.escape(sentence))

    def _replace(self, text: str, markup: str) -> None:
        self.handle.update({"text/plain": text, "text/html": f"<div>{markup}</div>"}, raw=True)


class _Lines:
    """The title, and one line for each step: for a file, a pipe or a test."""

    step = "starting"

    def begin(self, title: str) -> None:
        self._print(f"{title}.")

    def show(self, doing: str, done: float | None, seconds: int) -> None:
        step = doing.split(",")[0]  # without the megabytes that have arrived
        if step != self.step:
            self._print(f"  {step}")
        self.step = step

    def end(self, sentence: str) -> None:
        if sentence:
            self._print(sentence)

    def _print(self, line: str, end: str = "\n") -> None:
        print(line, end=end, file=sys.stderr, flush=True)


class _Terminal(_Lines):
    """The title, and below it one line that is written again and again."""

    def show(self, doing: str, done: float | None, seconds: int) -> None:
        bar = "" if done is None else f"[{('#' * round(done * BAR_WIDTH)):-<{BAR_WIDTH}}] "
        self._replace(f"{bar}{doing}, {seconds} s", end="")

    def end(self, sentence: str) -> None:
        self._replace(sentence, end="\n" if sentence else "\r")

    def _replace(self, line: str, end: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        self._print(f"\r{line[:width]:<{width}}", end)


def _choose_view(lines: bool) -> _Notebook | _Lines | None:
    ipython = sys.modules.get("IPython")
    kernel = getattr(ipython and ipython.get_ipython(), "kernel", None)
    if kernel:
        # A program that executes notebooks takes no input; the page of a person does.
        request = kernel.get_parent().get("content", {})
        return _Notebook() if request.get("allow_stdin", True) else None
    if sys.stderr and sys.stderr.isatty():
        return _Terminal()
    return _Lines() if lines and sys.stderr else None
