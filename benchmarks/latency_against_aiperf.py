"""The same streams, timed by the kit and by NVIDIA's AIPerf: do the medians agree?

    python -m venv aiperf-env && aiperf-env/bin/pip install aiperf==0.13.0
    python benchmarks/latency_against_aiperf.py --env aiperf-env

AIPerf needs its own environment, with older packages. Both send the same number of requests, with
the same concurrency, to a scripted server that sends each token at its deadline. The kit measures
before and after AIPerf. Both count output tokens as the server does, end token included. The script
compares the medians of TTFT, and the kit's TPOT with AIPerf's inter-token latency. It writes
`runs/latency_against_aiperf.json`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import openai
import pandas as pd
from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerFast

from helpers.latency import Record, run_load
from helpers.latency_stats import summarize

SERVER = Path(__file__).with_name("scripted_server.py")
SCRIPT = "steady-200-50-20"  # 50 tokens, the first after 200 ms, then one every 20 ms
CONCURRENCY, REQUESTS = 4, 40
TRUE_MS = {"TTFT": 200.0, "TPOT": 20.0}


def time_with_kit(url: str) -> list[Record]:
    """The records of one load, after a warm-up."""
    with openai.OpenAI(
        base_url=url, api_key="none", http_client=openai.DefaultHttpxClient(trust_env=False)
    ) as client:
        run_load(client, SCRIPT, ["warm up"] * CONCURRENCY, CONCURRENCY)
        return run_load(client, SCRIPT, [f"{n}" for n in range(REQUESTS)], CONCURRENCY)


def save_byte_tokenizer(folder: str) -> None:
    """Save a tokenizer of single bytes, with which AIPerf makes prompts without a network.

    The script gives the same answer to any prompt, and the server counts the tokens.
    """
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(["any text"], vocab_size=260, special_tokens=["<s>", "</s>"])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer, bos_token="<s>", eos_token="</s>"
    )
    fast.save_pretrained(folder)


def time_with_aiperf(url: str, env: Path, folder: str) -> dict[str, float]:
    """AIPerf's medians in ms."""
    command = [
        *(str(env / "bin" / "aiperf"), "profile", "--model", SCRIPT, "--url", url[: -len("/v1")]),
        *("--endpoint-type", "chat", "--streaming", "--concurrency", str(CONCURRENCY)),
        *("--request-count", str(REQUESTS), "--warmup-request-count", str(CONCURRENCY)),
        *("--tokenizer", f"{folder}/tokenizer", "--use-server-token-count", "--ui", "none"),
        *("--artifact-dir", folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    file = Path(folder) / "profile_export_aiperf.json"
    if not file.is_file():
        sys.exit(f"AIPerf wrote no figures:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    figures = json.loads(file.read_text())
    return {
        "TTFT": figures["time_to_first_token"]["p50"],
        "TPOT": figures["inter_token_latency"]["p50"],
    }


def medians_ms(records: list[Record]) -> dict[str, float]:
    """The kit's medians in ms."""
    table = 1000 * summarize(records)["p50"]
    return {"TTFT": table["TTFT (s)"], "TPOT": table["TPOT (s)"]}


def main() -> None:
    """Measure with both, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--env", type=Path, required=True, help="environment with aiperf")
    env = parser.parse_args().env.resolve()
    server = subprocess.Popen([sys.executable, str(SERVER)], stdout=subprocess.PIPE, text=True)
    try:
        url = server.stdout.readline().strip()
        before = time_with_kit(url)
        with tempfile.TemporaryDirectory() as folder:
            save_byte_tokenizer(f"{folder}/tokenizer")
            aiperf = time_with_aiperf(url, env, folder)
        records = before + time_with_kit(url)
    finally:
        server.kill()
    kit = medians_ms(records)
    rows = {
        name: {"script": TRUE_MS[name], "kit": kit[name], "AIPerf": aiperf[name]} for name in kit
    }
    table = pd.DataFrame(rows).T
    table["kit / AIPerf"] = table["kit"] / table["AIPerf"]
    print(f"medians in ms, {REQUESTS} requests, concurrency {CONCURRENCY}")
    print(table.round(3).to_string())
    path = Path("runs/latency_against_aiperf.json")
    path.parent.mkdir(exist_ok=True)
    body = {"date": f"{date.today()}", "script": SCRIPT, "medians_ms": table.to_dict("index")}
    path.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
