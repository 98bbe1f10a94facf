"""Many prompts at once: a few requests at a time, within a budget, every answer kept in a file.

Each answer is appended to a JSONL file as soon as it arrives. A batch that was interrupted, even
killed, continues from this file, and so does one that its budget stopped. An answer in the file is
never paid twice. Only an answer that nobody received can be lost and billed all the same: a request
that was under way when its process was killed or its connection broke.
"""

import contextlib
import hashlib
import json
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from helpers import jsonl, openrouter, prices
from helpers.backends import Lab

COLUMNS = ["prompt", "status", "text", "finish_reason", "usd", "seconds", "error"]
DONE, FAILED, NOT_SENT = "done", "failed", "not sent"


def run_batch(
    lab: Lab,
    prompts: Sequence[str],
    path: Path | str,
    *,
    concurrency: int = 4,
    max_usd: float | None = None,
    attempts: int = 4,
    total_s: float = 120.0,
    **request,
) -> pd.DataFrame:
    """Send every prompt; return a table with one row per prompt, in their order.

    A refused key or an empty account (401, 402) ends the batch, since all other requests would be
    refused as well.

    Args:
        lab: from `connect`.
        prompts: user messages, each a conversation of its own. Equal ones are sent once each.
        path: the JSONL file with the answers. Prompts that it answers, by the same model with the
            same settings, are not sent again; failed ones are.
        concurrency: the most requests under way at a time.
        max_usd: send nothing more if this could be exceeded. What was spent in this call counts,
            and the worst case of each request under way and of each attempt without an answer.
        attempts, total_s: for each request; see `openrouter.complete`.
        request: settings such as `temperature` and `max_tokens`.

    Returns:
        columns `COLUMNS`. `status` is "done", "failed" or "not sent". `usd` is the server's own
        cost if it names one, else the cost by price, else nan. An answer without text is "done"
        too, since it is paid; `error` says why, and the file has its whole `message`.

    Raises:
        prices.BudgetError: `max_usd` for a model without a known price.
        ValueError: a line of the file is damaged (see `jsonl.read`) or no answer of a batch.
        OSError: the file cannot be written. It is tried before anything is sent.
        KeyboardInterrupt: after the requests under way were waited for and kept.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    keys = _keys(lab.model, prompts, request)
    answers = read(path)
    tasks = [
        Task(key, prompt, 0.0 if max_usd is None else _worst_case(lab.model, prompt, request))
        for key, prompt in zip(keys, prompts, strict=True)
        if answers.get(key, {}).get("status") != DONE
    ]
    if tasks:
        path.open("ab").close()
    done = len(prompts) - len(tasks)
    with tqdm(total=len(prompts), initial=done, desc="batch", unit="prompt") as bar:
        patience = {"attempts": attempts, "total_s": total_s}
        batch = Batch(lab, path, math.inf if max_usd is None else max_usd, request | patience, bar)
        batch.run(tasks, concurrency)
        by_budget = bar.n < bar.total and batch.refusal is None
        if by_budget:
            bar.set_description("batch, stopped by the budget")
    if by_budget and hasattr(bar, "disp"):
        bar.disp(bar_style="warning", check_delay=False)  # red would say that it failed
    answers |= batch.answers
    rows = [
        answers.get(key) or {"prompt": prompt, "status": NOT_SENT, "error": batch.refusal}
        for key, prompt in zip(keys, prompts, strict=True)
    ]
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def read(path: Path | str) -> dict[str, dict]:
    """The answers in a batch's file by their key; none if there is no file.

    Raises:
        ValueError: a line of the file is damaged (see `jsonl.read`) or no answer of a batch.
    """
    records = jsonl.read(path) if Path(path).exists() else []
    for record in records:
        if not isinstance(record.get("key"), str) or "status" not in record:
            raise ValueError(
                f"{path} holds something else than a batch's answers: {str(record)[:80]}. "
                "Use another file."
            )
    return {record.pop("key"): record for record in records}


@dataclass(frozen=True)
class Task:
    """One prompt to send, the key of its answer, and the most that an attempt may cost in USD."""

    key: str
    prompt: str
    worst_usd: float


class Batch:
    """The requests under way, what they cost, and their answers.

    Attributes:
        answers: by key, as they are in the file.
        refusal: the error that ended the batch; None if there was none.
    """

    def __init__(self, lab: Lab, path: Path, max_usd: float, request: dict, bar: tqdm):
        self._lab, self._path, self._max_usd, self._request = lab, path, max_usd, request
        self._bar, self._lock = bar, threading.Lock()
        self._spent_usd, self._reserved_usd = 0.0, list[float]()
        self.answers: dict[str, dict] = {}
        self.refusal: str | None = None

    def run(self, tasks: Sequence[Task], concurrency: int) -> None:
        """Send the tasks, as many as the budget and the account allow."""
        waiting, under_way = deque(tasks), set[Future]()
        # Leaving the pool, for whatever reason, waits for the requests under way.
        with ThreadPoolExecutor(concurrency) as pool:
            while waiting or under_way:
                while waiting and len(under_way) < concurrency and self._reserve(waiting[0]):
                    under_way.add(pool.submit(self._send, waiting.popleft()))
                if not under_way:
                    return
                finished, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()  # raises if the answer could not be kept
                    self._bar.update(1)

    def _reserve(self, task: Task) -> bool:
        """Reserve a task's worst case; False if the batch must not send it."""
        with self._lock:
            committed = math.fsum([self._spent_usd, *self._reserved_usd, task.worst_usd])
            if self.refusal or committed > self._max_usd:
                return False
            self._reserved_usd.append(task.worst_usd)
            return True

    def _send(self, task: Task) -> None:
        """Send a task and keep its answer. In a thread, so that Ctrl-C cannot come between."""
        answer = ask(self._lab, task.prompt, **self._request)
        with self._lock:
            jsonl.append(self._path, {"key": task.key, **answer}, durable=True)
            self.answers[task.key] = answer
            self._reserved_usd.remove(task.worst_usd)
            # An answer whose cost is unknown may have cost the most.
            unknown = task.worst_usd if answer["status"] == DONE else 0.0
            self._spent_usd += answer.get("usd", unknown) + answer["lost"] * task.worst_usd
            if answer.get("code") in (401, 402):
                self.refusal = answer["error"]


