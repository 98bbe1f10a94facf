"""Calling a model through OpenRouter: errors explained, retries, streams that lose nothing, cost.

Everything works on a plain `openai.OpenAI` client, and on any server that speaks the protocol.
The statuses and their causes are those of OpenRouter's documentation.
"""

import difflib
import email.utils
import itertools
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import httpx2
import openai
import pydantic
import tenacity

from helpers import prices, wire

# What a status means, whether the very same request may succeed later, and what to do.
STATUSES: dict[int, tuple[str, bool, str]] = {
    400: (
        "The request itself is wrong: a parameter, the model's id, or a prompt that is too long.",
        False,
        "Read the server's words, mend the request, send it again.",
    ),
    401: (
        "The key is missing, mistyped, expired or withdrawn.",
        False,
        "Make or copy a key at https://openrouter.ai/settings/keys and set OPENROUTER_API_KEY.",
    ),
    402: (
        "No credits are left, or the key has reached its own limit.",
        False,
        "Buy credits, raise the key's limit, or ask for fewer tokens (max_tokens).",
    ),
    403: (
        "The input was flagged by moderation, or this key may not do that.",
        False,
        "Change the input, or choose a model without that moderation.",
    ),
    404: (
        "No provider offers this: the model with these parameters, or the address itself.",
        False,
        "Choose a model that supports what you ask for, or ask for less; check the base URL.",
    ),
    408: ("The request took too long to arrive or to be answered.", True, "Send it again."),
    409: ("The request met another one.", True, "Send it again."),
    413: ("The request has too many bytes.", False, "Scale pictures down or shorten the text."),
    422: (
        "The request is well-formed, but a value in it cannot be used.",
        False,
        "Read the server's words, mend the request, send it again.",
    ),
    429: (
        "Too many requests, here or at the provider.",
        True,
        "Wait as long as Retry-After says, then go on with fewer requests at a time.",
    ),
    500: ("The server failed.", True, "Send it again; if it stays, report the generation's id."),
    502: (
        "The provider failed or sent nonsense.",
        True,
        "Send it again; fallbacks to other providers are on by default.",
    ),
    503: (
        "No provider is available that meets the request's wishes.",
        True,
        "Wait, or wish for less: providers, max_price, parameters.",
    ),
    524: ("The provider took longer than the gateway waits.", True, "Send it again."),
    529: ("The provider is overloaded.", True, "Wait a little, then send it again."),
}


# What an error body's `metadata.error_type` means, where its code is no number.
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


class NoAnswer(RuntimeError):
    """A reply of status 200 that holds an error, or something else, instead of choices.

    Attributes:
        error: the server's error object, {"code", "message", …}.
    """

    def __init__(self, error: dict):
        self.error = error if isinstance(error, dict) else {"message": str(error)}
        super().__init__(self.error.get("message", "no choices, and no reason for it"))


class SchemaMismatch(ValueError):
    """An answer that does not fit the schema.

    Attributes:
        text: the answer as it came.
        problems: one line for each place that does not fit.
    """

    def __init__(self, text: str, problems: list[str]):
        super().__init__("The answer does not fit the schema: " + "; ".join(problems))
        self.text, self.problems = text, problems


@dataclass(frozen=True)
class Advice:
    """What `explain` found.

    Attributes:
        what: what happened.
        retry: whether the very same request may succeed if it is sent again.
        todo: what to do.
        code: the HTTP status, or the code that the error body names; None without one.
        server: the server's own words, the provider's among them.
        retry_after_s: how long the server asks to wait, in seconds; None if it does not say.
    """

    what: str
    retry: bool
    todo: str
    code: int | None = None
    server: str = ""
    retry_after_s: float | None = None

    def __str__(self) -> str:
        head = f"{self.code}: {self.what}" if self.code else self.what
        again = "sending it again may help" if self.retry else "sending it again cannot help"
        words = f'\n  the server: "{self.server}"' if self.server else ""
        return f"{head}{words}\n  retry: {again}\n  to do: {self.todo}"


def explain(error: Exception) -> Advice:
    """Say what an error of a request means, whether to retry, and what to do.

    Args:
        error: what the openai client raised, `NoAnswer`, or `SchemaMismatch`. Errors of other
            kinds are named and not to be retried.
    """
    if isinstance(error, SchemaMismatch):
        todo = "Ask again, more plainly or with a larger max_tokens; the text is in .text."
        return Advice(str(error), False, todo)
    if isinstance(error, NoAnswer):
        if error.error.get("message") == NO_API:
            return Advice(NO_API, False, "Check the base URL; OpenRouter's ends in /api/v1.")
        return _by_code(error.error, None, "Accepted with status 200, then: ")
    if isinstance(error, openai.APITimeoutError):
        todo = "Send it again, with a longer timeout if answers are long."
        return Advice("The answer did not come within the client's timeout.", True, todo)
    if isinstance(error, openai.APIStatusError):
        body = error.body if isinstance(error.body, dict) else {}
        waits = error.response.headers.get("retry-after", "")
        body = {"message": error.message, **body, "code": error.status_code}
        return _by_code(body, _seconds(waits))
    broken = (openai.APIConnectionError, httpx2.TransportError, ConnectionError)
    if isinstance(error, broken):
        todo = "Check the address and the network; send it again."
        return Advice("No connection to the server, or it broke.", True, todo)
    if isinstance(error, openai.APIError):  # an error in the middle of a stream has no status
        body = error.body if isinstance(error.body, dict) else {}
        return _by_code({"message": error.message, **body}, None, "In the middle of the stream: ")
    return Advice(f"{type(error).__name__}: {error}", False, "This is not an error of the service.")


