"""Run every notebook from first cell to last on one backend, and report.

One notebook's failure does not stop the others. The report is written again after each notebook,
so an interrupted run keeps what was finished.
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
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd
import papermill

from helpers import backends, budget, paths
from labkit import notebooks, pages, run_cost

if TYPE_CHECKING:
    from helpers.backends import Lab

CELL_TIMEOUT_S = 900
PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"
OK, SOME_FAILED, INTERRUPTED = 0, 1, 130  # exit codes
TEMPLATES = jinja2.Environment(loader=jinja2.PackageLoader("labkit", ""), autoescape=True)


class RunError(RuntimeError):
    """The run cannot start. The message says why and what to do."""


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
    exit_code: int = OK

    def write(self) -> None:
        """Write both files, each atomically."""
        facts = asdict(self)
        del facts["folder"], facts["exit_code"]
        text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
        paths.write_text(self.folder / "results.json", text)
        page = TEMPLATES.get_template("report.html.j2").render(
            report=self, total=minutes(self.total_s), date=self.started[:16].replace("T", " ")
        )
        paths.write_text(self.folder / "index.html", page)

    def table(self) -> pd.DataFrame:
        """One row for each notebook and one for the total: minutes, status, notes."""
        rows = [
            {
                "notebook": result.title,
                "min:s": result.time,
                "status": result.summary,
                "notes": "; ".join(filter(None, [*result.skipped, result.error])),
            }
            for result in self.results
        ]
        total = {"notebook": "total", "min:s": minutes(self.total_s), "status": self.backend}
        return pd.DataFrame([*rows, total | {"notes": self.model}]).set_index("notebook")


def parse_parameters(pairs: list[str]) -> dict[str, Any]:
    """`NAME=VALUE` words as papermill parameters; VALUE is a Python literal or else a string."""
    parameters = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise RunError(f"-p needs NAME=VALUE, not {pair!r}")
        with contextlib.suppress(ValueError, SyntaxError):
            value = ast.literal_eval(value)
        parameters[name] = value
    return parameters


def require_declared(parameters: dict[str, Any], paths: list[Path]) -> None:
    """Refuse a parameter that none of the notebooks declares: it would change nothing."""
    if "BACKEND" in parameters:
        raise RunError("choose the backend with --backend, so that key, cost and cap are checked")
    declared = {name for path in paths for name in papermill.inspect_notebook(path)}
    if unknown := sorted(set(parameters) - declared):
        known = ", ".join(sorted(declared))
        raise RunError(f"no selected notebook has the parameter {unknown[0]}; they have: {known}")


def require_cap(paths: list[Path], lab: Lab, max_usd: float | None, price: str | None) -> None:
    """Refuse a paid backend without a price or a cap, or with a cap below the estimate."""
    found = run_cost.find_price(lab, price)
    run_cost.use_price(lab.model, found)
    estimate = run_cost.estimate_run(paths, lab.model)
    print(
        f"{lab.backend} costs money: about {estimate:.4f} USD for {len(paths)} notebooks on "
        f"{lab.model}, at {found}."
    )
    if max_usd is None:
        raise RunError("Set a cap, such as MAX_USD=0.50 with make or --max-usd 0.50.")
    if not estimate <= max_usd < math.inf:
        raise RunError(
            f"the estimate of {estimate:.4f} USD is above the cap of {max_usd:.4f} USD: raise "
            "--max-usd (MAX_USD with make) or choose fewer notebooks."
        )


def set_cap(max_usd: float, spent: Path) -> None:
    """Give all kernels one cap in USD, and one file in which they add up what they spend."""
    spent.unlink(missing_ok=True)
    os.environ[budget.CAP_VARIABLE] = str(max_usd)
    os.environ[budget.SPENT_VARIABLE] = str(spent)


def set_server(backend: str, model: str | None, base_url: str | None) -> None:
    """Give all kernels the run's own model and address; their `connect` reads them."""
    for what, value in {"MODEL": model, "URL": base_url}.items():
        if value:
            os.environ[backends.variable(backend, what)] = value


