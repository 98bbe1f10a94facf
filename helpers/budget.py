"""A cap in USD that the requests of a run on a paid backend cannot pass."""

import contextlib
import json
import math
import os
import re
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path

import httpx2
import openai

from helpers import jsonl, replies
from helpers.prices import BudgetError, answer_limit, cost, exact, price

CAP_VARIABLE = "MISTRAL_LAB_MAX_USD"
SPENT_VARIABLE = "MISTRAL_LAB_SPENT_FILE"

PICTURE_TOKENS = 4096  # more than Mistral Small makes of the largest picture: 3,080

# The request did not reach the server, so nothing can be billed for it.
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)


def metered_client(model: str, **options) -> "MeteredClient | None":
    """The HTTP client for a run under a cap; None if the environment sets no cap.

    `python -m helpers run --max-usd` sets the cap, in USD, for all notebooks of a run together.

    Args:
        options: of `httpx2.Client`.

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
    return MeteredClient(cap_usd, model, Path(spent_file) if spent_file else None, **options)


class Ledger:
    """Adds up USD to the last digit, in memory or in a file.

    A request's worst case is added before it is sent, and corrected when its cost is known. So a
    process that is killed leaves the worst case of what was under way, never less than was spent.
    A line that was not written to its end is safe to leave out for the same reason.

    Args:
        file: one JSON object per line: {"usd": "0.0000123"}. Processes use it one after the
            other, as the notebooks of a run do.
    """

    _lock = threading.RLock()  # of all ledgers of this process, which may share a file

    def __init__(self, file: Path | None = None):
        self._file, self._own = file, Decimal(0)

    def total(self) -> Decimal:
        """The sum so far, of all processes.

        Raises:
            BudgetError: a line of the file is damaged, so that the sum is unknown.
            OSError: the file cannot be read.
        """
        if self._file is None or not self._file.exists():
            return self._own
        try:
            in_file = sum((exact(row["usd"]) for row in jsonl.read(self._file)), Decimal(0))
        except (ValueError, KeyError, InvalidOperation) as error:
            raise BudgetError(
                f"What was spent is unknown: {self._file} has a damaged line ({error}). Compare it "
                "with the account at the provider, correct the file, and start again."
            ) from error
        return max(self._own, in_file)  # somebody may have deleted the file

    def reserve(self, usd: Decimal, cap_usd: Decimal) -> Decimal | None:
        """Add an amount if the sum stays within a cap; if not, returns the sum.

        Raises:
            BudgetError, OSError: as for `total` and `add`.
        """
        with self._lock:
            total = self.total()
            if total + usd > cap_usd:
                return total
            self.add(usd)
            return None

    def add(self, usd: Decimal) -> None:
        """Add an amount; a negative one corrects an earlier one.

        Raises:
            OSError: the file cannot be written. Nothing is added then.
        """
        with self._lock:
            if self._file is not None:
                jsonl.append(self._file, {"usd": f"{usd:f}"})
            self._own += usd


class MeteredClient(openai.DefaultHttpxClient):
    """The openai package's HTTP client, which also adds up costs and refuses requests at a cap.

    A request counts as its worst case (all of `max_tokens`) until its reply has said what it cost.
    So parallel requests cannot pass the cap together. If no reply says it, because the connection
    broke or the time was up, the worst case stays: the server may have answered and billed.
    Requests by other clients are not counted: notebook 03 sends one short request with `requests`.

    Args:
        cap_usd: no request is sent that could make the sum exceed this.
        model: its price counts where a reply names no cost.
        spent_file: adds up costs across processes; see `Ledger`.
        options: of `httpx2.Client`.
    """

    def __init__(self, cap_usd: float, model: str, spent_file: Path | None = None, **options):
        super().__init__(**options)
        self._cap_usd, self._model, self._ledger = exact(cap_usd), model, Ledger(spent_file)
        # Only its reader of event streams is used.
        self._reader = openai.OpenAI(api_key="-", base_url="http://-", http_client=self)

    @property
    def booked_usd(self) -> Decimal:
        """What was spent, and the worst case of what is under way or was never answered."""
        return self._ledger.total()

    def send(self, request: httpx2.Request, *, stream: bool = False, **options) -> httpx2.Response:
        """Send a request, or answer it with status 402 if it could exceed the cap."""
        if request.method != "POST":  # what only reads costs nothing
            return super().send(request, stream=stream, **options)
        worst = self._worst_case(request)
        try:
            used = self._ledger.reserve(worst, self._cap_usd)
        except (BudgetError, OSError) as error:
            return _refusal(request, str(error))
        if used is not None:
            return _refusal(request, self._at_the_cap(used, worst))
        request.headers["Accept-Encoding"] = "identity"
        try:
            response = super().send(request, stream=True, **options)
        except _NOT_SENT:
            self._correct(-worst)
            raise

        def settle(body: bytes) -> None:
            usd = self._cost(body, response)
            if usd is not None:
                self._correct(usd - worst)

        response.stream = _Tee(response.stream, settle)
        if not stream:
            try:
                response.read()
            except BaseException:
                response.close()
                raise
        return response

    def _worst_case(self, request: httpx2.Request) -> Decimal:
        """USD if every byte were a token and the answer took all the tokens that it may."""
        body = request.read()
        try:
            answer = answer_limit(json.loads(body))
        except (ValueError, RecursionError):
            answer = answer_limit({})
        text = re.sub(rb'"(url|image_url)"\s*:\s*"data:[^"]*"', b"", body)
        pictures = len(re.findall(rb'"image_url"\s*:', body))
        tokens = len(text) + PICTURE_TOKENS * pictures
        return exact(cost({"prompt_tokens": tokens, "completion_tokens": answer}, self._model))

    def _at_the_cap(self, used: Decimal, worst: Decimal) -> str:
        return (
            f"Stopped by this kit, not by the server: {used:.4f} USD are spent or under way, this "
            f"request may cost {worst:.4f}, and the cap is {self._cap_usd:.4f} USD. Raise MAX_USD."
        )

    def _cost(self, body: bytes, response: httpx2.Response) -> Decimal | None:
        """What a reply cost; None if it does not say."""
        documents = self._documents(body, response.request)
        usage, ended = None, False
        for document in documents:
            choices = replies.objects_in(document.get("choices"))
            ended = ended or any("message" in c or c.get("finish_reason") for c in choices)
            if isinstance(document.get("usage"), dict) and document["usage"]:
                usage, ended = document["usage"], ended or not choices
        if usage and ended:  # some servers have a usage in every chunk, so far
            try:
                return exact(cost(usage, self._model))
            except BudgetError:
                return None
        # No provider charges for an error, also if it has status 200 and no choices.
        failed = [d for d in documents if d.get("error") and not d.get("choices")]
        return Decimal(0) if response.is_error or (failed and failed == documents) else None

    def _documents(self, body: bytes, request: httpx2.Request) -> list[dict]:
        """The JSON objects of a reply: one, or those of a stream of events as far as they came."""
        with contextlib.suppress(ValueError, RecursionError):
            return replies.objects_in([json.loads(body)])
        reply, documents = httpx2.Response(200, content=body, request=request), []
        try:
            for event in openai.Stream(cast_to=object, response=reply, client=self._reader):
                documents.append(event)
        except openai.APIError as error:
            documents.append({"error": error.body})
        except (ValueError, RecursionError):
            pass  # what came before it counts
        return replies.objects_in(documents)

    def _correct(self, usd: Decimal) -> None:
        """Replace the worst case of a request by its cost."""
        with contextlib.suppress(OSError):  # the worst case stays, and the caller gets the reply
            self._ledger.add(usd)


class _Tee(httpx2.SyncByteStream):
    """Forwards a reply's bytes, and passes all of them to `on_close` at the end."""

    def __init__(self, inner: httpx2.SyncByteStream, on_close: Callable[[bytes], None]):
        self._inner, self._on_close, self._body = inner, on_close, bytearray()

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._inner:
            self._body += piece
            yield piece

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            self._on_close(bytes(self._body))

    @property
    def elapsed(self) -> timedelta | None:
        """From the request to the end of the reply; `Response.elapsed` reads it."""
        return self._inner.elapsed


def _refusal(request: httpx2.Request, message: str) -> httpx2.Response:
    # 402 is what a paid service answers without credit, and no client retries it.
    error = {"error": {"code": 402, "message": message}}
    return httpx2.Response(402, json=error, request=request)
