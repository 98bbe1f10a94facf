"""The dashboard: a sweep to start, to watch and to stop, as widgets."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from helpers.backends import BackendError
from helpers.latency import Record
from helpers.widgets import live
from helpers.widgets.dashboard import page
from helpers.widgets.dashboard.measuring import Sweep, levels_of, measure

if TYPE_CHECKING:
    from helpers.backends import Lab

TITLE = "A sweep to watch"
HOW = "To start one, run this cell in JupyterLab or on Colab."
REPAINT_S = 0.25
STOP_S = 1.0  # a server that has not answered yet is not waited for longer


class Dashboard:
    """A sweep to start and to watch. As the last expression of a cell it shows itself.

    Where no front end runs, as on GitHub or a page, the last sweep is shown as HTML.

    Args:
        servers: by name, what connects to a server, such as `partial(connect, "pocket")`. It is
            called for each sweep, and its connection is closed after it.
        records: of an earlier sweep, by level, to show first.
        time_limit_s: seconds for one request.
    """

    def __init__(
        self,
        servers: Mapping[str, Callable[[], "Lab"]],
        records: Mapping[int, list[Record]] | None = None,
        *,
        time_limit_s: float = 60.0,
    ):
        self.servers, self.time_limit_s = dict(servers), time_limit_s
        self.sweep = Sweep(records=dict(records or {}))
        self._stop, self._thread = threading.Event(), None
        number = widgets.BoundedIntText
        self.server = widgets.Dropdown(
            options=list(servers), description="Server", style=live.WHOLE
        )
        self.users = live.narrow(widgets.Text, description="Users", value="1, 2, 4")
        self.requests = live.narrow(
            number, description="Requests per level", min=1, max=1000, value=8
        )
        self.max_tokens = live.narrow(
            number, description="Tokens per answer", min=1, max=4096, value=16
        )
        self.start = live.button("Start", "Send requests from more and more users")
        self.start.button_style = "primary"
        self.stop = live.button("Stop", "End the sweep that is under way")
        self.page, self.status = widgets.HTML(), widgets.HTML()
        self.box = widgets.VBox(
            [
                widgets.HTML(page.style()),
                live.row(self.server, self.users, self.requests, self.max_tokens),
                live.row(self.start, self.stop),
                self.status,
                self.page,
            ]
        )
        self.start.on_click(lambda _: self.begin())
        self.stop.on_click(lambda _: self.end())
        self._paint()
        self.say("Choose how many users there are, such as 1, 2, 4. Then press Start.")

    @property
    def is_busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def say(self, words: str) -> None:
        """Tell what happened, also to a screen reader."""
        self.status.value = live.status(words)

    def begin(self) -> None:
        """Start a sweep in a thread."""
        if self.is_busy:
            return self.say("A sweep is under way. Wait for its end, or press Stop.")
        try:
            levels = levels_of(self.users.value)
        except ValueError as error:
            return self.say(f"Nothing was sent. {error}")
        self._stop, self.sweep = threading.Event(), Sweep()
        arguments = (self.server.value, levels, self.requests.value, self.max_tokens.value)
        self._thread = threading.Thread(
            target=self._run, args=(self._stop, *arguments), daemon=True
        )
        self.say("Connecting. Stop ends the sweep.")
        self._thread.start()
        return None

    def end(self) -> None:
        """Stop the sweep that is under way."""
        if not self.is_busy:
            return self.say("No sweep is under way.")
        self.say("Stopping.")
        self._stop.set()
        return None

    def _run(
        self, stop: threading.Event, server: str, levels: list[int], requests: int, tokens: int
    ) -> None:
        """Show a sweep while another thread measures: what measures must not wait for a page."""
        shown: list[Sweep] = []
        measuring = threading.Thread(
            target=self._measure, args=(stop, shown, server, levels, requests, tokens), daemon=True
        )
        measuring.start()
        deadline = None
        while measuring.is_alive() and (deadline is None or time.monotonic() < deadline):
            measuring.join(REPAINT_S)
            if stop.is_set() and deadline is None:
                deadline = time.monotonic() + STOP_S
            if shown:
                self.sweep = shown[-1]
                self._paint()
                level = self.sweep.level  # the other thread may change it meanwhile
                if level and not stop.is_set():
                    self.say(self._progress(level, levels))
        # A server that sends nothing is left behind: its thread ends with the request's time.
        if shown:
            self.sweep = shown[-1]
        self._paint()
        if self.sweep.error:
            self.say("The sweep ended early: see below.")
        else:
            self.say("Stopped." if stop.is_set() else "All levels are measured.")

    def _measure(
        self,
        stop: threading.Event,
        shown: list[Sweep],
        server: str,
        levels: list[int],
        requests: int,
        tokens: int,
    ) -> None:
        # Nothing may leave this thread: its traceback would appear under some other cell.
        try:
            lab = self.servers[server]()
        except BackendError as error:
            shown.append(Sweep(error=str(error), server=server))
            return
        except Exception as error:
            shown.append(Sweep(error=f"{type(error).__name__}: {error}", server=server))
            return
        try:
            sweep = measure(
                lab, levels, requests=requests, max_tokens=tokens, stop=stop,
                on_change=shown.append, time_limit_s=self.time_limit_s,
            )  # fmt: skip
            shown.append(sweep)
        finally:
            lab.close()

    def _progress(self, level: int, levels: list[int]) -> str:
        sweep = self.sweep
        done = len(sweep.records.get(level, []))
        users = "1 user" if level == 1 else f"{level} users"
        place = f"level {levels.index(level) + 1} of {len(levels)}"
        return f"{users}, {place}: {done} of {sweep.requests} requests have ended."

    def _paint(self) -> None:
        self.page.value = page.as_html(self.sweep)

    def _repr_mimebundle_(self, **options: Any) -> dict:
        """The widget, and what is shown where no front end runs."""
        static = f"{page.style()}<p><b>{TITLE}.</b> {HOW}</p>{page.as_html(self.sweep)}"
        return live.bundle(self, static, f"{TITLE}\n\n{page.as_text(self.sweep)}")
