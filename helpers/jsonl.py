"""JSONL files that survive a kill: one JSON object per line, appended as it comes.

A process that is killed while it writes leaves at most one incomplete line, the last one. `read`
ignores it and `append` removes it, so that an interrupted run resumes on the same file. One process
at a time may write to a file; threads that share one take a lock around `append`.
"""

import json
import os
from pathlib import Path
from typing import BinaryIO


def append(path: str | Path, record: dict, *, durable: bool = False) -> None:
    """Write `record` as one line at the end of a file, which is created if it does not exist.

    Args:
        path: the file; its folder must exist.
        record: what `json.dumps` accepts.
        durable: wait until the data is on the disk, so that it survives a power failure too.

    Raises:
        TypeError: JSON cannot represent the record.
        OSError: the file cannot be written.
    """
    # ASCII only: no character can be cut in half, and unpaired surrogates can be written.
    line = json.dumps(record).encode() + b"\n"
    with Path(path).open("ab+") as file:
        _end_last_line(file)
        file.write(line)
        file.flush()
        if durable:
            os.fsync(file.fileno())


def read(path: str | Path) -> list[dict]:
    """The records of a file, in its order, without an incomplete last line.

    Raises:
        OSError: the file cannot be read, for example because it does not exist.
        ValueError: another line is not a JSON object; the message names the file and the line.
    """
    records = []
    lines = Path(path).read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        record = _parse(line)
        if record is not None:
            records.append(record)
        elif line.strip() and not (number == len(lines) and _is_incomplete(line)):
            raise ValueError(
                f"{path}, line {number} is not a JSON object: {line[:40].decode(errors='replace')}"
                " … Remove the line, or use another file."
            )
    return records


def _parse(line: bytes) -> dict | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _is_incomplete(line: bytes) -> bool:
    """Whether this can be the beginning of a line that `append` wrote.

    After a power failure, some file systems have zeros there instead.
    """
    return not line.strip(b"\0") or (line.startswith(b"{") and _parse(line) is None)


def _end_last_line(file: BinaryIO) -> None:
    """Remove an incomplete last line; end a complete one that lacks its newline."""
    if not file.tell():
        return
    file.seek(-1, os.SEEK_END)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    last = file.read().rpartition(b"\n")[2]
    if _is_incomplete(last):
        file.truncate(file.tell() - len(last))
    else:
        file.write(b"\n")
