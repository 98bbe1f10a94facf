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
from functools import partial
from threading import Barrier

import openai
import psutil

from helpers import BackendError, connect
from pocket_model.sharing import KEY_VARIABLE, new_key

QUESTION = [{"role": "user", "content": "How many days are in a week?"}]
OPEN_QUESTION = [{"role": "user", "content": "Write a sentence about the sea."}]


@contextmanager
def room_server(batching: bool) -> Iterator[psutil.Process]:
    """A server for other machines too; the environment has what `connect("custom")` reads."""
    key = new_key()
    command = [sys.executable, "-m", "pocket_model", "serve", "--host", "0.0.0.0"]
    command += ["--batching", "--quantization", "bf16"] if batching else []
    environment = os.environ | {KEY_VARIABLE: key}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        for line in server.stdout:
            print(line, end="")
            if line.split()[:1] == ["CUSTOM_BASE_URL"]:
                break
        else:
            raise SystemExit("The server ended while starting; its reason is above.")
        url = line.split()[1]
        os.environ.update(CUSTOM_BASE_URL=url, CUSTOM_API_KEY=key, CUSTOM_MODEL="pocket-small")
        yield psutil.Process(server.pid)
    finally:
        server.terminate()
        server.wait()


def visit(start: Barrier) -> dict[str, float | str]:
    """One learner's seconds, and perhaps an `error`."""
    seen = {}
    start.wait()
    begun = time.perf_counter()
    try:
        lab = connect("custom")
        ask = partial(lab.client.chat.completions.create, model=lab.model, max_tokens=32)
        ask(messages=QUESTION, temperature=0.15)
        seen["first answer"] = time.perf_counter() - begun
        asked = time.perf_counter()
        for chunk in ask(messages=QUESTION, temperature=0.15, stream=True):
            if chunk.choices and chunk.choices[0].delta.content:
                seen.setdefault("stream, first text", time.perf_counter() - asked)
        for temperature in (0, 1.2):
            ask(messages=OPEN_QUESTION, temperature=temperature, max_tokens=16)
        seen["all four answers"] = time.perf_counter() - begun
    except (BackendError, openai.APIError) as error:
        seen["error"] = f"{type(error).__name__}: {error}"
    return seen


def classroom(clients: int) -> list[dict[str, float | str]]:
    """Let so many learners start at once."""
    start = Barrier(clients)
    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(visit, [start] * clients))


def print_visits(visits: list[dict[str, float | str]]) -> None:
    """Median and worst seconds, and the errors."""
    for name in ("first answer", "stream, first text", "all four answers"):
        times = [each[name] for each in visits if name in each]
        if times:
            print(f"{name:<20} median {statistics.median(times):6.1f} s, worst {max(times):.1f} s")
    errors = [each["error"] for each in visits if "error" in each]
    print(f"errors: {len(errors)} of {len(visits)} learners")
    print(*dict.fromkeys(errors), sep="\n")


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
    return int(any("error" in each for each in visits))


if __name__ == "__main__":
    sys.exit(main())
