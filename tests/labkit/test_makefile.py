"""What `make` installs: which PyTorch, and with which Python. A script stands in for Python."""

import shutil
import subprocess
import sys

import pytest

from helpers.paths import ROOT

# It writes down how it is called, and makes the environment that it is asked for.
PYTHON = """#!/bin/sh
echo "$@" >> "$LOG"
case "$*" in
  *urlopen*) exit ${PROBE:-0};;
  *"< (3, 11)"*) exit ${TOO_OLD:-0};;
  *">= (3, 14)"*) exit ${TOO_NEW:-0};;
  *"-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python;;
  *--index-url*) exit ${CPU_BUILD:-0};;
esac
"""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("make"), reason="make on Linux"
)


@pytest.fixture
def install(tmp_path):
    """A function that runs `make .venv/.installed`; it returns the process and Python's calls."""
    for name in ("Makefile", "requirements.txt", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "echo", "uname", "grep", "touch", "mkdir", "cp", "cat"):
        (tools / name).symlink_to(shutil.which(name))
    python = tools / "python3"
    python.write_text(PYTHON)
    python.chmod(0o755)
    log = tmp_path / "log"

    def run(*arguments, gpu=False, **variables):
        if gpu:
            (tools / "nvidia-smi").symlink_to(shutil.which("true"))
        environment = {"PATH": str(tools), "LOG": str(log)} | variables
        done = subprocess.run(
            [shutil.which("make"), ".venv/.installed", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        return done, [line for line in log.read_text().splitlines() if "pip install" in line]

    assert "torch==" in (tmp_path / "constraints.txt").read_text()
    return run


def test_a_kit_that_was_moved_is_installed_again(install, tmp_path):
    _, calls = install()
    assert install()[1] == calls
    stamp = tmp_path / ".venv/.installed"
    assert stamp.read_text() == f"{tmp_path.resolve()}\n"
    stamp.write_text("/another/folder\n")
    assert install()[1] == 2 * calls
    assert install()[1] == 2 * calls


def test_without_a_gpu_the_cpu_build_comes_first(install):
    done, (first, second) = install()
    assert done.returncode == 0
    assert "--no-deps --index-url https://download.pytorch.org/whl/cpu torch==" in first
    assert "-r requirements.txt -c constraints.txt -e ." in second


@pytest.mark.parametrize(
    ("arguments", "options"), [([], {"gpu": True}), (["TORCH_CPU="], {}), ([], {"PROBE": "1"})]
)
def test_with_a_gpu_or_without_that_index_the_ordinary_one_is_used(install, arguments, options):
    done, calls = install(*arguments, **options)
    assert done.returncode == 0
    assert len(calls) == 1
    assert "--index-url" not in calls[0]
    assert ("does not answer" in done.stdout) == ("PROBE" in options)


def test_an_index_without_this_version_stops_nothing(install):
    done, calls = install(CPU_BUILD="1")
    assert done.returncode == 0
    assert len(calls) == 2


def test_a_python_that_is_newer_than_tested_is_named(install):
    done, calls = install(TOO_NEW="1")
    assert done.returncode == 0
    assert "tested with Python 3.11 to 3.13" in done.stderr
    assert len(calls) == 2


def test_a_python_that_is_too_old_is_refused(install):
    done, calls = install(TOO_OLD="1")
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stderr
    assert calls == []
