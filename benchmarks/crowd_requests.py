"""The requests of `crowd.py`: small ones, and pictures and schemas that are far too large."""

import base64
import functools
import io
import json
import random
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from PIL import Image


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

    def request(self, body: bytes | dict) -> bytes:
        """A request as bytes."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        headers = {
            "Host": "{}:{}".format(*self.address),
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            "Connection": "close",
            **self.headers,
        }
        lines = [f"{name}: {value}" for name, value in headers.items()]
        first = f"POST {urlsplit(self.url).path}/chat/completions HTTP/1.1"
        return "\r\n".join([first, *lines, "", ""]).encode() + data

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


def data_url(data: bytes) -> bytes:
    """A picture as part of a request."""
    return b"data:image/png;base64," + base64.b64encode(data)


def png(picture: Image.Image) -> bytes:
    """A picture as a PNG file."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


@functools.cache
def large_picture() -> bytes:
    """20 MB that do not compress."""
    pixels = random.Random(0).randbytes(2580 * 2580 * 3)
    return data_url(png(Image.frombytes("RGB", (2580, 2580), pixels)))


@functools.cache
def bad_pictures() -> list[bytes]:
    """Pictures that are too large, cut, of no known kind, or elsewhere."""
    return [
        data_url(png(Image.new("1", (30000, 30000)))),  # 100 KB, and 2.7 GB as RGB
        large_picture()[:3000],
        data_url(b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
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
    text_of(enum=[f"value {n}" for n in range(20000)]),
    text_of(minLength=10**9),
    {"type": "object", "properties": {"x": {"type": "array", "minItems": 10**9}}},
    {"type": "object", "anyOf": [nested(5)] * 500},
    {"type": "nothing"},
]
