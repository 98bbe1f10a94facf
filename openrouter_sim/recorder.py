"""A record of every request that the simulator got and of its reply."""

import json
from pathlib import Path

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# A file that every request and reply is appended to, as JSON lines. Not set: nothing is recorded.
LOG_VARIABLE = "MISTRAL_LAB_SIMULATOR_LOG"


class Recorder:
    """ASGI middleware that writes each request with its reply as one line of JSON.

    A test can compare the record with the service's own description of its API. Of the headers
    only X-Simulate is recorded, so that no key is written.
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
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
