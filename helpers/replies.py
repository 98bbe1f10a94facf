"""What a chat server replies: an answer, pieces of one, an error, or something else.

Everything here works with any server of OpenAI's protocol.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import openai
import pydantic
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessage

ENDED_BY_ERROR = "the answer ended with finish_reason 'error' and no message"
NO_API = "This address answers, but not as an API of this kind."
# What the client raises for a reply of status 200 that is not complete JSON.
NOT_JSON = (json.JSONDecodeError, UnicodeDecodeError, RecursionError)
MAX_CHARACTERS = 500  # of a server's message: an error page can be long


class NoAnswer(RuntimeError):
    """A reply of status 200 that contains an error, or something else, instead of an answer.

    Attributes:
        error: the server's error object, {"code", "message", …}.
    """

    def __init__(self, error: object):
        self.error = error if isinstance(error, dict) else {"message": error_text(error)}
        super().__init__(error_text(self.error) or "no answer, and no error message")


def error_text(body: object) -> str:
    """The message in an error body, in whatever form the server has; "" if it has none."""
    if isinstance(body, dict):
        place = body.get("loc")
        if place and body.get("msg"):  # FastAPI's form, so also that of Mistral and vLLM
            place = ".".join(map(str, place)) if isinstance(place, list) else place
            return f"{place}: {error_text(body['msg'])}"
        names = ("message", "detail", "error", "errors", "msg", "Message", "title")
        text = next(filter(None, (error_text(body.get(name)) for name in names)), "")
        metadata = body.get("metadata")  # OpenRouter's, with the provider's own words
        raw = metadata.get("raw") if isinstance(metadata, dict) else metadata
        return " / ".join(filter(None, [text, error_text(raw)]))
    if isinstance(body, list):
        return "; ".join(filter(None, map(error_text, body)))[:MAX_CHARACTERS]
    text = "" if body is None else str(body)
    if text.lstrip().startswith("<"):  # a page, of a proxy for example
        text = re.sub(r"(?is)<(style|script)\b.*?</\1>|<[^>]*>", " ", text)
    return " ".join(text.split())[:MAX_CHARACTERS]


def server_message(error: openai.APIError) -> str:
    """The server's message in an error of the client, in one line; "" if there is none."""
    text = error_text(error.body)
    if not text and isinstance(error.body, dict):  # another form
        text = str({name: value for name, value in error.body.items() if value} or "")[
            :MAX_CHARACTERS
        ]
    if not text and not isinstance(error, openai.APIStatusError):
        text = error.message
    return without_key(text, error)


def without_key(text: str, error: Exception) -> str:
    """A server's words without the key of the request, which some servers repeat."""
    headers = getattr(getattr(error, "request", None), "headers", {})
    key = headers.get("authorization", "").removeprefix("Bearer ").strip()
    return text.replace(key, "…") if len(key) >= 16 else text


def error_line(error: Exception) -> str:
    """An error of a request in one line: its class, its message, the server's, its cause."""
    if isinstance(error, NOT_JSON):
        error = as_no_answer(error)
    line = f"{type(error).__name__}: {error}"
    server = server_message(error) if isinstance(error, openai.APIError) else ""
    for more in (server, error.__cause__ or ""):
        if str(more) not in line:
            line += f" ({more})"
    return without_key(line, error)


def as_no_answer(error: Exception) -> NoAnswer:
    """One of `NOT_JSON` as what it means: a reply without an answer."""
    begin = getattr(error, "doc", getattr(error, "object", str(error)))
    return NoAnswer({"message": f"the reply is not complete JSON: {begin[:80]!r}"})


def message(reply: ChatCompletion | str) -> ChatCompletionMessage:
    """The message of a reply, checked before it is taken.

    Raises:
        NoAnswer: the reply has status 200, and an error or something else instead of an answer.
    """
    if isinstance(reply, str) and reply.strip():  # what the client makes of a page, not JSON
        raise NoAnswer({"message": NO_API})
    choices = getattr(reply, "choices", None)
    choice = choices[0] if isinstance(choices, list) and choices else None
    # OpenRouter puts an error that came after acceptance into the choice.
    error = getattr(choice, "error", None)
    if not error and getattr(choice, "finish_reason", None) == "error":
        error = ENDED_BY_ERROR
    answer = getattr(choice, "message", None)
    if not error and hasattr(answer, "content"):
        return answer
    body = reply
    if isinstance(reply, pydantic.BaseModel):
        body = reply.model_dump(exclude_unset=True, warnings=False)
    if isinstance(body, dict):
        error = error or body.get("error") or (body if error_text(body) else None)
    raise NoAnswer(error or f"the reply has no answer: {str(body)[:80]}")


