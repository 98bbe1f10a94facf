"""How fast the embedded model decodes beside busy processes, by how torch's threads wait.

A product is divided among threads, and each waits for the others. `processor` explains how, and
`server.threads` how many there are.
"""

import os
import random
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack

import pandas as pd

from helpers.paths import ROOT
from pocket_model.progress import Progress

# Settings of the environment. To name any of them keeps the kit from choosing. libgomp ignores
# KMP_BLOCKTIME, and 200 ms is the default of the other runtimes.
DEFAULT, SHORT = "the runtime's default", "the kit's short wait"
KIT = "the same, and fewer threads"  # as the kit's server does; the others keep all threads
SETTINGS = {DEFAULT: {"KMP_BLOCKTIME": "200"}, SHORT: {}, KIT: {}}
# For each line, a number of tokens, it prints tokens/s. It stops early after LIMIT_S.
LIMIT_S = 2
DECODER = """
import contextlib, sys, time
from pocket_model.build import ensure_built
from pocket_model.server.decoder import Decoder
from pocket_model.server.threads import Threads
import torch
counted = Threads().counted if sys.argv[1:] else contextlib.nullcontext
with torch.inference_mode():
    decoder = Decoder(ensure_built(), "int8")
    for line in sys.stdin:
        cache = decoder.key_values(64 + int(line))
        decoder.run(decoder.embed(list(range(1000, 1060))), [(cache, 60)])
        start, done, seconds = time.perf_counter(), 0, 0.0
        while done < int(line) and seconds < LIMIT_S:
            with counted():
                decoder.logits(decoder.run(decoder.embed([1000]), [(cache, 1)])).argmax()
            done, seconds = done + 1, time.perf_counter() - start
        print(done / seconds, flush=True)
""".replace("LIMIT_S", str(LIMIT_S))
BUSY = "while True: sum(range(100_000))"


def environment(settings: dict[str, str]) -> dict[str, str]:
    """This process's environment, with these settings in place of its own for threads."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("GOMP_", "KMP_", "OMP_"))}
    return own | settings


class Child:
    """A process that decodes when asked."""

    def __init__(self, name: str, settings: dict[str, str], preload: str | None):
        variables = environment(settings)
        if preload:
            variables["LD_PRELOAD"] = preload
        self.process = subprocess.Popen(
            [sys.executable, "-c", DECODER, *["fewer threads"] * (name == KIT)],
            env=variables,
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def tokens_per_s(self, tokens: int) -> float:
        self.process.stdin.write(f"{tokens}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"A decoding process has ended with {self.process.wait()}.")
        return float(line)

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.wait()


def measure(
    settings: dict[str, dict[str, str]], tokens: int, rounds: int, preload: str | None = None
) -> pd.DataFrame:
    """Tokens/s: a row for each setting, a column for each number of busy processes."""
    found: dict[tuple[str, int], list[float]] = {}
    with ExitStack() as stack:
        children = {
            name: stack.enter_context(Child(name, own, preload)) for name, own in settings.items()
        }
        for child in children.values():  # loads the model, and is not counted
            child.tokens_per_s(2)
        progress = stack.enter_context(Progress("Timing threads", quiet_s=2, lines=False))
        for number in range(rounds):
            for busy in (0, 1, 2):
                step = 3 * number + busy
                progress.update(f"busy processes: {busy}", step / (3 * rounds))
                others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
                time.sleep(0.3)
                for name in random.sample(list(children), len(children)):
                    rate = children[name].tokens_per_s(tokens)
                    found.setdefault((name, busy), []).append(rate)
                for other in others:
                    other.kill()
                    other.wait()
    medians = {key: statistics.median(rates) for key, rates in found.items()}
    table = pd.Series(medians).unstack().reindex(settings)
    return table.rename(columns={0: "alone", 1: "beside one", 2: "beside two"})
