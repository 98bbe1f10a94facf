"""`connect`: which server answers. A table of backends, and a plain `openai.OpenAI` client.

Nothing wraps the client: what a notebook does with `lab.client` is what any program would do.
"""

import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx2
import openai

from helpers import budget, conformance_store, prices
from pocket_model import lease
from pocket_model.build import MODEL_ID, BuildError
from pocket_model.cache import CacheError

if TYPE_CHECKING:
    from openrouter_sim.app import Simulator

SMALL_3_2 = "mistralai/Mistral-Small-3.2-24B-Instruct-2506"


class BackendError(RuntimeError):
    """A backend cannot be used; the message says what happened and what to do next."""


@dataclass(frozen=True)
class Backend:
    """One row of the table: where a server is, what it needs, what its makers say it does."""

    title: str
    base_url: str | None = None
    key_variable: str | None = None
    model: str | None = None
    paid: bool = False
    documented: frozenset[str] = frozenset()
    setup_hint: str = ""


# Every feature that the conformance suite tries, in its order.
ALL_FEATURES = (
    "stream",
    "stop",
    "seed",
    "max_tokens",
    "usage",
    "conversation",
    "errors",
    "context_overflow",
    "parallel",
    "tools",
    "tool_choice",
    "structured_output",
    "vision",
)
_EVERYTHING = frozenset(ALL_FEATURES)

BACKENDS: dict[str, Backend] = {
    "pocket": Backend(
        "the embedded small model, on this machine",
        model=MODEL_ID,
        setup_hint="nothing: it is built and started when first needed",
    ),
    "openrouter": Backend(
        "OpenRouter, a gateway to many providers",
        "https://openrouter.ai/api/v1",
        "OPENROUTER_API_KEY",
        "mistralai/mistral-small-3.2-24b-instruct",
        paid=True,
        documented=_EVERYTHING,
        setup_hint="make a key at https://openrouter.ai/settings/keys",
    ),
    "openrouter-sim": Backend(
        "a simulator of OpenRouter on this machine; the pocket model answers, no money moves",
        key_variable="OPENROUTER_API_KEY",
        model="mistralai/mistral-small-3.2-24b-instruct",
        documented=_EVERYTHING,
        setup_hint="nothing: it starts in this process; it takes any well-formed key, or its own",
    ),
    "mistral": Backend(
        "Mistral AI's own API (its `latest` is a newer Small by now)",
        "https://api.mistral.ai/v1",
        "MISTRAL_API_KEY",
        "mistral-small-latest",
        paid=True,
        documented=_EVERYTHING - {"seed"},  # it is called random_seed there
        setup_hint="make a key at https://console.mistral.ai/api-keys",
    ),
    "together": Backend(
        "Together AI",
        "https://api.together.xyz/v1",
        "TOGETHER_API_KEY",
        "mistralai/Mistral-Small-24B-Instruct-2501",
        paid=True,
        documented=_EVERYTHING - {"vision"},
        setup_hint="make a key at https://api.together.ai/settings/api-keys",
    ),
    "fireworks": Backend(
        "Fireworks AI",
        "https://api.fireworks.ai/inference/v1",
        "FIREWORKS_API_KEY",
        "accounts/fireworks/models/mistral-small-24b-instruct-2501",
        paid=True,
        documented=_EVERYTHING - {"vision"},
        setup_hint="make a key at https://app.fireworks.ai/settings/users/api-keys",
    ),
    "ollama": Backend(
        "Ollama on this machine",
        "http://localhost:11434/v1",
        model="mistral-small3.2",
        documented=_EVERYTHING,
        setup_hint="install Ollama, then: ollama pull mistral-small3.2 && ollama serve",
    ),
    "vllm": Backend(
        "vLLM on this machine or through a tunnel",
        "http://localhost:8000/v1",
        "VLLM_API_KEY",
        model=SMALL_3_2,
        documented=_EVERYTHING,
        setup_hint="start it as notebook 07 shows: vllm serve " + SMALL_3_2 + " …",
    ),
    "custom": Backend(
        "any other server that speaks the same protocol",
        key_variable="CUSTOM_API_KEY",
        documented=frozenset({"stream", "usage"}),
        setup_hint='connect("custom", base_url="http://…/v1", model="…")',
    ),
}


