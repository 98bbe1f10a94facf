"""Claims computed again: one small function for each kind of claim.

A check takes the claim's own numbers, as `data/claims.yaml` gives them, and returns a `Finding`.
With other numbers the verdict changes, so no check knows the answer in advance.

Every public function that is defined in one of these modules is a check:
`shapes` (from the configs), `hardware` (speed and memory), `scores` (benchmark figures),
`software` (prices, APIs and libraries).
"""

from collections.abc import Callable
from inspect import getmembers, isfunction

from labkit.audit.claim_checks import hardware, scores, shapes, software
from labkit.audit.claim_checks.finding import Finding

CHECKS: dict[str, Callable[..., Finding]] = {
    name: function
    for module in (shapes, hardware, scores, software)
    for name, function in getmembers(module, isfunction)
    if function.__module__ == module.__name__ and not name.startswith("_")
}
