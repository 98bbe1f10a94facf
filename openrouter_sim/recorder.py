"""TODO."""

import json
from pathlib import Path

from fastapi import Request

# A file that every request and reply is appended to, as JSON lines; none unless it is set.
LOG_VARIABLE = "MISTRAL_LAB_SIMULATOR_LOG"


class Recorder:
    """ASGI middleware: each request and its reply as a line of JSON.

    Of the headers only X-Simulate, so no key is written. What a program sent can be looked at, or
    held against the service's own description of its protocol.
    """

    def __init__(self, app, path: Path):
        self.app, self.path = app, path

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        told, status = bytearray(), 0
        # The application does not read the body of what it refuses, so it is read here.
        asked = await Request(scope, receive).body()
        replayed = iter([{"type": "http.request", "body": asked, "more_body": False}])

        async def heard():
            return next(replayed, None) or await receive()

        async def said(message) -> None:
            nonlocal status
            status = message.get("status", status)
            told.extend(message.get("body", b""))
            await send(message)

        simulated = dict(scope["headers"]).get(b"x-simulate", b"").decode()
        try:
            await self.app(scope, heard, said)
        finally:
            line = {
                "method": scope["method"],
                "path": scope["path"],
                "simulate": simulated,
                "request": asked.decode(errors="replace"),
                "status": status,
                "reply": told.decode(errors="replace"),
            }
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
