"""Thirty learners at one server, through the requests of the 90-minute plan: waits and failures.

    python benchmarks/crowd_workshop.py --clients 30 --minutes 25

The script starts a room's server as `crowd_classroom.py` does, and runs the workshop's notebook
once to record what each of its cells sends. Then every client sends that, cell by cell. A part
begins for all clients at the same moment, as when a teacher says so: all run its first cell. The
moments of the other cells are random, with a seed. A client never sends a cell before the last one
is answered. `--minutes` is the time for all parts together, in the proportions of the plan; less
than the plan's minutes makes the room as much busier. A part that sends nothing is left out. With
0, everybody runs all cells at once.

It prints, for each part, how long a learner waits for a cell, and every failure. Nothing is
retried. Clients and server share this machine.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import httpx2
import nbclient
import openai
from crowd_classroom import room_server
from nbformat import NotebookNode

from helpers import connect
from labkit import notebooks, workshop

PATIENCE_S = 600.0  # of a client, for one request
# Writes down what each cell sends. The first line of each cell names the cell.
RECORDER = """
import httpx2, json
_send = httpx2.Client.send
def _recorded(self, request, **options):
    if request.url.path.endswith("/chat/completions"):
        with open({file!r}, "a") as file:
            print(json.dumps([_cell, json.loads(request.content)]), file=file)
    return _send(self, request, **options)
httpx2.Client.send = _recorded
"""


@dataclass
class Cell:
    """A cell of the workshop that sends requests."""

    part: str
    bodies: list[dict]


@dataclass
class Seen:
    """What one learner saw in one part."""

    waits_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    behind_s: float = 0.0


def record(book: NotebookNode) -> list[Cell]:
    """What the cells of the workshop send, on the backend "custom", in their order."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "requests.jsonl")
        for cell in notebooks.code_cells(book):
            if "parameters" in notebooks.tags(cell):
                cell.source = 'BACKEND = "custom"' + RECORDER.format(file=str(file))
            else:
                cell.source = f"_cell = {cell.id!r}\n{cell.source}"
        nbclient.NotebookClient(
            book,
            timeout=PATIENCE_S,
            resources={"metadata": {"path": str(workshop.NOTEBOOK.parent)}},
            extra_arguments=notebooks.KERNEL_OPTIONS,
        ).execute()
        sent = [json.loads(line) for line in file.read_text().splitlines()]
    return [
        Cell(name.split("-")[0], [body for _, body in group])
        for name, group in groupby(sent, key=lambda row: row[0])
    ]


def send(client: openai.OpenAI, body: dict) -> str | None:
    """Send one request and read all of its answer; None, or what went wrong."""
    try:
        reply = client.post("/chat/completions", cast_to=httpx2.Response, body=body)
        text = reply.text
    except (openai.APIError, httpx2.HTTPError) as error:
        return f"{type(error).__name__}: {error}"
    return "an error in the middle of the stream" if '"error":' in text[-500:] else None


def attend(client: openai.OpenAI, cells: list[Cell], seconds: float, rng: random.Random) -> Seen:
    """One learner goes through a part."""
    begun, seen = time.monotonic(), Seen()
    moments = [0.0, *sorted(rng.uniform(0, seconds) for _ in cells[1:])]
    for cell, moment in zip(cells, moments, strict=True):
        time.sleep(max(0.0, begun + moment - time.monotonic()))
        asked = time.monotonic()
        seen.failures += filter(None, [send(client, body) for body in cell.bodies])
        seen.waits_s.append(time.monotonic() - asked)
    seen.behind_s = max(0.0, time.monotonic() - begun - seconds)
    return seen


def print_part(title: str, cells: list[Cell], seen: list[Seen]) -> None:
    """The waits of all learners in one part."""
    waits = sorted(wait for each in seen for wait in each.waits_s)
    late = waits[min(len(waits) - 1, int(len(waits) * 0.95))]
    requests = sum(len(cell.bodies) for cell in cells)
    print(f"{title}: {len(cells)} cells send {requests} requests, {len(seen)} learners")
    print(
        f"  wait for a cell: median {statistics.median(waits):.1f} s, 95 % below {late:.1f} s, "
        f"worst {waits[-1]:.1f} s"
    )
    print(f"  the last learner ended {max(each.behind_s for each in seen):.1f} s after the plan")
    failures = Counter(failure for each in seen for failure in each.failures)
    print(f"  failures: {failures.total()} of {requests * len(seen)} requests")
    for failure, times in failures.items():
        print(f"    {times} × {failure}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the workshop's crowd; 1 if a request failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=25, help="for all parts together")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    plan = workshop.plan()["parts"]
    planned = sum(part["minutes"] for part in plan)
    with room_server(batching=True) as server:
        begun = time.monotonic()
        cells = record(workshop.assemble())
        print(f"recorded from the notebook, alone at the server: {time.monotonic() - begun:.0f} s")
        print(f"{options.minutes:g} minutes for the plan's {planned}:", flush=True)
        clients = [
            connect("custom").client.with_options(max_retries=0, timeout=PATIENCE_S)
            for _ in range(options.clients)
        ]
        failed = 0
        for part in plan:
            sending = [cell for cell in cells if cell.part == part["notebook"]]
            seconds = 60 * options.minutes * part["minutes"] / planned
            rngs = [
                random.Random(f"{options.seed} {n} {part['title']}") for n in range(len(clients))
            ]
            with ThreadPoolExecutor(len(clients)) as pool:
                work = [
                    pool.submit(attend, client, sending, seconds, rng)
                    for client, rng in zip(clients, rngs, strict=True)
                    if sending
                ]
                seen = [each.result() for each in work]
            if seen:
                print_part(part["title"], sending, seen)
            failed += sum(len(each.failures) for each in seen)
        print(f"server: {server.memory_info().rss / 1e6:.0f} MB")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
