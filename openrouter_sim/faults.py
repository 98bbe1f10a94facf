"""The failures that the simulator can show, the keys that fail, and errors in OpenRouter's form."""

import re
import time
from collections.abc import Hashable
from dataclasses import dataclass, field

PROVIDERS = ("Simulated A", "Simulated B")

# The simulator's own keys. The first one is used if no key of OpenRouter is set.
KEYS = {
    "sk-or-v1-simulated-working": "works; a balance of 1 USD",
    "sk-or-v1-simulated-withdrawn": "401: as if it had been withdrawn",
    "sk-or-v1-simulated-penniless": "402: no credits left",
    "sk-or-v1-simulated-nearly-empty": "402 after a few answers: a balance of 0.00002 USD",
    "sk-or-v1-simulated-throttled": "429: four requests in two seconds, then Retry-After",
    "sk-or-v1-simulated-management": "a management key: it reads /credits, and no model answers it",
}
KEY, REVOKED, NO_CREDITS, NEARLY_EMPTY, THROTTLED, MANAGEMENT = KEYS
BALANCES = {NO_CREDITS: 0.0, NEARLY_EMPTY: 0.00002}  # USD

SLOW_S = 2.0
CHUNKS_BEFORE_FAILURE = 4
STREAM_EFFECTS = ("stream", "truncated", "cut", "comments")
FORGOTTEN_S = 60.0  # a request that did not come again for so long was given up


# What OpenRouter's `metadata.error_type` says for a status.
ERROR_TYPES = {
    400: "invalid_request",
    401: "authentication",
    402: "payment_required",
    403: "content_policy_violation",
    404: "not_found",
    408: "timeout",
    429: "rate_limit_exceeded",
    502: "provider_unavailable",
    503: "provider_overloaded",
    524: "timeout",
    529: "provider_overloaded",
}


def error_object(code: int, message: str, **metadata) -> dict:
    """An error as OpenRouter writes it into a body or a stream."""
    if code in ERROR_TYPES:
        metadata = {"error_type": ERROR_TYPES[code]} | metadata
    return {"code": code, "message": message} | ({"metadata": metadata} if metadata else {})


class Refusal(Exception):
    """An error reply in OpenRouter's form."""

    def __init__(self, status: int, message: str, headers: dict | None = None, **metadata):
        super().__init__(message)
        self.status, self.headers = status, headers
        self.body = {"error": error_object(status, message, **metadata)}


@dataclass(frozen=True)
class Fault:
    """One failure: an error status with its body, or an effect on a reply of status 200.

    Attributes:
        title: what it is, for people.
        status: the HTTP status; 200 if the failure is an effect.
        message, metadata: of the error body.
        headers: of the reply.
        effect: "body" (an error instead of choices), "stream" (an error after some text),
            "truncated" (the stream just ends), "cut" (the connection breaks), "slow" (the first
            byte is late), "comments" (many keep-alive comments), "provider" (the first provider
            fails, and the gateway asks the next), or "" (none).
    """

    title: str
    status: int
    message: str = ""
    metadata: dict = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    effect: str = ""

    def refusal(self) -> Refusal:
        """The error reply."""
        return Refusal(self.status, self.message, self.headers, **self.metadata)

    def provider_error(self) -> dict:
        """The error object for a failure after status 200 was sent."""
        return error_object(502, self.message, **self.metadata)


NO_FAULT = Fault("no failure", 200)

_UPSTREAM = {"provider_name": PROVIDERS[0], "raw": "upstream connect error: connection refused"}
_WAIT = {"Retry-After": "1"}

FAULTS: dict[str, Fault] = {
    "bad-request": Fault("an impossible parameter value", 400, "temperature must be at most 2"),
    "moderation": Fault(
        "the input is flagged",
        403,
        "Your chosen model requires moderation; the input was flagged",
        {"reasons": ["simulated"]},
    ),
    "no-tools": Fault(
        "no provider supports tools", 404, "No endpoints found that support tool use."
    ),
    "timeout": Fault("the request times out", 408, "Request timed out"),
    "rate-limit": Fault("too many requests", 429, "Rate limit exceeded"),
    "rate-limit-wait": Fault(
        "too many requests, and how long to wait", 429, "Rate limit exceeded", headers=_WAIT
    ),
    "provider-error": Fault("the provider fails", 502, "Provider returned error", _UPSTREAM),
    "unavailable": Fault("no provider is free", 503, "No instances available"),
    "unavailable-wait": Fault(
        "no provider is free, and how long to wait", 503, "No instances available", headers=_WAIT
    ),
    "edge-timeout": Fault("the provider takes too long", 524, "Request timed out at the edge"),
    "overloaded": Fault("the provider is overloaded", 529, "Provider overloaded"),
    "error-in-200": Fault(
        "status 200 with an error inside", 200, "Provider returned error", _UPSTREAM, effect="body"
    ),
    "mid-stream": Fault(
        "an error in the middle of the stream", 200, "Provider disconnected", effect="stream"
    ),
    "truncated": Fault("a stream that just ends", 200, effect="truncated"),
    "cut": Fault("the connection breaks", 200, effect="cut"),
    "slow": Fault("the first byte is late", 200, effect="slow"),
    "comments": Fault("many comments before the text", 200, effect="comments"),
    "provider-down": Fault("one provider is down, another answers", 200, effect="provider"),
}


HOW_TO_ASK = (
    "X-Simulate: NAME, one of the failures. X-Simulate: NAME 2: the request fails twice and then "
    "succeeds. The same body with the same key is the same request."
)


def requested(header: str, streamed: bool) -> tuple[Fault, int | None]:
    """The failure that an `X-Simulate` header asks for, and for how many attempts (None: all).

    Args:
        streamed: whether the request asks for a stream. Some failures are those of a stream.

    Raises:
        Refusal: 400: there is no such failure, or not without a stream.
    """
    if not header.strip():
        return NO_FAULT, None
    match = re.fullmatch(r"([a-z0-9-]+)(?:\s+([0-9]{1,4}))?", header.strip().lower())
    if not match or match[1] not in FAULTS:
        known = f"X-Simulate knows: {', '.join(FAULTS)}."
        raise Refusal(400, f"X-Simulate: {header[:60]!r} is unknown. {known} {HOW_TO_ASK}")
    fault = FAULTS[match[1]]
    if fault.effect in STREAM_EFFECTS and not streamed:
        message = f"X-Simulate: {match[1]} is a failure of streams: {fault.title}. "
        raise Refusal(400, message + 'Send "stream": true, or choose another failure.')
    return fault, int(match[2]) if match[2] else None


class Attempts:
    """How often each request has failed because it asked for it."""

    def __init__(self):
        self._failed: dict[Hashable, tuple[int, float]] = {}

    def fails(self, request: Hashable, attempts: int, retries: str) -> bool:
        """Whether this attempt of a request fails, if its first `attempts` shall.

        After a success, the request begins anew.

        Args:
            request: equal for all attempts of one request.
            retries: OpenAI's clients say in `x-stainless-retry-count` which retry this is. Other
                programs send nothing, or always 0.
        """
        now = time.monotonic()
        self._failed = {r: row for r, row in self._failed.items() if now - row[1] < FORGOTTEN_S}
        failed = self._failed.get(request, (0, now))[0]
        if re.fullmatch("[0-9]{1,4}", retries):
            failed = max(failed, int(retries))
        if failed >= attempts:
            self._failed.pop(request, None)
            return False
        self._failed[request] = (failed + 1, now)
        return True
