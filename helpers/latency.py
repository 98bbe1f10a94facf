"""Time streamed replies: one request, a load of many, a sweep, two servers in pairs.

Tools that measure latency use the same names for different things. This kit's definitions:

- **TTFT**, time to first token (s): until the first delta that carries content, reasoning or a tool
  call. Many servers first send a delta that has only a role. It is not a token, so its time is
  recorded separately.
- **TPOT**, time per output token (s): (last - first) / (n - 1). First and last are the arrivals of
  the first and the last such delta; n is the number of output tokens that the server reports.
- **End to end** (s): until the end of the stream.

All three start when the request was sent. In an open loop they start when it was *scheduled*, so
that a server cannot hide the time that requests wait ("coordinated omission").

How other tools measured the same stream (late 2026), in milliseconds: 0 send, 100 role-only delta,
300 one token, 340 three tokens, 345 finish, 346 usage of 4, 350 [DONE]:

    tool                      TTFT   per token                                    end to end
    this kit                  300    TPOT 13.3                                    350
    vLLM bench, openai-chat   100    TPOT 81.7 (the empty delta counts as first)  345
    SGLang bench              300    TPOT 16.7                                    350
    GuideLLM                  300    ITL 13.3; its TPOT 85 has the first token    350
    AIPerf                    300    ITL 13.3                                     340
    LLMPerf                   300    inter-token latency 85 has the first token   350

The line of LLMPerf is computed from its source code; the tool was not run. It divides by its own
token count, with a Llama tokenizer for every model; 4 is assumed here.
"""

import itertools
import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import numpy as np
import openai

from helpers import jsonl, prices, replies

TIME_LIMIT_S = 120.0
MAX_CONCURRENCY = 512  # threads of an open loop

# This process needs about 3 ms to send a request. The users of a closed loop start one after the
# other at this interval, so that none waits for the CPU while its clock runs.
RAMP_UP_INTERVAL_S = 0.010

STOP_CHECK_S = 0.1  # how often a run looks whether it shall stop

# Up to here the median TTFT and the TPOT of every stream are within 5 % (two cores, streams of 50
# tokens/s), though a single TTFT may differ more. At 128 the TPOT still is, the TTFT is not.
# `benchmarks/latency_accuracy.py` measures it.
MAX_EXACT_CONCURRENCY = 64

NOT_FINISHED = "not finished: the run was interrupted"
TOO_LONG = "took longer than"  # the time limit of a request follows

# Addresses of servers that have refused `stream_options`, as those of Mistral AI and Fireworks AI
# do. They count the tokens of every stream anyway.
_no_stream_options: set[str] = set()


class Delta(NamedTuple):
    """One piece of a streamed reply: its arrival (s, monotonic clock), kind and text."""

    at: float
    kind: str  # "content", "reasoning" or "tool_call"
    text: str


@dataclass
class Record:
    """The history of one request. Times are `time.perf_counter()` seconds of one machine.

    A figure that the stream did not provide is `nan`, never zero.

    Attributes:
        sent: when the request was sent; nan if it was not.
        scheduled: when it should have been sent, in an open loop.
        role_only, usage, end: when the role-only delta, the usage and the end of the stream came.
        deltas: every delta that carries something.
        prompt_tokens, output_tokens, cost_usd, provider: None if the server does not report it.
        error: what went wrong; what arrived before it is kept.
        key: identifies the request within its file.
        concurrency: requests under way at once, in a closed loop.
        started: the date and time of sending, for people to read.
    """

    sent: float = math.nan
    scheduled: float | None = None
    role_only: float | None = None
    deltas: list[Delta] = field(default_factory=list)
    usage: float | None = None
    end: float = math.nan
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    finish_reason: str | None = None
    provider: str | None = None
    error: str | None = None
    key: str = ""
    concurrency: int | None = None
    started: str = ""

    @property
    def start(self) -> float:
        """Where the clock starts: the scheduled time if there is one, else the sending."""
        return self.sent if self.scheduled is None else self.scheduled

    @property
    def ttft_s(self) -> float:
        """Seconds to the first delta that carries something."""
        return self.deltas[0].at - self.start if self.deltas else math.nan

    @property
    def tpot_s(self) -> float:
        """Seconds per output token after the first; needs two tokens and the server's count."""
        if not self.deltas or not self.output_tokens or self.output_tokens < 2:
            return math.nan
        return (self.deltas[-1].at - self.deltas[0].at) / (self.output_tokens - 1)

    @property
    def e2e_s(self) -> float:
        """Seconds to the end of the stream."""
        return self.end - self.start

    @property
    def text(self) -> str:
        """The whole content."""
        return "".join(delta.text for delta in self.deltas if delta.kind == "content")

    def to_json(self) -> dict:
        """The record as a JSON object, without what is unknown; `read` reverses it."""
        # A nan differs from itself, and JSON has none.
        return {k: v for k, v in asdict(self).items() if v not in (None, "") and v == v}


