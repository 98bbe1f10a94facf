"""A chat as data: its settings, and its turns. Nothing here talks to a server."""

from dataclasses import dataclass, field

from helpers.replies import text_of


@dataclass
class Turn:
    """A question, and all that followed until the model's answer.

    Attributes:
        messages: the question first, then tool calls, their results, and the answer.
        backend, model: who answered.
        text: what has arrived of the message under way.
        prompt_tokens, completion_tokens: of all requests of the turn; None if not counted.
        usd: what it cost; None if nothing has a price, or if the price is unknown.
        first_token_s: seconds from sending to the first piece of text or of a call.
        total_s: seconds of the whole turn, tools included.
        finish_reason: of the last message: "stop"; "length" if `max_tokens` cut it off.
        error: what happened and what to do, in words; "" if nothing failed.
        stopped: whether somebody stopped it.
    """

    messages: list[dict]
    backend: str = ""
    model: str = ""
    text: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    usd: float | None = None
    first_token_s: float | None = None
    total_s: float | None = None
    finish_reason: str | None = None
    error: str = ""
    stopped: bool = False

    @property
    def question(self) -> str:
        """The text of the question."""
        return text_of(self.messages[0]["content"])

    @property
    def picture(self) -> dict | None:
        """The part of the question's message with a picture; None if it has none."""
        content = self.messages[0]["content"]
        parts = content if isinstance(content, list) else []
        return next((part for part in parts if part["type"] == "image_url"), None)

    @property
    def answer(self) -> str | None:
        """The model's answer, or what came of it before it was stopped; None if there is none."""
        last = self.messages[-1]
        if last["role"] != "assistant" or last.get("tool_calls"):
            return None
        return last["content"]


@dataclass
class Conversation:
    """A chat: settings for every request, and the turns so far.

    Attributes:
        system: the system prompt; "" for none.
        temperature: 0 always takes the likeliest token.
        max_tokens: the longest answer.
        seed: fixes the random choices; None for none.
        turns: oldest first. A turn without an answer is not sent again.
    """

    system: str = ""
    temperature: float = 0.15
    max_tokens: int = 256
    seed: int | None = None
    turns: list[Turn] = field(default_factory=list)

    @property
    def messages(self) -> list[dict]:
        """What the next request begins with, in OpenAI's form. A model remembers nothing else."""
        system = [{"role": "system", "content": self.system}] if self.system.strip() else []
        answered = [turn.messages for turn in self.turns if turn.answer is not None]
        return system + [message for messages in answered for message in messages]

    def rewind(self, number: int) -> Turn:
        """Remove a turn, counted from 1, and all turns after it.

        Returns:
            The turn, whose question can be changed and sent again.

        Raises:
            IndexError: there is no such turn.
        """
        if not 1 <= number <= len(self.turns):
            raise IndexError(f"There is no turn {number}; the chat has {len(self.turns)}.")
        turn = self.turns[number - 1]
        del self.turns[number - 1 :]
        return turn


def user_message(text: str, picture: dict | None = None) -> dict:
    """A question as a message, with a picture's part from `images.image_part` if there is one."""
    if picture is None:
        return {"role": "user", "content": text}
    parts = [{"type": "text", "text": text}] if text.strip() else []
    return {"role": "user", "content": [*parts, picture]}


def is_sendable(text: str) -> bool:
    """Whether a text can be sent: one with half of a character, as of an emoji, cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def showable(text: str) -> str:
    """A text that a page can show: half of a character becomes "�"."""
    return (
        text
        if is_sendable(text)
        else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )
