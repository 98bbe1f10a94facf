"""The doctor's findings, against the machine asked directly."""

import os
import platform
from pathlib import Path

import psutil
import pytest

from helpers.backends import BACKENDS
from helpers.connection.client import CERTIFICATE_VARIABLES, PROXY_VARIABLES
from helpers.paths import ROOT
from labkit import doctor, working_copy
from labkit.cli import main
from labkit.doctor import finding, folders, machine, network, servers
from pocket_model.build import ADAPTER_VARIABLE
from pocket_model.cache import CACHE_VARIABLE

CANARY = "sk-or-v1-canary0000000000"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    """No keys, no proxies, no certificates of this machine's own."""
    names = [row.key_variable for row in BACKENDS.values() if row.key_variable]
    names += [*PROXY_VARIABLES, "NO_PROXY", *CERTIFICATE_VARIABLES, "REQUESTS_CA_BUNDLE"]
    for name in [*names, "CUSTOM_BASE_URL", "CUSTOM_MODEL"]:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def no_server_is_asked(monkeypatch):
    monkeypatch.setattr(servers.backends, "status", lambda name: (False, "No server answers at x"))


def test_it_reads_this_machine(no_server_is_asked):
    findings = doctor.report()["finding"]
    assert platform.python_version() in findings["Python"]
    assert f"{os.cpu_count()} cores" in findings["CPU"]
    assert f"{psutil.virtual_memory().total / 2**30:.1f} GiB" in findings["memory"]
    servers_of = ("pocket", "openrouter-sim", "ollama", "vllm", "custom")
    assert {f"server {name}" for name in servers_of} <= set(findings.index)
    for found in doctor.examine().values():
        assert found
        assert all(each.advice for each in found if each.status != "ok"), "a gap without advice"


def test_what_is_said_of_keys_is_true(monkeypatch, no_server_is_asked):
    (none,) = servers.check_keys()
    assert none.check == "keys"
    assert all(row.key_variable in none.detail for row in BACKENDS.values() if row.key_variable)
    monkeypatch.setenv("OPENROUTER_API_KEY", CANARY)
    monkeypatch.setenv("MISTRAL_API_KEY", '"quoted"')
    found = {each.check: each for each in servers.check_keys()}
    assert found["OPENROUTER_API_KEY"].detail == "set, as an environment variable"
    assert found["MISTRAL_API_KEY"].status == "gap"
    assert "not copied exactly" in found["MISTRAL_API_KEY"].advice
    assert "TOGETHER_API_KEY" in found["other keys"].detail


def test_a_secret_that_may_not_be_read_has_its_own_sentence(monkeypatch):
    from helpers.connection.settings import Setting

    denied = Setting(problem="This notebook may not read it.", withheld=True)
    absent = Setting(problem="Colab has no secret X, or it is empty. Click.")
    monkeypatch.setattr(
        servers.settings, "read", lambda name: denied if name == "MISTRAL_API_KEY" else absent
    )
    found = {each.check: each for each in servers.check_keys()}
    assert found["MISTRAL_API_KEY"].advice == denied.problem
    assert "TOGETHER_API_KEY" in found["other keys"].detail


def test_a_paid_server_is_asked_without_its_key(monkeypatch, no_server_is_asked):
    asked = []

    class Client:
        def __init__(self, **options):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def get(self, url, **options):
            asked.append((url, options))

    monkeypatch.setattr(servers.httpx2, "Client", Client)
    assert not {"openrouter", "mistral"} & {each.check for each in servers.check_servers()}
    assert asked == []
    monkeypatch.setenv("OPENROUTER_API_KEY", CANARY)
    found = {each.check: each for each in servers.check_servers()}
    assert found["openrouter"].detail == "it can be reached; the key was not tried"
    assert asked == [("https://openrouter.ai/api/v1/models", {})]


