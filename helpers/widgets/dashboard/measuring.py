"""A sweep that can be watched and stopped, and that says in words why a server does not answer."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from helpers import latency, replies
from helpers.latency import MAX_EXACT_CONCURRENCY, Record
from helpers.widgets.errors import words

if TYPE_CHECKING:
    from helpers.backends import Lab

TOPICS = ("rivers", "bread", "trains", "clouds", "maps", "tea", "bees", "snow")
MAX_LEVELS = 8
GIVE_UP_AFTER = 3  # requests in a row that failed: the server is asked once more, and says why


@dataclass
class Sweep:
    """A sweep under way, or ended.

    Attributes:
        requests: at each level.
        records: those that have ended, by level (users at the same time).
        level: which is under way; None before the first and after the last.
        error: why it ended early, in words; "" if it did not.
        stopped: whether somebody stopped it.
        server: what was asked, for people.
    """

    requests: int = 0
    records: dict[int, list[Record]] = field(default_factory=dict)
    level: int | None = None
    error: str = ""
    stopped: bool = False
    server: str = ""


def levels_of(text: str) -> list[int]:
    """Numbers of users, such as "1, 4, 8", in their order.

    Raises:
        ValueError: it says what is wrong, and what to type.
    """
    parts = text.replace(",", " ").split()
    if not all(part.isascii() and part.isdigit() and len(part) < 5 for part in parts):
        raise ValueError('Users should be whole numbers with commas, such as "1, 4, 8".')
    levels = list(dict.fromkeys(map(int, parts)))
    if not levels or len(levels) > MAX_LEVELS:
        raise ValueError(f"Give 1 to {MAX_LEVELS} numbers of users, such as 1, 4, 8.")
    if not all(1 <= level <= MAX_EXACT_CONCURRENCY for level in levels):
        raise ValueError(
            f"Users should be 1 to {MAX_EXACT_CONCURRENCY}: one process cannot time more exactly."
        )
    return levels


def measure(
    lab: "Lab",
    levels: Sequence[int],
    *,
    requests: int = 8,
    max_tokens: int = 16,
    on_change: Callable[[Sweep], None] = lambda sweep: None,
    stop: threading.Event | None = None,
    time_limit_s: float = 60.0,
) -> Sweep:
    """Send requests from more and more users, and tell of each that ends.

    One request goes first, and is not counted: a server is slower after its start. Nothing that a
    server does makes it raise: `Sweep.error` then says what happened.

    Args:
        levels: users at the same time, one level after the other.
        requests: at each level; at least as many as users.
        max_tokens: the longest answer.
        on_change: called with the sweep after each request, and at the end.
        stop: setting it ends the sweep. Requests under way do not count. It is also set after
            several failures in a row.
        time_limit_s: for each request.
    """
    requests = max(requests, *levels)  # else a user has nothing to send
    sweep = Sweep(requests, server=f"{lab.model} on {lab.backend}")
    stop, gave_up, in_a_row = stop or threading.Event(), False, 0

    def on_record(record: Record) -> None:
        nonlocal gave_up, in_a_row
        if stop.is_set():
            return
        sweep.level = record.concurrency
        sweep.records.setdefault(record.concurrency, []).append(record)
        in_a_row = in_a_row + 1 if record.error else 0
        if in_a_row >= GIVE_UP_AFTER:
            gave_up = True
            stop.set()
        on_change(sweep)

    prompts = [f"Tell me about {TOPICS[n % len(TOPICS)]}, part {n}." for n in range(requests)]
    try:
        sweep.error = _why_not(lab, time_limit_s)
        if not sweep.error:
            latency.sweep(
                lab.client, lab.model, prompts, levels, warm_up=0, stop=stop,
                on_record=on_record, time_limit_s=time_limit_s, max_tokens=max_tokens,
                temperature=0,
            )  # fmt: skip
            if gave_up:
                sweep.error = _why_not(lab, time_limit_s) or _last_error(sweep)
    except Exception as error:  # a page shows it in words; a thread could only print it
        sweep.error = words(error, lab)
    sweep.level, sweep.stopped = None, stop.is_set() and not gave_up
    on_change(sweep)
    return sweep


def _why_not(lab: "Lab", time_limit_s: float) -> str:
    """Why a server does not answer a small request, in words; "" if it does."""
    client = lab.client.with_options(max_retries=0, timeout=time_limit_s)
    question = [{"role": "user", "content": "Hello!"}]
    try:
        replies.message(
            client.chat.completions.create(model=lab.model, messages=question, max_tokens=2)
        )
    except Exception as error:
        return words(error, lab)
    return ""


def _last_error(sweep: Sweep) -> str:
    errors = [record.error for records in sweep.records.values() for record in records]
    return (
        f"{GIVE_UP_AFTER} requests in a row failed. The last one: {errors[-1]}. A single "
        "request is answered now: try fewer users, or start again."
    )
