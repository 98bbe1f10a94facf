"""Bodies of chat requests, read as the server reads them, without a model."""

import json

import pytest

from pocket_model.build import MODEL_ID
from pocket_model.server.errors import ApiError
from pocket_model.server.protocol import ChatRequest, read_request

ID = "Ab3dE6gH9"
ASK = {"role": "user", "content": "Hi"}
SYSTEM = {"role": "system", "content": "Be brief."}
REPLY = {"role": "assistant", "content": "Hello"}
RESULT = {"role": "tool", "tool_call_id": ID, "content": "done"}
PARTS = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
PICTURE = {"type": "image_url", "image_url": {"url": "data:,"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def read(*messages, **fields) -> ChatRequest:
    """The request with these messages, else a question, and these parameters."""
    body = {"model": MODEL_ID, "messages": list(messages) or [ASK]} | fields
    return read_request(json.dumps(body).encode())


def refusal(*messages, **fields) -> dict:
    """The error that such a request ends in."""
    with pytest.raises(ApiError) as error:
        read(*messages, **fields)
    assert error.value.status == 400
    return error.value.body["error"]


def called(arguments="{}", call_id=ID, **fields) -> dict:
    """An assistant message with a call."""
    call = {"id": call_id, "type": "function", "function": {"name": "f", "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]} | fields


def schema(value) -> dict:
    """A response format."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": value}}
