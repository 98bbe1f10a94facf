"""The conformance suite's results on file: what was proven, for which model, when."""

import json
from pathlib import Path

from helpers.paths import DATA
from pocket_model.cache import CacheError, cache_dir

SHIPPED = DATA / "conformance"


def result_file(backend: str, model: str) -> str:
    return f"{backend}--{model.replace('/', '-').replace(':', '-')}.json"


def supports(backend: str, model: str, documented: frozenset[str]) -> tuple[frozenset[str], str]:
    """What a backend supports, and on what evidence.

    The newest result counts, the reader's own or the one shipped with the kit; without either,
    what the backend's makers document is taken, and the evidence says so.
    """
    name = result_file(backend, model)
    files = [folder / name for folder in (_own(), SHIPPED) if folder and (folder / name).is_file()]
    if not files:
        return documented, (
            "documented by its makers, not proven here: "
            f"python -m helpers conformance --backend {backend}"
        )
    results = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    result = max(results, key=lambda one: one["date"])
    passed = frozenset(row["feature"] for row in result["rows"] if row["status"] == "yes")
    return passed, f"proven by the conformance suite on {result['date']}"


def _own() -> Path | None:
    try:
        return cache_dir() / "conformance"
    except CacheError:
        return None
