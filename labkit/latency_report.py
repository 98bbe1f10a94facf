"""`python -m helpers latency`: a sweep over concurrency, its table, its records, its page.

The page is made by executing the cells of notebook 06 that bear the tag "report" on the records, so
that notebook and command show the same figures in the same way. Beside the records lies a file of
the same name in JSON: what was run, where and when, and what the hardware could do (`describe`).
"""

import argparse
import json
import shlex
import sys
from datetime import date, datetime
from pathlib import Path

from tqdm import tqdm

from helpers import latency, latency_stats, machine, paths
from helpers.model import cards, fit
from helpers.model.sizes import SCHEMES
from labkit import backend_options, notebooks

TAG = "report"
NOTEBOOK = paths.NOTEBOOKS / "06_latency.ipynb"
TOPICS = ("rivers", "bread", "trains", "clouds", "maps", "tea", "bees", "snow")


def describe(records: Path, command: str, limits: dict) -> Path:
    """Write what the report says of a run beside its records: command, date, machine, limits.

    Args:
        records: the JSONL file.
        command: how the run is repeated.
        limits: arguments of `latency_stats.limits`; none of them where the hardware is not known.

    Returns:
        the file written.
    """
    facts = {
        "command": command,
        "date": f"{date.today()}",
        "asked_from": machine.hardware(),
        "versions": machine.versions(),
        "limits": limits,
    }
    target = records.with_suffix(".json")
    paths.write_text(target, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    return target


def page(records: Path, target: Path, title: str, *, ttft_goal_s: float) -> None:
    """Write the report of a file of records as HTML.

    Args:
        records: a JSONL file that `latency.run_load` wrote, with what `describe` wrote beside it.
        target: the page.
        title: its heading.
        ttft_goal_s: the objective for the goodput, in seconds to the first token.

    Raises:
        nbclient.exceptions.CellExecutionError: the cells failed on these records.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbconvert import HTMLExporter

    cells = [cell for cell in notebooks.read(NOTEBOOK).cells if TAG in notebooks.tags(cell)]
    for cell in cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    head = nbformat.v4.new_markdown_cell(f"# {title}")
    setting = nbformat.v4.new_code_cell(
        f"RECORDS = {str(records.resolve())!r}\nTTFT_GOAL_S = {ttft_goal_s!r}"
    )
    report = nbformat.v4.new_notebook(cells=[head, setting, *cells])
    NotebookClient(report, timeout=300, kernel_name="python3").execute()
    text, _ = HTMLExporter(exclude_input=True).from_notebook_node(report)
    paths.write_text(target, text)


def main(argv: list[str]) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m helpers latency", description=__doc__)
    backend_options.add(parser)
    parser.add_argument(
        "--concurrency", default="1,4,16", help="requests under way at once (default: 1,4,16)"
    )
    parser.add_argument("--requests", type=int, default=16, help="at each level (default: 16)")
    parser.add_argument("--max-tokens", type=int, default=32, help="of each answer (default: 32)")
    parser.add_argument("--ttft-goal", type=float, default=0.8, help="seconds (default: 0.8)")
    parser.add_argument("--card", help="what the server runs on, for the ceiling: 4090, H100, …")
    parser.add_argument("--shape", default="mistral-small-3.2", help="and which model's weights")
    parser.add_argument("--scheme", default="bf16", choices=SCHEMES, help="and what they are in")
    parser.add_argument("--usd-per-hour", type=float, help="what the server costs, for the price")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/latency"), help="folder; the same again goes on"
    )
    options = parser.parse_args(argv)
    try:
        levels = [int(word) for word in options.concurrency.split(",")]
    except ValueError:
        levels = []
    if not levels or min(levels) < 1 or options.requests < 1 or options.max_tokens < 1:
        print("error: --concurrency takes numbers from 1 up, such as 1,4,16; so do --requests "
              "and --max-tokens", file=sys.stderr)  # fmt: skip
        return 2
    try:
        limits = _limits(options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    total = options.requests * len(levels)
    if max(levels) > latency.EXACT_AT_ONCE:
        print(
            f"Above {latency.EXACT_AT_ONCE} at once this process itself is late: "
            "benchmarks/latency_accuracy.py says by how much here."
        )
    lab = backend_options.connected(options, sends=f"up to {total + 1} short requests")
    if lab is None:
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    mode = "-batching" if options.batching else ""
    model = lab.model.replace("/", "--").replace(":", "-")
    stem = f"{options.backend}{mode}-{model}-{options.max_tokens}-tokens"
    path = options.out / f"{stem}.jsonl"
    prompts = [f"Tell me about {TOPICS[n % 8]}, number {n}." for n in range(options.requests)]
    if path.exists():
        print(f"{path} is there: what it has is not asked for again.")
    bar = tqdm(total=total, desc="requests", unit="request")
    try:
        found = latency.sweep(
            lab.client, lab.model, prompts, levels, path=path, max_tokens=options.max_tokens,
            temperature=0, done=lambda _: bar.update(),
        )  # fmt: skip
    finally:
        bar.close()
        lab.close()
    if path.exists():
        if options.backend == "pocket" and not options.base_url:
            from helpers.model.speed import memory_bandwidth

            limits |= {"model": "pocket", "bandwidth": memory_bandwidth()}
        describe(path, f"python -m helpers latency {shlex.join(argv)}", limits)
    print(latency_stats.levels(found, ttft_s=options.ttft_goal).round(3).to_string())
    print(latency_stats.limits(found, **limits).round(3).to_string())
    for level, records in found.items():
        for error, count in latency_stats.errors(records).items():
            print(f"{level} at once: {count} × {error}")
    stopped = any(r.error == latency.NOT_FINISHED for some in found.values() for r in some)
    if stopped:
        print(f"Interrupted. The same command goes on from {path}.")
    now = datetime.now().astimezone().isoformat(" ", "minutes")
    title = f"Latency of {lab.model} on {options.backend}{mode}, {now}"
    if path.exists():
        page(path, path.with_suffix(".html"), title, ttft_goal_s=options.ttft_goal)
        print(f"Records: {path}\nPage: {path.with_suffix('.html')}")
    return 130 if stopped else 0


def _limits(options: argparse.Namespace) -> dict:
    """The arguments of `latency_stats.limits` that the options give. Raises ValueError."""
    found = {}
    if options.card:
        bandwidth = cards.card(options.card).bandwidth
        found |= {"model": options.shape, "scheme": options.scheme, "bandwidth": bandwidth}
        fit.decode_limit(options.shape, options.scheme, bandwidth)  # says what is wrong, if it is
    if options.usd_per_hour is not None:
        if not options.usd_per_hour > 0:
            raise ValueError("--usd-per-hour must be above 0")
        found["usd_per_hour"] = options.usd_per_hour
    return found
