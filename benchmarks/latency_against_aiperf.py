"""The same streams, timed by the kit and by NVIDIA's AIPerf: do the medians agree?

    python -m venv aiperf-env && aiperf-env/bin/pip install aiperf==0.13.0
    python benchmarks/latency_against_aiperf.py --env aiperf-env

AIPerf wants an environment of its own (it needs older packages). Both ask the same scripted server,
which sends each token at its deadline, with the same number of requests at once and in all, the kit
before and after AIPerf. Both count output tokens as the server does, end token included. Compared
are the medians of TTFT, and of the kit's TPOT with what AIPerf calls inter-token latency. Writes
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
from helpers.latency_stats import summarise

SERVER = Path(__file__).with_name("scripted_server.py")
SCRIPT = "steady-200-50-20"  # 50 tokens, the first after 200 ms, then one every 20 ms
AT_ONCE, REQUESTS = 4, 40
TRUE_MS = {"TTFT": 200.0, "TPOT": 20.0}


def ours(url: str) -> list[Record]:
    with openai.OpenAI(
        base_url=url, api_key="none", http_client=openai.DefaultHttpxClient(trust_env=False)
    ) as client:
        run_load(client, SCRIPT, ["warm up"] * AT_ONCE, concurrency=AT_ONCE)
        return run_load(client, SCRIPT, [f"{n}" for n in range(REQUESTS)], concurrency=AT_ONCE)


def bytes_tokenizer(folder: str) -> None:
    """Save a tokenizer of single bytes, which AIPerf wants for making prompts; no network is asked.

    The script answers any prompt alike, and tokens are counted by the server.
    """
    made = ByteLevelBPETokenizer()
    made.train_from_iterator(["any text"], vocab_size=260, special_tokens=["<s>", "</s>"])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made._tokenizer, bos_token="<s>", eos_token="</s>"
    )
    fast.save_pretrained(folder)


def theirs(url: str, env: Path, folder: str) -> dict[str, float]:
    """AIPerf's medians in ms."""
    command = [
        *(str(env / "bin" / "aiperf"), "profile", "--model", SCRIPT, "--url", url[: -len("/v1")]),
        *("--endpoint-type", "chat", "--streaming", "--concurrency", str(AT_ONCE)),
        *("--request-count", str(REQUESTS), "--warmup-request-count", str(AT_ONCE)),
        *("--tokenizer", f"{folder}/tokenizer", "--use-server-token-count", "--ui", "none"),
        *("--artifact-dir", folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    file = Path(folder) / "profile_export_aiperf.json"
    if not file.is_file():
        sys.exit(f"AIPerf left no figures:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    found = json.loads(file.read_text())
    return {
        "TTFT": found["time_to_first_token"]["p50"],
        "TPOT": found["inter_token_latency"]["p50"],
    }


def medians(records: list[Record]) -> dict[str, float]:
    table = 1000 * summarise(records)["p50"]
    return {"TTFT": table["TTFT (s)"], "TPOT": table["TPOT (s)"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--env", type=Path, required=True, help="environment with aiperf")
    env = parser.parse_args().env.resolve()
    server = subprocess.Popen([sys.executable, str(SERVER)], stdout=subprocess.PIPE, text=True)
    try:
        url = server.stdout.readline().strip()
        before = ours(url)
        with tempfile.TemporaryDirectory() as folder:
            bytes_tokenizer(f"{folder}/tokenizer")
            aiperf = theirs(url, env, folder)
        records = before + ours(url)
    finally:
        server.kill()
    kit = medians(records)
    rows = {
        name: {"script": TRUE_MS[name], "kit": kit[name], "AIPerf": aiperf[name]} for name in kit
    }
    table = pd.DataFrame(rows).T
    table["kit / AIPerf"] = table["kit"] / table["AIPerf"]
    print(f"medians in ms, {REQUESTS} requests, {AT_ONCE} at once\n{table.round(3).to_string()}")
    path = Path("runs/latency_against_aiperf.json")
    path.parent.mkdir(exist_ok=True)
    body = {"date": f"{date.today()}", "script": SCRIPT, "medians_ms": table.to_dict("index")}
    path.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
