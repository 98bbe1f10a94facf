"""JSONL files: records come back as they were, whatever a kill left at the end of the file."""

import json
import signal
import subprocess
import sys
import time

import pytest

from helpers import jsonl

RECORDS = [{"n": 1, "text": "é\u2028\n"}, {"n": 2, "text": "\ud83d"}, {"n": 3, "nested": [{}]}]


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "records.jsonl"
    for record in RECORDS:
        jsonl.append(file, record, durable=True)
    return file


def test_records_come_back_in_order(path):
    assert jsonl.read(path) == RECORDS
    assert path.read_bytes().count(b"\n") == len(RECORDS)


def test_a_line_cut_anywhere_is_ignored_and_then_removed(path):
    whole = path.read_bytes()
    last = whole.splitlines()[-1]
    for length in range(len(last) + 1):
        path.write_bytes(whole + last[:length])
        kept = RECORDS if length < len(last) else [*RECORDS, RECORDS[-1]]  # only "\n" is missing
        assert jsonl.read(path) == kept
        jsonl.append(path, {"n": 4})
        assert jsonl.read(path) == [*kept, {"n": 4}]
        assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_zeros_that_a_power_failure_leaves_at_the_end_are_ignored_and_then_removed(path):
    path.write_bytes(path.read_bytes() + bytes(100))
    assert jsonl.read(path) == RECORDS
    jsonl.append(path, {"n": 4})
    assert jsonl.read(path) == [*RECORDS, {"n": 4}]


def test_a_cut_first_line(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_bytes(b'{"n": 1, "te')
    assert jsonl.read(path) == []
    jsonl.append(path, {"n": 2})
    assert path.read_bytes() == b'{"n": 2}\n'


def test_an_empty_file_and_none(tmp_path):
    path = tmp_path / "records.jsonl"
    path.touch()
    assert jsonl.read(path) == []
    jsonl.append(path, {"n": 1})
    assert jsonl.read(path) == [{"n": 1}]
    with pytest.raises(FileNotFoundError):
        jsonl.read(tmp_path / "none.jsonl")


@pytest.mark.parametrize("line", [b"hello", b'{"n": 1', b"[1]", b"7", b"\xff\x00"])
def test_a_foreign_line_in_the_middle_names_file_and_line(path, line):
    whole = path.read_bytes()
    path.write_bytes(whole + line + b"\n" + whole)
    with pytest.raises(ValueError, match=rf"records\.jsonl, line {len(RECORDS) + 1} "):
        jsonl.read(path)


def test_a_file_of_another_kind_loses_nothing(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(b"my notes")
    with pytest.raises(ValueError, match="line 1 "):
        jsonl.read(path)
    jsonl.append(path, {"n": 1})
    assert path.read_bytes() == b'my notes\n{"n": 1}\n'


def test_blank_lines_do_not_count(path):
    path.write_bytes(b"\n" + path.read_bytes() + b"\r\n\n")
    assert jsonl.read(path) == RECORDS


def test_what_json_cannot_hold_leaves_the_file_as_it_is(path):
    before = path.read_bytes()
    with pytest.raises(TypeError):
        jsonl.append(path, {"n": object()})
    assert path.read_bytes() == before


def test_a_killed_writer_loses_no_finished_record(tmp_path):
    path = tmp_path / "records.jsonl"
    code = (
        "import sys\nfrom helpers import jsonl\n"
        "for n in range(10**6): jsonl.append(sys.argv[1], {'n': n, 'text': 'x' * 5000})"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)])
    deadline = time.monotonic() + 60
    while not path.exists() or path.stat().st_size < 100_000:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    numbers = [record["n"] for record in jsonl.read(path)]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= path.read_bytes().count(b"\n")
