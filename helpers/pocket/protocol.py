"""The part of OpenAI's chat protocol that the pocket server speaks, as pydantic models.

What would change an answer and cannot be done is refused with a reason, never dropped in silence.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

DEFAULT_MAX_TOKENS = 512


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TextPart(_Strict):
    type: Literal["text"]
    text: str


class Message(_Strict):
    role: Literal["system", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    @field_validator("role", mode="before")
    @classmethod
    def _no_tools_yet(cls, role: Any) -> Any:
        if role == "tool":
            raise ValueError("the pocket model does not support tools yet")
        return role

    @field_validator("content", mode="before")
    @classmethod
    def _no_pictures_yet(cls, content: Any) -> Any:
        parts = content if isinstance(content, list) else []
        if any(isinstance(part, dict) and part.get("type") == "image_url" for part in parts):
            raise ValueError("the pocket model does not support pictures yet")
        return content

    @property
    def text(self) -> str:
        """The message's text, its parts joined."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class StreamOptions(_Strict):
    include_usage: bool = False


class ResponseFormat(BaseModel):
    type: str


class ChatRequest(_Strict):
    """The body of `POST /v1/chat/completions`."""

    model: str
    messages: list[Message] = Field(min_length=1)
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] = 1
    response_format: ResponseFormat | None = None
    tools: list | None = None
    tool_choice: Literal["none", "auto"] | None = None
    user: str | None = None

    @field_validator("stop")
    @classmethod
    def _stops(cls, stop: str | list[str] | None) -> str | list[str] | None:
        stops = [stop] if isinstance(stop, str) else stop or []
        if len(stops) > 4 or "" in stops:
            raise ValueError("stop takes one to four strings, none of them empty")
        return stop

    @field_validator("tools")
    @classmethod
    def _no_tools(cls, tools: list | None) -> list | None:
        if tools:
            raise ValueError("the pocket model does not support tools yet")
        return tools

    @field_validator("response_format")
    @classmethod
    def _only_text(cls, response_format: ResponseFormat | None) -> ResponseFormat | None:
        if response_format and response_format.type != "text":
            raise ValueError("the pocket model does not support structured output yet")
        return response_format

    @model_validator(mode="after")
    def _order_of_roles(self) -> "ChatRequest":
        roles = [message.role for message in self.messages]
        turns = roles[1:] if roles[0] == "system" else roles
        if "system" in turns:
            raise ValueError("a system message may only stand first")
        wanted = ["user", "assistant"]
        if not turns or any(role != wanted[i % 2] for i, role in enumerate(turns)):
            raise ValueError(
                "after the system message, user and assistant take turns, the user first; "
                f"got {', '.join(roles)}"
            )
        if turns[-1] != "user":
            raise ValueError("the last message must be the user's: there is nothing to answer")
        return self

    @property
    def token_limit(self) -> int:
        """Most tokens to generate."""
        return self.max_completion_tokens or self.max_tokens or DEFAULT_MAX_TOKENS

    @property
    def stop_strings(self) -> list[str]:
        """The strings that end the answer, as a list."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


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
