"""TODO."""

import json
from pathlib import Path

from helpers.paths import DATA
from helpers.prices import BudgetError, cost

RUN_TOKENS = DATA / "run_tokens.json"


# The token counts were taken on the pocket model; another model's answers may be longer, and a
# picture that is 15 tokens to it can be 200 to the 24B. Both allowances are generous guesses.
SAFETY_FACTOR = 2.0


PER_NOTEBOOK = {"prompt_tokens": 5000, "completion_tokens": 1000}


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
