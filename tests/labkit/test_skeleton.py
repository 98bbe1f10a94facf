"""The files around the code: versions, commands and links agree with each other."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from helpers import backends
from helpers.paths import ROOT
from labkit import notebooks
from labkit.cli import main, parser


def requirements(name):
    lines = (ROOT / name).read_text().splitlines()
    return [Requirement(line) for text in lines if (line := text.split("#")[0].strip())]


PINNED = {
    canonicalize_name(one.name): str(one.specifier) for one in requirements("constraints.txt")
}


def test_every_requirement_is_pinned_within_its_range():
    for one in requirements("requirements.txt"):
        pin = PINNED[canonicalize_name(one.name)]
        assert pin.startswith("==")
        assert one.specifier.contains(pin[2:]), one


def test_pins_are_what_is_installed_here():
    differing = {
        name: version(name)
        for name, pin in PINNED.items()
        if version(name).split("+")[0] != pin.removeprefix("==")
    }
    assert differing == {}


def test_colab_keeps_its_torch_and_no_machine_is_named():
    torch = next(one for one in requirements("requirements.txt") if one.name == "torch")
    assert {part.operator for part in torch.specifier} == {">="}
    assert PINNED["torch"] == "==2.13.0"
    for name in ("requirements.txt", "constraints.txt"):
        assert "file:" not in (ROOT / name).read_text()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_of_the_documents_lead_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        file, _, anchor = target.partition("#")
        assert target.startswith("http") or (ROOT / file).exists(), target
        titles = [line.lstrip("# ").lower() for line in text.splitlines() if line.startswith("#")]
        assert not anchor or anchor.replace("-", " ") in titles


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
            assert line.endswith("| yes |") == row.paid


def test_every_command_that_the_documents_name_exists():
    makefile = (ROOT / "Makefile").read_text()
    commands = parser()._subparsers._group_actions[0].choices
    for name in ("README.md", "CONTRIBUTING.md", ".ci/run", ".github/workflows/ci.yml"):
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
    wanted = "helpers run --backend 'openrouter' --notebooks '03 05' --max-usd '0.50'"
    assert wanted in words, done.stderr


def test_the_commands_explain_themselves(capsys):
    for command in ("run", "check", "notebooks"):
        with pytest.raises(SystemExit) as left:
            main([command, "--help"])
        assert left.value.code == 0
    assert "--max-usd" in capsys.readouterr().out


# Without a `main` they measure as they are read.
BENCHMARKS = [path for path in ROOT.glob("benchmarks/*.py") if "def main(" in path.read_text()]


@pytest.mark.parametrize("script", sorted(BENCHMARKS), ids=lambda path: path.stem)
def test_every_benchmark_finds_what_it_uses(script):
    module = runpy.run_path(str(script))  # not as `__main__`: nothing is measured
    assert f"benchmarks/{script.name}" in module["__doc__"], "says how it is started"


def test_ci_calls_the_documented_command():
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK) or sys.platform == "win32"
    assert script.read_text().rstrip().endswith("make test")
    assert "```bash\nmake test\n```" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_slow_part_of_jsonschema_stays_out():
    code = (
        "import sys, helpers, jsonschema\n"
        "jsonschema.validate({'a': 1}, {'properties': {'a': {'type': 'integer'}}})\n"
        "assert sys.modules['rfc3987_syntax'] is None\n"
        "assert 'lark' not in sys.modules"  # which would build its parser
    )
    subprocess.run([sys.executable, "-c", code], check=True)
