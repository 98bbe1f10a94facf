"""Tokens per second of the pocket server in both modes, compared with plain `transformers serve`.

All four servers run the same weights on this machine, one after the other, in one run.
`transformers serve` gets the text part only: with a vision tower it requires torchvision. Answers
are not streamed: with a Mistral tokenizer its continuous batching fails on streams (5.23).

    python benchmarks/pocket_throughput.py

It prints a table and writes `runs/pocket_throughput.json`. Compare the ratios: absolute figures
differ from machine to machine.
"""

import json
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import openai
import pandas as pd
import torch
from transformers import Mistral3ForConditionalGeneration

from helpers import connect, machine
from pocket_model.build import ensure_built
from pocket_model.server.batch_engine import as_causal_lm

TOKENS = 64
CONCURRENCY = 16
TOPICS = "dogs cats rivers trains bread clouds tea maps whales lamps wool snow bees oaks salt clay"


def ask(client: openai.OpenAI, model: str, topic: str) -> int:
    """Request one answer; returns the number of its tokens, as the server counts them."""
    reply = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": f"Tell me a long story about {topic}."}],
        max_tokens=TOKENS,
        temperature=0,
    )
    return reply.usage.completion_tokens


def measure(client: openai.OpenAI, model: str) -> dict[str, float]:
    """Tokens/s of one request at a time (best of 3), and in total of 16 at once."""
    ask(client, model, "warming up")
    alone = 0.0
    for topic in TOPICS.split()[:3]:
        start = time.perf_counter()
        tokens = ask(client, model, topic)
        alone = max(alone, tokens / (time.perf_counter() - start))
    start = time.perf_counter()
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        tokens = sum(pool.map(lambda topic: ask(client, model, topic), TOPICS.split()))
    return {"alone": alone, "16 parallel": tokens / (time.perf_counter() - start)}


def measure_pocket(batching: bool) -> dict[str, float]:
    """The kit's own server."""
    lab = connect("pocket", batching=batching)
    try:
        return measure(lab.client.with_options(timeout=900), lab.model)
    finally:
        lab.close()


def save_text_part(folder: Path) -> None:
    """Save the pocket model's text part, with its tokenizer, as a separate model."""
    built = ensure_built()
    model = Mistral3ForConditionalGeneration.from_pretrained(built, dtype=torch.bfloat16)
    as_causal_lm(model).save_pretrained(folder)
    shutil.copy(built / "tekken.json", folder)


def measure_transformers(batching: bool, folder: Path) -> dict[str, float]:
    """`transformers serve` on a folder, in the precision the model is saved in."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    command += ["--dtype", "bfloat16"] + (["--continuous-batching"] if batching else [])
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x", timeout=900)
    try:
        for _ in range(120):
            try:
                httpx2.get(f"http://127.0.0.1:{port}/health")
                break
            except httpx2.ConnectError:
                if process.poll() is not None:
                    sys.exit(f"`{' '.join(command)}` has ended; run it yourself to see why")
                time.sleep(1)
        return measure(client, str(folder))
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Measure all four, print the table, write the file."""
    rows = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        save_text_part(folder)
        for batching in (False, True):
            mode = "continuous batching" if batching else "one at a time"
            print(f"pocket server, {mode} …", flush=True)
            rows[f"pocket server, {mode}"] = measure_pocket(batching)
            time.sleep(8)  # until the pocket server has ended: two servers would share the cores
            print(f"transformers serve, {mode} …", flush=True)
            rows[f"transformers serve, {mode}"] = measure_transformers(batching, folder)
    table = pd.DataFrame(rows).T.round(1)
    print(table.to_string())
    out = Path("runs") / "pocket_throughput.json"
    out.parent.mkdir(exist_ok=True)
    facts = {"date": date.today().isoformat(), "hardware": machine.hardware()}
    facts |= {"command": "python benchmarks/pocket_throughput.py", "unit": "tokens/s"}
    out.write_text(json.dumps(facts | {"rows": rows}, indent=2) + "\n")
    print(f"\n{out}")


if __name__ == "__main__":
    main()
