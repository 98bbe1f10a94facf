"""Calling a model through OpenRouter: errors explained, retries, parsed answers, cost.

Everything works with a plain `openai.OpenAI` client, and with any server of the same protocol.
The statuses and their causes are those of OpenRouter's documentation.
"""

import contextlib
import difflib
import email.utils
import itertools
import math
import random
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import pydantic
import tenacity
from openai.types.chat import ChatCompletion

from helpers import prices
from helpers.replies import (
    NO_API,
    NOT_JSON,
    NoAnswer,
    as_no_answer,
    message,
    objects_in,
    server_message,
    text_of,
)
from helpers.replies import Streamed as Streamed
from helpers.replies import collect as collect

if TYPE_CHECKING:
    import pandas as pd

# What a status means, and what to do.
STATUSES: dict[int, tuple[str, str]] = {
    301: (
        "The address leads elsewhere: it has moved, or it asks for a login.",
        "Check the base URL (http or https, and its path).",
    ),
    400: (
        "The request itself is wrong: a parameter, the model's id, or a prompt that is too long.",
        "Read the server's message, correct the request, send it again.",
    ),
    401: (
        "The key is missing, mistyped, expired or withdrawn.",
        "Make or copy a key at https://openrouter.ai/settings/keys and set OPENROUTER_API_KEY.",
    ),
    402: (
        "No credits are left, or the key has reached its own limit.",
        "Buy credits, raise the key's limit, or ask for fewer tokens (max_tokens).",
    ),
    403: (
        "The input was flagged by moderation, or this key may not do that.",
        "Change the input, or choose a model without that moderation.",
    ),
    404: (
        "No provider offers this: the model with these parameters, or the address itself.",
        "Choose a model that supports the request, or use fewer features; check the base URL.",
    ),
    408: ("The request took too long to arrive or to be answered.", "Send it again."),
    409: ("The request conflicted with another one.", "Send it again."),
    413: ("The request has too many bytes.", "Make images smaller or shorten the text."),
    422: (
        "The request is well-formed, but a value in it cannot be used.",
        "Read the server's message, correct the request, send it again.",
    ),
    429: (
        "Too many requests, here or at the provider.",
        "Wait as long as Retry-After says, then send fewer requests at a time.",
    ),
    500: ("The server failed.", "Send it again; if the error stays, report the generation's id."),
    502: (
        "The provider failed or sent an invalid reply.",
        "Send it again; fallbacks to other providers are on by default.",
    ),
    503: (
        "No available provider meets the request's preferences.",
        "Wait, or ask for less: providers, max_price, parameters.",
    ),
    524: ("The provider took longer than the gateway waits.", "Send it again."),
    529: ("The provider is overloaded.", "Wait a little, then send it again."),
}

# The status for an error's kind, used if its code is not a number: OpenRouter's
# `metadata.error_type`, and the words of OpenAI's `code` and `type`.
ERROR_TYPES = {
    "authentication": 401,
    "invalid_api_key": 401,
    "payment_required": 402,
    "insufficient_quota": 402,
    "permission_denied": 403,
    "content_policy_violation": 403,
    "not_found": 404,
    "timeout": 408,
    "payload_too_large": 413,
    "unprocessable": 422,
    "rate_limit_exceeded": 429,
    "provider_overloaded": 503,
    "provider_unavailable": 503,
    "invalid_request": 400,
    "invalid_request_error": 400,
    "invalid_prompt": 400,
    "context_length_exceeded": 400,
}

JITTER_S = 0.5


class SchemaMismatch(ValueError):
    """An answer that does not fit the schema.

    Attributes:
        text: the answer as it arrived.
        problems: one line for each value that does not fit.
    """

    def __init__(self, text: str, problems: list[str]):
        super().__init__("The answer does not fit the schema: " + "; ".join(problems))
        self.text, self.problems = text, problems


@dataclass(frozen=True)
class Advice:
    """What an error means, from `explain`.

    Attributes:
        summary: what happened.
        retry: whether exactly the same request can succeed if it is sent again.
        action: what to do.
        code: the HTTP status, or the one that the error body names; None if there is none.
        server: the server's own message, with the provider's.
        retry_after_s: how long the server asks to wait, in seconds; None if it does not say.
    """

    summary: str
    retry: bool
    action: str
    code: int | None = None
    server: str = ""
    retry_after_s: float | None = None

    def __str__(self) -> str:
        head = f"{self.code}: {self.summary}" if self.code else self.summary
        quote = f'\n  the server: "{self.server}"' if self.server else ""
        retry = "sending it again may help" if self.retry else "sending it again cannot help"
        return f"{head}{quote}\n  retry: {retry}\n  to do: {self.action}"


