"""The progress file: what is kept, and what happens if it cannot be."""

import json
import os
import re
import subprocess
import sys

import pytest

from helpers.paths import ROOT
from labkit.exercises import check, engine, progress, record, view

NAMES = engine.names()


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    """A progress file of this test's own."""
    path = tmp_path / "folder" / "progress.json"
    monkeypatch.setenv(record.VARIABLE, str(path))
    record._unsaved.clear()
    engine._tries.clear()
    yield path
    record._unsaved.clear()


def test_answers_are_counted_and_kept(file, capsys):
    check("02-bits", 4)
    check("02-bits", 4.5)
    check("02-bits", 4)  # what was right once stays solved
    total = len(NAMES)
    assert f"1 of {total} · next: 02-skip" in capsys.readouterr().out
    entries = json.loads(file.read_text())["exercises"]
    assert entries["02-bits"]["tries"] == 3
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", entries["02-bits"]["solved"])
    assert not list(file.parent.glob("*.part"))


def test_an_untouched_exercise_counts_nothing(file, capsys):
    check("02-bits", ...)
    assert not file.exists()
    assert "of" not in capsys.readouterr().out.splitlines()[-1].split(" · ")[0].split()[1:2]


def test_the_line_for_the_teacher(file, capsys):
    check("02-bits", 4.5)
    check("06-rate", 40)
    line = view.teachers_line(record.read(), NAMES)
    assert line == f"1/{len(NAMES)} 02:1/3 06:0/3"
    assert line in capsys.readouterr().out


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"version": 1}', '{"version": "1", "exercises": {}}', "\x00\xff",
     '{"version": 1, "exercises": []}', "[" * 100_000],
)  # fmt: skip
def test_a_broken_file_is_set_aside(file, content, capsys):
    file.parent.mkdir()
    file.write_text(content)
    check("02-bits", 4.5)
    assert "damaged" in capsys.readouterr().out
    assert (file.parent / "progress-broken-1.json").read_text() == content
    assert record.read().solved("02-bits")


def test_bytes_that_are_no_text_are_set_aside(file):
    file.parent.mkdir()
    file.write_bytes(b"\xff\xfe\x00")
    assert "damaged" in record.read().note
    assert (file.parent / "progress-broken-1.json").read_bytes() == b"\xff\xfe\x00"


@pytest.mark.parametrize("version", [0, 2, 99])
def test_a_file_of_another_version_stays_as_it_is(file, version, capsys):
    file.parent.mkdir()
    text = json.dumps({"version": version, "exercises": {"02-bits": {"solved": "2026-01-01"}}})
    file.write_text(text)
    check("06-rate", 320)
    assert "another version" in capsys.readouterr().out
    assert file.read_text() == text
    assert record.read().solved("06-rate")  # in this session


def test_entries_that_are_not_known_stay(file):
    file.parent.mkdir()
    entries = {"99-new": {"tries": 1}, "02-bits": "odd", "06-rate": {"tries": "many", "x": 1}}
    file.write_text(json.dumps({"version": 1, "exercises": entries}))
    check("06-rate", 320)
    kept = json.loads(file.read_text())["exercises"]
    assert kept["99-new"] == {"tries": 1}
    assert kept["02-bits"] == "odd"
    assert kept["06-rate"]["x"] == 1
    assert repr(progress())


def test_a_disk_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    blocked = tmp_path / "a-file"
    blocked.write_text("")
    monkeypatch.setenv(record.VARIABLE, str(blocked / "progress.json"))
    check("02-bits", 4.5)
    check("06-rate", 320)
    said = capsys.readouterr().out
    assert "cannot be" in said
    assert f"2 of {len(NAMES)}" in said


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(file, capsys):
    file.parent.mkdir(mode=0o500)
    check("02-bits", 4.5)
    assert "cannot be saved" in capsys.readouterr().out


def test_two_notebooks_at_once_lose_nothing(file):
    code = "from labkit.exercises import check; [check('02-bits', 4) for _ in range(20)]"
    running = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(2)]
    assert [each.wait() for each in running] == [0, 0]
    assert record.read().entries["02-bits"]["tries"] == 40


def test_the_page_says_what_comes_next(file):
    check("00-messages", ...)
    check("02-bits", 4.5)
    page = progress()
    assert f"1 of {len(NAMES)} · next: 00-messages" in repr(page)
    assert "<b>00-messages</b>" in page._repr_html_()
    assert 'href="02_load_in_4_bits.ipynb"' in page._repr_html_()


def test_hints_go_on_after_a_restart_until_the_exercise_is_solved(capsys):
    third = engine.find("02-bits").hints[2]
    for answer in (4, 4):
        check("02-bits", answer)
    engine._tries.clear()  # as a new kernel begins
    capsys.readouterr()
    check("02-bits", 4)
    assert third in " ".join(capsys.readouterr().out.split())
    check("02-bits", 4.5)
    engine._tries.clear()
    capsys.readouterr()
    check("02-bits", 4)
    assert third not in " ".join(capsys.readouterr().out.split())


def test_hints_come_one_by_one_and_stay(capsys):
    hints = engine.find("02-bits").hints
    for tries in (1, 2, 3, 4):
        check("02-bits", 4)
        said = " ".join(capsys.readouterr().out.split())
        shown = [number for number, hint in enumerate(hints, 1) if hint in said]
        assert shown == list(range(1, min(tries, 3) + 1))
    check("02-bits", 4.5)
    assert "Hint" not in capsys.readouterr().out


def test_an_untouched_cell_that_is_run_again_uses_up_no_hint(capsys):
    for _ in range(3):
        check("02-bits", ...)
        said = capsys.readouterr().out
        assert "Hint 1" in said
        assert "Hint 2" not in said
    for number in (1, 2):
        check("02-bits", 4)
        said = capsys.readouterr().out
        assert f"Hint {number}" in said
        assert f"Hint {number + 1}" not in said


def test_the_verdict_as_a_page_escapes_what_the_learner_wrote(monkeypatch):
    shown = []
    monkeypatch.setattr(view, "show_html", lambda page, text: shown.append(page))
    check("07-flag", "<script>alert(1)</script>")
    check("02-nf4", ...)
    assert "<script>" not in shown[0]
    assert "a block of zeros" in shown[1]


def test_the_command_shows_the_page_and_where_it_is_kept(file, capsys):
    from labkit import cli

    check("02-bits", 4.5)
    capsys.readouterr()
    assert cli.main(["progress"]) == 0
    said = capsys.readouterr().out
    assert "✓ bits" in said
    assert f"1 of {len(NAMES)} · next: 00-messages" in said
    assert str(file) in said


def test_the_progress_is_beside_the_working_copy(monkeypatch):
    from labkit import working_copy

    monkeypatch.delenv(record.VARIABLE)
    assert record.file().parent == working_copy.WORKING_COPY / working_copy.STATE
