"""Execute notebooks, one after another or two at the same time, and note what happened to each.

Most notebooks keep one core busy, so two at a time take less time. Each has a process of its own,
because papermill changes its process's working directory. Each kernel computes with one thread,
because threads that share cores wait for each other (see `pocket_model/server/threads.py`).
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import papermill

from helpers.paths import write_text
from labkit import notebooks, pages

CELL_TIMEOUT_S = 900
PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"
_interrupted: Event  # in a process of `execute_two_at_a_time`: its run is to end


def minutes(seconds: float) -> str:
    """A time in minutes and seconds, as `1:05`."""
    return "{}:{:02}".format(*divmod(round(seconds), 60))


@dataclass
class Result:
    """What happened to one notebook."""

    name: str
    title: str
    status: str = NOT_RUN
    seconds: float = 0.0
    skipped: list[str] = field(default_factory=list)
    error: str = ""  # the last line of the traceback
    traceback: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    @property
    def summary(self) -> str:
        """The status in words: "passed, 2 skipped"."""
        return f"{self.status}, {len(self.skipped)} skipped" if self.skipped else self.status

    @property
    def time(self) -> str:
        """Minutes and seconds, as `1:05`."""
        return minutes(self.seconds)


def execute_copy(
    path: Path, copy: Path, parameters: dict[str, Any], result: Result, *, bar: bool = True
) -> None:
    """Run one notebook with papermill into `copy`, and note in `result` what happened.

    A page of the same name is written beside the copy.

    Args:
        bar: show a progress bar in a terminal.
    """
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # the result has the same errors
    start = time.monotonic()
    result.status = FAILED
    try:
        executed = papermill.execute_notebook(
            path,
            copy,
            parameters=parameters,
            cwd=path.parent,
            kernel_name="python3",
            language="python",
            execution_timeout=CELL_TIMEOUT_S,
            coalesce_streams=True,
            extra_arguments=notebooks.KERNEL_OPTIONS,
            progress_bar={"leave": False, "desc": path.stem}
            if bar and sys.stderr.isatty()
            else False,
        )
        # For papermill, a kernel that ends itself, by sys.exit(0) for instance, is a success.
        if notebooks.code_cells(executed)[-1].execution_count is None:
            raise RuntimeError("the notebook ended before its last cell, without an error")
        result.status = PASSED
    except papermill.PapermillExecutionError as error:
        result.error = f"{error.ename}: {error.evalue}".strip().splitlines()[0]
        result.traceback = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))
    except Exception as error:  # a dead kernel, a timeout, a broken file
        result.error = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        result.traceback = traceback.format_exc()
    except KeyboardInterrupt:
        result.status, result.error = NOT_RUN, "interrupted"
        raise
    finally:
        result.seconds = round(time.monotonic() - start, 1)
    if copy.exists():
        book = notebooks.read(copy)
        result.skipped = notebooks.skipped(book)
        facts = f"{result.summary} on {parameters.get('BACKEND')}, in {result.time} min"
        page = pages.render(
            book, result.title, source=path, navigation=pages.navigation(path), facts=facts
        )
        write_text(copy.with_suffix(".html"), page)


def two_are_faster() -> bool:
    """Whether this machine can run two notebooks at a time, and has two cores or more for it."""
    return hasattr(os, "setsid") and (os.cpu_count() or 1) > 1  # Windows has no sessions


def execute_two_at_a_time(
    jobs: list[tuple[Path, Path, Result]], parameters: dict[str, Any]
) -> Iterator[Result]:
    """Run notebooks, each as `execute_copy` does; yields what happened to each when it ends.

    If this is interrupted, those that run are, too; the result of each says so.

    Args:
        jobs: each with the notebook, where its copy is written, and its result, which is filled.
    """
    # Forked processes would share the network connections of this one.
    spawn = multiprocessing.get_context("spawn")
    interrupted = spawn.Event()
    pool = ProcessPoolExecutor(
        2, mp_context=spawn, initializer=_prepare_process, initargs=[interrupted]
    )
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # in the new processes, too
    running = {pool.submit(_execute, *job, parameters): job[-1] for job in jobs}
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        for future in as_completed(running):
            yield _noted(future, running)
    except (KeyboardInterrupt, GeneratorExit):  # the second: it came while the caller had a result
        interrupted.set()  # the pool does not cancel a job that is next
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            os.kill(process.pid, signal.SIGINT)
        for future in running:
            if not future.cancelled():
                _noted(future, running)
        raise
    finally:
        pool.shutdown()


def _prepare_process(interrupted: Event) -> None:
    """In a terminal, Ctrl-C reaches a whole session. This process hears it from its parent only."""
    global _interrupted
    _interrupted = interrupted
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.modules.setdefault("rfc3987_syntax", None)  # see helpers/__main__.py


def _execute(path: Path, copy: Path, result: Result, parameters: dict[str, Any]) -> Result:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if not _interrupted.is_set():
            execute_copy(path, copy, parameters, result, bar=False)
    except KeyboardInterrupt:
        pass  # the result says so
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return result


def _noted(future: Future[Result], results: dict[Future[Result], Result]) -> Result:
    """Fill this process's result with what happened in the other one."""
    result = results[future]
    try:
        vars(result).update(vars(future.result()))
    except Exception as error:  # the process was killed
        result.status, result.error = FAILED, f"{type(error).__name__}: {error}"
    return result
