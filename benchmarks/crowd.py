"""A crowd of rough clients: what a server answers them, and whether it stays well.

    python benchmarks/crowd.py --server batching --seconds 60

64 clients act at random, with a seed: half-sent heads and bodies, slow readers, hang-ups, wrong
content types and hosts, bodies of 20 and 40 MB, bombs in schemas, pictures and JSON. Among these
are requests whose answer is forced by a schema or a named tool: it must hold the request's own
word, and no reply may hold another's. A probe asks a small question again and again.

The script prints a table of acts by outcome, the times of the probe, and memory and open files of
the server before and after. It exits with 1 if there was a fault: a status 500 or 502, a word in
the wrong place, a probe without an answer, or more than 200 MB kept.
"""

import argparse
import asyncio
import base64
import functools
import io
import json
import os
import random
import re
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from urllib.parse import urlsplit

import psutil
from PIL import Image

KEPT_MB = 200
PROBE_S = 5.0  # for a small answer, when the crowd has left
PATIENCE_S = 90.0  # of a client
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


@dataclass
class Target:
    """A server: its base URL with /v1, the model to ask for, and further headers."""

    url: str
    model: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname, parts.port

    def request(self, body: bytes | dict, method: str = "POST", path: str = "", **headers) -> bytes:
        """A request as bytes; a header that is None is left out."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        all_headers = {
            "Host": "{}:{}".format(*self.address),
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            "Connection": "close",
            **self.headers,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        lines = [f"{name}: {value}" for name, value in all_headers.items() if value is not None]
        path = urlsplit(self.url).path + (path or "/chat/completions")
        return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode() + data

    def chat(self, word: str, **settings) -> dict:
        """The body of a request whose prompt holds `word`."""
        messages = [{"role": "user", "content": f"Say {word}."}]
        return {"model": self.model, "messages": messages, "max_tokens": 4} | settings

    def forced(self, word: str, **settings) -> dict:
        """The body of a request that can be answered in one way only."""
        schema = {"name": "word", "schema": constant(word)}
        format_ = {"type": "json_schema", "json_schema": schema}
        return self.chat(word, response_format=format_, max_tokens=60, **settings)


def constant(word: str) -> dict:
    """A schema that fits {"word": word} only."""
    fields = {"properties": {"word": {"const": word}}, "required": ["word"]}
    return {"type": "object", **fields, "additionalProperties": False}


class _Bytes:
    def __init__(self, data: bytes):
        self._data = data

    def makefile(self, _: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def parse(data: bytes) -> tuple[str, str]:
    """Status and text of a whole reply, or "closed" or "broken"."""
    if not data:
        return "closed", ""
    response = HTTPResponse(_Bytes(data))
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
        names = list(ACTS)
        weights = [weight for weight, _ in ACTS.values()]
        while time.monotonic() < until:
            name = self.rng.choices(names, weights)[0]
            self.word = "zq" + "".join(self.rng.choices("abcdefghijklmnopqrstuvwxyz", k=10))
            self.report.words.add(self.word)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    outcome = await ACTS[name][1](self)
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

    def connection(self) -> "Connection":
        """A connection to the server, closed at the end."""
        return Connection(self.target.address)

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

    async def wrong_type(self) -> str:
        kinds = [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
        data = self.target.chat(self.word)
        return await self.send(self.target.request(data, Content_Type=self.rng.choice(kinds)))

    async def come_from_a_page(self) -> str:
        headers = [
            {"Host": "evil.example"},
            {"Origin": "https://evil.example"},
            {"Sec_Fetch_Site": "cross-site"},
        ]
        data = self.target.chat(self.word)
        method = self.rng.choice(["POST", "OPTIONS"])
        return await self.send(self.target.request(data, method, **self.rng.choice(headers)))

    async def lose_the_way(self) -> str:
        path = self.rng.choice(["/responses", "/embeddings", "/models/x", "//x", "/%00", "/chat"])
        method = self.rng.choice(["GET", "POST", "DELETE", "PATCH"])
        return await self.send(self.target.request({}, method, path))

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


class Connection:
    """A connection as a context; its end does not wait for the server."""

    def __init__(self, address: tuple[str, int]):
        self.address = address

    async def __aenter__(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, self.writer = await asyncio.open_connection(*self.address, limit=2**16)
        return reader, self.writer

    async def __aexit__(self, *_) -> None:
        self.writer.close()


def data_url(data: bytes, kind: str = "png") -> bytes:
    """A picture as part of a request."""
    return b"data:image/%s;base64,%s" % (kind.encode(), base64.b64encode(data))


def png(picture: Image.Image) -> bytes:
    """A picture as a PNG file."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


@functools.cache
def large_picture() -> bytes:
    """20 MB that do not compress."""
    return data_url(png(noise()))


@functools.cache
def noise() -> Image.Image:
    """A picture of random pixels."""
    return Image.frombytes("RGB", (2580, 2580), random.Random(0).randbytes(2580 * 2580 * 3))


