"""What a run of the notebooks may cost on a paid backend, from token counts of the pocket model."""

import json
from pathlib import Path

from helpers.paths import DATA, write_text
from helpers.prices import BudgetError, cost
from labkit.notebooks import available

RUN_TOKENS = DATA / "run_tokens.json"

# The tokens were counted on the pocket model. Another model's answers may be longer, and a picture
# of 15 tokens can be 200 tokens for the 24B. So the counts are multiplied, and each notebook gets
# an allowance. Both figures are generous guesses.
SAFETY_FACTOR = 2.0
ALLOWANCE_PER_NOTEBOOK = {"prompt_tokens": 5000, "completion_tokens": 1000}


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
