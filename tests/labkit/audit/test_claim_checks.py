"""Each computed verdict follows from the numbers that the check is given."""

import json

import pytest

from helpers import prices
from helpers.model import configs
from labkit.audit import claims, published_scores
from labkit.audit.claim_checks import CHECKS

COMPUTED = [claim for claim in claims.read().claims if claim.how == "computed"]


@pytest.mark.parametrize("claim", COMPUTED, ids=lambda claim: claim.id)
def test_the_computation_gives_the_verdict_and_the_value_on_file(claim):
    assert claim.compute() == (claim.value, claim.verdict)


# Other numbers in the claim, another verdict: the checks do not know the answer.
OTHER_NUMBERS = [
    ("small3-parameters", {"billions": 22}, "wrong"),
    ("small3-mmlu", {"percent": 80}, "right"),
    ("small3-150-tokens", {"tokens_per_s": 70}, "plausible"),
    ("small3-150-tokens", {"gpu": "H200", "tokens_per_s": 104}, "plausible"),
    ("small3-fewer-layers", {"rivals": ["mistral-7b-v0.3"]}, "wrong"),
    ("small3-three-times-faster", {"times": 6}, "misleading"),
    ("small3-matches-llama", {"rival": "Gemma 2 27B"}, "right"),
    ("small3-rtx-4090", {"gpus": ["T4 (Colab)"]}, "misleading"),
    ("openrouter-model-id", {"model": "mistralai/mistral-small-24b-instruct-2501"}, "right"),
    (
        "openrouter-first-choice",
        {"reply": {"choices": [{"message": {"content": "hello"}}]}},
        "right",
    ),
    ("openrouter-first-choice", {"reply": {"choices": None}}, "misleading"),
    ("small32-infinite-halved", {"after": 1.055}, "right"),
    ("small32-never-worse", {"groups": ["instructions"]}, "right"),
    ("small32-languages", {"claimed": 25}, "half true"),
    ("small32-languages", {"listed": ["English", "English"], "claimed": 2}, "half true"),
    ("small32-55-gb", {"gigabytes": 48}, "wrong"),
    ("small32-picture-limit", {"old": '{"image": 10}'}, "right"),
    ("small32-max-tokens", {"max_tokens": 16384}, "right"),
    ("small32-tool-ids", {"ids": ["call_abc1"]}, "wrong"),
    ("small32-tool-ids", {"ids": ["bbc5b7ede\n"]}, "wrong"),
    ("mistral7b-window", {"window": 8192}, "wrong"),
    ("mistral7b-window", {"later": "mistral-7b-v0.1"}, "right"),
    ("mistral7b-five-times", {"billions": 23}, "wrong"),
    ("llama2-context", {"tokens": 4096}, "right"),
    ("essay-wildbench", {"score": 52.3, "rival": "Llama 3.3 70B"}, "right"),
    ("essay-wildbench", {"rival": "Llama 3.3 70B"}, "wrong"),
    ("essay-humaneval", {"score": 84.8, "rival": "Gemma 2 27B"}, "right"),
    ("essay-layers", {"percent": 50, "rivals": ["llama-3.3-70b"]}, "right"),
    ("essay-layers", {"percent": 30}, "wrong"),
    ("essay-dynamic-window", {"config": "mistral-7b-v0.1"}, "plausible"),
    ("essay-a100", {"seconds": 60}, "plausible"),
    ("essay-a100-llama", {"gpu": "H200", "seconds": 2048}, "plausible"),
    ("essay-16-gb", {"gigabytes": 24}, "right"),
    ("essay-16-gb", {"gigabytes": 15}, "wrong"),
    ("essay-price", {"usd_per_million": 0.06}, "plausible"),
    ("essay-gsm8k", {"points": 5}, "plausible"),
    ("essay-kv-quarter", {"share": 0.5}, "wrong"),
    ("essay-colab", {"gpu": "RTX 4090"}, "plausible"),
    ("essay-14-gb", {"gigabytes": 13}, "wrong"),
    ("essay-roadmap-vision", {"config": "mistral-small-3.1-2503"}, "wrong"),
    ("essay-roadmap-vision", {"later": "mistral-small-3-2501"}, "unverifiable"),
    ("essay-roadmap-128k", {"tokens": 200_000}, "wrong"),
]


@pytest.mark.parametrize(("claim_id", "other", "verdict"), OTHER_NUMBERS)
def test_the_verdict_follows_the_numbers(claim_id, other, verdict):
    claim = claims.load(claim_id)
    assert CHECKS[claim.check](**(claim.given | other)).verdict == verdict


def test_every_check_is_used():
    assert {claim.check for claim in COMPUTED} == set(CHECKS)


def test_by_hand():
    """The best-known figures, without the kit's own arithmetic."""
    change, rate, ratio = 100 * (1.29 / 2.11 - 1), 2048 / 13.7, 41.2 / 13.7
    assert (change, rate, ratio) == pytest.approx((-38.9, 149.5, 3.007), abs=0.05)
    blocks, head = 40 * (2 * 5120 * 4096 + 2 * 5120 * 1024 + 3 * 5120 * 32768), 131072 * 5120
    assert 2039e9 / (2 * (blocks + head)) == pytest.approx(44.5, abs=0.05)
    assert "149.5 tokens/s; at most 44.5 " in claims.load("essay-a100").value
    assert 2 * 40 * 8 * 128 * 2 == 160 * 1024
    assert 2 * 40 * 32 * 128 * 2 == 640 * 1024
    human = published_scores.table("small-3-2501-human").groupby("group")["Llama 3.3 70B"].sum()
    assert human["for the other"] == pytest.approx(0.41, abs=0.005)
    assert human["for Small 3"] == pytest.approx(0.36, abs=0.005)
    assert "41 % to 36 %" in claims.load("small3-matches-llama").evidence


@pytest.mark.parametrize(
    "tool_id", ["bbc5b7ede", "3e92V6Vfo", "call_abc1", "a1b2c3d4", "a1b2c3d4e5", "abc defgh"]
)
def test_the_rule_for_tool_ids_is_mistral_commons(tool_id):
    from mistral_common.exceptions import InvalidFunctionCallException
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.protocol.instruct.validator import MistralRequestValidatorV3

    call = {"id": tool_id, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Call f."},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": tool_id, "name": "f", "content": "done"},
    ]
    request = ChatCompletionRequest.from_openai(messages=messages)
    try:
        MistralRequestValidatorV3().validate_request(request)
        accepted = True
    except InvalidFunctionCallException:
        accepted = False
    assert (CHECKS["tool_call_ids"]([tool_id]).verdict == "right") == accepted


def test_a_price_list_of_another_day_is_read(tmp_path, monkeypatch):
    path = tmp_path / "prices.json"
    models = {"mistralai/x": {"input": 0.3, "output": 0.4}}
    path.write_text(json.dumps({"models": models}), encoding="utf-8")
    monkeypatch.setattr(prices, "PRICES", path)
    assert CHECKS["price"]("mistralai/x", 0.38) == ("$0.30 in and $0.40 out", "plausible")


def test_layers_come_from_the_configs():
    names = ["mistral-small-3-2501", "llama-3.3-70b", "qwen2.5-32b", "gemma-2-27b"]
    layers = [configs.load(name).get_text_config().num_hidden_layers for name in names]
    assert layers == [40, 80, 64, 46]
