"""The messages of a chat request, as pydantic models, and the order that Mistral's format wants.

Unknown fields of a message are ignored, so that clients can send back the messages of a reply with
whatever they or their server added. `function_call` would change the prompt; it is refused.
"""

import json
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, NoReturn

from PIL import Image
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from pocket_model.pictures import ImageError
from pocket_model.server.errors import ApiError, echo

TEXT_OR_PICTURE = (
    'must be {"type": "text", "text": …} or {"type": "image_url", "image_url": {"url": …}}: the '
    "model reads text and pictures, but no sound and no files"
)


class JsonObject(BaseModel):
    """An object in a request. null means that a value is not given, as in OpenAI's reference."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {name: value for name, value in data.items() if value is not None}
        return data


class TextPart(JsonObject):
    type: Literal["text"]
    text: str

    @model_validator(mode="before")
    @classmethod
    def _refusal_is_text(cls, data: Any) -> Any:
        # OpenAI's part for what a model said instead of an answer; vLLM reads it so too.
        if isinstance(data, dict) and data.get("type") == "refusal":
            return {"type": "text", "text": data.get("refusal")}
        return data


class ImageUrl(JsonObject, extra="forbid"):
    url: str
    # All mean the same: there is one resolution.
    detail: Literal["auto", "low", "high", "original"] | None = None


class ImagePart(JsonObject):
    type: Literal["image_url"]
    # Mistral's client sends the address alone.
    image_url: Annotated[
        ImageUrl, BeforeValidator(lambda url: {"url": url} if isinstance(url, str) else url)
    ]


def type_of(value: Any) -> str:
    """The `type` of an object as it was sent, or of its model; "" if there is none."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return kind if isinstance(kind, str) else ""


def _kind_of_part(part: Any) -> str | None:
    kinds = {"text": "<text>", "refusal": "<text>", "image_url": "<picture>"}
    return kinds.get(type_of(part))


def _kind_of_content(content: Any) -> str | None:
    return {str: "<text>", list: "<parts>"}.get(type(content))


# The tags are in brackets, so that they are no names of fields: see `validation_error`.
Part = Annotated[
    Annotated[TextPart, Tag("<text>")] | Annotated[ImagePart, Tag("<picture>")],
    Discriminator(_kind_of_part, "part", TEXT_OR_PICTURE),
]
Content = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[Part], Field(fail_fast=True), Tag("<parts>")],
    Discriminator(_kind_of_content, "content", "must be a string or a list of parts"),
]


def _arguments(arguments: Any) -> Any:
    """A call's arguments as the prompt has them.

    Clients send "" or an object too, and what a model wrote, which may be cut or no JSON:
    "the model does not always generate valid JSON", OpenAI's reference says. mistral_common puts
    that into the prompt as a JSON string.
    """
    if isinstance(arguments, str) and not arguments.strip():
        return "{}"
    if isinstance(arguments, dict):
        return json.dumps(arguments, ensure_ascii=False)
    try:
        json.loads(arguments)
    except (json.JSONDecodeError, TypeError):
        return arguments
    except (ValueError, RecursionError) as error:
        raise ValueError(
            "the arguments are nested too deeply, or have a number of too many digits"
        ) from error
    return arguments


def _call_id(call_id: str) -> str:
    if not re.fullmatch("[a-zA-Z0-9]{9}", call_id):
        raise ValueError(
            f"must be nine letters or digits, as Mistral's format has it, not {echo(call_id)}. "
            "Shorten it here and in the tool message that answers the call"
        )
    return call_id


def _tool_name(name: str) -> str:
    if not re.fullmatch("[a-zA-Z0-9_-]{1,64}", name):
        raise ValueError(f'must be 1 to 64 letters, digits, "_" or "-", not {echo(name)}')
    return name


ToolName = Annotated[str, AfterValidator(_tool_name)]


class CalledFunction(JsonObject):
    name: ToolName
    arguments: Annotated[str, BeforeValidator(_arguments)] = "{}"


