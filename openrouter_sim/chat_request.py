"""The body of a chat request: what the gateway reads of it, and what the pocket server gets."""

import json
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError

from openrouter_sim.faults import Refusal
from pocket_model.server.errors import validation_error

# What the pocket server gets. The rest is dropped, as providers drop what they do not support.
FORWARDED_FIELDS = (
    *("messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop"),
    *("response_format", "tools", "tool_choice", "parallel_tool_calls"),
)

# What the gateway itself reads or may ignore; no provider receives it.
GATEWAY_FIELDS = {
    *("model", "models", "provider", "plugins", "route", "usage", "user", "stream"),
    *("stream_options", "metadata", "session_id", "transforms", "trace", "debug"),
}

# Of a message, a part of its content and a tool: what the pocket server knows. OpenRouter's
# replies have more (`reasoning`, `images`, `refusal` …), and clients send these messages back.
MESSAGE_FIELDS = ("role", "content", "name", "tool_calls", "tool_call_id")
CALL_FIELDS, FUNCTION_FIELDS = ("id", "type", "function"), ("name", "arguments")
TOOL_FIELDS = ("name", "description", "parameters", "strict")

INPUT_MODALITIES = {
    "image_url": "image",
    "input_audio": "audio",
    "input_video": "video",
    "video_url": "video",
}

Usd = Annotated[Decimal, Field(ge=0)]


class MaxPrice(BaseModel):
    """The most that a provider may ask for, in USD per million tokens."""

    prompt: Usd | None = None
    completion: Usd | None = None


class Routing(BaseModel):
    """The `provider` object of a request. As at OpenRouter, an unknown preference is refused."""

    model_config = ConfigDict(extra="forbid")

    order: list[str] | None = None
    only: list[str] | None = None
    ignore: list[str] | None = None
    allow_fallbacks: StrictBool | None = None
    require_parameters: StrictBool | None = None
    max_price: MaxPrice | None = None
    # These have no effect: both simulated providers are alike.
    data_collection: Literal["deny", "allow"] | None = None
    enforce_distillable_text: StrictBool | None = None
    zdr: StrictBool | None = None
    quantizations: list[str] | None = None
    sort: str | dict[str, Any] | None = None
    preferred_max_latency: float | dict[str, Any] | None = None
    preferred_min_throughput: float | dict[str, Any] | None = None

    @property
    def max_prices(self) -> dict[str, Decimal]:
        """The limits that were given, by "prompt" and "completion"."""
        return self.max_price.model_dump(exclude_none=True) if self.max_price else {}


class Plugin(BaseModel):
    """An entry of `plugins`. No plugin has an effect here."""

    id: str


class GatewayRequest(BaseModel):
    """What the gateway reads of a request. null is the same as nothing."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    models: list[str] | None = None
    provider: Routing | None = None
    plugins: list[Plugin] | None = None
    transforms: list[str] | None = None
    stream: StrictBool | None = None
    tools: list[Any] | None = None
    messages: Any = None
    user: str | None = None
    session_id: Annotated[str, Field(max_length=256)] | None = None

    @cached_property
    def input_modalities(self) -> list[str]:
        """What the messages contain beside text."""
        messages = self.messages if isinstance(self.messages, list) else []
        contents = [m["content"] for m in messages if isinstance(m, dict) and "content" in m]
        parts = [part for parts in contents if isinstance(parts, list) for part in parts]
        kinds = [part.get("type") for part in parts if isinstance(part, dict)]
        known = [INPUT_MODALITIES[k] for k in kinds if isinstance(k, str) and k in INPUT_MODALITIES]
        return list(dict.fromkeys(known))

    @property
    def unsupported(self) -> set[str]:
        """Parameters that no provider here knows."""
        given = {name for name, value in (self.model_extra or {}).items() if value is not None}
        return given - set(FORWARDED_FIELDS) - GATEWAY_FIELDS

    def forwarded(self) -> dict:
        """The body for the pocket server, without its model."""
        body = {**(self.model_extra or {}), "messages": self.messages, "tools": self.tools}
        body = {name: body[name] for name in FORWARDED_FIELDS if body.get(name) is not None}
        if isinstance(self.messages, list):
            body["messages"] = [_known_message(message) for message in self.messages]
        if self.tools is not None:
            body["tools"] = [_known_tool(tool) for tool in self.tools]
        return body


def read_request(data: bytes) -> GatewayRequest:
    """The request in a body.

    Raises:
        Refusal: 400: it is no JSON object, or something that the gateway reads has a wrong type.
    """

    def no_number(name: str) -> None:
        raise ValueError(f"{name} is no number in JSON")

    try:
        body = json.loads(data, parse_constant=no_number)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"The body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise Refusal(400, 'The body must be a JSON object: {"model": …, "messages": …}.')
    try:
        return GatewayRequest.model_validate(body)
    except ValidationError as error:
        raise Refusal(400, str(validation_error(error, body))) from error


def _known(value: Any, names: tuple[str, ...]) -> Any:
    """An object's known fields; the pocket server says what is wrong with anything else."""
    if not isinstance(value, dict):
        return value
    return {name: value[name] for name in names if name in value}


def _known_message(message: Any) -> Any:
    message = _known(message, MESSAGE_FIELDS)
    if not isinstance(message, dict):
        return message
    if isinstance(message.get("content"), list):
        message["content"] = [_known_part(part) for part in message["content"]]
    if isinstance(message.get("tool_calls"), list):
        message["tool_calls"] = [_known_call(call) for call in message["tool_calls"]]
    return message


def _known_part(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    if part.get("type") == "text":
        return _known(part, ("type", "text"))
    if part.get("type") == "image_url":
        url = _known(part.get("image_url"), ("url",))
        return {"type": "image_url", "image_url": url}
    return part


def _known_call(call: Any) -> Any:
    call = _known(call, CALL_FIELDS)
    if isinstance(call, dict) and "function" in call:
        call["function"] = _known(call["function"], FUNCTION_FIELDS)
    return call


def _known_tool(tool: Any) -> Any:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        return tool
    return {"type": "function", "function": _known(tool.get("function"), TOOL_FIELDS)}
