"""Time streamed replies: one request, a load of many, a sweep, two servers in pairs.

Tools that measure latency give the same name to different things, so here are this kit's terms.

- **TTFT**, time to first token: until the first delta that carries content, reasoning or a tool
  call. Servers often send a delta with nothing but a role first; its time is kept apart, for it is
  not a token.
- **TPOT**, time per output token: (last - first) / (n - 1), where first and last are the arrivals
  of the first and last such delta, and n is the count of output tokens that the server reports.
- **End to end**: until the end of the stream.

All three begin when the request was sent; in an open loop when it was *scheduled*, so that a server
that makes requests wait cannot hide it ("coordinated omission").

The same stream as other tools measured it (late 2026), in milliseconds: 0 send, 100
role-only delta, 300 one token, 340 three tokens, 345 finish, 346 usage of 4, 350 [DONE]:

    tool                      TTFT   per token                                    end to end
    this kit                  300    TPOT 13.3                                    350
    vLLM bench, openai-chat   100    TPOT 81.7 (the empty delta counts as first)  345
    SGLang bench              300    TPOT 16.7                                    350
    GuideLLM                  300    ITL 13.3; its TPOT 85 has the first token    350
    AIPerf                    300    ITL 13.3                                     340
    LLMPerf                   300    inter-token latency 85 has the first token   350

LLMPerf's line is worked out from its source, not run: it divides by its own count of the text's
tokens, with a Llama tokenizer whatever the model, and 4 is assumed here.
"""

import json
import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import openai

TIME_LIMIT_S = 120.0


MOST_AT_ONCE = 512  # threads of an open loop


# To send a request takes this process about 3 ms. The users of a closed loop begin one after the
# other at this distance, so that none waits for a turn of the processor while its clock runs.
RAMP_S = 0.010


# Up to here, on two cores and with streams of 50 tokens/s, the median TTFT and the TPOT of every
# stream are within a twentieth, though a single TTFT may be off by more; at 128 the TPOT still is,
# the TTFT no longer. `benchmarks/latency_accuracy.py` measures it.
EXACT_AT_ONCE = 64


NOT_FINISHED = "not finished: the run was interrupted"


class Delta(NamedTuple):
    """One piece of a streamed reply: when it came (monotonic seconds), what it carried."""

    at: float
    kind: str  # "content", "reasoning" or "tool_call"
    text: str


@dataclass
class Record:
    """One request's history. Times are ``time.perf_counter()`` seconds; compare within a machine.

    A figure that the stream did not yield is ``nan``, never zero.

    Attributes:
        sent: when the request was sent; nan if it never was.
        scheduled: in an open loop, when it should have been sent.
        role_only, usage, end: when the role-only delta, the usage and the stream's end came.
        deltas: every delta that carries something.
        prompt_tokens, output_tokens, cost_usd, provider: as the server says, None where it is mute.
        error: what went wrong; what had arrived before it is kept.
        key: names the request within its file.
        at_once: of a closed loop, how many requests were under way together.
        started: the wall clock at sending, for the reader.
    """

    sent: float
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
    at_once: int | None = None
    started: str = ""

    @property
    def begin(self) -> float:
        """Where the clock starts: the schedule if there is one, else the sending."""
        return self.sent if self.scheduled is None else self.scheduled

    @property
    def ttft_s(self) -> float:
        """Seconds to the first delta that carries something."""
        return self.deltas[0].at - self.begin if self.deltas else math.nan

    @property
    def tpot_s(self) -> float:
        """Seconds per output token after the first; needs two tokens and the server's count."""
        if not self.deltas or not self.output_tokens or self.output_tokens < 2:
            return math.nan
        return (self.deltas[-1].at - self.deltas[0].at) / (self.output_tokens - 1)

    @property
    def e2e_s(self) -> float:
        """Seconds to the end of the stream."""
        return self.end - self.begin

    @property
    def text(self) -> str:
        """The content, put together."""
        return "".join(delta.text for delta in self.deltas if delta.kind == "content")

    def line(self) -> str:
        """The record as a line of JSON, from which `read` makes it again."""
        facts = {name: value for name, value in asdict(self).items() if value not in (None, "")}
        for name in ("sent", "end"):
            if math.isnan(facts[name]):
                del facts[name]  # JSON has no nan
        return json.dumps(facts, ensure_ascii=False)