class MessageToolCall(JsonObject):
    id: Annotated[str, AfterValidator(_call_id)]
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(JsonObject):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    tool_calls: list[MessageToolCall] = Field(default=[], fail_fast=True)
    tool_call_id: str | None = None
    # What the model said instead of an answer.
    refusal: str | None = None
    # Mistral's: the answer begins with this last message's text, and goes on from there.
    prefix: bool = False

    @model_validator(mode="before")
    @classmethod
    def _has_nothing_that_would_be_lost(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("function_call") is not None:
            raise ValueError("function_call is deprecated; send the call in tool_calls")
        return data

    @model_validator(mode="after")
    def _fits_its_role(self) -> "Message":
        if self.role == "developer":  # OpenAI's newer name
            self.role = "system"
        if self.role == "assistant" and not self.text_length:
            self.content = self.refusal or self.content
        role = self.role
        if role != "user" and any(isinstance(part, ImagePart) for part in self._parts):
            raise ValueError(f"only user messages may contain pictures, not {role} messages")
        if self.tool_calls and role != "assistant":
            raise ValueError(f"only assistant messages may have tool_calls, not {role} messages")
        if role == "tool" and self.tool_call_id is None:
            raise ValueError("a tool message needs the tool_call_id of the call that it answers")
        if role != "tool" and self.tool_call_id is not None:
            raise ValueError(f"only tool messages may have a tool_call_id, not {role} messages")
        if role == "assistant" and not self.text_length and not self.tool_calls:
            raise ValueError(
                "the assistant message is empty, which Mistral's format does not have: it needs "
                "content or tool_calls. Leave the message out"
            )
        if self.prefix and (role != "assistant" or self.tool_calls):
            raise ValueError(
                "prefix: only the text of an assistant message can be the answer's beginning"
            )
        if role != "assistant" and self.content is None:
            raise ValueError(f'the {role} message has no content; send "" if it is empty')
        return self

    @property
    def _parts(self) -> list[TextPart | ImagePart]:
        return self.content if isinstance(self.content, list) else []

    @property
    def text(self) -> str:
        """The content's text."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self._parts if isinstance(part, TextPart))

    @property
    def text_length(self) -> int:
        """Characters of it."""
        return len(self.text)

    def as_dict(self, read_picture: Callable[[str], Image.Image]) -> dict:
        """The message in the form that `ChatFormat.encode` takes.

        Args:
            read_picture: returns the picture of a data URL.

        Raises:
            ImageError: by `read_picture`; the message begins with the part's place.
        """
        fields = {"role", "content", "tool_calls", "tool_call_id"}
        if self.prefix:
            fields.add("prefix")
        message = self.model_dump(include=fields, exclude_none=True)
        for number, part in enumerate(self._parts):
            if isinstance(part, ImagePart):
                try:
                    picture = read_picture(part.image_url.url)
                except ImageError as error:
                    raise ImageError(f"content.{number}: {error}") from error
                message["content"][number] = {"type": "image", "image": picture}
        return message


def check_order(messages: list[Message]) -> None:
    """Refuse an order of messages that Mistral's format does not have.

    mistral_common has these rules, but its errors do not say which message is meant.

    Raises:
        ApiError: the rule, and the message that breaks it.
    """

    def refuse(number: int, fault: str) -> NoReturn:
        where = f"messages.{number}"
        raise ApiError(400, f"{where}: {fault}", where)

    unanswered: dict[str, None] = {}  # a set of ids, in the order of the calls
    previous = None
    for number, message in enumerate(messages):
        if message.role == "tool":
            if message.tool_call_id not in unanswered:
                refuse(
                    number,
                    f"no call waits for a result with the id {echo(message.tool_call_id)}. A tool "
                    "message answers a call of the last assistant message, each call once",
                )
            del unanswered[message.tool_call_id]
        elif unanswered:
            refuse(
                number,
                f"the call {next(iter(unanswered))} has no result yet. Send a tool message for "
                "each call before the conversation goes on",
            )
        elif message.role == "system" and previous in ("assistant", "tool"):
            refuse(
                number,
                f"a system message cannot follow a message of the role {previous}. This is a rule "
                "of Mistral's format, not of OpenAI's. Put it first, or after a user message",
            )
        elif message.prefix and number < len(messages) - 1:
            refuse(number, "prefix: only the last message can be the answer's beginning")
        elif number == 0 and message.tool_calls:
            refuse(number, "a conversation cannot begin with a call. Put a user message first")
        unanswered |= dict.fromkeys(call.id for call in message.tool_calls)
        if len(unanswered) < len(message.tool_calls):
            refuse(number, "two calls have the same id. Give each its own")
        previous = message.role
    if unanswered:
        refuse(
            number,
            f"the call {next(iter(unanswered))} has no result. Send a tool message for each call",
        )
    if previous not in ("user", "tool") and not message.prefix:
        refuse(
            number,
            f"the last message must be a user or tool message, to be answered, not {previous}. "
            "This is a rule of Mistral's format, not of OpenAI's. To have an assistant message "
            'continued, add "prefix": true to it',
        )
