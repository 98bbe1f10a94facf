"""Sends a learner's answer to a model, for exercises that use it, and keeps the replies to show."""

import json
import re
from typing import Any

MOST_CHARACTERS = 600  # of a reply that is shown


class NoReply(RuntimeError):
    """There is no reply; the message says why, in words.

    Attributes:
        refused: whether the server answered, and refused the request as it is.
    """

    def __init__(self, message: str, refused: bool):
        super().__init__(message)
        self.refused = refused


class Model:
    """The model behind a `lab`.

    Attributes:
        lab: what `connect` returned.
        replies: (what was sent, what came back) of each request, to be shown.
        notes: sentences to be shown under the replies. They do not change the verdict.
    """

    def __init__(self, lab: Any):
        self.lab = lab
        self.replies: list[tuple[str, str]] = []
        self.notes: list[str] = []

    def ask(self, what: str, messages: list[dict], **settings: Any) -> Any:
        """Send one request.

        Args:
            what: what is sent, as the learner reads it beside the reply.
            settings: further arguments of `chat.completions.create`.

        Returns:
            The reply, an `openai.types.chat.ChatCompletion`.

        Raises:
            NoReply: there is none.
        """
        import openai

        from helpers.widgets.errors import words

        settings = {"temperature": 0, "max_tokens": 48} | settings
        try:
            reply = self.lab.client.chat.completions.create(
                model=self.lab.model, messages=messages, **settings
            )
            shown = said(reply.choices[0].message)
        except Exception as error:
            refused = isinstance(error, openai.BadRequestError | openai.UnprocessableEntityError)
            unsendable = isinstance(error, TypeError)  # an argument that the client does not know
            named = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            which = f": {named[1]}" if named else ""
            text = f"The request has an argument that does not exist{which}."
            raise NoReply(
                text if unsendable else words(error, self.lab), refused or unsendable
            ) from None
        self.replies.append((what, shown))
        return reply

    def note(self, sentence: str) -> None:
        """Say something about the replies."""
        self.notes.append(sentence)


def said(message: Any) -> str:
    """What a message of the model says or calls, as one text."""
    calls = [f"{c.function.name}({c.function.arguments})" for c in message.tool_calls or []]
    text = "\n".join([*([message.content] if message.content else []), *calls])
    return text[:MOST_CHARACTERS] or "(nothing)"


def arguments(reply: Any) -> dict | None:
    """The arguments of the first tool call in a reply; None if there is none that is an object."""
    calls = reply.choices[0].message.tool_calls or []
    try:
        found = json.loads(calls[0].function.arguments) if calls else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
