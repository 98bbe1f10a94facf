"""`connect`: which server answers. A table of backends, and a plain `openai.OpenAI` client.

Nothing wraps the client: what a notebook does with `lab.client` is what any program would do.
"""

import contextlib
import json
import os
import sys
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx2
import openai

from helpers import budget, prices
from helpers.connection.client import (
    BackendError,
    checked_address,
    is_local,
    make_client,
    network_settings,
)
from helpers.connection.server_check import check_server
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
    *("stream", "stream_options", "stop", "seed", "max_tokens", "usage", "conversation", "errors"),
    *("context_overflow", "parallel", "tools", "tool_choice", "structured_output", "vision"),
)

# The results of the conformance suite that come with the kit.
SHIPPED = DATA / "conformance"


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
        checked: how and when it was last checked, if the conformance suite never ran on it.
        default_key: what is sent if no key is set and none is needed.
        seed_name: what it calls the parameter `seed`.
    """

    title: str
    base_url: str | None = None
    key_variable: str | None = None
    model: str | None = None
    paid: bool = False
    documented: frozenset[str] = frozenset(ALL_FEATURES)
    setup_hint: str = ""
    checked: str = ""
    default_key: str = field(default="not-needed", repr=False)
    seed_name: str = "seed"


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
        checked="2026-11-26: a simulator checked against its OpenAPI document",
    ),
    "openrouter-sim": Backend(
        "a simulator of OpenRouter on this machine; the pocket model answers, and it costs nothing",
        key_variable="OPENROUTER_API_KEY",
        model="mistralai/mistral-small-3.2-24b-instruct",
        setup_hint="nothing: it starts in this process; it takes any well-formed key, or its own",
        checked="2026-11-26: checked against OpenRouter's OpenAPI document",
        default_key=SIMULATED_KEY,
    ),
    "mistral": Backend(
        "Mistral AI's own API (its `latest` is a newer Small by now)",
        "https://api.mistral.ai/v1",
        "MISTRAL_API_KEY",
        "mistral-small-latest",
        paid=True,
        # It refuses `stream_options` with status 422, and counts tokens in every stream.
        documented=frozenset(ALL_FEATURES) - {"stream_options"},
        setup_hint="make a key at https://console.mistral.ai/api-keys",
        checked="2026-11-26: a scripted server checked against its OpenAPI document of 2026-08-21",
        seed_name="random_seed",
    ),
    "together": Backend(
        "Together AI",
        "https://api.together.xyz/v1",
        "TOGETHER_API_KEY",
        "mistralai/Mistral-Small-24B-Instruct-2501",
        paid=True,
        documented=frozenset(ALL_FEATURES) - {"stream_options", "vision"},
        setup_hint="make a key at https://api.together.ai/settings/api-keys",
        checked="2026-11-26: a scripted server checked against its OpenAPI document of 2026-04-28",
    ),
    "fireworks": Backend(
        "Fireworks AI",
        "https://api.fireworks.ai/inference/v1",
        "FIREWORKS_API_KEY",
        "accounts/fireworks/models/mistral-small-24b-instruct-2501",
        paid=True,
        # It shortens max_tokens to the context instead of refusing the request.
        documented=frozenset(ALL_FEATURES) - {"stream_options", "context_overflow", "vision"},
        setup_hint="make a key at https://app.fireworks.ai/settings/users/api-keys",
        checked="2026-11-26: a scripted server written from its documentation",
    ),
    "ollama": Backend(
        "Ollama on this machine",
        "http://localhost:11434/v1",
        model="mistral-small3.2",
        # It ignores tool_choice, checks no ranges, and cuts a prompt that is too long.
        documented=frozenset(ALL_FEATURES) - {"tool_choice", "errors", "context_overflow"},
        setup_hint="install Ollama, then: ollama pull mistral-small3.2 && ollama serve",
        checked="2026-11-26: a scripted server written from its documentation",
    ),
    "vllm": Backend(
        "vLLM on this machine or through a tunnel",
        "http://localhost:8000/v1",
        "VLLM_API_KEY",
        model=SMALL_3_2,
        setup_hint="start it as notebook 07 shows: vllm serve " + SMALL_3_2 + " …",
        checked="2026-11-22: vLLM 0.32.0 on a CPU, with the pocket model",
    ),
    "custom": Backend(
        "any other server that speaks the same protocol",
        key_variable="CUSTOM_API_KEY",
        documented=frozenset({"stream", "usage"}),
        setup_hint='connect("custom", base_url=…, model=…), or --base-url and --model',
        checked="depends on the server",
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

    def seed(self, number: int) -> dict:
        """The settings that fix the random choices, under the server's own name for a seed.

        Use them as `create(…, **lab.seed(7))`. Empty if the server supports no seed.
        """
        return seed_setting(self.backend, number) if "seed" in self.supports else {}

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
        base_url: another address of the same kind of server (it ends in /v1). If `model` or
            `base_url` is None, the variables of the environment count, such as
            MISTRAL_LAB_VLLM_MODEL and MISTRAL_LAB_VLLM_URL, except for "pocket"; see `variable`.
        quantization: "nf4" runs the pocket model in 4 bits; pocket only.
        batching: continuous batching instead of one request at a time; pocket only.

    Raises:
        BackendError: the name is unknown, the key is missing, no server answers, the server does
            not have the model, the environment's proxy or certificates cannot be used, or the
            pocket model cannot be built. The message says what to do.
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
        model = model or os.environ.get(variable(backend, "MODEL")) or row.model
        base_url = base_url or os.environ.get(variable(backend, "URL")) or row.base_url
        if backend == "openrouter-sim" and not base_url:
            return _connect_simulator(model)
        return _connect_server(backend, model, base_url)
    except (BuildError, CacheError, lease.ServerError, prices.BudgetError) as error:
        raise BackendError(str(error)) from error


def variable(backend: str, what: str) -> str:
    """The environment variable with the user's own "URL" or "MODEL" of a backend."""
    return f"MISTRAL_LAB_{backend.upper().replace('-', '_')}_{what}"


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
    client = make_client(held.base_url, _key("pocket"))
    return Lab("pocket", client, MODEL_ID, *supported_features("pocket", MODEL_ID), held)


