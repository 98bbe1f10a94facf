"""A crowd of rough clients: what a server answers them, and whether it still works.

    python benchmarks/crowd.py --server batching --seconds 60

64 clients act at random, with a seed: half-sent heads and bodies, slow readers, hang-ups, bodies of
20 and 40 MB, bombs in schemas, pictures and JSON. Among these are requests whose answer is forced
by a schema or a named tool: it must hold the request's own word, and no reply may hold another's.
A probe asks a small question again and again.

The script prints a table of acts by outcome, the times of the probe, and memory and open files of
the server's process before and after. A shorter crowd comes first, so that the server has allocated
what it keeps on purpose. (The simulator is in this process.) The script exits with 1 if there was a
fault. Faults are a status 500 or 502, a word in the wrong place, a probe without an answer or with
a late one when all have left, and more than 200 MB kept.
"""

import argparse
import asyncio
import io
import json
import random
import re
import socket
import statistics
import struct
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from types import SimpleNamespace

import psutil
from crowd_requests import BAD_SCHEMAS, Target, bad_pictures, constant, large_picture

from helpers import Lab, connect

PROBE_S = 5.0  # for a small answer, when the crowd has left
PATIENCE_S = 90.0  # of a client
KEPT_MB = 200
WORD = re.compile(r"zq[a-z]{10}")
HERE = "<here>"
OUTCOMES_WITH_FAULT = ("500", "502")


@dataclass
class Report:
    """What happened.

    Attributes:
        outcomes: by act, how often each outcome came: a status, or what the client did.
        probes_s: times of the small requests while the crowd was there.
        faults: what must not happen, in words.
        words: the words of all requests.
    """

    outcomes: dict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))
    probes_s: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    words: set[str] = field(default_factory=set)


def parse(data: bytes) -> tuple[str, str]:
    """Status and text of a whole reply, or "closed" or "broken"."""
    if not data:
        return "closed", ""
    response = HTTPResponse(SimpleNamespace(makefile=lambda _: io.BytesIO(data)))
    try:
        response.begin()
        return str(response.status), response.read().decode(errors="replace")
    except (HTTPException, ValueError):
        return "broken", data.decode(errors="replace")


def content(text: str) -> str:
    """The letters of a streamed answer, put together."""
    return "".join(re.findall("[a-z]+", "".join(re.findall(r'"content": ?"(.*?)"[,}]', text))))


