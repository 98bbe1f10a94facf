"""The models and providers that the simulator lists, and which of them a request gets."""

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from starlette.datastructures import QueryParams

from openrouter_sim.chat_request import GatewayRequest, Routing
from openrouter_sim.faults import PROVIDERS, Refusal
from pocket_model.server.errors import shortened

SIDES = (("prompt", "input"), ("completion", "output"))  # OpenRouter's names, the price file's

# As OpenRouter's own list had it when the price snapshot was written.
WITHOUT_TOOLS = {
    "mistralai/mistral-small-24b-instruct-2501",
    "mistralai/mistral-small-3.1-24b-instruct",
}
TOOL_CHOICES = ("auto", "function", "none", "required")


class Route(NamedTuple):
    """The model that answers a request, as the request names it, and the providers in turn."""

    model: str
    providers: list[str]


def without_routing_suffix(model: str) -> str:
    """A model id without ":nitro" or ":floor", which only say how to choose a provider."""
    return model.removesuffix(":nitro").removesuffix(":floor")


def provider_slug(name: str) -> str:
    """The id of a provider that is listed with this name."""
    return name.lower().replace(" ", "-")


class Catalog:
    """What can be asked for, and what it costs.

    Args:
        prices: by model id: `input` and `output` in USD per million tokens, `context` in tokens.

    Raises:
        ValueError: a model lacks one of these.
    """

    def __init__(self, prices: dict[str, dict]):
        self._rows: dict[str, dict] = {}
        for model, row in prices.items():
            try:
                usd = {side: Decimal(str(row[name])) / 10**6 for side, name in SIDES}
                if not all(price.is_finite() and price >= 0 for price in usd.values()):
                    raise ValueError
                self._rows[model] = usd | {"context": int(row["context"])}
            except (KeyError, TypeError, ValueError, InvalidOperation) as error:
                needed = "input and output (USD per million tokens, from 0 up) and context (tokens)"
                raise ValueError(
                    f"the model {model!r} needs {needed}, all of them numbers"
                ) from error

    def cost(self, model: str, usage: dict) -> dict[str, Decimal]:
        """USD for the prompt and for the completion, by OpenAI's token counts."""
        row = self._rows[without_routing_suffix(model)]
        return {side: usage[f"{side}_tokens"] * row[side] for side, _ in SIDES}

    def context(self, model: str) -> int:
        """How many tokens the real model takes."""
        return self._rows[without_routing_suffix(model)]["context"]

    def route(self, request: GatewayRequest) -> Route:
        """Where a request goes.

        Raises:
            Refusal: no model or no provider can do what the request asks for.
        """
        models = [request.model] if request.model is not None else []
        models += request.models or []
        if not models:
            raise Refusal(400, 'No models provided: set "model" to one of the ids in /models.')
        for model in models:
            if without_routing_suffix(model) not in self._rows:
                raise Refusal(400, f"{shortened(model)} is not a valid model ID")
        routing = request.provider or Routing()
        providers = _providers(routing)
        if not providers:
            raise Refusal(404, "No allowed providers are available for the selected model.")
        if request.tools:
            models = [m for m in models if _has_tools(m)]
            if not models:
                raise Refusal(404, "No endpoints found that support tool use.")
        for kind in request.input_modalities:
            models = [m for m in models if kind in _input_modalities(m)]
            if not models:
                raise Refusal(404, f"No endpoints found that support {kind} input")
        if routing.require_parameters and request.unsupported:
            raise Refusal(404, "No endpoints found that can handle the requested parameters.")
        row = self._rows[without_routing_suffix(models[0])]
        for side, usd_per_million in routing.max_prices.items():
            if usd_per_million < row[side] * 10**6:
                raise Refusal(404, "No endpoints found below the maximum price.")
        return Route(models[0], providers)

    def entries(self, query: QueryParams, pocket_context: int) -> list[dict]:
        """The entries of `/models` that its parameters ask for.

        Raises:
            Refusal: 400: `context`, `offset` or `limit` is no number.
        """
        entries = [self.entry(model, pocket_context) for model in self._rows]
        if query.get("q"):
            entries = [e for e in entries if query["q"].lower() in f"{e['id']} {e['name']}".lower()]
        if query.get("supported_parameters"):
            needed = set(query["supported_parameters"].split(","))
            entries = [e for e in entries if needed <= set(e["supported_parameters"])]
        for side in ("input_modalities", "output_modalities"):
            if query.get(side) and query[side] != "all":
                needed = set(query[side].split(","))
                entries = [e for e in entries if needed <= set(e["architecture"][side])]
        least = _number(query, "context", 0)
        return [e for e in entries if e["context_length"] >= least]

    def page(self, query: QueryParams, pocket_context: int) -> dict:
        """The body of `/models`."""
        entries = self.entries(query, pocket_context)
        start, count = _number(query, "offset", 0), _number(query, "limit", len(entries) or 1)
        page = entries[start : start + count]
        return {"data": page, "total_count": len(entries), "links": {"next": None}}

    def entry(self, model: str, pocket_context: int) -> dict:
        """One entry of `/models`: what OpenRouter's description requires, and the prices.

        Args:
            pocket_context: how many tokens the pocket model takes.

        Raises:
            Refusal: 404: there is no such model.
        """
        context = self._row(model)["context"]
        limits = dict.fromkeys(("prompt_tokens", "completion_tokens"), pocket_context)
        return {
            **self._head(model, pocket_context),
            "canonical_slug": model,
            "context_length": context,
            "pricing": self._pricing(model),
            "top_provider": {"context_length": context, "is_moderated": False},
            "per_request_limits": limits,
            "supported_parameters": _parameters(model),
            "links": {"details": f"/api/v1/models/{model}/endpoints"},
            **dict.fromkeys(("default_parameters", "supported_voices")),
        }

    def endpoints(self, model: str, pocket_context: int) -> dict:
        """The body of `/models/{author}/{slug}/endpoints`. Raises `Refusal` as `entry`."""
        shared = {
            "model_id": model,
            "model_name": f"{model} (simulated)",
            "context_length": self._row(model)["context"],
            "max_prompt_tokens": pocket_context,
            "max_completion_tokens": pocket_context,
            "pricing": self._pricing(model),
            "quantization": "unknown",
            "status": 0,
            "supported_parameters": _parameters(model),
            "supports_implicit_caching": False,
            "supports_diarization": False,
            "supports_tool_choice": dict.fromkeys(TOOL_CHOICES, _has_tools(model)),
            "native_tools": {},
            "service_tier": None,
            **dict.fromkeys(("uptime_last_5m", "uptime_last_30m", "uptime_last_1d")),
            **dict.fromkeys(("latency_last_30m", "throughput_last_30m")),
        }
        endpoints = [
            {"name": f"{name}: {model}", "provider_name": name, "tag": provider_slug(name)} | shared
            for name in PROVIDERS
        ]
        return self._head(model, pocket_context) | {"endpoints": endpoints}

    def _row(self, model: str) -> dict:
        if model not in self._rows:
            known = ", ".join(self._rows)
            raise Refusal(404, f"There is no model {shortened(model)}. There are: {known}.")
        return self._rows[model]

    def _head(self, model: str, pocket_context: int) -> dict:
        inputs = _input_modalities(model)
        description = (
            f"Simulated: the kit's pocket model answers. It takes {pocket_context:,} tokens, "
            "prompt and answer together; context_length is that of the real model."
        )
        return {
            "id": model,
            "name": f"{model} (simulated)",
            "description": description,
            "created": 0,
            "architecture": {
                "modality": f"{'+'.join(inputs)}->text",
                "input_modalities": inputs,
                "output_modalities": ["text"],
                "tokenizer": "Mistral",
                "instruct_type": "mistral",
            },
        }

    def _pricing(self, model: str) -> dict:
        return {side: f"{self._rows[model][side]:f}" for side, _ in SIDES}