def _connect_simulator(model: str) -> Lab:
    from openrouter_sim.app import Simulator  # not before it is needed: it imports a web server

    key = _key("openrouter-sim")
    simulator = Simulator(prices.priced_models())
    client = make_client(simulator.base_url, key)
    known = supported_features("openrouter-sim", model)
    return Lab("openrouter-sim", client, model, *known, simulator.lease, simulator)


def _connect_server(backend: str, model: str | None, base_url: str | None) -> Lab:
    row = BACKENDS[backend]
    if not base_url or not model:
        raise BackendError(f"{backend!r} needs an address and a model: {row.setup_hint}")
    base_url = checked_address(str(base_url))
    key = _key(backend)
    http_client = None
    if row.paid:
        with network_settings():
            http_client = budget.metered_client(model, trust_env=not is_local(base_url))
    client = make_client(base_url, key, http_client)
    if not row.paid:
        key_from = row.key_variable or "CUSTOM_API_KEY (with the backend custom)"
        hint = "check the address" if backend == "openrouter-sim" else row.setup_hint
        check_server(client, model, hint, key_from)
    return Lab(backend, client, model, *supported_features(backend, model))


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
    if not key.isascii() or not key.isprintable() or set(key) & set(" \"'"):
        raise BackendError(
            f"The key in {row.key_variable} contains a space, a quotation mark, a line break or "
            "another character that no key has, so it was not copied exactly. Copy it again."
        )
    return key


def _colab_secret(name: str) -> str | None:
    if "google.colab" not in sys.modules:
        return None
    try:
        from google.colab import userdata  # exists on Colab only

        secret = userdata.get(name)
    except Exception:  # no such secret, no access, or a time-out outside Colab's own page
        return None
    return secret if isinstance(secret, str) else None


def seed_setting(backend: str, number: int) -> dict:
    """The settings that send a seed to a backend, whether it supports one or not."""
    name = BACKENDS[backend].seed_name
    return {"seed": number} if name == "seed" else {"extra_body": {name: number}}


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
    results = []
    for file in files:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # missing or damaged
            result = json.loads(file.read_text(encoding="utf-8"))
            passed = {row["feature"] for row in result["rows"] if row["status"] == "yes"}
            results.append((str(result["date"]), frozenset(passed)))
    if not results:
        return BACKENDS[backend].documented, (
            "documented by its makers, not proven here: "
            f"python -m helpers conformance --backend {backend}"
        )
    date, passed = max(results, key=lambda result: result[0])
    return passed, f"proven by the conformance suite on {date}"


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
            "costs money": _costs_money(name),
            "last checked": last_checked(name),
            "ready": "yes" if readiness(name) is None else "no",
        }
        for name, row in BACKENDS.items()
    ]
    return pd.DataFrame(rows).set_index("backend")


def _costs_money(backend: str) -> str:
    if backend == "custom":
        return "depends on the server"
    return "yes" if BACKENDS[backend].paid else "no"


def last_checked(backend: str) -> str:
    """When and how a backend was last checked, in words."""
    row = BACKENDS[backend]
    source = supported_features(backend, row.model)[1] if row.model else ""
    return source.removeprefix("proven by the ") if source.startswith("proven") else row.checked


def _key_source(row: Backend) -> str:
    if row.key_variable is None:
        return "no key"
    return row.key_variable if row.paid else f"{row.key_variable}, if it needs one"


def readiness(backend: str) -> str | None:
    """None if a backend can be used now, else what is missing. Spends nothing."""
    row = BACKENDS[backend]
    url = os.environ.get(variable(backend, "URL")) or row.base_url
    model = os.environ.get(variable(backend, "MODEL")) or row.model
    if backend == "pocket" or (backend == "openrouter-sim" and not url):
        return None
    try:
        with warnings.catch_warnings(action="ignore"):
            _connect_server(backend, model, url).close()
    except (BackendError, prices.BudgetError) as error:
        return str(error)
    return None
