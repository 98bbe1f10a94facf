"""Environments that are made once, and anew after an interruption. pip runs for real."""

import subprocess
import threading
import time

import pytest

from labkit.serving import environment
from labkit.serving.environment import Environment, shell
from labkit.serving.errors import ServingError


@pytest.fixture
def nothing(tmp_path, monkeypatch, empty_cache):
    """An environment whose list of requirements the test can change."""
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    (tmp_path / "requirements.txt").write_text("# nothing\n")
    return Environment("nothing", "requirements.txt", gib=0.1)


def test_it_is_made_once(nothing, capsys):
    folder = nothing.make()
    assert nothing.is_complete()
    subprocess.run([nothing.program("python"), "-c", "import pip"], check=True)
    capsys.readouterr()
    assert nothing.make() == folder
    assert capsys.readouterr().out == ""


def test_other_requirements_make_another_one_and_name_the_old(nothing, tmp_path, capsys):
    before = nothing.folder
    before.mkdir(parents=True)
    before.with_name("nothing-else-py311-00000000").mkdir()
    (tmp_path / "requirements.txt").write_text("# changed\n")
    assert nothing.make() != before
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Remove")]
    assert said == [f"Remove {before} if no other copy of the kit uses it."]
    assert before.is_dir()


def test_one_that_was_interrupted_is_made_anew(nothing, capsys):
    broken = nothing.folder / "bin" / "half"
    broken.parent.mkdir(parents=True)
    broken.touch()
    nothing.make()
    assert "was interrupted: it is made anew" in capsys.readouterr().out
    assert not broken.exists()


def test_ctrl_c_leaves_no_complete_environment(nothing, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Environment, "_pip", interrupted)
    with pytest.raises(KeyboardInterrupt):
        nothing.make()
    assert not nothing.is_complete()
    monkeypatch.undo()


def test_without_a_network_it_says_what_to_bring(nothing, tmp_path, monkeypatch):
    (tmp_path / "requirements.txt").write_text("no-such-package-of-anyone==1\n")
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(ServingError) as refused:
        nothing.make()
    words = ["could not be installed", "pip download -r requirements.txt", "PIP_NO_INDEX=1"]
    assert [word for word in words if word not in str(refused.value)] == []
    assert not nothing.is_complete()


def test_a_full_disk_is_said_before(nothing):
    with pytest.raises(ServingError, match="needs 1e\\+09 GiB of disk"):
        Environment("nothing", "requirements.txt", gib=1e9).make()


def test_a_second_process_waits_for_the_first(nothing, capsys):
    first = threading.Thread(target=nothing.make)
    first.start()
    while not nothing.folder.exists():
        time.sleep(0.01)
    nothing.make()
    first.join()
    assert "Another process installs nothing" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["VLLM_GPU", "VLLM_CPU", "ROUTER"])
def test_every_line_of_the_lists_is_an_exact_version(name):
    lines = getattr(environment, name).file.read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins
    assert [pin for pin in pins if "==" not in pin] == []


def test_a_command_can_be_copied():
    command = ["vllm", "serve", "my model", "--limit", '{"image": 10}', "--flag", "-x", "a b"]
    text = shell(command, {"KEY": "one two"})
    probe = "import sys, os; print(sys.argv[1:], os.environ['KEY'])"
    python = text.replace("vllm serve", f'python3 -c "{probe}"')
    done = subprocess.run(["sh", "-c", python], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{command[2:]} one two"
