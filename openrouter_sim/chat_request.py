"""The body of a chat request: what the gateway reads of it, and what the pocket server gets."""

import json
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError
from pydantic_core import from_json

from openrouter_sim.faults import Refusal
from pocket_model.server.errors import validation_error

# What the pocket server gets. The rest is dropped, as providers drop what they do not support.
FORWARDED_FIELDS = {
    *("messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop"),
    *("response_format", "tools", "tool_choice", "parallel_tool_calls"),
}

# What the gateway itself reads or may ignore; no provider receives it.
GATEWAY_FIELDS = {
    *("model", "models", "provider", "plugins", "route", "usage", "user", "stream"),
    *("stream_options", "metadata", "session_id", "transforms", "trace", "debug"),
}

INPUT_MODALITIES = {
    "image_url": "image",
    "input_audio": "audio",
    "input_video": "video",
    "video_url": "video",
}

Usd = Annotated[Decimal, Field(ge=0)]


class Routing(BaseModel):
    """The `provider` object of a request. As at OpenRouter, an unknown preference is refused.

    Attributes:
        max_price: USD per million tokens, by "prompt" and "completion".
    """

    model_config = ConfigDict(extra="forbid")

    order: list[str] | None = None
    only: list[str] | None = None
    ignore: list[str] | None = None
    allow_fallbacks: StrictBool | None = None
    require_parameters: StrictBool | None = None
    max_price: dict[str, Usd | None] | None = None
    # These have no effect: both simulated providers are alike.
    data_collection: Any = None
    enforce_distillable_text: Any = None
    zdr: Any = None
    quantizations: Any = None
    sort: Any = None
    preferred_max_latency: Any = None
    preferred_min_throughput: Any = None


class GatewayRequest(BaseModel):
    """What the gateway reads of a request, and all other fields that are not null."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    models: list[str] = []
    provider: Routing = Routing()
    stream: StrictBool = False
    tools: list[Any] = []
    messages: Any = None

    @property
    def input_modalities(self) -> set[str]:
        """What the messages contain beside text."""
        parts = [part for m in _dicts(self.messages) for part in _dicts(m.get("content"))]
        kinds = {str(part.get("type")) for part in parts}
        return {INPUT_MODALITIES[kind] for kind in kinds & set(INPUT_MODALITIES)}

    @property
    def unsupported(self) -> set[str]:
        """Parameters that no provider here knows."""
        return set(self.model_extra) - FORWARDED_FIELDS - GATEWAY_FIELDS

    def forwarded(self) -> dict:
        """The body for the pocket server, without its model."""
        return self.model_dump(include=FORWARDED_FIELDS, exclude_unset=True)


def read_request(data: bytes) -> GatewayRequest:
    """The request in a body. null is the same as nothing.

    Raises:
        Refusal: 400: it is no JSON object, or something that the gateway reads has a wrong type.
    """
    try:
        body = from_json(data.decode(json.detect_encoding(data)), allow_inf_nan=False)
    except ValueError as error:
        raise Refusal(400, f"The body is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise Refusal(400, 'The body must be a JSON object: {"model": …, "messages": …}.')
    try:
        given = {name: value for name, value in body.items() if value is not None}
        return GatewayRequest.model_validate(given)
    except ValidationError as error:
        raise Refusal(400, str(validation_error(error, body))) from error


def _dicts(value: Any) -> list[dict]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
