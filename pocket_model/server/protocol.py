"""The part of OpenAI's chat protocol that the pocket server supports, as pydantic models.

A field that would change the answer and is not supported is refused with a reason, never ignored.
`parameters` has the fields that other servers know; `messages` has the messages.
"""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import from_json

from pocket_model.server.errors import ApiError, echo, validation_error
from pocket_model.server.messages import JsonObject, Message, ToolName, check_order, type_of
from pocket_model.server.parameters import supported
from pocket_model.server.schemas import check_schema

DEFAULT_MAX_TOKENS = 512
MAX_TOOLS = 128  # as OpenAI


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Says what is at fault, before the words of a ValueError."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {echo(value)}")
    return value


def _stops(stop: Any) -> list[str]:
    stops = stop if isinstance(stop, list) else [stop]
    if len(stops) > 4 or not all(isinstance(each, str) and each for each in stops):
        raise ValueError(
            f"must be a string or a list of up to 4 strings, none of them empty, not {echo(stop)}"
        )
    return stops


NUMBER = BeforeValidator(_number)


class Strict(JsonObject, extra="forbid"):
    """An object whose fields are all known here."""


class ToolFunction(Strict):
    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    @field_validator("parameters")
    @classmethod
    def _describes_an_object(cls, parameters: dict | None, info: ValidationInfo) -> dict | None:
        if parameters is None:
            return None
        with _named(f"the parameters of the tool {info.data.get('name')}"):
            check_schema(parameters)
            if parameters.get("type", "object") != "object":
                raise ValueError('must describe an object: {"type": "object", "properties": …}')
        return parameters


class ToolDefinition(Strict):
    type: Literal["function"] = "function"
    function: ToolFunction
    cache_control: Any = Field(default=None, exclude=True)  # only makes a request faster


class ChosenFunction(Strict):
    name: str


class NamedTool(Strict):
    type: Literal["function"] = "function"
    function: ChosenFunction


class StreamOptions(Strict):
    include_usage: bool = False
    include_obfuscation: bool = False  # of lengths, against listeners; there are none on loopback
    continuous_usage_stats: bool = False  # vLLM's: usage in every chunk


class SimpleFormat(Strict):
    type: Literal["text", "json_object"]


class NamedSchema(Strict):
    name: str
    description: str | None = None
    json_schema: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None  # the answer fits the schema in both cases

    @field_validator("json_schema")
    @classmethod
    def _is_a_schema(cls, schema: dict, info: ValidationInfo) -> dict:
        with _named(f"the schema {echo(info.data.get('name'))}"):
            return check_schema(schema)


class JsonSchemaFormat(Strict):
    type: Literal["json_schema"]
    json_schema: NamedSchema


def _kind_of_choice(choice: Any) -> str | None:
    return {str: "<word>", dict: "<named>", NamedTool: "<named>"}.get(type(choice))


def _kind_of_format(value: Any) -> str | None:
    kinds = {"json_schema": "<schema>", "text": "<simple>", "json_object": "<simple>"}
    return kinds.get(type_of(value))


def _choice_word(choice: Any) -> Any:
    return "required" if choice == "any" else choice  # Mistral's older word


# The tags are in brackets, so that they are no names of fields: see `validation_error`.
ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], BeforeValidator(_choice_word), Tag("<word>")]
    | Annotated[NamedTool, Tag("<named>")],
    Discriminator(
        _kind_of_choice,
        "choice",
        'must be "none", "auto", "required" or {"type": "function", "function": {"name": …}}',
    ),
]
ResponseFormat = Annotated[
    Annotated[SimpleFormat, Tag("<simple>")] | Annotated[JsonSchemaFormat, Tag("<schema>")],
    Discriminator(
        _kind_of_format,
        "format",
        'must be {"type": "text"}, {"type": "json_object"} or {"type": "json_schema", '
        '"json_schema": {"name": …, "schema": …}}',
    ),
]


