"""TODO."""

import json
import re

from helpers.paths import DATA

PRICES = DATA / "prices.json"


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
