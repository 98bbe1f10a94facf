"""Scripted servers that speak as Mistral AI, Together AI, Fireworks AI and Ollama do.

Each accepts only what its provider's documents describe. The pocket server answers, and the reply
gets the provider's form. So notebooks run against each without a key, a cost or a network. Every
reply has the header `X-Scripted-Server`, so that nobody takes it for the provider's.

The OpenAPI documents of Mistral AI and Together AI are not part of the kit. A test that asks for
one of these two servers is skipped without its document, and says so.
"""

import contextlib
import copy
import hashlib
import json
from functools import cache

import jsonschema
import pytest
import yaml
from jsonschema.exceptions import best_match

from helpers.paths import ROOT

CONTRACTS = ROOT.parent / "shared" / "contracts"
KEY = "scripted-server-key"
CREATED = 1_790_000_000
# What the pocket server takes; the rest is the provider's own.
PASSED_ON = (
    *("messages", "tools", "tool_choice", "parallel_tool_calls", "response_format"),
    *("temperature", "top_p", "max_tokens", "seed", "stop", "stream"),
)


# The parameters and the fields of a message in the types of Fireworks AI's Python package.
FIREWORKS_PARAMETERS = (
    "messages model context_length_exceeded_behavior echo echo_last frequency_penalty "
    "function_call functions ignore_eos logit_bias logprobs max_completion_tokens max_tokens "
    "metadata min_p mirostat_lr mirostat_target n parallel_tool_calls perf_metrics_in_response "
    "prediction presence_penalty prompt_cache_isolation_key prompt_cache_max_len "
    "prompt_truncate_len raw_output reasoning_effort repetition_penalty response_format "
    "return_token_ids seed speculation stop stream temperature tool_choice tools top_k "
    "top_logprobs top_p typical_p user"
)
FIREWORKS_MESSAGE = "role content reasoning_content tool_call_id tool_calls"


class Refusal(Exception):
    """A request is refused with this status and body."""

    def __init__(self, status: int, body: object, headers: dict | None = None):
        self.status, self.body, self.headers = status, body, headers or {}


@cache
def contract(name: str) -> dict:
    """A provider's OpenAPI document as JSON Schema 2020-12; skips the test if it is not here."""
    file = next(CONTRACTS.glob(f"{name}-openapi-*.yaml"), None)
    if file is None:
        pytest.skip(f"the OpenAPI document of {name} is not here: its server cannot be scripted")
    document = yaml.load(
        file.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    )
    return _with_null(document["components"])


