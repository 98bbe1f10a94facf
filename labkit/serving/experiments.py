"""Experiments with running servers: their figures, two in turn, batches, a killed replica."""

import json
import os
import random
import re
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import openai
import pandas as pd

from helpers import latency
from helpers.latency_stats import output_tokens_per_s
from labkit.serving.deployment import Deployment

TOPICS = ("dogs", "cats", "rivers", "trains", "bread", "clouds", "tea", "maps", "whales", "lamps")
SAMPLE = re.compile(r"^([\w:]+)(?:\{[^}]*\})? ([-+.\deE]+|NaN)$", re.MULTILINE)
# vLLM 0.32 waits for work in a busy loop of a second (shm_broadcast.py), which takes a core.
REST_S = 1.5
WATCHED = {
    "running": "vllm:num_requests_running",
    "waiting": "vllm:num_requests_waiting",
    "KV cache in use": "vllm:kv_cache_usage_perc",
}


def prompts(number: int, mark: str = "") -> list[str]:
    """So many prompts, all different, so that no prefix cache answers for another."""
    return [f"{mark}{n}: tell me a story about {TOPICS[n % len(TOPICS)]}." for n in range(number)]


def client(base_url: str) -> openai.OpenAI:
    """A client for a server on this machine, without retries: a failure is to be seen."""
    http_client = openai.DefaultHttpxClient(trust_env=False, timeout=300)
    key = os.environ.get("VLLM_API_KEY", "none")
    return openai.OpenAI(base_url=base_url, api_key=key, http_client=http_client, max_retries=0)


def metrics(url: str) -> dict[str, float]:
    """The figures of a server's `/metrics`."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url.removesuffix('/v1')}/metrics", timeout=10) as reply:
        return read_metrics(reply.read().decode())


def read_metrics(text: str) -> dict[str, float]:
    """Figures in the text format of Prometheus; those of one name are added up."""
    totals: dict[str, float] = {}
    for name, value in SAMPLE.findall(text):
        totals[name] = totals.get(name, 0.0) + float(value)
    return totals


@contextmanager
def sampled(url: str, every_s: float = 0.25) -> Iterator[list[dict]]:
    """A list that gets a row of `WATCHED` again and again, with the seconds since the start."""
    rows: list[dict] = []
    stop = threading.Event()
    start = time.monotonic()

    def sample() -> None:
        while not stop.wait(every_s):
            try:
                now = metrics(url)
            except OSError:  # a busy server answers late: this sample is left out
                continue
            row = {words: now.get(name, 0.0) for words, name in WATCHED.items()}
            rows.append({"seconds": round(time.monotonic() - start, 2)} | row)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield rows
    finally:
        stop.set()
        thread.join()


def in_turn(
    servers: dict[str, tuple[openai.OpenAI, str]],
    levels: Sequence[int],
    rounds: int,
    tokens: int,
) -> pd.DataFrame:
    """Tokens/s of several servers at several numbers of users, in random order within each round.

    A pause comes before each case. On two cores, the server after vLLM would else have about half
    of its speed.

    Args:
        servers: a client and a model for each name.
        levels: users at once.
        rounds: how often each is measured.
        tokens: of each answer, at most.

    Returns:
        columns round, users, server, tokens_per_s, ttft_s and tpot_s (medians), failed.
    """
    rows = []
    for number in range(rounds):
        cases = [(users, name) for users in levels for name in servers]
        for users, name in random.Random(number).sample(cases, len(cases)):
            time.sleep(REST_S)
            asked = prompts(max(users, 4), f"{number}/{users}/")
            options = {"max_tokens": tokens, "temperature": 0}
            records = latency.run_load(*servers[name], asked, users, **options)
            good = [record for record in records if record.error is None]
            row = {"round": number, "users": users, "server": name}
            row["tokens_per_s"] = output_tokens_per_s(records)
            row["ttft_s"] = pd.Series([r.ttft_s for r in good], dtype=float).median()
            row["tpot_s"] = pd.Series([r.tpot_s for r in good], dtype=float).median()
            rows.append(row | {"failed": len(records) - len(good)})
    return pd.DataFrame(rows)


def paired(rows: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Two servers of `in_turn` compared round by round.

    Returns:
        index users; the medians of both in tokens/s, the median of the rounds' ratios (second /
        first), the least and the greatest. Of six rounds, the true median lies between these two
        with a probability of 97 %: it does not only if all six are on one side, 2 / 2⁶.
    """
    table = rows.pivot_table(index=["users", "round"], columns="server", values="tokens_per_s")
    ratio = (table[second] / table[first]).groupby("users")
    result = table.groupby("users").median()[[first, second]]
    return result.assign(ratio=ratio.median(), least=ratio.min(), greatest=ratio.max())