def ask(lab: Lab, prompt: str, **request) -> dict:
    """Send one prompt with `openrouter.complete`; returns the answer or the failure as a record.

    `lost` counts the attempts that were sent and never answered, which may be billed.
    """
    started = time.monotonic()
    lost = 0

    def count_lost(advice: openrouter.Advice, _: float = 0.0) -> None:
        nonlocal lost
        lost += advice.code is None

    messages = [{"role": "user", "content": prompt}]
    try:
        reply = openrouter.complete(
            lab.client, on_retry=count_lost, model=lab.model, messages=messages, **request
        )
        message, reason = openrouter.message(reply), reply.choices[0].finish_reason
        text = openrouter.text_of(message.content)
        result = {"status": DONE, "text": text, "finish_reason": reason}
        if not text:
            whole = message.model_dump(exclude_unset=True, warnings=False)
            result |= {"error": _why_empty(whole, reason), "message": whole}
        usage = reply.model_dump(warnings=False).get("usage")
        with contextlib.suppress(prices.BudgetError):
            result["usd"] = prices.cost(usage if isinstance(usage, dict) else {}, lab.model)
    except Exception as error:  # one invalid reply must not cost the others
        advice = openrouter.explain(error)
        count_lost(advice)
        result = {"status": FAILED, "code": advice.code, "error": str(advice)}
    seconds = round(time.monotonic() - started, 3)
    return {"prompt": prompt, "lost": lost, **result, "seconds": seconds}


def _why_empty(message: dict, finish_reason: str | None) -> str:
    """Why a message has no text, as far as it says so."""
    others = [name for name in ("tool_calls", "audio", "reasoning") if message.get(name)]
    said = f"; it refused: {message['refusal']}" if message.get("refusal") else ""
    carried = f"; it has {' and '.join(others)} instead" if others else ""
    return f"no text in the answer; finish_reason: {finish_reason}{said}{carried}"


def _keys(model: str, prompts: Sequence[str], request: dict) -> list[str]:
    """A key for each request, from its content and its number among equal ones."""
    counts: dict[str, int] = {}
    keys = []
    for prompt in prompts:
        counts[prompt] = counts.get(prompt, 0) + 1
        content = json.dumps([model, prompt, counts[prompt], request], sort_keys=True, default=str)
        keys.append(hashlib.sha256(content.encode()).hexdigest()[:20])
    return keys


def _worst_case(model: str, prompt: str, request: dict) -> float:
    """USD for a prompt if the answer takes all the tokens that it may."""
    messages = [{"role": "user", "content": prompt}]
    max_tokens = prices.answer_limit(request)
    return openrouter.estimate_cost(messages, model, max_tokens=max_tokens).max_usd