def _seconds(retry_after: str) -> float | None:
    """A Retry-After header, seconds or a date, as seconds from now."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        at = email.utils.parsedate_to_datetime(retry_after)
    except (TypeError, ValueError):
        return None
    return max(0.0, at.timestamp() - time.time())


def _by_code(body: dict, retry_after_s: float | None, before: str = "") -> Advice:
    metadata = body.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {"raw": metadata}
    try:
        code = int(body.get("code"))  # a number, or a number as a string
    except (TypeError, ValueError):
        # A word, or nothing: after a status 200 it was the provider that failed.
        code = ERROR_TYPES.get(metadata.get("error_type"), 502)
    what, retry, todo = STATUSES.get(code) or STATUSES[500 if code >= 500 else 400]
    said = [str(body.get("message", "")), str(metadata.get("raw") or "")]
    server = " / ".join(part for part in said if part)
    if code == 400 and "not a valid model" in server and (near := near_models(server.split()[0])):
        todo = f"Did you mean {near[0]}? The ids are at https://openrouter.ai/models."
    if code == 400 and "context" in server.lower():
        todo = "Shorten the messages, or choose a model with a longer context."
    return Advice(before + what, retry, todo, code or None, server, retry_after_s)


def near_models(name: str, known: Iterable[str] | None = None) -> list[str]:
    """The ids most like a wrong one, best first; from the price snapshot unless given."""
    known = list(known or prices.priced_models())
    short = {model: model.split("/")[-1] for model in known}
    like = difflib.get_close_matches(name.split("/")[-1], short.values(), n=3, cutoff=0.4)
    return [model for part in like for model in known if short[model] == part]


# Replies

JITTER_S = 0.5


def message(reply):
    """The message of a reply, looked at before it is taken.

    Raises:
        NoAnswer: the reply has status 200 and an error in place of choices.
    """
    if isinstance(reply, str):  # what the client makes of a page that is no JSON
        raise NoAnswer({"message": NO_API})
    if not reply.choices:
        raise NoAnswer(getattr(reply, "error", None) or {})
    return reply.choices[0].message


def complete(
    client: openai.OpenAI,
    *,
    attempts: int = 4,
    total_s: float = 60.0,
    waiting: Callable[[Advice, float], None] | None = None,
    **request,
):
    """A chat completion with patience: retried while that can help, and never for longer.

    The client's own retries know neither a total time nor an error inside a status 200, so they
    are switched off here. Retry-After is honoured; otherwise pauses double from half a second. Up
    to half a second of chance is added, so that many clients do not come back at the same moment.
    An attempt that timed out may still be answered and paid for at the other end.

    Args:
        attempts: most requests to send.
        total_s: seconds after which nothing more is sent; no pause is begun that would end later,
            and no read waits longer than what is left of them.
        waiting: called with the advice and the seconds before each pause.
        request: as for `client.chat.completions.create`, without `stream`.

    Raises:
        NoAnswer: status 200 and an error, still so at the last attempt.
        openai.APIError: the last attempt's, or the first that no retry can help.
    """
    once = client.with_options(max_retries=0)
    deadline = time.monotonic() + total_s
    backoff = tenacity.wait_exponential(multiplier=0.5, max=8.0)

    def wait(state: tenacity.RetryCallState) -> float:
        asked = explain(state.outcome.exception()).retry_after_s
        return (backoff(state) if asked is None else asked) + random.uniform(0, JITTER_S)

    def tell(state: tenacity.RetryCallState) -> None:
        if waiting:
            waiting(explain(state.outcome.exception()), state.upcoming_sleep)

    headers = request.pop("extra_headers", {})
    sent = itertools.count()

    def send():
        left = max(0.1, deadline - time.monotonic())
        # The client's own retries tell the server how many there were; so do these.
        count = {"x-stainless-retry-count": str(next(sent))}
        reply = once.chat.completions.create(
            timeout=left, extra_headers={**headers, **count}, **request
        )
        message(reply)
        return reply

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: explain(error).retry),
        stop=tenacity.stop_after_attempt(attempts) | tenacity.stop_before_delay(total_s),
        wait=wait,
        before_sleep=tell,
        reraise=True,
    )(send)


@dataclass
class Streamed:
    """What came of a stream, however it ended.

    Attributes:
        text: all the text that arrived.
        finish_reason: "stop", "length" …; None if the stream broke off.
        usage: the server's count and cost; None if it never came.
        error: what ended it early; None for a whole answer.
    """

    text: str = ""
    finish_reason: str | None = None
    usage: object | None = None
    error: Exception | None = None

    @property
    def unbroken(self) -> bool:
        """Whether the stream came to its end, be it the answer's own or that of `max_tokens`."""
        return self.error is None and self.finish_reason not in (None, "error")