def explain(error: Exception) -> Advice:
    """Say what an error of a request means, whether to retry, and what to do.

    Args:
        error: an exception of the openai client, `NoAnswer`, or `SchemaMismatch`. Other exceptions
            are named, with the advice not to retry.
    """
    if isinstance(error, NOT_JSON):
        error = as_no_answer(error)
    if isinstance(error, SchemaMismatch):
        action = "Ask again, more plainly or with a larger max_tokens; the text is in .text."
        return Advice(str(error), False, action)
    if isinstance(error, NoAnswer):
        if error.error.get("message") == NO_API:
            return Advice(NO_API, False, "Check the base URL; OpenRouter's ends in /api/v1.")
        return _by_code(error.error, str(error), None, "Accepted with status 200, then: ")
    if isinstance(error, openai.APITimeoutError):
        action = "Send it again, with a longer timeout if answers are long."
        return Advice("The answer did not come within the client's timeout.", True, action)
    if isinstance(error, (openai.APIConnectionError, httpx2.TransportError, ConnectionError)):
        action = "Check the address and the network; send it again."
        what = "No connection to the server, or it broke before the answer was complete."
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        return Advice(what + cause, True, action)
    if isinstance(error, openai.APIError):
        body = error.body if isinstance(error.body, dict) else {}
        if isinstance(error, openai.APIStatusError):
            retry_after_s = _retry_after(error.response.headers)
            body = body | {"code": error.status_code}
            return _by_code(body, server_message(error), retry_after_s)
        # An error in the middle of a stream has no status.
        return _by_code(body, server_message(error), None, "In the middle of the stream: ")
    return Advice(f"{type(error).__name__}: {error}", False, "This is not an error of the service.")


def _retry_after(headers: httpx2.Headers) -> float | None:
    """Retry-After, which is a number of seconds or a date (RFC 9110, 10.2.3), as seconds from now.

    Also OpenAI's form in milliseconds, which the openai client prefers too.
    """
    for name, divisor in (("retry-after-ms", 1000), ("retry-after", 1)):
        if (number := prices.amount(headers.get(name))) is not None:
            return number / divisor
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        date = email.utils.parsedate_to_datetime(headers.get("retry-after"))
        return max(0.0, date.timestamp() - time.time())
    return None


def _code(*named: object) -> int | None:
    """The first HTTP status among an error's codes and kinds; None if they name none."""
    for value in map(str, named):
        code = ERROR_TYPES.get(value) or (int(value) if re.fullmatch(r"[3-9]\d\d", value) else None)
        if code:
            return code
    return None


def _by_code(body: dict, server: str, retry_after_s: float | None, prefix: str = "") -> Advice:
    """The advice for an error body with a code; `prefix` says when the error came."""
    metadata = body.get("metadata")
    error_type = metadata.get("error_type") if isinstance(metadata, dict) else None
    named = _code(body.get("code"), error_type, body.get("type"))
    code = named or 502  # after a status 200 it was the provider that failed
    summary, action = STATUSES.get(code) or STATUSES[{3: 301, 4: 400}.get(code // 100, 500)]
    retry = code in (408, 409, 429) or code >= 500  # where the openai client retries by itself
    if code == 400 and "not a valid model" in server and (near := near_models(server.split()[0])):
        action = f"Did you mean {near[0]}? The ids are at https://openrouter.ai/models."
    if code == 400 and "context" in server.lower():
        action = "Shorten the messages, or choose a model with a longer context."
    return Advice(prefix + summary, retry, action, named, server, retry_after_s)


def near_models(name: str, known: Iterable[str] | None = None) -> list[str]:
    """The ids most similar to a wrong one, best first; from the price snapshot unless given."""
    ids = {model.split("/")[-1]: model for model in known or prices.priced_models()}
    return [ids[part] for part in difflib.get_close_matches(name.split("/")[-1], ids, 3, 0.4)]


def complete(
    client: openai.OpenAI,
    *,
    attempts: int = 4,
    total_s: float = 60.0,
    on_retry: Callable[[Advice, float], None] = lambda advice, pause_s: None,
    **request,
) -> ChatCompletion:
    """A chat completion that is retried while a retry can help, within a total time.

    The client's own retries know neither a total time nor an error inside a status 200, so they
    are switched off here. A pause lasts as long as Retry-After says; otherwise pauses double,
    beginning at half a second. Up to half a second of random jitter is added, so that many clients
    do not retry at the same moment. The server may still answer, and bill, an attempt that timed
    out.

    Args:
        attempts: the most requests to send.
        total_s: seconds after which nothing more is sent. No pause begins that would end later,
            and no read waits longer than what is left of them, or than a `timeout` in seconds.
        on_retry: called with the advice and the seconds before each pause.
        request: as for `client.chat.completions.create`, without `stream`.

    Raises:
        NoAnswer: status 200 without an answer, at the last attempt too.
        openai.APIError: that of the last attempt, or the first one that no retry can help.
        ValueError: `stream=True`.
    """
    if request.get("stream"):
        raise ValueError("complete reads whole answers; read the stream of `create` with collect")
    client = client.with_options(max_retries=0)
    deadline = time.monotonic() + total_s
    backoff = tenacity.wait_exponential(multiplier=0.5, max=8.0)
    headers = request.pop("extra_headers", None) or {}
    timeout = prices.amount(request.pop("timeout", None)) or math.inf
    numbers = itertools.count()

    def pause(state: tenacity.RetryCallState) -> float:
        retry_after_s = explain(state.outcome.exception()).retry_after_s
        pause_s = backoff(state) if retry_after_s is None else retry_after_s
        return pause_s + random.uniform(0, JITTER_S)

    def send() -> ChatCompletion:
        # The client's own retries tell the server how many there were; so do these.
        count = {"x-stainless-retry-count": str(next(numbers))}
        left = max(0.1, min(timeout, deadline - time.monotonic()))
        try:
            reply = client.chat.completions.create(
                timeout=left, extra_headers={**headers, **count}, **request
            )
        except NOT_JSON as error:
            raise as_no_answer(error) from error
        message(reply)
        return reply

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: explain(error).retry),
        stop=tenacity.stop_after_attempt(attempts) | tenacity.stop_before_delay(total_s),
        wait=pause,
        before_sleep=lambda state: on_retry(
            explain(state.outcome.exception()), state.upcoming_sleep
        ),
        reraise=True,
    )(send)


