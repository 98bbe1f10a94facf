"""Money: what a run on a paid backend may cost, and a cap that its requests cannot pass."""

import json
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import openai

from helpers.prices import UNLIMITED_ANSWER, BudgetError, cost, price

CAP_VARIABLE = "MISTRAL_LAB_MAX_USD"


SPENT_VARIABLE = "MISTRAL_LAB_SPENT_FILE"


def metered_client(model: str) -> httpx2.Client | None:
    """An HTTP client that adds up what replies cost and refuses to go on at the cap.

    The cap is in the environment (`python -m helpers run --max-usd` puts it there, for all
    notebooks of a run together); without one, None: the openai client then uses its own. A request
    counts as its worst case (all of `max_tokens`) until its reply has said what it cost, so that
    parallel ones cannot pass the cap together. What is sent by other means is not seen: notebook
    03 sends one short request with `requests`.

    Raises `BudgetError` for a cap that is no number and for a model without a price.
    """
    cap = os.environ.get(CAP_VARIABLE)
    if cap is None:
        return None
    try:
        limit = float(cap)
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit) or limit < 0:
        raise BudgetError(f"{CAP_VARIABLE} must be a number of USD from 0 up, got {cap!r}.")
    price(model)
    spent = Path(os.environ[SPENT_VARIABLE]) if os.environ.get(SPENT_VARIABLE) else None
    return openai.DefaultHttpxClient(transport=_Meter(limit, model, spent))


class _Meter(httpx2.BaseTransport):
    def __init__(self, limit: float, model: str, ledger: Path | None):
        self._inner = httpx2.HTTPTransport()
        self._limit, self._model, self._ledger = limit, model, ledger
        self._spent_here = self._in_flight = 0.0
        self._lock = threading.Lock()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        worst = self._worst_case(request)
        with self._lock:
            spent = self._spent() + self._in_flight
            if spent + worst > self._limit:
                return self._refusal(request, spent, worst)
            self._in_flight += worst
        request.headers["Accept-Encoding"] = "identity"  # the meter reads the plain bytes
        try:
            response = self._inner.handle_request(request)
        except BaseException:
            self._settle(worst, 0.0)
            raise
        # No provider charges for an error; any other reply without usage counts as its worst case.
        if_silent = 0.0 if response.is_error else worst
        response.stream = _Tee(
            response.stream, lambda body: self._settle(worst, self._cost(body, if_silent))
        )
        return response

    def close(self) -> None:
        self._inner.close()

    def _worst_case(self, request: httpx2.Request) -> float:
        """USD if every three bytes were a token and the answer took all of its `max_tokens`."""
        if request.method != "POST":
            return 0.0
        body = request.read()
        asked = json.loads(body) if body else {}
        answer = asked.get("max_completion_tokens") or asked.get("max_tokens") or UNLIMITED_ANSWER
        return cost({"prompt_tokens": len(body) // 3, "completion_tokens": answer}, self._model)

    def _refusal(self, request: httpx2.Request, spent: float, worst: float) -> httpx2.Response:
        # 402 is what a paid service answers without credit, and no client retries it.
        message = (
            f"Stopped by this kit, not by the server: {spent:.4f} USD are spent or under way, this "
            f"request may cost {worst:.4f}, and the cap is {self._limit:.4f} USD. Raise MAX_USD."
        )
        return httpx2.Response(402, json={"error": {"code": 402, "message": message}})

    def _spent(self) -> float:
        if self._ledger is None or not self._ledger.exists():
            return self._spent_here
        return sum(map(float, self._ledger.read_text(encoding="utf-8").split()))

    def _cost(self, body: bytes, if_silent: float) -> float:
        usage = last_usage(body)
        return if_silent if usage is None else cost(usage, self._model)

    def _settle(self, reserved: float, usd: float) -> None:
        with self._lock:
            self._in_flight -= reserved
            self._spent_here += usd
            if self._ledger and usd:
                with self._ledger.open("a") as ledger:  # a short line: kernels do not mix theirs
                    ledger.write(f"{usd:.9f}\n")


class _Tee(httpx2.SyncByteStream):
    """Passes a reply's bytes on and shows them all to `seen` once it is closed."""

    def __init__(self, inner, seen):
        self._inner, self._seen, self._body = inner, seen, bytearray()

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._inner:
            self._body += piece
            yield piece

    def close(self) -> None:
        self._inner.close()
        seen, self._seen = self._seen, lambda body: None  # a stream may be closed twice
        seen(bytes(self._body))


def last_usage(body: bytes) -> dict | None:
    """The `usage` object of a JSON reply or of an event stream's last chunk that has one."""
    text = body.decode(errors="replace")
    documents = [line[6:] for line in text.splitlines() if line.startswith("data: {")] or [text]
    for document in reversed(documents):
        try:
            usage = json.loads(document).get("usage")
        except (ValueError, AttributeError):
            continue
        if usage:
            return usage
    return None
