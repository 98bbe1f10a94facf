"""`python -m helpers latency`: a sweep over concurrency, its table, its records, its page.

The page is made by executing the cells of notebook 06 that bear the tag "report" on the records, so
that notebook and command show the same figures in the same way.
"""

import argparse
import sys
from datetime import datetime
from pathlib import Path

from tqdm import tqdm

from helpers import latency, notebooks
from helpers.backends import BACKENDS, BackendError, connect

TAG = "report"
NOTEBOOK = notebooks.NOTEBOOKS / "06_latency.ipynb"
TOPICS = ("rivers", "bread", "trains", "clouds", "maps", "tea", "bees", "snow")


def page(records: Path, target: Path, title: str, *, ttft_goal_s: float) -> None:
    """Write the report of a file of records as HTML.

    Args:
        records: a JSONL file that `latency.run_load` wrote.
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
    notebooks.write_text(target, text)


def main(argv: list[str]) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m helpers latency", description=__doc__)
    parser.add_argument("--backend", default="pocket")
    parser.add_argument("--model", help="another model than the backend's default")
    parser.add_argument("--base-url", help="another address")
    parser.add_argument("--batching", action="store_true", help="pocket: continuous batching")
    parser.add_argument(
        "--concurrency", default="1,4,16", help="requests under way at once (default: 1,4,16)"
    )
    parser.add_argument("--requests", type=int, default=16, help="at each level (default: 16)")
    parser.add_argument("--max-tokens", type=int, default=32, help="of each answer (default: 32)")
    parser.add_argument("--ttft-goal", type=float, default=0.8, help="seconds (default: 0.8)")
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
        lab = connect(
            options.backend,
            model=options.model,
            base_url=options.base_url,
            **({"batching": True} if options.batching else {}),
        )
    except BackendError as error:
        print(" ".join(f"error: {error}".split()), file=sys.stderr)
        return 2
    total = options.requests * len(levels)
    if BACKENDS[options.backend].paid:
        print(f"{options.backend} costs money: this sends up to {total + 1} short requests.")
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
    print(latency.levels(found, ttft_s=options.ttft_goal).round(3).to_string())
    for level, records in found.items():
        for error, count in latency.errors(records).items():
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
