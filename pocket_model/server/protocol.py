"""The part of OpenAI's chat protocol that the pocket server speaks, as pydantic models.

What would change an answer and cannot be done is refused with a reason, never dropped in silence.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

DEFAULT_MAX_TOKENS = 512


MAX_TOOLS = 64


ToolName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TextPart(_Strict):
    type: Literal["text"]
    text: str


class ImageUrl(_Strict):
    url: str
    # There is one resolution: 112 pixels at most.
    detail: Literal["auto"] | None = None


class ImagePart(_Strict):
    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class CalledFunction(_Strict):
    name: ToolName
    arguments: str

    @field_validator("arguments")
    @classmethod
    def _is_an_object(cls, arguments: str) -> str:
        try:
            parsed = json.loads(arguments)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"a tool call's arguments must be JSON: {error}") from error
        if not isinstance(parsed, dict):
            raise ValueError("a tool call's arguments must be a JSON object, such as {}")
        return arguments


class MessageToolCall(_Strict):
    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(_Strict):
    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[MessageToolCall] | None = None
    tool_call_id: str | None = None
    # What the openai client's own message carries along, always empty here.
    refusal: None = None
    annotations: None = None
    audio: None = None
    function_call: None = None

    @model_validator(mode="after")
    def _fits_its_role(self) -> "Message":
        role = self.role
        parts = self.content if isinstance(self.content, list) else []
        if role != "user" and any(isinstance(part, ImagePart) for part in parts):
            raise ValueError(f"only user messages may carry pictures, not those of {role}")
        if self.tool_calls and role != "assistant":
            raise ValueError(f"tool_calls belong to the assistant, not to {role}")
        if role == "tool" and self.tool_call_id is None:
            raise ValueError("a tool message needs the tool_call_id of the call that it answers")
        if role != "tool" and self.tool_call_id is not None:
            raise ValueError(f"tool_call_id belongs to the tool's message, not to {role}")
        if role == "assistant" and not self.content and not self.tool_calls:
            raise ValueError("the assistant's message is empty: it needs content or tool_calls")
        if role != "assistant" and self.content is None:
            raise ValueError(f"the message of {role} has no content")
        return self

    def as_dict(self, read_picture) -> dict:
        """The message as `ChatFormat.encode` takes it.

        Args:
            read_picture: turns an image URL into a PIL image; raises `ValueError`.
        """
        message = {"role": self.role, "content": self.content}
        if isinstance(self.content, list):
            message["content"] = [
                {"type": "text", "text": part.text}
                if isinstance(part, TextPart)
                else {"type": "image", "image": read_picture(part.image_url.url)}
                for part in self.content
            ]
        if self.tool_calls:
            message["tool_calls"] = [call.model_dump() for call in self.tool_calls]
        if self.role == "tool":
            message["tool_call_id"] = self.tool_call_id
        return message


class ToolFunction(_Strict):
    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None  # true or not, arguments fit the schema: see grammar.py

    @field_validator("parameters")
    @classmethod
    def _describes_an_object(cls, parameters: dict | None) -> dict | None:
        if parameters:
            _check_schema(parameters)
            if parameters.get("type", "object") != "object":
                raise ValueError('a tool\'s parameters are an object: {"type": "object", …}')
        return parameters


class ToolDefinition(_Strict):
    type: Literal["function"]
    function: ToolFunction


class ChosenFunction(_Strict):
    name: str


class NamedTool(_Strict):
    type: Literal["function"]
    function: ChosenFunction


class StreamOptions(_Strict):
    include_usage: bool = False


class TextFormat(_Strict):
    type: Literal["text"]


class JsonObjectFormat(_Strict):
    type: Literal["json_object"]


class NamedSchema(_Strict):
    name: str
    description: str | None = None
    wanted: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None  # true or not, the answer fits the schema

    @field_validator("wanted")
    @classmethod
    def _is_a_schema(cls, schema: dict) -> dict:
        _check_schema(schema)
        return schema


class JsonSchemaFormat(_Strict):
    type: Literal["json_schema"]
    json_schema: NamedSchema


def _check_schema(schema: dict) -> None:
    # Here, not above: mistral_common's import has prepared a quick one of jsonschema by now.
    from jsonschema import Draft202012Validator, SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        where = f" at {error.json_path}" if error.path else ""
        raise ValueError(f"not a JSON schema{where}: {error.message}") from error
    except RecursionError as error:
        raise ValueError("the JSON schema is nested too deeply") from error


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
    response_format: Annotated[
        TextFormat | JsonObjectFormat | JsonSchemaFormat | None, Field(discriminator="type")
    ] = None
    tools: list[ToolDefinition] | None = Field(default=None, max_length=MAX_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    user: str | None = None

    @field_validator("stop")
    @classmethod
    def _stops(cls, stop: str | list[str] | None) -> str | list[str] | None:
        stops = [stop] if isinstance(stop, str) else stop or []
        if len(stops) > 4 or "" in stops:
            raise ValueError("stop takes one to four strings, none of them empty")
        return stop

    @field_validator("messages")
    @classmethod
    def _begins_and_ends_with_a_question(cls, messages: list[Message]) -> list[Message]:
        # The rest of the order is mistral_common's to judge, but these it lets pass.
        turns = [message.role for message in messages if message.role != "system"]
        if not turns or turns[0] != "user":
            raise ValueError("after the system message, the user speaks first")
        if messages[-1].role not in ("user", "tool"):
            raise ValueError(
                "the last message must be the user's or a tool's: there is nothing to answer"
            )
        return messages

    @model_validator(mode="after")
    def _choices_can_be_met(self) -> "ChatRequest":
        names = [tool.function.name for tool in self.tools or []]
        if len(set(names)) < len(names):
            raise ValueError("tools: two tools have the same name")
        choice = self.tool_choice
        if isinstance(choice, NamedTool) and choice.function.name not in names:
            raise ValueError(
                f"tool_choice: {choice.function.name!r} is not among the tools ({names})"
            )
        if choice == "required" and not names:
            raise ValueError("tool_choice: a call is required, and there are no tools")
        if self.must_call and self.schema_wanted is not None:
            raise ValueError("response_format: the answer cannot be JSON when it must be a call")
        return self

    @property
    def token_limit(self) -> int:
        """Most tokens to generate."""
        return self.max_completion_tokens or self.max_tokens or DEFAULT_MAX_TOKENS

    @property
    def stop_strings(self) -> list[str]:
        """The strings that end the answer, as a list."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def must_call(self) -> bool:
        """Whether the answer must be a tool call."""
        return self.tool_choice == "required" or isinstance(self.tool_choice, NamedTool)

    @property
    def callable_functions(self) -> list[dict]:
        """The functions that may be called, as dicts."""
        if self.tool_choice == "none":
            return []
        functions = [tool.function.model_dump() for tool in self.tools or []]
        if isinstance(self.tool_choice, NamedTool):
            return [f for f in functions if f["name"] == self.tool_choice.function.name]
        return functions

    @property
    def schema_wanted(self) -> dict | None:
        """The JSON schema that the answer must fit, or None for text."""
        if isinstance(self.response_format, JsonObjectFormat):
            return {"type": "object"}
        if isinstance(self.response_format, JsonSchemaFormat):
            return self.response_format.json_schema.wanted
        return None

    @property
    def call_ids(self) -> set[str]:
        """The ids of the conversation's tool calls."""
        return {call.id for message in self.messages for call in message.tool_calls or []}
