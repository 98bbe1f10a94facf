"""What a run of the notebooks may cost on a paid backend, from token counts of the pocket model."""

import json
import os
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import openai

from helpers.backends import Lab
from helpers.paths import DATA, write_text
from helpers.prices import (
    PRICES,
    PRICES_VARIABLE,
    BudgetError,
    amount,
    cost,
    price,
    without_routing_suffix,
)
from labkit.notebooks import available

RUN_TOKENS = DATA / "run_tokens.json"

# The tokens were counted on the pocket model. Another model's answers may be longer, and a picture
# of 15 tokens can be 200 tokens for the 24B. So the counts are multiplied, and each notebook gets
# an allowance. Both figures are generous guesses.
SAFETY_FACTOR = 2.0
ALLOWANCE_PER_NOTEBOOK = {"prompt_tokens": 5000, "completion_tokens": 1000}

# The names of the input and output price in the two services' lists of models.
OPENROUTER, TOGETHER = ("prompt", "completion"), ("input", "output")

# A price below this, in USD per million tokens, was given in another unit.
LOWEST_PRICE = 0.001


@dataclass(frozen=True)
class Price:
    """USD per million input and output tokens, and where and when they were read."""

    input: float
    output: float
    source: str

    def __str__(self) -> str:
        return f"{self.input:g} / {self.output:g} USD per million tokens ({self.source})"


def find_price(lab: Lab, given: str | None = None) -> Price:
    """The price of a lab's model: the given one, else the server's of today, else the snapshot's.

    Args:
        given: `IN,OUT` in USD per million tokens.

    Raises:
        BudgetError: `given` is no price, the server refuses the key, or no source has a price.
    """
    today = date.today().isoformat()
    if given is not None:
        pair = [amount(word) for word in given.split(",")]
        if len(pair) != 2 or None in pair:
            raise BudgetError(
                f"--price takes IN,OUT in USD per million tokens, such as 0.1,0.3, not {given!r}."
            )
        return Price(*pair, f"--price, {today}")
    if listed := _listed_price(lab):
        return Price(*listed, f"{lab.client.base_url}models, {today}")
    usd = [round(per_token * 1e6, 6) for per_token in price(lab.model)]
    written = json.loads(PRICES.read_text(encoding="utf-8"))["written"]
    return Price(*usd, f"data/prices.json, {written}")


def _listed_price(lab: Lab) -> tuple[float, float] | None:
    """USD per million tokens by the server's `/models`; None if it names no price."""
    try:
        reply = lab.client.with_options(timeout=20).get("/models", cast_to=object)
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise BudgetError(f"{lab.client.base_url} refuses the key.") from error
    except openai.APIError:
        return None
    entries = reply.get("data") if isinstance(reply, dict) else reply
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("id") == without_routing_suffix(lab.model):
            return _usd_per_million(entry.get("pricing"))
    return None


def _usd_per_million(pricing: object) -> tuple[float, float] | None:
    if not isinstance(pricing, dict) or amount(pricing.get("hourly")):
        return None  # a machine of one's own: it costs by the hour
    # OpenRouter: USD per token, as strings. Together AI: USD per million tokens, as numbers.
    per_token = "prompt" in pricing
    pair = [amount(pricing.get(name)) for name in (OPENROUTER if per_token else TOGETHER)]
    if None in pair:
        return None
    usd = [round(value * (1e6 if per_token else 1), 6) for value in pair]
    return (usd[0], usd[1]) if min(usd) >= LOWEST_PRICE else None


def use_price(model: str, found: Price) -> None:
    """Make a price count in this process and in the kernels that it starts."""
    row = {"input": found.input, "output": found.output}
    os.environ[PRICES_VARIABLE] = json.dumps({without_routing_suffix(model): row})


def estimate_run(notebooks: list[Path], model: str) -> float:
    """USD that running `notebooks` may cost.

    Args:
        notebooks: the files; `data/run_tokens.json` must have their token counts.
        model: the model id whose price counts.

    Raises:
        BudgetError: a notebook has no token count, or the model has no price.
    """
    if not RUN_TOKENS.is_file():
        raise BudgetError("data/run_tokens.json, the source of the estimate, is missing.")
    counts = json.loads(RUN_TOKENS.read_text(encoding="utf-8"))["notebooks"]
    total = 0.0
    for path in notebooks:
        if path.stem not in counts:
            raise BudgetError(f"data/run_tokens.json has no token count for {path.stem}.")
        allowance = cost(ALLOWANCE_PER_NOTEBOOK, model)
        total += SAFETY_FACTOR * cost(counts[path.stem], model) + allowance
    return total


def record_tokens(results: Path) -> None:
    """Keep the token counts of a finished run of all notebooks on the pocket model.

    Args:
        results: the run's results.json.

    Raises:
        BudgetError: the run was on another model, left out a notebook, or has no counts.
    """
    run = json.loads(results.read_text(encoding="utf-8"))
    counted = {row["name"] for row in run["results"] if row["prompt_tokens"] is not None}
    on_pocket = run["backend"] in ("pocket", "openrouter-sim")
    if not on_pocket or counted != {path.stem for path in available()}:
        raise BudgetError("token counts come from whole runs on pocket or openrouter-sim only.")
    names = ("prompt_tokens", "completion_tokens")
    body = {
        "about": "Tokens each notebook sent and received on the pocket model.",
        "command": f"python -m helpers run --backend {run['backend']} --record-tokens",
        "date": run["started"][:10],
        "notebooks": {row["name"]: {name: row[name] for name in names} for row in run["results"]},
    }
    write_text(RUN_TOKENS, json.dumps(body, indent=2) + "\n")