@dataclass
class Lab:
    """A connected backend: its `client`, the `model` to name in requests, what it `supports`.

    `supports_source` says whether the conformance suite proved `supports` or its makers document it.
    """

    backend: str
    client: openai.OpenAI = field(repr=False)
    model: str
    supports: frozenset[str]
    supports_source: str
    _lease: lease.Lease | None = field(default=None, repr=False)
    _simulator: "Simulator | None" = field(default=None, repr=False)

    def usage(self) -> dict[str, int] | None:
        """Tokens the pocket server has counted since its start; None when nobody counts."""
        if self._lease is None:
            return None
        try:
            return httpx2.get(
                f"{self._lease.base_url.removesuffix('/v1')}/usage", timeout=10
            ).json()
        except httpx2.HTTPError:  # the server died: that is for the next request to say
            return None

    def close(self) -> None:
        """Close the client; the last one to leave a pocket server ends it."""
        self.client.close()
        if self._simulator:
            self._simulator.close()
        elif self._lease:
            self._lease.close()


def connect(
    backend: str = "pocket",
    *,
    model: str | None = None,
    base_url: str | None = None,
    quantization: str | None = None,
    batching: bool = False,
) -> Lab:
    """Connect to a backend and return its `Lab`.

    Args:
        backend: a name in `BACKENDS`.
        model: another model of that backend than its default one.
        base_url: another address of the same kind of server (it ends in /v1).
        quantization: "nf4" runs the pocket model in 4 bits; pocket only.
        batching: continuous batching instead of one request at a time; pocket only.

    Raises:
        BackendError: unknown name, missing key, no server at the address, a model it does not
            have, no pocket model and no way to build it. The message says what to do.
    """
    row = BACKENDS.get(backend)
    if row is None:
        raise BackendError(f"There is no backend {backend!r}. Choose from: {', '.join(BACKENDS)}.")
    if backend == "pocket":
        return _pocket(model, base_url, quantization, batching)
    if quantization or batching:
        raise BackendError(
            f"quantization and batching set up the pocket server; {backend!r} decides that itself."
        )
    if backend == "openrouter-sim" and not base_url:
        return _simulated(row, model or row.model)
    base_url = base_url or row.base_url
    model = model or row.model
    if not base_url or not model:
        raise BackendError(f"{backend!r} needs an address and a model: {row.setup_hint}")
    if not base_url.startswith(("http://", "https://")):
        raise BackendError(f"base_url must begin with http:// or https://, got {base_url!r}.")
    key = _key(backend, row)
    try:
        metered = budget.metered_client(model) if row.paid else None
    except prices.BudgetError as error:
        raise BackendError(str(error)) from error
    client = openai.OpenAI(base_url=base_url, api_key=key, http_client=metered)
    if not row.paid:
        _check_server(client, backend, row, model)
    supports, source = conformance_store.supports(backend, model, row.documented)
    return Lab(backend, client, model, supports, source)


def _pocket(
    model: str | None, base_url: str | None, quantization: str | None, batching: bool
) -> Lab:
    if model not in (None, MODEL_ID) or base_url:
        raise BackendError(
            f"The pocket server has one model, {MODEL_ID!r}, at an address of its own. "
            'For another server use connect("custom", base_url=…, model=…).'
        )
    if quantization not in (None, "nf4"):
        raise BackendError(f'quantization is None or "nf4", got {quantization!r}.')
    try:
        held = lease.acquire(quantization, batching)
    except (BuildError, CacheError, lease.ServerError) as error:
        raise BackendError(str(error)) from error
    client = openai.OpenAI(base_url=held.base_url, api_key="not-needed", http_client=_direct())
    supports, source = conformance_store.supports("pocket", MODEL_ID, frozenset())
    return Lab("pocket", client, MODEL_ID, supports, source, held)


def _direct() -> httpx2.Client:
    """An HTTP client for a server on this machine: by no proxy, and with time for long answers."""
    return openai.DefaultHttpxClient(trust_env=False, timeout=600)