def read(path: str | Path) -> list[Record]:
    """The records of a file, in its order. Of several with one key, the last counts.

    Raises:
        OSError: the file cannot be read, for example because it does not exist.
        ValueError: it holds something else.
    """
    records = {}
    for facts in jsonl.read(path):
        try:
            facts["deltas"] = [Delta(*delta) for delta in facts.get("deltas", [])]
            record = Record(**facts)
        except TypeError as error:
            raise ValueError(f"{path} holds something else than latency records: {error}") from None
        records[record.key] = record
    return list(records.values())


def stream_once(
    client: openai.OpenAI,
    model: str,
    messages: str | list[dict],
    *,
    scheduled: float | None = None,
    time_limit_s: float = TIME_LIMIT_S,
    stop: threading.Event | None = None,
    **params: Any,
) -> Record:
    """Send one streamed chat request and note when everything arrives.

    An error of the server or the connection does not raise: it is in `Record.error`, and what
    arrived before it is kept. The client does not retry, since a retry would hide a failure. Only a
    server that refuses `stream_options` is asked again without it, and timed anew.

    Args:
        messages: a plain string is one user message.
        scheduled: when the request should have been sent (`time.perf_counter()`).
        time_limit_s: maximum seconds for the whole reply, and for each pause in it.
        stop: setting this event ends the request.
        params: further arguments of `client.chat.completions.create`.
    """
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    address = str(client.base_url)
    if "stream_options" not in params and address not in _no_stream_options:
        asked = params | {"stream_options": {"include_usage": True}}
        options = {"scheduled": scheduled, "time_limit_s": time_limit_s, "stop": stop}
        record = stream_once(client, model, messages, **options, **asked)
        if record.deltas or "stream_options" not in (record.error or ""):
            return record
        _no_stream_options.add(address)
    completions = client.with_options(max_retries=0, timeout=time_limit_s).chat.completions
    started = datetime.now().astimezone().isoformat("T", "milliseconds")
    record = Record(_now(), scheduled, started=started)
    reader = _StreamReader(record, time_limit_s, stop or threading.Event())
    response = None
    try:
        with completions.with_streaming_response.create(
            model=model, messages=messages, stream=True, **params
        ) as response:
            reader.read(client, response.http_response)
    except (openai.OpenAIError, httpx2.HTTPError, ValueError, RecursionError) as error:
        if math.isnan(record.end) and record.error is None:
            record.error = replies.error_line(error)
    if math.isnan(record.end):
        record.end = _now()
    if response is not None:
        # The client's time to prepare the request is not the server's. The transport knows how
        # long before the close of the reply the request was sent. The last bytes came just before
        # the close: counted from it, no figure is too small, however busy this machine is.
        elapsed = response.elapsed.total_seconds()
        record.sent = max(record.sent, round(reader.last_bytes_at - elapsed, 6))
    if record.error is None and record.finish_reason in (None, "error"):
        record.error = "the stream ended without a finish_reason: was the connection cut?"
        if record.finish_reason:
            record.error = replies.ENDED_BY_ERROR
    return record


def _now() -> float:
    """The monotonic clock, to the microsecond: files need no more digits than that."""
    return round(time.perf_counter(), 6)


class _StreamReader:
    """Reads one streamed reply into a record, with the openai package's own reader of events.

    Its chunk objects take half a millisecond and more each. That is too much for a hundred streams
    at once, so the events stay plain objects.
    """

    def __init__(self, record: Record, time_limit_s: float, stop: threading.Event):
        self.record, self.time_limit_s, self.stop = record, time_limit_s, stop
        self.last_bytes_at = record.sent
        self.head, self.at_end = b"", False

    def read(self, client: openai.OpenAI, reply: httpx2.Response) -> None:
        """Read to the end. Raises `ValueError` for an event that is not a chunk."""
        arriving = self._arriving(reply)
        # A chain, since the end of events must not close what is still to arrive.
        timed = httpx2.Response(200, content=itertools.chain(arriving), request=reply.request)
        event = None
        for event in openai.Stream(cast_to=object, response=timed, client=client):
            self._add(event)
        if not self.at_end:
            self.record.end = self.last_bytes_at  # of [DONE]
        for _ in arriving:
            pass  # only a reply that is read to its end frees its connection
        if event is None and self.head.strip():
            kind = reply.headers.get("content-type", "no content type")
            raise ValueError(f"no event came; the reply ({kind}) begins {self.head[:200]!r}")

    def _arriving(self, reply: httpx2.Response) -> Iterator[bytes]:
        """The bytes as they come; ends early at the time limit and on `stop`."""
        record = self.record
        for piece in reply.iter_bytes():
            self.last_bytes_at = _now()
            self.head = self.head or piece
            yield piece
            if self.stop.is_set():
                error = "stopped: the run was interrupted"
            elif self.last_bytes_at - record.sent > self.time_limit_s:
                error = f"{TOO_LONG} {self.time_limit_s:g} s"
            else:
                continue
            if math.isnan(record.end):
                record.error = error
            return
        self.at_end = True

    def _add(self, event: Any) -> None:
        record, now = self.record, self.last_bytes_at
        if not isinstance(event, dict):
            raise ValueError(f"not a chunk: {str(event)[:60]}")
        record.provider = _text(event.get("provider")) or record.provider
        if isinstance(usage := event.get("usage"), dict) and usage:
            record.usage = now
            record.prompt_tokens = _count(usage.get("prompt_tokens"))
            record.output_tokens = _count(usage.get("completion_tokens"))
            record.cost_usd = prices.amount(usage.get("cost"))
        for choice in replies.objects_in(event.get("choices")):
            record.finish_reason = _text(choice.get("finish_reason")) or record.finish_reason
            record.error = replies.error_text(choice.get("error")) or record.error
            delta = choice.get("delta")
            delta = delta if isinstance(delta, dict) else {}
            pieces = [Delta(now, kind, text) for kind, text in replies.kinds_and_texts(delta)]
            record.deltas += pieces
            if not pieces and delta.get("role") and record.role_only is None:
                record.role_only = now


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _count(tokens: object) -> int | None:
    number = prices.amount(tokens)
    return None if number is None else int(number)


