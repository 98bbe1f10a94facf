"""The files around the code: versions, commands and links agree with each other."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from importlib.metadata import version

import pytest
import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from helpers import backends
from helpers.paths import ROOT
from labkit import notebooks
from labkit.cli import app


def requirements(name):
    lines = [text.split("#")[0].strip() for text in (ROOT / name).read_text().splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("-r ")]


PINNED = {
    canonicalize_name(pin.name): str(pin.specifier)
    for pin in requirements("constraints.txt")
    if pin.marker is None or pin.marker.evaluate()
}


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_is_pinned_within_its_range(name):
    for requirement in requirements(name):
        pin = PINNED[canonicalize_name(requirement.name)]
        assert pin.startswith("==")
        assert requirement.specifier.contains(pin[2:]), requirement


def test_pins_are_what_is_installed_here():
    differing = {
        name: version(name)
        for name, pin in PINNED.items()
        if version(name).split("+")[0] != pin.removeprefix("==")
    }
    assert differing == {}


def test_colab_keeps_its_torch_and_no_machine_is_named():
    (torch,) = [each for each in requirements("requirements.txt") if each.name == "torch"]
    assert {part.operator for part in torch.specifier} == {">="}
    assert PINNED["torch"] == "==2.13.0"
    for name in ("requirements.txt", "constraints.txt"):
        assert "file:" not in (ROOT / name).read_text()


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", "GLOSSARY.md", "SERVERS.md", "WORKSHOP.md"]
)
def test_links_of_the_documents_lead_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if link.startswith("http"):
            continue
        file, _, anchor = link.partition("#")
        target = ROOT / (file or name)
        assert target.exists(), link
        if anchor:
            lines = target.read_text(encoding="utf-8").splitlines()
            titles = [line.lstrip("# ").lower() for line in lines if line.startswith("#")]
            anchors = [re.sub(r"[^\w -]", "", title).replace(" ", "-") for title in titles]
            assert anchor in anchors, link


def test_readme_lists_every_notebook_with_its_own_colab_link():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in notebooks.available():
        title = notebooks.title(notebooks.read(path)).replace(" · ", " ")
        assert f"[{title}](notebooks/{path.name})" in text
        link = notebooks.badge(path).rsplit("(", 1)[1].rstrip(")")
        assert f"[c{int(path.name[:2])}]: {link}" in text


def test_readme_lists_every_backend_and_its_key():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, row in backends.BACKENDS.items():
        line = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert (row.key_variable or "no key") in line
        if name != "custom":
            assert ("| yes |" in line) == row.paid


def test_every_command_that_the_documents_name_exists():
    makefile = (ROOT / "Makefile").read_text()
    commands = typer.main.get_command(app).commands
    documents = ("README.md", "SERVERS.md", "WORKSHOP.md", "CONTRIBUTING.md")
    for name in (*documents, ".ci/run", ".github/workflows/ci.yml"):
        text = (ROOT / name).read_text(encoding="utf-8")
        for target in re.findall(r"(?:^|`|run: )make (\w+)\b(?!\.)", text, re.M):
            assert re.search(rf"^{target}:", makefile, re.M), (name, target)
        for command in re.findall(r"-m helpers (\w+)", text):
            assert command in commands, (name, command)


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make here")
def test_make_passes_its_options_on():
    arguments = ["BACKEND=openrouter", "NOTEBOOKS=03 05", "MAX_USD=0.50"]
    done = subprocess.run(
        ["make", "-n", "-o", ".venv/.installed", "run", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"MAKEFLAGS": ""},
    )
    words = " ".join(done.stdout.replace("\\\n", " ").split())
    command = "helpers run --backend 'openrouter' --notebooks '03 05' --max-usd '0.50'"
    assert command in words, done.stderr


# Without a `main` they measure as they are read.
BENCHMARKS = [path for path in ROOT.glob("benchmarks/*.py") if "def main(" in path.read_text()]


@pytest.mark.parametrize("script", sorted(BENCHMARKS), ids=lambda path: path.stem)
def test_every_benchmark_finds_what_it_uses(script, monkeypatch):
    monkeypatch.syspath_prepend(script.parent)  # as Python does for a script
    module = runpy.run_path(str(script))  # not as `__main__`: nothing is measured
    assert f"benchmarks/{script.name}" in module["__doc__"], "says how it is started"


def test_ci_calls_the_documented_command():
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK) or sys.platform == "win32"
    commands = re.findall(r"^.*\bmake (test\S*)", script.read_text(), re.MULTILINE)
    assert list(dict.fromkeys(commands)) == ["test", "test-clients", "test-browser"]
    assert "```bash\nmake test\n```" in (ROOT / "README.md").read_text(encoding="utf-8")
