"""`connect`: which server answers. A table of backends, and a plain `openai.OpenAI` client.

Nothing wraps the client: what a notebook does with `lab.client` is what any program would do.
"""

import contextlib
import json
import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx2
import openai

from helpers import budget, prices
from helpers.paths import DATA, file_name
from openrouter_sim.faults import KEY as SIMULATED_KEY
from pocket_model import lease
from pocket_model.build import MODEL_ID, BuildError
from pocket_model.cache import CacheError, cache_dir

if TYPE_CHECKING:
    import pandas as pd

    from openrouter_sim.app import Simulator

SMALL_3_2 = "mistralai/Mistral-Small-3.2-24B-Instruct-2506"

# Every feature that the conformance suite tries, in its order.
ALL_FEATURES = (
    *("stream", "stop", "seed", "max_tokens", "usage", "conversation", "errors"),
    *("context_overflow", "parallel", "tools", "tool_choice", "structured_output", "vision"),
)

# The results of the conformance suite that come with the kit.
SHIPPED = DATA / "conformance"


class BackendError(RuntimeError):
    """A backend cannot be used; the message says what happened and what to do next."""


@dataclass(frozen=True)
class Backend:
    """One row of the table of backends.

    Attributes:
        title: what it is, in one line.
        base_url: its address; it ends in /v1.
        key_variable: the environment variable with its key; None if it needs none.
        model: the model that is used unless another is asked for.
        paid: whether its requests cost money.
        documented: the features that its makers document.
        setup_hint: what to do before its first use.
        default_key: what is sent if no key is set and none is needed.
    """

    title: str
    base_url: str | None = None
    key_variable: str | None = None
    model: str | None = None
    paid: bool = False
    documented: frozenset[str] = frozenset(ALL_FEATURES)
    setup_hint: str = ""
    default_key: str = field(default="not-needed", repr=False)


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
        setup_hint="make a key at https://openrouter.ai/settings/keys",
    ),
    "openrouter-sim": Backend(
        "a simulator of OpenRouter on this machine; the pocket model answers, and it costs nothing",
        key_variable="OPENROUTER_API_KEY",
        model="mistralai/mistral-small-3.2-24b-instruct",
        setup_hint="nothing: it starts in this process; it takes any well-formed key, or its own",
        default_key=SIMULATED_KEY,
    ),
    "mistral": Backend(
        "Mistral AI's own API (its `latest` is a newer Small by now)",
        "https://api.mistral.ai/v1",
        "MISTRAL_API_KEY",
        "mistral-small-latest",
        paid=True,
        documented=frozenset(ALL_FEATURES) - {"seed"},  # it is called random_seed there
        setup_hint="make a key at https://console.mistral.ai/api-keys",
    ),
    "together": Backend(
        "Together AI",
        "https://api.together.xyz/v1",
        "TOGETHER_API_KEY",
        "mistralai/Mistral-Small-24B-Instruct-2501",
        paid=True,
        documented=frozenset(ALL_FEATURES) - {"vision"},
        setup_hint="make a key at https://api.together.ai/settings/api-keys",
    ),
    "fireworks": Backend(
        "Fireworks AI",
        "https://api.fireworks.ai/inference/v1",
        "FIREWORKS_API_KEY",
        "accounts/fireworks/models/mistral-small-24b-instruct-2501",
        paid=True,
        documented=frozenset(ALL_FEATURES) - {"vision"},
        setup_hint="make a key at https://app.fireworks.ai/settings/users/api-keys",
    ),
    "ollama": Backend(
        "Ollama on this machine",
        "http://localhost:11434/v1",
        model="mistral-small3.2",
        setup_hint="install Ollama, then: ollama pull mistral-small3.2 && ollama serve",
    ),
    "vllm": Backend(
        "vLLM on this machine or through a tunnel",
        "http://localhost:8000/v1",
        "VLLM_API_KEY",
        model=SMALL_3_2,
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
    """A connected backend.

    Attributes:
        backend: its name in `BACKENDS`.
        client: a plain OpenAI client.
        model: the model to name in requests.
        supports: the names of the features that work, out of `ALL_FEATURES`.
        supports_source: how that is known, from the conformance suite or from documentation.
    """

    backend: str
    client: openai.OpenAI = field(repr=False)
    model: str
    supports: frozenset[str]
    supports_source: str
    _lease: lease.Lease | None = field(default=None, repr=False)
    _simulator: "Simulator | None" = field(default=None, repr=False)

    def usage(self) -> dict[str, int] | None:
        """Tokens that the pocket server has counted since its start; None if no server counts."""
        if self._lease is None:
            return None
        url = f"{self._lease.base_url.removesuffix('/v1')}/usage"
        try:
            return httpx2.get(url, timeout=10, trust_env=False).json()
        except (httpx2.HTTPError, ValueError):  # the next request reports what is wrong
            return None

    def close(self) -> None:
        """Close the client. A pocket server ends itself when its last client has left."""
        self.client.close()
        server = self._simulator or self._lease
        if server:
            server.close()


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
        BackendError: the name is unknown, the key is missing, no server answers, the server does
            not have the model, or the pocket model cannot be built. The message says what to do.
    """
    row = BACKENDS.get(backend)
    if row is None:
        raise BackendError(f"There is no backend {backend!r}. Choose from: {', '.join(BACKENDS)}.")
    if backend != "pocket" and (quantization or batching):
        raise BackendError(
            f"quantization and batching set up the pocket server; {backend!r} decides that itself."
        )
    try:
        if backend == "pocket":
            return _connect_pocket(model, base_url, quantization, batching)
        if backend == "openrouter-sim" and not base_url:
            return _connect_simulator(model or row.model)
        return _connect_server(backend, model or row.model, base_url or row.base_url)
    except (
        BuildError, CacheError, lease.ServerError, prices.BudgetError, httpx2.InvalidURL,
    ) as error:  # fmt: skip
        raise BackendError(str(error)) from error


def _connect_pocket(
    model: str | None, base_url: str | None, quantization: str | None, batching: bool
) -> Lab:
    if model not in (None, MODEL_ID) or base_url:
        raise BackendError(
            f"The pocket server has one model, {MODEL_ID!r}, at an address of its own. "
            'For another server use connect("custom", base_url=…, model=…).'
        )
    if quantization not in (None, "nf4"):
        raise BackendError(f'quantization is None or "nf4", got {quantization!r}.')
    held = lease.acquire(quantization, batching)
    client = _client(held.base_url, _key("pocket"))
    return Lab("pocket", client, MODEL_ID, *supported_features("pocket", MODEL_ID), held)


def _connect_simulator(model: str) -> Lab:
    from openrouter_sim.app import Simulator  # not before it is needed: it imports a web server

    key = _key("openrouter-sim")
    simulator = Simulator(prices.priced_models())
    client = _client(simulator.base_url, key)
    known = supported_features("openrouter-sim", model)
    return Lab("openrouter-sim", client, model, *known, simulator.lease, simulator)


def _connect_server(backend: str, model: str | None, base_url: str | None) -> Lab:
    row = BACKENDS[backend]
    if not base_url or not model:
        raise BackendError(f"{backend!r} needs an address and a model: {row.setup_hint}")
    if not base_url.startswith(("http://", "https://")):
        raise BackendError(f"base_url must begin with http:// or https://, got {base_url!r}.")
    key = _key(backend)
    client = _client(base_url, key, budget.metered_client(model) if row.paid else None)
    if not row.paid:
        check_server(client, backend, model)
    return Lab(backend, client, model, *supported_features(backend, model))


def _client(base_url: str, key: str, http_client: httpx2.Client | None = None) -> openai.OpenAI:
    host = httpx2.URL(base_url).host
    if http_client is None and (host in ("localhost", "::1") or host.startswith("127.")):
        # The environment's proxy is another machine: it cannot reach servers on this one.
        http_client = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(base_url=base_url, api_key=key, http_client=http_client)


def _key(backend: str) -> str:
    row = BACKENDS[backend]
    if row.key_variable is None:
        return row.default_key
    key = (os.environ.get(row.key_variable) or _colab_secret(row.key_variable) or "").strip()
    if not key and not row.paid:
        return row.default_key
    if not key:
        raise BackendError(
            f"{backend!r} needs a key in the environment variable {row.key_variable}, and it is "
            f"not set. {row.setup_hint[0].upper()}{row.setup_hint[1:]}, then set "
            f"{row.key_variable} before you start Jupyter (on Colab: the key icon at the left). "
            "Never write it into a cell."
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise BackendError(
            f"The key in {row.key_variable} contains a space, a line break or another character "
            "that no key has, so it was not copied completely. Copy it again."
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


def check_server(client: openai.OpenAI, backend: str, model: str) -> None:
    """Ask a server that costs nothing for its models, to report at once what is wrong.

    Raises:
        BackendError: no server answers, it refuses the key, or it does not have the model.
    """
    row, url = BACKENDS[backend], str(client.base_url)
    try:
        models = [entry.id for entry in client.with_options(timeout=5, max_retries=0).models.list()]
    except openai.APIConnectionError as error:
        raise BackendError(f"No server answers at {url}. To start one: {row.setup_hint}") from error
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise BackendError(
            f"{url} refuses the key. It is read from the environment variable "
            f"{row.key_variable or 'CUSTOM_API_KEY (with the backend custom)'}."
        ) from error
    except (openai.APIStatusError, AttributeError, TypeError, ValueError) as error:
        raise BackendError(
            f"{url} answers, but not as an OpenAI-compatible server ({type(error).__name__}). "
            "Does the address end in /v1?"
        ) from error
    if models and model not in models and f"{model}:latest" not in models:
        raise BackendError(
            f"The server at {url} does not have {model!r}. It has: {', '.join(models)}. "
            f'Choose one with connect("{backend}", model=…).'
        )


def result_file(backend: str, model: str) -> str:
    """The name of the file with the conformance suite's result for a backend and a model."""
    return f"{backend}--{file_name(model)}.json"


def supported_features(backend: str, model: str) -> tuple[frozenset[str], str]:
    """The features that a backend supports, and how that is known.

    The newest result of the conformance suite counts, the user's own or the one that comes with
    the kit. If there is none, what the backend's makers document is taken.
    """
    folders = [SHIPPED]
    with contextlib.suppress(CacheError):
        folders.append(cache_dir() / "conformance")
    files = [folder / result_file(backend, model) for folder in folders]
    results = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]
    if not results:
        return BACKENDS[backend].documented, (
            "documented by its makers, not proven here: "
            f"python -m helpers conformance --backend {backend}"
        )
    newest = max(results, key=lambda result: result["date"])
    passed = frozenset(row["feature"] for row in newest["rows"] if row["status"] == "yes")
    return passed, f"proven by the conformance suite on {newest['date']}"


def table() -> "pd.DataFrame":
    """The backends, one per row. "ready" looks for keys and servers, and shows neither."""
    import pandas as pd

    rows = [
        {
            "backend": name,
            "what it is": row.title,
            "address": row.base_url or "",
            "key from": _key_source(row),
            "default model": row.model or "",
            "costs money": "yes" if row.paid else "no",
            "ready": "yes" if readiness(name) is None else "no",
        }
        for name, row in BACKENDS.items()
    ]
    return pd.DataFrame(rows).set_index("backend")


def _key_source(row: Backend) -> str:
    if row.key_variable is None:
        return "no key"
    return row.key_variable if row.paid else f"{row.key_variable}, if it needs one"


def readiness(backend: str) -> str | None:
    """None if a backend can be used now, else what is missing. Spends nothing."""
    row = BACKENDS[backend]
    try:
        if backend == "custom":
            return row.setup_hint
        if row.paid:
            _key(backend)
        elif backend not in ("pocket", "openrouter-sim"):
            with _client(row.base_url, _key(backend)) as client:
                check_server(client, backend, row.model)
    except BackendError as error:
        return str(error)
    return None
