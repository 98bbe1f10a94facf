"""Reads what the model generates: text, tool calls, and stop strings that end the text.

A reply in Mistral's V11 format is text, or `[TOOL_CALLS]name[CALL_ID]id[ARGS]{json}` once for
each call. Serving reads it token by token, the evaluation as a whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pocket_model.chat_format import ChatFormat


@dataclass(frozen=True)
class TextPiece:
    """A piece of the reply's text."""

    text: str


@dataclass(frozen=True)
class CallBegun:
    """A tool call whose arguments begin."""

    id: str
    name: str


@dataclass(frozen=True)
class ArgumentsPiece:
    """A piece of the last call's arguments, which together are JSON."""

    text: str


ReplyEvent = TextPiece | CallBegun | ArgumentsPiece


@dataclass
class ToolCall:
    """A tool call with its arguments as they were generated, valid JSON or not."""

    id: str
    name: str
    arguments: str = ""


@dataclass
class Reply:
    """A reply put together from its events."""

    content: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)

    def add(self, event: ReplyEvent) -> None:
        """Append one event's text, or begin a call."""
        match event:
            case TextPiece(text):
                self.content += text
            case CallBegun(call_id, name):
                self.tool_calls.append(ToolCall(call_id, name))
            case ArgumentsPiece(text):
                self.tool_calls[-1].arguments += text


class StopText:
    """Passes text on until a stop string appears; the stop string itself is left out.

    The last characters are held back, as they may be the beginning of a stop string.
    """

    def __init__(self, stops: Sequence[str]):
        self._stops = stops
        self._keep = max((len(stop) - 1 for stop in stops), default=0)
        self._held = ""
        self.hit = False

    def add(self, piece: str) -> str:
        """The text that can be sent after `piece` was generated."""
        self._held += piece
        starts = [start for stop in self._stops if (start := self._held.find(stop)) >= 0]
        if starts:
            self.hit = True
            safe, self._held = self._held[: min(starts)], ""
            return safe
        end = max(0, len(self._held) - self._keep)
        safe, self._held = self._held[:end], self._held[end:]
        return safe

    def rest(self) -> str:
        """The text that was held back, once no more can come."""
        held, self._held = self._held, ""
        return held


class ReplyReader:
    """Sorts the tokens of one reply into text, calls and their arguments.

    Args:
        stops: strings that end the text; in a call's arguments they have no effect.
    """

    def __init__(self, chat_format: ChatFormat, stops: Sequence[str] = ()):
        self._format = chat_format
        self._text = StopText(stops)
        self._begin("text")
        self.has_calls = False

    @property
    def in_text(self) -> bool:
        """Whether the next token belongs to the text and not to a call, as far as is known."""
        return self._section == "text"

    @property
    def stopped(self) -> bool:
        """Whether a stop string has ended the text."""
        return self._text.hit

    def add(self, token: int) -> list[ReplyEvent]:
        """The events that one token completes."""
        chat_format = self._format
        if token == chat_format.tool_calls_token_id:
            self._name = self._id = ""
            self._begin("name")
        elif token == chat_format.call_id_token_id and self._section == "name":
            self._begin("id")
        elif token == chat_format.args_token_id and self._section in ("name", "id"):
            self._begin("arguments")
            self.has_calls = True
            return [*self.rest(), CallBegun(self._id, self._name)]
        elif piece := self._decode(token):
            match self._section:
                case "text":
                    text = self._text.add(piece)
                    return [TextPiece(text)] if text else []
                case "arguments":
                    return [ArgumentsPiece(piece)]
                case "name":
                    self._name += piece
                case "id":
                    self._id += piece
        return []

    def rest(self) -> list[ReplyEvent]:
        """The text that was held back because a stop string might have followed."""
        text = self._text.rest()
        return [TextPiece(text)] if text else []

    def _begin(self, section: str) -> None:
        # A new decoder: bytes of an unfinished character must not run on into the next section.
        self._section, self._decode = section, self._format.stream_decoder()


def read_reply(chat_format: ChatFormat, token_ids: list[int]) -> Reply:
    """Read a whole reply.

    A call that breaks off before its arguments is left out. So a reply is complete if it has as
    many `tool_calls` as `[TOOL_CALLS]` tokens.
    """
    reader, reply = ReplyReader(chat_format), Reply()
    for token in token_ids:
        for event in reader.add(token):
            reply.add(event)
    return reply