def objects_in(value: object) -> list[dict]:
    """The objects in a list of a reply; none if it is no list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def kinds_and_texts(delta: dict) -> list[tuple[str, str]]:
    """The texts of a delta or a message that are not empty, each after its kind.

    The kinds are "content", "reasoning" and "tool_call". `content` may be a list of parts, as
    Mistral's reasoning models send it. `reasoning` is the field of OpenRouter and vLLM,
    `reasoning_content` that of older servers.
    """
    pairs = [("reasoning", delta.get("reasoning") or delta.get("reasoning_content"))]
    content = delta.get("content")
    for part in objects_in(content) if isinstance(content, list) else [{"text": content}]:
        thought = part.get("thinking")
        thought = objects_in(thought) if isinstance(thought, list) else [{"text": thought}]
        pairs += [("reasoning", each.get("text")) for each in thought]
        pairs.append(("content", part.get("text")))
    for call in objects_in(delta.get("tool_calls")):
        function = call.get("function") if isinstance(call.get("function"), dict) else {}
        call = [function.get("name"), function.get("arguments")]
        pairs.append(("tool_call", "".join(text for text in call if isinstance(text, str))))
    return [(kind, text) for kind, text in pairs if isinstance(text, str) and text]


def text_of(content: object) -> str:
    """The text of a message's or a delta's `content`, be it a string, a list of parts or null."""
    pairs = kinds_and_texts({"content": content})
    return "".join(text for kind, text in pairs if kind == "content")


@dataclass
class Streamed:
    """What arrived of a stream, however it ended.

    Attributes:
        text: all the text that arrived.
        finish_reason: "stop", "length" …; None if the stream broke off.
        usage: the server's token counts and cost; None if they never came.
        error: what ended the stream early; None for a complete answer.
    """

    text: str = ""
    finish_reason: str | None = None
    usage: CompletionUsage | None = None
    error: Exception | None = None

    @property
    def complete(self) -> bool:
        """Whether the stream came to its end, be it the answer's own or that of `max_tokens`."""
        return self.error is None and self.finish_reason not in (None, "error")


def collect(
    stream: Iterable[ChatCompletionChunk],
    on_text: Callable[[str], None] = lambda text: None,
    result: Streamed | None = None,
) -> Streamed:
    """Read a stream to its end. After a failure, the result has the text before it and the error.

    A connection that closes too early ends the client's stream without any error: only the
    finish reason is missing. That is reported as a `ConnectionError` here.

    Args:
        stream: from `client.chat.completions.create(stream=True, …)`.
        on_text: called with each new piece of text.
        result: filled as the text arrives, so that the caller has the text after Ctrl-C too.
    """
    result = result or Streamed()
    chunks, chunk, failed = iter(stream), None, None
    while True:
        try:
            chunk = next(chunks)
        except StopIteration:
            break
        except Exception as error:  # the client does not wrap the transport's errors here
            result.error = as_no_answer(error) if isinstance(error, NOT_JSON) else error
            return result
        if isinstance(usage := getattr(chunk, "usage", None), CompletionUsage):
            result.usage = usage
        choices = getattr(chunk, "choices", None)
        for choice in choices if isinstance(choices, list) else []:
            if getattr(choice, "index", 0):
                continue  # of `n` answers, the first
            if isinstance(reason := getattr(choice, "finish_reason", None), str):
                result.finish_reason = reason
            failed = getattr(choice, "error", None) or failed
            if piece := text_of(getattr(getattr(choice, "delta", None), "content", None)):
                result.text += piece
                on_text(piece)
    if failed or result.finish_reason == "error":
        result.error = NoAnswer(failed or ENDED_BY_ERROR)
    elif chunk is None and (kind := _wrong_media_type(stream)):
        result.error = NoAnswer(f"the reply is no stream of events, but {kind}")
    elif result.finish_reason is None:
        result.error = ConnectionError("the stream ended without a finish reason: it was cut off")
    return result


def _wrong_media_type(stream: object) -> str:
    """The media type of a reply that is not an event stream; "" if it is one, or if unknown."""
    headers = getattr(getattr(stream, "response", None), "headers", {})
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return "" if kind == "text/event-stream" else kind
