"""Run every notebook from first cell to last on one backend, and report.

One notebook's failure does not stop the others. The report is rewritten after each, so an
interrupted run keeps what was finished.
"""

from __future__ import annotations

import ast
import contextlib
import json
import logging
import math
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2

from helpers import backends, budget, paths
from labkit import notebooks, run_cost

CELL_TIMEOUT_S = 900
PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"
OK, SOME_FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130  # exit codes


class RunError(RuntimeError):
    """The run cannot start; the message says why and what to do."""


@dataclass
class Result:
    """What became of one notebook."""

    name: str
    title: str
    status: str = NOT_RUN
    seconds: float = 0.0
    skipped: list[str] = field(default_factory=list)
    copied: bool = False  # an executed copy and its page lie in the folder
    error: str = ""  # the traceback's last line
    traceback: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    @property
    def summary(self) -> str:
        """The status in words: "passed, 2 skipped"."""
        return f"{self.status}, {len(self.skipped)} skipped" if self.skipped else self.status


@dataclass
class Report:
    """A whole run, written to `folder` as results.json and index.html."""

    folder: Path
    backend: str
    model: str
    results: list[Result]
    started: str = field(
        default_factory=lambda: datetime.now().astimezone().isoformat("T", "seconds")
    )
    total_s: float = 0.0

    def write(self) -> None:
        """Write both files, each atomically."""
        facts = asdict(self)
        del facts["folder"]
        paths.write_text(
            self.folder / "results.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
        )
        paths.write_text(self.folder / "index.html", INDEX.render(report=self))

    def table(self) -> str:
        """The table that is printed at the end."""
        width = max(len(one.title) for one in self.results)
        lines = []
        for one in self.results:
            lines.append(f"{one.title:<{width}}  {one.seconds:6.1f} s  {one.summary}")
            lines += [f"{'':<{width}}  {'':8}  skipped: {reason}" for reason in one.skipped]
            lines += [f"{'':<{width}}  {'':8}  {one.error}"] if one.error else []
        lines.append(f"{'total':<{width}}  {self.total_s:6.1f} s  {self.backend}: {self.model}")
        return "\n".join(lines)


INDEX = jinja2.Environment(autoescape=True).from_string("""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Notebooks on {{ report.backend }}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem }
  table { border-collapse: collapse; width: 100% }
  td:first-child, td:last-child { white-space: nowrap }
  th, td { border-bottom: 1px solid #ddd; padding: .4rem .6rem; text-align: left;
           vertical-align: top }
  td.seconds { text-align: right; font-variant-numeric: tabular-nums }
  .passed { color: #17692b } .failed { color: #b3261e } .not { color: #666 }
  pre { overflow-x: auto; background: #f6f6f6; padding: .6rem }
</style>
<h1>Notebooks on {{ report.backend }}</h1>
<p>Model <code>{{ report.model }}</code> · {{ report.started }} ·
   {{ "%.1f"|format(report.total_s) }} s in all</p>
<table>
<tr><th>notebook<th>status<th>seconds<th>files
{% for one in report.results %}
<tr>
<td>{{ one.title }}
<td><span class="{{ one.status }}">{{ one.summary }}</span>
{% for reason in one.skipped %}<br>skipped: {{ reason }}{% endfor %}
{% if one.error %}<br>{{ one.error }}{% endif %}
{% if one.traceback %}
<details><summary>whole traceback</summary><pre>{{ one.traceback }}</pre></details>
{% endif %}
<td class="seconds">{{ "%.1f"|format(one.seconds) }}
<td>{% if one.copied %}<a href="{{ one.name }}.html">page</a> ·
    <a href="{{ one.name }}.ipynb">notebook</a>{% endif %}
{% endfor %}
</table>
</html>
""")


def parse_parameters(pairs: list[str]) -> dict[str, Any]:
    """`NAME=VALUE` words as papermill parameters; VALUE is a Python literal or else a string."""
    parameters = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise RunError(f"-p wants NAME=VALUE, not {pair!r}")
        with contextlib.suppress(ValueError, SyntaxError):
            value = ast.literal_eval(value)
        parameters[name] = value
    return parameters


