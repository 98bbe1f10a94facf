"""Time a streamed reply, one request or many at once.

Tools that measure latency give the same name to different things, so here are this kit's terms.

- **TTFT**, time to first token: from sending the request to the first delta that carries content,
  reasoning or a tool call. Servers often send a delta with nothing but a role first; its time is
  kept apart, for it is not a token.
- **TPOT**, time per output token: (last - first) / (n - 1), where first and last are the arrivals
  of the first and last such delta, and n is the count of output tokens that the server reports.
- **End to end**: from sending the request to the end of the stream.
"""

import math
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import openai
import pandas as pd


@dataclass(frozen=True)
class Delta:
    """One piece of a streamed reply: when it came (monotonic seconds), what it carried."""

    at: float
    kind: str  # "content", "reasoning" or "tool_call"
    text: str


@dataclass
class Record:
    """One request's history. Times are ``time.perf_counter()`` seconds; compare within a process.

    A figure that the stream did not yield is ``nan``, never zero.
    """

    sent: float
    role_only: float | None = None
    deltas: list[Delta] = field(default_factory=list)
    usage: float | None = None
    end: float = math.nan
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None
    error: str | None = None

    @property
    def ttft_s(self) -> float:
        """Seconds from sending to the first delta that carries something."""
        return self.deltas[0].at - self.sent if self.deltas else math.nan

    @property
    def tpot_s(self) -> float:
        """Seconds per output token after the first; needs two tokens and the server's count."""
        if not self.deltas or not self.output_tokens or self.output_tokens < 2:
            return math.nan
        return (self.deltas[-1].at - self.deltas[0].at) / (self.output_tokens - 1)

    @property
    def e2e_s(self) -> float:
        """Seconds from sending to the end of the stream."""
        return self.end - self.sent

    @property
    def text(self) -> str:
        """The content, put together."""
        return "".join(delta.text for delta in self.deltas if delta.kind == "content")


def stream_once(
    client: openai.OpenAI, model: str, messages: str | list[dict], **params: Any
) -> Record:
    """Send one chat request, streamed, and note when everything arrives.

    ``messages`` may be a plain string: one user message. ``params`` go to
    ``client.chat.completions.create`` as they are. An error of the server or the connection does
    not raise: it is in ``Record.error``, beside whatever came before it.
    """
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    params.setdefault("stream_options", {"include_usage": True})
    record = Record(sent=time.perf_counter())
    try:
        stream = client.chat.completions.create(
            model=model, messages=messages, stream=True, **params
        )
        for chunk in stream:
            _note(record, chunk, time.perf_counter())
    except openai.APIError as error:
        record.error = f"{type(error).__name__}: {error}"
    record.end = time.perf_counter()
    if record.error is None and record.finish_reason is None:
        record.error = "the stream ended without a finish_reason: was the connection cut?"
    return record


def _note(record: Record, chunk: Any, now: float) -> None:
    if chunk.usage is not None:
        record.usage = now
        record.prompt_tokens = chunk.usage.prompt_tokens
        record.output_tokens = chunk.usage.completion_tokens
    for choice in chunk.choices or []:
        record.finish_reason = choice.finish_reason or record.finish_reason
        pieces = _pieces(choice.delta)
        record.deltas += [Delta(now, kind, text) for kind, text in pieces]
        if not pieces and choice.delta.role and record.role_only is None:
            record.role_only = now


def _pieces(delta: Any) -> list[tuple[str, str]]:
    # "reasoning" is OpenRouter's and vLLM's field, "reasoning_content" older servers'.
    reasoning = getattr(delta, "reasoning", None) or getattr(delta, "reasoning_content", None)
    pieces = [("reasoning", reasoning), ("content", delta.content)]
    for call in delta.tool_calls or []:
        function = call.function
        pieces.append(("tool_call", f"{function.name or ''}{function.arguments or ''}"))
    return [(kind, text) for kind, text in pieces if text]


def run_load(
    client: openai.OpenAI,
    model: str,
    prompts: Iterable[str | list[dict]],
    concurrency: int,
    **params: Any,
) -> list[Record]:
    """Send all prompts, ``concurrency`` at a time: the next starts when one is done.

    That is a closed loop: it asks how a fixed number of users fare. Give prompts that differ, or a
    server's prefix cache makes them look fast. Records come back in the order of the prompts.
    """
    with ThreadPoolExecutor(max_workers=concurrency) as pool:
        return list(pool.map(lambda p: stream_once(client, model, p, **params), prompts))


def output_tokens_per_s(records: list[Record]) -> float:
    """Output tokens of all requests together, per second from the first send to the last end."""
    good = [record for record in records if record.error is None]
    if not good:
        return math.nan
    seconds = max(record.end for record in good) - min(record.sent for record in good)
    return sum(record.output_tokens or 0 for record in good) / seconds


def summarise(records: list[Record]) -> pd.DataFrame:
    """Spread of the three times in seconds over the requests that succeeded.

    Index ``measure`` (TTFT, TPOT, end to end); columns ``n``, ``failed``, ``min``, ``median``,
    ``p90``, ``max``. A request that lacks a figure is left out of that row's ``n``.
    """
    good = [record for record in records if record.error is None]
    times = pd.DataFrame(
        [(record.ttft_s, record.tpot_s, record.e2e_s) for record in good],
        columns=["TTFT (s)", "TPOT (s)", "end to end (s)"],
        dtype=float,
    )
    table = pd.DataFrame(
        {
            "n": times.count(),
            "failed": len(records) - len(good),
            "min": times.min(),
            "median": times.median(),
            "p90": times.quantile(0.9),
            "max": times.max(),
        }
    )
    return table.rename_axis("measure")
