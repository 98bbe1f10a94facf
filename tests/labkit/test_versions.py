"""The pinned versions can be installed on every Python that the kit is for."""

from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from helpers.paths import ROOT
from labkit.doctor.machine import TESTED

MINORS = range(TESTED[0][1], TESTED[1][1] + 1)


def pins(python: str) -> list[Requirement]:
    """The lines of constraints.txt that count for a version of Python."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    environment = {"python_version": python.rpartition(".")[0], "python_full_version": python}
    return [each for each in pinned if not each.marker or each.marker.evaluate(environment)]


@pytest.mark.parametrize("python", [f"3.{minor}.0" for minor in MINORS])
def test_every_pin_accepts_the_first_release_of_each_python(python):
    refused = []
    for pin in pins(python):
        try:
            package = metadata.distribution(pin.name)
        except metadata.PackageNotFoundError:
            continue  # of another system
        wanted = package.metadata["Requires-Python"] or ""
        if pin.specifier.contains(package.version) and not SpecifierSet(wanted).contains(python):
            refused.append(f"{pin}: {wanted}")
    assert refused == []


def test_the_workflow_the_readme_and_the_doctor_name_the_same_versions():
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    versions = [f"3.{minor}" for minor in MINORS]
    quoted = ", ".join(f'"{version}"' for version in versions)
    assert f"python: [{quoted}]" in workflow
    assert f"Python {', '.join(versions[:-1])} or {versions[-1]}" in readme
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
