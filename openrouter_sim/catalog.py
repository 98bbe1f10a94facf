"""The models and providers that the simulator lists, and which of them a request gets."""

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

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

    Attributes:
        pocket_context: how many tokens the pocket model takes, which answers for all of them.

    Raises:
        ValueError: a model lacks one of these.
    """

    pocket_context = 0

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
        row = self._row(model)
        return {side: usage[f"{side}_tokens"] * row[side] for side, _ in SIDES}

    def context(self, model: str) -> int:
        """How many tokens the real model takes."""
        return self._row(model)["context"]

    def route(self, request: GatewayRequest) -> tuple[str, list[str]]:
        """The model that answers a request, as the request names it, and the providers in turn.

        Raises:
            Refusal: no model or no provider can do what the request asks for.
        """
        models = [*filter(None, [request.model]), *request.models]
        if not models:
            raise Refusal(400, 'No models provided: set "model" to one of the ids in /models.')
        for model in models:
            if without_routing_suffix(model) not in self._rows:
                raise Refusal(400, f"{shortened(model)} is not a valid model ID")
        providers = _providers(request.provider)
        if not providers:
            raise Refusal(404, "No allowed providers are available for the selected model.")
        if request.tools:
            models = [m for m in models if _has_tools(m)]
            if not models:
                raise Refusal(404, "No endpoints found that support tool use.")
        for kind in sorted(request.input_modalities):
            models = [m for m in models if kind in _input_modalities(m)]
            if not models:
                raise Refusal(404, f"No endpoints found that support {kind} input")
        if request.provider.require_parameters and request.unsupported:
            raise Refusal(404, "No endpoints found that can handle the requested parameters.")
        for side, _ in SIDES:
            limit = (request.provider.max_price or {}).get(side)  # USD per million tokens
            if limit is not None and limit < self._row(models[0])[side] * 10**6:
                raise Refusal(404, "No endpoints found below the maximum price.")
        return models[0], providers

    def entries(self) -> list[dict]:
        """The entries of `/models`. OpenRouter's filters and pages of it are not simulated."""
        return [self.entry(model) for model in self._rows]

    def entry(self, model: str) -> dict:
        """One entry of `/models`: what OpenRouter's description requires, and the prices.

        Raises:
            Refusal: 404: there is no such model.
        """
        context = self.context(model)
        limits = dict.fromkeys(("prompt_tokens", "completion_tokens"), self.pocket_context)
        return {
            **self._head(model),
            "canonical_slug": model,
            "context_length": context,
            "pricing": self._pricing(model),
            "top_provider": {"context_length": context, "is_moderated": False},
            "per_request_limits": limits,
            "supported_parameters": _parameters(model),
            "links": {"details": f"/api/v1/models/{model}/endpoints"},
            **dict.fromkeys(("default_parameters", "supported_voices")),
        }

    def endpoints(self, model: str) -> dict:
        """The body of `/models/{author}/{slug}/endpoints`. Raises `Refusal` as `entry`."""
        shared = {
            "model_id": model,
            "model_name": f"{model} (simulated)",
            "context_length": self.context(model),
            "max_prompt_tokens": self.pocket_context,
            "max_completion_tokens": self.pocket_context,
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
        return self._head(model) | {"endpoints": endpoints}

    def _row(self, model: str) -> dict:
        row = self._rows.get(without_routing_suffix(model))
        if row is None:
            known = ", ".join(self._rows)
            raise Refusal(404, f"There is no model {shortened(model)}. There are: {known}.")
        return row

    def _head(self, model: str) -> dict:
        inputs = _input_modalities(model)
        description = (
            f"Simulated: the kit's pocket model answers. It takes {self.pocket_context:,} tokens, "
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
        return {side: f"{self._row(model)[side]:f}" for side, _ in SIDES}


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


def _providers(routing: Routing) -> list[str]:
    """The providers that a request's `provider` object allows, in its order.

    OpenRouter's description names them by their slugs; the names are taken as well.
    """

    def known(names: Iterable[str] | None) -> list[str]:
        by_slug = {provider_slug(name): name for name in PROVIDERS}
        slugs = dict.fromkeys(provider_slug(name) for name in names or ())
        return [by_slug[slug] for slug in slugs if slug in by_slug]

    order = known(routing.order)
    if routing.allow_fallbacks is not False or not routing.order:
        order += [name for name in PROVIDERS if name not in order]
    only = known(routing.only) if routing.only else PROVIDERS
    return [name for name in order if name in only and name not in known(routing.ignore)]
