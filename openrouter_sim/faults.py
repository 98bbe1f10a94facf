"""TODO."""

from dataclasses import dataclass, field

PROVIDERS = ("Simulated A", "Simulated B")


# Keys of the simulator's own; whoever has no key of OpenRouter's uses the first.
KEYS = {
    "sk-or-v1-simulated-working": "works; a balance of 1 USD",
    "sk-or-v1-simulated-withdrawn": "401: as if it had been withdrawn",
    "sk-or-v1-simulated-penniless": "402: no credits left",
    "sk-or-v1-simulated-nearly-empty": "402 after a few answers: a balance of 0.00002 USD",
    "sk-or-v1-simulated-throttled": "429: four requests in two seconds, then Retry-After",
}


KEY, WITHDRAWN, PENNILESS, NEARLY_EMPTY, THROTTLED = KEYS


BALANCES = {PENNILESS: 0.0, NEARLY_EMPTY: 0.00002}


@dataclass(frozen=True)
class Fault:
    """One failure: an error status with its body, or something that befalls a good answer.

    Attributes:
        title: what it is, for people.
        status: the HTTP status; 200 for what befalls an answer that had begun well.
        message, metadata: of the error body.
        headers: of the reply.
        befalls: "body" (an error instead of choices), "stream" (an error after some text),
            "truncated" (the stream just ends), "cut" (the connection breaks), "slow" (the first
            byte is late), "comments" (many keep-alive comments), "provider" (the first provider
            fails, and the gateway asks the next), or "" for a plain error status.
    """

    title: str
    status: int
    message: str = ""
    metadata: dict = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    befalls: str = ""


_UPSTREAM = {
    "error_type": "provider_unavailable",
    "provider_name": PROVIDERS[0],
    "raw": "upstream connect error: connection refused",
}


FAULTS: dict[str, Fault] = {
    "bad-request": Fault(
        "a parameter that cannot be",
        400,
        "temperature must be at most 2",
        {"error_type": "invalid_request"},
    ),
    "moderation": Fault(
        "the input is flagged",
        403,
        "Your chosen model requires moderation; the input was flagged",
        {"error_type": "content_policy_violation", "reasons": ["simulated"]},
    ),
    "no-tools": Fault(
        "no provider has tools",
        404,
        "No endpoints found that support tool use.",
        {"error_type": "not_found"},
    ),
    "timeout": Fault("the request times out", 408, "Request timed out", {"error_type": "timeout"}),
    "rate-limit": Fault(
        "too many requests", 429, "Rate limit exceeded", {"error_type": "rate_limit_exceeded"}
    ),
    "rate-limit-wait": Fault(
        "too many requests, and how long to wait",
        429,
        "Rate limit exceeded",
        {"error_type": "rate_limit_exceeded"},
        {"Retry-After": "1"},
    ),
    "provider-error": Fault("the provider fails", 502, "Provider returned error", _UPSTREAM),
    "unavailable": Fault(
        "no provider is free", 503, "No instances available", {"error_type": "provider_overloaded"}
    ),
    "unavailable-wait": Fault(
        "no provider is free, and how long to wait",
        503,
        "No instances available",
        {"error_type": "provider_overloaded"},
        {"Retry-After": "1"},
    ),
    "edge-timeout": Fault(
        "the provider takes too long",
        524,
        "Request timed out at the edge",
        {"error_type": "timeout"},
    ),
    "overloaded": Fault(
        "the provider is overloaded",
        529,
        "Provider overloaded",
        {"error_type": "provider_overloaded"},
    ),
    "error-in-200": Fault(
        "status 200 with an error inside",
        200,
        "Provider returned error",
        _UPSTREAM,
        befalls="body",
    ),
    "mid-stream": Fault(
        "an error in the middle of the stream",
        200,
        "Provider disconnected",
        {"error_type": "provider_unavailable"},
        befalls="stream",
    ),
    "truncated": Fault("a stream that just ends", 200, befalls="truncated"),
    "cut": Fault("the connection breaks", 200, befalls="cut"),
    "slow": Fault("a first byte that is late", 200, befalls="slow"),
    "comments": Fault("many comments before the text", 200, befalls="comments"),
    "provider-down": Fault("one provider is down, another answers", 200, befalls="provider"),
}


SLOW_S = 2.0


PIECES_BEFORE_FAILURE = 4


class Refusal(Exception):
    """An error reply in OpenRouter's form."""

    def __init__(self, status: int, message: str, metadata: dict | None = None, headers=None):
        super().__init__(message)
        self.status, self.headers = status, headers
        self.body = {"error": _error(status, message, metadata)}


def _error(code: int, message: str, metadata: dict | None = None) -> dict:
    return {"code": code, "message": message} | ({"metadata": metadata} if metadata else {})
