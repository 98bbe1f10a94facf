"""Calling a model through OpenRouter: errors explained, retries, streams, parsed answers, cost.

Everything works with a plain `openai.OpenAI` client, and with any server of the same protocol.
The statuses and their causes are those of OpenRouter's documentation.
"""

import difflib
import email.utils
import itertools
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx2
import openai
import pydantic
import tenacity
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessage

from helpers import prices, wire

if TYPE_CHECKING:
    import pandas as pd

# What a status means, and what to do.
STATUSES: dict[int, tuple[str, str]] = {
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

# The status for an error body's `metadata.error_type`, used if its code is not a number.
ERROR_TYPES = {
    "authentication": 401,
    "payment_required": 402,
    "permission_denied": 403,
    "content_policy_violation": 403,
    "not_found": 404,
    "timeout": 408,
    "rate_limit_exceeded": 429,
    "provider_overloaded": 503,
    "invalid_request": 400,
    "context_length_exceeded": 400,
}

NO_API = "This address answers, but not as an API of this kind."
JITTER_S = 0.5


class NoAnswer(RuntimeError):
    """A reply of status 200 that contains an error, or something else, instead of choices.

    Attributes:
        error: the server's error object, {"code", "message", …}.
    """

    def __init__(self, error: dict):
        self.error = error if isinstance(error, dict) else {"message": str(error)}
        super().__init__(self.error.get("message", "no choices, and no error message"))


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
        code: the HTTP status, or the code in the error body; None if there is none.
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
    if isinstance(error, SchemaMismatch):
        action = "Ask again, more plainly or with a larger max_tokens; the text is in .text."
        return Advice(str(error), False, action)
    if isinstance(error, NoAnswer):
        if error.error.get("message") == NO_API:
            return Advice(NO_API, False, "Check the base URL; OpenRouter's ends in /api/v1.")
        return _by_code(error.error, None, "Accepted with status 200, then: ")
    if isinstance(error, openai.APITimeoutError):
        action = "Send it again, with a longer timeout if answers are long."
        return Advice("The answer did not come within the client's timeout.", True, action)
    if isinstance(error, (openai.APIConnectionError, httpx2.TransportError, ConnectionError)):
        action = "Check the address and the network; send it again."
        what = "No connection to the server, or it broke before the answer was complete."
        return Advice(what, True, action)
    if isinstance(error, openai.APIError):
        body = error.body if isinstance(error.body, dict) else {}
        body = {"message": error.message, **body}
        if isinstance(error, openai.APIStatusError):
            retry_after = error.response.headers.get("retry-after", "")
            return _by_code(body | {"code": error.status_code}, _seconds(retry_after))
        # An error in the middle of a stream has no status.
        return _by_code(body, None, "In the middle of the stream: ")
    return Advice(f"{type(error).__name__}: {error}", False, "This is not an error of the service.")


def _seconds(retry_after: str) -> float | None:
    """A Retry-After header, which is a number of seconds or a date, as seconds from now."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        date = email.utils.parsedate_to_datetime(retry_after)
    except (TypeError, ValueError):
        return None
    return max(0.0, date.timestamp() - time.time())


def _by_code(body: dict, retry_after_s: float | None, prefix: str = "") -> Advice:
    """The advice for an error body with a code; `prefix` says when the error came."""
    metadata = body.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {"raw": metadata}
    try:
        code = int(body.get("code"))  # a number, or a number as a string
    except (TypeError, ValueError):
        # A word, or nothing: after a status 200 it was the provider that failed.
        code = ERROR_TYPES.get(metadata.get("error_type"), 502)
    summary, action = STATUSES.get(code) or STATUSES[500 if code >= 500 else 400]
    retry = code in (408, 409, 429) or code >= 500  # where the openai client retries by itself
    messages = [str(body.get("message", "")), str(metadata.get("raw") or "")]
    server = " / ".join(filter(None, messages))
    if code == 400 and "not a valid model" in server and (near := near_models(server.split()[0])):
        action = f"Did you mean {near[0]}? The ids are at https://openrouter.ai/models."
    if code == 400 and "context" in server.lower():
        action = "Shorten the messages, or choose a model with a longer context."
    return Advice(prefix + summary, retry, action, code or None, server, retry_after_s)


def near_models(name: str, known: Iterable[str] | None = None) -> list[str]:
    """The ids most similar to a wrong one, best first; from the price snapshot unless given."""
    ids = {model.split("/")[-1]: model for model in known or prices.priced_models()}
    return [ids[part] for part in difflib.get_close_matches(name.split("/")[-1], ids, 3, 0.4)]


def message(reply: ChatCompletion | str) -> ChatCompletionMessage:
    """The message of a reply, checked before it is taken.

    Raises:
        NoAnswer: the reply has status 200 and an error instead of choices.
    """
    if isinstance(reply, str):  # what the client makes of a page that is not JSON
        raise NoAnswer({"message": NO_API})
    if not reply.choices:
        raise NoAnswer(getattr(reply, "error", None) or {})
    return reply.choices[0].message


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
            and no read waits longer than what is left of them.
        on_retry: called with the advice and the seconds before each pause.
        request: as for `client.chat.completions.create`, without `stream`.

    Raises:
        NoAnswer: status 200 with an error, at the last attempt too.
        openai.APIError: that of the last attempt, or the first one that no retry can help.
    """
    client = client.with_options(max_retries=0)
    deadline = time.monotonic() + total_s
    backoff = tenacity.wait_exponential(multiplier=0.5, max=8.0)
    headers = request.pop("extra_headers", {})
    numbers = itertools.count()

    def pause(state: tenacity.RetryCallState) -> float:
        retry_after_s = explain(state.outcome.exception()).retry_after_s
        pause_s = backoff(state) if retry_after_s is None else retry_after_s
        return pause_s + random.uniform(0, JITTER_S)

    def send() -> ChatCompletion:
        # The client's own retries tell the server how many there were; so do these.
        count = {"x-stainless-retry-count": str(next(numbers))}
        timeout = max(0.1, deadline - time.monotonic())
        reply = client.chat.completions.create(
            timeout=timeout, extra_headers={**headers, **count}, **request
        )
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


@dataclass
class Streamed:
    """What arrived of a stream, however it ended.

    Attributes:
        text: all the text that arrived.
        finish_reason: "stop", "length" …; None if the stream broke off.
        usage: the server's token counts and cost; None if they never came.
        error: what ended the stream early; None for a complete answer.
    """

    text: str = ""
    finish_reason: str | None = None
    usage: CompletionUsage | None = None
    error: Exception | None = None

    @property
    def complete(self) -> bool:
        """Whether the stream came to its end, be it the answer's own or that of `max_tokens`."""
        return self.error is None and self.finish_reason not in (None, "error")


def collect(
    stream: Iterable[ChatCompletionChunk],
    on_text: Callable[[str], None] = lambda text: None,
    result: Streamed | None = None,
) -> Streamed:
    """Read a stream to its end. After a failure, the result has the text before it and the error.

    A connection that closes too early ends the client's stream without any error: only the
    finish reason is missing. That is reported as a `ConnectionError` here.

    Args:
        stream: from `client.chat.completions.create(stream=True, …)`.
        on_text: called with each new piece of text.
        result: filled as the text arrives, so that the caller has the text after Ctrl-C too.
    """
    result = result or Streamed()
    chunks = iter(stream)
    while True:
        try:
            chunk = next(chunks)
        except StopIteration:
            break
        except Exception as error:  # the client does not wrap the transport's errors here
            result.error = error
            return result
        result.usage = chunk.usage or result.usage
        for choice in chunk.choices or []:
            result.finish_reason = choice.finish_reason or result.finish_reason
            if piece := choice.delta.content:
                result.text += piece
                on_text(piece)
    if result.finish_reason is None:
        result.error = ConnectionError("the stream ended without a finish reason: it was cut off")
    return result


def parsed(reply: ChatCompletion, model: type[pydantic.BaseModel]) -> pydantic.BaseModel:
    """The answer as a pydantic object of the class `model`.

    Raises:
        NoAnswer: as for `message`.
        SchemaMismatch: the answer does not fit; it says what is missing or wrong.
    """
    text = message(reply).content or ""
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
    """Bounds of a request's cost, offline: tokens by Tekken, prices from `data/prices.json`.

    Raises:
        prices.BudgetError: there is no price for the model.
    """
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
    for entry in _get(client, "/models"):
        if contains in entry["id"] and (price := entry.get("pricing")):
            # The server's prices are strings, in USD per token.
            usd = [float(price[side]) * 1e6 for side in ("prompt", "completion")]
            rows.append((entry["id"], *usd, entry.get("context_length")))
    return pd.DataFrame(rows, columns=["model", "input", "output", "context"]).set_index("model")


@dataclass(frozen=True)
class KeyStatus:
    """A key's spending and limits in USD; None where it has no limit. The key is left out."""

    usage: float
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
    return KeyStatus(data["usage"], data["limit"], data["limit_remaining"], data["is_free_tier"])


def _get(client: openai.OpenAI, path: str) -> dict | list[dict]:
    """The `data` of a GET request's reply."""
    reply = client.get(path, cast_to=object)
    if not isinstance(reply, dict) or "data" not in reply:
        raise NoAnswer({"message": NO_API})
    return reply["data"]
