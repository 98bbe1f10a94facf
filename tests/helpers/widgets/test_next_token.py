"""The next token: the server's probabilities, and what sampling makes of them."""

import math

import pytest
import torch
from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopPLogitsWarper

from helpers import connect
from helpers.widgets import next_token

LOGS = torch.randn(12, generator=torch.Generator().manual_seed(1)).mul(2).log_softmax(-1)


@pytest.fixture(scope="module")
def lab(model_folder):
    connected = connect("pocket")
    yield connected
    connected.close()


@pytest.mark.parametrize("temperature", [0.15, 0.7, 1.0, 1.9])
@pytest.mark.parametrize(
    "rule", [{}, {"top_p": 0.3}, {"top_p": 0.9}, {"min_p": 0.05}, {"min_p": 0.4}]
)
def test_shares_are_transformers(temperature, rule):
    scores = TemperatureLogitsWarper(temperature)(None, LOGS[None])
    if "top_p" in rule:
        scores = TopPLogitsWarper(rule["top_p"])(None, scores)
    if "min_p" in rule:
        scores = MinPLogitsWarper(rule["min_p"])(None, scores)
    found = next_token.shares(LOGS.tolist(), temperature, **rule)
    assert found == pytest.approx(scores.softmax(-1)[0].tolist(), abs=1e-6)


def test_at_temperature_0_the_likeliest_token_is_drawn():
    assert next_token.shares([-2.0, -0.5, -1.0], 0) == [0, 1, 0]


def test_a_step_has_the_servers_probabilities(lab):
    question = "What is the capital of Italy?"
    made = next_token.explore(lab, question, tokens=4, branches=1)
    reply = lab.client.chat.completions.create(
        model=lab.model,
        messages=[{"role": "user", "content": question}],
        temperature=0,
        max_tokens=4,
        logprobs=True,
        top_logprobs=next_token.SHOWN,
    )
    content = reply.choices[0].logprobs.content
    first = made.data["nodes"][0]["steps"]
    assert [step["text"] for step in first] == [entry.token for entry in content]
    for step, entry in zip(first, content, strict=True):
        told = {o.token: o.logprob for o in entry.top_logprobs if o.bytes or o.token == "</s>"}
        assert {c["text"]: c["logprob"] for c in step["likeliest"]} == pytest.approx(told, abs=1e-3)
    assert list(made.table["token"]) == [entry.token for entry in content]
    assert made.table.loc[1, "probability"] == f"{math.exp(content[0].logprob):.1%}"


def test_a_branch_goes_on_as_the_server_goes_on(lab):
    question = "Name a colour."
    made = next_token.explore(lab, question, tokens=5, branches=2)
    nodes = made.data["nodes"]
    assert len(nodes) > 4
    main = [step["text"] for step in nodes[0]["steps"]]
    for number, node in enumerate(nodes[1:], start=1):
        at = node["at"]
        taken = [c for c in nodes[0]["steps"][at]["likeliest"] if c["node"] == number]
        assert [c["text"] for c in taken] == [node["steps"][0]["text"]]
        beginning = "".join(main[:at]) + node["steps"][0]["text"]
        reply = lab.client.chat.completions.create(
            model=lab.model,
            messages=[
                {"role": "user", "content": question},
                {"role": "assistant", "content": beginning, "prefix": True},
            ],
            temperature=0,
            max_tokens=max(1, 5 - at - 1),
        )
        rest = "".join(step["text"] for step in node["steps"][1:])
        assert reply.choices[0].message.content == beginning.rstrip(" ") + rest


def test_a_backend_without_probabilities_is_told_apart(lab):
    lab = type(lab)(**{**vars(lab), "supports": lab.supports - {"logprobs"}})
    with pytest.raises(ValueError, match="no log probabilities"):
        next_token.explore(lab, "Hi")


def test_on_another_server_only_the_first_answer_is_computed(lab):
    """Its `prefix` could be ignored without a word."""
    other = type(lab)(**{**vars(lab), "backend": "vllm"})
    made = next_token.explore(other, "Name a colour.", tokens=3, branches=2)
    assert len(made.data["nodes"]) == 1
    assert {c["node"] for step in made.data["nodes"][0]["steps"] for c in step["likeliest"]} == {
        0,
        None,
    }
