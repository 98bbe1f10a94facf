"""Measured figures: each has a file with a command, and the command measures the figure again."""

import json
import re

import figures
import pytest
from transformers import AutoConfig

from labkit.audit import measurements
from labkit.cli import main

ENTRY = {
    "id": "fake-speed",
    "what": "a figure for these tests",
    "value": 2.0,
    "unit": "ratio",
    "command": "python benchmarks/measure_fake.py",
    "spread": 0.1,
    "hardware": "a machine",
    "versions": {"python": "3.11"},
    "date": "2026-11-21",
}
MEASURES = 'import json; print("busy"); print(json.dumps({result}))'


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A kit of its own with one entry; call it to write another entry or another script."""
    (tmp_path / "data" / "measurements").mkdir(parents=True)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "data" / "claims.yaml").write_text("")
    monkeypatch.setattr(measurements, "ROOT", tmp_path)
    monkeypatch.setattr(measurements, "DATA", tmp_path / "data")
    monkeypatch.setattr(measurements, "FOLDER", tmp_path / "data" / "measurements")

    def write(entry=ENTRY, script=None, **result):
        name = entry.get("id", "fake-speed")
        (measurements.FOLDER / f"{name}.json").write_text(json.dumps(entry))
        where = {"hardware": "here", "versions": {"python": "3.12"}, "date": "2026-11-22"}
        result = where | {"value": 2.1, "unit": "ratio"} | result
        text = MEASURES.format(result=result) if script is None else script
        (tmp_path / "benchmarks" / "measure_fake.py").write_text(text)
        return tmp_path

    write()
    return write


# --- the kit's own figures ------------------------------------------------------------------------


def test_every_figure_of_the_kit_has_an_entry_and_every_entry_a_command():
    assert figures.problems() == []


def test_there_are_entries_and_the_table_shows_them():
    table = measurements.table()
    assert {"pocket-nf4-bits", "pocket-kv-bytes", "pocket-nf4-decode"} <= set(table.index)
    assert (table["value"] > 0).all()
    assert table["command"].str.startswith("python ").all()


def test_bits_on_file_are_those_of_the_arithmetic():
    single = measurements.load("pocket-nf4-single-bits").value
    assert single == pytest.approx(4 + 32 / 64, abs=0.01)
    double = measurements.load("pocket-nf4-bits").value
    assert double == pytest.approx(4 + 8 / 64 + 32 / (64 * 256), abs=0.02)


def test_the_cache_on_file_is_that_of_the_config(model_folder):
    text = AutoConfig.from_pretrained(model_folder).get_text_config()
    numbers = 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim
    assert measurements.load("pocket-kv-bytes").value == 2 * numbers


@pytest.mark.slow
def test_a_real_figure_is_measured_again(model_folder):
    result = measurements.verify("pocket-kv-bytes")
    assert result.agrees
    assert result.ratio == 1
    assert "cores of" in result.here.hardware


# --- entries with a fault -------------------------------------------------------------------------

FAULTS = {
    "no command": {"command": None},
    "an empty command": {"command": ""},
    "a command from elsewhere": {"command": "curl example.org"},
    "a shell in the command": {"command": "python benchmarks/measure_fake.py; rm x"},
    "a script outside the kit": {"command": "python benchmarks/../measure_fake.py"},
    "a module outside the kit": {"command": "python -m http.server"},
    "no unit": {"unit": ""},
    "no hardware": {"hardware": ""},
    "no versions": {"versions": {}},
    "a value that is none": {"value": "fast"},
    "a date that is none": {"date": "recently"},
    "a field that does not exist": {"opinion": "good"},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_an_entry_with_a_fault_is_a_problem(desk, fault):
    assert figures.problems() == []
    desk(ENTRY | fault)
    with pytest.raises(ValueError, match=next(iter(fault))) as refusal:
        measurements.load("fake-speed")
    [problem] = figures.problems()
    assert problem == str(refusal.value)
    assert problem.startswith("data/measurements/fake-speed.json: ")


def test_an_entry_without_command_says_so(desk):
    desk({key: value for key, value in ENTRY.items() if key != "command"})
    assert figures.problems() == ["data/measurements/fake-speed.json: command: Field required"]


def test_a_command_without_its_script_is_a_problem(desk):
    folder = desk()
    (folder / "benchmarks" / "measure_fake.py").unlink()
    assert figures.problems() == [
        "data/measurements/fake-speed.json: there is no benchmarks/measure_fake.py"
    ]


def test_an_entry_in_another_entrys_file_is_a_problem(desk):
    desk()
    (measurements.FOLDER / "other-speed.json").write_text(json.dumps(ENTRY))
    assert "the id in it is 'fake-speed'" in figures.problems()[0]


@pytest.mark.parametrize(
    "command",
    [
        "python -m pocket_training evaluate",
        "python -m helpers fit small-3.2",
        "python benchmarks/measure_fake.py --single",
    ],
)
def test_commands_of_the_kit_are_accepted(desk, command):
    desk(ENTRY | {"command": command})
    assert measurements.load("fake-speed").command == command


# --- figures without an id ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("NF4 was measured at 48 tokens/s here.", "without an id"),
        ("A paragraph.\n\n- measured: 12.5 GiB", "without an id"),
        ("It is twice as fast (measured: `no-such-figure`).", "no-such-figure"),
        ('speed = measurements.load("gone").value', "gone"),
    ],
)
def test_a_figure_without_an_entry_is_a_problem(desk, text, problem):
    [only] = figures.text_problems(text)
    assert problem in only


@pytest.mark.parametrize(
    "text",
    [
        "NF4 took 2.1 s for the 1.05 s of bf16 (measured: `fake-speed`).",
        'speed = measurements.load("fake-speed").value',
        "At 100 ms the first token comes.",
        "Its bandwidth is measured here.",
        "| measured | value |\n|---|---|\n| a | b |",
    ],
)
def test_a_figure_with_its_entry_is_no_problem(desk, text):
    assert figures.text_problems(text) == []


@pytest.mark.parametrize("place", ["README.md", "notebooks/01_x.ipynb", "data/claims.yaml"])
def test_texts_notebooks_and_claims_are_searched(desk, place):
    text = "It was measured at 48 tokens/s."
    if place.endswith(".ipynb"):
        text = json.dumps({"cells": [{"cell_type": "markdown", "source": [text]}]})
    (desk() / place).write_text(text)
    [problem] = figures.problems()
    assert problem.startswith(place.split("/")[-1])


def test_code_of_every_package_is_searched(desk):
    (desk() / "pocket_model").mkdir()
    (desk() / "pocket_model" / "loading.py").write_text("# slower (measured: `no-such-figure`)\n")
    [problem] = figures.problems()
    assert problem == "pocket_model/loading.py: no measured figure is called 'no-such-figure'"


# --- measuring again ------------------------------------------------------------------------------


def test_verify_shows_both(desk, capsys):
    result = measurements.verify("fake-speed")
    assert (result.on_file.value, result.here.value) == (2.0, 2.1)
    assert result.ratio == pytest.approx(1.05)
    assert result.agrees
    assert main(["verify", "fake-speed"]) == 0
    out = capsys.readouterr().out
    assert "on file  2 " in out
    assert "here     2.1 " in out
    assert "ratio    1.050: within the expected ±10 %" in out


def test_verify_says_when_it_is_far_off(desk, capsys):
    desk(value=3.0)
    assert not measurements.verify("fake-speed").agrees
    assert main(["verify", "fake-speed"]) == 0
    assert "1.500: outside" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("raise SystemExit(3)", "exit code 3"),
        ("print('done')", "did not report a value"),
        ("", "did not report a value"),
        ("print(3)", "did not report a value"),
        ('print(\'{"unit": "ratio"}\')', "did not report a value"),
    ],
)
def test_a_command_that_measures_nothing_says_why(desk, script, reason, capsys):
    desk(script=script)
    with pytest.raises(measurements.MeasurementError, match=reason):
        measurements.verify("fake-speed")
    assert main(["verify", "fake-speed"]) == 2
    assert reason in capsys.readouterr().err


def test_a_command_that_measures_in_another_unit_says_so(desk):
    desk(unit="GB")
    with pytest.raises(
        measurements.MeasurementError, match="measures 'GB', the entry says 'ratio'"
    ):
        measurements.verify("fake-speed")


def test_a_command_that_never_ends_is_stopped(desk, monkeypatch):
    monkeypatch.setattr(measurements, "TIMEOUT_S", 1)
    desk(script="import time; time.sleep(60)")
    with pytest.raises(measurements.MeasurementError, match="took more than"):
        measurements.verify("fake-speed")


def test_an_unknown_figure_names_the_known_ones(desk, capsys):
    for name in ("other-speed", "../claims", ""):
        with pytest.raises(KeyError, match="fake-speed"):
            measurements.load(name)
    assert main(["verify", "other-speed"]) == 2
    assert "there are: fake-speed" in capsys.readouterr().err


def test_an_entry_without_command_is_not_run(desk, capsys):
    desk(ENTRY | {"command": ""})
    assert main(["verify", "fake-speed"]) == 2
    assert "command" in capsys.readouterr().err


def test_the_command_lists_the_figures(desk, capsys):
    assert main(["verify"]) == 0
    assert re.search(r"fake-speed +2 +ratio +2026-11-21 ", capsys.readouterr().out)


def test_a_figure_is_written_anew(desk):
    assert main(["verify", "fake-speed", "--write"]) == 0
    entry = measurements.load("fake-speed")
    assert (entry.value, entry.hardware, str(entry.date)) == (2.1, "here", "2026-11-22")
    assert entry.command == ENTRY["command"]


def test_report_is_what_verify_reads(capsys):
    measurements.report(1.5, "ratio", rounds=3)
    result = json.loads(capsys.readouterr().out)
    assert (result["value"], result["unit"], result["detail"]) == (1.5, "ratio", {"rounds": 3})
    assert {"python", "torch"} <= set(result["versions"])
    assert "cores of" in result["hardware"]
