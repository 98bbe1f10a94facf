"""Run every notebook from first cell to last on one backend, and report.

One notebook's failure does not stop the others. The report is written again after each notebook,
so an interrupted run keeps what was finished.
"""

from __future__ import annotations

import ast
import contextlib
import json
import math
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd
import papermill

from helpers import backends, budget, paths
from labkit import execution, notebooks, pages, run_cost
from labkit.execution import FAILED, Result, execute_copy, execute_two_at_a_time, minutes

if TYPE_CHECKING:
    from helpers.backends import Lab

OK, SOME_FAILED, INTERRUPTED = 0, 1, 130  # exit codes
TEMPLATES = jinja2.Environment(loader=jinja2.PackageLoader("labkit", ""), autoescape=True)


class RunError(RuntimeError):
    """The run cannot start. The message says why and what to do."""


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


def run_all(
    report: Report, paths: list[Path], parameters: dict[str, Any], lab: Lab, *, in_turn: bool
) -> None:
    """Execute notebooks, and write the report after each.

    Args:
        in_turn: one after another, and note the tokens of each if `lab.usage()` counts them. If
            False, only those that compare measured times are alone, after the others.
    """
    start = time.monotonic()
    for path in paths:  # a result of an earlier run must not look like one of this run
        for suffix in (".ipynb", ".html"):
            (report.folder / path.with_suffix(suffix).name).unlink(missing_ok=True)
    shown = pages.names(notebooks.available(paths[0].parent))
    pages.write_documents(report.folder, shown)
    pages.write_placeholders(report.folder, paths[0].parent, report.backend)
    report.write()
    copies = [report.folder / path.name for path in paths]
    alone = list(zip(paths, copies, report.results, strict=True))
    together = [] if in_turn else [job for job in alone if not notebooks.compares_times(job[0])]
    together = together if len(together) > 1 else []
    alone = [job for job in alone if job not in together]
    try:
        if together:
            print(f"{len(together)} of {len(paths)} notebooks run two at a time …", flush=True)
        # The later notebooks take longer. The longest one should not be the last to begin.
        for result in execute_two_at_a_time(together[::-1], parameters):
            print(f"{result.title} …", end=" ")
            _note(report, result, start)
        for path, copy, result in alone:
            print(f"{result.title} …", end=" ", flush=True)
            before = lab.usage() if in_turn else None
            execute_copy(path, copy, parameters, result)
            if before and (after := lab.usage()):
                for key, value in before.items():
                    setattr(result, key, after[key] - value)
            _note(report, result, start)
    except KeyboardInterrupt:
        report.exit_code = INTERRUPTED
        print("interrupted", flush=True)
    report.total_s = round(time.monotonic() - start, 1)
    report.write()


def _note(report: Report, result: Result, start: float) -> None:
    """Print and write what happened to a notebook."""
    report.total_s = round(time.monotonic() - start, 1)
    report.write()
    print(f"{result.summary} ({result.time} min)", flush=True)
    if result.status == FAILED:
        report.exit_code = SOME_FAILED
        print(f"  {result.error}", flush=True)


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
    in_turn: bool = False,
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
        in_turn: one after another, which notes the tokens of each. Without it, two run at the same
            time if the model is this machine's own.

    Raises:
        RunError: an unknown backend or notebook, a missing key, no cap, no price.
        KeyboardInterrupt: before the first notebook; later ones end the run with a report.
    """
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
        # Kernels at the same time would not see what the others spend.
        in_turn = in_turn or backend != "pocket" or not execution.two_are_faster()
        run_all(report, paths, parameters | {"BACKEND": backend}, lab, in_turn=in_turn)
        return report