def run_load(
    client: openai.OpenAI,
    model: str,
    prompts: Iterable[str | list[dict]],
    concurrency: int | None = None,
    *,
    rate: float | None = None,
    arrivals: str = "poisson",
    seed: int = 0,
    path: str | Path | None = None,
    label: str = "load",
    time_limit_s: float = TIME_LIMIT_S,
    on_record: Callable[[Record], None] | None = None,
    stop: threading.Event | None = None,
    **params: Any,
) -> list[Record]:
    """Send all prompts and return their records, in the order of the prompts.

    A **closed loop** (`concurrency`) has a fixed number of users. Each waits for an answer before
    the next request. An **open loop** (`rate`) sends on a schedule, whatever the server does, like
    many independent users. Use prompts that differ: a prefix cache makes equal ones look fast.

    Ctrl-C ends the run, not the program; so does `stop`. Requests that were not finished are in the
    list, with that as their error. The connection to a server that sends nothing closes when it
    does, or when the request's time is up.

    Args:
        concurrency: requests under way at once.
        rate: requests per second; instead of `concurrency`.
        arrivals: of an open loop, "poisson" (independent users) or "constant".
        seed: of the Poisson arrivals.
        path: every record is appended to this JSONL file as it ends. A run that finds answers of
            an earlier one there, under the same label, does not send those requests again.
        label: names this load in the file.
        time_limit_s: for each request.
        on_record: called with each record as it ends.
        stop: setting this event ends the run, from another thread.
        params: further arguments of every request.

    Raises:
        ValueError: both or neither of concurrency and rate, or one that is not above 0; unknown
            arrivals; a file that holds something else.
        OSError: the file cannot be written. It is tried before anything is sent.
    """
    prompts = list(prompts)
    if (concurrency is None) == (rate is None):
        raise ValueError("give concurrency (a closed loop) or rate (an open loop)")
    if not (concurrency or rate or 0) > 0 or (rate is not None and not math.isfinite(rate)):
        raise ValueError("concurrency and rate must be above 0")
    due = None if rate is None else arrival_times(len(prompts), rate, arrivals, seed)
    on_file = read(path) if path is not None and Path(path).exists() else []
    if path is not None:
        Path(path).open("ab").close()  # if it cannot be written, say so before anything is sent
    answered = {record.key: record for record in on_file if record.error is None}
    keys = [f"{label}/{number}" for number in range(len(prompts))]
    records = [answered.get(key) or Record(error=NOT_FINISHED, key=key) for key in keys]

    def keep(record: Record) -> None:
        if path is not None:
            jsonl.append(path, record.to_json())
        if on_record:
            on_record(record)

    send = partial(stream_once, client, model, time_limit_s=time_limit_s, **params)
    _Load(send, prompts, records, concurrency, due, keep, stop).run()
    return records


@dataclass
class _Load:
    """Threads that send the prompts of a load and put the records into its list.

    Attributes:
        send: sends one prompt and returns its record.
        records: one for each prompt; those with an error are replaced.
        due: in an open loop, seconds after the start at which each prompt is sent.
        keep: called with each record as it ends, by one thread at a time.
        ended_by: the caller's event that ends the run, if there is one.
    """

    send: Callable[..., Record]
    prompts: list[str | list[dict]]
    records: list[Record]
    concurrency: int | None
    due: list[float] | None
    keep: Callable[[Record], None]
    ended_by: threading.Event | None = None

    def __post_init__(self):
        self.stop, self.lock = threading.Event(), threading.Lock()
        self.failures: list[BaseException] = []

    def run(self) -> None:
        """Send the prompts; return when all have ended, or on Ctrl-C."""
        numbers = [number for number, record in enumerate(self.records) if record.error]
        self.waiting = iter(numbers)
        self.start = time.perf_counter() + 0.05  # the threads start meanwhile
        # Daemons: a server that stalls must not keep the program from ending.
        workers = [
            threading.Thread(target=self._work, args=(user,), daemon=True)
            for user in range(min(self.concurrency or MAX_CONCURRENCY, len(numbers)))
        ]
        try:
            for worker in workers:
                worker.start()
            for worker in workers:
                self._wait_for(worker)
        except KeyboardInterrupt:
            pass
        finally:
            with self.lock:
                self.stop.set()
        if self.failures:
            raise self.failures[0]

    def _wait_for(self, worker: threading.Thread) -> None:
        if self.ended_by is None:
            worker.join()
        else:
            while worker.is_alive() and not self.ended_by.is_set():
                worker.join(STOP_CHECK_S)

    def _work(self, user: int) -> None:
        """One thread: take the next prompt until none is left."""
        try:
            if self.due is None:
                self.stop.wait(user * RAMP_UP_INTERVAL_S)
            while not self.stop.is_set():
                with self.lock:
                    number = next(self.waiting, None)
                if number is None:
                    return
                self._request(number)
        except BaseException as failure:  # must not be lost in a thread
            self.failures.append(failure)
            self.stop.set()

    def _request(self, number: int) -> None:
        scheduled = None
        if self.due is not None:
            scheduled = self.start + self.due[number]
            if self.stop.wait(max(0.0, scheduled - time.perf_counter())):
                return
        record = self.send(self.prompts[number], scheduled=scheduled, stop=self.stop)
        record.key, record.concurrency = self.records[number].key, self.concurrency
        with self.lock:
            if not self.stop.is_set():  # else the caller has the list already
                self.records[number] = record
                self.keep(record)


