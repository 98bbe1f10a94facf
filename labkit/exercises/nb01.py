"""Exercises of notebook 01, Architecture notes."""

import math
import re
from typing import Any

from labkit.exercises.answers import WrongForm, alone, call, items, kind, number, shown
from labkit.exercises.engine import build, exercise, number_exercise, test

build(
    "01-kv",
    hint=(
        "What does the model keep of each token, in each layer, for each key/value head?",
        'The formula is in "The KV cache, predicted and measured".',
        "Half of it: one token of one user needs 2 * layers * kv_heads * head_dim * 2 bytes.",
    ),
    example="answer(40, 8, 128, 32768, 4) → 21474836480",
)

_KV_MISTAKES = {
    0.5: "That is half: a key **and** a value are stored, and each number takes 2 bytes.",
    0.25: "A key and a value are stored, and each number takes 2 bytes: two factors of 2.",
    2.0: "That is twice as much: at 16 bits a number takes 2 bytes.",
    8.0: "That is in bits. A byte has 8 of them.",
    1 / 2**30: "That is in GiB. Return bytes.",
    1e-9: "That is in GB. Return bytes.",
    1 / 1024: "That is in KiB. Return bytes.",
}


def _kv(answer: Any, *shape: int) -> str | None:
    layers, heads, size, tokens, users = shape
    value = number(alone(call(answer, *shape)), "The result", ("bytes", "byte", "B"))
    right = 2 * layers * heads * size * 2 * tokens * users
    if value == right:
        return None
    for factor, said in _KV_MISTAKES.items():
        if math.isclose(value, right * factor, rel_tol=1e-3):
            return said.replace("**", "")
    if users > 1 and value == right / users:
        return "That is the cache of one user. Each user has a cache."
    if tokens > 1 and value == right / tokens:
        return "That is one token. Each token of the context has its own key and value."
    return f"answer{shape} should be {right:,}, not {shown(value)}."


@test("01-kv", "one token of Mistral Small: 163,840 bytes")
def kv_of_a_token(answer: Any) -> str | None:
    """2 × 40 layers × 8 heads × 128 numbers × 2 bytes."""
    return _kv(answer, 40, 8, 128, 1, 1)


@test("01-kv", "a long context")
def kv_of_a_context(answer: Any) -> str | None:
    """It grows with the tokens."""
    return _kv(answer, 40, 8, 128, 32768, 1)


@test("01-kv", "several users")
def kv_of_users(answer: Any) -> str | None:
    """It grows with the users."""
    return _kv(answer, 40, 8, 128, 4096, 3)


@test("01-kv", "another model")
def kv_of_another_model(answer: Any) -> str | None:
    """The numbers of the pocket model: 30 layers, 4 heads of 64 numbers."""
    return _kv(answer, 30, 4, 64, 100, 2)


build(
    "01-gqa",
    hint=(
        "Which tokens may a token see? And which key/value head does query head 3 use, if 4 query "
        "heads share 2?",
        'Look at "Attention, by hand": `attention(head)`, with `head // group`.',
        "Half of it: scores = q[head] @ k[shared].T / size**0.5. Which head is `shared`? And what "
        "makes softmax give 0?",
    ),
    example="answer(q, k, v) returns an array with the shape of q",
    libraries=("numpy",),
)


