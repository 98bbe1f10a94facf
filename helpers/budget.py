"""Money: what a run on a paid backend may cost, and a cap that its requests cannot pass."""

import json
import math
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import openai

from helpers.paths import DATA

PRICES = DATA / "prices.json"
RUN_TOKENS = DATA / "run_tokens.json"

CAP_VARIABLE = "MISTRAL_LAB_MAX_USD"
SPENT_VARIABLE = "MISTRAL_LAB_SPENT_FILE"

# The token counts were taken on the pocket model; another model's answers may be longer, and a
# picture that is 15 tokens to it can be 200 to the 24B. Both allowances are generous guesses.
SAFETY_FACTOR = 2.0
PER_NOTEBOOK = {"prompt_tokens": 5000, "completion_tokens": 1000}

# The longest answer that OpenRouter lists for Small 3.2: what a request without a limit may cost.
UNLIMITED_ANSWER = 16_384


class BudgetError(RuntimeError):
    """A cost cannot be estimated; the message says what is missing."""


def priced_models() -> dict[str, dict]:
    """The models of the dated snapshot `data/prices.json`, by id: prices and context."""
    return json.loads(PRICES.read_text(encoding="utf-8"))["models"]


def without_wish(model: str) -> str:
    """A model's id without what may stand behind it: ":nitro" for speed, ":floor" for price."""
    return re.sub(r":(nitro|floor)$", "", model)


def price(model: str) -> tuple[float, float]:
    """USD per input token and per output token, from the dated snapshot `data/prices.json`.

    A wish behind the id, ``:nitro`` or ``:floor``, may change the provider and so the true price.
    Raises `BudgetError` for a model that is not in it.
    """
    models = priced_models()
    model = without_wish(model)
    if model not in models:
        raise BudgetError(
            f"data/prices.json has no price for {model!r}, so nobody can say what it would cost. "
            "Add its price, with the date, to run it under a cap."
        )
    return models[model]["input"] / 1e6, models[model]["output"] / 1e6


def cost(usage: dict, model: str) -> float:
    """USD for one reply's `usage`: the server's own `cost` where it gives one, else by price."""
    if usage.get("cost") is not None:
        return float(usage["cost"])
    per_input, per_output = price(model)
    return (
        usage.get("prompt_tokens", 0) * per_input + usage.get("completion_tokens", 0) * per_output
    )


def estimate_run(notebooks: list[Path], model: str) -> float:
    """USD that running `notebooks` may cost, from the tokens they used on the pocket model.

    The counts are in `data/run_tokens.json` (made by `python -m helpers run --record-tokens`); they
    are doubled, and an allowance is added for each notebook. Raises `BudgetError` without a price.
    """
    if not RUN_TOKENS.is_file():
        raise BudgetError("data/run_tokens.json, which the estimate is made from, is missing.")
    counted = json.loads(RUN_TOKENS.read_text(encoding="utf-8"))["notebooks"]
    total = 0.0
    for notebook in notebooks:
        if notebook.stem not in counted:
            raise BudgetError(f"data/run_tokens.json has no token count for {notebook.stem}.")
        total += SAFETY_FACTOR * cost(counted[notebook.stem], model) + cost(PER_NOTEBOOK, model)
    return total


def record_tokens(results: Path) -> None:
    """Keep the token counts of a finished run on the pocket model (its results.json).

    Raises `BudgetError` for a run on another model, or without its counts.
    """
    run = json.loads(results.read_text(encoding="utf-8"))
    pocket = run["backend"] in ("pocket", "openrouter-sim")
    if not pocket or any(row["prompt_tokens"] is None for row in run["results"]):
        raise BudgetError("token counts are kept from whole runs on pocket or openrouter-sim only.")
    names = ("prompt_tokens", "completion_tokens")
    counted = {row["name"]: {name: row[name] for name in names} for row in run["results"]}
    body = {
        "about": "Tokens each notebook sent and received on the pocket model.",
        "command": f"python -m helpers run --backend {run['backend']} --record-tokens",
        "date": run["started"][:10],
        "notebooks": counted,
    }
    RUN_TOKENS.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")


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
