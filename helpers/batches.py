"""Many prompts at once: bounded, shown, and on disk as they come.

Every finished answer is appended to a JSONL file before the next thing happens. A batch that was
interrupted, even killed, goes on from there; what a budget stopped goes on when there is more. What
is on file is never paid twice. What was under way when a process was killed, or a connection broke,
may be: the answer that nobody received can still be billed.
"""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from helpers import openrouter, prices

COLUMNS = ["prompt", "status", "text", "finish_reason", "usd", "seconds", "error"]
DONE, FAILED, NOT_SENT = "done", "failed", "not sent"


def run_batch(
    lab,
    prompts: Sequence[str],
    path: Path | str,
    *,
    concurrency: int = 4,
    max_usd: float | None = None,
    attempts: int = 4,
    total_s: float = 120.0,
    **request,
) -> pd.DataFrame:
    """Ask every prompt; return a table with one row a prompt, in their order.

    Args:
        lab: from `connect`.
        prompts: user messages, each a conversation of its own. Equal ones are asked once each.
        path: the JSONL file that keeps the answers. Prompts answered in it, by the same model with
            the same settings, are not sent again; failed ones are.
        concurrency: most requests under way at a time.
        max_usd: send nothing more once what is spent in this call, with what is under way at its
            most expensive, could pass this. An attempt without an answer counts as its most
            expensive, since it may be billed all the same.
        attempts, total_s: patience with each request; see `openrouter.complete`.
        request: settings such as ``temperature`` and ``max_tokens``.

    Returns:
        columns `COLUMNS`; ``status`` is "done", "failed" or "not sent", ``usd`` the server's own
        cost where it names one, else by price, else nan.

    Raises:
        prices.BudgetError: ``max_usd`` for a model without a known price.
        KeyboardInterrupt: after the requests under way were waited for and kept.

    A refused key or an empty account (401, 402) ends the batch: the rest would be refused as well.
    """
    path = Path(path)
    keys = _keys(lab.model, prompts, request)
    kept = read(path)
    capped = max_usd is not None
    worst = [_worst(lab.model, prompt, request) if capped else 0.0 for prompt in prompts]
    waiting = [n for n, key in enumerate(keys) if kept.get(key, {}).get("status") != DONE]
    spent, ended = 0.0, ""
    under_way: dict[Future, int] = {}

    def ask(prompt: str) -> dict:
        begun = time.monotonic()
        messages = [{"role": "user", "content": prompt}]
        lost = 0

        def count(advice: openrouter.Advice, pause: float) -> None:
            nonlocal lost
            lost += advice.code is None

        try:
            reply = openrouter.complete(
                lab.client,
                attempts=attempts,
                total_s=total_s,
                waiting=count,
                model=lab.model,
                messages=messages,
                **request,
            )
            reason = reply.choices[0].finish_reason
            said = {
                "status": FAILED if reason == "error" else DONE,
                "text": openrouter.message(reply).content,
                "finish_reason": reason,
                "usd": _usd(reply.usage, lab.model),
            }
        except Exception as error:  # one odd reply must not cost the others
            advice = openrouter.explain(error)
            lost += advice.code is None
            said = {"status": FAILED, "code": advice.code, "error": str(advice)}
        seconds = round(time.monotonic() - begun, 3)
        return {"prompt": prompt, "lost": lost, **said, "seconds": seconds}

    path.parent.mkdir(parents=True, exist_ok=True)
    bar = tqdm(total=len(prompts), initial=len(prompts) - len(waiting), desc="batch", unit="prompt")
    with path.open("a", encoding="utf-8") as file, ThreadPoolExecutor(concurrency) as pool, bar:
        _mend(path, file)

        def keep(finished) -> None:
            nonlocal spent, ended
            for future in finished:
                number, answer = under_way[future], future.result()
                file.write(json.dumps({"key": keys[number], **answer}) + "\n")
                file.flush()
                os.fsync(file.fileno())
                del under_way[future]
                kept[keys[number]] = answer
                spent += (answer.get("usd") or 0.0) + answer["lost"] * worst[number]
                if answer.get("code") in (401, 402):
                    ended = answer["error"]
                bar.update(1)

        try:
            while waiting or under_way:
                while waiting and not ended and len(under_way) < concurrency:
                    booked = sum(worst[n] for n in under_way.values())
                    if capped and spent + booked + worst[waiting[0]] > max_usd:
                        break
                    number = waiting.pop(0)
                    under_way[pool.submit(ask, prompts[number])] = number
                if not under_way:
                    break  # the budget or the account allows no more
                keep(wait(under_way, return_when=FIRST_COMPLETED).done)
        except BaseException:  # Ctrl-C above all
            keep(wait(under_way).done)
            raise
    rows = [
        kept.get(key) or {"prompt": prompt, "status": NOT_SENT, "error": ended or None}
        for key, prompt in zip(keys, prompts, strict=True)
    ]
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def read(path: Path | str) -> dict[str, dict]:
    """The answers on file by their key; a half-written last line is passed over."""
    path = Path(path)
    found = {}
    if path.is_file():
        for line in path.read_bytes().split(b"\n"):
            try:
                answer = json.loads(line)
            except ValueError:
                continue
            found[answer.pop("key")] = answer
    return found


def _mend(path: Path, file) -> None:
    """End a line that a killed process left half-written, so that the next one is whole."""
    if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
        file.write("\n")


def _keys(model: str, prompts: Sequence[str], request: dict) -> list[str]:
    """A name for each request: its content, and which one it is among equal ones."""
    seen: dict[str, int] = {}
    keys = []
    for prompt in prompts:
        seen[prompt] = seen.get(prompt, 0) + 1
        content = json.dumps([model, prompt, seen[prompt], request], sort_keys=True, default=str)
        keys.append(hashlib.sha256(content.encode()).hexdigest()[:20])
    return keys


def _worst(model: str, prompt: str, request: dict) -> float:
    longest = request.get("max_completion_tokens") or request.get("max_tokens")
    messages = [{"role": "user", "content": prompt}]
    most = longest or prices.UNLIMITED_ANSWER
    return openrouter.estimate_cost(messages, model, max_tokens=most).most_usd


def _usd(usage, model: str) -> float | None:
    try:
        return prices.cost(usage.model_dump(), model)
    except prices.BudgetError:
        return None
