"""The next token: how likely the model found each one, and how an answer goes on after another."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from helpers.backends import Lab
from helpers.widgets.explorer import Explorer

SHOWN = 12  # of the likeliest tokens at a step; servers tell 20 at most
END = "</s>"  # the one control token, which have no bytes, that can follow in an answer


def shares(
    logprobs: Sequence[float], temperature: float, top_p: float = 1.0, min_p: float = 0.0
) -> list[float]:
    """With which probability each of these tokens is drawn.

    Args:
        logprobs: the natural logarithms of the model's probabilities.
        temperature: 0 takes the likeliest token.
        top_p: the likeliest tokens stay until together they reach this probability.
        min_p: a token stays if it has this share of the likeliest one's probability.

    Returns:
        probabilities that add up to 1; 0 for a token that is cut.
    """
    best = max(logprobs)
    if temperature < 1e-5:
        first = list(logprobs).index(best)
        return [float(place == first) for place in range(len(logprobs))]
    weights = [math.exp((log - best) / temperature) for log in logprobs]
    total = sum(weights)
    weights = [weight / total for weight in weights]
    order = sorted(range(len(weights)), key=lambda place: -weights[place])
    most, before = weights[order[0]], 0.0
    kept = [0.0] * len(weights)
    for place in order:
        if before < top_p and weights[place] >= min_p * most:
            kept[place] = weights[place]
        before += weights[place]
    return [weight / sum(kept) for weight in kept]


def answer_steps(
    lab: Lab, messages: list[dict], *, tokens: int, shown: int = SHOWN
) -> list[dict[str, Any]]:
    """The greedy answer's tokens, each with the likeliest ones at its place.

    Args:
        messages: a conversation. An assistant message with `"prefix": True` at its end is the
            answer's beginning.

    Raises:
        ValueError: the backend tells no log probabilities.
    """
    if "logprobs" not in lab.supports:
        raise ValueError(
            f"The backend {lab.backend!r} tells no log probabilities. Use the pocket model or vLLM."
        )
    reply = lab.client.chat.completions.create(
        model=lab.model,
        messages=messages,
        temperature=0,
        max_tokens=tokens,
        logprobs=True,
        top_logprobs=shown,
    )
    content = reply.choices[0].logprobs.content or []
    return [
        {
            "text": entry.token,
            "logprob": round(entry.logprob, 4),
            "likeliest": [_candidate(o) for o in entry.top_logprobs if o.bytes or o.token == END],
        }
        for entry in content
    ]


def _candidate(entry) -> dict[str, Any]:
    return {"text": entry.token, "logprob": round(entry.logprob, 4), "ends": entry.token == END}


def explore(
    lab: Lab, question: str, *, tokens: int = 8, branches: int = 2, seed: int = 7
) -> Explorer:
    """Ask a question, and look at each step of the answer; other tokens can be taken by a click.

    For the likeliest other tokens of every step the answer is computed too, so that the page needs
    no server. Such a beginning is sent as text. Rarely its tokens are then other ones. vLLM has
    another setting to continue an answer, so there only the first answer is computed.

    Args:
        tokens: length of the answers.
        branches: other tokens of each step, after which the answer's continuation is computed.
        seed: of the draws in the page.
    """
    if lab.backend != "pocket":
        branches = 0
    ask = [{"role": "user", "content": question}]
    first = answer_steps(lab, ask, tokens=tokens)
    if not first:
        raise ValueError("The answer has no tokens of text. Ask something else.")
    nodes = [{"steps": first, "parent": None, "at": 0}]
    for at, step in enumerate(first):
        before = "".join(each["text"] for each in first[:at])
        left = branches
        for candidate in step["likeliest"]:
            candidate |= {"node": None, "step": at}
            if candidate["text"] == step["text"]:
                candidate["node"] = 0
                continue
            beginning = before + candidate["text"]
            if not left or candidate["ends"] or "\ufffd" in beginning or not beginning.strip():
                continue
            left -= 1
            begun = {"role": "assistant", "content": beginning, "prefix": True}
            taken = {key: candidate[key] for key in ("text", "logprob")}
            steps = answer_steps(lab, [*ask, begun], tokens=max(1, tokens - at - 1))
            for number, each in enumerate(steps):
                for other in each["likeliest"]:
                    same = other["text"] == each["text"]
                    other |= {"node": len(nodes) if same else None, "step": at + 1 + number}
            candidate["node"] = len(nodes)
            steps = [taken | {"likeliest": step["likeliest"]}, *steps]
            nodes.append({"steps": steps, "parent": 0, "at": at})
    data = {"question": question, "seed": seed, "nodes": nodes}
    return Explorer(f"The next token, {lab.model}", _table(first), data, "next_token.js")


def _table(steps: list[dict]) -> pd.DataFrame:
    rows = []
    for step in steps:
        others = [each for each in step["likeliest"] if each["text"] != step["text"]][:2]
        row = {"token": step["text"], "probability": f"{math.exp(step['logprob']):.1%}"}
        for name, other in zip(("then", "and then"), others, strict=False):
            row[name] = f"{other['text']} {math.exp(other['logprob']):.1%}"
        rows.append(row)
    return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="step"))
