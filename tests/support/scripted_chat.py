"""A chat server whose replies a test writes, with its faults: it is slow, silent or hangs up."""

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from helpers.backends import ALL_FEATURES, Lab
from helpers.connection.client import make_client

MODEL = "scripted-model"
USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
HANG = object()  # in a script: the server sends nothing more


def chunk(delta: dict, finish_reason: str | None = None, **more) -> dict:
    """A piece of a streamed answer."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    head = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": MODEL}
    return head | {"choices": [choice]} | more


def says(*texts: str, reason: str = "stop") -> list:
    """The pieces of an answer, and its usage."""
    return [*(chunk({"content": text}) for text in texts), chunk({}, reason, usage=USAGE)]


def calls(*deltas: dict) -> list:
    """The pieces of tool calls, and their usage."""
    pieces = [chunk({"tool_calls": [delta]}) for delta in deltas]
    return [*pieces, chunk({}, "tool_calls", usage=USAGE)]


def whole(pieces: list) -> dict:
    """The text of a stream as one answer."""
    text = "".join(piece["choices"][0]["delta"].get("content") or "" for piece in pieces)
    choice = {"index": 0, "message": {"role": "assistant", "content": text}}
    choice |= {"finish_reason": "stop"}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": [choice],
    }


class ScriptedChat(http.server.ThreadingHTTPServer):
    """The server.

    Attributes:
        script: the next answers, each a list of chunks, or (status, body) for an error.
        pause_s: seconds before each chunk.
        seen: the bodies of the requests.
        hung_up: set when a client closed its connection before its answer was complete.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.seen, self.pause_s = [], [], 0.0
        self.hung_up, self.ended = threading.Event(), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address):
        """A client that hangs up is no error here."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        server.seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        answer = server.script.pop(0) if server.script else says("yes")
        if answer and answer[0] is HANG:
            return self._hang()
        if isinstance(answer, tuple):
            return self._whole(*answer)
        if not server.seen[-1].get("stream"):
            return self._whole(200, whole(answer))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for piece in answer:
                if piece is HANG:
                    return self._hang()
                time.sleep(server.pause_s)
                self.wfile.write(f"data: {json.dumps(piece)}\n\n".encode())
                self.wfile.flush()
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            server.hung_up.set()

    def _whole(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _hang(self):
        self.connection.settimeout(0.05)
        while not self.server.ended.is_set():
            try:
                if not self.connection.recv(1):
                    self.server.hung_up.set()
                    return
            except TimeoutError:
                pass
            except OSError:
                self.server.hung_up.set()
                return

    def log_message(self, *args):
        pass


@contextmanager
def running() -> Iterator[ScriptedChat]:
    """A server while the block runs."""
    server = ScriptedChat()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()


def lab_of(url: str, backend: str = "custom", without: tuple = (), key: str = "k" * 20) -> Lab:
    """A `Lab` of a server, without asking it for its models."""
    supports = frozenset(ALL_FEATURES) - set(without)
    return Lab(backend, make_client(url, key), MODEL, supports, "a test")
