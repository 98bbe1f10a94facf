"""What requests cost, by the dated price snapshot `data/prices.json`."""

import json

from helpers.paths import DATA

PRICES = DATA / "prices.json"

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
    """The most tokens that the answer to a request may have."""
    limit = request.get("max_completion_tokens") or request.get("max_tokens")
    return limit or UNLIMITED_ANSWER


def without_routing_suffix(model: str) -> str:
    """A model id without ":nitro" (prefer fast providers) or ":floor" (prefer cheap ones)."""
    return model.removesuffix(":nitro").removesuffix(":floor")


def price(model: str) -> tuple[float, float]:
    """USD per input token and USD per output token.

    With a routing suffix the true price can differ, since another provider may answer.

    Raises:
        BudgetError: the snapshot has no price for the model.
    """
    models = priced_models()
    model = without_routing_suffix(model)
    if model not in models:
        raise BudgetError(
            f"data/prices.json has no price for {model!r}, so its cost cannot be estimated. "
            "Add its price, with the date, to run it under a cap."
        )
    return models[model]["input"] / 1e6, models[model]["output"] / 1e6


def cost(usage: dict, model: str) -> float:
    """USD for one reply: the `cost` in its `usage` if the server names one, else by price.

    Raises:
        BudgetError: the server names no cost and the snapshot has no price for the model.
    """
    if usage.get("cost") is not None:
        return float(usage["cost"])
    per_input, per_output = price(model)
    prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    return prompt * per_input + completion * per_output
