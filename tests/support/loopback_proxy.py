"""A proxy on loopback, and the environment variables that send every client to it."""

import contextlib
import http.server
import threading
import urllib.request
from collections.abc import Iterator

import pytest

PAGE = b"<html>Please log in to this network.</html>"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self._answer()

    def do_POST(self):
        self._answer()

    def do_CONNECT(self):
        self.server.seen.append(f"CONNECT {self.path}")
        self.send_error(403)

    def _answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or None
        self.server.seen.append(f"{self.command} {self.path}")
        answer = self._forward(body) if self.server.forwards else PAGE
        self.send_response(200)
        self.send_header("Content-Type", "application/json" if answer != PAGE else "text/html")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _forward(self, body: bytes | None) -> bytes:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.path, body, headers, method=self.command)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request) as reply:
            return reply.read()

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def proxy(*, forwards: bool) -> Iterator[list[str]]:
    """A proxy that the environment names; yields the list of requests that it has seen.

    Args:
        forwards: pass requests on, else answer every one with an HTML page and status 200.
    """
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.forwards = [], forwards
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("NO_PROXY", raising=False)
        patch.delenv("no_proxy", raising=False)
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            patch.setenv(name, url)
            patch.setenv(name.lower(), url)
        yield server.seen
    server.shutdown()
