"""The part of OpenAI's chat protocol that the pocket server supports, as pydantic models.

A field that would change the answer and is not supported is refused with a reason, never ignored.
"""

import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

from jsonschema import Draft202012Validator, SchemaError
from PIL import Image
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import from_json

from pocket_model.server.errors import ApiError, validation_error

DEFAULT_MAX_TOKENS = 512
MAX_TOOLS = 64


def _check_schema(schema: dict) -> dict:
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        where = f" at {error.json_path}" if error.path else ""
        raise ValueError(f"not a JSON schema{where}: {error.message}") from error
    except RecursionError as error:
        raise ValueError("the JSON schema is nested too deeply") from error
    return schema


ToolName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
# A string, a list or null, as OpenAI has it.
Stops = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    Field(max_length=4),
    BeforeValidator(lambda stop: [stop] if isinstance(stop, str) else stop or []),
]
Schema = Annotated[dict[str, Any], AfterValidator(_check_schema)]


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
    content: str | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]] | None = None
    name: str | None = None
    tool_calls: list[MessageToolCall] | None = None
    tool_call_id: str | None = None
    # Fields of the openai client's own message class; the model has nothing to put there.
    refusal: None = None
    annotations: None = None
    audio: None = None
    function_call: None = None

    @model_validator(mode="after")
    def _fits_its_role(self) -> "Message":
        role = self.role
        parts = self.content if isinstance(self.content, list) else []
        if role != "user" and any(isinstance(part, ImagePart) for part in parts):
            raise ValueError(f"only user messages may contain pictures, not {role} messages")
        if self.tool_calls and role != "assistant":
            raise ValueError(f"only assistant messages may have tool_calls, not {role} messages")
        if role == "tool" and self.tool_call_id is None:
            raise ValueError("a tool message needs the tool_call_id of the call that it answers")
        if role != "tool" and self.tool_call_id is not None:
            raise ValueError(f"only tool messages may have a tool_call_id, not {role} messages")
        if role == "assistant" and not self.content and not self.tool_calls:
            raise ValueError("the assistant message is empty: it needs content or tool_calls")
        if role != "assistant" and self.content is None:
            raise ValueError(f"the {role} message has no content")
        return self

    def as_dict(self, read_picture: Callable[[str], Image.Image]) -> dict:
        """The message in the form that `ChatFormat.encode` takes.

        Args:
            read_picture: returns the picture of a data URL.
        """
        message = self.model_dump(exclude_none=True)
        if isinstance(self.content, list):
            message["content"] = [
                part.model_dump()
                if isinstance(part, TextPart)
                else {"type": "image", "image": read_picture(part.image_url.url)}
                for part in self.content
            ]
        return message


class ToolFunction(_Strict):
    name: ToolName
    description: str | None = None
    parameters: Schema | None = None
    strict: bool | None = None  # arguments fit the schema in both cases: see `grammar`

    @field_validator("parameters")
    @classmethod
    def _describes_an_object(cls, parameters: dict | None) -> dict | None:
        if parameters and parameters.get("type", "object") != "object":
            raise ValueError('a tool\'s parameters must be an object: {"type": "object", …}')
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


class SimpleFormat(_Strict):
    type: Literal["text", "json_object"]


class NamedSchema(_Strict):
    name: str
    description: str | None = None
    json_schema: Schema = Field(alias="schema")
    strict: bool | None = None  # the answer fits the schema in both cases


class JsonSchemaFormat(_Strict):
    type: Literal["json_schema"]
    json_schema: NamedSchema


class ChatRequest(_Strict):
    """The body of `POST /v1/chat/completions`."""

    model: str
    messages: list[Message] = Field(min_length=1)
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stops = []
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] = 1
    response_format: Annotated[
        SimpleFormat | JsonSchemaFormat | None, Field(discriminator="type")
    ] = None
    tools: list[ToolDefinition] | None = Field(default=None, max_length=MAX_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    user: str | None = None

    @field_validator("messages")
    @classmethod
    def _has_a_question(cls, messages: list[Message]) -> list[Message]:
        # mistral_common checks the order of roles, except for these two rules.
        roles = [message.role for message in messages if message.role != "system"]
        if not roles or roles[0] != "user":
            raise ValueError("after the system message, the user speaks first")
        if messages[-1].role not in ("user", "tool"):
            raise ValueError("the last message must be a user or tool message, to be answered")
        return messages

    @model_validator(mode="after")
    def _tools_are_consistent(self) -> "ChatRequest":
        names = [tool.function.name for tool in self.tools or []]
        if len(set(names)) < len(names):
            raise ValueError("tools: two tools have the same name")
        choice = self.tool_choice
        if isinstance(choice, NamedTool) and choice.function.name not in names:
            raise ValueError(
                f"tool_choice: {choice.function.name!r} is not one of the tools ({names})"
            )
        if choice == "required" and not names:
            raise ValueError("tool_choice: a call is required, but there are no tools")
        if self.must_call and self.json_schema is not None:
            raise ValueError("response_format: the answer cannot be JSON when it must be a call")
        return self

    @property
    def token_limit(self) -> int:
        """Limit of generated tokens."""
        return self.max_completion_tokens or self.max_tokens or DEFAULT_MAX_TOKENS

    @property
    def must_call(self) -> bool:
        """Whether the answer must be a tool call."""
        return self.tool_choice == "required" or isinstance(self.tool_choice, NamedTool)

    @property
    def prompt_tools(self) -> list[dict]:
        """The tools that the prompt lists.

        There are none if no call is allowed: a model that sees tools would write a call as text.
        """
        tools = [] if self.tool_choice == "none" else self.tools or []
        return [tool.model_dump() for tool in tools]

    @property
    def callable_functions(self) -> list[dict]:
        """The functions that may be called."""
        functions = [tool["function"] for tool in self.prompt_tools]
        if isinstance(self.tool_choice, NamedTool):
            return [f for f in functions if f["name"] == self.tool_choice.function.name]
        return functions

    @property
    def json_schema(self) -> dict | None:
        """The JSON schema that the answer must fit, or None for text."""
        match self.response_format:
            case JsonSchemaFormat():
                return self.response_format.json_schema.json_schema
            case SimpleFormat(type="json_object"):
                return {"type": "object"}
        return None

    @property
    def call_ids(self) -> set[str]:
        """The ids of the conversation's tool calls."""
        return {call.id for message in self.messages for call in message.tool_calls or []}


def read_request(data: bytes) -> ChatRequest:
    """The request in the body of `POST /v1/chat/completions`.

    Raises:
        ApiError: 400: it is no JSON, no object, or asks for what this server cannot do.
    """
    try:
        # RFC 8259 asks for UTF-8. Some programs on Windows send UTF-16, or begin with a mark.
        text = data.decode(json.detect_encoding(data))
    except UnicodeDecodeError as error:
        message = (
            f"The body is not UTF-8: {error.reason} at byte {error.start}. Encode it as UTF-8."
        )
        raise ApiError(400, message) from error
    try:
        body = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"The body is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise ApiError(400, 'The body must be a JSON object: {"model": …, "messages": …}.')
    try:
        return ChatRequest.model_validate(body)
    except ValidationError as error:
        raise validation_error(error, body) from error
