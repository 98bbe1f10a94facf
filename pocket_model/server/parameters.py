"""Parameters of other servers: dropped if they change no answer, else refused with a reason.

null means "not given", as in OpenAI's reference. Clients and proxies send many parameters at the
value that changes nothing; that value is taken.
"""

from typing import Any

from pocket_model.server.errors import ApiError, echo

# They name a request, or only make it faster.
LABELS = {
    "cache_control",
    "cache_prompt",
    "cache_salt",
    "keep_alive",
    "metadata",
    "prediction",
    "priority",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "request_id",
    "safety_identifier",
    "session_id",
    "user",
}

# The values that change nothing, and what any other value would do.
NEUTRAL: dict[str, tuple[tuple, str]] = {
    # OpenAI's
    "audio": ((), "ask for an answer in sound"),
    "frequency_penalty": ((0,), "make words less likely that were used often"),
    "function_call": (("none", "auto"), "choose a function; it is deprecated: use tool_choice"),
    "functions": (([],), "offer functions; it is deprecated: use tools"),
    "logit_bias": (({},), "change the probability of single tokens"),
    "modalities": ((["text"],), "ask for something else than text"),
    "n": ((1,), "ask for another number of answers than one"),
    "presence_penalty": ((0,), "make words less likely that were used before"),
    "reasoning_effort": (("none",), "set how long a reasoning model thinks"),
    "service_tier": (("auto", "default"), "choose another price and speed"),
    "store": ((False,), "keep the answer for later"),
    "verbosity": (("medium",), "make the answer shorter or longer"),
    "web_search_options": ((), "search the web"),
    # OpenRouter's, and those of local servers
    "min_p": ((0,), "leave out unlikely tokens"),
    "repeat_penalty": ((1,), "make repetitions less likely"),
    "repetition_penalty": ((1,), "make repetitions less likely"),
    "top_a": ((0,), "leave out unlikely tokens"),
    "top_k": ((0, -1), "leave out all but the k most likely tokens"),
    "typical_p": ((1,), "leave out unlikely tokens"),
    # vLLM's
    "add_generation_prompt": ((True,), "leave the answer's beginning out of the prompt"),
    "bad_words": (([],), "forbid words"),
    "best_of": ((1,), "choose the best of several answers"),
    "chat_template_kwargs": (({},), "change the prompt's form"),
    "continue_final_message": ((False,), "continue the last assistant message"),
    "echo": ((False,), "repeat the prompt in the answer"),
    "include_stop_str_in_output": ((False,), "keep the stop string in the answer"),
    "length_penalty": ((1,), "make a beam search prefer short answers"),
    "skip_special_tokens": ((True,), "show control tokens in the answer"),
    "stop_token_ids": (([],), "end the answer at single tokens"),
    "use_beam_search": ((False,), "search several answers at once"),
    # Added by vllm-router to every request
    "include_reasoning": ((True,), "leave reasoning out of the answer"),
    "no_stop_trim": ((False,), "keep the stop string in the answer"),
    "return_hidden_states": ((False,), "return what the layers compute"),
    "separate_reasoning": ((True,), "mix reasoning into the answer"),
    "stream_reasoning": ((True,), "hold reasoning back in a stream"),
    # Mistral's
    "safe_prompt": ((False,), "add Mistral's safety prompt"),
}


def supported(body: dict[str, Any]) -> dict[str, Any]:
    """A request's body without what changes no answer.

    Raises:
        ApiError: a parameter would change the answer in a way that this server cannot.
    """
    kept = {k: v for k, v in body.items() if v is not None and k not in LABELS}
    seed = kept.pop("random_seed", None)  # Mistral's name
    if seed is not None and kept.setdefault("seed", seed) != seed:
        raise ApiError(400, "random_seed: seed is given too, and differs; send one", "random_seed")
    bias = kept.get("logit_bias")
    if isinstance(bias, dict) and not any(bias.values()):
        del kept["logit_bias"]
    for name, (neutral, effect) in NEUTRAL.items():
        if name in kept and (value := kept.pop(name)) not in neutral:
            harmless = f", or send {' or '.join(map(echo, neutral))}" if neutral else ""
            message = f"{name}: {echo(value)} would {effect}. This server cannot do that. "
            raise ApiError(400, f"{message}Leave it out{harmless}.", name)
    return kept
