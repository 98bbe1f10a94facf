"""The command line: help, bad input, tables, and the commands that have no test of their own."""

import os
import re
import runpy
import subprocess
import sys

import pandas as pd
import pytest
import typer

from helpers.model import cards
from helpers.paths import ROOT
from labkit import terminal
from labkit.cli import app, main

COMMANDS = typer.main.get_command(app).commands


def kit(*arguments: str, module: str = "helpers", **variables: str) -> subprocess.CompletedProcess:
    """Run `python -m helpers` with these arguments, piped, with more environment variables."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=60,
    )


def test_top_help_names_every_command_without_loading_a_library():
    code = (
        "import sys; from labkit.cli import main; main(['--help']); "
        "assert not {'torch', 'transformers', 'openai', 'pandas', 'nbformat'} & {*sys.modules}"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(COMMANDS) == {
        *("lab", "play", "run", "doctor", "conformance", "fit", "claims", "compare"),
        *("latency", "serve", "simulate", "verify", "check", "notebooks"),
        *("site", "progress", "workshop"),
    }
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout
    assert "..." not in done.stdout.partition("Commands:")[2]  # no sentence is cut


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_explains_each_option(name, capsys):
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert COMMANDS[name].help.splitlines()[0] in text
    for parameter in COMMANDS[name].params:
        assert parameter.help, parameter.name
        if parameter.param_type_name == "option":
            assert parameter.opts[-1] in text


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_help_and_tables_in_any_encoding(encoding):
    for arguments in (["latency", "--help"], ["fit", "7b"], ["verify"]):
        done = kit(*arguments, PYTHONIOENCODING=encoding, PYTHONUTF8="0", LC_ALL="C")
        assert done.returncode == 0, done.stderr
        assert "[bold" not in done.stdout
        assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "Missing command"),
        (["fitt"], "Did you mean 'fit'"),
        (["run", "--bakend", "pocket"], "--bakend"),
        (["run", "--backend", "nobody"], "openrouter"),
        (["run", "--base-url", "http://localhost:1/v1"], 'use connect("custom"'),
        (["run", "--model", "other"], 'use connect("custom"'),
        (["run", "--backend", "custom"], "needs the address of a server"),
        (["run", "--backend", "vllm", "--base-url", "http://a:b@c/v1"], "password"),
        (["run", "-p", "NUMBER"], "NAME=VALUE"),
        (["run", "-p", "NO_SUCH=1"], "NO_SUCH"),
        (["run", "--max-usd", "much"], "--max-usd"),
        (["run", "--notebooks", "99"], "available: "),
        (["conformance", "--backend", "nobody"], "openrouter"),
        (["conformance", "--backend", "custom"], "needs the address of a server"),
        (["fit"], "model"),
        (["fit", "gpt-4"], "model: there is no 'gpt-4'"),
        (["fit", "gpt-4"], "pocket-small"),
        (["fit", "small-3.2", "--memory", "much"], "memory: expected a size such as 24GiB"),
        (["fit", "small-3.2", "--card", "3080"], "there is no '3080'. Did you mean"),
        (["fit", "7b", "--context", "40000"], "context: expected at most 32,768"),
        (["fit", "7b", "--image-size", "10"], "WIDTHxHEIGHT"),
        (["claims", "--verdict", "lie"], "unverifiable"),
        (["latency", "--requests", "0"], "--requests"),
        (["latency", "--backend", "nobody"], "openrouter"),
        (["verify", "no-such-figure"], "pocket-kv-bytes"),
        (["check", "nothing_like_this"], "available: "),
        (["notebooks", "nothing_like_this"], "available: "),
    ],
)
def test_bad_input_is_one_line(arguments, word, capsys):
    assert main(arguments) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert word in line


@pytest.mark.parametrize("arguments", [["check"], ["check", "--depends"], ["notebooks", "07"]])
def test_a_users_install_is_told_what_a_developers_command_needs(arguments, monkeypatch, capsys):
    monkeypatch.setattr(terminal, "find_spec", lambda name: None)
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "requirements-dev.txt" in line


def test_bad_input_of_the_real_command():
    done = kit("fitt")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


def test_fit_prints_the_plan(capsys):
    arguments = ["fit", "mistral-small-3.2", "--memory", "24GiB", "--context", "32768"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert text.startswith("Mistral Small 3.2 in 24.00 GiB: 1 sequence of 32,768 tokens")
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert rows["nf4-dq"][1:3] == ["14.00", "5.00"]
    assert rows["bf16"][-2:] == ["no", "0"]
    assert "nf4 is the most precise" in text


def test_fit_names_all_that_is_wrong(capsys):
    arguments = ["--memory", "much", "--card", "RTX 9999", "--image-size", "10"]
    assert main(["fit", "gpt-4", *arguments]) == 2
    line = capsys.readouterr().err
    for word in ("'gpt-4'", "'much'", "'RTX 9999'", "WIDTHxHEIGHT"):
        assert word in line


def test_fit_knows_the_pocket_model(model_folder, capsys):
    assert main(["fit", "pocket-small", "--memory", "4"]) == 0
    assert "pocket-small in 4.00 GiB" in capsys.readouterr().out


def test_fit_of_a_pocket_model_that_is_not_built(empty_cache, capsys):
    assert main(["fit", "pocket-small"]) == 2
    assert "python -m pocket_model build" in capsys.readouterr().err


def test_conformance_says_what_its_lines_are_and_where_they_are_kept(monkeypatch, capsys, tmp_path):
    class Lab:
        backend, model = "pocket", "pocket-small"

        def close(self):
            pass

    def suite(lab, progress):
        progress("      yes  stream             told")
        return {"backend": "pocket", "model": "pocket-small", "rows": [{"status": "yes"}]}

    monkeypatch.setattr("helpers.backends.connect", lambda backend, **options: Lab())
    monkeypatch.setattr("labkit.conformance.run_suite", suite)
    assert main(["conformance", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("pocket-small on pocket: does it support this feature")
    assert "\n1 yes\n" in printed
    assert str(tmp_path / "pocket--pocket-small.json") in printed


def test_claims_say_what_the_language_is_of(capsys):
    assert main(["claims", "--topic", "speed"]) == 0
    assert "language of the articles" in capsys.readouterr().out


def test_fit_with_a_gpu(capsys):
    assert main(["fit", "small-3.2", "--card", "t4"]) == 1
    text = capsys.readouterr().out
    assert "Nothing fits" in text
    assert "T4 (Colab): 320 GB/s" in text
    assert "nan" not in text


def test_fit_over_all_gpus(capsys):
    assert main(["fit", "small-3.2", "--images", "1", "--image-size", "800x600"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in cards.gpus())
    assert "nan" not in text


FRAME = pd.DataFrame(
    {"name": ["first", "second"], "seconds": [1234.5678, float("nan")], "count": [1000, 2]}
).set_index("name")


def test_a_table_in_a_pipe_has_one_line_for_each_row(capsys):
    long = FRAME.assign(text="word " * 100)
    terminal.print_table(long, decimals=1)
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "seconds", "count", "text"]
    assert first.split()[:3] == ["first", "1,234.6", "1,000"]
    assert second.split()[:3] == ["second", "–", "2"]
    assert first.endswith("word")


@pytest.mark.parametrize("columns", [60, 100])
def test_a_table_in_a_terminal_fits_its_width(columns, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    terminal.print_table(FRAME.assign(text="word " * 20, address="https://a.example/" * 5))
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    lines = text.splitlines()
    assert max(map(len, lines)) <= columns
    assert "".join(lines).count("word") == 40


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["build"], "python -m pocket_model build"),
        (["serve", "--port", "8000"], "python -m pocket_model serve --port 8000"),
        (["chat"], "python -m pocket_model chat"),
        (["train", "--out", "x"], "python -m pocket_training train --out x"),
        (["evaluate"], "python -m pocket_training evaluate"),
        (["examine"], "build|serve|chat"),
        ([], "train|evaluate"),
    ],
)
def test_the_old_pocket_command_names_the_new_one(arguments, command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["helpers.pocket", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("helpers.pocket", run_name="__main__", alter_sys=False)
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert command in line
    assert line.count("\n") == 1


def test_the_commands_leave_out_the_slow_part_of_jsonschema():
    code = (
        "import runpy, sys\n"
        "sys.argv = ['helpers', 'check', 'nothing']\n"
        "try: runpy.run_module('helpers', run_name='__main__')\n"
        "except SystemExit as ended: assert ended.code == 2\n"
        "import jsonschema\n"
        "jsonschema.validate({'a': 1}, {'properties': {'a': {'type': 'integer'}}})\n"
        "assert 'lark' not in sys.modules"  # it would build the parser
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_importing_helpers_changes_no_other_module():
    code = (
        "import sys; before = {*sys.modules}; import helpers; "
        "assert {*sys.modules} - before == {'helpers'}; "
        "from helpers import connect; assert callable(connect); "
        "assert sys.modules.get('rfc3987_syntax', True)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("helpers", ["simulate", "--port", "99999"]),
        ("openrouter_sim", ["--port", "99999"]),
        ("pocket_model", ["serve", "--port", "99999"]),
        ("pocket_training", ["evaluate", "--against", "data/prompts.json"]),
        ("pocket_training", ["train", "--text-steps", "3", "--text-minutes", "1"]),
        ("pocket_training", ["train", "--vision-minutes", "0"]),
    ],
)
def test_bad_values_of_every_program_are_refused_without_a_traceback(module, arguments):
    done = kit(*arguments, module=module)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("module", ["helpers", "openrouter_sim", "pocket_model", "pocket_training"])
def test_every_program_takes_the_short_help_option(module):
    done = kit("-h", module=module)
    assert done.returncode == 0
    assert "Usage" in done.stdout