def read(path: str | Path) -> list[Record]:
    """The records of a file in its order, of several with one key the last; half lines are skipped.

    Raises:
        OSError: there is no such file.
    """
    found: dict[str, Record] = {}
    with Path(path).open(encoding="utf-8", errors="replace", newline="\n") as file:
        for number, line in enumerate(file):
            try:
                facts = json.loads(line)
                deltas = [Delta(*delta) for delta in facts.pop("deltas", [])]
                record = Record(**{"sent": math.nan, **facts}, deltas=deltas)
            except (ValueError, TypeError, AttributeError):
                continue
            found[record.key or f"line {number}"] = record
    return list(found.values())


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
    """Send one chat request, streamed, and note when everything arrives.

    An error of the server or the connection does not raise: it is in ``Record.error``, beside
    whatever came before it. Nothing is sent twice, for a retry would hide a failure in a time.

    Args:
        messages: a plain string is one user message.
        scheduled: when it should have been sent (``time.perf_counter()``).
        time_limit_s: most seconds for the whole reply, and for each silence in it.
        stop: the reply is given up when this is set.
        params: for ``client.chat.completions.create``, as they are.
    """
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    params.setdefault("stream_options", {"include_usage": True})
    once = client.with_options(max_retries=0, timeout=time_limit_s)
    started = datetime.now().astimezone().isoformat("T", "milliseconds")
    record = Record(_now(), scheduled, started=started)
    begun = last = record.sent
    response = None
    try:
        # The lines as they come: to make an object of every chunk, as the client does, takes half a
        # millisecond and more, which a hundred streams at once do not have.
        with once.chat.completions.with_streaming_response.create(
            model=model, messages=messages, stream=True, **params
        ) as response:
            for line in response.iter_lines():
                last = now = _now()
                if line.startswith("data:"):
                    data = line.removeprefix("data:").strip()
                    if data == "[DONE]":
                        record.end = now  # but read on: only a finished reply frees its connection
                    elif math.isnan(record.end):
                        _note(record, json.loads(data), now)
                if now - begun > time_limit_s and math.isnan(record.end):
                    record.error = f"took longer than {time_limit_s:g} s"
                    break
                if stop is not None and stop.is_set():
                    record.error = "given up: the run was interrupted"
                    break
    except (openai.OpenAIError, httpx2.HTTPError, ValueError) as error:
        if math.isnan(record.end):
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            record.error = f"{type(error).__name__}: {error}{cause}"
    if math.isnan(record.end):
        record.end = _now()
    if response is not None:
        # What the client took to prepare the request is not the server's: its transport knows how
        # long before the reply's close the request went out. The last line came just before the
        # close; counted from it, no figure comes out too small, however busy this machine is.
        record.sent = max(begun, round(last - response.elapsed.total_seconds(), 6))
    if record.error is None and record.finish_reason is None:
        record.error = "the stream ended without a finish_reason: was the connection cut?"
    return record


def _now() -> float:
    """The monotonic clock, to the microsecond: files need no more digits than that."""
    return round(time.perf_counter(), 6)


def _note(record: Record, chunk: object, now: float) -> None:
    """What one event says. Raises ValueError for one that is no chunk, or that is an error."""
    try:
        _read_chunk(record, chunk, now)
    except (AttributeError, TypeError) as error:
        raise ValueError(f"not a chunk: {str(chunk)[:60]}") from error


def _read_chunk(record: Record, chunk: Any, now: float) -> None:
    if chunk.get("error"):
        error = chunk["error"]
        raise ValueError(error.get("message", error) if isinstance(error, dict) else error)
    record.provider = chunk.get("provider") or record.provider
    if usage := chunk.get("usage"):
        record.usage = now
        record.prompt_tokens = usage.get("prompt_tokens")
        record.output_tokens = usage.get("completion_tokens")
        record.cost_usd = usage.get("cost")
    for choice in chunk.get("choices") or []:
        record.finish_reason = choice.get("finish_reason") or record.finish_reason
        delta = choice.get("delta") or {}
        pieces = _pieces(delta)
        record.deltas += [Delta(now, kind, text) for kind, text in pieces]
        if not pieces and delta.get("role") and record.role_only is None:
            record.role_only = now