class Client:
    """One of the crowd: it sends one request after the other, each on a connection of its own."""

    def __init__(self, target: Target, rng: random.Random, report: Report):
        self.target, self.rng, self.report = target, rng, report

    async def live(self, until: float) -> None:
        """Act at random until the time `until`."""
        while time.monotonic() < until:
            name = self.rng.choices(list(ACTS), list(ACTS.values()))[0]
            self.word = "zq" + "".join(self.rng.choices("abcdefghijklmnopqrstuvwxyz", k=10))
            self.report.words.add(self.word)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    outcome = await getattr(self, name)()
            except TimeoutError:
                outcome = "timeout"
            except OSError:  # the server has closed the connection
                outcome = "closed"
            self.report.outcomes[name][outcome] += 1
            if outcome in OUTCOMES_WITH_FAULT:
                self.report.faults.append(f"{name}: status {outcome}")
            await asyncio.sleep(self.rng.expovariate(2))

    async def send(self, data: bytes) -> str:
        """Send a whole request and read the whole reply; returns its status."""
        status, text = parse(await self.exchange(data))
        if status.startswith("5"):
            self.report.faults.append(f"{status}: {text[:300]}")
        self.text = text
        self.check_words(text)
        return status

    def check_words(self, text: str) -> None:
        """Note it if a reply holds the word of another request."""
        if strangers := set(WORD.findall(text + content(text))) & self.report.words - {self.word}:
            self.report.faults.append(f"another's word: {strangers} instead of {self.word}")

    async def exchange(self, data: bytes) -> bytes:
        """What the server answers until it closes the connection."""
        async with self.connection() as (reader, writer):
            writer.write(data)
            with suppress(ConnectionError):  # an early refusal is there to be read all the same
                await writer.drain()
            return await reader.read()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection to the server; its end does not wait for the server."""
        reader, writer = await asyncio.open_connection(*self.target.address)
        try:
            yield reader, writer
        finally:
            writer.close()

    # What well-behaved clients do.

    async def ask(self) -> str:
        return await self.send(self.target.request(self.target.chat(self.word)))

    async def ask_forced(self) -> str:
        stream = self.rng.random() < 0.5
        status = await self.send(self.target.request(self.target.forced(self.word, stream=stream)))
        self.expect_word(status)
        return status

    async def ask_tool(self) -> str:
        function = {"name": self.word, "parameters": constant(self.word)}
        choice = {"type": "function", "function": {"name": self.word}}
        tools = [{"type": "function", "function": function}]
        body = self.target.chat(self.word, tools=tools, tool_choice=choice, max_tokens=90)
        status = await self.send(self.target.request(body))
        self.expect_word(status)
        return status

    def expect_word(self, status: str) -> None:
        """Note it if a forced answer does not hold the word."""
        if status == "200" and self.word not in self.text + content(self.text):
            self.report.faults.append(f"{self.word} is missing: {self.text[:300]}")

    # What rough clients do.

    async def half_head(self) -> str:
        data = self.target.request(self.target.chat(self.word))
        return await self.leave_after(data[: self.rng.randrange(1, 60)])

    async def half_body(self) -> str:
        data = self.target.request(self.target.chat(self.word))
        return await self.leave_after(data[: -self.rng.randrange(1, 40)])

    async def hang_up(self) -> str:
        stream = self.rng.random() < 0.5
        body = self.target.chat(self.word, max_tokens=400, stream=stream)
        return await self.leave_after(self.target.request(body))

    async def leave_after(self, data: bytes) -> str:
        """Send `data`, wait, and leave: by a proper end or by a reset."""
        async with self.connection() as (_, writer):
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(self.rng.expovariate(1))
            if self.rng.random() < 0.5:
                linger = struct.pack("ii", 1, 0)
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                return "reset"
            return "left"

    async def drip(self) -> str:
        data = self.target.request(self.target.forced(self.word))
        async with self.connection() as (reader, writer):
            for start in range(0, len(data), 20):
                writer.write(data[start : start + 20])
                await writer.drain()
                await asyncio.sleep(0.02)
            status, self.text = parse(await reader.read())
        self.expect_word(status)
        return status

    async def read_slowly(self) -> str:
        body = self.target.chat(self.word, max_tokens=30, stream=True)
        received = b""
        async with self.connection() as (reader, writer):
            writer.write(self.target.request(body))
            while (piece := await reader.read(200)) and len(received) < 4000:
                received += piece
                await asyncio.sleep(0.1)
        self.check_words(received.decode(errors="replace"))
        return received[9:12].decode() or "closed"

    async def send_garbage(self) -> str:
        garbage = [self.rng.randbytes(500), b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"\r\n" * 50]
        status, _ = parse(await self.exchange(self.rng.choice(garbage) + b"\r\n\r\n"))
        return status

    async def send_much(self) -> str:
        size = self.rng.choice([20, 20, 20, 40]) * 10**6
        text = f"{self.word} ".encode() * (size // 13)
        return await self.send(self.target.request(self.large(self.target.chat(HERE), text)))

    async def send_large_picture(self) -> str:
        return await self.send(self.target.request(self.large(self.picture(HERE), large_picture())))

    async def send_bad_picture(self) -> str:
        url = self.rng.choice(bad_pictures()).decode()
        return await self.send(self.target.request(self.picture(url)))

    def picture(self, url: str) -> dict:
        """A question about a picture."""
        picture = {"type": "image_url", "image_url": {"url": url}}
        parts = [{"type": "text", "text": f"{self.word}?"}, picture]
        return self.target.chat("", messages=[{"role": "user", "content": parts}])

    def large(self, body: dict, text: bytes) -> bytes:
        """A body with `text` for `HERE`; to encode it all as JSON would take the probe's time."""
        return json.dumps(body).encode().replace(HERE.encode(), text)

    async def send_bad_schema(self) -> str:
        schema = self.rng.choice(BAD_SCHEMAS)
        if self.rng.random() < 0.5:
            format_ = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
            body = self.target.chat(self.word, response_format=format_)
        else:
            function = {"name": "f", "parameters": schema, "strict": self.rng.random() < 0.5}
            tools = [{"type": "function", "function": function}]
            body = self.target.chat(self.word, tools=tools, tool_choice="required")
        return await self.send(self.target.request(body))

    async def send_bad_json(self) -> str:
        good = json.dumps(self.target.chat(self.word)).encode()
        bad = [good[:-1], b"[" * 10**5, b"\xff\xfe" + good, good[:-1] + b', "seed": ' + b"9" * 5000]
        bad += [good.replace(b"Say", b"\\ud800"), good.replace(b": 4", b": 1e999"), b"[]", b""]
        return await self.send(self.target.request(self.rng.choice(bad) + b"\r\n"))