def execute_copy(path: Path, copy: Path, parameters: dict[str, Any], result: Result) -> None:
    """Run one notebook with papermill into `copy`, and note in `result` what happened.

    A page of the same name is written beside the copy.
    """
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
            extra_arguments=notebooks.QUIET_KERNEL,
            progress_bar={"leave": False, "desc": path.stem} if sys.stderr.isatty() else False,
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


def run_all(report: Report, paths: list[Path], parameters: dict[str, Any], lab: Lab) -> None:
    """Execute `paths` in order, and write the report after each.

    If `lab.usage()` counts tokens, each notebook's tokens are noted.
    """
    start = time.monotonic()
    for path in paths:  # a result of an earlier run must not look like one of this run
        for suffix in (".ipynb", ".html"):
            (report.folder / path.with_suffix(suffix).name).unlink(missing_ok=True)
    shown = pages.names(notebooks.available(paths[0].parent))
    pages.write_documents(report.folder, shown)
    pages.write_placeholders(report.folder, paths[0].parent, report.backend)
    report.write()
    try:
        for path, result in zip(paths, report.results, strict=True):
            print(f"{result.title} …", end=" ", flush=True)
            before = lab.usage()
            execute_copy(path, report.folder / path.name, parameters, result)
            if before and (after := lab.usage()):
                for key, value in before.items():
                    setattr(result, key, after[key] - value)
            report.total_s = round(time.monotonic() - start, 1)
            report.write()
            print(f"{result.summary} ({result.time} min)", flush=True)
            if result.status == FAILED:
                report.exit_code = SOME_FAILED
                print(f"  {result.error}", flush=True)
    except KeyboardInterrupt:
        report.exit_code = INTERRUPTED
        print("interrupted", flush=True)
    report.total_s = round(time.monotonic() - start, 1)
    report.write()


def run(
    backend: str = "pocket",
    names: list[str] | None = None,
    out: Path = Path("runs"),
    max_usd: float | None = None,
    pairs: list[str] | None = None,
    folder: Path = paths.NOTEBOOKS,
    *,
    model: str | None = None,
    base_url: str | None = None,
    price: str | None = None,
) -> Report:
    """Run notebooks on a backend; their results replace earlier ones in `out/backend/`.

    Args:
        backend: a name in `helpers.backends.BACKENDS`, or the address of a server.
        names: which notebooks, as `notebooks.select` takes them; all if empty.
        out: folder for the results.
        max_usd: the cap in USD, which a paid backend needs.
        pairs: notebook parameters as `NAME=VALUE`.
        folder: where the notebooks are.
        model: another model than the backend's default.
        base_url: another address of the server.
        price: `IN,OUT` in USD per million tokens, instead of the server's own price.

    Raises:
        RunError: an unknown backend or notebook, a missing key, no cap, no price.
        KeyboardInterrupt: before the first notebook; later ones end the run with a report.
    """
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # the report has the same errors
    with terminable(), contextlib.ExitStack() as stack:
        try:
            paths = notebooks.select(names or [], folder)
            titles = [notebooks.title(notebooks.read(path)) or path.stem for path in paths]
            parameters = parse_parameters(pairs or [])
            require_declared(parameters, paths)
            # Open until the end, so that all notebooks share one server.
            lab = backends.connect(backend, model=model, base_url=base_url)
            stack.enter_context(contextlib.closing(lab))
            if lab.backend != backend:  # an address is short for "custom" there
                backend, base_url = lab.backend, base_url or backend
            set_server(backend, model, base_url)
            target = out.resolve() / backend
            if backends.BACKENDS[backend].paid:
                require_cap(paths, lab, max_usd, price)
            target.mkdir(parents=True, exist_ok=True)
            if backends.BACKENDS[backend].paid:
                set_cap(max_usd, target / "spent_usd.txt")
        except (RuntimeError, ValueError, OSError) as error:  # BackendError is a RuntimeError
            raise RunError(str(error)) from error
        results = [Result(path.stem, title) for path, title in zip(paths, titles, strict=True)]
        report = Report(target, backend, lab.model, results)
        run_all(report, paths, parameters | {"BACKEND": backend}, lab)
        return report
