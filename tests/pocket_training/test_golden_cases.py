"""A seed still gives the cases that it gave when `golden_cases.json` was written."""

import json
import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


@pytest.mark.slow
def test_a_seed_gives_the_same_cases():
    """Renew the file on purpose only; `golden_cases.py` says how."""
    hashes = runpy.run_path(str(FOLDER / "golden_cases.py"))["hashes"]()
    assert hashes == json.loads((FOLDER / "golden_cases.json").read_text(encoding="utf-8"))