def _with_null(node):
    """`nullable: true`, which is OpenAPI 3.0's, as JSON Schema has it."""
    if isinstance(node, list):
        return [_with_null(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: _with_null(value) for key, value in node.items()}
    return {"anyOf": [node, {"type": "null"}]} if node.pop("nullable", False) is True else node


class Dialect:
    """What the four servers have in common: OpenAI's protocol."""

    model: str
    key: str | None = KEY
    missing_model = 404
    vision = True
    usage_chunk = False  # the counts come in a chunk of their own, if they are asked for
    reasoning_field = "reasoning"

    def models(self) -> object:
        """The reply to `GET /models`."""
        entry = {"id": self.model, "object": "model", "created": CREATED}
        return {"object": "list", "data": [entry | {"owned_by": "scripted server"}]}

    def error(self, status: int, message: str) -> object:
        """The body of an error."""
        kind = "invalid_request_error" if status < 500 else "api_error"
        return {"error": {"message": message, "type": kind, "param": None, "code": None}}

    def refuse(self, status: int, message: str) -> Refusal:
        """An error that may be raised."""
        return Refusal(status, self.error(status, message))

    def check(self, body: dict) -> None:
        """Raise `Refusal` unless the documents allow this request."""

    def check_pictures(self, body: dict) -> None:
        """Raise `Refusal` if there is a picture and the default model is for text only."""
        contents = [message.get("content") for message in body["messages"]]
        parts = [part for content in contents if isinstance(content, list) for part in content]
        if not self.vision and any(part.get("type") == "image_url" for part in parts):
            raise self.refuse(400, f"{self.model} does not accept images")

    def __init__(self):
        self._pocket_ids: dict[str, str] = {}

    def call_id(self, pocket_id: str) -> str:
        """The provider's form of the id of a tool call."""
        return f"call_{hashlib.sha256(pocket_id.encode()).hexdigest()[:24]}"

    def request(self, body: dict) -> dict:
        """The request as the pocket server takes it."""
        sent = {name: body[name] for name in PASSED_ON if body.get(name) is not None}
        sent = copy.deepcopy(sent)
        for message in sent["messages"]:
            for holder in [message, *(message.get("tool_calls") or [])]:
                for name in {"id", "tool_call_id"} & set(holder):
                    holder[name] = self._pocket_ids.get(holder[name], holder[name])
        if sent.get("tool_choice") == "any":
            sent["tool_choice"] = "required"
        return sent | {"model": "pocket-small"}

    def message(self, message: dict, reasoning: str | None) -> dict:
        """The message of a whole reply."""
        thought = {self.reasoning_field: reasoning} if reasoning else {}
        calls = self.calls(message.get("tool_calls"))
        return {
            "role": "assistant", "content": message.get("content"), **thought,
            **({"tool_calls": calls} if calls else {}),
        }  # fmt: skip

    def calls(self, calls: list[dict] | None) -> list[dict]:
        """Tool calls in the provider's form."""
        self._pocket_ids |= {self.call_id(call["id"]): call["id"] for call in calls or []}
        return [
            {"index": number, "type": "function"} | call | {"id": self.call_id(call["id"])}
            for number, call in enumerate(calls or [])
        ]

    def finish_reason(self, reason: str, body: dict) -> str:
        """The provider's word for why an answer ended."""
        return reason

    def envelope(self, kind: str, choice: dict | None, usage: dict | None) -> dict:
        """A whole reply, or a chunk of a stream."""
        choices = [{"index": 0, **choice}] if choice else []
        counts = {"usage": usage} if usage else {}
        head = {"id": "scripted-1", "object": kind, "created": CREATED, "model": self.model}
        return {**head, "choices": choices, **counts}


class Mistral(Dialect):
    """Mistral AI, by its OpenAPI document. It takes no parameter that it does not know.

    The form of its errors is that of public reports: avante.nvim#2347, cline#9085.
    """

    model = "mistral-small-latest"
    missing_model = 400
    schema = "ChatCompletionRequest"

    def __init__(self):
        super().__init__()
        self.components = contract("mistral")
        # The document requires a field `data` in a chat reply, which it describes nowhere.
        reply = self.components["schemas"]["ChatCompletionResponse"]["allOf"][1]
        reply["required"] = [name for name in reply["required"] if name != "data"]

    def fits(self, body: object, name: str) -> None:
        """Hold a body against a schema of the document."""
        whole = {"$ref": f"#/components/schemas/{name}", "components": self.components}
        errors = jsonschema.Draft202012Validator(whole).iter_errors(body)
        if error := best_match(errors):
            raise error

    def models(self) -> object:
        able = {"completion_chat": True, "function_calling": True, "vision": True}
        card = super().models()["data"][0] | {"capabilities": able, "type": "base", "aliases": []}
        reply = {"object": "list", "data": [card]}
        self.fits(reply, "ModelList")
        return reply

    def error(self, status: int, message: object) -> object:
        kinds = {400: "invalid_model", 422: "invalid_request_error", 429: "rate_limited"}
        body = {"object": "error", "message": message, "type": kinds.get(status, "error")}
        return body | {"param": None, "code": "1300" if status == 429 else None}

    def check(self, body: dict) -> None:
        try:
            self.fits(body, self.schema)
        except jsonschema.ValidationError as error:
            raise self._invalid(error) from None
        for message in body["messages"]:
            for call in message.get("tool_calls") or []:
                if not (len(call["id"]) == 9 and call["id"].isalnum()):
                    raise self.refuse(
                        400,
                        f"Tool call id was {call['id']} but must be a-z, A-Z, 0-9, with a length "
                        "of 9.",
                    )

    def _invalid(self, error: jsonschema.ValidationError) -> Refusal:
        place, text, kind = ["body", *error.absolute_path], error.message, "value_error"
        if error.validator == "additionalProperties":
            place.append(min(set(error.instance) - set(error.schema["properties"])))
            text, kind = "Extra inputs are not permitted", "extra_forbidden"
        detail = [{"type": kind, "loc": place, "msg": text, "input": None}]
        self.fits({"detail": detail}, "HTTPValidationError")
        return Refusal(422, self.error(422, {"detail": detail}))

    def call_id(self, pocket_id: str) -> str:
        return pocket_id

    def request(self, body: dict) -> dict:
        body = copy.deepcopy(body)
        for message in body["messages"]:
            message.pop("prefix", None)
            for part in message["content"] if isinstance(message.get("content"), list) else []:
                if isinstance(part.get("image_url"), str):
                    part["image_url"] = {"url": part["image_url"]}
            for call in message.get("tool_calls") or []:
                if not isinstance(call["function"]["arguments"], str):
                    call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
        sent = super().request(body)
        return sent | ({"seed": body["random_seed"]} if body.get("random_seed") else {})

    def message(self, message: dict, reasoning: str | None) -> dict:
        answer = super().message(message, None)
        if reasoning:  # a list of parts instead of a string
            thought = {"type": "thinking", "thinking": [{"type": "text", "text": reasoning}]}
            answer["content"] = [thought, {"type": "text", "text": answer["content"] or ""}]
        return {"tool_calls": None, **answer, "prefix": False}

    def envelope(self, kind: str, choice: dict | None, usage: dict | None) -> dict:
        reply = super().envelope(kind, choice, usage)
        self.fits(*(
            (reply, "ChatCompletionResponse") if kind == "chat.completion"
            else ({"data": reply}, "CompletionEvent")
        ))  # fmt: skip
        return reply


class Together(Mistral):
    """Together AI, by its OpenAPI document. It names prices and sends its models as a bare list."""

    model = "mistralai/Mistral-Small-24B-Instruct-2501"
    missing_model = 404
    vision = False

    def __init__(self):
        Dialect.__init__(self)
        self.components = contract("together")
        schemas = self.components["schemas"]
        # The document has one schema for calls in replies, in messages and for `tool_choice`. It
        # requires what OpenAI's protocol has in streams only, and what a choice cannot have.
        schemas["ToolChoice"]["required"] = ["type", "function"]
        schemas["ToolChoice"]["properties"]["function"]["required"] = ["name"]

    def models(self) -> object:
        price = {"hourly": 0, "input": 0.8, "output": 0.8, "base": 0, "finetune": 0}
        entry = {"id": self.model, "object": "model", "created": CREATED, "type": "chat"}
        reply = [entry | {"organization": "scripted server", "pricing": price}]
        self.fits(reply, "ModelInfoList")
        return reply

    def error(self, status: int, message: str) -> object:
        reply = Dialect.error(self, status, message)
        self.fits(reply, "ErrorData")
        return reply

    def check(self, body: dict) -> None:
        try:
            self.fits(body, self.schema)
        except jsonschema.ValidationError as error:
            raise self.refuse(400, f"{error.json_path}: {error.message}") from None

    call_id = Dialect.call_id
    request = Dialect.request
    message = Dialect.message

    def finish_reason(self, reason: str, body: dict) -> str:
        return "eos" if reason == "stop" and not body.get("stop") else reason

    def envelope(self, kind: str, choice: dict | None, usage: dict | None) -> dict:
        reply = Dialect.envelope(self, kind, choice, usage)
        if kind == "chat.completion":
            reply["prompt"] = []
            self.fits(reply, "ChatCompletionResponse")
        else:
            self.fits({"data": reply}, "ChatCompletionEvent")
        return reply


class Fireworks(Dialect):
    """Fireworks AI, by its Python package's types and its page on OpenAI compatibility.

    It refuses parameters that it does not know (Flowise#2866) and more than 4096 tokens of a
    whole answer. A prompt that leaves too little room shortens `max_tokens`.
    """

    model = "accounts/fireworks/models/mistral-small-24b-instruct-2501"
    vision = False
    reasoning_field = "reasoning_content"

    def models(self) -> object:
        reply = super().models()
        reply["data"][0] |= {"supports_chat": True, "supports_tools": True, "context_length": 8192}
        return reply

    def check(self, body: dict) -> None:
        for fields, known in [
            (body, FIREWORKS_PARAMETERS.split()),
            *((message, FIREWORKS_MESSAGE.split()) for message in body["messages"]),
        ]:
            if extra := sorted(set(fields) - {*known}):
                message = f"Extra inputs are not permitted, field: '{extra[0]}'"
                raise self.refuse(400, message)
        if "max_tokens" in body and "max_completion_tokens" in body:
            raise self.refuse(400, "max_tokens and max_completion_tokens are one parameter")
        if not body.get("stream") and (body.get("max_tokens") or 0) > 4096:
            raise self.refuse(400, "Requests with max_tokens > 4096 must have stream=true")
        if not 0 <= (body.get("temperature") or 0) <= 2:
            raise self.refuse(400, "temperature is from 0 to 2")


class Ollama(Dialect):
    """Ollama, by its page on OpenAI compatibility and its public source (openai/openai.go).

    It ignores parameters that it does not know, `tool_choice` among them.
    """

    model = "mistral-small3.2"
    key = None
    usage_chunk = True

    def models(self) -> object:
        reply = super().models()
        reply["data"][0] |= {"id": f"{self.model}:latest", "owned_by": "library"}
        return reply

    def error(self, status: int, message: str) -> object:
        kinds = {400: "invalid_request_error", 404: "not_found_error"}
        error = {"message": message, "type": kinds.get(status, "api_error")}
        return {"error": error | {"param": None, "code": None}}

    def check(self, body: dict) -> None:
        if not body["messages"]:
            raise self.refuse(400, "[] is too short - 'messages'")
        for message in body["messages"]:
            content, calls = message.get("content"), message.get("tool_calls")
            if content is None and not calls:
                raise self.refuse(400, "invalid message content type: <nil>")
            for part in content if isinstance(content, list) else []:
                url = part.get("image_url")
                url = url.get("url") if isinstance(url, dict) else url
                kinds = ("jpeg", "jpg", "png", "webp")
                data_urls = tuple(f"data:image/{kind};base64," for kind in kinds)
                if part["type"] == "image_url" and not str(url).startswith(data_urls):
                    raise self.refuse(400, "invalid image input")
            for call in calls or []:
                with contextlib.suppress(ValueError):
                    if isinstance(json.loads(call["function"]["arguments"]), dict):
                        continue
                raise self.refuse(400, "invalid tool call arguments")

    def call_id(self, pocket_id: str) -> str:
        return f"call_{pocket_id.lower()[:8]}"

    def request(self, body: dict) -> dict:
        sent = super().request(body)
        sent.pop("tool_choice", None)
        sent["temperature"] = min(2.0, max(0.0, sent.get("temperature", 1.0)))
        return sent

    def message(self, message: dict, reasoning: str | None) -> dict:
        return super().message(message | {"content": message.get("content") or ""}, reasoning)

    def envelope(self, kind: str, choice: dict | None, usage: dict | None) -> dict:
        return super().envelope(kind, choice, usage) | {"system_fingerprint": "fp_ollama"}


DIALECTS = {
    "mistral": Mistral,
    "together": Together,
    "fireworks": Fireworks,
    "ollama": Ollama,
}
