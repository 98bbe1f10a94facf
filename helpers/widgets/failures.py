"""The simulator's failures one by one: what they mean, and how three clients end with them."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd

from helpers import openrouter
from helpers.attempts import (
    CLIENTS,
    COMPLETE,
    MOST_FAILING,
    PLAIN,
    Attempt,
    Run,
    is_streamed,
    send,
)
from helpers.backends import Lab
from helpers.widgets.explorer import Explorer
from openrouter_sim import faults

SIDE_BY_SIDE = 40  # calls at once; nearly all of them wait in a pause
MOST_CHARACTERS = 1500  # of a body on the page

# What a failure asks of the program, by what the client without retries gets.
FIX, AGAIN = "Fix the request", "Send it again"
BREAKS, ARRIVES = "The stream breaks", "The answer arrives"


def every_run(lab: Lab) -> dict[str, dict[str, list[Run]]]:
    """Each failure with each client, if 0 to 3 attempts fail, side by side in threads.

    Returns:
        by failure and client: the runs, in that order. They end early with one that made no attempt
        after the failing ones: with more failing attempts it would be the same. If none fails,
        all failures are the same request, so it is sent once for each client, plain and streamed.

    Raises:
        ValueError: the server is not the simulator.
    """
    plain_and_streamed = {False: "rate-limit", True: "truncated"}
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        # What pauses longest begins first: many failing attempts, and `complete`.
        begun = {
            (failing, client, name): pool.submit(send, lab, name, client, failing)
            for failing in range(MOST_FAILING, -1, -1)
            for client in reversed(CLIENTS)
            for name in (faults.FAULTS if failing else plain_and_streamed.values())
        }
    found: dict[str, dict[str, list[Run]]] = {}
    for name in faults.FAULTS:
        found[name] = {}
        for client in CLIENTS:
            runs = [begun[0, client, plain_and_streamed[is_streamed(name)]].result()]
            for failing in range(1, MOST_FAILING + 1):
                runs.append(begun[failing, client, name].result())
                if len(runs[-1].attempts) <= failing:
                    break
            found[name][client] = runs
    return found


def explore(lab: Lab) -> Explorer:
    """Look at every failure, and at what three clients make of it.

    Args:
        lab: of `connect("openrouter-sim")`.

    Raises:
        ValueError: as for `every_run`.
    """
    found = every_run(lab)
    entries = {name: _entry(name, by_client) for name, by_client in found.items()}
    rows = {
        name: {
            "HTTP status": entry["status"],
            "error code": entry["code"] or "—",
            "exception": entry["exception"],
            "retry": {True: "yes", False: "no", None: "—"}[entry["retry"]],
            "what to do": entry["action"],
            "openrouter.complete, if it fails twice": entry["runs"][COMPLETE][:3][-1]["ending"],
        }
        for name, entry in entries.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("failure")
    data = {
        "faults": entries,
        "groups": [FIX, AGAIN, BREAKS, ARRIVES],
        "clients": CLIENTS,
        "most_failing": MOST_FAILING,
    }
    return Explorer("Failures of the simulator", table, data, "failures.js")


def _entry(name: str, by_client: dict[str, list[Run]]) -> dict[str, Any]:
    """What the page shows of a failure: what the client without retries gets, and all runs."""
    run = by_client[PLAIN][1]
    first = run.attempts[0]
    advice = openrouter.explain(run.error) if run.error else None
    if advice is None:
        group = ARRIVES
    elif is_streamed(name):
        group = BREAKS
    else:
        group = AGAIN if advice.retry else FIX
    more = len(first.body) - MOST_CHARACTERS
    return {
        "title": faults.FAULTS[name].title,
        "group": group,
        "status": first.status,
        "retry_after": first.retry_after,
        "body": first.body[:MOST_CHARACTERS] + (f" … {more} more characters" if more > 0 else ""),
        "exception": type(run.error).__name__ if run.error else "—",
        "source": run.source,
        "text": run.text,
        "finish_reason": run.finish_reason,
        "code": advice.code if advice else None,
        "server": advice.server if advice else "",
        "summary": advice.summary if advice else "It succeeded: there is nothing to explain.",
        "retry": advice.retry if advice else None,
        "action": advice.action if advice else "Nothing.",
        "runs": {client: [_run(client, r) for r in each] for client, each in by_client.items()},
    }


def _run(client: str, run: Run) -> dict[str, Any]:
    attempts = [
        {
            "sent": round(each.sent_s, 3),
            "ended": round(each.ended_s, 3),
            "status": each.status,
            "why": _why(client, each),
            "failed": run.error is not None or each is not run.attempts[-1],
        }
        for each in run.attempts
    ]
    error = f"{type(run.error).__name__}: {run.error}" if run.error else ""
    return {"attempts": attempts, "ending": run.ending, "error": error, "source": run.source}


def _why(client: str, attempt: Attempt) -> str:
    """What decides how long the pause after an attempt is."""
    if attempt.retry_after is None:
        return "backoff and jitter"
    # The openai package waits exactly as long as the server asks.
    return f"Retry-After: {attempt.retry_after}" + (" and jitter" if client == COMPLETE else "")
