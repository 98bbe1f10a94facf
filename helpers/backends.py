"""`connect`: which server answers. A table of backends, and a plain `openai.OpenAI` client.

Nothing wraps the client: what a notebook does with `lab.client` is what any program would do.
"""

import contextlib
import json
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx2
import openai

from helpers import budget, prices
from helpers.connection import choices
from helpers.connection.choices import variable as variable
from helpers.connection.client import (
    BackendError,
    PocketTransport,
    is_local,
    make_client,
    network_settings,
)
from helpers.connection.no_answer import OwnServerClient
from helpers.connection.rows import ALL_FEATURES as ALL_FEATURES
from helpers.connection.rows import BACKENDS, Backend
from helpers.connection.server_check import check_server
from helpers.paths import DATA, file_name
from pocket_model import lease
from pocket_model.build import (
    DEFAULT_QUANTIZATION,
    MODEL_ID,
    QUANTIZATIONS,
    BuildError,
    Quantization,
)
from pocket_model.cache import CacheError, cache_dir

if TYPE_CHECKING:
    import pandas as pd

    from openrouter_sim.app import Simulator

# How the pocket server signs its model.
POCKET_OWNER = "embedded"

# The results of the conformance suite that come with the kit.
SHIPPED = DATA / "conformance"


@dataclass
class Lab:
    """A connected backend.

    Attributes:
        backend: its name in `BACKENDS`.
        client: a plain OpenAI client.
        model: the model to name in requests.
        supports: the names of the features that work, out of `ALL_FEATURES`.
        supports_source: how that is known, from the conformance suite or from documentation.
        quantization: how the weights of the pocket model are held; None on other servers.
    """

    backend: str
    client: openai.OpenAI = field(repr=False)
    model: str
    supports: frozenset[str]
    supports_source: str
    _lease: lease.Lease | None = field(default=None, repr=False)
    _simulator: "Simulator | None" = field(default=None, repr=False)
    quantization: Quantization | None = None

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
    quantization: Quantization | None = None,
    batching: bool = False,
) -> Lab:
    """Connect to a backend and return its `Lab`.

    Args:
        backend: a name in `BACKENDS`. An address, such as "http://192.168.1.20:8001/v1", is short
            for "custom" at that address.
        model: another model of that backend than its default one.
        base_url: another address of the same kind of server (it ends in /v1). If `model` or
            `base_url` is None, the user's own settings count, such as MISTRAL_LAB_VLLM_MODEL or
            CUSTOM_BASE_URL, except for "pocket"; see `variable`. The backend "custom" takes the
            server's only model if none is named.
        quantization: how the pocket server holds the weights: "int8" (if None), "bf16" as the
            model is built, "int4", or "nf4" by bitsandbytes; pocket only.
        batching: continuous batching instead of one request at a time; pocket only.

    Raises:
        BackendError: the name is unknown, the key is missing, no server answers, the server does
            not have the model, the environment's proxy or certificates cannot be used, or the
            pocket model cannot be built. The message says what to do.
    """
    if ":" in backend or "/" in backend:  # an address, with http:// or without
        backend, base_url = "custom", base_url or backend
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
        model = model or choices.own_setting(backend, "MODEL").value or row.model
        own_url = base_url or choices.own_setting(backend, "URL").value
        if backend == "openrouter-sim" and not own_url:
            return _connect_simulator(model)
        return _connect_server(backend, model, base_url)
    except (BuildError, CacheError, lease.ServerError, prices.BudgetError) as error:
        raise BackendError(str(error)) from error


def _connect_pocket(
    model: str | None, base_url: str | None, quantization: Quantization | None, batching: bool
) -> Lab:
    if model not in (None, MODEL_ID) or base_url:
        raise BackendError(
            f"The pocket server has one model, {MODEL_ID!r}, at an address of its own. "
            'For another server use connect("custom", base_url=…).'
        )
    quantization = quantization or DEFAULT_QUANTIZATION
    if quantization not in QUANTIZATIONS:
        choice = ", ".join(QUANTIZATIONS)
        raise BackendError(f"There is no quantization {quantization!r}. Choose from: {choice}.")
    held = lease.acquire(quantization, batching)
    http_client = openai.DefaultHttpxClient(trust_env=False, transport=PocketTransport())
    client = make_client(held.base_url, choices.key("pocket").value, http_client)
    known = supported_features("pocket", MODEL_ID)
    return Lab("pocket", client, MODEL_ID, *known, held, quantization=quantization)


def _connect_simulator(model: str) -> Lab:
    from openrouter_sim.app import Simulator  # not before it is needed: it imports a web server

    key = choices.key("openrouter-sim").value
    simulator = Simulator(prices.priced_models())
    client = make_client(simulator.base_url, key)
    known = supported_features("openrouter-sim", model)
    held = simulator.lease, simulator
    return Lab("openrouter-sim", client, model, *known, *held, quantization=DEFAULT_QUANTIZATION)


def _connect_server(backend: str, model: str | None, base_url: str | None) -> Lab:
    row = BACKENDS[backend]
    address = choices.address(backend, base_url)
    key = choices.key(backend)
    http_client = None
    if row.paid:
        with network_settings():
            http_client = budget.metered_client(model, trust_env=not is_local(address))
    else:
        with network_settings():
            http_client = OwnServerClient(trust_env=not is_local(address))
    client = make_client(address, key.value, http_client)
    if row.paid:
        return Lab(backend, client, model, *supported_features(backend, model))
    models = check_server(client, model, choices.advice(backend, key))
    model = model or models[0]["id"]
    if {"id": MODEL_ID, "owned_by": POCKET_OWNER}.items() <= _entry(models, model).items():
        return Lab(backend, client, model, *supported_features("pocket", MODEL_ID))
    return Lab(backend, client, model, *supported_features(backend, model))


def _entry(models: list[dict], model: str) -> dict:
    return next((entry for entry in models if entry["id"] == model), {})


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
    """The backends, one per row. It looks for keys and servers, and shows no key."""
    import pandas as pd

    rows = [
        {
            "backend": name,
            "what it is": row.title,
            "key": _key_source(row),
            "costs money": _costs_money(name),
            "ready here": "yes" if readiness(name) is None else "no",
        }
        for name, row in BACKENDS.items()
    ]
    return pd.DataFrame(rows).set_index("backend")


def _costs_money(backend: str) -> str:
    if backend == "custom":
        return "depends on the server"
    return "yes" if BACKENDS[backend].paid else "no"


def _key_source(row: Backend) -> str:
    if row.key_variable is None:
        return "no key"
    return row.key_variable if row.paid else f"{row.key_variable}, if it needs one"


def status(backend: str) -> tuple[bool, str]:
    """Whether a backend can be used now, and why, or what is missing. Spends nothing."""
    row = BACKENDS[backend]
    if backend == "pocket" or (
        backend == "openrouter-sim" and not choices.own_setting(backend, "URL").value
    ):
        return True, "starts when it is used; needs no key"
    try:
        with warnings.catch_warnings(action="ignore"):
            lab = connect(backend)
    except BackendError as error:
        return False, str(error)
    address = str(lab.client.base_url).rstrip("/")
    lab.close()
    if row.paid:
        return True, f"key found in {row.key_variable} ({choices.key(backend).source})"
    return True, f"the server answers at {address}"


def readiness(backend: str) -> str | None:
    """None if a backend can be used now, else what is missing; see `status`."""
    ready, detail = status(backend)
    return None if ready else detail
