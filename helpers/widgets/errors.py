"""What failed in a live widget, and what to do, in words for a page."""

from typing import TYPE_CHECKING

import httpx2
import openai

from helpers.backends import BACKENDS
from helpers.connection import choices
from helpers.connection.client import GONE, BackendError
from helpers.connection.no_answer import explain_no_answer
from helpers.openrouter import explain
from helpers.replies import without_key

if TYPE_CHECKING:
    from helpers.backends import Lab

OPENROUTER = ("openrouter", "openrouter-sim")  # whose pages the words of `explain` name


def words(error: Exception, lab: "Lab", started: bool = False) -> str:
    """What happened and what to do, in two or three sentences, without a key.

    Args:
        error: what a request or a tool loop raised.
        lab: whose request it was.
        started: whether a part of the answer had arrived.
    """
    url = httpx2.URL(str(lab.client.base_url).rstrip("/"))
    if isinstance(error, (openai.APIConnectionError, httpx2.TransportError)) and not started:
        return without_key(explain_no_answer(url, error, BACKENDS[lab.backend].setup_hint), error)
    advice = explain(error)
    if getattr(error, "type", None) == GONE:
        return without_key(advice.server, error)
    action = advice.action
    if advice.code in (401, 403) and lab.backend not in OPENROUTER:
        action = f"{url} {_about_key(lab)}"
    said = f" The server says: “{advice.server.rstrip('.')}”." if advice.server else ""
    return without_key(f"{advice.summary.rstrip('.')}.{said} {action}", error)


def _about_key(lab: "Lab") -> str:
    try:
        return choices.advice(lab.backend, choices.key(lab.backend)).key
    except BackendError as error:
        return f"refuses the key. {error}"