ACTS = {  # methods of a client, and how often each comes
    "ask": 8,
    "ask_forced": 12,
    "ask_tool": 8,
    "half_head": 6,
    "half_body": 8,
    "hang_up": 10,
    "drip": 4,
    "read_slowly": 6,
    "send_garbage": 6,
    "send_much": 3,
    "send_large_picture": 2,
    "send_bad_picture": 6,
    "send_bad_schema": 8,
    "send_bad_json": 6,
}


async def probe(target: Target, report: Report, until: float) -> None:
    """Ask a small question every second until the time `until`."""
    client = Client(target, random.Random(), report)
    client.word = "zqprobeprobe"
    while time.monotonic() < until:
        start = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE_S):
                status = await client.send(target.request(target.chat(client.word, max_tokens=1)))
        except (OSError, TimeoutError) as error:
            status = repr(error)
        report.probes_s.append(time.perf_counter() - start)
        if status != "200":
            report.faults.append(f"the probe got {status}")
        await asyncio.sleep(1)


async def crowd(target: Target, clients: int, seconds: float, seed: int) -> Report:
    """Let `clients` act on a server for some time; returns what happened."""
    report = Report()
    _ = large_picture(), bad_pictures()  # these take a second, which is not the server's
    until = time.monotonic() + seconds
    lives = [Client(target, random.Random(f"{seed} {n}"), report) for n in range(clients)]
    await asyncio.gather(*(c.live(until) for c in lives), probe(target, report, until))
    report.faults = list(dict.fromkeys(report.faults))
    return report


def memory_and_files(process: psutil.Process) -> tuple[float, int]:
    """MB and open files of a server's process and of those that it has started."""
    family = [process, *process.children(recursive=True)]
    megabytes = sum(each.memory_info().rss for each in family) / 1e6
    return megabytes, sum(each.num_fds() for each in family)


def listening(port: int) -> psutil.Process | None:
    """The process that listens on a port of this machine."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            for connection in process.net_connections("tcp"):
                if connection.status == "LISTEN" and connection.laddr.port == port:
                    return process
    return None


def connected(server: str) -> Lab:
    """A server of the kit, started, or the one at an address."""
    if "://" in server:
        return connect("custom", base_url=server)  # CUSTOM_MODEL names the model
    return connect("pocket", batching=True) if server == "batching" else connect(server)


def print_report(report: Report) -> None:
    """The table of acts, and the times of the probe."""
    for name, outcomes in report.outcomes.items():
        counts = ", ".join(f"{outcome} x {n}" for outcome, n in sorted(outcomes.items()))
        print(f"{name:<24}{outcomes.total():>5}   {counts}")
    total = sum(outcomes.total() for outcomes in report.outcomes.values())
    print(f"{'all':<24}{total:>5}")
    times = report.probes_s or [float("nan")]
    print(f"small request: median {statistics.median(times):.2f} s, worst {max(times):.2f} s")


def main(arguments: list[str] | None = None) -> int:
    """Run the crowd; 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--server", default="batching", help="pocket, batching, openrouter-sim or an address"
    )
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    lab = connected(options.server)
    try:
        headers = {"Authorization": f"Bearer {lab.client.api_key}"}
        target = Target(str(lab.client.base_url).rstrip("/"), lab.model, headers)
        # First a shorter crowd: the server allocates what it keeps, such as its caches.
        asyncio.run(crowd(target, options.clients, options.seconds / 4, options.seed + 1))
        process = listening(target.address[1])
        before = memory_and_files(process) if process else None
        report = asyncio.run(crowd(target, options.clients, options.seconds, options.seed))
        print_report(report)
        after = Report()
        asyncio.run(probe(target, after, time.monotonic() + 3))
        print(f"when all have left: {max(after.probes_s):.2f} s")
        if max(after.probes_s) > PROBE_S:
            report.faults.append(f"a small request took more than {PROBE_S} s afterwards")
        if process:
            now = memory_and_files(process)
            print(f"memory {before[0]:.0f} -> {now[0]:.0f} MB, open files {before[1]} -> {now[1]}")
            if now[0] - before[0] > KEPT_MB:
                report.faults.append(f"more than {KEPT_MB} MB are kept")
    finally:
        lab.close()
    for fault in report.faults + after.faults:
        print("fault:", fault)
    return bool(report.faults + after.faults)


if __name__ == "__main__":
    sys.exit(main())
