"""Code that a model wrote, run in a process of its own with limits, and judged by what it does.

The limits keep honest mistakes from doing harm: a loop without an end, a list without an end, a
file in the wrong folder. They are no sandbox: code that *wants* to do harm needs a container or a
virtual machine.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS, MEGABYTES, OUTPUT_BYTES = 5.0, 1024, 100_000

# It runs before the code. The hook sees what Python itself does; limits are of the system.
GUARD = r"""
import json, os, sys
folder, megabytes, seconds, output = json.loads(sys.argv[1])
if os.name != "nt":
    import resource
    def limit(kind, amount):
        resource.setrlimit(kind, (amount, amount))
    limit(resource.RLIMIT_AS, megabytes << 20)
    limit(resource.RLIMIT_CPU, int(seconds) + 1)
    limit(resource.RLIMIT_FSIZE, output)
    limit(resource.RLIMIT_CORE, 0)
FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn",
             "os.spawn", "os.startfile", "os.kill", "os.putenv", "ctypes.", "pty.", "shutil.",
             "signal.", "webbrowser.", "urllib.Request", "http.client", "ftplib", "smtplib")
CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod",
           "os.chown", "os.truncate", "os.utime", "os.setxattr", "tempfile.", "sqlite3.connect")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
def inside(path):
    if not isinstance(path, (str, bytes, os.PathLike)):
        return isinstance(path, int) and path in (1, 2)
    return (os.path.realpath(os.fsdecode(path)) + os.sep).startswith(folder + os.sep)
def guard(event, arguments):
    if event.startswith(FORBIDDEN):
        raise PermissionError(event + " is not allowed here")
    if event == "open":
        path, mode, flags = arguments
        writes = flags & WRITING if isinstance(flags, int) else set(mode or "r") & set("wax+")
        if writes and not inside(path):
            raise PermissionError("writing outside the temporary folder is not allowed here")
    elif event.startswith(CHANGES):
        if not all(inside(path) for path in arguments if isinstance(path, (str, bytes))):
            raise PermissionError(event + " outside the temporary folder is not allowed here")
source = sys.stdin.read()
for name in PREPARED:
    try:
        __import__(name)  # some libraries load others with ctypes, which the hook refuses
    except ImportError:
        pass
sys.addaudithook(guard)
exec(compile(source, "<answer>", "exec"), {"__name__": "__main__"})
"""


@dataclass(frozen=True)
class Run:
    """What happened when code ran.

    Attributes:
        problem: None if it ended by itself without an error, else what happened, in words.
        output: what it printed, cut after `OUTPUT_BYTES`.
    """

    problem: str | None
    output: str


def run_code(
    source: str,
    *,
    seconds: float = SECONDS,
    megabytes: int = MEGABYTES,
    libraries: Sequence[str] = (),
) -> Run:
    """Run Python source in a new process, in an empty temporary folder that is removed afterwards.

    It cannot open connections, start programs, or write elsewhere, as far as Python sees it. Its
    environment has no variable of this process, so no key either. Windows knows no limit of memory
    here; the other limits hold.

    Args:
        seconds: until the process and what it started is ended.
        megabytes: its address space, Python and libraries included.
        libraries: what to import before the code runs, beside numpy if the source names it.
    """
    named = [name for name in ("numpy",) if re.search(rf"\b{name}\b", source)]
    prepared = list(dict.fromkeys([*named, *libraries]))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = os.path.realpath(scratch)
        home = Path(folder, "work")
        home.mkdir()
        guard = GUARD.replace("PREPARED", repr(prepared))
        limits = json.dumps([str(home), megabytes, seconds, OUTPUT_BYTES])
        command = [sys.executable, "-I", "-B", "-X", "utf8", "-c", guard, limits]
        # One thread: each further one takes address space.
        environment = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        if os.name == "nt":  # Python does not start there without it
            environment["SYSTEMROOT"] = os.environ.get("SYSTEMROOT", "")
        own = {} if os.name == "nt" else {"start_new_session": True}
        with (
            Path(folder, "output").open("w+b") as output,
            Path(folder, "errors").open("w+b") as errors,
        ):
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=errors,
                cwd=home, env=environment, **own,
            )  # fmt: skip
            try:
                process.communicate(source.encode("utf-8", "replace"), timeout=seconds)
                problem = None
            except subprocess.TimeoutExpired:
                problem = f"it did not end within {seconds:g} seconds"
            finally:
                _end(process)
            texts = [_start_of(file) for file in (output, errors)]
    if problem is None and process.returncode:
        problem = _why(process.returncode, texts[1], len(texts[0]) >= OUTPUT_BYTES)
    return Run(problem, texts[0])


def code_works(answer: str, checks: Sequence[Sequence]) -> str | None:
    """The Python code in an answer runs, and each expression then has the expected value.

    Args:
        answer: text with a block fenced by ```, or code alone. Of several blocks all are run.
        checks: pairs of an expression and its value, which JSON can hold. Numbers may differ by
            one part in a million.

    Raises:
        ValueError: there is nothing to check.
    """
    if not checks:
        raise ValueError("code_works: no checks")
    fenced = re.findall(r"```([^\n`]*)\n(.*?)(?:```|\Z)", answer, re.DOTALL)
    python = [code for name, code in fenced if name.strip().lower() in ("", "py", "python")]
    source = "\n".join(python) if fenced else answer
    if not source.strip():
        return "no code"
    mark = f"checked {os.urandom(8).hex()}"  # so that the code cannot print its own verdict
    expressions = [expression for expression, _ in checks]
    test = (
        "\nimport json as _json\n"
        "_plain = lambda _v: _v.tolist() if hasattr(_v, 'tolist') else float(_v)\n"
        f"_values = [eval(_e) for _e in {expressions!r}]\n"
        f"print('\\n' + {mark!r}, _json.dumps(_values, default=_plain))\n"
    )
    run = run_code(source + test)
    if run.problem:
        return run.problem
    line = next((line for line in run.output.splitlines() if line.startswith(mark)), None)
    if line is None:
        return "it ended before it could be checked"
    for value, (expression, expected) in zip(
        json.loads(line.removeprefix(mark)), checks, strict=True
    ):
        if not _equal(value, expected):
            shown = f"{value:g}" if isinstance(value, float) else repr(value)
            return f"{expression} is {shown} instead of {expected!r}"
    return None


def _equal(value: object, expected: object) -> bool:
    if isinstance(expected, list):
        return (
            isinstance(value, list)
            and len(value) == len(expected)
            and all(map(_equal, value, expected))
        )
    if isinstance(expected, bool) or isinstance(value, bool) or isinstance(expected, str):
        return value is expected or (isinstance(expected, str) and value == expected)
    if isinstance(expected, int | float):
        return isinstance(value, int | float) and abs(value - expected) <= 1e-6 * max(
            1.0, abs(expected)
        )
    return value == expected


def _end(process: subprocess.Popen) -> None:
    """End the process and all that it started."""
    if os.name != "nt":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def _start_of(file) -> str:
    file.seek(0)
    return file.read(OUTPUT_BYTES).decode("utf-8", errors="replace")


def _why(code: int, errors: str, is_full: bool) -> str:
    last = (errors.strip().splitlines() or [""])[-1].strip()
    if "MemoryError" in last:
        return f"it needs more than its memory ({last})"
    if is_full or -code == getattr(signal, "SIGXFSZ", None):
        return "it writes too much"
    if -code == getattr(signal, "SIGXCPU", None):
        return "it computes for too long"
    return last[:200] or f"it ended with exit code {code}"
