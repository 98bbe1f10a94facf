"""The doctor's findings, against the machine asked directly."""

import os
import platform

import psutil

from helpers.backends import BACKENDS
from labkit import doctor
from pocket_model.cache import CACHE_VARIABLE

CANARY = "sk-or-v1-canary0000000000"


def test_it_reads_this_machine():
    found = doctor.report()
    assert platform.python_version() in found.loc["Python", "detail"]
    assert str(os.cpu_count()) in found.loc["processor", "detail"]
    assert f"{psutil.virtual_memory().total / 2**30:.1f} GiB" in found.loc["memory", "detail"]
    assert {f"backend {name}" for name in BACKENDS if name != "custom"} <= set(found.index)
    gaps = found[found["status"] != "ok"]
    assert all(gaps["what to do"]), "a gap without advice"


def test_a_key_is_named_and_never_shown(monkeypatch, capsys):
    monkeypatch.setenv("OPENROUTER_API_KEY", CANARY)
    assert doctor.main([]) in (0, 1)
    printed = capsys.readouterr().out
    assert "key found in OPENROUTER_API_KEY" in printed
    assert CANARY not in printed


def test_other_versions_and_missing_packages_are_listed(monkeypatch, tmp_path):
    (tmp_path / "constraints.txt").write_text("pytest==0.0.1\nno-such-package==1\n")
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    _, status, detail, advice = doctor._versions()
    assert status == "note"
    assert "pytest" in detail
    assert "no-such-package" in detail
    assert "pip install" in advice


def test_a_gap_gives_exit_code_1(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    assert doctor._disk()[1] == "gap"