def require_declared(parameters: dict[str, Any], paths: list[Path]) -> None:
    """Refuse a parameter that none of the notebooks declares: it would change nothing."""
    declared = {
        target.id
        for path in paths
        for cell in notebooks.code_cells(notebooks.read(path))
        if "parameters" in notebooks.tags(cell)
        for node in ast.walk(notebooks.syntax_tree(cell))
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    if "BACKEND" in parameters:
        raise RunError("choose the backend with --backend, so that key, cost and cap are checked")
    if unknown := sorted(set(parameters) - declared):
        known = ", ".join(sorted(declared))
        raise RunError(f"no selected notebook has the parameter {unknown[0]}; they have: {known}")


def require_cap(paths: list[Path], backend: str, model: str, max_usd: float | None) -> None:
    """Let a paid backend start only with a cap that is not below the estimate.

    Raises RunError otherwise, and prices.BudgetError where nothing can be estimated.
    """
    estimate = run_cost.estimate_run(paths, model)
    print(f"{backend} costs money: about {estimate:.4f} USD for {len(paths)} notebooks on {model}.")
    if max_usd is None:
        raise RunError(
            f"{backend} costs money: about {estimate:.4f} USD for this run. Set a cap, such as "
            "MAX_USD=0.50 with make or --max-usd 0.50."
        )
    if not estimate <= max_usd < math.inf:
        raise RunError(
            f"the estimate of {estimate:.4f} USD is above the cap of {max_usd:.4f} USD: raise "
            "--max-usd (MAX_USD with make) or choose fewer notebooks."
        )


def set_cap(max_usd: float, ledger: Path) -> None:
    """Give the kernels to come one cap, in USD, and one file to add up in what they spend."""
    ledger.unlink(missing_ok=True)
    os.environ[budget.CAP_VARIABLE] = str(max_usd)
    os.environ[budget.SPENT_VARIABLE] = str(ledger)


def execute(path: Path, copy: Path, parameters: dict[str, Any], result: Result) -> None:
    """Run one notebook with papermill into `copy` and note in `result` what happened."""
    import papermill

    start = time.monotonic()
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
            extra_arguments=notebooks.QUIET_KERNEL,
            progress_bar={"leave": False, "desc": path.stem} if sys.stderr.isatty() else False,
        )
        # A kernel that leaves by itself, by sys.exit(0) for instance, counts as success there.
        if notebooks.code_cells(executed)[-1].execution_count is None:
            raise RuntimeError("the notebook ended before its last cell, without an error")
        result.status = PASSED
    except papermill.PapermillExecutionError as error:
        result.status = FAILED
        result.error = f"{error.ename}: {error.evalue}".strip().splitlines()[0]
        result.traceback = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))
    except Exception as error:  # a dead kernel, a timeout, a broken file
        result.status = FAILED
        result.error = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        result.traceback = traceback.format_exc()
    finally:
        result.seconds = round(time.monotonic() - start, 1)


def to_html(copy: Path) -> None:
    """Write the page of an executed notebook beside it."""
    from nbconvert import HTMLExporter

    page, _ = HTMLExporter().from_notebook_node(notebooks.read(copy))
    paths.write_text(copy.with_suffix(".html"), page)


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Treat a request to terminate as Ctrl-C, so that kernels and server are closed as well."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_all(report: Report, paths: list[Path], parameters: dict[str, Any], lab: Any) -> int:
    """Execute `paths` in order, reporting after each; returns the exit code.

    `lab` is the open connection; its `usage()`, where it has one, gives tokens per notebook.
    """
    start = time.monotonic()
    for path in paths:  # what an earlier run left must not pass for this run's
        for suffix in (".ipynb", ".html"):
            (report.folder / path.with_suffix(suffix).name).unlink(missing_ok=True)
    report.write()
    code = OK
    try:
        for path, result in zip(paths, report.results, strict=True):
            print(f"{result.title} …", end=" ", flush=True)
            before = lab.usage()
            copy = report.folder / path.name
            execute(path, copy, parameters, result)
            if copy.exists():
                result.skipped = notebooks.skipped(notebooks.read(copy))
                to_html(copy)
                result.copied = True
            if before and (after := lab.usage()):
                for key, value in before.items():
                    setattr(result, key, after[key] - value)
            report.total_s = round(time.monotonic() - start, 1)
            report.write()
            print(f"{result.summary} ({result.seconds:.1f} s)", flush=True)
            if result.status == FAILED:
                code = SOME_FAILED
                print(f"  {result.error}", flush=True)
    except KeyboardInterrupt:
        code = INTERRUPTED
        print("interrupted", flush=True)
        for result in report.results:
            if result.status == NOT_RUN and result.seconds:
                result.error = "interrupted"
    report.total_s = round(time.monotonic() - start, 1)
    report.write()
    print(f"\n{report.table()}\n\n{report.folder / 'index.html'}", flush=True)
    return code


def run(
    backend: str = "pocket",
    words: list[str] | None = None,
    out: Path = Path("runs"),
    max_usd: float | None = None,
    pairs: list[str] | None = None,
    folder: Path = paths.NOTEBOOKS,
) -> int:
    """Run the notebooks that `words` select on `backend`; returns the exit code.

    What hinders the start (an unknown backend, a missing key, no cap) is one line on stderr and
    code 2. Results go to `out/backend/`, replacing those of the same notebooks.
    """
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # the report says it all
    with terminable(), contextlib.ExitStack() as stack:
        try:
            paths = notebooks.select(words or [], folder)
            parameters = parse_parameters(pairs or [])
            require_declared(parameters, paths)
            # Held open to the end, so that all notebooks share one server.
            lab = stack.enter_context(contextlib.closing(backends.connect(backend)))
            target = out.resolve() / backend
            if backends.BACKENDS[backend].paid:
                require_cap(paths, backend, lab.model, max_usd)
            target.mkdir(parents=True, exist_ok=True)
            if backends.BACKENDS[backend].paid:
                set_cap(max_usd, target / "spent_usd.txt")
            titles = [notebooks.title(notebooks.read(path)) or path.stem for path in paths]
        except (RuntimeError, ValueError, OSError) as error:  # BackendError is a RuntimeError
            print(" ".join(f"error: {error}".split()), file=sys.stderr)
            return USAGE
        except KeyboardInterrupt:
            print("interrupted before the first notebook", file=sys.stderr)
            return INTERRUPTED
        results = [Result(path.stem, name) for path, name in zip(paths, titles, strict=True)]
        report = Report(target, backend, lab.model, results)
        return run_all(report, paths, parameters | {"BACKEND": backend}, lab)
