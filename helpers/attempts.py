"""The simulator's failures, really sent: every attempt of a client, and what its caller gets."""

import itertools
import math
import ssl
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import httpx2
import openai

from helpers import openrouter
from helpers.backends import Lab
from openrouter_sim import faults

PLAIN, PACKAGE, COMPLETE = "no retries", "openai package", "openrouter.complete"
CLIENTS = {PLAIN: 1, PACKAGE: 3, COMPLETE: 4}  # the most attempts of each, as it comes
MOST_FAILING = 3  # attempts that fail: one less than `complete` makes


@dataclass
class Attempt:
    """One request over HTTP, and its reply.

    Attributes:
        sent_s, ended_s: seconds since the first attempt was sent; NaN if no reply came to its end.
        status: of the reply; None if none came.
        retry_after: the reply's header Retry-After; None if it has none.
        body: of the reply, as far as the client read it.
    """

    sent_s: float
    ended_s: float = math.nan
    status: int | None = None
    retry_after: str | None = None
    body: str = ""


class RecordingTransport(httpx2.HTTPTransport):
    """Sends requests to a server on this machine, without TLS, and notes each attempt.

    Attributes:
        attempts: in the order in which they were sent.
    """

    def __init__(self):
        # A context without certificates: to load them takes longer than such a request.
        super().__init__(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), trust_env=False)
        self.attempts: list[Attempt] = []
        self._start = math.nan

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request. Its attempt is complete when the reply is closed."""
        if not self.attempts:
            self._start = time.perf_counter()
        attempt = Attempt(time.perf_counter() - self._start)
        self.attempts.append(attempt)
        response = super().handle_request(request)
        attempt.status = response.status_code
        attempt.retry_after = response.headers.get("retry-after")
        response.stream = _Noted(response.stream, attempt, self._start)
        return response


class _Noted(httpx2.SyncByteStream):
    """Forwards a reply's bytes; its attempt gets them and the time of the end."""

    def __init__(self, inner: httpx2.SyncByteStream, attempt: Attempt, start: float):
        self._inner, self._attempt, self._start = inner, attempt, start
        self._body = b""

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._inner:
            self._body += piece
            yield piece

    def close(self) -> None:
        self._attempt.body = self._body.decode("utf-8", "replace")
        self._attempt.ended_s = time.perf_counter() - self._start
        self._inner.close()


@dataclass(frozen=True)
class Run:
    """What one call of a client sent, and what its caller got.

    Attributes:
        attempts: in the order in which they were sent.
        text: of the answer, or what arrived of it.
        finish_reason: None if the answer did not come to its end.
        error: None after an answer.
        source: who told the caller so: the package, or a function of `openrouter`.
    """

    attempts: list[Attempt]
    text: str = ""
    finish_reason: str | None = None
    error: Exception | None = None
    source: str = ""

    @property
    def pauses_s(self) -> list[float]:
        """Seconds from the end of each attempt until the next one."""
        return [after.sent_s - each.ended_s for each, after in itertools.pairwise(self.attempts)]

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        if self.error is None:
            return "an answer"
        before = "part of an answer, then " if self.text else ""
        before = before if self.attempts else "nothing sent, "
        return before + type(self.error).__name__


def send(lab: Lab, name: str, client: str = PLAIN, failing: int = 1) -> Run:
    """Ask the simulator one question that fails in one way, and note all attempts.

    A failure of streams gets a request for a stream. Pauses are really
    waited for.

    Args:
        lab: of `connect("openrouter-sim")`.
        name: of `faults.FAULTS`.
        client: one of `CLIENTS`.
        failing: how many attempts fail before one succeeds.

    Raises:
        ValueError: the server is not the simulator, which alone knows these failures.
    """
    if lab.backend != "openrouter-sim":
        raise ValueError('Failures are for the simulator only: connect("openrouter-sim").')
    streamed = is_streamed(name)
    # The simulator counts the failing attempts of each key, so every call has its own.
    key = f"sk-or-v1-simulated-{uuid.uuid4()}"
    request = {
        "model": lab.model,
        "messages": [{"role": "user", "content": "Explain quantum computing in simple words."}],
        # The pauses are the matter here. A stream breaks after a few pieces, so it needs some.
        "max_tokens": 8 if streamed else 2,
        "temperature": 0,
        "stream": streamed,
        "extra_headers": {"X-Simulate": f"{name} {failing}"},
    }
    transport = RecordingTransport()
    with openai.DefaultHttpxClient(trust_env=False, transport=transport) as http_client:
        sender = lab.client.with_options(
            api_key=key, http_client=http_client, max_retries=CLIENTS[client] - 1
        )
        create, source = sender.chat.completions.create, PACKAGE
        if client == COMPLETE:
            create, source = partial(openrouter.complete, sender), COMPLETE
        answer, error = openrouter.Streamed(), None
        try:
            reply = create(**request)
            source = "openrouter.collect" if streamed else "openrouter.message"
            if streamed:
                answer = openrouter.collect(reply)
                error = answer.error
            else:
                answer.text = openrouter.message(reply).content
                answer.finish_reason = reply.choices[0].finish_reason
        except (openai.APIError, openrouter.NoAnswer, ValueError) as raised:
            error = raised
    return Run(transport.attempts, answer.text, answer.finish_reason, error, source)


def is_streamed(name: str) -> bool:
    """Whether a failure is one of streams."""
    return faults.FAULTS[name].effect in faults.STREAM_EFFECTS
