"""A cap in USD that the requests of a run on a paid backend cannot pass."""

import json
import math
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import openai

from helpers.prices import BudgetError, answer_limit, cost, price

CAP_VARIABLE = "MISTRAL_LAB_MAX_USD"
SPENT_VARIABLE = "MISTRAL_LAB_SPENT_FILE"


def metered_client(model: str) -> "MeteredClient | None":
    """The HTTP client for a run under a cap; None if the environment sets no cap.

    `python -m helpers run --max-usd` sets the cap, in USD, for all notebooks of a run together.

    Raises:
        BudgetError: the cap is not a number, or the model has no price.
    """
    cap = os.environ.get(CAP_VARIABLE)
    if cap is None:
        return None
    try:
        cap_usd = float(cap)
    except ValueError:
        cap_usd = math.nan
    if not math.isfinite(cap_usd) or cap_usd < 0:
        raise BudgetError(f"{CAP_VARIABLE} must be a number of USD from 0 up, got {cap!r}.")
    price(model)
    spent_file = os.environ.get(SPENT_VARIABLE)
    return MeteredClient(cap_usd, model, Path(spent_file) if spent_file else None)


class MeteredClient(openai.DefaultHttpxClient):
    """The openai package's HTTP client, which also adds up costs and refuses requests at a cap.

    A request counts as its worst case (all of `max_tokens`) until its reply has said what it cost.
    So parallel requests cannot pass the cap together. Requests by other clients are not counted:
    notebook 03 sends one short request with `requests`.

    Args:
        cap_usd: no request is sent that could make the sum exceed this.
        model: its price counts where a reply names no cost.
        spent_file: adds up costs across processes, one number of USD per line.
    """

    def __init__(self, cap_usd: float, model: str, spent_file: Path | None = None):
        super().__init__()
        self._cap_usd, self._model, self._spent_file = cap_usd, model, spent_file
        self._spent_usd = self._reserved_usd = 0.0
        self._lock = threading.Lock()

    def send(self, request: httpx2.Request, *, stream: bool = False, **options) -> httpx2.Response:
        """Send a request, or answer it with status 402 if it could exceed the cap."""
        worst = self._worst_case(request)
        with self._lock:
            used = self._spent() + self._reserved_usd
            if used + worst > self._cap_usd:
                return self._refusal(request, used, worst)
            self._reserved_usd += worst
        request.headers["Accept-Encoding"] = "identity"  # the meter reads the plain bytes
        try:
            response = super().send(request, stream=True, **options)
        except BaseException:
            self._settle(worst, 0.0)
            raise
        # No provider charges for an error; any other reply without usage counts as its worst case.
        default = 0.0 if response.is_error else worst

        def settle(body: bytes) -> None:
            usage = last_usage(body)
            self._settle(worst, default if usage is None else cost(usage, self._model))

        response.stream = _Tee(response.stream, settle)
        if not stream:
            response.read()
        return response

    def _worst_case(self, request: httpx2.Request) -> float:
        """USD if every three bytes were a token and the answer took all of its `max_tokens`."""
        if request.method != "POST":
            return 0.0
        body = request.read()
        answer = answer_limit(json.loads(body) if body else {})
        return cost({"prompt_tokens": len(body) // 3, "completion_tokens": answer}, self._model)

    def _refusal(self, request: httpx2.Request, used: float, worst: float) -> httpx2.Response:
        # 402 is what a paid service answers without credit, and no client retries it.
        message = (
            f"Stopped by this kit, not by the server: {used:.4f} USD are spent or under way, this "
            f"request may cost {worst:.4f}, and the cap is {self._cap_usd:.4f} USD. Raise MAX_USD."
        )
        error = {"error": {"code": 402, "message": message}}
        return httpx2.Response(402, json=error, request=request)

    def _spent(self) -> float:
        if self._spent_file is None or not self._spent_file.exists():
            return self._spent_usd
        return sum(map(float, self._spent_file.read_text(encoding="utf-8").split()))

    def _settle(self, reserved: float, usd: float) -> None:
        """Replace a reservation by the true cost."""
        with self._lock:
            self._reserved_usd -= reserved
            self._spent_usd += usd
            if self._spent_file and usd:
                with self._spent_file.open("a") as file:  # short lines: processes do not mix theirs
                    file.write(f"{usd:.9f}\n")


class _Tee(httpx2.SyncByteStream):
    """Forwards a reply's bytes, and passes all of them to `on_close` at the end."""

    def __init__(self, inner: httpx2.SyncByteStream, on_close: Callable[[bytes], None]):
        self._inner, self._on_close, self._body = inner, on_close, bytearray()

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._inner:
            self._body += piece
            yield piece

    def close(self) -> None:
        self._inner.close()
        self.elapsed = self._inner.elapsed  # `Response.elapsed` reads it
        self._on_close(bytes(self._body))


def last_usage(body: bytes) -> dict | None:
    """The `usage` object of a JSON reply, or of the last chunk of an event stream that has one."""
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
