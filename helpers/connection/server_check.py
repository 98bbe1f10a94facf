"""Whether a server can be used, and which models it has."""

import difflib
import re
import warnings
from dataclasses import dataclass

import httpx2
import openai

from helpers.connection.client import BackendError
from helpers.connection.no_answer import explain_no_answer, with_proxy
from helpers.replies import objects_in

NOT_THERE = {404, 405, 501}
OUT_OF_ORDER = {429, 500, 502, 503, 504, *range(520, 531)}  # the last ones are Cloudflare's
MOST_NAMED = 10  # a gateway can have hundreds of models
# A busy server may answer late; an address that is wrong should not take long.
TIMEOUT = httpx2.Timeout(20, connect=5)


@dataclass(frozen=True)
class Advice:
    """What a user can do, for the messages about one backend.

    Attributes:
        start: what starts a server of this kind.
        key: what it means if the server refuses the key, and what to do.
        model: how to choose a model.
    """

    start: str
    key: str
    model: str


def check_server(client: openai.OpenAI, model: str | None, advice: Advice) -> list[dict]:
    """Ask a server that costs nothing for its models, to report at once what is wrong.

    A list of models is a help and not a condition: a server without one is asked whether it has
    chat completions. A warning then says that the model was not checked.

    Args:
        model: the model that requests will name; None for the only one that the server has.

    Returns:
        What the server says of its models: dictionaries with an `id`.

    Raises:
        BackendError: no server answers, it refuses the key, it has no chat completions, or it does
            not have the model.
    """
    address = httpx2.URL(str(client.base_url).rstrip("/"))
    url = with_proxy(address)
    client = client.with_options(timeout=TIMEOUT, max_retries=0)
    try:
        listed = _ask(client.get, "/models")
        _check_redirect(listed, address)
        entries = _models(listed)
        if not entries:
            # A server of this protocol refuses an empty request. It costs nothing.
            refusal = _ask(client.post, "/chat/completions", body={})
            if problem := _no_chat(listed, refusal):
                raise BackendError(f"{url} {_missing_v1(client, address) or problem}")
    except openai.APIConnectionError as error:
        raise BackendError(explain_no_answer(address, error, advice.start)) from error
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise BackendError(f"{url} {_refusal(error) or advice.key}") from error
    _check_model(url, [entry["id"] for entry in entries], model, advice)
    return entries


def _ask(send, path: str, **options) -> httpx2.Response:
    """A server's reply, whatever its status.

    Raises:
        openai.APIConnectionError: no reply came.
        openai.AuthenticationError, openai.PermissionDeniedError: status 401 or 403.
    """
    try:
        return send(path, cast_to=httpx2.Response, **options)
    except (openai.AuthenticationError, openai.PermissionDeniedError):
        raise
    except openai.APIStatusError as error:
        return error.response


def _check_redirect(reply: httpx2.Response, asked: httpx2.URL) -> None:
    """Raise `BackendError` if the server sends requests to another address.

    A request with a body would arrive there as a GET without it.
    """
    new = reply.url
    if reply.history and (new.scheme, new.host) != (asked.scheme, asked.host):
        address = str(new.copy_with(query=None)).removesuffix("/models")
        raise BackendError(
            f"{asked} sends every request on to {address}. Use that address, if it is the server's "
            "and not a page to log in."
        )


def _no_chat(listed: httpx2.Response, refusal: httpx2.Response) -> str | None:
    """What is wrong, unless an empty chat request was refused as this protocol does it."""
    statuses = {listed.status_code, refusal.status_code}
    # Some servers answer an empty request with 500.
    refused = refusal.status_code >= 500 or isinstance(_json(refusal), dict)
    if refused and refusal.status_code not in NOT_THERE and not statuses <= OUT_OF_ORDER:
        return None
    page = next((reply for reply in (listed, refusal) if _is_page(reply)), None)
    if page is not None:
        title = re.search(r"<title[^>]*>([^<]{1,60})", page.text, re.IGNORECASE)
        name = f' "{title[1].strip()}"' if title and title[1].strip() else ""
        return f"answers with a web page{name} (status {page.status_code}). {_TUNNEL}"
    if statuses <= OUT_OF_ORDER:
        return (
            f"answers with status {refusal.status_code}, so it cannot be used now. Try again "
            "later, or look at the server's own messages."
        )
    return (
        "answers, but not as an OpenAI-compatible server: it has neither a list of models nor chat "
        "completions. Check the port and the path; the path usually ends in /v1."
    )


_TUNNEL = (
    "Open the address in a browser to see what it says. If it is a tunnel: is it still running, "
    "does its server run, and does it ask visitors to confirm something?"
)


def _missing_v1(client: openai.OpenAI, address: httpx2.URL) -> str | None:
    """What is wrong, if the server is at this address with /v1."""
    if address.path.endswith("/v1"):
        return None
    try:
        found = _models(_ask(client.get, f"{address}/v1/models"))
    except (openai.AuthenticationError, openai.PermissionDeniedError):
        found = True
    return f"lacks the path of the server. Use {address}/v1 as the address." if found else None


def _refusal(error: openai.APIStatusError) -> str | None:
    """Why a server refuses a request with status 401 or 403, if it is not the key."""
    reply = error.response
    if _is_page(reply):
        return f"refuses the request with a web page (status {reply.status_code}). {_TUNNEL}"
    # The client takes the object "error" out of the body, if there is one.
    message = error.body.get("message") if isinstance(error.body, dict) else None
    if reply.status_code == 403 and isinstance(message, str) and message:
        return f'refuses the request: "{message[:300]}"'
    return None


def _check_model(url: str, models: list[str], model: str | None, advice: Advice) -> None:
    """Raise `BackendError` if the server does not have the model, or has several and none is set.

    A server that lists no models gets a warning.
    """
    if not models and model is None:
        raise BackendError(f"{url} does not list its models. Name the model. {advice.model}")
    if not models:
        warnings.warn(
            f"The server at {url} does not list its models, so {model!r} was not checked. If the "
            "server has no such model, requests will fail.",
            stacklevel=5,  # the line that called `connect`
        )
        return
    near = difflib.get_close_matches(model or "", models, MOST_NAMED, 0.4)
    named = list(dict.fromkeys([*near, *models]))[:MOST_NAMED]
    more = f" and {len(models) - len(named)} more" if len(models) > len(named) else ""
    has = f"{', '.join(named)}{more}"
    if model is None and len(models) > 1:
        raise BackendError(f"The server at {url} has several models: {has}. {advice.model}")
    if model is not None and not {model, f"{model}:latest"} & set(models):
        raise BackendError(
            f"The server at {url} does not have {model!r}. It has: {has}. {advice.model}"
        )


def _is_page(reply: httpx2.Response) -> bool:
    """Whether a reply is a web page, which no server of this protocol sends."""
    return reply.text.lstrip()[:100].lower().startswith(("<!doctype html", "<html"))


def _json(reply: httpx2.Response) -> object:
    """A reply's JSON, or None if it is no JSON."""
    try:
        return reply.json()
    except ValueError:
        return None


def _models(reply: httpx2.Response) -> list[dict]:
    """The models in a reply to `/models`: `{"data": [{"id": …}]}`, or that list alone."""
    listed = _json(reply)
    entries = objects_in(listed.get("data") if isinstance(listed, dict) else listed)
    return [entry for entry in entries if isinstance(entry.get("id"), str)]
