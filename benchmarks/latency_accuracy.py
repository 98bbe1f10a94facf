"""How exact the kit's stopwatch is: `helpers.latency` against streams whose times are known.

    python benchmarks/latency_accuracy.py

A scripted server in a process of its own sends each token at its deadline. One stream at a time:
the error of TTFT and TPOT in milliseconds. Then 1 to 128 streams of 50 tokens a second at once: the
relative errors, and how much of a processor the client itself used. Prints both tables and writes
`runs/latency_accuracy.json`. A busy machine makes all of it worse.
"""

import json
import platform
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
import openai
import pandas as pd

from helpers.latency import run_load, stream_once

SERVER = Path(__file__).with_name("scripted_server.py")
TTFT_MS, TOKENS, GAP_MS = 200, 200, 20
LEVELS = (1, 8, 32, 64, 128)
ALONE = 30


def golden(client: openai.OpenAI) -> pd.DataFrame:
    """Errors in ms over single streams of the golden script."""
    records = [stream_once(client, "golden", "hello") for _ in range(ALONE)]
    off = {
        "TTFT": [1000 * r.ttft_s - 300 for r in records],
        "TPOT": [1000 * r.tpot_s - 40 / 3 for r in records],
        "end to end": [1000 * r.e2e_s - 350 for r in records],
    }
    return pd.DataFrame(off).abs().agg(["median", "max"]).T


def crowd(client: openai.OpenAI, level: int) -> dict:
    """Relative errors of ``level`` streams at once, and the client's own processor time."""
    name = f"steady-{TTFT_MS}-{TOKENS}-{GAP_MS}"
    used, begun = time.process_time(), time.perf_counter()
    records = run_load(client, name, [f"{n}" for n in range(level)], concurrency=level)
    used, took = time.process_time() - used, time.perf_counter() - begun
    ttft = np.array([r.ttft_s for r in records]) / (TTFT_MS / 1000) - 1
    tpot = np.array([r.tpot_s for r in records]) / (GAP_MS / 1000) - 1
    return {
        "streams": level,
        "failed": sum(r.error is not None for r in records),
        "TTFT off, median": np.median(abs(ttft)),
        "TTFT off, worst": abs(ttft).max(),
        "TPOT off, median": np.median(abs(tpot)),
        "TPOT off, worst": abs(tpot).max(),
        "client CPU": used / took,
    }


def main() -> None:
    server = subprocess.Popen([sys.executable, str(SERVER)], stdout=subprocess.PIPE, text=True)
    try:
        url = server.stdout.readline().strip()
        with openai.OpenAI(
            base_url=url,
            api_key="none",
            http_client=openai.DefaultHttpxClient(trust_env=False),
        ) as client:
            run_load(client, "no usage", ["warm up"] * max(LEVELS), concurrency=max(LEVELS))
            alone = golden(client)
            many = pd.DataFrame([crowd(client, level) for level in LEVELS]).set_index("streams")
    finally:
        server.kill()
    print(f"one stream at a time, {ALONE} times; ms off\n{alone.round(2).to_string()}\n")
    print(f"{TOKENS} tokens, one every {GAP_MS} ms, to each stream\n{many.round(4).to_string()}")
    result = {
        "command": "python benchmarks/latency_accuracy.py",
        "date": f"{date.today()}",
        "processor": platform.processor() or platform.machine(),
        "one_stream_ms_off": alone.round(3).to_dict("index"),
        "streams": many.round(4).reset_index().to_dict("records"),
    }
    path = Path("runs/latency_accuracy.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
