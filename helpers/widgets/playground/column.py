"""One chat with one backend, as widgets, and the thread that fills them."""

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import ipywidgets as widgets

from helpers.backends import BackendError
from helpers.widgets.playground.conversation import Conversation, Turn, user_message
from helpers.widgets.playground.sending import resend, send
from helpers.widgets.playground.streaming import Stop
from helpers.widgets.playground.transcript import turn_html

if TYPE_CHECKING:
    from helpers.backends import Lab

REPAINT_S = 0.1  # a page needs no more pictures of a stream
STOP_S = 1.0  # a server that has not answered yet is not waited for longer
ABANDONED = (
    "Stopped. The server had not begun to answer; its connection closes when it does, or when the "
    "time is up."
)


class Column:
    """A chat and its widgets.

    Args:
        chat: the conversation; it changes with each question.
        connect: returns the `Lab` of a backend by name, or raises `BackendError`.
        on_edit: called with the number of a turn whose button was pressed.
        on_done: called when an answer has ended, in its thread.
        time_limit_s: seconds for a turn.
    """

    def __init__(
        self,
        chat: Conversation,
        connect: Callable[[str], "Lab"],
        on_edit: Callable[[int], None],
        on_done: Callable[[Turn], None],
        time_limit_s: float,
    ):
        self.chat, self.backend, self.time_limit_s = chat, "", time_limit_s
        self.head = widgets.HTML()
        self.turns = widgets.VBox()
        layout = widgets.Layout(flex="1 1 18em", min_width="0", width="auto")
        self.box = widgets.VBox([self.head, self.turns], layout=layout)
        self._connect, self._on_edit, self._on_done = connect, on_edit, on_done
        self._ticket: object | None = None  # of the answer under way; any other is not shown
        self._stop, self._thread, self._painted = Stop(), None, 0.0
        self._question = user_message("")
        self._lock = threading.Lock()
        self.rebuild()

    @property
    def is_busy(self) -> bool:
        return self._ticket is not None

    def ask(
        self, text: str, picture: dict | None, tools: Sequence[Callable], edit: int | None
    ) -> None:
        """Send a question in a thread, or a changed one in the place of turn `edit`."""
        ticket, stop = object(), Stop()
        self._ticket, self._stop = ticket, stop
        self._question = user_message(text, picture)
        arguments = (ticket, stop, self.backend, text, picture, list(tools), edit)
        self._thread = threading.Thread(target=self._run, args=arguments, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the answer under way, and close its connection."""
        if self._ticket is None:
            return
        self._stop.set()
        self._thread.join(STOP_S)
        with self._lock:
            if self._ticket is None:
                return
            self._ticket = None  # the thread waits for a server that sends nothing
            chat = self.chat
            turn = Turn([self._question], error=ABANDONED, stopped=True)
            kept = [each for each in chat.turns if each.answer is not None]
            # The thread keeps the old chat, so that it cannot change this one later.
            self.chat = dataclasses.replace(chat, turns=[*kept, turn])
            self.rebuild()
        self._on_done(turn)

    def rebuild(self) -> None:
        """Show all turns again."""
        old = self.turns.children
        self.turns.children = [
            self._row(number, turn) for number, turn in enumerate(self.chat.turns, 1)
        ]
        for row in old:  # a widget that is not closed stays in memory
            for widget in (*row.children, row):
                widget.close()

    def _row(self, number: int, turn: Turn) -> widgets.VBox:
        page = widgets.HTML(turn_html(turn))
        button = widgets.Button(
            description=f"Edit question {number}",
            tooltip=f"Change question {number} and send it again",
            layout=widgets.Layout(width="auto"),
        )
        button.on_click(lambda _: self._on_edit(number))
        # The page takes the width that there is; the button only its own.
        page.layout.align_self = "stretch"
        return widgets.VBox([page, button], layout=widgets.Layout(align_items="flex-start"))

    def _run(
        self,
        ticket: object,
        stop: Stop,
        backend: str,
        text: str,
        picture: dict | None,
        tools: list[Callable],
        edit: int | None,
    ) -> None:
        # Nothing may leave this thread: its traceback would appear under some other cell.
        chat = self.chat
        try:
            lab = self._connect(backend)
            options = {"tools": tools, "stop": stop, "time_limit_s": self.time_limit_s}
            options["on_change"] = lambda turn: self._paint(ticket, chat, turn)
            if edit is not None and edit <= len(chat.turns):
                turn = resend(
                    lab, chat, edit, text, **options, **({"picture": picture} if picture else {})
                )
            else:
                turn = send(lab, chat, text, picture, **options)
        except BackendError as error:
            turn = _failed(chat, text, picture, str(error))
        except Exception as error:
            turn = _failed(chat, text, picture, f"{type(error).__name__}: {error}")
        with self._lock:
            if self._ticket is not ticket:
                return
            self.rebuild()
            self._ticket = None
        self._on_done(turn)

    def _paint(self, ticket: object, chat: Conversation, turn: Turn) -> None:
        with self._lock:
            if self._ticket is not ticket:
                return
            if len(self.turns.children) != len(chat.turns):
                self.rebuild()
            now = time.monotonic()
            if now - self._painted >= REPAINT_S or turn.total_s is not None:
                self._painted = now
                self.turns.children[-1].children[0].value = turn_html(turn)


def _failed(chat: Conversation, text: str, picture: dict | None, error: str) -> Turn:
    turn = Turn([user_message(text, picture)], error=error)
    chat.turns = [each for each in chat.turns if each.answer is not None]
    chat.turns.append(turn)
    return turn
