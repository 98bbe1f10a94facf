"""The doctor's findings, against the machine asked directly."""

import os
import platform

import psutil

from helpers.backends import BACKENDS
from labkit import doctor
from labkit.cli import main
from pocket_model.build import ADAPTER_VARIABLE
from pocket_model.cache import CACHE_VARIABLE

CANARY = "sk-or-v1-canary0000000000"


def test_it_reads_this_machine():
    report = doctor.report()
    assert platform.python_version() in report.loc["Python", "detail"]
    assert f"{os.cpu_count()} cores" in report.loc["machine", "detail"]
    assert f"{psutil.virtual_memory().total / 2**30:.1f} GiB" in report.loc["memory", "detail"]
    assert {f"backend {name}" for name in BACKENDS if name != "custom"} <= set(report.index)
    gaps = report[report["status"] != "ok"]
    assert all(gaps["what to do"]), "a gap without advice"


def test_a_key_is_named_and_never_shown(monkeypatch, capsys):
    monkeypatch.setenv("OPENROUTER_API_KEY", CANARY)
    assert main(["doctor"]) in (0, 1)
    printed = capsys.readouterr().out
    assert "key found in OPENROUTER_API_KEY" in printed
    assert CANARY not in printed


def test_why_a_backend_cannot_be_used(monkeypatch):
    assert doctor.check_backend("ollama").advice.startswith("No server answers at http://")
    monkeypatch.setenv("MISTRAL_API_KEY", CANARY)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    assert "pip install socksio" in doctor.check_backend("mistral").advice
    monkeypatch.delenv("MISTRAL_API_KEY")
    assert doctor.check_backend("mistral").advice.endswith("; set MISTRAL_API_KEY")


def test_other_versions_and_missing_packages_are_listed(monkeypatch, tmp_path):
    pins = "pytest==0.0.1\nno-such-package==1\nno-such-tool==1\n"
    (tmp_path / "constraints.txt").write_text(pins)
    (tmp_path / "requirements.txt").write_text("No-Such-Package>=1\n")
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    finding = doctor.check_packages()
    assert finding.status == "note"
    assert "pytest" in finding.detail
    assert "no-such-package" in finding.detail
    assert "no-such-tool" not in finding.detail  # only developers need it
    assert "pip install" in finding.advice


def test_a_gap_gives_exit_code_1(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    assert doctor.check_disk().status == "gap"
    assert main(["doctor"]) == 1
    assert "gaps." in capsys.readouterr().out


def test_a_missing_adapter_is_a_gap_and_no_traceback(monkeypatch, tmp_path):
    monkeypatch.setenv(ADAPTER_VARIABLE, str(tmp_path / "nothing.safetensors"))
    finding = doctor.check_pocket()
    assert finding.status == "gap"
    assert ADAPTER_VARIABLE in finding.advice
    assert doctor.check_disk().status in ("ok", "gap")


def test_no_key_is_claimed_where_none_is_set(monkeypatch):
    for row in BACKENDS.values():
        if row.key_variable:
            monkeypatch.delenv(row.key_variable, raising=False)
    details = doctor.report()["detail"]
    assert "needs no key" in details["backend openrouter-sim"]
    assert not details.str.contains("key found").any()
