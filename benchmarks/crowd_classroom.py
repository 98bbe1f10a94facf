"""A room of learners at one server: how long each waits for the first answers of notebook 00.

    python benchmarks/crowd_classroom.py --clients 30

The script starts `python -m pocket_model serve --host 0.0.0.0` with a key, with `--batching`
unless `--one-by-one` is given. Then all clients start at once. Each does what notebook 00 does
first: it connects by the `CUSTOM_…` variables, asks a question, streams the answer, and asks twice
more at two temperatures. Clients and server share this machine.

It prints seconds until the first answer, until a stream's first text and until the end, the
errors, and the server's memory.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Barrier

import openai
import psutil

from helpers import BackendError, Lab, connect
from pocket_model.sharing import KEY_VARIABLE, new_key

QUESTION = [{"role": "user", "content": "How many days are in a week?"}]
OPEN_QUESTION = [{"role": "user", "content": "Write a sentence about the sea."}]


@dataclass
class Visit:
    """What one learner saw: seconds since all started, and the error that ended it."""

    first_answer_s: float | None = None
    first_text_s: float | None = None
    total_s: float | None = None
    error: str = ""


@contextmanager
def room_server(batching: bool) -> Iterator[psutil.Process]:
    """A server for other machines too; the environment has what `connect("custom")` reads."""
    key = new_key()
    command = [sys.executable, "-m", "pocket_model", "serve", "--host", "0.0.0.0"]
    command += ["--batching"] if batching else []
    environment = os.environ | {KEY_VARIABLE: key}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        lines = (line.split() for line in server.stdout)
        url = next((words[1] for words in lines if words[:1] == ["CUSTOM_BASE_URL"]), None)
        if url is None:
            raise SystemExit("The server ended while starting; its reason is above.")
        os.environ.update(CUSTOM_BASE_URL=url, CUSTOM_API_KEY=key, CUSTOM_MODEL="pocket-small")
        yield psutil.Process(server.pid)
    finally:
        server.terminate()
        server.wait()


def ask(lab: Lab, messages: list[dict], **settings):
    """One request of notebook 00."""
    return lab.client.chat.completions.create(model=lab.model, messages=messages, **settings)


def visit(start: Barrier) -> Visit:
    """One learner, from the connection to the answers at two temperatures."""
    seen = Visit()
    start.wait()
    begun = time.perf_counter()
    try:
        lab = connect("custom")
        ask(lab, QUESTION, temperature=0.15, max_tokens=32)
        seen.first_answer_s = time.perf_counter() - begun
        asked = time.perf_counter()
        for chunk in ask(lab, QUESTION, temperature=0.15, max_tokens=32, stream=True):
            if seen.first_text_s is None and chunk.choices and chunk.choices[0].delta.content:
                seen.first_text_s = time.perf_counter() - asked
        for temperature in (0, 1.2):
            ask(lab, OPEN_QUESTION, temperature=temperature, max_tokens=16)
        seen.total_s = time.perf_counter() - begun
        lab.close()
    except (BackendError, openai.APIError) as error:
        seen.error = f"{type(error).__name__}: {error}"
    return seen


def classroom(clients: int) -> list[Visit]:
    """Let so many learners start at once."""
    start = Barrier(clients)
    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(visit, [start] * clients))


def print_visits(visits: list[Visit]) -> None:
    """Median and worst seconds, and the errors."""
    for name, label in {
        "first_answer_s": "first answer",
        "first_text_s": "stream, first text",
        "total_s": "all four answers",
    }.items():
        times = [getattr(each, name) for each in visits if getattr(each, name) is not None]
        if times:
            print(f"{label:<20} median {statistics.median(times):6.1f} s, worst {max(times):.1f} s")
    errors = [each.error for each in visits if each.error]
    print(f"errors: {len(errors)} of {len(visits)} learners")
    for error in dict.fromkeys(errors):
        print("   ", error)


def main(arguments: list[str] | None = None) -> int:
    """Run the classroom; 1 if a learner met an error."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=30)
    parser.add_argument("--one-by-one", action="store_true", help="a server without batching")
    options = parser.parse_args(arguments)
    with room_server(not options.one_by_one) as server:
        before = server.memory_info().rss
        visits = classroom(options.clients)
        print_visits(visits)
        print(f"server: {before / 1e6:.0f} -> {server.memory_info().rss / 1e6:.0f} MB")
    return int(any(each.error for each in visits))


if __name__ == "__main__":
    sys.exit(main())
