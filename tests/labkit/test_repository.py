"""The repository's address is one setting: all that names it follows."""

import re
import shutil
import subprocess
import sys

import pytest

from helpers.paths import ROOT
from labkit import notebooks, repository
from labkit.cli import main

NEW = "https://github.com/some-school/its.course-"


@pytest.mark.parametrize(
    "url", [NEW, f"{NEW}/", f"{NEW}.git", f"  {NEW}  ", f"{NEW}.git/"], ids=repr
)
def test_an_address_is_read_as_people_write_it(url):
    assert repository.parse(url) == NEW


@pytest.mark.parametrize(
    "url",
    [
        "",
        "some-school/its.course",
        "http://github.com/a/b",
        "https://gitlab.com/a/b",
        "https://github.com/a",
        "https://github.com/a/b/tree/main",
        "https://github.com/a/..",
        "https://github.com/-a/b",
        "https://github.com/a/b?tab=readme",
        "https://github.com.example.org/a/b",
        "git@github.com:a/b.git",
        'https://github.com/a/b"+x+"',
        "https://github.com/a/b\nc",
    ],
)
def test_another_address_is_refused_in_words(url, capsys):
    before = (ROOT / repository.SETTING).read_bytes()
    assert main(["check", "--repository", url or " ", "--fix"]) == 2
    assert "https://github.com/OWNER/NAME" in capsys.readouterr().err
    assert (ROOT / repository.SETTING).read_bytes() == before


def test_a_new_address_is_written_only_together_with_all_notebooks(capsys):
    assert main(["check", "--repository", NEW]) == 2
    assert main(["check", "--repository", NEW, "--fix", "03"]) == 2
    assert "--fix" in capsys.readouterr().err


def test_all_that_names_the_address_follows(tmp_path):
    """The command on a copy of the kit. Nothing there becomes stale by it."""
    copy = tmp_path / "kit"
    skip = shutil.ignore_patterns(
        ".*", "*.egg-info", "runs", "my", "tests", "__pycache__", "clients"
    )
    shutil.copytree(ROOT, copy, ignore=skip)
    check = [sys.executable, "-m", "helpers", "check"]

    def problems(*options: str) -> list[str]:
        done = subprocess.run([*check, *options], cwd=copy, capture_output=True, text=True)
        assert done.returncode < 2, done.stderr
        return [
            line
            for line in done.stdout.splitlines()
            if "renewed" not in line and "made again" not in line
        ]

    before = problems()
    assert problems("--repository", NEW, "--fix") == before
    old = repository.address().removeprefix("https://github.com/")
    for path in copy.rglob("*"):
        if path.suffix in {".md", ".toml", ".ipynb", ".py", ".j2", ".txt", ".json", ".yml"}:
            assert old not in path.read_text(encoding="utf-8"), path.relative_to(copy)
    readme = (copy / "README.md").read_text(encoding="utf-8")
    assert f"git clone {NEW} && cd its.course-\n" in readme
    badges = re.findall(r"/github/some-school/its\.course-/blob/", readme)
    assert len(badges) == len(notebooks.available()) + 1  # the workshop's
