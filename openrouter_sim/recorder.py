"""A record of every request that the simulator got and of its reply."""

import json
import re
from pathlib import Path

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# A file that every request and reply is appended to, as JSON lines. Not set: nothing is recorded.
LOG_VARIABLE = "MISTRAL_LAB_SIMULATOR_LOG"

# What looks like a key of OpenRouter, or of another service whose key was sent by mistake.
_KEY = re.compile(r"\bsk-[A-Za-z0-9_-]{8,}")


class Recorder:
    """ASGI middleware that writes each request with its reply as one line of JSON.

    A test can compare the record with the service's own description of its API. Of the headers
    only X-Simulate is recorded. The request's own key, and whatever looks like a key, is replaced
    by [key] wherever it is, so that no key is written.
    """

    def __init__(self, app: ASGIApp, path: Path):
        self.app, self.path = app, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        reply, status = bytearray(), 0
        # The application does not read the body of a request that it refuses, so it is read here.
        request = Request(scope, receive)
        body = await request.body()
        replayed = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive_again() -> Message:
            return next(replayed, None) or await receive()

        async def send_and_keep(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            reply.extend(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive_again, send_and_keep)
        finally:
            line = {
                "method": scope["method"],
                "path": scope["path"],
                "simulate": request.headers.get("x-simulate", ""),
                "request": body.decode(errors="replace"),
                "status": status,
                "reply": reply.decode(errors="replace"),
            }
            own = request.headers.get("authorization", "").partition(" ")[2].strip()
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(without_keys(line, own)) + "\n")


def without_keys(line: dict, own: str) -> dict:
    """A record in which `own`, and all that looks like a key, is replaced by [key]."""

    def hidden(value: str | int) -> str | int:
        if not isinstance(value, str):
            return value
        return _KEY.sub("[key]", value.replace(own, "[key]") if len(own) > 4 else value)

    return {name: hidden(value) for name, value in line.items()}