def parsed(reply: ChatCompletion, model: type[pydantic.BaseModel]) -> pydantic.BaseModel:
    """The answer as a pydantic object of the class `model`.

    Raises:
        NoAnswer: as for `message`.
        SchemaMismatch: the answer does not fit; it says what is missing or wrong.
    """
    text = text_of(message(reply).content)
    try:
        return model.model_validate_json(text)
    except pydantic.ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc'])) or 'the whole'}: {problem['msg']}"
            for problem in error.errors()
        ]
        if reply.choices[0].finish_reason == "length":
            problems.append("and it was cut off at max_tokens")
        raise SchemaMismatch(text, problems) from error


@dataclass(frozen=True)
class Estimate:
    """What a request will cost, before it is sent.

    Attributes:
        prompt_tokens: counted here, with the 24B's own vocabulary and 3.2's wire format.
        min_usd, max_usd: without any answer, and with the longest one.
    """

    prompt_tokens: int
    min_usd: float
    max_usd: float


def estimate_cost(
    messages: list[dict], model: str, *, max_tokens: int, tools: list[dict] | None = None
) -> Estimate:
    """Bounds of a request's cost, offline: tokens by Tekken, prices by `prices.price`.

    Raises:
        prices.BudgetError: there is no price for the model.
        ValueError: a picture is given by its address: only a data URL can be counted offline.
    """
    from helpers import wire  # a second, because of mistral_common

    per_input, per_output = prices.price(model)
    count = len(wire.encode(messages, tools))
    min_usd = count * per_input
    return Estimate(count, min_usd, min_usd + max_tokens * per_output)


def list_prices(client: openai.OpenAI, contains: str = "mistral-small") -> "pd.DataFrame":
    """Today's prices from the server's `/models`, in USD per million tokens.

    Args:
        contains: only models whose id contains this.

    Raises:
        NoAnswer: the address is not an API of OpenRouter's kind.
    """
    import pandas as pd

    rows = []
    for entry in objects_in(_get(client, "/models")):
        name, price = str(entry.get("id")), entry.get("pricing")
        if contains in name and isinstance(price, dict):
            # The server's prices are strings, in USD per token; -1 is a price that varies.
            usd = [prices.amount(price.get(side)) for side in ("prompt", "completion")]
            usd = [math.nan if each is None else each * 1e6 for each in usd]
            rows.append((name, *usd, entry.get("context_length")))
    return pd.DataFrame(rows, columns=["model", "input", "output", "context"]).set_index("model")


@dataclass(frozen=True)
class KeyStatus:
    """A key's spending and limits in USD; None where it has no limit. The key is left out."""

    usage: float | None
    limit: float | None
    limit_remaining: float | None
    is_free_tier: bool


def key_status(client: openai.OpenAI) -> KeyStatus:
    """What the client's key has spent and may still spend, from `/key`.

    Raises:
        openai.AuthenticationError: the key is not accepted.
        NoAnswer: the address is not an API of OpenRouter's kind.
    """
    data = _get(client, "/key")
    if not isinstance(data, dict):
        raise NoAnswer({"message": NO_API})
    return KeyStatus(**{name: data.get(name) for name in KeyStatus.__dataclass_fields__})


def _get(client: openai.OpenAI, path: str) -> Any:
    """The `data` of a GET request's reply."""
    try:
        reply = client.get(path, cast_to=object)
    except NOT_JSON as error:
        raise as_no_answer(error) from error
    if not isinstance(reply, dict) or "data" not in reply:
        raise NoAnswer({"message": NO_API})
    return reply["data"]