def _simulated(row: Backend, model: str) -> Lab:
    from openrouter_sim import app

    key = _key("openrouter-sim", row)
    try:
        running = app.Simulator()
    except (BuildError, CacheError, lease.ServerError) as error:
        raise BackendError(str(error)) from error
    client = openai.OpenAI(base_url=running.base_url, api_key=key, http_client=_direct())
    supports, source = conformance_store.supports("openrouter-sim", model, row.documented)
    return Lab("openrouter-sim", client, model, supports, source, running.lease, running)


def _key(backend: str, row: Backend) -> str:
    if row.key_variable is None:
        return "not-needed"
    key = (os.environ.get(row.key_variable) or _colab_secret(row.key_variable) or "").strip()
    if not key and backend == "openrouter-sim":
        from openrouter_sim import faults

        return faults.KEY
    if not key and not row.paid:
        return "not-needed"
    if not key:
        raise BackendError(
            f"{backend!r} needs a key in the environment variable {row.key_variable}, and it is "
            f"not set. {row.setup_hint[0].upper()}{row.setup_hint[1:]}, then set "
            f"{row.key_variable} before you start Jupyter (on Colab: the key icon at the left). "
            "Never write it into a cell."
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise BackendError(
            f"The key in {row.key_variable} holds a space, a line break or another character that "
            "no key has, so it was not copied whole. Copy it again."
        )
    return key


def _colab_secret(name: str) -> str | None:
    if "google.colab" not in sys.modules:
        return None
    from google.colab import userdata  # exists on Colab only

    try:
        return userdata.get(name)
    except (userdata.SecretNotFoundError, userdata.NotebookAccessError):
        return None


def _check_server(client: openai.OpenAI, backend: str, row: Backend, model: str) -> None:
    """A local server costs nothing to ask, so say at once when it is not there."""
    here = str(client.base_url)
    quick = client.with_options(timeout=5, max_retries=0)
    try:
        listed = [entry.id for entry in quick.models.list()]
    except openai.APIConnectionError as error:
        raise BackendError(
            f"No server answers at {here}. To start one: {row.setup_hint}"
        ) from error
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise BackendError(
            f"{here} wants a key, and the one it got is not right. It is read from "
            f"{row.key_variable or 'CUSTOM_API_KEY (with the backend custom)'}."
        ) from error
    except (openai.APIStatusError, ValueError, TypeError) as error:
        raise BackendError(
            f"{here} answers, but not as an OpenAI-compatible server ({type(error).__name__}). "
            "Does the address end in /v1?"
        ) from error
    if listed and model not in listed and f"{model}:latest" not in listed:
        raise BackendError(
            f"The server at {here} does not have {model!r}. It has: {', '.join(listed)}. "
            f'Choose one with connect("{backend}", model=…).'
        )


def table():
    """The backends as a pandas DataFrame; "ready" looks for keys and servers, prints neither."""
    import pandas as pd

    rows = []
    for name, row in BACKENDS.items():
        rows.append(
            {
                "backend": name,
                "what it is": row.title,
                "address": row.base_url or "",
                "key from": _key_source(row),
                "default model": row.model or "",
                "costs money": "yes" if row.paid else "no",
                "ready": "yes" if readiness(name) is None else "no",
            }
        )
    return pd.DataFrame(rows).set_index("backend")


def _key_source(row: Backend) -> str:
    if row.key_variable is None:
        return "no key"
    return row.key_variable if row.paid else f"{row.key_variable}, if it wants one"


def readiness(backend: str) -> str | None:
    """None when a backend can be used now, else what is missing. Spends nothing."""
    row = BACKENDS[backend]
    try:
        if backend == "custom":
            return row.setup_hint
        if row.paid:
            _key(backend, row)
        elif backend not in ("pocket", "openrouter-sim"):
            client = openai.OpenAI(base_url=row.base_url, api_key=_key(backend, row))
            with client:
                _check_server(client, backend, row, row.model)
    except BackendError as error:
        return str(error)
    return None