def _attention(q, k, v, *, hidden=-math.inf, divisor=None, shares=None):
    """Grouped-query attention, right or with one mistake. Shapes: (heads, tokens, size).

    Args:
        hidden: in place of the scores of later tokens; None leaves them as they are.
        divisor: of the scores; None stands for the right one.
        shares: the key/value head of a query head; None stands for the right one.
    """
    import numpy as np

    heads, tokens, size = q.shape
    group, out = heads // len(k), []
    for head in range(heads):
        shared = min(shares(head) if shares else head // group, len(k) - 1)
        scores = q[head] @ k[shared].T / (divisor or size**0.5)
        if hidden is not None:
            scores = np.where(np.tri(tokens, dtype=bool), scores, hidden)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        out.append(weights / weights.sum(-1, keepdims=True) @ v[shared])
    return np.array(out)


def _heads(heads: int, shared: int, tokens: int = 5, size: int = 16, seed: int = 0):
    import numpy as np

    draw = np.random.default_rng(seed).normal
    return tuple(draw(size=(count, tokens, size)) for count in (heads, shared, shared))


def _attended(answer: Any, q, k, v):
    import numpy as np

    result = call(answer, q.copy(), k.copy(), v.copy(), shown="answer(q, k, v)")
    try:
        result = np.asarray(result, dtype=float)
    except (TypeError, ValueError):
        raise WrongForm(f"It should return one array of numbers, not {kind(result)}.") from None
    if result.shape != q.shape:
        raise WrongForm(
            f"It should return an array of shape {q.shape}, as q has; this one has {result.shape}."
        )
    return result


@test("01-gqa", "one head: softmax of the scaled scores, times the values")
def attention_of_one_head(answer: Any) -> str | None:
    """With one head only the mask, the scale and softmax matter."""
    return _compare_attention(answer, 1, 1)


@test("01-gqa", "no token sees a later one")
def attention_is_causal(answer: Any) -> str | None:
    """The first token attends to itself alone; a later value changes nothing before it."""
    import numpy as np

    q, k, v = _heads(1, 1)
    if not np.allclose(_attended(answer, q, k, v)[:, 0], v[:, 0], atol=1e-5):
        return "The first token can attend to itself only, so its result is its own value."
    before, v[:, -1] = _attended(answer, q, k, v), 9.0
    if not np.allclose(_attended(answer, q, k, v)[:, :-1], before[:, :-1], atol=1e-5):
        return "A change of the last token changes earlier ones. Mask the future."
    return None


@test("01-gqa", "neighbouring query heads share a key/value head")
def attention_in_groups(answer: Any) -> str | None:
    """Groups of four and of two: the size of a group comes from the shapes."""
    try:
        return _compare_attention(answer, 8, 2) or _compare_attention(answer, 6, 3)
    except WrongForm as wrong:
        if re.search(r"out of bounds.* with size [23]\b", str(wrong)):
            return f"A query head asks for a key/value head that does not exist. {GROUP}"
        raise


@test("01-gqa", "the 24B's ratio: 32 query heads, 8 key/value heads")
def attention_of_the_24b(answer: Any) -> str | None:
    """Any number of heads."""
    return _compare_attention(answer, 32, 8)


GROUP = "Compute the size of a group from the shapes: len(q) // len(k)."


def _compare_attention(answer: Any, heads: int, shared: int) -> str | None:
    import numpy as np

    q, k, v = _heads(heads, shared)
    result = _attended(answer, q, k, v)
    size = q.shape[-1]
    for mistake, said in (
        ({}, None),
        ({"hidden": None}, "The future is not masked: each token attends to later ones, too."),
        ({"hidden": 0}, "A score of 0 still gets a weight. Set the future to minus infinity."),
        ({"divisor": 1}, "Divide the scores by the square root of the head's size."),
        ({"divisor": size}, "Divide by the square root of the head's size, not by the size."),
        ({"divisor": 8}, "Divide by the square root of this q's size: q.shape[-1], not 64."),
        (
            {"shares": lambda head: head % shared},
            "Neighbours share a head: head // group, not head % kv_heads.",
        ),
        ({"shares": lambda head: head // 3}, f"These are groups of 3 heads. {GROUP}"),
        ({"shares": lambda head: head // 4}, f"These are groups of 4 heads. {GROUP}"),
        ({"shares": lambda head: 0}, f"All query heads use key/value head 0. {GROUP}"),
        ({"hidden": None, "divisor": 1}, "Two are missing: the mask and the scale."),
    ):
        if np.allclose(result, _attention(q, k, v, **mistake), atol=1e-4):
            return said
    if not np.isfinite(result).all():
        return "Some numbers are not finite. A token must be allowed to attend to itself."
    # The mean of ones is 1, whatever the weights are.
    if not np.allclose(_attended(answer, q, k, np.ones_like(v)), 1, atol=1e-4):
        return "The weights of a token should add up to 1: softmax over the keys, after the mask."
    return "The weights add up to 1, but they are others. Look at mask, scale and groups."


@exercise(
    "01-claim",
    hint=(
        "For each claim: which number of this notebook would show that it is false?",
        "This notebook has each answer: see KV cache, windows, roofline and 3.2 against 3.1.",
        "Half of it: A is true, and B is false.",
    ),
)
def judge_claims(answer: Any) -> str | None:
    """The set of the wrong claims. The hint is about the first letter that is judged wrongly."""
    words = items(answer, 'a set of letters, such as {"A", "C"}')
    letters = set("".join(str(word).strip().upper() for word in words))
    if not letters or not letters <= set("ABCDE"):
        return 'The answer should be a set of letters from A to E, such as {"A", "C"}.'
    reasons = {
        "A": "Claim A is true: 32 query heads share 8 key/value heads.",
        "B": "Claim B is false: shared key/value heads save memory; no more tokens are seen.",
        "C": "Claim C is true: the upper limit is 73 tokens per second.",
        "D": "Claim D is false: half of 2.11 would be 1.06.",
        "E": "Claim E is false: its sliding_window is null.",
    }
    false = {"B", "D", "E"}
    if letters < false:
        found, more = sorted(letters), len(false - letters)
        return (
            f"{' and '.join(found)} {'is' if len(found) == 1 else 'are'} false, as you say. "
            f"{more} more {'is' if more == 1 else 'are'} false."
        )
    mistaken = sorted(letters ^ false)
    if not mistaken:
        return None
    what = "It does not belong in" if mistaken[0] in letters else "It belongs in"
    return f"{reasons[mistaken[0]]} {what} the set."


number_exercise(
    "01-roofline",
    22.0,
    hint=(
        "How many bytes does the GPU read for each token?",
        'Look at "The roofline: how fast can it be at best?": bandwidth / bytes per token.',
        "Half of it: the blocks and lm_head are read, at 2 bytes for each parameter.",
    ),
    mistakes={
        44.0: "Each parameter takes two bytes at 16 bits.",
        22.672: "That is without lm_head, which is read for each token too.",
        21.0: "A token of text reads neither the vision encoder nor the table of embeddings.",
        0.04544: "That is seconds per token; take the inverse.",
        88.0: "Each parameter takes two bytes, so divide by 2 instead of multiplying.",
    },
    tolerance=0.02,
    units=("tokens per second", "tokens/s", "tokens/second", "tok/s", "t/s"),
)
