"""A scripted server: streams in which every time is known, to test latency tools.

    python benchmarks/scripted_server.py --port 0

It speaks the chat-completions protocol on loopback and plays a script instead of a model. The
request's `model` is the name of the script. Each piece is sent at its own deadline, counted from
the arrival of the request, so a late piece does not delay those after it. `GET /v1/models` lists
the scripts. "steady-TTFT-N-GAP" is made on request: N tokens, the first after TTFT milliseconds,
then one every GAP milliseconds.
"""

import argparse
import asyncio
import contextlib
import json
import re
import selectors

USAGE = {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}
STEADY = re.compile(r"steady-(\d+)-(\d+)-(\d+(?:\.\d+)?)")
CUT = object()  # in place of a piece: close the connection
TOOL = {"index": 0, "id": "abcDEF123", "function": {"name": "add", "arguments": '{"a": 1}'}}


def chunk(delta: dict | None = None, finish: str | None = None, **extra) -> bytes:
    """One event of a stream; without a delta it has no choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    head = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "scripted"}
    return event({**head, "choices": choices, **extra})


def event(data: object) -> bytes:
    """One event of a stream, with any data."""
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


DONE = b"data: [DONE]\n\n"
ROLE = chunk({"role": "assistant", "content": ""})
COMMENT = b": PROCESSING\n\n"
ACCENT = chunk({"content": "é"})
SPLIT = ACCENT.index("é".encode()) + 1  # inside the character's two bytes
STOP = chunk({}, "stop")

BUSY_WAIT_S, FEW_STREAMS = 0.002, 4

# A reply without a length: a cut connection looks like its end.
WITHOUT_LENGTH = ("truncated",)

# Milliseconds after the request, and the piece that is sent then.
SCRIPTS: dict[str, list[tuple[float, object]]] = {
    "golden": [
        (100, ROLE),
        (300, chunk({"content": "A"})),
        (340, chunk({"content": "BCD"})),
        (345, STOP),
        (346, chunk(usage=USAGE)),
        (350, DONE),
    ],
    "comments": [
        (20, COMMENT),
        (40, COMMENT),
        (60, ROLE),
        (80, COMMENT),
        (100, chunk({"content": "A"})),
        (120, COMMENT),
        (130, chunk({"content": "BCD"})),
        (130, STOP),
        (130, chunk(usage=USAGE)),
        (140, DONE),
    ],
    "split": [
        (20, ROLE),
        (100, ACCENT[:SPLIT]),
        (120, ACCENT[SPLIT:]),
        (150, chunk({"content": "BCD"})),
        (150, STOP),
        (150, chunk(usage=USAGE)),
        (160, DONE),
    ],
    "usage on a chunk": [
        (20, ROLE),
        (100, chunk({"content": "A"})),
        (130, chunk({"content": "BCD"}, "stop", usage=USAGE)),
        (140, DONE),
    ],
    "error": [
        (20, ROLE),
        (100, chunk({"content": "A"})),
        (120, event({"error": {"message": "the provider failed", "code": 502}})),
        (120, CUT),
    ],
    "reasoning": [
        (20, ROLE),
        (100, chunk({"reasoning": "hm"})),
        (130, chunk({"content": "BCD"}, "stop")),
        (130, chunk(usage=USAGE)),
        (140, DONE),
    ],
    "tool call": [
        (20, ROLE),
        (100, chunk({"tool_calls": [{**TOOL, "function": {"name": "add", "arguments": ""}}]})),
        (130, chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a": 1}'}}]})),
        (130, chunk({}, "tool_calls")),
        (130, chunk(usage=USAGE)),
        (140, DONE),
    ],
    "no usage": [(20, ROLE), (100, chunk({"content": "A"})), (130, STOP), (140, DONE)],
    "truncated": [(20, ROLE), (100, chunk({"content": "A"})), (110, CUT)],
    "cut": [(20, ROLE), (100, chunk({"content": "A"})), (110, CUT)],
    "stall": [(20, ROLE), (100, chunk({"content": "A"})), (60_000, STOP)],
    "garbage": [(20, ROLE), (100, chunk({"content": "A"})), (110, b"data: {not json\n\n")],
    "odd": [
        (20, ROLE),
        (100, chunk({"content": "A"})),
        (105, event(["no", "object"])),
        (110, DONE),
    ],
}


def script(name: str) -> list[tuple[float, object]] | None:
    """The script of that name, None if there is none."""
    if match := STEADY.fullmatch(name):
        first, count, gap = float(match[1]), int(match[2]), float(match[3])
        usage = {"prompt_tokens": 7, "completion_tokens": count, "total_tokens": 7 + count}
        pieces = [(first + n * gap, chunk({"content": f"w{n} "})) for n in range(count)]
        end = first + (count - 1) * gap
        return [(0, ROLE), *pieces, (end, STOP), (end, chunk(usage=usage)), (end, DONE)]
    return SCRIPTS.get(name)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection."""
    try:
        while await _answer(reader, writer):
            pass
    except (ConnectionError, asyncio.IncompleteReadError):
        pass  # the client has closed the connection
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Answer one request; whether the connection stays open."""
    loop = asyncio.get_running_loop()
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    length = re.search(r"(?i)content-length: *(\d+)", head)
    body = await reader.readexactly(int(length[1]) if length else 0)
    arrived = loop.time()
    if head.startswith("GET"):
        models = [{"id": name, "object": "model"} for name in SCRIPTS]
        _reply(writer, 200, {"object": "list", "data": models})
        return True
    try:
        name = json.loads(body)["model"]
    except (ValueError, KeyError, TypeError):
        _reply(writer, 400, {"error": {"message": "not a request with a model", "code": 400}})
        return False
    pieces = script(name)
    if pieces is None:
        _reply(writer, 404, {"error": {"message": f"no script {name!r}", "code": 404}})
        return True
    chunked = name not in WITHOUT_LENGTH
    form = b"Transfer-Encoding: chunked" if chunked else b"Connection: close"
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n%b\r\n\r\n" % form)
    for at_ms, piece in pieces:
        await _wait_until(arrived + at_ms / 1000)
        if piece is CUT:
            return False
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
    writer.write(b"0\r\n\r\n" if chunked else b"")
    await writer.drain()
    return chunked


async def _wait_until(due: float) -> None:
    """Wait until that time of the event loop's clock (s).

    `asyncio.sleep` ends about half a millisecond late. With few streams the last 2 ms are a busy
    wait instead. With many, that would take the CPU from the client.
    """
    loop = asyncio.get_running_loop()
    busy_s = BUSY_WAIT_S if len(asyncio.all_tasks()) <= FEW_STREAMS + 1 else 0.0
    if (sleep_s := due - loop.time() - busy_s) > 0:
        await asyncio.sleep(sleep_s)
    while busy_s and loop.time() < due:
        pass


def _reply(writer: asyncio.StreamWriter, status: int, body: dict) -> None:
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
    writer.write(head.encode() + b"\r\n\r\n" + data)


async def main(port: int) -> None:
    """Print the base URL and serve; port 0 is any free one."""
    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=0, help="0: any free one; it is printed")
    # epoll, asyncio's default, rounds its waits up to whole milliseconds; select does not.
    exact = asyncio.Runner(
        loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())
    )
    with contextlib.suppress(KeyboardInterrupt), exact as runner:
        runner.run(main(parser.parse_args().port))
