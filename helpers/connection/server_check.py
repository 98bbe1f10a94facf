"""Whether a server can be used, and which models it has."""

import difflib
import re
import warnings

import httpx2
import openai

from helpers.connection.client import PROXY_VARIABLES, BackendError, is_local, variables_present
from helpers.replies import objects_in

NOT_THERE, OUT_OF_ORDER = {404, 405, 501}, {429, 500, 502, 503, 504}
MOST_NAMED = 10  # a gateway can have hundreds of models


def check_server(client: openai.OpenAI, model: str, setup_hint: str, key_from: str) -> None:
    """Ask a server that costs nothing for its models, to report at once what is wrong.

    A list of models is a help and not a condition: a server without one is asked whether it has
    chat completions. A warning then says that the model was not checked.

    Args:
        model: the model that requests will name.
        setup_hint: what to do if no server answers.
        key_from: the environment variable of its key.

    Raises:
        BackendError: no server answers, it refuses the key, it has no chat completions, or it does
            not have the model.
    """
    url = str(client.base_url)
    proxies = [] if is_local(url) else variables_present(PROXY_VARIABLES)
    url += f" (asked through the proxy in {' or '.join(proxies)})" if proxies else ""
    client = client.with_options(timeout=5, max_retries=0)
    try:
        list_status, reply = _status_and_json(client.get, "/models")
        models = _model_ids(reply)
        if not models:
            # A server of this protocol refuses an empty request. It costs nothing.
            chat_status, refusal = _status_and_json(client.post, "/chat/completions", body={})
            _check_chat(url, list_status, chat_status, refusal)
    except openai.APIConnectionError as error:
        cause = re.sub(r"^\[Errno -?\d+\] ", "", str(error.__cause__ or error))
        hint = f"What to do: {setup_hint}"
        if "SSL" in cause:
            hint = "Does it begin with http:// and not https://? Is its certificate its own?"
        raise BackendError(f"No server answers at {url}: {cause}. {hint}") from error
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise BackendError(
            f"{url} refuses the key. It is read from the environment variable {key_from}."
        ) from error
    if not models:
        warnings.warn(
            f"The server at {url} does not list its models, so {model!r} was not checked. If the "
            "server has no such model, requests will fail.",
            stacklevel=4,  # the line that called `connect`
        )
    elif not {model, f"{model}:latest"} & set(models):
        near = difflib.get_close_matches(model, models, MOST_NAMED, 0.4)
        named = list(dict.fromkeys([*near, *models]))[:MOST_NAMED]
        more = f" and {len(models) - len(named)} more" if len(models) > len(named) else ""
        raise BackendError(
            f"The server at {url} does not have {model!r}. It has: {', '.join(named)}{more}. "
            "Choose one with connect(…, model=…)."
        )


def _status_and_json(send, path: str, **options) -> tuple[int, object]:
    """The status of a reply and its JSON, or None if it is no JSON.

    Raises:
        openai.APIConnectionError: no reply came.
        openai.AuthenticationError, openai.PermissionDeniedError: status 401 or 403.
    """
    try:
        response = send(path, cast_to=httpx2.Response, **options)
    except (openai.AuthenticationError, openai.PermissionDeniedError):
        raise
    except openai.APIStatusError as error:
        response = error.response
    try:
        return response.status_code, response.json()
    except ValueError:
        return response.status_code, None


def _check_chat(url: str, list_status: int, status: int, refusal: object) -> None:
    """Raise `BackendError` unless an empty chat request was refused as this protocol does it."""
    if {list_status, status} <= OUT_OF_ORDER:
        raise BackendError(
            f"{url} answers with status {status}, so it cannot be used now. Try again later, or "
            "look at the server's own messages."
        )
    # Some servers answer an empty request with 500.
    if status in NOT_THERE or (status < 500 and not isinstance(refusal, dict)):
        raise BackendError(
            f"{url} answers, but not as an OpenAI-compatible server: it has neither a list of "
            "models nor chat completions. Does the address end in /v1?"
        )


def _model_ids(reply: object) -> list[str]:
    """The ids in a reply to `/models`: `{"data": [{"id": …}]}`, or that list alone."""
    entries = objects_in(reply.get("data") if isinstance(reply, dict) else reply)
    return [entry["id"] for entry in entries if isinstance(entry.get("id"), str)]
