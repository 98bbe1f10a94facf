"""The set-up on Colab: what it installs, what it leaves alone, and what it says when it fails."""

import os
import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from helpers.paths import ROOT
from labkit import colab, colab_packages, notebooks, repository
from labkit.cli import main

# On Colab nobody runs the command line's runner or JupyterLab.
NOT_AT_RUN_TIME = {"jupyterlab", "papermill"}


def requirements(name: str) -> dict[str, Requirement]:
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    found = [Requirement(line) for line in lines if line and not line.startswith("-")]
    return {colab.canonical(each.name): each for each in found}


def test_colab_gets_what_the_notebooks_need_and_nothing_else():
    """What Colab has in a version that is new enough is not installed."""
    needed, extra = requirements("requirements.txt"), requirements("requirements-colab.txt")
    present = colab_packages.packages()
    lacking = {
        name: each
        for name, each in needed.items()
        if name not in NOT_AT_RUN_TIME
        and (name not in present or not each.specifier.contains(present[name]))
    }
    assert {name: str(each) for name, each in extra.items()} == {
        name: str(each) for name, each in lacking.items()
    }


def test_pip_would_replace_on_colab_only_what_may_be_replaced():
    """pip's own resolution, for Colab's Python and its packages; installs nothing."""
    try:
        found = colab_packages.resolve(colab_packages.packages())
    except ConnectionError as error:
        pytest.skip(str(error))
    print(found)
    assert found.replaced.keys() <= set(colab.REPLACED)
    tools = requirements("requirements-dev.txt").keys() | NOT_AT_RUN_TIME
    assert not found.added.keys() & tools
    assert len(found.added) < 20


def test_what_is_there_stays_and_what_comes_is_what_was_tested():
    present = {"torch": "2.11.0+cu128", "openai": "2.54.0", "numpy": "2.1.3", "odd": "1.0-beta_x"}
    tested = {"torch": "2.13.0", "openai": "3.54.0", "pint": "0.25.3"}
    assert colab.constraints(present, tested) == {
        "torch": "2.11.0+cu128",
        "openai": "3.54.0",
        "numpy": "2.1.3",
        "pint": "0.25.3",
    }


def test_a_list_of_pins_is_read_whatever_else_is_in_it():
    text = (
        "# x\nA_b.c==1.2\n-e .\nspacy @ https://x/y.whl\nd==2.0 # why\ne==1 ; python_version>'3'\n"
    )
    assert colab.pins(text) == {"a-b-c": "1.2", "d": "2.0", "e": "1"}


def test_the_list_of_colab_is_renewed(tmp_path):
    old = tmp_path / "packages-2026-08-19.txt"
    old.write_text(colab_packages.list_file().read_text())
    newer = tmp_path / "pip-freeze.txt"
    pairs = {**colab_packages.packages(), "numpy": "2.9.9"}
    del pairs["torch"]
    lines = [f"{name}=={version}" for name, version in pairs.items()]
    address = "https://download.pytorch.org/whl/cu128/torch-2.12.1%2Bcu128-cp313-linux.whl"
    newer.write_text("\n".join([*lines, f"torch @ {address}", "-e /content/x"]))
    written = colab_packages.renew(newer, tmp_path, date(2026, 12, 1))
    assert written.name == "packages-2026-12-01.txt"
    assert not old.exists()
    pins = colab.pins(written.read_text())
    assert pins == {**colab_packages.packages(), "numpy": "2.9.9", "torch": "2.12.1"}


@pytest.mark.parametrize("text", ["", "<html>", "numpy==1.0\n", None, b"\xff\xfe"])
def test_what_is_no_list_of_colab_is_refused(tmp_path, capsys, text):
    file = tmp_path / "list.txt"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    before = sorted(colab_packages.FOLDER.iterdir())
    assert main(["check", "--colab-list", str(file)]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert sorted(colab_packages.FOLDER.iterdir()) == before


# The cell, with a repository of one file in place of GitHub's

SCRIPT = "def set_up(tag):\n    print(f'set up {tag} from {__file__}')\n"


@pytest.fixture
def origin(tmp_path, monkeypatch) -> Path:
    """A repository that answers at this repository's address, with the tag of this version."""
    folder = tmp_path / "origin"
    (folder / "labkit").mkdir(parents=True)
    (folder / "labkit/colab.py").write_text(SCRIPT)
    git = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["commit", "-qm", "x"],
        ["tag", repository.tag()],
    ):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{folder}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", notebooks.REPOSITORY)
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    return folder


def run_cell(tmp_path: Path) -> None:
    exec(notebooks.COLAB_CELL.replace("/content/", f"{tmp_path}/content/"), {})


def kit_folder(tmp_path: Path) -> Path:
    (folder,) = (path for path in (tmp_path / "content").iterdir() if path.suffix != ".part")
    return folder


def test_the_cell_fetches_the_tag_once(origin, tmp_path, capsys):
    (tmp_path / "content").mkdir()
    run_cell(tmp_path)
    assert capsys.readouterr().out.startswith(f"set up {repository.tag()} from {tmp_path}/content/")
    shutil.rmtree(origin)
    run_cell(tmp_path)  # no network is needed again
    tags = ["git", "-C", str(kit_folder(tmp_path)), "tag"]
    assert subprocess.run(tags, capture_output=True, text=True).stdout.strip() == repository.tag()