def collect(
    stream: Iterable,
    shown: Callable[[str], None] | None = None,
    got: Streamed | None = None,
) -> Streamed:
    """Read a stream to its end; what had arrived before a failure is kept beside the failure.

    A connection that closes too early ends the client's stream without any error: only the
    missing finish reason tells. That is reported as a `ConnectionError` here.

    Args:
        stream: from `client.chat.completions.create(stream=True, …)`.
        shown: called with each new piece of text.
        got: filled as the text comes, for who wants to have it after Ctrl-C, too.
    """
    got = got or Streamed()
    chunks = iter(stream)
    while True:
        try:
            chunk = next(chunks)
        except StopIteration:
            break
        except Exception as error:  # the transport's own errors come through the client as they are
            got.error = error
            return got
        got.usage = chunk.usage or got.usage
        for choice in chunk.choices or []:
            got.finish_reason = choice.finish_reason or got.finish_reason
            if piece := choice.delta.content:
                got.text += piece
                if shown:
                    shown(piece)
    if got.finish_reason is None:
        got.error = ConnectionError("the stream ended without a finish reason: it was cut off")
    return got


def parsed(reply, model: type[pydantic.BaseModel]) -> pydantic.BaseModel:
    """The answer as a pydantic object.

    Raises:
        NoAnswer: as `message`.
        SchemaMismatch: with what is missing or wrong, and the text as it came.
    """
    text = message(reply).content or ""
    try:
        return model.model_validate_json(text)
    except pydantic.ValidationError as error:
        problems = [
            f"{'.'.join(map(str, found['loc'])) or 'the whole'}: {found['msg']}"
            for found in error.errors()
        ]
        if reply.choices[0].finish_reason == "length":
            problems.append("and it was cut off at max_tokens")
        raise SchemaMismatch(text, problems) from error


# Money


@dataclass(frozen=True)
class Estimate:
    """What a request will cost, before it is sent.

    Attributes:
        prompt_tokens: counted here, by the 24B's own vocabulary and 3.2's wire format.
        least_usd, most_usd: without any answer, and with one as long as it may be.
    """

    prompt_tokens: int
    least_usd: float
    most_usd: float


def estimate_cost(
    messages: list[dict], model: str, *, max_tokens: int, tools: list[dict] | None = None
) -> Estimate:
    """Bounds of a request's cost, offline: tokens by Tekken, prices from `data/prices.json`.

    Raises:
        prices.BudgetError: no price for the model.
    """
    per_input, per_output = prices.price(model)
    count = len(wire.tokens(messages, tools))
    least = count * per_input
    return Estimate(count, least, least + max_tokens * per_output)


def list_prices(client: openai.OpenAI, contains: str = "mistral-small"):
    """Today's prices from the server's `/models`, USD per million tokens, as a pandas DataFrame.

    Args:
        contains: only models whose id contains this.
    """
    import pandas as pd

    rows = []
    for entry in client.models.list():
        price = getattr(entry, "pricing", None)
        if price and contains in entry.id:
            rows.append(
                {
                    "model": entry.id,
                    "input": float(price["prompt"]) * 1e6,  # the server gives strings per token
                    "output": float(price["completion"]) * 1e6,
                    "context": getattr(entry, "context_length", None),
                }
            )
    return pd.DataFrame(rows, columns=["model", "input", "output", "context"]).set_index("model")


@dataclass(frozen=True)
class KeyStatus:
    """A key's limits in USD; None where it has none. The key and its label are left out."""

    usage: float
    limit: float | None
    limit_remaining: float | None
    is_free_tier: bool


def key_status(client: openai.OpenAI) -> KeyStatus:
    """What the client's key has spent and may still spend, from `/key`.

    Raises:
        openai.AuthenticationError: the key is not accepted.
        NoAnswer: the address is not one of OpenRouter's kind.
    """
    told = client.get("/key", cast_to=object)
    if not isinstance(told, dict):
        raise NoAnswer({"message": NO_API})
    data = told["data"]
    return KeyStatus(data["usage"], data["limit"], data["limit_remaining"], data["is_free_tier"])
