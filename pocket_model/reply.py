"""What the model writes, read back: text, tool calls, and the stop strings that end text."""

from typing import Any

from pocket_model.chat_format import ChatFormat


class ReplyReader:
    """Sorts the tokens of one reply into text, calls and their arguments."""

    def __init__(self, chat_format: ChatFormat):
        self._format = chat_format
        self._enter("text")
        self.calls = 0

    def add(self, token: int) -> dict[str, Any]:
        """What one token completes.

        Returns:
            `{"text": str}`, `{"call": {"id", "name"}}` when a call's arguments begin,
            `{"arguments": str}`, or `{}` for a token that completes nothing.
        """
        names = self._format
        if token == names.tool_calls_id:
            self._name, self._id = "", ""
            self._enter("name")
        elif token == names.call_id_id and self._part == "name":
            self._enter("id")
        elif token == names.args_id and self._part in ("name", "id"):
            self._enter("arguments")
            self.calls += 1
            return {"call": {"id": self._id, "name": self._name}}
        elif piece := self._decode(token):
            if self._part in ("text", "arguments"):
                return {self._part: piece}
            setattr(self, f"_{self._part}", getattr(self, f"_{self._part}") + piece)
        return {}

    def _enter(self, part: str) -> None:
        # Bytes of an unfinished character do not run on into the next part.
        self._part, self._decode = part, self._format.stream_decoder()


def read_reply(chat_format: ChatFormat, token_ids: list[int]) -> dict[str, Any]:
    """A whole reply: `{"content": str, "tool_calls": [{"id", "name", "arguments"}, …]}`.

    Arguments are the text that was written, JSON or not; a call that breaks off before its
    arguments is left out, as nothing could be done with it.
    """
    reader, content, calls = ReplyReader(chat_format), "", []
    for token in token_ids:
        event = reader.add(token)
        content += event.get("text", "")
        if "call" in event:
            calls.append(event["call"] | {"arguments": ""})
        if "arguments" in event:
            calls[-1]["arguments"] += event["arguments"]
    return {"content": content, "tool_calls": calls}


class StopText:
    """Text pieces passed on until a stop string appears, which is itself left out.

    A tail that may be the beginning of a stop string is held back until that is decided.
    """

    def __init__(self, stops: list[str]):
        self._stops = stops
        self._held = ""
        self.hit = False

    def add(self, piece: str) -> str:
        """The text that is safe to send after `piece` was generated."""
        self._held += piece
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.hit = True
            safe, self._held = self._held[: min(found)], ""
            return safe
        keep = max((self._overlap(stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        safe, self._held = self._held[:cut], self._held[cut:]
        return safe

    def rest(self) -> str:
        """What was held back, once no more text can come."""
        held, self._held = self._held, ""
        return held

    def _overlap(self, stop: str) -> int:
        """Length of the longest tail of the held text that begins `stop`."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if stop.startswith(self._held[-n:])), 0)