def provider_entries() -> list[dict]:
    """The entries of `/providers`."""
    unknown = ("privacy_policy_url", "terms_of_service_url", "status_page_url", "headquarters")
    return [
        {"name": name, "slug": provider_slug(name), "datacenters": None, **dict.fromkeys(unknown)}
        for name in PROVIDERS
    ]


def _input_modalities(model: str) -> list[str]:
    return ["text", "image"] if "3.2" in model or "3.1" in model else ["text"]


def _has_tools(model: str) -> bool:
    return without_routing_suffix(model) not in WITHOUT_TOOLS


def _parameters(model: str) -> list[str]:
    tools = ["tools", "tool_choice", "response_format", "structured_outputs"]
    shared = ["max_tokens", "temperature", "top_p", "seed", "stop"]
    return shared + tools if _has_tools(model) else shared


def _number(query: QueryParams, name: str, default: int) -> int:
    text = query.get(name) or str(default)
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise Refusal(400, f"{name}: {shortened(text)!r} is not a whole number from 0 up.")
    return int(text)


def _providers(routing: Routing) -> list[str]:
    """The providers that a request's `provider` object allows, in its order.

    OpenRouter's description names them by their slugs; the names are taken as well.
    """

    def known(names: Iterable[str] | None) -> list[str]:
        slugs = [provider_slug(name) for name in names or ()]
        return sorted(
            (name for name in PROVIDERS if provider_slug(name) in slugs),
            key=lambda name: slugs.index(provider_slug(name)),
        )

    order = known(routing.order)
    if routing.allow_fallbacks is not False or not routing.order:
        order += [name for name in PROVIDERS if name not in order]
    only = PROVIDERS if routing.only is None or not routing.only else known(routing.only)
    return [name for name in order if name in only and name not in known(routing.ignore)]