class ChatRequest(Strict):
    """The body of `POST /v1/chat/completions`, without what `parameters.supported` drops."""

    model: str
    messages: list[Message] = Field(min_length=1, fail_fast=True)
    max_tokens: Annotated[int, Field(ge=1), NUMBER] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1), NUMBER] | None = None
    min_tokens: Annotated[int, Field(ge=0), NUMBER] = 0  # vLLM's, as the next
    ignore_eos: bool = False
    temperature: Annotated[float, Field(ge=0, le=2), NUMBER] | None = None
    top_p: Annotated[float, Field(gt=0, le=1), NUMBER] = 1.0
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63), NUMBER] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20), NUMBER] = 0
    stop: Annotated[list[str], BeforeValidator(_stops)] = Field(default=[], max_length=4)
    stream: bool = False
    stream_options: StreamOptions | None = None
    tools: list[ToolDefinition] | None = Field(default=None, max_length=MAX_TOOLS, fail_fast=True)
    tool_choice: ToolChoice | None = None
    response_format: ResponseFormat | None = None
    parallel_tool_calls: bool | None = None

    @field_validator("max_completion_tokens")
    @classmethod
    def _is_the_only_limit(cls, limit: int | None, info: ValidationInfo) -> int | None:
        other = info.data.get("max_tokens")
        if other not in (None, limit):
            raise ValueError(f"{echo(limit)} differs from max_tokens, {echo(other)}; send one")
        return limit

    @field_validator("min_tokens")
    @classmethod
    def _is_below_the_limit(cls, least: int, info: ValidationInfo) -> int:
        limit = info.data.get("max_completion_tokens") or info.data.get("max_tokens")
        if limit and least > limit:
            raise ValueError(f"{echo(least)} is more than the limit of {limit} tokens")
        return least

    @field_validator("top_logprobs")
    @classmethod
    def _is_beside_logprobs(cls, number: int, info: ValidationInfo) -> int:
        if number and not info.data.get("logprobs"):
            raise ValueError(f"{echo(number)} has no effect without logprobs: send logprobs=true")
        return number

    @field_validator("tools")
    @classmethod
    def _have_names_of_their_own(cls, tools: list[ToolDefinition]) -> list[ToolDefinition]:
        names = Counter(tool.function.name for tool in tools or [])
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"two tools have the same name, {twice[0]}")
        return tools

    @field_validator("tool_choice")
    @classmethod
    def _is_a_tool(cls, choice: str | NamedTool, info: ValidationInfo) -> str | NamedTool:
        names = [tool.function.name for tool in info.data.get("tools") or []]
        if choice == "required" and not names:
            raise ValueError("a call is required, but there are no tools")
        if isinstance(choice, NamedTool) and choice.function.name not in names:
            name = echo(choice.function.name)
            raise ValueError(f"{name} is not one of the tools: {echo(names)}")
        return choice

    @field_validator("response_format")
    @classmethod
    def _is_possible(cls, value: Any, info: ValidationInfo) -> Any:
        choice = info.data.get("tool_choice")
        must_call = choice == "required" or isinstance(choice, NamedTool)
        if must_call and value != SimpleFormat(type="text"):
            raise ValueError("the answer cannot be JSON when it must be a call; see tool_choice")
        return value

    @property
    def token_limit(self) -> int:
        """Limit of generated tokens."""
        limit = self.max_completion_tokens or self.max_tokens
        return limit or max(DEFAULT_MAX_TOKENS, self.min_tokens)

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
        return {call.id for message in self.messages for call in message.tool_calls}

    @property
    def prefix(self) -> str:
        """What the answer begins with: text that the client wrote, or ""."""
        # Blanks at its end are not in the prompt: the answer's first token brings its own.
        return self.messages[-1].text.rstrip(" ") if self.messages[-1].prefix else ""

    @property
    def prompt_characters(self) -> int:
        """Characters of the texts in the prompt; no prompt has fewer tokens than they fill."""
        calls = [call for message in self.messages for call in message.tool_calls]
        texts = sum(message.text_length for message in self.messages)
        arguments = sum(len(call.function.arguments) for call in calls)
        return texts + arguments + len(json.dumps(self.prompt_tools, ensure_ascii=False))


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
    return to_request(body)


def to_request(body: dict[str, Any]) -> ChatRequest:
    """The request in the body of `POST /v1/chat/completions`, parsed. Raises `ApiError`."""
    try:
        request = ChatRequest.model_validate(supported(body))
    except ValidationError as error:
        raise validation_error(error, body) from error
    check_order(request.messages)
    if request.prefix and (request.json_schema or request.must_call):
        message = "prefix: what must be JSON or a call cannot begin with a text of yours"
        raise ApiError(400, message, "messages")
    return request