def test_without_the_tag_the_default_branch_is_fetched(origin, tmp_path, capsys):
    subprocess.run(["git", "-C", str(origin), "tag", "-d", repository.tag()], check=True)
    run_cell(tmp_path)
    assert "set up" in capsys.readouterr().out


def test_half_a_clone_is_thrown_away(origin, tmp_path, capsys):
    name = f"{notebooks.REPOSITORY.split('/')[-1]}-{repository.tag()}"
    half = tmp_path / "content" / f"{name}.part/labkit"
    half.mkdir(parents=True)
    (half / "half.py").touch()
    run_cell(tmp_path)
    assert [path.name for path in (kit_folder(tmp_path) / "labkit").iterdir()] == ["colab.py"]


def test_without_a_network_the_cell_says_so_in_a_sentence(origin, tmp_path):
    shutil.rmtree(origin)
    with pytest.raises(SystemExit, match=r"cannot be fetched\. Check the network"):
        run_cell(tmp_path)


def test_elsewhere_the_cell_does_nothing(monkeypatch, capsys):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("ran a command"))
    exec(notebooks.COLAB_CELL, {})
    assert capsys.readouterr().out == "Not on Colab: nothing to install here.\n"


# The set-up itself, with a pip that only writes down what it was asked for


class Pip:
    def __init__(self, monkeypatch, tmp_path):
        self.kit = tmp_path / "kit"
        (self.kit / "notebooks").mkdir(parents=True)
        (self.kit / "constraints.txt").write_text("pint==0.25.3\n")
        self.commands, self.constraints, self.fails_with, self.tags = [], "", "", "v1\n"
        monkeypatch.setattr(colab.subprocess, "run", self.run)
        monkeypatch.setattr(colab.sysconfig, "get_path", lambda _: str(tmp_path))
        monkeypatch.setattr(sys, "path", [*sys.path])
        monkeypatch.chdir(tmp_path)
        for name in (*colab.PACKAGES, *(name.replace("-", "_") for name in colab.REPLACED)):
            monkeypatch.delitem(sys.modules, name, raising=False)

    def run(self, command, **_):
        self.commands.append(command)
        if command[0] == "git":
            return subprocess.CompletedProcess(command, 0, self.tags, "")
        self.constraints = Path(command[command.index("-c") + 1]).read_text()
        return subprocess.CompletedProcess(command, bool(self.fails_with), "", self.fails_with)


@pytest.fixture
def pip(monkeypatch, tmp_path) -> Pip:
    return Pip(monkeypatch, tmp_path)


def test_a_second_run_is_done_at_once(pip, capsys, tmp_path):
    colab.set_up("v1", pip.kit)
    said = capsys.readouterr().out
    assert "Installing" in said
    assert re.search(r"Replaced: .+ It took \d+ s\.\nThe kit is set up\.", said)
    assert Path.cwd() == pip.kit / "notebooks"
    assert (tmp_path / "mistral_small_lab.pth").read_text() == f"{pip.kit}\n"
    assert f"torch=={colab.installed()['torch']}" in pip.constraints.splitlines()
    assert not any(line.startswith("openai==") for line in pip.constraints.splitlines())
    pip.commands.clear()
    colab.set_up("v1", pip.kit)
    assert capsys.readouterr().out.startswith("The kit is already set up.")
    assert pip.commands == []


def test_a_missing_tag_is_told(pip, capsys):
    pip.tags = ""
    colab.set_up("v1", pip.kit)
    assert capsys.readouterr().out.startswith("There is no tag v1: this is the default branch")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ("WARNING: x\nERROR: No matching distribution found for pint>=0.24", "Check the network"),
        ("ERROR: Cannot install x because of conflicting dependencies.", "Runtime version"),
        ("", "Check the network"),
    ],
)
def test_a_failed_install_is_told_in_a_sentence_and_can_be_tried_again(pip, error, says):
    pip.fails_with = error or "killed"
    with pytest.raises(colab.SetupError, match=says) as caught:
        colab.set_up("v1", pip.kit)
    assert caught.value._render_traceback_() == [str(caught.value)]
    pip.fails_with = ""
    colab.set_up("v1", pip.kit)


@pytest.mark.parametrize("name", ["transformers", "huggingface_hub", "labkit"])
def test_a_kernel_with_older_modules_must_be_restarted(pip, monkeypatch, name):
    module = ModuleType(name)
    module.__version__, module.__file__ = "0.1", str(ROOT / name / "__init__.py")
    monkeypatch.setitem(sys.modules, name, module)
    for _ in range(2):  # as long as it was not restarted
        with pytest.raises(colab.SetupError, match="Please restart now") as caught:
            colab.set_up("v1", pip.kit)
        assert colab.canonical(name) in str(caught.value)
    monkeypatch.delitem(sys.modules, name)
    colab.set_up("v1", pip.kit)


def test_the_set_up_needs_nothing_that_is_not_pythons_own():
    code = "import runpy, sys; runpy.run_path(sys.argv[1])"
    command = [sys.executable, "-I", "-S", "-c", code, str(ROOT / "labkit/colab.py")]
    assert subprocess.run(command, env=os.environ | {"PYTHONPATH": ""}).returncode == 0


def test_the_versions_that_are_replaced_are_older_than_what_comes():
    present = colab_packages.packages()
    tested = colab.pins((ROOT / "constraints.txt").read_text())
    assert all(Version(tested[name]) > Version(present[name]) for name in colab.REPLACED)