@functools.cache
def bad_pictures() -> list[bytes]:
    """Pictures that are too large, cut, of no known kind, or elsewhere."""
    return [
        data_url(png(Image.new("1", (30000, 30000)))),  # 100 KB, and 2.7 GB as RGB
        data_url(png(Image.new("L", (100000, 2)))),
        data_url(png(noise().crop((0, 0, 50, 50)))[:3000]),
        data_url(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "svg+xml"),
        b"data:image/png;base64,@@@",
        b"data:,",
        b"http://127.0.0.1:9/a.png",
        b"file:///etc/passwd",
    ]


def nested(depth: int) -> dict:
    """A schema of objects in objects."""
    schema: dict = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"x": schema}, "required": ["x"]}
    return schema


def doubling(steps: int) -> dict:
    """A schema whose references double at each step."""
    ends = {"d0": {"type": "string"}}
    for n in range(steps):
        ends[f"d{n + 1}"] = {"allOf": [{"$ref": f"#/$defs/d{n}"}] * 2}
    return {"$defs": ends, "type": "object", "properties": {"x": {"$ref": f"#/$defs/d{steps}"}}}


def text_of(**settings) -> dict:
    """A schema for an object with one text."""
    return {"type": "object", "properties": {"x": {"type": "string"} | settings}, "required": ["x"]}


BAD_SCHEMAS = [
    nested(20),
    nested(300),
    doubling(30),
    {"$ref": "#"},
    {"type": "object", "properties": {"x": {"$ref": "#"}}, "required": ["x"]},
    {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(5000)}},
    text_of(pattern="((a{1,1000}){1,1000}){1,1000}"),
    text_of(pattern="(a|a)*(?=b)"),
    text_of(enum=["y" * 10**6]),
    text_of(enum=[f"value {n}" for n in range(20000)]),
    text_of(minLength=10**9),
    text_of(format="x-unknown"),
    {"type": "object", "properties": {"x": {"type": "array", "minItems": 10**9}}},
    {"type": "object", "anyOf": [nested(5)] * 500},
    {"type": "nothing"},
]

Act = Callable[[Client], Awaitable[str]]
ACTS: dict[str, tuple[int, Act]] = {  # how often, and what
    "a small question": (8, Client.ask),
    "an answer by a schema": (12, Client.ask_forced),
    "a named tool": (8, Client.ask_tool),
    "half a head": (6, Client.half_head),
    "half a body": (8, Client.half_body),
    "a hang-up": (10, Client.hang_up),
    "a body bit by bit": (4, Client.drip),
    "a slow reader": (6, Client.read_slowly),
    "a wrong content type": (6, Client.wrong_type),
    "a web page": (6, Client.come_from_a_page),
    "a wrong path": (6, Client.lose_the_way),
    "garbage": (6, Client.send_garbage),
    "20 or 40 MB of text": (3, Client.send_much),
    "20 MB of picture": (2, Client.send_large_picture),
    "a bad picture": (6, Client.send_bad_picture),
    "a bad schema": (8, Client.send_bad_schema),
    "bad JSON": (6, Client.send_bad_json),
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


async def warm_up(target: Target) -> None:
    """Let the server allocate what it keeps: both caches of its engine fill up."""
    report = Report()
    long = "word " * 250
    lives = [Client(target, random.Random(n), report) for n in range(16)]
    for n, client in enumerate(lives):
        client.word = f"zqwarmup{n}"
    requests = [target.request(target.chat(long + c.word, max_tokens=8)) for c in lives]
    await asyncio.gather(*(c.send(r) for c, r in zip(lives, requests, strict=True)))
    await lives[0].send_large_picture()


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


@contextmanager
def started(server: str) -> Iterator[Target]:
    """A server of the kit on a free port, or the one at an address."""
    if "://" in server:
        yield Target(server, os.environ.get("MODEL", "pocket-small"))
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    if server == "simulator":
        command, path = ["openrouter_sim"], "api/v1"
        model = "mistralai/mistral-small-3.2-24b-instruct"
        headers = {"Authorization": "Bearer sk-or-v1-crowd-of-rough-clients"}
    else:
        command = ["pocket_model", "serve", *(["--batching"] if server == "batching" else [])]
        path, model, headers = "v1", "pocket-small", {}
    command = [sys.executable, "-m", *command, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError, HTTPException):
                connection = HTTPConnection("127.0.0.1", port)
                connection.request("GET", f"/{path}/models")
                if connection.getresponse().status == 200:
                    break
            time.sleep(0.1)
        else:
            raise SystemExit(f"The server did not start: {' '.join(command)}")
        yield Target(f"http://127.0.0.1:{port}/{path}", model, headers)
    finally:
        process.terminate()
        process.wait()


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
    parser.add_argument("--server", default="batching", help="pocket, batching, simulator or a URL")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with started(options.server) as target:
        asyncio.run(warm_up(target))
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
    for fault in report.faults + after.faults:
        print("fault:", fault)
    return bool(report.faults + after.faults)


if __name__ == "__main__":
    sys.exit(main())