def _pieces(delta: dict) -> list[tuple[str, str]]:
    # "reasoning" is OpenRouter's and vLLM's field, "reasoning_content" older servers'.
    reasoning = delta.get("reasoning") or delta.get("reasoning_content")
    pieces = [("reasoning", reasoning), ("content", delta.get("content"))]
    for call in delta.get("tool_calls") or []:
        function = call.get("function") or {}
        pieces.append(
            ("tool_call", f"{function.get('name') or ''}{function.get('arguments') or ''}")
        )
    return [(kind, text) for kind, text in pieces if text]


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
    done: Callable[[Record], None] | None = None,
    **params: Any,
) -> list[Record]:
    """Send all prompts and return their records, in the order of the prompts.

    A **closed loop** (``concurrency``) has so many users, each of whom waits for an answer before
    asking again: it asks how a fixed number of users fare. An **open loop** (``rate``) sends on a
    schedule, whatever the server does: it asks how a stream of strangers fares. Give prompts that
    differ, or a server's prefix cache makes them look fast.

    Ctrl-C ends the run, not the program: replies under way are given up, and every request that
    was not finished is in the list with that as its error.

    Args:
        concurrency: requests under way at once.
        rate: requests per second; instead of ``concurrency``.
        arrivals: of an open loop, "poisson" (strangers) or "constant".
        seed: of the poisson arrivals.
        path: every record is appended to this JSONL file as it ends; a run that finds answers of
            an earlier one there, under the same label, does not ask for them again.
        label: names this load in the file.
        time_limit_s: for each request.
        done: called with each record as it ends.
        params: for every request.

    Raises:
        ValueError: both or neither of concurrency and rate, or one that is not above 0; unknown
            arrivals.
    """
    prompts = list(prompts)
    if (concurrency is None) == (rate is None):
        raise ValueError("give concurrency (a closed loop) or rate (an open loop)")
    if not (concurrency or rate or 0) > 0 or (rate is not None and not math.isfinite(rate)):
        raise ValueError("concurrency and rate must be above 0")
    kept = _kept(path, label)
    keys = [f"{label}/{number}" for number in range(len(prompts))]
    records = [kept.get(key) or Record(math.nan, error=NOT_FINISHED, key=key) for key in keys]
    asked = [number for number, key in enumerate(keys) if key not in kept]
    offsets = _offsets(len(prompts), rate, arrivals, seed)
    zero = time.perf_counter() + 0.05  # the threads start meanwhile
    stop, lock, waiting = threading.Event(), threading.Lock(), iter(asked)
    mistakes: list[BaseException] = []

    def one(number: int) -> None:
        scheduled = None
        if rate is not None:
            scheduled = zero + offsets[number]
            if stop.wait(max(0.0, scheduled - time.perf_counter())):
                return
        record = stream_once(
            client, model, prompts[number],
            scheduled=scheduled, time_limit_s=time_limit_s, stop=stop, **params,
        )  # fmt: skip
        record.key, record.at_once = keys[number], concurrency
        with lock:
            if stop.is_set():  # the caller has gone on
                return
            records[number] = record
            if path is not None:
                _append(Path(path), record)
            if done:
                done(record)

    def work(place: int) -> None:
        try:
            if rate is None:
                stop.wait(place * RAMP_S)
            while not stop.is_set():
                with lock:
                    number = next(waiting, None)
                if number is None:
                    return
                one(number)
        except BaseException as mistake:  # of this program or of `done`: not to be lost in a thread
            mistakes.append(mistake)
            stop.set()

    # Daemons: a server that stalls must not keep the program from ending.
    count = min(concurrency or MOST_AT_ONCE, len(asked))
    workers = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(count)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    except KeyboardInterrupt:
        pass
    finally:
        with lock:
            stop.set()
    if mistakes:
        raise mistakes[0]
    return records


def _append(path: Path, record: Record) -> None:
    """Write a record at a file's end, on a line of its own even after a line that was cut off."""
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(record.line().encode() + b"\n")


def _kept(path: str | Path | None, label: str) -> dict[str, Record]:
    if path is None or not Path(path).exists():
        return {}
    return {
        record.key: record
        for record in read(path)
        if record.error is None and record.key.startswith(f"{label}/")
    }


def _offsets(count: int, rate: float | None, arrivals: str, seed: int) -> list[float]:
    """Seconds after the start at which each request of an open loop is due."""
    if arrivals not in ("poisson", "constant"):
        raise ValueError(f'arrivals are "poisson" or "constant", not {arrivals!r}')
    if rate is None:
        return []
    if arrivals == "constant":
        return [number / rate for number in range(count)]
    rng = random.Random(seed)
    at, found = 0.0, []
    for _ in range(count):
        found.append(at)
        at += rng.expovariate(rate)
    return found


def sweep(
    client: openai.OpenAI,
    model: str,
    prompts: Sequence[str | list[dict]],
    levels: Iterable[int],
    *,
    warm_up: int = 1,
    vary: bool = True,
    label: str = "sweep",
    after: Callable[[int, list[Record]], None] | None = None,
    **options: Any,
) -> dict[int, list[Record]]:
    """A closed loop at each of several concurrencies: {level: records}.

    Every level asks the same prompts, each time with another beginning, so that a prefix cache
    cannot answer for an earlier level (but for tools, and messages of several parts). After an
    interrupted level no further one is begun.

    Args:
        levels: requests under way at once, in the order to try them.
        warm_up: requests before the first level, which are not in the result.
        vary: False leaves the prompts as they are, where a prefix cache is what is to be measured.
        after: called after each level with the level and its records: for a live view.
        options: as for `run_load`, ``path`` included.
    """
    unkept = {name: value for name, value in options.items() if name not in ("path", "done")}
    if warm_up:
        run_load(client, model, ["Warm up."] * warm_up, concurrency=1, **unkept)
    found: dict[int, list[Record]] = {}
    for level in levels:
        asked = prompts
        if vary:
            asked = [_varied(prompt, f"({level}/{n})") for n, prompt in enumerate(prompts)]
        found[level] = run_load(
            client, model, asked, concurrency=level, label=f"{label} {level}", **options
        )
        if after:
            after(level, found[level])
        if any(record.error == NOT_FINISHED for record in found[level]):
            break
    return found


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
    """Ask two servers the same prompts in turn, in a random order for each: pairs of records.

    What disturbs a machine for a while then disturbs both. `ratios` says what came of it.
    """
    rng, pairs = random.Random(seed), []
    for prompt in prompts:
        if rng.random() < 0.5:
            a = ask_a(prompt)
            pairs.append((a, ask_b(prompt)))
        else:
            b = ask_b(prompt)
            pairs.append((ask_a(prompt), b))
    return pairs
