"""A scripted web server."""

import http.server
import threading

import pytest


@pytest.fixture
def json_server():
    """A web server on loopback. It answers GET with `.answer` and `.status`, POST with `.chat`.

    `.paths` has answers for single paths, instead of `.answer`; a path that is not there then gets
    404, or `.moved_to`. `.seen` has the headers of each request.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.server.paths:
                answer = self.server.paths.get(self.path)
                self._send(200 if answer else 307 if self.server.moved_to else 404, answer or "{}")
            else:
                self._send(self.server.status, self.server.answer)

        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._send(*self.server.chat)

        def _send(self, status, text):
            self.server.seen.append(dict(self.headers))
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if status == 307:
                self.send_header("Location", self.server.moved_to)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.status, server.answer, server.chat, server.seen = 200, "{}", (404, "{}"), []
    server.paths, server.moved_to = {}, ""
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