def test_a_paid_server_behind_a_dead_proxy(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    found = servers.check_paid("openrouter")
    assert found.status == "note"
    assert "proxy" in found.advice


def test_why_a_server_cannot_be_used(monkeypatch):
    found = {each.check: each for each in servers.check_servers()}
    assert found["ollama"].detail == "no server answers (optional)"
    assert "ollama serve" in found["ollama"].advice
    assert "CUSTOM_BASE_URL" in found["custom"].detail
    monkeypatch.setenv("CUSTOM_BASE_URL", "127.0.0.1:9")
    found = {each.check: each for each in servers.check_servers()}
    assert found["custom"].status == "note"
    assert "http://" in found["custom"].detail


def test_proxies(monkeypatch):
    assert network.check_proxy() == ("proxy", "ok", "none", "")
    monkeypatch.setenv("HTTPS_PROXY", "http://anna:secret@proxy.example:3128")
    found = network.check_proxy()
    assert found.status == "note"
    assert "HTTPS_PROXY" in found.detail
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    assert network.check_proxy().detail == "set in HTTPS_PROXY; this machine is exempt"
    monkeypatch.setenv("ALL_PROXY", "socks5://anna:secret@127.0.0.1:9")
    monkeypatch.setattr(network, "find_spec", lambda name: None)
    found = network.check_proxy()
    assert found.status == "gap"
    assert "pip install socksio" in found.advice
    monkeypatch.setenv("ALL_PROXY", "nonsense://x")
    found = network.check_proxy()
    assert found.status == "gap"
    assert "http://host:port" in found.advice


def test_certificates(monkeypatch, tmp_path):
    assert network.check_certificates() == []
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    (found,) = network.check_certificates()
    assert found.status == "gap"
    assert "SSL_CERT_FILE" in found.detail
    (tmp_path / "none.pem").touch()
    assert network.check_certificates()[0].status == "ok"


@pytest.mark.parametrize(("encoding", "status"), [("utf-8", "ok"), ("cp1252", "note")])
def test_consoles(monkeypatch, encoding, status):
    class Terminal:
        pass

    Terminal.encoding = encoding
    monkeypatch.delitem(network.sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(network.sys, "stdout", Terminal())
    assert [each.status for each in network.check_console()] == [status]


@pytest.mark.parametrize(
    ("version", "status"), [((3, 11), "ok"), ((3, 13), "ok"), ((3, 14), "note")]
)
def test_versions_of_python(monkeypatch, version, status):
    monkeypatch.setattr(machine.sys, "version_info", (*version, 0))
    assert machine.check_python().status == status


def test_other_versions_and_missing_packages_are_listed(monkeypatch, tmp_path):
    pins = "pytest==0.0.1\nno-such-package==1 ; python_version > '3'\nno-such-tool==1\n"
    (tmp_path / "constraints.txt").write_text(pins)
    (tmp_path / "requirements.txt").write_text("No_Such-Package[x]>=1\n")
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    found = machine.check_packages()
    assert found.status == "note"
    assert "pytest" in found.detail
    assert "no-such-package" in found.detail
    assert "no-such-tool" not in found.detail  # only developers need it
    assert "pip install" in found.advice


def test_a_gap_gives_exit_code_1(monkeypatch, tmp_path, capsys, no_server_is_asked):
    (tmp_path / "file").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    assert folders.check_cache().status == "gap"
    assert main(["doctor"]) == 1
    assert "Gaps: " in capsys.readouterr().out


def test_a_missing_adapter_is_a_gap_and_no_traceback(monkeypatch, tmp_path):
    monkeypatch.setenv(ADAPTER_VARIABLE, str(tmp_path / "nothing.safetensors"))
    found = servers.check_pocket()
    assert found.status == "gap"
    assert ADAPTER_VARIABLE in found.advice
    assert folders.check_cache().status in ("ok", "gap")


def test_folders_in_google_drive(monkeypatch, tmp_path):
    monkeypatch.setattr(folders, "DRIVE", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    assert "Google Drive" in folders.check_working_folder().detail
    assert CACHE_VARIABLE in folders.check_cache().advice


def test_a_working_folder_that_is_gone(monkeypatch):
    def gone(*_):
        raise FileNotFoundError

    monkeypatch.setattr(os, "getcwd", gone)
    found = {each.check: each.status for each in folders.findings()}
    assert found["working folder"] == "gap"


def test_two_copies_of_the_kit(monkeypatch, tmp_path):
    (tmp_path / "labkit").mkdir()
    (tmp_path / "labkit" / "cli.py").touch()
    monkeypatch.chdir(tmp_path)
    assert str(ROOT) in folders.check_working_folder().detail


def test_code_that_changed_after_the_kernel_had_started(monkeypatch):
    class Started:
        def create_time(self):
            return 0.0

    monkeypatch.setattr(folders.psutil, "Process", Started)
    found = folders.check_kit()
    assert found.status == "gap"
    assert "Restart Kernel" in found.advice
    monkeypatch.setattr(folders, "on_colab", lambda: True)  # the kit is fetched by its kernel
    assert folders.check_kit().status == "ok"


@pytest.mark.parametrize(
    ("states", "status", "words"),
    [
        ({}, "ok", "not made yet"),
        ({"00_a.ipynb": (False, False), "01_b.ipynb": (True, False)}, "ok", "1 with changes"),
        ({"00_a.ipynb": (True, True)}, "note", "newer version of 00"),
    ],
)
def test_the_working_copy(monkeypatch, states, status, words):
    monkeypatch.setattr(working_copy, "compare", lambda: states)
    found = folders.check_working_copy()
    assert found.status == status
    assert words in found.detail


def test_a_bug_report_has_no_secret_and_no_name(monkeypatch, tmp_path, capsys, no_server_is_asked):
    home = tmp_path / "home" / "annaschmidt"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setattr(finding.getpass, "getuser", lambda: "annaschmidt")
    monkeypatch.setenv(CACHE_VARIABLE, str(home / "cache"))
    monkeypatch.setenv("OPENROUTER_API_KEY", CANARY)
    monkeypatch.setenv("HTTPS_PROXY", "http://annaschmidt:secret@127.0.0.1:9")
    for argument in (["--report"], []):
        main(["doctor", *argument])
        printed = capsys.readouterr().out
        for hidden in (CANARY, "annaschmidt", "secret@", str(tmp_path), str(ROOT)):
            assert hidden not in printed
        assert "~/cache" in printed or "~\\cache" in printed
    main(["doctor", "--report"])
    printed = capsys.readouterr().out
    for word in ("mistral-small-lab", platform.python_version(), "torch", "commit", "<kit>"):
        assert word in printed
    assert max(map(len, printed.splitlines())) <= 100


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"in {ROOT}/data", "in <kit>/data"),
        (f"in {Path.home()}/x", "in ~/x"),
        ("at http://me:word@host:1/v1", "at http://host:1/v1"),
        ("/mnt/annaschmidt/x", "/mnt/<user>/x"),
        ("annaschmidts", "annaschmidts"),
        (f"http://127.0.0.1:9/{CANARY}/v1", "http://127.0.0.1:9/<key>/v1"),
        ("no address: 'a1B2c3D4e5F6g7H8i9J0k1L2'", "no address: '<key>'"),
        *[(name, name) for name in ("Mistral-Small-3.2-24B-Instruct-2506", "task-force_of_many")],
    ],
)
def test_private(monkeypatch, text, shown):
    monkeypatch.setattr(finding.getpass, "getuser", lambda: "annaschmidt")
    assert finding.private(text) == shown


def test_a_user_without_a_name(monkeypatch):
    def nobody():
        raise OSError

    monkeypatch.setattr(finding.getpass, "getuser", nobody)
    assert finding.private("x") == "x"


def test_text_fits_a_narrow_terminal():
    long = "word " * 40
    found = {"machine": [doctor.Finding("a check with a long name", "gap", long, long)]}
    lines = doctor.text(found, 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.strip().startswith("→") for line in lines)
    assert len(doctor.text(found, None).splitlines()) == 2
