"""The import contracts in pyproject.toml hold, and each of them can fail."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.paths import ROOT
from labkit.freshness import PACKAGES


def lint_imports(folder: Path) -> subprocess.CompletedProcess:
    """Run import-linter on the packages in `folder`, with its pyproject.toml."""
    command = [sys.executable, "-c", "import sys; from importlinter.cli import lint_imports_command"
               "; sys.exit(lint_imports_command())", "--no-cache"]  # fmt: skip
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_the_contracts_hold():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


BREACHES = [
    ("pocket_model.cache", "helpers.paths"),
    ("openrouter_sim.faults", "helpers.prices"),
    ("pocket_training.scenes", "helpers.images"),
    ("helpers.prices", "labkit.notebooks"),
    ("helpers.images", "pocket_training.lora"),
    ("helpers.model.sizes", "helpers.backends"),
    ("helpers.model.cards", "openai"),
    ("helpers.model.fit", "helpers.latency"),
    ("helpers.model.speed", "pocket_model.vision"),
    ("labkit.doctor.machine", "pocket_training.lora"),
    ("labkit.doctor.machine", "labkit.cli"),
    ("labkit.audit.claims", "labkit.notebooks"),
    ("labkit.exercises.engine", "labkit.audit.claims"),
    ("pocket_model.cache", "pocket_model.server.sampling"),
    ("pocket_model.lease", "starlette"),
    ("pocket_model.lease", "openai"),
    ("pocket_model.lease", "torch"),
]
# For type checkers alone: an arrow all the same.
TYPE_BREACH = ("pocket_model.reply", "helpers.tools")


@pytest.fixture(scope="module")
def complaints(tmp_path_factory) -> str:
    """What import-linter prints about a copy of the kit with all BREACHES."""
    folder = tmp_path_factory.mktemp("kit")
    shutil.copy(ROOT / "pyproject.toml", folder)
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    for importer, imported in BREACHES:
        file = folder / f"{importer.replace('.', '/')}.py"
        file.write_text(f"{file.read_text(encoding='utf-8')}\nimport {imported}\n", "utf-8")
    file = folder / f"{TYPE_BREACH[0].replace('.', '/')}.py"
    guarded = (
        f"\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {TYPE_BREACH[1]}\n"
    )
    file.write_text(file.read_text(encoding="utf-8") + guarded, "utf-8")
    done = lint_imports(folder)
    assert done.returncode == 1, done.stdout + done.stderr
    return " ".join(done.stdout.split())


@pytest.mark.parametrize(("importer", "imported"), [*BREACHES, TYPE_BREACH], ids=lambda name: name)
def test_a_breach_is_found_and_names_both_modules(complaints, importer, imported):
    assert f"{importer} -> {imported} (l." in complaints


def test_nothing_in_data_is_code():
    assert [path for path in (ROOT / "data").rglob("*.py")] == []


def test_only_labkit_reads_the_notebooks():
    for package in sorted({*PACKAGES} - {"labkit"}):
        for path in (ROOT / package).rglob("*.py"):
            code = path.read_text(encoding="utf-8")
            if path != ROOT / "helpers" / "paths.py":  # says where they are
                assert "NOTEBOOKS" not in code, path
            assert ".ipynb" not in code, path
