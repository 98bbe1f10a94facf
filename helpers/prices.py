"""What requests cost: by the prices of a run, or by the dated snapshot `data/prices.json`."""

import json
import math
import os
from decimal import Decimal, InvalidOperation

from helpers.paths import DATA

PRICES = DATA / "prices.json"

# A JSON object like `models` in the snapshot. `python -m helpers run` sets it for the kernels.
PRICES_VARIABLE = "MISTRAL_LAB_PRICES"

# Tokens: the longest answer that OpenRouter lists for Small 3.2. A request without a limit of its
# own may be billed for as many.
UNLIMITED_ANSWER = 16_384


class BudgetError(RuntimeError):
    """A cost or a cap cannot be used; the message says what is missing or wrong."""


def priced_models() -> dict[str, dict]:
    """The models of the snapshot by id.

    Each has `input` and `output` in USD per million tokens, and `context` in tokens.
    """
    return json.loads(PRICES.read_text(encoding="utf-8"))["models"]


def answer_limit(request: dict) -> int:
    """The most tokens that the answer to a request may have, of all its `n` choices together."""
    request = request if isinstance(request, dict) else {}
    limits = [amount(request.get(name)) for name in ("max_completion_tokens", "max_tokens")]
    limit = max(filter(None, limits), default=UNLIMITED_ANSWER)
    return math.ceil(limit * max(1, amount(request.get("n")) or 1))


def without_routing_suffix(model: str) -> str:
    """A model id without ":nitro" (prefer fast providers) or ":floor" (prefer cheap ones)."""
    return model.removesuffix(":nitro").removesuffix(":floor")


def price(model: str) -> tuple[float, float]:
    """USD per input token and USD per output token.

    With a routing suffix the true price can differ, since another provider may answer.

    Raises:
        BudgetError: neither the run nor the snapshot has a price for the model.
    """
    model = without_routing_suffix(model)
    try:
        models = priced_models() | json.loads(os.environ.get(PRICES_VARIABLE) or "{}")
        row = models.get(model)
        if row:
            return float(exact(row["input"]) / 10**6), float(exact(row["output"]) / 10**6)
    except (ValueError, KeyError, TypeError, InvalidOperation) as error:
        raise BudgetError(
            f"{PRICES_VARIABLE} is a JSON object such as "
            '{"a-model": {"input": 0.1, "output": 0.3}}, in USD per million tokens.'
        ) from error
    raise BudgetError(
        f"There is no price for {model!r}, so its cost cannot be estimated. Look it up on the "
        "server's page of prices and give it in USD per million tokens: --price IN,OUT "
        "(PRICE=IN,OUT with make)."
    )


def cost(usage: dict, model: str) -> float:
    """USD for one reply: the `cost` in its `usage` if the server names one, else by price.

    Raises:
        BudgetError: the server names no cost, and there is no price for the model or `usage`
            lacks a count of tokens.
    """
    if (usd := amount(usage.get("cost"))) is not None:
        return usd
    per_input, per_output = price(model)
    prompt, completion = amount(usage.get("prompt_tokens")), amount(usage.get("completion_tokens"))
    if prompt is None or completion is None:
        raise BudgetError(
            "The reply's `usage` has neither a cost nor both counts of tokens, prompt_tokens and "
            f"completion_tokens, so its cost is unknown: {str(usage)[:200]}"
        )
    # With decimals, so that two programs that compute it have the same last digit.
    return float(exact(prompt) * exact(per_input) + exact(completion) * exact(per_output))


def exact(number: float | str) -> Decimal:
    """An amount with the digits that it is written with: a sum of such amounts has no error."""
    return Decimal(str(number))


def amount(value: object) -> float | None:
    """A figure of a reply as a number from 0 up; None for anything else.

    Servers also send null, and numbers as strings.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number < math.inf else None
