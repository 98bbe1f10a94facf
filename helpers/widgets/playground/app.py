"""The playground: a chat with tools, pictures and two backends side by side, as widgets."""

import copy
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from helpers import images
from helpers.backends import BackendError, connect, readiness
from helpers.connection.rows import BACKENDS
from helpers.widgets import live, uploads
from helpers.widgets.playground import exports, panel, transcript
from helpers.widgets.playground.column import Column
from helpers.widgets.playground.conversation import Conversation, Turn, showable
from helpers.widgets.playground.starters import SHAPES

if TYPE_CHECKING:
    import ipywidgets as widgets

    from helpers.backends import Lab

TITLE = "A chat with tools and pictures"
HOW = "To chat here, run this cell in JupyterLab or on Colab: python -m helpers play opens it."
TYPED_S = 0.15
BUSY = "An answer is under way. Wait for its end, or press Stop."


def ready_backends() -> dict[str, str | None]:
    """For each backend None if it can be used now, or what is missing. Spends nothing."""
    return {name: readiness(name) for name in BACKENDS}


class Playground:
    """A chat to play with. As the last expression of a cell it shows itself.

    Where no front end runs, as on GitHub or a page, the turns of `chat` are shown as HTML.

    Args:
        lab: the backend that answers first, from `connect`.
        tools: functions that the model may call while "Tools" is checked.
        chat: a conversation to go on with; it is copied.
        time_limit_s: seconds for one turn. After them it is stopped.
    """

    def __init__(
        self,
        lab: "Lab",
        tools: Sequence[Callable] = (),
        chat: Conversation | None = None,
        *,
        time_limit_s: float = 120.0,
    ):
        self.tools, self._labs = list(tools), {lab.backend: lab}
        self._connecting = threading.Lock()
        self._picture: dict | None = None
        self._edit: int | None = None
        chat = copy.deepcopy(chat) if chat else Conversation()
        hooks = (self._lab, self._begin_edit, self._done, time_limit_s)
        self.left, self.right = Column(chat, *hooks), Column(Conversation(), *hooks)
        self.ui = panel.Panel(lab.backend, chat, self.tools, [self.left.box, self.right.box])
        ui = self.ui
        ui.send.on_click(lambda _: self._ask_soon())
        ui.stop.on_click(lambda _: self.stop())
        ui.again.on_click(lambda _: self._look_again())
        ui.new.on_click(lambda _: self._new_chat())
        ui.python.on_click(lambda _: self._export(exports.as_python))
        ui.curl.on_click(lambda _: self._export(exports.as_curl))
        ui.no_picture.on_click(lambda _: self._set_picture(None))
        # Enter. `on_submit` says the same, with a warning in ipywidgets 8.
        ui.question.on_msg(lambda _, content, buffers: self._on_message(content))
        ui.compare.observe(lambda _: self._arrange(), names="value")
        ui.starter.observe(lambda _: self._take_starter(), names="value")
        for choice in (ui.backend, ui.second):
            choice.observe(lambda _: self._name_columns(), names="value")
        ui.on_upload(self._take_upload)
        self._look_again()
        self._arrange()

    def ask(self) -> None:
        """Send what is in the box "Question"."""
        ui = self.ui
        columns = self._columns()
        if any(column.is_busy for column in columns):
            return ui.say(BUSY)
        seed = ui.seed.value.strip()
        if seed and not seed.lstrip("-").isdecimal():
            return ui.say("The seed should be a whole number, or empty.")
        text, edit = ui.question.value, self._edit
        if not text.strip() and not self._picture:
            self._edit = None
            return ui.say("Nothing was sent: type a question first.")
        tools, picture = self.tools if ui.tools.value else [], self._picture
        # Before the threads start: an answer can be there at once.
        self._edit, ui.question.value = None, ""
        self._set_picture(None)
        ui.say("The answer is under way. Stop ends it.")
        for column in columns:
            chat = column.chat
            chat.system, chat.temperature = ui.system.value, ui.temperature.value
            chat.max_tokens, chat.seed = ui.max_tokens.value, int(seed) if seed else None
            column.ask(text, picture, tools, edit)
        return None

    def stop(self) -> None:
        """End the answers under way."""
        if not any(column.is_busy for column in (self.left, self.right)):
            return self.ui.say("No answer is under way.")
        for column in (self.left, self.right):
            column.stop()
        return None

    def _columns(self) -> list[Column]:
        return [self.left, self.right] if self.ui.compare.value else [self.left]

    def _lab(self, name: str) -> "Lab":
        with self._connecting:
            if name not in self._labs:
                self._labs[name] = connect(name)
            return self._labs[name]

    def _on_message(self, content: dict) -> None:
        if content.get("event") == "submit":
            self._ask_soon()

    def _ask_soon(self) -> None:
        # What was typed last may come after the key: a page sends it when the kernel has confirmed
        # what it sent before. A handler would keep the kernel from reading it, so a thread waits.
        timer = threading.Timer(TYPED_S, self.ask)
        timer.daemon = True
        timer.start()

    def _done(self, turn: Turn) -> None:
        """After an answer: say so, give a question back that got none, and forget a dead server."""
        if turn.answer is None and not self.ui.question.value:
            self.ui.question.value = showable(turn.question)[: panel.MAX_GIVEN_BACK]
        if turn.error and turn.backend == "pocket":
            # It may have ended. Its next connection starts it, and costs nothing if it runs.
            self._labs.pop("pocket", None)
        if any(column.is_busy for column in self._columns()):
            return
        word = "Stopped." if turn.stopped else "Not answered." if turn.error else "Answered."
        self.ui.say(word)

    def _begin_edit(self, number: int) -> None:
        turns = self.left.chat.turns
        if self.left.is_busy or self.right.is_busy:
            return self.ui.say(BUSY)
        if number > len(turns):
            return None
        self._edit, self.ui.question.value = number, showable(turns[number - 1].question)
        if hasattr(self.ui.question, "focus"):  # since ipywidgets 8
            self.ui.question.focus()
        return self.ui.say(
            f"Change question {number} in the box, then send it. What followed it is removed."
        )

    def _look_again(self) -> None:
        self.ui.offer(ready_backends(), [*self._labs])
        self._name_columns()

    def _name_columns(self) -> None:
        for column, choice in ((self.left, self.ui.backend), (self.right, self.ui.second)):
            if choice.value:
                column.backend = choice.value
                column.head.value = panel.heading(choice.value)

    def _arrange(self) -> None:
        if self.right.is_busy:
            self.right.stop()
        if self.ui.compare.value:  # both go on from the same turns
            self.right.chat = copy.deepcopy(self.left.chat)
            self.right.rebuild()
        self.ui.show_second(self.ui.compare.value)

    def _new_chat(self) -> None:
        for column in (self.left, self.right):
            column.stop()
            column.chat = Conversation()
            column.rebuild()
        self._edit = None
        self.ui.say("A new chat begins. The settings stay.")

    def _take_starter(self) -> None:
        starter = self.ui.starter.value
        if starter is None:
            return
        self.ui.question.value, self.ui.tools.value = starter.text, starter.has_tools
        if starter.has_picture:
            self._set_picture(images.image_part(SHAPES), SHAPES.name)
        else:
            self._set_picture(None)
        self.ui.say("The prompt is in the box: send it, or change it first.")

    def _take_upload(self, value: Any) -> None:
        try:
            name, part = uploads.picture_of(value)
        except images.ImageError as error:
            self._set_picture(None)
            return self.ui.say(f"The file cannot be sent as a picture: {error}.")
        self._set_picture(part, name)
        return self.ui.say("The picture is sent with the next question.")

    def _set_picture(self, part: dict | None, name: str = "") -> None:
        self._picture = part
        self.ui.show_picture(part, name)

    def _export(self, export: Callable) -> None:
        try:
            tools = self.tools if self.ui.tools.value else []
            self.ui.show_program(export(self._lab(self.left.backend), self.left.chat, tools))
        except (ValueError, BackendError) as error:
            self.ui.say(str(error))

    def end(self) -> None:
        """End what is under way: another playground takes the place of this one."""
        self.left.stop()
        self.right.stop()

    @property
    def box(self) -> "widgets.Widget":
        """All of it, as one widget."""
        return self.ui.box

    def _repr_mimebundle_(self, **options: Any) -> dict:
        """The widget, and what is shown where no front end runs."""
        turns = self.left.chat.turns
        page = transcript.as_html(turns, f"{TITLE}. {HOW}")
        return live.bundle(self, page, transcript.as_text(turns, TITLE))
