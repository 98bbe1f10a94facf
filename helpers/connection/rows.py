"""The backends that the kit knows, one row each."""

from dataclasses import dataclass, field

from openrouter_sim.faults import KEY as SIMULATED_KEY
from pocket_model.build import MODEL_ID

SMALL_3_2 = "mistralai/Mistral-Small-3.2-24B-Instruct-2506"

# Every feature that the conformance suite tries, in its order.
ALL_FEATURES = (
    *("stream", "stream_options", "stop", "seed", "max_tokens", "usage", "conversation", "errors"),
    *("context_overflow", "parallel", "tools", "tool_choice", "structured_output", "vision"),
    "logprobs",
)


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
        setup_hint: what to do before its first use, or if its server does not answer.
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
    ),
    "openrouter": Backend(
        "OpenRouter, a gateway to many providers",
        "https://openrouter.ai/api/v1",
        "OPENROUTER_API_KEY",
        "mistralai/mistral-small-3.2-24b-instruct",
        paid=True,
        documented=frozenset(ALL_FEATURES) - {"logprobs"},  # only some of its providers have them
        setup_hint="make a key at https://openrouter.ai/settings/keys",
        checked="2026-11-26: a simulator checked against its OpenAPI document",
    ),
    "openrouter-sim": Backend(
        "OpenRouter simulated on this machine: the pocket model answers",
        key_variable="OPENROUTER_API_KEY",
        model="mistralai/mistral-small-3.2-24b-instruct",
        documented=frozenset(ALL_FEATURES) - {"logprobs"},
        setup_hint="remove its address, and it starts in this process",
        checked="2026-11-26: checked against OpenRouter's OpenAPI document",
        default_key=SIMULATED_KEY,
    ),
    "mistral": Backend(
        "Mistral AI's own API (its model “latest” is a newer Small by now)",
        "https://api.mistral.ai/v1",
        "MISTRAL_API_KEY",
        "mistral-small-latest",
        paid=True,
        # It refuses `stream_options` with status 422, and counts tokens in every stream.
        documented=frozenset(ALL_FEATURES) - {"stream_options", "logprobs"},
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
        # Its log probabilities come in another form.
        documented=frozenset(ALL_FEATURES) - {"stream_options", "vision", "logprobs"},
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
        documented=frozenset(ALL_FEATURES)
        - {"stream_options", "context_overflow", "vision", "logprobs"},
        setup_hint="make a key at https://app.fireworks.ai/settings/users/api-keys",
        checked="2026-11-26: a scripted server written from its documentation",
    ),
    "ollama": Backend(
        "Ollama on this machine",
        "http://localhost:11434/v1",
        model="mistral-small3.2",
        # It ignores tool_choice, checks no ranges, and cuts a prompt that is too long.
        documented=frozenset(ALL_FEATURES)
        - {"tool_choice", "errors", "context_overflow", "logprobs"},
        setup_hint="install Ollama, then: ollama pull mistral-small3.2 && ollama serve",
        checked="2026-11-26: a scripted server written from its documentation",
    ),
    "vllm": Backend(
        "vLLM on this machine or through a tunnel",
        "http://localhost:8000/v1",
        "VLLM_API_KEY",
        model=SMALL_3_2,
        setup_hint=f"start vllm as notebook 07 shows: make serve MODEL={SMALL_3_2}",
        checked="2026-11-26: vLLM 0.32.0 on a CPU, with the pocket model",
    ),
    "custom": Backend(
        "any other server of the same protocol, such as one for a whole room",
        key_variable="CUSTOM_API_KEY",
        documented=frozenset({"stream", "usage"}),
        setup_hint="start the server, or correct its address",
        checked="depends on the server",
    ),
}
