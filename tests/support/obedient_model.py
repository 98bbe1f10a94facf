"""A model in place of a real one that does what its request says, behind a real HTTP server.

It counts words as tokens, calls the first tool that it is offered, repeats a tool's result, names
the color of an image's middle, and fills a JSON schema. So a test can swap one thing in a request
and see what follows.
"""

import base64
import http.server
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from helpers.backends import ALL_FEATURES, Lab
from helpers.connection.client import make_client

MODEL = "obedient-model"


def parts(message: dict) -> list[dict]:
    """The parts of a message's content."""
    content = message.get("content") or ""
    return content if isinstance(content, list) else [{"type": "text", "text": content}]


def color_of(url: str) -> str:
    """The color of the middle of a PNG."""
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")
    red, _, blue = image.getpixel((image.width // 2, image.height // 2))
    return "red" if red > blue else "blue"


def reply_to(body: dict) -> dict:
    """The message that answers a request."""
    every = [part for message in body["messages"] for part in parts(message)]
    results = [m["content"] for m in body["messages"] if m["role"] == "tool"]
    if results:
        return {"role": "assistant", "content": f"It is {results[-1]}."}
    if tools := body.get("tools"):
        function = tools[0]["function"]
        properties = function["parameters"]["properties"]
        given = {name: value_of(schema) for name, schema in properties.items()}
        call = {"name": function["name"], "arguments": json.dumps(given)}
        calls = [{"id": "abcdefgh1", "type": "function", "function": call}]
        return {"role": "assistant", "content": None, "tool_calls": calls}
    if schema := body.get("response_format", {}).get("json_schema"):
        given = {n: value_of(s) for n, s in schema["schema"]["properties"].items()}
        return {"role": "assistant", "content": json.dumps(given)}
    for part in every:
        if part["type"] == "image_url":
            return {"role": "assistant", "content": color_of(part["image_url"]["url"])}
    return {"role": "assistant", "content": f"{len(body['messages'])} messages"}


def value_of(schema: dict):
    """A value that a property's schema accepts."""
    return schema["enum"][0] if "enum" in schema else 20 if schema["type"] == "number" else "Oslo"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers each request by `reply_to`, or with the server's error."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append(body)
        words = sum(len(p.get("text", "").split()) for m in body["messages"] for p in parts(m))
        usage = {"prompt_tokens": words + 4, "completion_tokens": 1, "total_tokens": words + 5}
        status, answer = self.server.error or (
            200,
            {
                "id": "1", "object": "chat.completion", "created": 0, "model": MODEL,
                "choices": [{"index": 0, "message": reply_to(body), "finish_reason": "stop"}],
                "usage": usage,
            },
        )  # fmt: skip
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Nothing is printed."""


class Server(http.server.ThreadingHTTPServer):
    """`seen` has the bodies of the requests; `error` is a (status, body) to answer with."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen, self.error = [], None


@contextmanager
def serving() -> Iterator[tuple[Lab, Server]]:
    """A lab of this model, and its server."""
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = make_client(f"http://127.0.0.1:{server.server_port}/v1", "no-key")
    try:
        yield Lab("custom", client, MODEL, frozenset(ALL_FEATURES), "a test"), server
    finally:
        client.close()
        server.shutdown()
        server.server_close()
