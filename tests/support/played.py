"""A chat server that is played within the process: an openai client gets these replies in turn."""

import json
from collections.abc import Iterable

import httpx2
import openai

KEY = "sk-played-0123456789abcdef"


class Played:
    """An openai `client` whose requests are answered by `replies` and noted in `requests`."""

    def __init__(self, *replies: httpx2.Response):
        self.replies, self.requests = list(replies), []
        transport = httpx2.MockTransport(self._answer)
        self.client = openai.OpenAI(
            base_url="http://played.invalid/v1",
            api_key=KEY,
            max_retries=0,
            http_client=httpx2.Client(transport=transport, follow_redirects=True),
        )
        self.model = "m"  # so that it can serve as a `Lab`

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return self.replies.pop(0)


def reply(body: object, status: int = 200, headers: dict | None = None) -> httpx2.Response:
    """A reply with these bytes, or with this value as JSON; of the type JSON unless it is named."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json"} | (headers or {})
    return httpx2.Response(status, content=iter([content]), headers=headers)


def stream(pieces: Iterable[bytes], content_type: str = "text/event-stream") -> httpx2.Response:
    """A reply whose bytes come in these pieces."""
    return httpx2.Response(200, content=iter(pieces), headers={"content-type": content_type})


def answer(text: object = "Hi.", usage: object = None, **choice: object) -> dict:
    """The body of a chat completion; `choice` replaces fields of its only choice."""
    message = {"role": "assistant", "content": text}
    body = {
        "id": "gen-1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message} | choice],
    }
    return body if usage is None else body | {"usage": usage}
