"""Checks of prices, APIs and libraries, from the price list or by trying the installed library."""

from __future__ import annotations

import json
import re
import tempfile

from helpers import prices
from helpers.model import configs
from labkit.audit.claim_checks.finding import Finding


def openrouter_id(model: str, means: str) -> Finding:
    """Right if the dated price list has the id; if not, the ids that end with `means`."""
    ids = list(prices.priced_models())
    if model in ids:
        return Finding(model, "right")
    return Finding(" or ".join(known for known in ids if known.endswith(means)), "wrong")


def price(model: str, usd_per_million: float) -> Finding:
    """A single price is plausible between the price of input and that of output."""
    row = prices.priced_models()[model]
    inside = row["input"] <= usd_per_million <= row["output"]
    value = f"${row['input']:.2f} in and ${row['output']:.2f} out"
    return Finding(value, "plausible" if inside else "wrong")


def first_choice(reply: dict) -> Finding:
    """The article's own expression, run on a reply of status 200."""
    try:
        content = reply.get("choices", [])[0].get("message", {}).get("content", "")
    except (IndexError, TypeError) as error:
        name = type(error).__name__
        value = f"{name} if a reply of status 200 has an error and no choices"
        return Finding(value, "misleading")
    return Finding(f"the text {content!r}", "right")


def json_value(old: str, now: str) -> Finding:
    """Which of two forms of a setting is JSON."""

    def is_json(text: str) -> bool:
        try:
            json.loads(text)
        except json.JSONDecodeError:
            return False
        return True

    if is_json(old):
        return Finding(old, "right")
    return Finding(now if is_json(now) else "neither form is JSON", "outdated")


def tool_call_ids(ids: list[str]) -> Finding:
    """The rule that mistral_common enforces."""
    refused = [call_id for call_id in ids if not re.fullmatch(r"[a-zA-Z0-9]{9}", call_id)]
    if refused:
        return Finding(f"refused: {', '.join(refused)}", "wrong")
    number = "both" if len(ids) == 2 else f"all {len(ids)}"
    return Finding(f"nine letters or digits, {number}", "right")


def in_a_release(name: str) -> Finding:
    """Outdated if the installed transformers is a release and has the class `name`."""
    import transformers

    if hasattr(transformers, name) and "dev" not in transformers.__version__:
        return Finding(f"any release that has {name}, as the installed one does", "outdated")
    return Finding(f"no installed release has {name}", "right")


def without_remote_code(config: str) -> Finding:
    """Outdated if transformers' own classes read the config."""
    shape = configs.load(config)
    if type(shape).__module__.startswith("transformers."):
        value = f"not needed, transformers itself has the model type {shape.model_type}"
        return Finding(value, "outdated")
    return Finding("needed", "right")


def load_in_4bit() -> Finding:
    """Really try the keyword, on a tiny random model of the same class."""
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, MistralConfig

    tiny = MistralConfig(
        num_hidden_layers=1,
        hidden_size=32,
        intermediate_size=32,
        num_attention_heads=1,
        num_key_value_heads=1,
        vocab_size=32,
    )
    weights = AutoModelForCausalLM.from_config(tiny).state_dict()
    with tempfile.TemporaryDirectory() as folder:
        tiny.save_pretrained(folder)
        save_file(weights, f"{folder}/model.safetensors", metadata={"format": "pt"})
        try:
            AutoModelForCausalLM.from_pretrained(folder, load_in_4bit=True)
        except TypeError as error:
            name = type(error).__name__
            value = f"{name}; quantization_config=BitsAndBytesConfig(…) instead"
            return Finding(value, "outdated")
    return Finding("it loads", "right")
