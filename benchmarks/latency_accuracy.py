"""How exact the kit's timer is: `helpers.latency` against streams whose times are known.

    python benchmarks/latency_accuracy.py

A scripted server in its own process sends each token at its deadline. First it sends one stream at
a time: the error of TTFT, TPOT and end to end is in milliseconds. Then it sends 1 to 128 streams of
50 tokens/s at once: the errors are relative, and the client's own use of the CPU is beside them.
The script prints both tables and writes `runs/latency_accuracy.json`. A busy machine makes all
figures worse.
"""

import json
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
import openai
import pandas as pd

from helpers import machine
from helpers.latency import run_load, stream_once

SERVER = Path(__file__).with_name("scripted_server.py")
TTFT_MS, TOKENS, GAP_MS = 200, 200, 20
LEVELS = (1, 8, 32, 64, 128)
SINGLE_STREAMS = 30


def time_single_streams(client: openai.OpenAI) -> pd.DataFrame:
    """Errors in ms over single streams of the script "golden"."""
    records = [stream_once(client, "golden", "hello") for _ in range(SINGLE_STREAMS)]
    errors = {
        "TTFT": [1000 * r.ttft_s - 300 for r in records],
        "TPOT": [1000 * r.tpot_s - 40 / 3 for r in records],
        "end to end": [1000 * r.e2e_s - 350 for r in records],
    }
    return pd.DataFrame(errors).abs().agg(["median", "max"]).T


def time_streams(client: openai.OpenAI, level: int) -> dict:
    """Relative errors of `level` streams at once, and the CPU cores that the client used."""
    name = f"steady-{TTFT_MS}-{TOKENS}-{GAP_MS}"
    cpu_start, start = time.process_time(), time.perf_counter()
    records = run_load(client, name, [f"{n}" for n in range(level)], concurrency=level)
    cpu_s, seconds = time.process_time() - cpu_start, time.perf_counter() - start
    ttft = np.array([r.ttft_s for r in records]) / (TTFT_MS / 1000) - 1
    tpot = np.array([r.tpot_s for r in records]) / (GAP_MS / 1000) - 1
    return {
        "streams": level,
        "failed": sum(r.error is not None for r in records),
        "TTFT error, median": np.median(abs(ttft)),
        "TTFT error, maximum": abs(ttft).max(),
        "TPOT error, median": np.median(abs(tpot)),
        "TPOT error, maximum": abs(tpot).max(),
        "client CPU": cpu_s / seconds,
    }


def main() -> None:
    """Measure, print both tables, write the file."""
    server = subprocess.Popen([sys.executable, str(SERVER)], stdout=subprocess.PIPE, text=True)
    try:
        url = server.stdout.readline().strip()
        with openai.OpenAI(
            base_url=url,
            api_key="none",
            http_client=openai.DefaultHttpxClient(trust_env=False),
        ) as client:
            run_load(client, "no usage", ["warm up"] * max(LEVELS), concurrency=max(LEVELS))
            single = time_single_streams(client)
            rows = [time_streams(client, level) for level in LEVELS]
            parallel = pd.DataFrame(rows).set_index("streams")
    finally:
        server.kill()
    print(f"errors in ms of {SINGLE_STREAMS} single streams\n{single.round(2).to_string()}\n")
    print(f"{TOKENS} tokens in each stream, one every {GAP_MS} ms\n{parallel.round(4).to_string()}")
    result = {
        "command": "python benchmarks/latency_accuracy.py",
        "date": f"{date.today()}",
        "hardware": machine.hardware(),
        "single_stream_errors_ms": single.round(3).to_dict("index"),
        "streams": parallel.round(4).reset_index().to_dict("records"),
    }
    path = Path("runs/latency_accuracy.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