def write_batch(path: Path, model: str, questions: Sequence[str], **settings: object) -> None:
    """Write questions as a file in OpenAI's batch format, which `vllm run-batch` reads."""
    with path.open("w", encoding="utf-8") as file:
        for number, question in enumerate(questions):
            messages = [{"role": "user", "content": question}]
            body = {"model": model, "messages": messages} | settings
            line = {"custom_id": f"{number}", "method": "POST", "url": "/v1/chat/completions"}
            file.write(json.dumps(line | {"body": body}) + "\n")


def read_batch(path: Path) -> dict[str, str]:
    """The answers in a file that `vllm run-batch` wrote, by `custom_id`.

    Raises:
        ValueError: a line has an error instead of an answer.
    """
    answers = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        reply = json.loads(line)
        if reply.get("error") or reply["response"]["status_code"] != 200:
            raise ValueError(f"{reply['custom_id']}: {reply.get('error') or reply['response']}")
        message = reply["response"]["body"]["choices"][0]["message"]
        answers[reply["custom_id"]] = message["content"]
    return answers


def with_a_killed_replica(
    running: Deployment, requests: int, rate: float, tokens: int, kill_after: float = 0.4
) -> dict:
    """An open loop through the router, in which the first server is killed without warning.

    The server is started again meanwhile, as `python -m helpers serve` does.

    Args:
        rate: requests per second.
        kill_after: when, as a part of the time that the sending takes.

    Returns:
        what clients saw: `sent`, `answered`, `failed`, of these `unaccounted` (neither an answer
        nor an error came within the time limit of a request), `errors` by message, and
        `retried` by the router; `down_s` until the killed server answered again; `served` by each
        server after that, of as many requests again.
    """
    victim = running.servers[0]
    router = f"http://127.0.0.1:{running.plan.metrics_port}"
    before = metrics(router)
    ask = {"max_tokens": tokens, "temperature": 0, "rate": rate}
    server = client(running.base_url), running.name
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(latency.run_load, *server, prompts(requests, "kill "), **ask)
        time.sleep(kill_after * requests / rate)
        os.killpg(victim.pid, signal.SIGKILL)
        killed = time.monotonic()
        while not victim.has_ended():
            time.sleep(0.05)
        running.watch()
        victim.wait_until_healthy(lambda line: None)
        facts: dict = {"down_s": round(time.monotonic() - killed, 1)}
        records = load.result()
    failed = [record.error for record in records if record.error is not None]
    after = metrics(router)
    facts |= {
        "sent": sum(record.sent == record.sent for record in records),
        "answered": sum(record.error is None for record in records),
        "failed": len(failed),
        "unaccounted": sum(map(_is_unknown, failed)),
        "errors": pd.Series(failed, dtype=object).value_counts().to_dict(),
        "retried": _growth(before, after, "retries_total"),
    }
    time.sleep(6)  # the router asks for the health of its servers every two seconds
    counts = [
        metrics(worker.url).get("vllm:request_success_total") for worker in running.plan.workers
    ]
    again = latency.run_load(*server, prompts(requests, "again "), **ask)
    now = [metrics(worker.url).get("vllm:request_success_total") for worker in running.plan.workers]
    facts["afterwards_failed"] = sum(record.error is not None for record in again)
    if None not in now:
        facts["served"] = [round(b - (a or 0)) for a, b in zip(counts, now, strict=True)]
    return facts


def _is_unknown(error: str) -> bool:
    """Whether a client waited in vain: neither an answer nor an error came."""
    return error.startswith((latency.NOT_FINISHED, latency.TOO_LONG, "APITimeoutError"))


def _growth(before: dict[str, float], after: dict[str, float], ending: str) -> int:
    names = [name for name in after if name.endswith(ending)]
    return round(sum(after[name] - before.get(name, 0.0) for name in names))
