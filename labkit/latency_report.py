"""A sweep over concurrency for `python -m helpers latency`: its records, and a page about them.

The page executes the cells of notebook 06 that have the tag "report" on the records. So notebook
and command show the same figures in the same way. A JSON file of the same name lies beside the
records: what was run, where and when, and what the hardware could do (`describe`).
"""

import json
from datetime import date, datetime
from pathlib import Path

from tqdm import tqdm

from helpers import latency, latency_stats, machine, paths
from helpers.backends import Lab
from helpers.model import cards, sizes
from helpers.model.speed import memory_bandwidth
from labkit import notebooks

TAG = "report"
GOOD_SHARE = 0.9  # of the requests: a level meets the objective if so many do
NOTEBOOK = paths.NOTEBOOKS / "06_latency.ipynb"
TOPICS = ("rivers", "bread", "trains", "clouds", "maps", "tea", "bees", "snow")


def parse_levels(text: str) -> list[int]:
    """`1,4,16` as numbers. Raises ValueError unless each is 1 or more."""
    try:
        levels = [int(word) for word in text.split(",")]
    except ValueError:
        levels = []
    if not levels or min(levels) < 1:
        raise ValueError("--concurrency takes numbers from 1 up, such as 1,4,16")
    return levels


def hardware_limits(gpu: str | None, shape: str, scheme: str, usd_per_hour: float | None) -> dict:
    """The arguments of `latency_stats.ceilings` that the command's options give.

    Raises:
        ValueError: an unknown GPU, model or scheme, or a price that is not above 0.
    """
    limits = {}
    if gpu:
        bandwidth = cards.gpu(gpu).bandwidth
        limits |= {"model": shape, "scheme": scheme, "bandwidth": bandwidth}
        sizes.decode_limit(shape, scheme, bandwidth)  # raises ValueError for a bad name
    if usd_per_hour is not None:
        if not usd_per_hour > 0:
            raise ValueError("--usd-per-hour must be above 0")
        limits["usd_per_hour"] = usd_per_hour
    return limits


def pocket_limits(lab: Lab) -> dict:
    """The arguments of `latency_stats.ceilings` for the pocket server that `lab` talks to."""
    entry = lab.client.models.retrieve(lab.model)  # with the server's own counts
    read = {"weight_bytes": entry.weight_bytes, "token_bytes": entry.token_bytes}
    return read | {"bandwidth": memory_bandwidth()}


def records_path(lab: Lab, folder: Path, max_tokens: int, batching: bool) -> Path:
    """The JSONL file of a sweep; the same options give the same file."""
    mode = "-batching" if batching else ""
    model = paths.file_name(lab.model)
    return folder / f"{lab.backend}{mode}-{model}-{max_tokens}-tokens.jsonl"


def measure(
    lab: Lab, levels: list[int], requests: int, max_tokens: int, path: Path
) -> dict[int, list[latency.Record]]:
    """Send `requests` requests at each level of concurrency, with a progress bar.

    What `path` already holds is not sent again. Ctrl-C gives records with the error
    `latency.NOT_FINISHED`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    prompts = [f"Tell me about {TOPICS[n % len(TOPICS)]}, number {n}." for n in range(requests)]
    with tqdm(total=requests * len(levels), desc="requests", unit="request") as bar:
        return latency.sweep(
            lab.client,
            lab.model,
            prompts,
            levels,
            path=path,
            max_tokens=max_tokens,
            temperature=0,
            on_record=lambda _: bar.update(),
        )


def describe(records: Path, command: str, limits: dict) -> Path:
    """Write what the report says of a run beside its records: command, date, machine, limits.

    Args:
        records: the JSONL file.
        command: how the run is repeated.
        limits: arguments of `latency_stats.ceilings`; none if the hardware is unknown.

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


def conclusion(levels: dict[int, list[latency.Record]], ttft_goal_s: float) -> str:
    """The highest number of users at once that met the objective, as a sentence.

    Args:
        levels: from `latency.sweep` or `latency_stats.by_level`.
        ttft_goal_s: the objective, in seconds to the first token.
    """
    table = latency_stats.level_table(levels, ttft_s=ttft_goal_s).sort_index()
    met = table[table["goodput"] >= GOOD_SHARE]
    goal = (
        f"at least {GOOD_SHARE:.0%} of the requests with their first token within {ttft_goal_s:g} s"
    )
    if met.empty:
        return f"The objective was never met: {goal}."
    best, rate = met.index[-1], met["output_tokens_per_s"].iloc[-1]
    untried = " More at once were not tried." if best == table.index[-1] else ""
    return (
        f"The objective was met with {best} at once: {goal}. "
        f"The server then gave {rate:.1f} tokens/s in total.{untried}"
    )


def page(records: Path, title: str, *, ttft_goal_s: float) -> Path:
    """Write the report of a file of records as HTML beside it.

    Args:
        records: a JSONL file that `latency.run_load` wrote, with what `describe` wrote beside it.
        title: its heading; the time of day is added.
        ttft_goal_s: the objective for the goodput, in seconds to the first token.

    Returns:
        the page.

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
    now = datetime.now().astimezone().isoformat(" ", "minutes")
    found = conclusion(latency_stats.by_level(latency.read(records)), ttft_goal_s)
    head = nbformat.v4.new_markdown_cell(f"# {title}, {now}\n\n{found}")
    setting = nbformat.v4.new_code_cell(
        f"RECORDS = {str(records.resolve())!r}\nTTFT_GOAL_S = {ttft_goal_s!r}"
    )
    report = nbformat.v4.new_notebook(cells=[head, setting, *cells])
    NotebookClient(
        report, timeout=300, kernel_name="python3", extra_arguments=notebooks.KERNEL_OPTIONS
    ).execute()
    text, _ = HTMLExporter(exclude_input=True, exclude_output_prompt=True).from_notebook_node(
        report
    )
    target = records.with_suffix(".html")
    paths.write_text(target, text)
    return target