def arrival_times(count: int, rate: float, arrivals: str = "poisson", seed: int = 0) -> list[float]:
    """When each request of an open loop is due, in seconds after the start.

    Args:
        rate: requests per second.
        arrivals: "constant" intervals, or those of a "poisson" process.

    Raises:
        ValueError: unknown arrivals.
    """
    if arrivals not in ("poisson", "constant"):
        raise ValueError(f'arrivals are "poisson" or "constant", not {arrivals!r}')
    gaps = np.full(count, 1 / rate)
    if arrivals == "poisson":
        gaps = np.random.default_rng(seed).exponential(1 / rate, count)
    return (gaps.cumsum() - gaps[:1]).tolist()


def sweep(
    client: openai.OpenAI,
    model: str,
    prompts: Sequence[str | list[dict]],
    levels: Iterable[int],
    *,
    warm_up: int = 1,
    vary: bool = True,
    label: str = "sweep",
    on_level: Callable[[int, list[Record]], None] | None = None,
    **options: Any,
) -> dict[int, list[Record]]:
    """Run a closed loop at each of several concurrencies: {level: records}.

    Every level sends the same prompts, each with a different beginning, so that a prefix cache
    cannot serve them from an earlier level (except tools, and messages of several parts). After
    an interrupted level the sweep ends.

    Args:
        levels: requests under way at once, in the order to try them.
        warm_up: requests before the first level, which are not in the result.
        vary: False sends the prompts unchanged, to measure a prefix cache.
        on_level: called after each level with the level and its records, for a live view.
        options: as for `run_load`, `path` included.
    """
    if warm_up:
        settings = {name: options[name] for name in options.keys() - {"path", "on_record"}}
        run_load(client, model, ["Warm up."] * warm_up, concurrency=1, **settings)
    records: dict[int, list[Record]] = {}
    stop = options.get("stop")
    for level in levels:
        if stop is not None and stop.is_set():
            break
        varied = [_varied(prompt, f"({level}/{n})") for n, prompt in enumerate(prompts)]
        records[level] = run_load(
            client, model, varied if vary else prompts, level, label=f"{label} {level}", **options
        )
        if on_level:
            on_level(level, records[level])
        if any(record.error == NOT_FINISHED for record in records[level]):
            break
    return records


def _varied(prompt: str | list[dict], mark: str) -> str | list[dict]:
    if isinstance(prompt, str):
        return f"{mark} {prompt}"
    first, *others = prompt
    if isinstance(first.get("content"), str):
        return [{**first, "content": f"{mark} {first['content']}"}, *others]
    return prompt


def compare(
    ask_a: Callable[[str | list[dict]], Record],
    ask_b: Callable[[str | list[dict]], Record],
    prompts: Iterable[str | list[dict]],
    *,
    seed: int = 0,
) -> list[tuple[Record, Record]]:
    """Send the same prompts to two servers in turn, in random order: pairs of records.

    A disturbance of the machine then affects both. `latency_stats.ratios` compares the pairs.
    """
    rng, pairs = random.Random(seed), []
    for prompt in prompts:
        asks = [("a", ask_a), ("b", ask_b)]
        rng.shuffle(asks)
        records = {name: ask(prompt) for name, ask in asks}
        pairs.append((records["a"], records["b"]))
    return pairs
