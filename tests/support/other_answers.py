"""Answers to the exercises: (exercise, answer, "right" or "wrong", why).

Their author knew only the exercises' texts and the lessons, and had not seen the checks.
"""

import ast
import bisect
import copy
import functools
import itertools
import json
import math
import random
import re
import statistics
from decimal import Decimal
from fractions import Fraction

import numpy as np

try:
    import torch
except ImportError:  # the few torch answers are left out then
    torch = None

CASES = []


def right(exercise, answer, why):
    CASES.append((exercise, answer, "right", why))


def wrong(exercise, answer, why):
    CASES.append((exercise, answer, "wrong", why))


STUB = "You have not answered yet: replace the three dots."
CALLED = "Give the function itself, not its result for one example."
PRINTS = "The function prints its result and returns None; write return."
NOT_FUNCTION = "This is a text that describes a function; write the function."

# ------------------------------------------------------------------------- 00-messages
ROME = "What is the capital of Italy?"
right(
    "00-messages",
    [{"role": "system", "content": "Answer with one word."}, {"role": "user", "content": ROME}],
    "The plain form.",
)
right(
    "00-messages",
    [
        dict(role="system", content="Reply in a single word only, nothing else."),
        dict(content="Name the capital city of Italy.", role="user"),
    ],
    "Other words, dict() and another order of the keys.",
)
right(
    "00-messages",
    [
        {"role": "system", "content": "use exactly one word for every answer!"},
        {"role": "user", "content": "italy's capital?"},
    ],
    "Lower case and short, but both messages say what was asked for.",
)
right(
    "00-messages",
    [
        {"role": "system", "content": "All of your answers must be one-word answers."},
        {"role": "user", "content": "Tell me the capital of Italy, please."},
    ],
    "The rule and the request in other words.",
)
right(
    "00-messages",
    [
        {"role": "system", "content": "You are a geography teacher. Always answer with 1 word."},
        {"role": "user", "content": "Which city is the capital of Italy?"},
    ],
    "A digit instead of 'one', and a role before the rule.",
)
wrong("00-messages", ..., STUB)
wrong(
    "00-messages",
    [{"role": "user", "content": "Answer with one word. " + ROME}],
    "Rule and question are in one user message; the rule belongs into a system message.",
)
wrong(
    "00-messages",
    [{"role": "system", "content": ROME}, {"role": "user", "content": "Answer with one word."}],
    "The contents are swapped: the system message has the rule, the user message the question.",
)
wrong(
    "00-messages",
    [{"role": "user", "content": ROME}, {"role": "system", "content": "Answer with one word."}],
    "A system message comes before the conversation, so it is the first of the list.",
)
wrong(
    "00-messages",
    [{"role": "assistant", "content": "Answer with one word."}, {"role": "user", "content": ROME}],
    "The role assistant is for the model's own answers; a rule has the role system.",
)
wrong(
    "00-messages",
    [{"role": "user", "content": "Answer with one word."}, {"role": "user", "content": ROME}],
    "Both messages have the role user; the rule must be a system message.",
)
wrong(
    "00-messages",
    [{"role": "system", "text": "Answer with one word."}, {"role": "user", "text": ROME}],
    "The key of the text is called content.",
)
wrong(
    "00-messages",
    ["Answer with one word.", ROME],
    "A message is a dict with role and content, not only a text.",
)
wrong(
    "00-messages",
    [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": ROME},
    ],
    "The system message does not ask for answers of one word.",
)
wrong(
    "00-messages",
    [
        {"role": "system", "content": "Answer with one word."},
        {"role": "user", "content": "What is the capital of Japan?"},
    ],
    "This asks for Japan, not for Italy.",
)
wrong(
    "00-messages",
    {"system": "Answer with one word.", "user": ROME},
    "The messages are a list of two dicts, not one dict of two roles.",
)
wrong(
    "00-messages",
    json.dumps(
        [{"role": "system", "content": "Answer with one word."}, {"role": "user", "content": ROME}]
    ),
    "This is a text of JSON; the answer is the list itself.",
)
wrong(
    "00-messages",
    [{"role": "system", "content": "Answer with one sentence."}, {"role": "user", "content": ROME}],
    "The rule is one word, not one sentence.",
)
wrong(
    "00-messages",
    [
        {"role": "system", "content": "Answer with one word."},
        {"role": "user", "content": ROME},
        {"role": "assistant", "content": "Rome"},
    ],
    "The third message is the model's answer, which it should write itself.",
)

# ----------------------------------------------------------------------------- 00-seed
right("00-seed", {"temperature": 1.2, "seed": 7}, "As in the lesson.")
right("00-seed", dict(temperature=1, seed=42, max_tokens=16), "dict(), with one more setting.")
right("00-seed", {"seed": 0, "temperature": 0.7}, "0 is a seed like any other.")
right(
    "00-seed",
    {"temperature": 0.15, "seed": 123_456, "top_p": 0.9},
    "A low temperature still samples; top_p is allowed.",
)
right("00-seed", {"temperature": 2, **{"seed": 1}}, "Built from two parts, as **lab.seed(1) does.")
wrong("00-seed", ..., STUB)
wrong(
    "00-seed",
    {"temperature": 0},
    "At temperature 0 nothing is drawn at random: the answers are equal, but not sampled.",
)
wrong(
    "00-seed",
    {"temperature": 0, "seed": 7},
    "At temperature 0 the likeliest token is always taken, so the seed has nothing to fix.",
)
wrong(
    "00-seed",
    {"seed": 7},
    "Without a temperature `ask` uses 0, so nothing is sampled; a temperature is missing.",
)
wrong("00-seed", {"temperature": 1.2}, "This samples, but without a seed the answers differ.")
wrong("00-seed", {"temperature": 1.2, "seed": None}, "None is no seed, so nothing is fixed.")
wrong("00-seed", {"temp": 1.2, "seed": 7}, "The setting is called temperature.")
wrong("00-seed", {"temperature": "1.2", "seed": "7"}, "Both settings are numbers, not texts.")
wrong("00-seed", "temperature=1.2, seed=7", "Write a dict, not a text.")
wrong("00-seed", ["temperature", "seed"], "These are only the names; a dict has their values too.")
wrong("00-seed", {"temperature": -1, "seed": 7}, "A temperature cannot be below 0.")
wrong("00-seed", {"temperature", "seed"}, "This is a set of names; a dict has name: value.")
wrong(
    "00-seed",
    {"lab.seed": 7, "temperature": 1.2},
    "`lab.seed(7)` is a call that returns a dict; the name of the setting is seed.",
)
wrong("00-seed", {"seed": 0.5, "temperature": 1.2}, "A seed is a whole number.")


# -------------------------------------------------------------------------- 00-history
def history_star(messages, reply, question):
    return [
        *messages,
        {"role": "assistant", "content": reply},
        {"role": "user", "content": question},
    ]


def history_copy(messages, reply, question):
    new = copy.deepcopy(messages)
    new.append(dict(role="assistant", content=reply))
    new.append(dict(role="user", content=question))
    return new


def history_loop(messages, reply, question):
    conversation = []
    for message in messages:
        conversation.append(message)
    for role, content in zip(("assistant", "user"), (reply, question)):
        conversation.append({"role": role, "content": content})
    return conversation


class History:
    def ask_again(self, messages, reply, question):
        return list(
            itertools.chain(
                messages,
                [{"role": "assistant", "content": reply}],
                [{"role": "user", "content": question}],
            )
        )


right("00-history", history_star, "A new list with a star.")
right("00-history", history_copy, "A deep copy, then append.")
right("00-history", history_loop, "With a loop.")
right("00-history", History().ask_again, "A method is a function too.")
right(
    "00-history",
    lambda messages, reply, question: (
        list(messages)
        + [{"role": "assistant", "content": reply}, {"role": "user", "content": question}]
    ),
    "A lambda.",
)


def history_mutates(messages, reply, question):
    messages.append({"role": "assistant", "content": reply})
    messages.append({"role": "user", "content": question})
    return messages


def history_plus_equals(messages, reply, question):
    new = messages
    new += [{"role": "assistant", "content": reply}, {"role": "user", "content": question}]
    return new


def history_none(messages, reply, question):
    return messages.copy().extend(
        [{"role": "assistant", "content": reply}, {"role": "user", "content": question}]
    )


def history_prints(messages, reply, question):
    print(
        [*messages, {"role": "assistant", "content": reply}, {"role": "user", "content": question}]
    )


def history_first_only(messages, reply, question):
    return [
        messages[0],
        {"role": "assistant", "content": reply},
        {"role": "user", "content": question},
    ]


def history_last_only(messages, reply, question):
    return [
        messages[-1],
        {"role": "assistant", "content": reply},
        {"role": "user", "content": question},
    ]


wrong("00-history", ..., STUB)
wrong(
    "00-history", history_mutates, "append changes the list that it was given: make a copy first."
)
wrong(
    "00-history",
    history_plus_equals,
    "A second name is no copy: += changes the list that was given.",
)
wrong("00-history", history_none, "extend returns None, so the function returns None.")
wrong("00-history", history_prints, PRINTS)
wrong(
    "00-history",
    lambda messages, reply, question: [*messages, {"role": "user", "content": question}],
    "The model's own answer is missing; without it the conversation has a hole.",
)
wrong(
    "00-history",
    lambda messages, reply, question: [
        *messages,
        {"role": "user", "content": reply},
        {"role": "user", "content": question},
    ],
    "The model's answer has the role assistant, not user.",
)
wrong(
    "00-history",
    lambda messages, reply, question: [
        *messages,
        {"role": "user", "content": question},
        {"role": "assistant", "content": reply},
    ],
    "The order is wrong: first the answer that came back, then the next question.",
)
wrong(
    "00-history",
    lambda messages, reply, question: [{"role": "user", "content": question}],
    "The server remembers nothing, so the earlier messages must be sent again.",
)
wrong(
    "00-history",
    lambda messages, reply, question: [*messages, reply, question],
    "Reply and question are texts; each must become a message with role and content.",
)
wrong(
    "00-history",
    lambda messages, reply, question: [
        messages,
        {"role": "assistant", "content": reply},
        {"role": "user", "content": question},
    ],
    "The old messages are a list inside the list: use [*messages, …].",
)
wrong(
    "00-history",
    lambda messages, reply, question: [
        *messages,
        {"role": "assistant", "content": "Tokyo"},
        {"role": "user", "content": "And Italy?"},
    ],
    "This is right for the example only: use the arguments.",
)
wrong(
    "00-history", history_first_only, "Only the first old message is kept; all of them are needed."
)
wrong("00-history", history_last_only, "Only the last old message is kept; all of them are needed.")
wrong(
    "00-history",
    history_star(
        [{"role": "user", "content": "What is the capital of Japan?"}], "Tokyo", "And Italy?"
    ),
    CALLED,
)
wrong(
    "00-history",
    lambda messages, question, reply: history_star(messages, reply, question),
    "The second argument is the reply and the third one the question; here they are swapped.",
)

# ------------------------------------------------------------------------------- 01-kv


def kv_plain(layers, kv_heads, head_dim, tokens, users):
    return 2 * layers * kv_heads * head_dim * 2 * tokens * users


def kv_loop(layers, kv_heads, head_dim, tokens, users):
    total = 0
    for _ in ("key", "value"):
        for _layer in range(layers):
            total += kv_heads * head_dim * 16 // 8
    return total * tokens * users


class Cache:
    BYTES = 2

    def size(self, layers, kv_heads, head_dim, tokens, users):
        return math.prod((2, layers, kv_heads, head_dim, tokens, users, self.BYTES))


def kv_bytes(bytes_per_number, layers, kv_heads, head_dim, tokens, users):
    return 2 * layers * kv_heads * head_dim * tokens * users * bytes_per_number


right("01-kv", kv_plain, "The formula of the lesson.")
right(
    "01-kv",
    lambda *sizes: 4 * math.prod(sizes),
    "A lambda; 2 for key and value times 2 bytes is 4.",
)
right("01-kv", kv_loop, "With loops.")
right("01-kv", Cache().size, "A method.")
right("01-kv", functools.partial(kv_bytes, 2), "A partial of a more general function.")
right(
    "01-kv",
    lambda layers, kv_heads, head_dim, tokens, users: (
        np.prod([2, layers, kv_heads, head_dim, tokens, users], dtype=np.int64) * 16 / 8
    ),
    "A NumPy float with the same value.",
)
right("01-kv", lambda l, k, h, t, u: Fraction(16, 8) * 2 * l * k * h * t * u, "A Fraction.")
if torch:
    right(
        "01-kv",
        lambda l, k, h, t, u: torch.tensor([4, l, k, h, t, u]).prod(),
        "A tensor with one number (int64, so it does not overflow).",
    )
wrong("01-kv", ..., STUB)
wrong(
    "01-kv",
    lambda layers, kv_heads, head_dim, tokens, users: (
        layers * kv_heads * head_dim * 2 * tokens * users
    ),
    "The factor 2 for key and value is missing (or the 2 bytes).",
)
wrong(
    "01-kv",
    lambda layers, kv_heads, head_dim, tokens, users: (
        2 * layers * kv_heads * head_dim * 16 * tokens * users
    ),
    "16 is the number of bits; two bytes are stored for each number.",
)
wrong(
    "01-kv",
    lambda layers, kv_heads, head_dim, tokens, users: 2 * layers * kv_heads * head_dim * 2 * tokens,
    "The users are missing: each has a context of its own.",
)
wrong(
    "01-kv",
    lambda layers, kv_heads, head_dim, tokens, users: 2 * kv_heads * head_dim * 2 * tokens * users,
    "The layers are missing: each layer has its own keys and values.",
)
wrong(
    "01-kv",
    lambda layers, kv_heads, head_dim, tokens, users: (
        2 * layers * kv_heads * head_dim * 2 * tokens * users / 2**30
    ),
    "This is in GiB; the exercise asks for bytes.",
)
wrong(
    "01-kv",
    lambda layers, kv_heads, head_dim, tokens, users: 21474836480,
    "This is the example's number for all inputs.",
)
wrong(
    "01-kv",
    lambda layers, kv_heads, head_dim, tokens, users: print(
        4 * layers * kv_heads * head_dim * tokens * users
    ),
    PRINTS,
)
wrong(
    "01-kv",
    lambda layers, kv_heads, head_dim, tokens, users: (
        2 * layers * 32 * head_dim * 2 * tokens * users
    ),
    "The 32 query heads are not cached; only the key/value heads are.",
)
wrong(
    "01-kv",
    lambda layers, kv_heads, head_dim, tokens, users: (
        4 * layers * kv_heads * head_dim * (tokens + users)
    ),
    "The users multiply the tokens; they are not added.",
)
wrong(
    "01-kv",
    lambda layers, kv_heads, head_dim, tokens, users: 4 * 40 * 8 * 128 * tokens * users,
    "Layers, heads and size are those of the 24B, whatever the arguments are.",
)
wrong(
    "01-kv",
    lambda layers, kv_heads, head_dim, tokens, users: int(
        np.prod(np.array([4, layers, kv_heads, head_dim, tokens, users]), dtype=np.int32)
    ),
    "The product does not fit into 32 bits, so it overflows.",
)
wrong("01-kv", 21474836480, CALLED)
wrong("01-kv", "2 × layers × kv_heads × head_dim × 2 × tokens × users", NOT_FUNCTION)
wrong(
    "01-kv",
    lambda layers, kv_heads, head_dim, tokens: 4 * layers * kv_heads * head_dim * tokens,
    "The function takes five numbers: the users are missing.",
)


# ------------------------------------------------------------------------------ 01-gqa
def softmax(scores):
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return scores / scores.sum(axis=-1, keepdims=True)


def gqa_loop(q, k, v):
    group = q.shape[0] // k.shape[0]
    out = np.zeros(q.shape)
    for head in range(q.shape[0]):
        scores = q[head] @ k[head // group].T / math.sqrt(q.shape[-1])
        scores = np.where(np.tril(np.ones(scores.shape, dtype=bool)), scores, -np.inf)
        out[head] = softmax(scores) @ v[head // group]
    return out


def gqa_repeat(q, k, v):
    times = len(q) // len(k)
    k, v = np.repeat(k, times, axis=0), np.repeat(v, times, axis=0)
    scores = q @ k.transpose(0, 2, 1) * q.shape[-1] ** -0.5
    tokens = q.shape[1]
    scores = scores + np.triu(np.full((tokens, tokens), -1e30), 1)
    return softmax(scores) @ v


def gqa_einsum(q, k, v):
    heads, tokens, size = q.shape
    grouped = q.reshape(k.shape[0], -1, tokens, size)
    scores = np.einsum("gntd,gsd->gnts", grouped, k) / np.sqrt(size)
    future = np.arange(tokens)[:, None] < np.arange(tokens)
    scores[:, :, future] = -np.inf
    return np.einsum("gnts,gsd->gntd", softmax(scores), v).reshape(heads, tokens, size)


def gqa_token_by_token(q, k, v):
    """Token after token, as with a KV cache."""
    heads, tokens, size = q.shape
    share = heads // k.shape[0]
    rows = []
    for head in range(heads):
        keys, values = k[head // share], v[head // share]
        for t in range(tokens):
            score = keys[: t + 1] @ q[head, t] / size**0.5
            weight = np.exp(score - score.max())
            rows.append((weight / weight.sum()) @ values[: t + 1])
    return np.array(rows).reshape(q.shape)


def gqa_torch(q, k, v):
    tensors = (torch.from_numpy(np.ascontiguousarray(x)) for x in (q, k, v))
    q, k, v = tensors
    share = q.shape[0] // k.shape[0]
    k, v = k.repeat_interleave(share, 0), v.repeat_interleave(share, 0)
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


right("01-gqa", gqa_loop, "A loop over the query heads.")
right("01-gqa", gqa_repeat, "Keys and values repeated, a mask that is added.")
right("01-gqa", gqa_einsum, "Grouped with reshape, no copy of the keys.")
right(
    "01-gqa", gqa_token_by_token, "Each token attends to the slice up to itself: no mask is needed."
)
if torch:
    right("01-gqa", lambda q, k, v: gqa_torch(q, k, v).numpy(), "PyTorch's own attention.")
    right("01-gqa", gqa_torch, "A tensor of the right shape with the right numbers.")


def gqa_variant(q, k, v, *, causal=True, scale=None, pick=None, axis=-1, strict=False):
    group = q.shape[0] // k.shape[0]
    pick = pick or (lambda head: head // group)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    out = np.zeros(q.shape)
    for head in range(q.shape[0]):
        scores = q[head] @ k[pick(head)].T * scale
        if causal:
            scores[np.triu(np.ones(scores.shape, dtype=bool), 0 if strict else 1)] = -np.inf
        weights = np.exp(scores - scores.max(axis=axis, keepdims=True))
        out[head] = weights / weights.sum(axis=axis, keepdims=True) @ v[pick(head)]
    return out


def gqa_no_mask(q, k, v):
    return gqa_variant(q, k, v, causal=False)


def gqa_no_scale(q, k, v):
    return gqa_variant(q, k, v, scale=1.0)


def gqa_wrong_scale(q, k, v):
    return gqa_variant(q, k, v, scale=1 / q.shape[-1])


def gqa_interleaved(q, k, v):
    return gqa_variant(q, k, v, pick=lambda head: head % k.shape[0])


def gqa_group_of_4(q, k, v):
    return gqa_variant(q, k, v, pick=lambda head: min(head // 4, k.shape[0] - 1))


def gqa_first_head_only(q, k, v):
    return gqa_variant(q, k, v, pick=lambda head: 0)


def gqa_wrong_axis(q, k, v):
    return gqa_variant(q, k, v, axis=0)


def gqa_not_itself(q, k, v):
    with np.errstate(invalid="ignore"):
        return gqa_variant(q, k, v, strict=True)


def gqa_mask_zero(q, k, v):
    group = q.shape[0] // k.shape[0]
    k, v = np.repeat(k, group, 0), np.repeat(v, group, 0)
    scores = np.tril(q @ k.transpose(0, 2, 1) / q.shape[-1] ** 0.5)
    return softmax(scores) @ v


def gqa_mask_after(q, k, v):
    group = q.shape[0] // k.shape[0]
    k, v = np.repeat(k, group, 0), np.repeat(v, group, 0)
    return np.tril(softmax(q @ k.transpose(0, 2, 1) / q.shape[-1] ** 0.5)) @ v


def gqa_weights(q, k, v):
    k = np.repeat(k, q.shape[0] // k.shape[0], 0)
    scores = q @ k.transpose(0, 2, 1) / q.shape[-1] ** 0.5
    return softmax(np.where(np.tri(q.shape[1], dtype=bool), scores, -np.inf))


def gqa_no_sharing(q, k, v):
    scores = q @ k.transpose(0, 2, 1) / q.shape[-1] ** 0.5
    return softmax(np.where(np.tri(q.shape[1], dtype=bool), scores, -np.inf)) @ v


def gqa_past_hidden(q, k, v):
    k, v = (np.repeat(x, q.shape[0] // x.shape[0], 0) for x in (k, v))
    scores = q @ k.transpose(0, 2, 1) / q.shape[-1] ** 0.5
    return softmax(np.where(np.tri(q.shape[1], dtype=bool).T, scores, -np.inf)) @ v


def gqa_drops_queries(q, k, v):
    mean = q.reshape(k.shape[0], -1, *q.shape[1:]).mean(1)
    return gqa_variant(mean, k, v)


wrong("01-gqa", ..., STUB)
wrong("01-gqa", gqa_no_mask, "Nothing hides the later tokens: the causal mask is missing.")
wrong("01-gqa", gqa_no_scale, "The scores are not divided by the square root of the head's size.")
wrong("01-gqa", gqa_wrong_scale, "The scores are divided by the size, not by its square root.")
wrong(
    "01-gqa",
    gqa_interleaved,
    "head % kv_heads gives every second head the same key; neighbours must share: head // group.",
)
wrong("01-gqa", gqa_group_of_4, "The group has 4 heads here whatever the shapes are: compute it.")
wrong("01-gqa", gqa_first_head_only, "All query heads use key/value head 0.")
wrong("01-gqa", gqa_wrong_axis, "The softmax must add up to 1 over the keys: the last axis.")
wrong(
    "01-gqa",
    gqa_not_itself,
    "A token may see itself; here it may not, so the first row has nothing and is NaN.",
)
wrong(
    "01-gqa",
    gqa_mask_zero,
    "A score of 0 is not hidden: exp(0) is 1. Use minus infinity before the softmax.",
)
wrong(
    "01-gqa",
    gqa_mask_after,
    "The weights are hidden after the softmax, so the rest does not add up to 1.",
)
wrong("01-gqa", gqa_weights, "These are the attention weights; multiply them by the values.")
wrong(
    "01-gqa", gqa_no_sharing, "The numbers of heads differ: keys and values must be shared first."
)
wrong("01-gqa", gqa_past_hidden, "The mask is turned around: it hides the earlier tokens.")
wrong(
    "01-gqa",
    gqa_drops_queries,
    "The query heads of a group are averaged; each one has an output of its own.",
)
wrong("01-gqa", lambda q, k, v: print(gqa_loop(q, k, v).shape), PRINTS)
wrong(
    "01-gqa",
    lambda q, k, v: q,
    "This returns the queries: the shape is right, the numbers are not.",
)

# ---------------------------------------------------------------------------- 01-claim
right("01-claim", {"B", "D", "E"}, "A set of letters.")
right("01-claim", ["E", "D", "B"], "A list in another order.")
right("01-claim", "BDE", "A text of the letters.")
right("01-claim", ("b", "d", "e"), "A tuple in lower case.")
right("01-claim", "B, D and E", "A text with words between the letters.")
right("01-claim", frozenset("BDE"), "A frozenset.")
right("01-claim", np.array(["B", "D", "E"]), "An array of letters.")
wrong("01-claim", ..., STUB)
wrong("01-claim", {"A", "C"}, "These two are right; the exercise asks for the wrong ones.")
wrong("01-claim", {"B", "D"}, "E is wrong too: of these models only Mistral 7B v0.1 has a window.")
wrong("01-claim", {"B", "E"}, "D is wrong too: from 2.11 to 1.29 is 39 % less, not half.")
wrong(
    "01-claim", {"D", "E"}, "B is wrong too: sharing keys changes no token's view, only the memory."
)
wrong(
    "01-claim", {"B", "C", "D", "E"}, "C is right: the roofline of one H100 is 73 tokens/s in bf16."
)
wrong(
    "01-claim",
    {"A", "B", "D", "E"},
    "A is right: 32 key heads instead of 8 are four times as many.",
)
wrong("01-claim", "ABCDE", "Not all of them are wrong.")
wrong("01-claim", set(), "Some of them are wrong.")
wrong(
    "01-claim",
    "The sliding window one is wrong, I think.",
    "Answer with letters; and more than one claim is wrong.",
)
wrong("01-claim", True, "Answer with the letters of the wrong claims.")
wrong("01-claim", {"B", "D", "F"}, "There is no claim F, and E is missing.")
wrong("01-claim", 3, "Which three? Answer with their letters.")

# ------------------------------------------------------------------------- 01-roofline
# 2 bytes × (22.230 + 0.671) billion = 45.802 GB for each token; 1,008 / 45.802 = 22.008
right("01-roofline", 22, "A whole number is exact enough.")
right("01-roofline", 1008 / (2 * (22.230 + 0.671)), "Computed, a float.")
right("01-roofline", "22 tokens/s", "A text with the unit.")
right("01-roofline", Fraction(1_008_000, 45_802), "A Fraction.")
right("01-roofline", np.float64(22.01), "A NumPy number.")
right("01-roofline", "22.0", "A text.")
right("01-roofline", Decimal("22.008"), "A Decimal.")
if torch:
    right("01-roofline", torch.tensor(1008 / 45.802), "A tensor with one number.")
wrong("01-roofline", ..., STUB)
wrong(
    "01-roofline", 1008 / (22.230 + 0.671), "bf16 has two bytes for each parameter: half of that."
)
wrong(
    "01-roofline",
    1008 / (2 * 22.230),
    "`lm_head` is missing: it is read for each token too (22.7).",
)
wrong(
    "01-roofline",
    1008 / (2 * (22.230 + 2 * 0.671)),
    "The embeddings are not read whole, only one row of them (21.4).",
)
wrong("01-roofline", 1008 / (2 * 24.011), "Not all 24 billion are read for a token of text (21.0).")
wrong(
    "01-roofline",
    1008 / (16 * (22.230 + 0.671)),
    "Divide by bytes, not by bits: 16 bits are 2 bytes.",
)
wrong(
    "01-roofline", 2 * (22.230 + 0.671) / 1008, "This is the seconds for one token; turn it around."
)
wrong("01-roofline", 45.802, "These are the GB for one token; divide the bandwidth by them.")
wrong("01-roofline", 72.8, "This is the table's value in nf4; the question is about bf16.")
wrong("01-roofline", 1008 / (2 * 0.671), "The blocks are missing, and they are most of it.")
wrong("01-roofline", 44, "bf16 has two bytes for each parameter: half of that.")
wrong("01-roofline", 11, "Twice too many bytes: bf16 has two for each parameter.")
wrong("01-roofline", 22_008, "1,008 GB/s and 45.8 GB: the factor of 1,000 is one too many.")
wrong("01-roofline", "bandwidth divided by the bytes for each token", "Now put the numbers in.")
wrong("01-roofline", "does not fit", "The exercise says: suppose that it fits.")

# ----------------------------------------------------------------------------- 02-bits
right("02-bits", 4.5, "A float.")
right("02-bits", 4 + 32 / 64, "Computed.")
right("02-bits", Fraction(9, 2), "A Fraction.")
right("02-bits", "4.5 bits", "A text with the unit.")
right("02-bits", Decimal("4.50"), "A Decimal.")
right("02-bits", np.float32(4.5), "A NumPy number.")
if torch:
    right("02-bits", torch.tensor(4.5), "A tensor with one number.")
wrong("02-bits", ..., STUB)
wrong("02-bits", 4, "The scales are missing: 32 bits for each 64 weights.")
wrong("02-bits", 4 + 8 / 64 + 32 / (64 * 256), "This is with double quantization.")
wrong("02-bits", 4.13, "This is with double quantization.")
wrong("02-bits", 4.25, "The scale has 32 bits, not 16.")
wrong("02-bits", 4.125, "The scale has 32 bits; 8 bits are double quantization.")
wrong("02-bits", 36, "The scale is shared by 64 weights: 32 / 64 bits for each.")
wrong("02-bits", 0.5, "This is the scale's share alone; add the 4 bits of the weight.")
wrong("02-bits", 4.5 / 8, "This is in bytes; the question asks for bits.")
wrong("02-bits", 6, "64 / 32 is turned around: 32 bits are shared by 64 weights.")
wrong("02-bits", 288, "These are the bits of a block of 64; divide by 64.")
wrong("02-bits", 16, "This is bf16; NF4 has 4 bits and a share of the scale.")
wrong("02-bits", "four and a bit more", "Give the number.")
wrong("02-bits", 4.143, "This is the measured value with double quantization.")

# ----------------------------------------------------------------------------- 02-skip
right(
    "02-skip", ["model.vision_tower", "model.multi_modal_projector", "lm_head"], "As in the lesson."
)
right("02-skip", ["lm_head", "model.multi_modal_projector", "model.vision_tower"], "Another order.")
right(
    "02-skip",
    [f"model.{part}" for part in ("vision_tower", "multi_modal_projector")] + ["lm_head"],
    "Built with a comprehension.",
)
right(
    "02-skip",
    sorted({"model.multi_modal_projector", "lm_head", "model.vision_tower", "lm_head"}),
    "A list made from a set.",
)
right(
    "02-skip",
    [r"model\.vision_tower", r"model\.multi_modal_projector", "lm_head"],
    "Patterns: transformers 5 reads each name as one, and these match the same modules.",
)
wrong("02-skip", ..., STUB)
wrong(
    "02-skip",
    ["vision_tower", "multi_modal_projector", "lm_head"],
    "A name must match from the start of the path, which is model.vision_tower.",
)
wrong(
    "02-skip",
    ["model.vision_tower", "model.multi_modal_projector"],
    "The list replaces the defaults, so lm_head must be named too.",
)
wrong("02-skip", ["lm_head"], "The vision encoder and the projector are missing.")
wrong(
    "02-skip",
    ["model.vision_tower", "model.multi_modal_projector", "model.lm_head"],
    "lm_head is beside model, not in it.",
)
wrong("02-skip", "model.vision_tower", "A list of three names is needed.")
wrong(
    "02-skip",
    ["model.vision_tower, model.multi_modal_projector, lm_head"],
    "This is a list of one long text; each name is an entry of its own.",
)
wrong(
    "02-skip",
    ["model.vision_tower", "model.multi_modal_projector", "lm_head", "model.language_model"],
    "Then nothing is quantized: the language model is the part that should be in 4 bits.",
)
wrong(
    "02-skip",
    ["model.vision_encoder", "model.projector", "lm_head"],
    "The modules have other names: vision_tower and multi_modal_projector.",
)
wrong(
    "02-skip",
    ["model.language_model.vision_tower", "model.language_model.multi_modal_projector", "lm_head"],
    "The vision encoder is beside the language model, not in it.",
)
wrong("02-skip", ["model.vision_tower", "lm_head"], "The projector is missing.")
wrong("02-skip", None, "Without a list only lm_head is kept.")
wrong("02-skip", [], "An empty list keeps nothing.")
wrong(
    "02-skip",
    ["model.vision_tower", "model.multimodal_projector", "lm_head"],
    "A typo: multi_modal_projector has two underscores, and no error would tell you.",
)


# ------------------------------------------------------------------------------ 02-nf4
def nf4_loop(weights, values):
    scale = max(abs(weight) for weight in weights)
    codes = []
    for weight in weights:
        share = weight / scale if scale else 0.0
        codes.append(min(range(len(values)), key=lambda n: abs(values[n] - share)))
    return scale, codes


def nf4_numpy(weights, values):
    weights, values = np.asarray(weights, dtype=float), np.asarray(values, dtype=float)
    scale = np.abs(weights).max()
    shares = weights / (scale or 1.0)
    return float(scale), np.abs(shares[:, None] - values).argmin(axis=1).tolist()


def nf4_bisect(weights, values):
    values = list(values)
    scale = max(map(abs, weights))
    middles = [(a + b) / 2 for a, b in zip(values, values[1:])]
    if scale == 0:
        return [0.0, [values.index(0)] * len(weights)]
    return [scale, [bisect.bisect(middles, weight / scale) for weight in weights]]


def nf4_multiplied(weights, values):
    """Multiplies the values by the scale instead: no division, so zeros are no special case."""
    scale = float(np.max(np.abs(weights)))
    scaled = [scale * value for value in values]
    if scale == 0:
        scaled = list(values)
    return scale, [int(np.argmin([abs(w - s) for s in scaled])) for w in weights]


def nf4_torch(weights, values):
    weights = torch.as_tensor(weights, dtype=torch.float64)
    scale = weights.abs().max()
    shares = torch.nan_to_num(weights / scale)
    distance = (shares[:, None] - torch.as_tensor(values, dtype=torch.float64)).abs()
    return scale.item(), distance.argmin(1).tolist()


right("02-nf4", nf4_loop, "With loops.")
right("02-nf4", nf4_numpy, "Vectorised.")
right("02-nf4", nf4_bisect, "With the middles between the values; a list of two things.")
right("02-nf4", nf4_multiplied, "Compares with scaled values.")
if torch:
    right("02-nf4", nf4_torch, "With PyTorch; nan_to_num handles the zeros.")


def nf4_no_zero(weights, values):
    scale = max(abs(w) for w in weights)
    return scale, [min(range(16), key=lambda n: abs(values[n] - w / scale)) for w in weights]


def nf4_no_abs(weights, values):
    scale = max(weights)
    return scale, [min(range(16), key=lambda n: abs(values[n] - w / (scale or 1))) for w in weights]


def nf4_signed(weights, values):
    scale = max(weights, key=abs)
    return scale, [min(range(16), key=lambda n: abs(values[n] - w / (scale or 1))) for w in weights]


def nf4_not_divided(weights, values):
    scale = max(abs(w) for w in weights)
    return scale, [min(range(16), key=lambda n: abs(values[n] - w)) for w in weights]


def nf4_values(weights, values):
    scale = max(abs(w) for w in weights)
    return scale, [min(values, key=lambda value: abs(value - w / (scale or 1))) for w in weights]


def nf4_swapped(weights, values):
    scale, codes = nf4_loop(weights, values)
    return codes, scale


def nf4_codes_only(weights, values):
    return nf4_loop(weights, values)[1]


def nf4_from_one(weights, values):
    scale, codes = nf4_loop(weights, values)
    return scale, [code + 1 for code in codes]


def nf4_next_larger(weights, values):
    scale = max(abs(w) for w in weights)
    return scale, [bisect.bisect_left(list(values), w / (scale or 1)) for w in weights]


def nf4_even(weights, values):
    scale = max(abs(w) for w in weights)
    return scale, [round((w / (scale or 1) + 1) * 7.5) for w in weights]


def nf4_nan(weights, values):
    weights = np.asarray(weights, dtype=float)
    scale = np.abs(weights).max()
    with np.errstate(invalid="ignore"):
        shares = weights / scale
    return scale, np.abs(shares[:, None] - np.asarray(values)).argmin(1).tolist()


def nf4_own_values(weights, values):
    ladder = np.linspace(-1, 1, 16)
    return nf4_numpy(weights, ladder)


def nf4_sum(weights, values):
    scale = sum(abs(w) for w in weights)
    return scale, [min(range(16), key=lambda n: abs(values[n] - w / (scale or 1))) for w in weights]


wrong("02-nf4", ..., STUB)
wrong("02-nf4", nf4_no_zero, "A block of zeros divides by zero.")
wrong("02-nf4", nf4_no_abs, "The scale is the largest absolute value; here −2 is overlooked.")
wrong("02-nf4", nf4_signed, "The scale is an absolute value: it has no sign.")
wrong("02-nf4", nf4_not_divided, "Each weight must be divided by the scale first.")
wrong(
    "02-nf4", nf4_values, "These are the nearest values; asked for are their numbers from 0 to 15."
)
wrong("02-nf4", nf4_swapped, "The scale comes first, then the codes.")
wrong("02-nf4", nf4_codes_only, "The scale is missing: two things are returned.")
wrong("02-nf4", nf4_from_one, "The numbers begin at 0, not at 1.")
wrong("02-nf4", nf4_next_larger, "This takes the next larger value, not the nearest one.")
wrong(
    "02-nf4", nf4_even, "NF4's values are not evenly spaced: compare with the list that is given."
)
wrong("02-nf4", nf4_nan, "0 / 0 is NaN, so each zero gets code 0, which is the value −1.")
wrong("02-nf4", nf4_own_values, "It ignores the values that it is given.")
wrong("02-nf4", nf4_sum, "The scale is the largest absolute value, not their sum.")
wrong("02-nf4", (2.0, [10, 0, 7]), CALLED)
wrong("02-nf4", lambda weights, values: print(nf4_loop(weights, values)), PRINTS)

# ----------------------------------------------------------------------------- 03-cost


def cost_plain(prompt_tokens, completion_tokens, price_in, price_out):
    return (prompt_tokens * price_in + completion_tokens * price_out) / 1_000_000


def cost_parts(prompt_tokens, completion_tokens, price_in, price_out):
    total = 0.0
    for tokens, price in ((prompt_tokens, price_in), (completion_tokens, price_out)):
        total += tokens * (price / 10**6)
    return total


def cost_decimal(prompt_tokens, completion_tokens, price_in, price_out):
    million = Decimal(10) ** 6
    return (
        Decimal(str(prompt_tokens)) * Decimal(str(price_in))
        + Decimal(str(completion_tokens)) * Decimal(str(price_out))
    ) / million


right("03-cost", cost_plain, "The plain formula.")
right("03-cost", cost_parts, "With a loop.")
right("03-cost", cost_decimal, "A Decimal.")
right("03-cost", lambda a, b, c, d: np.dot([a, b], [c, d]) * 1e-6, "A NumPy number.")
right(
    "03-cost",
    lambda a, b, c, d: Fraction(str(c)) * a / 10**6 + Fraction(str(d)) * b / 10**6,
    "A Fraction.",
)
wrong("03-cost", ..., STUB)
wrong(
    "03-cost",
    lambda a, b, c, d: a * c + b * d,
    "Prices are per million tokens: divide by a million.",
)
wrong("03-cost", lambda a, b, c, d: (a * c + b * d) / 1000, "Per million tokens, not per thousand.")
wrong("03-cost", lambda a, b, c, d: a * c / 1e6, "The completion tokens are missing.")
wrong("03-cost", lambda a, b, c, d: (a * d + b * c) / 1e6, "The two prices are swapped.")
wrong("03-cost", lambda a, b, c, d: (a + b) * (c + d) / 1e6, "Each token count has its own price.")
wrong(
    "03-cost", lambda a, b, c, d: (a + b) * (c + d) / 2 / 1e6, "The two prices cannot be averaged."
)
wrong("03-cost", lambda a, b, c, d: (a * c + b * d) / 1e4, "This is in cents; asked for are USD.")
wrong(
    "03-cost",
    lambda a, b, c, d: round((a * c + b * d) / 1e6, 4),
    "Rounded to four digits, a single request costs nearly nothing: do not round.",
)
wrong(
    "03-cost",
    lambda a, b, c, d: round((a * c + b * d) / 1e6, 6),
    "Rounding to six digits fits the example, but small requests then cost 0.",
)
wrong("03-cost", lambda a, b, c, d: 0.000175, "This is the example's price for all requests.")
wrong("03-cost", lambda a, b, c, d: print((a * c + b * d) / 1e6), PRINTS)
wrong("03-cost", lambda a, b, c, d: (a * c + b * d) // 1e6, "// drops what is after the point.")
wrong(
    "03-cost",
    lambda a, b, c, d: a * c + b * d / 1e6,
    "Parentheses are missing: only the second part is divided.",
)
wrong("03-cost", 0.000175, CALLED)
wrong("03-cost", lambda a, b, c, d: (a / 1e6 * c) * (b / 1e6 * d), "The two parts are added.")


# ---------------------------------------------------------------------------- 03-retry
def retry_plain(status, attempt, retry_after):
    if attempt >= 5 or not (status in (408, 429) or status >= 500):
        return False
    return 2 ** (attempt - 1) if retry_after is None else retry_after


def retry_list(status, attempt, retry_after):
    can_pass = status == 408 or status == 429 or 500 <= status < 600
    waits = [1, 2, 4, 8]
    if not can_pass or attempt > len(waits):
        return False
    if retry_after is not None:
        return retry_after
    return waits[attempt - 1]


def retry_match(status, attempt, retry_after):
    match status:
        case 408 | 429:
            again = True
        case _ if status // 100 == 5:
            again = True
        case _:
            again = False
    waits = {1: 1.0, 2: 2.0, 3: 4.0, 4: 8.0}
    if again and attempt in waits:
        return waits[attempt] if retry_after is None else float(retry_after)
    return False


class Retries:
    PASSING = {408, 429, *range(500, 600)}

    def __call__(self, status, attempt, retry_after):
        if status in self.PASSING and attempt < 5:
            return 1 << (attempt - 1) if retry_after is None else retry_after
        return False


right("03-retry", retry_plain, "As in the text.")
right("03-retry", retry_list, "With a list of the waits.")
right("03-retry", retry_match, "With match; the waits are floats.")
right("03-retry", Retries(), "An object that can be called.")
right(
    "03-retry",
    lambda status, attempt, retry_after: (
        (retry_after if retry_after is not None else np.power(2, attempt - 1))
        if attempt <= 4 and (str(status).startswith("5") or status in {408, 429})
        else False
    ),
    "A lambda; the waits are NumPy numbers.",
)


def retry_all(status, attempt, retry_after):
    if attempt >= 5:
        return False
    return 2 ** (attempt - 1) if retry_after is None else retry_after


def retry_4xx(status, attempt, retry_after):
    if attempt >= 5 or status < 400:
        return False
    return 2 ** (attempt - 1) if retry_after is None else retry_after


def retry_429_only(status, attempt, retry_after):
    if status != 429 or attempt >= 5:
        return False
    return 2 ** (attempt - 1) if retry_after is None else retry_after


def retry_no_408(status, attempt, retry_after):
    if attempt >= 5 or (status != 429 and status < 500):
        return False
    return 2 ** (attempt - 1) if retry_after is None else retry_after


def retry_no_5xx(status, attempt, retry_after):
    if attempt >= 5 or status not in (408, 429):
        return False
    return 2 ** (attempt - 1) if retry_after is None else retry_after


def retry_ignores_server(status, attempt, retry_after):
    if attempt >= 5 or not (status in (408, 429) or status >= 500):
        return False
    return 2 ** (attempt - 1)


def retry_one_more(status, attempt, retry_after):
    if attempt > 5 or not (status in (408, 429) or status >= 500):
        return False
    return 2 ** (attempt - 1) if retry_after is None else retry_after


def retry_doubled(status, attempt, retry_after):
    if attempt >= 5 or not (status in (408, 429) or status >= 500):
        return False
    return 2**attempt if retry_after is None else retry_after


def retry_linear(status, attempt, retry_after):
    if attempt >= 5 or not (status in (408, 429) or status >= 500):
        return False
    return attempt if retry_after is None else retry_after


def retry_never_ends(status, attempt, retry_after):
    if not (status in (408, 429) or status >= 500):
        return False
    return 2 ** (attempt - 1) if retry_after is None else retry_after


def retry_server_first(status, attempt, retry_after):
    if retry_after is not None:
        return retry_after
    return retry_plain(status, attempt, None)


def retry_server_beats_limit(status, attempt, retry_after):
    if not (status in (408, 429) or status >= 500):
        return False
    if retry_after is not None:
        return retry_after
    return 2 ** (attempt - 1) if attempt < 5 else False


def retry_none(status, attempt, retry_after):
    if attempt < 5 and (status in (408, 429) or status >= 500):
        return 2 ** (attempt - 1) if retry_after is None else retry_after


def retry_larger(status, attempt, retry_after):
    if attempt >= 5 or not (status in (408, 429) or status >= 500):
        return False
    return max(2 ** (attempt - 1), retry_after)


def retry_larger_or_zero(status, attempt, retry_after):
    if attempt >= 5 or not (status in (408, 429) or status >= 500):
        return False
    return max(2 ** (attempt - 1), retry_after or 0)


def retry_true(status, attempt, retry_after):
    return attempt < 5 and (status in (408, 429) or status >= 500)


def retry_jitter(status, attempt, retry_after):
    wait = retry_plain(status, attempt, retry_after)
    return wait and wait * random.Random(attempt).uniform(1.1, 1.5)


def retry_text(status, attempt, retry_after):
    wait = retry_plain(status, attempt, retry_after)
    return f"wait {wait} s" if wait else "do not retry"


wrong("03-retry", ..., STUB)
wrong("03-retry", retry_all, "A wrong key (401) stays wrong: only 408, 429 and 5xx can pass.")
wrong("03-retry", retry_4xx, "Most 4xx errors are yours to fix; the same request fails again.")
wrong("03-retry", retry_429_only, "408 and 5xx errors can pass too.")
wrong("03-retry", retry_no_408, "408, a timeout, can pass too.")
wrong("03-retry", retry_no_5xx, "5xx errors are the server's and can pass.")
wrong("03-retry", retry_ignores_server, "If the server names a waiting time, wait that long.")
wrong(
    "03-retry", retry_one_more, "After attempt 5 it returns False; here it still waits 16 seconds."
)
wrong("03-retry", retry_doubled, "The first wait is 1 second: 2 ** (attempt - 1).")
wrong("03-retry", retry_linear, "The waits double: 1, 2, 4, 8, not 1, 2, 3, 4.")
wrong("03-retry", retry_never_ends, "After attempt 5 it must give up.")
wrong(
    "03-retry",
    retry_server_first,
    "A waiting time does not make a wrong request right: look at the status first.",
)
wrong(
    "03-retry",
    retry_server_beats_limit,
    "After attempt 5 it gives up, also if the server names a time.",
)
wrong(
    "03-retry", retry_none, "It must return False; a function that ends without return gives None."
)
wrong("03-retry", retry_larger, "max fails if retry_after is None.")
wrong("03-retry", retry_larger_or_zero, "The server's time counts as it is, also if it is shorter.")
wrong("03-retry", retry_true, "It must return the seconds to wait, not True.")
wrong(
    "03-retry",
    retry_jitter,
    "Jitter is good, but here exactly 1, 2, 4 and 8 seconds are asked for.",
)
wrong("03-retry", retry_text, "Return a number or False, not a sentence.")
wrong("03-retry", 4, CALLED)


# --------------------------------------------------------------------------- 03-stream
def stream_plain(lines):
    text = ""
    for line in lines:
        if not line.startswith("data:"):
            continue
        data = line[len("data:") :].strip()
        if data == "[DONE]":
            break
        for choice in json.loads(data).get("choices") or []:
            text += (choice.get("delta") or {}).get("content") or ""
    return text


def stream_pieces(lines):
    def pieces():
        for line in lines:
            line = line.strip()
            if not line or line.startswith(":") or not line.startswith("data"):
                continue
            _, _, data = line.partition(":")
            if data.strip() == "[DONE]":
                return
            chunk = json.loads(data)
            if chunk.get("choices"):
                yield chunk["choices"][0].get("delta", {}).get("content") or ""

    return "".join(pieces())


def stream_re(lines):
    found = []
    for line in lines:
        match = re.match(r"data:\s*(.*)", line, re.DOTALL)
        if not match:
            continue
        if match[1].strip() == "[DONE]":
            break
        try:
            content = json.loads(match[1])["choices"][0]["delta"]["content"]
        except (KeyError, IndexError, TypeError):
            continue
        if content:
            found.append(content)
    return "".join(found)


def stream_takewhile(lines):
    data = (line.removeprefix("data:").strip() for line in lines if line.startswith("data:"))
    chunks = map(json.loads, itertools.takewhile(lambda text: text != "[DONE]", data))
    choices = (choice for chunk in chunks for choice in chunk.get("choices") or ())
    return "".join(choice.get("delta", {}).get("content") or "" for choice in choices)


right("03-stream", stream_plain, "With a loop.")
right("03-stream", stream_pieces, "With a generator.")
right("03-stream", stream_re, "With a pattern, and exceptions for what is missing.")
right("03-stream", stream_takewhile, "With itertools.")


def stream_variant(
    lines, *, comments=True, done=True, choices=True, content=True, none=True, join="", strip=False
):
    found = []
    for line in lines:
        if comments and not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if done and data == "[DONE]":
            break
        chunk = json.loads(data)
        if choices and not chunk.get("choices"):
            continue
        delta = chunk["choices"][0]["delta"]
        piece = delta.get("content") if content else delta["content"]
        if none and piece is None:
            continue
        found.append(str(piece).strip() if strip else str(piece))
    return join.join(found)


def stream_past_done(lines):
    return stream_plain([line for line in lines if "[DONE]" not in line])


def stream_list(lines):
    return [
        line["content"]
        for line in ({"content": stream_plain([line])} for line in lines)
        if line["content"]
    ]


def stream_last(lines):
    text = ""
    for line in lines:
        text = stream_plain([line]) or text
    return text


def stream_colon(lines):
    """Takes what is after the last colon of a line."""
    text = ""
    for line in lines:
        if line.startswith("data:") and "content" in line:
            text += line.split(":")[-1].strip(' "}]')
    return text


def stream_eval(lines):
    text = ""
    for line in lines:
        if line.startswith("data: ") and "[DONE]" not in line:
            chunk = ast.literal_eval(line[6:])
            if chunk["choices"]:
                text += chunk["choices"][0]["delta"].get("content", "")
    return text


wrong("03-stream", ..., STUB)
wrong(
    "03-stream",
    lambda lines: stream_variant(lines, comments=False),
    "Lines that begin with a colon are comments and no JSON: skip them.",
)
wrong(
    "03-stream",
    lambda lines: stream_variant(lines, done=False),
    "[DONE] is no JSON: it ends the stream.",
)
wrong(
    "03-stream", lambda lines: stream_variant(lines, choices=False), "A chunk may have no choices."
)
wrong(
    "03-stream", lambda lines: stream_variant(lines, content=False), "A delta may have no content."
)
wrong(
    "03-stream",
    lambda lines: stream_variant(lines, none=False),
    "Without content the word None gets into the text.",
)
wrong(
    "03-stream",
    lambda lines: stream_variant(lines, join=" "),
    "The pieces have their own blanks: join them without any.",
)
wrong(
    "03-stream", lambda lines: stream_variant(lines, join="\n"), "The pieces belong into one line."
)
wrong(
    "03-stream",
    lambda lines: stream_variant(lines, strip=True),
    "A blank at the beginning of a piece belongs to the text.",
)
wrong(
    "03-stream", stream_past_done, "The stream ends at [DONE]; what comes after it does not count."
)
wrong("03-stream", stream_list, "This is a list of pieces; join them to one text.")
wrong("03-stream", stream_last, "Only the last piece is left: add them up.")
wrong("03-stream", stream_colon, "A chunk is JSON: a colon or a quote can be in the text itself.")
wrong("03-stream", stream_eval, "JSON is no Python: null, true and false are not read.")
wrong("03-stream", lambda lines: print(stream_plain(lines)), PRINTS)
wrong("03-stream", lambda lines: "Hello there", "This is the example's text for all streams.")
wrong("03-stream", lambda lines: "".join(lines), "These are the raw lines, not their text.")
wrong("03-stream", "Hello there", CALLED)

# --------------------------------------------------------------------------- 03-format
PLACE = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "country": {"type": "string"}},
    "required": ["city", "country"],
    "additionalProperties": False,
}


def form(schema, **more):
    return {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, **more}}


right("03-format", form(PLACE, strict=True), "As in the lessons.")
right("03-format", form(PLACE), "Without strict.")
right(
    "03-format",
    form(
        {
            **PLACE,
            "properties": {
                name: {"type": "string", "maxLength": 40} for name in ("country", "city")
            },
        },
        strict=True,
    ),
    "With a limit of the length, and another order.",
)
right(
    "03-format",
    {
        "json_schema": dict(
            strict=True,
            name="Place",
            schema=dict(
                PLACE,
                title="Place",
                required=["country", "city"],
                properties={
                    "city": {"title": "City", "type": "string"},
                    "country": {"title": "Country", "type": "string"},
                },
            ),
        ),
        "type": "json_schema",
    },
    "The schema that pydantic makes, with titles.",
)
right(
    "03-format",
    form(
        {
            **PLACE,
            "description": "A city and its country.",
            "properties": {
                "city": {"type": "string", "description": "The city."},
                "country": {"type": "string", "description": "Its country."},
            },
        },
        strict=True,
        description="where it is",
    ),
    "With descriptions.",
)
wrong("03-format", ..., STUB)
wrong("03-format", {"type": "json_object"}, "This promises some JSON, but not these two fields.")
wrong("03-format", PLACE, "This is the schema alone; response_format wraps it.")
wrong(
    "03-format",
    {"type": "json_schema", "json_schema": PLACE},
    "The schema belongs under the key schema, beside its name.",
)
wrong(
    "03-format",
    {"type": "json_schema", "schema": PLACE},
    "The key json_schema around it is missing.",
)
wrong(
    "03-format",
    form({key: value for key, value in PLACE.items() if key != "required"}),
    "Nothing is required, so a field may be missing.",
)
wrong("03-format", form({**PLACE, "required": ["city"]}), "The country must be required too.")
wrong(
    "03-format",
    form({**PLACE, "properties": {"city": {"type": "string"}}}),
    "The country is required, but not described.",
)
wrong(
    "03-format",
    form({**PLACE, "properties": {"city": {"type": "string"}, "country": {"type": "integer"}}}),
    "The country is a string.",
)
wrong(
    "03-format",
    form({**PLACE, "properties": {"city": {"type": "str"}, "country": {"type": "str"}}}),
    "JSON Schema calls a text string, not str.",
)
wrong(
    "03-format",
    form(
        {
            **PLACE,
            "properties": {"City": {"type": "string"}, "Country": {"type": "string"}},
            "required": ["City", "Country"],
        }
    ),
    "The names are city and country in lower case.",
)
wrong(
    "03-format", form({"type": "array", "items": PLACE}), "This is a list; an object is asked for."
)
wrong(
    "03-format",
    form({**PLACE, "properties": ["city", "country"]}),
    "properties is a dict: each name has a schema.",
)
wrong(
    "03-format",
    {"response_format": form(PLACE, strict=True)},
    "This is the argument with its name; give the value only.",
)
wrong("03-format", json.dumps(form(PLACE, strict=True)), "Give a dict, not its text.")
wrong(
    "03-format",
    {"city": "Rome", "country": "Italy"},
    "This is an answer; describe its form with a schema.",
)
wrong(
    "03-format",
    form(
        {
            "type": "object",
            "properties": {
                "city": {"type": "string", "required": True},
                "country": {"type": "string", "required": True},
            },
        }
    ),
    "required is a list of names beside properties.",
)
wrong(
    "03-format",
    {"type": "json", "json_schema": {"name": "place", "schema": PLACE}},
    "The type is called json_schema.",
)
wrong("03-format", "json_schema", "Give a dict with the schema.")


# --------------------------------------------------------------------------- 04-tokens
def tokens_plain(width, height):
    ratio = max(width / 1540, height / 1540, 1)
    rows, columns = (math.ceil(round(side / ratio) / 28) for side in (height, width))
    return rows * (columns + 1)


def tokens_steps(width, height):
    longest = max(width, height)
    if longest > 1540:
        width = round(width * 1540 / longest)
        height = round(height * 1540 / longest)
    columns = -(-width // 28)
    rows = -(-height // 28)
    return rows * columns + rows


def tokens_divmod(width, height):
    if max(width, height) > 1540:
        ratio = max(width, height) / 1540
        width, height = round(width / ratio), round(height / ratio)
    counts = []
    for side in (width, height):
        whole, rest = divmod(side, 28)
        counts.append(whole + bool(rest))
    return (counts[0] + 1) * counts[1]


class Encoder:
    square, longest = 28, 1540

    def tokens(self, width, height):
        size = np.array([height, width], dtype=float)
        size = np.round(size / max(size.max() / self.longest, 1))
        rows, columns = np.ceil(size / self.square)
        return int(rows * (columns + 1))


def tokens_count(width, height):
    ratio = max(1.0, max(width, height) / 1540)
    width, height = round(width / ratio), round(height / ratio)
    total = 0
    for _top in range(0, height, 28):
        for _left in range(0, width, 28):
            total += 1
        total += 1  # the end of the row
    return total


right("04-tokens", tokens_plain, "As in notebook 01.")
right("04-tokens", tokens_steps, "Step by step.")
right("04-tokens", tokens_divmod, "With divmod.")
right("04-tokens", Encoder().tokens, "A method with NumPy.")
right("04-tokens", tokens_count, "Counted with loops.")


def tokens_variant(
    width, height, *, longest=1540, up=math.ceil, square=28, count=lambda r, c: r * (c + 1)
):
    ratio = max(width / longest, height / longest, 1)
    return count(up(round(height / ratio) / square), up(round(width / ratio) / square))


wrong("04-tokens", ..., STUB)
wrong(
    "04-tokens",
    lambda w, h: tokens_variant(w, h, longest=10**9),
    "A large image is shrunk first: its longer side has at most 1,540 pixels.",
)
wrong(
    "04-tokens",
    lambda w, h: tokens_variant(w, h, count=lambda r, c: r * c),
    "Each row ends with one more token.",
)
wrong(
    "04-tokens",
    lambda w, h: tokens_variant(w, h, count=lambda r, c: r * c + 1),
    "Each row has its end token, not only the whole image.",
)
wrong(
    "04-tokens",
    lambda w, h: tokens_variant(w, h, count=lambda r, c: r * (c + 1) + 1),
    "The last row's end replaces its break; there is no further token.",
)
wrong(
    "04-tokens",
    lambda w, h: tokens_variant(w, h, count=lambda r, c: c * (r + 1)),
    "Rows and columns are swapped: right for squares only.",
)
wrong(
    "04-tokens",
    lambda w, h: tokens_variant(w, h, up=math.floor),
    "A patch that is begun counts: round up.",
)
wrong("04-tokens", lambda w, h: tokens_variant(w, h, up=round), "Round up, not to the nearest.")
wrong(
    "04-tokens",
    lambda w, h: tokens_variant(w, h, longest=168),
    "168 pixels are the pocket model's limit; the example has 272 tokens.",
)
wrong(
    "04-tokens",
    lambda w, h: tokens_variant(w, h, square=14),
    "Patches of 14 pixels are merged 2 × 2: a token is 28 × 28 pixels.",
)
wrong(
    "04-tokens",
    lambda w, h: math.ceil(min(h, 1540) / 28) * (math.ceil(min(w, 1540) / 28) + 1),
    "Both sides shrink by the same ratio; the shorter one is not left as it is.",
)
wrong(
    "04-tokens",
    lambda w, h: min(math.ceil(h / 28) * (math.ceil(w / 28) + 1), 3080),
    "The image is shrunk; the count is not cut off.",
)
wrong(
    "04-tokens",
    lambda w, h: (
        math.ceil(h / max(w / 1540, h / 1540, 1) / 28)
        * (math.ceil(w / max(w / 1540, h / 1540, 1) / 28) + 1)
    ),
    "Round the shrunk sides to whole pixels first: 1541 / (1541 / 1540) is a little over 1540.",
)
wrong(
    "04-tokens",
    lambda w, h: tokens_variant(w, h, longest=max(1540, h)),
    "A tall image is shrunk too: look at the longer side, not at the width only.",
)
wrong("04-tokens", lambda w, h: 272, "This is the example's number for all images.")
wrong(
    "04-tokens",
    lambda w, h: math.ceil(w * h / 784),
    "Count whole rows and columns, and the row ends.",
)
wrong("04-tokens", lambda w, h: print(tokens_plain(w, h)), PRINTS)
wrong("04-tokens", 272, CALLED)

# -------------------------------------------------------------------------- 04-message
URL = "data:image/png;base64,iVBORw0KGgo="


def parts(*content, role="user"):
    return {"role": role, "content": list(content)}


def text_part(text):
    return {"type": "text", "text": text}


IMAGE = {"type": "image_url", "image_url": {"url": URL}}
right("04-message", parts(text_part("What colour is the square?"), IMAGE), "As in the lesson.")
right("04-message", parts(IMAGE, text_part("What color is the square?")), "The image first.")
right(
    "04-message",
    dict(
        content=[
            dict(text="Which colour does the square have?", type="text"),
            dict(image_url=dict(url=URL), type="image_url"),
        ],
        role="user",
    ),
    "With dict(), keys in another order.",
)
right(
    "04-message",
    parts(
        text_part("what is the color of the square in the image?"),
        {"type": "image_url", "image_url": {"url": URL, "detail": "auto"}},
    ),
    "With a detail, as OpenAI's format allows.",
)
right(
    "04-message",
    parts(text_part("Here is an image."), IMAGE, text_part("Name the colour of the square.")),
    "Two text parts.",
)
wrong("04-message", ..., STUB)
wrong(
    "04-message",
    {"role": "user", "content": f"What colour is the square? {URL}"},
    "The URL is only text here; an image is a part of its own.",
)
wrong(
    "04-message",
    [parts(text_part("What colour is the square?"), IMAGE)],
    "Give the message itself, not a list with it.",
)
wrong("04-message", parts(text_part("What colour is the square?")), "The image is missing.")
wrong("04-message", parts(IMAGE), "The question is missing.")
wrong(
    "04-message",
    parts(text_part("What colour is the square?"), {"type": "image", "image": URL}),
    "The part's type is image_url, with the URL in a dict under this key.",
)
wrong(
    "04-message",
    parts(text_part("What colour is the square?"), {"type": "image_url", "url": URL}),
    "The URL belongs into a dict under image_url.",
)
wrong(
    "04-message",
    parts(
        {"type": "input_text", "text": "What colour is the square?"},
        {"type": "input_image", "image_url": URL},
    ),
    "These are the part types of another API (Responses).",
)
wrong(
    "04-message",
    parts(text_part("What colour is the square?"), IMAGE, role="system"),
    "The question comes from the user, so the role is user.",
)
wrong(
    "04-message",
    {"role": "user", "content": {"text": "What colour is the square?", "image_url": {"url": URL}}},
    "The content is a list of parts, each with its type.",
)
wrong(
    "04-message",
    parts(
        text_part("What colour is the square?"),
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
    ),
    "This is a web address; a data URL has the image itself.",
)
wrong("04-message", parts("What colour is the square?", URL), "Each part is a dict with a type.")
wrong(
    "04-message",
    parts(text_part("What is the capital of Italy?"), IMAGE),
    "The question is not about the image.",
)
wrong(
    "04-message",
    parts(text_part("How many shapes are there?"), IMAGE),
    "The question must ask for the color of the square.",
)
wrong(
    "04-message",
    json.dumps(parts(text_part("What colour is the square?"), IMAGE)),
    "Give a dict, not its text.",
)
wrong(
    "04-message",
    parts(
        text_part("What colour is the square?"),
        {"type": "image_url", "image_url": {"url": "iVBORw0KGgo="}},
    ),
    "A data URL begins with data:image/png;base64, and this is only its end.",
)


# ---------------------------------------------------------------------------- 04-pairs
def pairs_loop(pairs):
    both = 0
    for first, second in pairs:
        if first and second:
            both += 1
    return both / len(pairs)


right("04-pairs", pairs_loop, "With a loop.")
right("04-pairs", lambda pairs: sum(a and b for a, b in pairs) / len(pairs), "A lambda.")
right("04-pairs", lambda pairs: float(np.mean(np.all(np.array(pairs), axis=1))), "With NumPy.")
right("04-pairs", lambda pairs: Fraction(sum(map(all, pairs)), len(pairs)), "A Fraction.")
right(
    "04-pairs",
    lambda pairs: statistics.mean(int(all(pair)) for pair in pairs),
    "With the statistics module.",
)
right(
    "04-pairs",
    lambda pairs: np.prod(np.array(pairs, dtype=float), axis=1).mean(),
    "A NumPy number.",
)
wrong("04-pairs", ..., STUB)
wrong(
    "04-pairs",
    lambda pairs: sum(a or b for a, b in pairs) / len(pairs),
    "One right answer of the two can be luck: both must be right.",
)
wrong(
    "04-pairs",
    lambda pairs: sum(a == b for a, b in pairs) / len(pairs),
    "A pair with two wrong answers does not show that the image was used.",
)
wrong(
    "04-pairs",
    lambda pairs: float(np.mean(pairs)),
    "This is the share of right answers; count the pairs with both right.",
)
wrong(
    "04-pairs",
    lambda pairs: sum(a for a, b in pairs) / len(pairs),
    "Only the first image is looked at.",
)
wrong(
    "04-pairs",
    lambda pairs: sum(a and b for a, b in pairs),
    "This is the number; divide by the pairs.",
)
wrong(
    "04-pairs",
    lambda pairs: 100 * sum(a and b for a, b in pairs) / len(pairs),
    "The share is 0.5, not 50.",
)
wrong(
    "04-pairs",
    lambda pairs: sum(a != b for a, b in pairs) / len(pairs),
    "One right and one wrong answer is what a model gets that ignores the image.",
)
wrong(
    "04-pairs", lambda pairs: sum(a and b for a, b in pairs) // len(pairs), "// drops the fraction."
)
wrong(
    "04-pairs",
    lambda pairs: sum(a and b for a, b in pairs) / (2 * len(pairs)),
    "Divide by the pairs, not by the answers.",
)
wrong("04-pairs", lambda pairs: 0.5, "This is the example's share for all lists.")
wrong(
    "04-pairs",
    lambda pairs: all(a and b for a, b in pairs),
    "This says whether all are right; a share is asked for.",
)
wrong("04-pairs", lambda pairs: print(pairs_loop(pairs)), PRINTS)
wrong(
    "04-pairs",
    lambda pairs: sum(b for a, b in pairs) / len(pairs),
    "Only the second image is looked at.",
)
wrong("04-pairs", 0.5, CALLED)

# ------------------------------------------------------------------------------- 05-id
right("05-id", ["bbc5b7ede", "A1B2C3D4E"], "A list.")
right("05-id", ("A1B2C3D4E", "bbc5b7ede"), "A tuple in another order.")
right("05-id", {"bbc5b7ede", "A1B2C3D4E"}, "A set.")
right(
    "05-id",
    [
        i
        for i in ("bbc5b7ede", "call_abc1", "A1B2C3D4E", "a1b2c3d4", "abc defgh")
        if len(i) == 9 and i.isalnum()
    ],
    "Computed by the rule.",
)
right("05-id", "bbc5b7ede, A1B2C3D4E", "A text with both.")
wrong("05-id", ..., STUB)
wrong("05-id", ["bbc5b7ede"], "Capital letters are letters too: A1B2C3D4E is accepted.")
wrong(
    "05-id",
    ["bbc5b7ede", "call_abc1", "A1B2C3D4E"],
    "An underscore is neither a letter nor a digit.",
)
wrong(
    "05-id",
    ["bbc5b7ede", "A1B2C3D4E", "a1b2c3d4"],
    "a1b2c3d4 has eight characters; nine are needed.",
)
wrong("05-id", ["bbc5b7ede", "A1B2C3D4E", "abc defgh"], "A blank is neither a letter nor a digit.")
wrong(
    "05-id",
    ["bbc5b7ede", "call_abc1", "A1B2C3D4E", "a1b2c3d4", "abc defgh"],
    "Not all are accepted.",
)
wrong("05-id", ["A1B2C3D4E"], "bbc5b7ede is accepted too.")
wrong("05-id", ["call_abc1", "a1b2c3d4", "abc defgh"], "These are the three that are refused.")
wrong(
    "05-id", ["bbc5b7ede", "a1b2c3d4e"], "a1b2c3d4e is not in the list; copy the ids as they are."
)
wrong("05-id", 2, "Which two? Give the ids.")
wrong("05-id", [True, False, True, False, False], "Give the ids themselves.")
wrong("05-id", [], "Some are accepted.")
wrong("05-id", "bbc5b7ede", "There is another one.")
wrong("05-id", [0, 2], "Give the ids themselves, not their places.")


# --------------------------------------------------------------------------- 05-schema
def tool(
    parameters, name="convert", description="Convert an amount of money to a currency.", **more
):
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters, **more},
    }


AMOUNT = {"type": "number", "description": "The amount."}
CURRENCY = {"type": "string", "enum": ["EUR", "USD"]}
MONEY = {
    "type": "object",
    "properties": {"amount": AMOUNT, "currency": CURRENCY},
    "required": ["amount", "currency"],
}
right("05-schema", tool(MONEY), "As in the lesson.")
right("05-schema", tool({**MONEY, "additionalProperties": False}, strict=True), "Strict.")
right(
    "05-schema",
    tool(
        {
            "type": "object",
            "required": ["currency", "amount"],
            "properties": {"currency": {"enum": ["USD", "EUR"]}, "amount": {"type": "number"}},
        }
    ),
    "An enum needs no type; another order.",
)
right(
    "05-schema",
    dict(
        type="function",
        function=dict(
            description="converts money",
            name="convert",
            parameters=dict(
                MONEY,
                properties=dict(
                    amount=dict(type="number", minimum=0),
                    currency=dict(type="string", enum=["EUR", "USD"], description="EUR or USD"),
                ),
            ),
        ),
    ),
    "With dict(), a minimum and a description of the parameter.",
)
right(
    "05-schema",
    tool(
        {
            **MONEY,
            "title": "Convert",
            "properties": {
                "amount": {"title": "Amount", "type": "number"},
                "currency": {"title": "Currency", "type": "string", "enum": ["EUR", "USD"]},
            },
        }
    ),
    "With the titles that pydantic makes.",
)
wrong("05-schema", ..., STUB)
wrong("05-schema", MONEY, "This is the schema of the parameters alone; write the whole dict.")
wrong(
    "05-schema",
    {"type": "function", "function": {"name": "convert", "parameters": MONEY}},
    "The description of the function is missing; the model chooses a tool by it.",
)
wrong(
    "05-schema",
    tool({key: MONEY[key] for key in ("type", "properties")}),
    "Both parameters are required: the list is missing.",
)
wrong("05-schema", tool({**MONEY, "required": ["amount"]}), "The currency is required too.")
wrong(
    "05-schema",
    tool({**MONEY, "properties": {"amount": {"type": "string"}, "currency": CURRENCY}}),
    "The amount is a number.",
)
wrong(
    "05-schema",
    tool({**MONEY, "properties": {"amount": {"type": "integer"}, "currency": CURRENCY}}),
    "An amount such as 2.50 is no integer: the type is number.",
)
wrong(
    "05-schema",
    tool({**MONEY, "properties": {"amount": {"type": "float"}, "currency": CURRENCY}}),
    "JSON Schema knows no float; the type is number.",
)
wrong(
    "05-schema",
    tool({**MONEY, "properties": {"amount": AMOUNT, "currency": {"type": "string"}}}),
    "Any text would be allowed; an enum limits it to EUR and USD.",
)
wrong(
    "05-schema",
    tool(
        {
            **MONEY,
            "properties": {
                "amount": AMOUNT,
                "currency": {"type": "string", "description": "EUR or USD"},
            },
        }
    ),
    "A description is a request; only an enum forbids another currency.",
)
wrong(
    "05-schema",
    tool(
        {
            **MONEY,
            "properties": {
                "amount": AMOUNT,
                "currency": {"type": "string", "enum": ["euro", "dollar"]},
            },
        }
    ),
    "The values are EUR and USD.",
)
wrong(
    "05-schema",
    tool(
        {
            **MONEY,
            "properties": {
                "amount": AMOUNT,
                "currency": {"type": "string", "enum": ["EUR", "USD", "GBP"]},
            },
        }
    ),
    "Only EUR and USD are asked for.",
)
wrong(
    "05-schema",
    {"type": "function", "name": "convert", "description": "Convert.", "parameters": MONEY},
    "Name, description and parameters belong under function.",
)
wrong("05-schema", [tool(MONEY)], "Give one dict, not a list.")
wrong("05-schema", json.dumps(tool(MONEY)), "Give a dict, not its text.")
wrong("05-schema", tool(MONEY, name="convert_currency"), "The function is called convert.")
wrong(
    "05-schema",
    lambda amount, currency: None,
    "Describe the function with a dict; do not write it.",
)
wrong(
    "05-schema",
    tool({"amount": AMOUNT, "currency": CURRENCY}),
    "The parameters are an object: type, properties and required.",
)
wrong(
    "05-schema",
    tool(
        {
            **MONEY,
            "properties": {"amount": AMOUNT, "currency": {"type": "array", "items": CURRENCY}},
        }
    ),
    "The currency is one value, not a list.",
)


# ---------------------------------------------------------------------------- 05-check
def check_plain(arguments, allowed, required):
    try:
        parsed = json.loads(arguments)
    except ValueError:
        return False
    if not isinstance(parsed, dict):
        return False
    return set(required) <= set(parsed) <= set(allowed)


def check_loops(arguments, allowed, required):
    try:
        parsed = json.loads(arguments)
    except json.JSONDecodeError:
        return False
    if type(parsed) is not dict:
        return False
    for name in required:
        if name not in parsed:
            return False
    for name in parsed:
        if name not in allowed:
            return False
    return True


def check_schema(arguments, allowed, required):
    try:
        names = json.loads(arguments).keys()
    except (ValueError, AttributeError):
        return False
    return not (set(required) - names or names - set(allowed))


def check_all(arguments, allowed, required):
    try:
        parsed = json.loads(arguments)
    except Exception:
        return False
    return (
        isinstance(parsed, dict)
        and all(name in allowed for name in parsed)
        and all(name in parsed for name in required)
    )


class Checker:
    def ok(self, arguments, allowed, required):
        return check_all(arguments, tuple(allowed), tuple(required))


right("05-check", check_plain, "With sets.")
right("05-check", check_loops, "With loops.")
right("05-check", check_schema, "With the exception of what is no dict.")
right("05-check", check_all, "With all().")
right("05-check", Checker().ok, "A method.")


def check_raises(arguments, allowed, required):
    parsed = json.loads(arguments)
    return isinstance(parsed, dict) and set(required) <= set(parsed) <= set(allowed)


def check_no_dict(arguments, allowed, required):
    try:
        parsed = json.loads(arguments)
    except ValueError:
        return False
    try:
        return set(required) <= set(parsed) <= set(allowed)
    except TypeError:
        return False


def check_keys_raise(arguments, allowed, required):
    try:
        parsed = json.loads(arguments)
    except ValueError:
        return False
    return set(required) <= parsed.keys() <= set(allowed)


def check_required_only(arguments, allowed, required):
    try:
        parsed = json.loads(arguments)
    except ValueError:
        return False
    return isinstance(parsed, dict) and all(name in parsed for name in required)


def check_allowed_only(arguments, allowed, required):
    try:
        parsed = json.loads(arguments)
    except ValueError:
        return False
    return isinstance(parsed, dict) and all(name in allowed for name in parsed)


def check_text(arguments, allowed, required):
    return all(name in arguments for name in required)


def check_exact(arguments, allowed, required):
    try:
        parsed = json.loads(arguments)
    except ValueError:
        return False
    return isinstance(parsed, dict) and set(parsed) == set(required)


def check_exact_allowed(arguments, allowed, required):
    try:
        parsed = json.loads(arguments)
    except ValueError:
        return False
    return isinstance(parsed, dict) and set(parsed) == set(allowed)


def check_swapped(arguments, required, allowed):
    return check_plain(arguments, allowed, required)


def check_literal(arguments, allowed, required):
    try:
        parsed = ast.literal_eval(arguments)
    except (ValueError, SyntaxError, TypeError, RecursionError):
        return False
    return isinstance(parsed, dict) and set(required) <= set(parsed) <= set(allowed)


def check_none(arguments, allowed, required):
    if check_plain(arguments, allowed, required):
        return True


def check_returns_dict(arguments, allowed, required):
    if check_plain(arguments, allowed, required):
        return json.loads(arguments)
    return {}


def check_prints(arguments, allowed, required):
    print(check_plain(arguments, allowed, required))


def check_count(arguments, allowed, required):
    try:
        parsed = json.loads(arguments)
    except ValueError:
        return False
    return isinstance(parsed, dict) and len(required) <= len(parsed) <= len(allowed)


def check_any(arguments, allowed, required):
    try:
        parsed = json.loads(arguments)
    except ValueError:
        return False
    return (
        isinstance(parsed, dict)
        and any(name in parsed for name in required)
        and set(parsed) <= set(allowed)
    )


def check_true_on_error(arguments, allowed, required):
    try:
        return set(required) <= set(json.loads(arguments)) <= set(allowed)
    except Exception:
        return True


def check_not_parsed(arguments, allowed, required):
    return set(required) <= set(arguments) <= set(allowed)


wrong("05-check", ..., STUB)
wrong(
    "05-check", check_raises, "A model can write broken JSON; then it must return False, not raise."
)
wrong("05-check", check_no_dict, 'The list ["city"] is valid JSON, but no object.')
wrong("05-check", check_keys_raise, "Valid JSON need not be an object: a number has no keys().")
wrong("05-check", check_required_only, "Names that are not allowed must be refused.")
wrong("05-check", check_allowed_only, "A required name can be missing.")
wrong("05-check", check_text, "Parse the text: the name can be in a value, or the JSON broken.")
wrong("05-check", check_exact, "A name that is allowed but not required may be there.")
wrong(
    "05-check", check_exact_allowed, "Not every allowed name must be there, only the required ones."
)
wrong(
    "05-check",
    check_swapped,
    "The second argument are the allowed names, the third the required ones.",
)
wrong("05-check", check_literal, "JSON is no Python: true and null fail, and single quotes pass.")
wrong("05-check", check_none, "It must return False; without return it gives None.")
wrong("05-check", check_returns_dict, "Return True or False, not the arguments.")
wrong("05-check", check_prints, PRINTS)
wrong("05-check", check_count, "The number of names is not enough; compare the names.")
wrong("05-check", check_any, "All required names must be there, not just one.")
wrong("05-check", check_true_on_error, "What cannot be read is not in order: return False.")
wrong("05-check", check_not_parsed, "The argument is a text: its set has letters, not names.")
wrong("05-check", lambda arguments, allowed, required: True, "It must also find what is wrong.")


# ----------------------------------------------------------------------------- 05-loop
def run_call(call, functions):
    try:
        function = functions[call["function"]["name"]]
        result = function(**json.loads(call["function"]["arguments"]))
    except Exception as error:
        result = f"error: {type(error).__name__}: {error}"
    return {"role": "tool", "tool_call_id": call["id"], "content": str(result)}


def loop_plain(ask, messages, functions):
    messages = list(messages)
    for _ in range(5):
        reply = ask(messages)
        calls = reply.get("tool_calls") or []
        if not calls:
            return reply["content"]
        messages.append(reply)
        messages += [run_call(call, functions) for call in calls]
    return None


def loop_while(ask, messages, functions):
    sent, conversation = 0, copy.deepcopy(messages)
    while sent < 5:
        sent += 1
        reply = ask(copy.deepcopy(conversation))
        if not reply.get("tool_calls"):
            return reply.get("content")
        conversation.append(
            {
                "role": "assistant",
                "content": reply.get("content"),
                "tool_calls": reply["tool_calls"],
            }
        )
        for call in reply["tool_calls"]:
            name = call["function"]["name"]
            if name not in functions:
                content = json.dumps({"error": f"there is no tool {name}"})
            else:
                try:
                    content = json.dumps(
                        functions[name](**json.loads(call["function"]["arguments"]))
                    )
                except Exception as error:
                    content = json.dumps({"error": f"{type(error).__name__}: {error}"})
            conversation.append({"role": "tool", "tool_call_id": call["id"], "content": content})
    return "The model called tools five times and gave no answer."


def loop_recursive(ask, messages, functions, left=5):
    if left == 0:
        return None
    reply = ask(messages)
    if not reply.get("tool_calls"):
        return reply["content"]
    results = [run_call(call, functions) for call in reply["tool_calls"]]
    return loop_recursive(ask, [*messages, reply, *results], functions, left - 1)


def loop_appends(ask, messages, functions):
    """Appends to the list that was given: the text allows it."""
    reply = None
    for _ in range(5):
        reply = ask(messages)
        messages.append(reply)
        if not reply.get("tool_calls"):
            break
        for call in reply["tool_calls"]:
            messages.append({**run_call(call, functions), "name": call["function"]["name"]})
    return reply.get("content")


class Agent:
    def __init__(self, rounds):
        self.rounds = rounds

    def run(self, ask, messages, functions):
        history = [*messages]
        for reply in (ask(history) for _ in range(self.rounds)):
            if not reply.get("tool_calls"):
                return reply["content"]
            history.extend([reply, *(run_call(c, functions) for c in reply["tool_calls"])])


right("05-loop", loop_plain, "A for loop.")
right("05-loop", loop_while, "A while loop; results and errors as JSON.")
right("05-loop", loop_recursive, "Recursive.")
right("05-loop", loop_appends, "It appends to the given list, which the text does not forbid.")
right("05-loop", Agent(5).run, "A method.")


def loop_variant(
    ask, messages, functions, *, limit=5, run=run_call, assistant=True, first=False, results=True
):
    messages = list(messages)
    for _ in range(limit):
        reply = ask(messages)
        calls = reply.get("tool_calls") or []
        if not calls:
            return reply["content"]
        if assistant:
            messages.append(reply)
        if results:
            messages += [run(call, functions) for call in (calls[:1] if first else calls)]
    return None


def run_unsafe(call, functions):
    result = functions[call["function"]["name"]](**json.loads(call["function"]["arguments"]))
    return {"role": "tool", "tool_call_id": call["id"], "content": str(result)}


def run_unknown_raises(call, functions):
    function = functions[call["function"]["name"]]
    try:
        result = function(**json.loads(call["function"]["arguments"]))
    except Exception as error:
        result = f"error: {error}"
    return {"role": "tool", "tool_call_id": call["id"], "content": str(result)}


def run_bad_json_raises(call, functions):
    arguments = json.loads(call["function"]["arguments"])
    try:
        result = functions[call["function"]["name"]](**arguments)
    except Exception as error:
        result = f"error: {error!r}"
    return {"role": "tool", "tool_call_id": call["id"], "content": str(result)}


def run_only_keyerror(call, functions):
    try:
        result = functions[call["function"]["name"]](**json.loads(call["function"]["arguments"]))
    except KeyError as error:
        result = f"error: {error}"
    return {"role": "tool", "tool_call_id": call["id"], "content": str(result)}


def run_silent(call, functions):
    return {
        **run_call(call, functions),
        "content": ""
        if run_call(call, functions)["content"].startswith("error")
        else run_call(call, functions)["content"],
    }


def run_not_parsed(call, functions):
    try:
        result = functions[call["function"]["name"]](call["function"]["arguments"])
    except Exception as error:
        result = f"error: {error}"
    return {"role": "tool", "tool_call_id": call["id"], "content": str(result)}


def run_one_dict(call, functions):
    try:
        result = functions[call["function"]["name"]](json.loads(call["function"]["arguments"]))
    except Exception as error:
        result = f"error: {error}"
    return {"role": "tool", "tool_call_id": call["id"], "content": str(result)}


def run_positional(call, functions):
    try:
        values = json.loads(call["function"]["arguments"]).values()
        result = functions[call["function"]["name"]](*values)
    except Exception as error:
        result = f"error: {error}"
    return {"role": "tool", "tool_call_id": call["id"], "content": str(result)}


def run_no_id(call, functions):
    return {"role": "tool", "content": run_call(call, functions)["content"]}


def run_fixed_id(call, functions):
    return {**run_call(call, functions), "tool_call_id": "bbc5b7ede"}


def run_as_user(call, functions):
    return {"role": "user", "content": run_call(call, functions)["content"]}


def run_raw(call, functions):
    try:
        result = functions[call["function"]["name"]](**json.loads(call["function"]["arguments"]))
    except Exception as error:
        result = error
    return {"role": "tool", "tool_call_id": call["id"], "content": result}


def loop_one_round(ask, messages, functions):
    messages = list(messages)
    reply = ask(messages)
    if not reply.get("tool_calls"):
        return reply["content"]
    messages.append(reply)
    messages += [run_call(call, functions) for call in reply["tool_calls"]]
    return ask(messages)["content"]


def loop_returns_dict(ask, messages, functions):
    messages = list(messages)
    for _ in range(5):
        reply = ask(messages)
        if not reply.get("tool_calls"):
            return reply
        messages += [reply, *(run_call(call, functions) for call in reply["tool_calls"])]


def loop_returns_result(ask, messages, functions):
    reply = ask(list(messages))
    if reply.get("tool_calls"):
        return run_call(reply["tool_calls"][0], functions)["content"]
    return reply["content"]


def loop_needs_key(ask, messages, functions):
    messages = list(messages)
    for _ in range(5):
        reply = ask(messages)
        if not reply["tool_calls"]:
            return reply["content"]
        messages += [reply, *(run_call(call, functions) for call in reply["tool_calls"])]


def loop_attributes(ask, messages, functions):
    messages = list(messages)
    for _ in range(5):
        reply = ask(messages)
        if not reply.tool_calls:
            return reply.content


def loop_prints(ask, messages, functions):
    print(loop_plain(ask, messages, functions))


def loop_call_per_message(ask, messages, functions):
    """Writes the model's message once for each of its calls."""
    messages = list(messages)
    for _ in range(5):
        reply = ask(messages)
        if not reply.get("tool_calls"):
            return reply["content"]
        for call in reply["tool_calls"]:
            messages += [reply, run_call(call, functions)]


wrong("05-loop", ..., STUB)
wrong(
    "05-loop",
    functools.partial(loop_variant, run=run_unsafe),
    "A tool that fails stops the loop; the model should read the error.",
)
wrong(
    "05-loop",
    functools.partial(loop_variant, run=run_unknown_raises),
    "A tool that does not exist raises a KeyError outside of try.",
)
wrong(
    "05-loop",
    functools.partial(loop_variant, run=run_bad_json_raises),
    "The arguments can be broken JSON; parse them inside of try.",
)
wrong(
    "05-loop",
    functools.partial(loop_variant, run=run_only_keyerror),
    "A tool can fail with any exception, not only with KeyError.",
)
wrong(
    "05-loop",
    functools.partial(loop_variant, run=run_silent),
    "The error is hidden: the model gets an empty result and cannot correct its call.",
)
wrong(
    "05-loop",
    functools.partial(loop_variant, run=run_not_parsed),
    "The arguments are a text of JSON: parse them, then pass them by name.",
)
wrong(
    "05-loop",
    functools.partial(loop_variant, run=run_one_dict),
    "The arguments are passed by name: function(**arguments).",
)
wrong(
    "05-loop",
    functools.partial(loop_variant, run=run_positional),
    "The order in the JSON is not the order of the parameters: pass them by name.",
)
wrong(
    "05-loop",
    functools.partial(loop_variant, run=run_no_id),
    "tool_call_id is missing: the model cannot know which call the result belongs to.",
)
wrong(
    "05-loop",
    functools.partial(loop_variant, run=run_fixed_id),
    "Each result has the id of its own call, not that of the example.",
)
wrong(
    "05-loop",
    functools.partial(loop_variant, run=run_as_user),
    "A result has the role tool, not user.",
)
wrong(
    "05-loop",
    functools.partial(loop_variant, run=run_raw),
    "The content must be a text; servers refuse a number or an exception.",
)
wrong(
    "05-loop",
    functools.partial(loop_variant, assistant=False),
    "The model's message with the calls is missing before the results.",
)
wrong("05-loop", functools.partial(loop_variant, results=False), "The results are never sent.")
wrong(
    "05-loop",
    functools.partial(loop_variant, first=True),
    "One message can have several calls: run all.",
)
wrong("05-loop", functools.partial(loop_variant, limit=50), "After 5 requests the loop must end.")
wrong("05-loop", functools.partial(loop_variant, limit=6), "Six requests: one too many.")
wrong("05-loop", functools.partial(loop_variant, limit=4), "Four requests: five are allowed.")
wrong("05-loop", loop_one_round, "A model can call again after the first results.")
wrong("05-loop", loop_returns_dict, "Return the text, not the whole message.")
wrong("05-loop", loop_returns_result, "The model writes the answer; send it the result.")
wrong("05-loop", loop_needs_key, "A message without calls need not have the key: use get.")
wrong("05-loop", loop_attributes, "The message is a dict: use keys, not attributes.")
wrong("05-loop", loop_prints, PRINTS)
wrong("05-loop", loop_call_per_message, "The model's message comes once, then all of its results.")

# --------------------------------------------------------------------------- 06-stream
EVENTS = [
    (100, "", None),
    (300, "A", None),
    (340, "BCD", None),
    (345, "", None),
    (346, "", 4),
    (350, "", None),
]


def times_plain(events):
    with_text = [ms for ms, text, _ in events if text]
    count = next(tokens for _, _, tokens in events if tokens is not None)
    first, last = with_text[0], with_text[-1]
    tpot = (last - first) / (count - 1) if count > 1 else None
    return {"ttft": first, "tpot": tpot, "e2e": events[-1][0]}


def times_loop(events):
    first = last = count = None
    for ms, text, tokens in events:
        if text:
            first = ms if first is None else first
            last = ms
        if tokens is not None:
            count = tokens
    result = dict(ttft=float(first), tpot=None, e2e=float(ms))
    if count and count > 1:
        result["tpot"] = round((last - first) / (count - 1), 2)
    return result


def times_numpy(events):
    times = np.array([event[0] for event in events], dtype=float)
    text = np.array([bool(event[1]) for event in events])
    count = max(event[2] or 0 for event in events)
    span = times[text].max() - times[text].min()
    return {
        "e2e": times[-1],
        "ttft": times[text].min(),
        "tpot": span / (count - 1) if count != 1 else None,
    }


def times_fraction(events):
    deltas = [event for event in events if event[1] != ""]
    (count,) = [event[2] for event in events if event[2] is not None]
    return {
        "ttft": deltas[0][0],
        "e2e": max(event[0] for event in events),
        "tpot": None if count == 1 else Fraction(deltas[-1][0] - deltas[0][0]) / (count - 1),
    }


right("06-stream", times_plain, "The kit's own definition.")
right("06-stream", times_loop, "One loop, rounded to two digits.")
right("06-stream", times_numpy, "With NumPy numbers.")
right("06-stream", times_fraction, "With a Fraction.")


def times_variant(events, *, ttft=None, span=None, divide=None, e2e=None, none=True):
    base = times_plain(events)
    count = next(tokens for _, _, tokens in events if tokens is not None)
    texts = [event for event in events if event[1]]
    span = (texts[-1][0] - texts[0][0]) if span is None else span(events)
    divisor = count - 1 if divide is None else divide(events)
    if count == 1 and none:
        tpot = None
    else:
        tpot = span / divisor
    return {
        "ttft": base["ttft"] if ttft is None else ttft(events),
        "tpot": tpot,
        "e2e": base["e2e"] if e2e is None else e2e(events),
    }


def usage_of(events):
    return next(tokens for _, _, tokens in events if tokens is not None)


def first_text(events):
    return next(ms for ms, text, _ in events if text)


def times_zero(events):
    result = times_plain(events)
    return {**result, "tpot": result["tpot"] or 0}


def times_tuple(events):
    return tuple(times_plain(events).values())


def times_seconds(events):
    return {
        name: value if value is None else value / 1000
        for name, value in times_plain(events).items()
    }


def times_hard_coded(events):
    return {
        "ttft": events[1][0],
        "tpot": (events[2][0] - events[1][0]) / (events[4][2] - 1),
        "e2e": events[-1][0],
    }


def times_last_usage(events):
    count = events[-1][2]
    return {"ttft": first_text(events), "tpot": 40 / (count - 1), "e2e": events[-1][0]}


wrong("06-stream", ..., STUB)
wrong(
    "06-stream",
    lambda events: times_variant(events, ttft=lambda e: e[0][0]),
    "The first delta has no text; TTFT ends at the first text.",
)
wrong(
    "06-stream",
    lambda events: times_variant(events, span=lambda e: e[-1][0] - first_text(e)),
    "TPOT ends at the last text, not at the end of the stream.",
)
wrong(
    "06-stream",
    lambda events: times_variant(events, divide=usage_of),
    "Between n tokens are n − 1 gaps.",
)
wrong(
    "06-stream",
    lambda events: times_variant(events, span=lambda e: [x for x in e if x[1]][-1][0]),
    "This counts from the request; TPOT begins at the first token.",
)
wrong(
    "06-stream",
    lambda events: times_variant(
        events, divide=lambda e: max(sum(bool(text) for _, text, _ in e) - 1, 1)
    ),
    "A piece can have several tokens: take the count of the usage.",
)
wrong(
    "06-stream",
    lambda events: times_variant(
        events, divide=lambda e: max(len("".join(text for _, text, _ in e)) - 1, 1)
    ),
    "Characters are no tokens; this fits the example by chance.",
)
wrong(
    "06-stream",
    lambda events: times_variant(events, e2e=lambda e: [x for x in e if x[1]][-1][0]),
    "End to end is the end of the stream, not the last text.",
)
wrong(
    "06-stream",
    lambda events: times_variant(events, e2e=lambda e: e[-1][0] - first_text(e)),
    "End to end begins at the request, not at the first token.",
)
wrong(
    "06-stream",
    lambda events: times_variant(events, none=False),
    "With a single token this divides by zero; tpot is None then.",
)
wrong("06-stream", times_zero, "With a single token there is no time per token: None, not 0.")
wrong("06-stream", times_tuple, "Return a dict with the three names.")
wrong("06-stream", times_seconds, "Milliseconds are asked for, not seconds.")
wrong(
    "06-stream",
    times_hard_coded,
    "The places of the events differ from stream to stream: search them.",
)
wrong("06-stream", times_last_usage, "The usage is not in the last event: search it.")
wrong(
    "06-stream",
    lambda events: {"ttft": 300, "tpot": 13.33, "e2e": 350},
    "These are the example's times for all streams.",
)
wrong("06-stream", lambda events: print(times_plain(events)), PRINTS)
wrong("06-stream", {"ttft": 300, "tpot": 13.33, "e2e": 350}, CALLED)
wrong(
    "06-stream",
    lambda events: {"TTFT": 300, "TPOT": 13.33, "end to end": 350},
    "The keys are ttft, tpot and e2e; and the values must be computed.",
)

# ----------------------------------------------------------------------------- 06-rate
right("06-rate", 320, "8 answers × 40 tokens per second.")
right("06-rate", 8 / 0.025, "Computed, a float.")
right("06-rate", "320 tokens/s", "A text with the unit.")
right("06-rate", Fraction(8 * 1000, 25), "A Fraction.")
right("06-rate", np.int64(320), "A NumPy number.")
right("06-rate", "320.0", "A text.")
right("06-rate", np.array([40.0] * 8).sum(), "Added up.")
if torch:
    right("06-rate", torch.tensor(320.0), "A tensor with one number.")
wrong("06-rate", ..., STUB)
wrong("06-rate", 40, "This is one of the eight; all of them together are asked for.")
wrong("06-rate", 5, "The answers run at the same time: each gets 40, all together 320.")
wrong("06-rate", 200, "8 × 25 are milliseconds; turn the time into a rate first.")
wrong("06-rate", 0.32, "This is tokens per millisecond.")
wrong("06-rate", 0.2, "These are seconds; a rate is asked for.")
wrong("06-rate", 3.125, "25 / 8 is turned around, and in milliseconds.")
wrong("06-rate", 3200, "A factor of ten too many: 1,000 / 25 is 40.")
wrong("06-rate", 32, "A factor of ten too few: 1,000 / 25 is 40.")
wrong("06-rate", 320_000, "25 ms are 0.025 s: a factor of 1,000 too many.")
wrong("06-rate", "eight times as many as one", "Give the number.")
wrong("06-rate", 8, "Each generates 40 tokens in a second, not one.")
wrong("06-rate", [40] * 8, "Add them up: one number is asked for.")
wrong("06-rate", "25 ms", "This is the TPOT from the question.")

# -------------------------------------------------------------------------- 06-prompts
right("06-prompts", ["Hi!", "the sea was calm. " * 100 + "What was calm?"], "As in the lesson.")
right(
    "06-prompts",
    ["Name a color.", "Add these numbers: " + " ".join(map(str, range(200)))],
    "Numbers.",
)
right(
    "06-prompts",
    [
        "What is tea?",
        "\n".join(
            f"Line {n}: a boat lay in the harbor, and nobody was on board." for n in range(30)
        ),
    ],
    "Lines.",
)
right(
    "06-prompts",
    [
        "Tell me about the sea.",
        "Tell me about the sea. " + "It was a calm day and the wind was low. " * 40,
    ],
    "The second one begins like the first.",
)
wrong("06-prompts", ..., STUB)
wrong("06-prompts", ["the sea was calm. " * 100, "Hi!"], "The order: the second one is the longer.")
wrong("06-prompts", ["What is the sea?", "What is the sea?"], "Both are equally long.")
wrong(
    "06-prompts",
    ["What is the capital of Japan?", "What are the capitals of Japan and of Italy?"],
    "The second one is longer, but not five times.",
)
wrong(
    "06-prompts",
    ["What is the sea?", "Write a very long story about the sea, at least five times as long."],
    "A long answer is no long prompt: count the tokens that you send.",
)
wrong("06-prompts", "the sea was calm. " * 100, "A list of two prompts is needed.")
wrong("06-prompts", [10, 50], "Write the prompts themselves, not their lengths.")
wrong("06-prompts", ["Hi!"], "The second prompt is missing.")
wrong(
    "06-prompts",
    ["Hi!", "the sea was calm. " * 20, "the sea was calm. " * 100],
    "Two prompts, not three.",
)
wrong(
    "06-prompts",
    [
        [{"role": "user", "content": "Hi!"}],
        [{"role": "user", "content": "the sea was calm. " * 100}],
    ],
    "Prompts are texts here, not messages.",
)
wrong(
    "06-prompts",
    ["Describe the sea in a few words.", "Describe the sea in a few words. " * 2],
    "Twice as long is not five times.",
)
wrong("06-prompts", ["", ""], "Both are empty.")
wrong(
    "06-prompts",
    ["Hi!", "the sea was calm. " * 20_000],
    "This is longer than the context window of the pocket model (8,192 tokens).",
)
wrong("06-prompts", {"short": "Hi!", "long": "the sea was calm. " * 100}, "A list, not a dict.")

# ----------------------------------------------------------------------------- 07-flag
right("07-flag", '{"image": 4}', "As in the command.")
right("07-flag", '{"image":4}', "Without the blank.")
right("07-flag", json.dumps({"image": 4}, indent=2), "Made with json.dumps, with line breaks.")
right("07-flag", ' { "image" : 4 } ', "With more blanks: still the same JSON.")
right("07-flag", '{"image": 4, "video": 0}', "It also says that no video is allowed.")
wrong("07-flag", ..., STUB)
wrong("07-flag", "4", "Four of what? The value is JSON with the kind image.")
wrong("07-flag", 4, "Four of what? The value is a text of JSON with the kind image.")
wrong("07-flag", "image=4", "This is the old form; vLLM needs JSON now.")
wrong("07-flag", "{'image': 4}", "JSON has double quotes.")
wrong("07-flag", "{image: 4}", "In JSON the name has double quotes.")
wrong("07-flag", '{"images": 4}', "The kind is called image.")
wrong("07-flag", '{"image": "4"}', "The number has no quotes.")
wrong("07-flag", '["image", 4]', "The value is an object: a name and its number.")
wrong("07-flag", '{"image": 3}', "Three images are not enough.")
wrong("07-flag", '{"image": 4', "The closing brace is missing.")
wrong("07-flag", "--limit-mm-per-prompt", "This is the flag; its value is asked for.")
wrong("07-flag", '{"video": 4}', "These would be videos.")
wrong("07-flag", "four images", "Write the value as vLLM reads it: JSON.")


# -------------------------------------------------------------------- 07-conversations
def fit_plain(gpu_bytes, weight_bytes, bytes_per_token, tokens):
    free = 0.9 * gpu_bytes - weight_bytes
    return max(0, int(free // (bytes_per_token * tokens)))


def fit_if(gpu_bytes, weight_bytes, bytes_per_token, tokens):
    room = gpu_bytes * 90 / 100 - weight_bytes
    if room <= 0:
        return 0
    return math.floor(room / (bytes_per_token * tokens))


def fit_float(gpu_bytes, weight_bytes, bytes_per_token, tokens):
    return max(0.0, (gpu_bytes * 0.9 - weight_bytes) // bytes_per_token // tokens)


def fit_numpy(gpu_bytes, weight_bytes, bytes_per_token, tokens):
    share = (0.9 * gpu_bytes - weight_bytes) / bytes_per_token / tokens
    return np.int64(np.floor(np.clip(share, 0, None)))


def fit_loop(gpu_bytes, weight_bytes, bytes_per_token, tokens):
    """Puts one conversation after the other into the free memory."""
    one, used, count = bytes_per_token * tokens, weight_bytes, 0
    while used + one <= 0.9 * gpu_bytes and count < 1_000_000:
        used, count = used + one, count + 1
    return count


right("07-conversations", fit_plain, "The plain formula, never below 0.")
right("07-conversations", fit_if, "With an if.")
right("07-conversations", fit_float, "A float with a whole value.")
right("07-conversations", fit_numpy, "A NumPy number.")
right("07-conversations", fit_loop, "Counted one by one.")
wrong("07-conversations", ..., STUB)
wrong(
    "07-conversations",
    lambda g, w, b, t: max(0, int((g - w) // (b * t))),
    "vLLM takes only 90 % of the memory.",
)
wrong(
    "07-conversations",
    lambda g, w, b, t: max(0, int(0.9 * (g - w) // (b * t))),
    "The 90 % are of the whole memory; the weights are not reduced.",
)
wrong(
    "07-conversations",
    lambda g, w, b, t: int((0.9 * g - w) // (b * t)),
    "If the weights alone do not fit, the number is 0, not negative.",
)
wrong(
    "07-conversations",
    lambda g, w, b, t: max(0, round((0.9 * g - w) / (b * t))),
    "Whole conversations: round down, not to the nearest.",
)
wrong(
    "07-conversations",
    lambda g, w, b, t: max(0, math.ceil((0.9 * g - w) / (b * t))),
    "Whole conversations: the last one does not fit.",
)
wrong(
    "07-conversations",
    lambda g, w, b, t: max(0, (0.9 * g - w) / (b * t)),
    "Whole conversations are asked for: 18, not 18.3.",
)
wrong(
    "07-conversations",
    lambda g, w, b, t: max(0, int((0.9 * g - w) // b)),
    "These are tokens; divide by the tokens of a conversation.",
)
wrong(
    "07-conversations",
    lambda g, w, b, t: int(0.9 * g // (b * t)),
    "The weights take their part first.",
)
wrong(
    "07-conversations",
    lambda g, w, b, t: max(0, int((0.9 * g - w) * t // b)),
    "The tokens divide; they do not multiply.",
)
wrong(
    "07-conversations",
    lambda g, w, b, t: max(0, int((0.9 * g * 2**30 / 1e9 - w) // (b * t))),
    "The arguments are bytes already; nothing has to be converted.",
)
wrong("07-conversations", lambda g, w, b, t: 18, "This is the example's number for all inputs.")
wrong("07-conversations", lambda g, w, b, t: print(fit_plain(g, w, b, t)), PRINTS)
wrong(
    "07-conversations",
    lambda g, w, b, t: abs(int((0.9 * g - w) // (b * t))),
    "Where nothing fits, abs makes a positive number: 0 is right.",
)
wrong(
    "07-conversations",
    lambda g, w, b, t: max(1, int((0.9 * g - w) // (b * t))),
    "If no conversation fits, the number is 0.",
)
wrong("07-conversations", 18, CALLED)

# --------------------------------------------------------------------------- 07-prefix
LONG = "The sea was calm, and the boats lay in the harbor. Nobody was on board. " * 20
SHORT = "What is the capital of Japan?"


def user(text):
    return {"role": "user", "content": text}


def system(text):
    return {"role": "system", "content": text}


right(
    "07-prefix",
    [[user(LONG + "What was calm?")], [user(LONG + "Where were the boats?")]],
    "The same text first, another question after it.",
)
right(
    "07-prefix",
    [[system(LONG), user("What was calm?")], [system(LONG), user("Who was on board?")]],
    "The same system prompt.",
)
FIRST = [user(LONG + "What was calm?")]
right(
    "07-prefix",
    [
        FIRST,
        [*FIRST, {"role": "assistant", "content": "The sea."}, user("And where were the boats?")],
    ],
    "The second one continues the conversation.",
)
right(
    "07-prefix",
    [
        [
            system("Answer briefly."),
            *itertools.chain.from_iterable(
                (
                    user(f"What is {n} times {n}, and why is it not {n * n + 1}?"),
                    {"role": "assistant", "content": f"It is {n * n}."},
                )
                for n in range(2, 14)
            ),
            user(last),
        ]
        for last in ("What is 20 times 20?", "Name a prime number above fifty.")
    ],
    "The same examples before two questions.",
)
wrong("07-prefix", ..., STUB)
wrong(
    "07-prefix",
    [[user("What was calm? " + LONG)], [user("Where were the boats? " + LONG)]],
    "A prefix cache works from the beginning: put the common text first.",
)
wrong(
    "07-prefix", [[user(SHORT)], [user("How many legs has a cat?")]], "They have nothing in common."
)
wrong(
    "07-prefix",
    [[user(LONG + "What was calm?")], [user(LONG + "What was calm?")]],
    "They must ask different things.",
)
wrong(
    "07-prefix",
    [user(LONG + "What was calm?"), user(LONG + "Where were the boats?")],
    "Each request is a list of messages; these are two messages.",
)
wrong(
    "07-prefix",
    [LONG + "What was calm?", LONG + "Where were the boats?"],
    "Each request is a list of messages, not a text.",
)
wrong(
    "07-prefix",
    [
        [system("Request 1. " + LONG), user("What was calm?")],
        [system("Request 2. " + LONG), user("Where were the boats?")],
    ],
    "A number at the beginning makes everything after it new.",
)
wrong(
    "07-prefix",
    [[system(LONG), user("What was calm?")], [user("Where were the boats?")]],
    "The second request has no common beginning with the first.",
)
wrong(
    "07-prefix",
    [[system("Be brief."), user("a b c " * 60)], [system("Be brief."), user("1 2 3 " * 60)]],
    "Only the short system prompt is the same: most of the first prompt is not.",
)
wrong("07-prefix", [[user(LONG + "What was calm?")]], "The second request is missing.")
wrong(
    "07-prefix",
    [[user(LONG + "What was calm?")], [user(LONG + "Who?")], [user(LONG + "Where?")]],
    "Two requests, not three.",
)
wrong(
    "07-prefix",
    [[user("What was calm?"), system(LONG)], [user("Where were they?"), system(LONG)]],
    "The common text comes after the different questions.",
)
wrong(
    "07-prefix",
    [[system(LONG), user("What was calm?")], [user(LONG.upper()), user("Where were the boats?")]],
    "Capital letters are other tokens: the beginning must be the same letter by letter.",
)

# ----------------------------------------------------------------------------- 08-fair
right("08-fair", ["B", "C", "E", "G"], "A list of letters.")
right("08-fair", {"G", "E", "C", "B"}, "A set.")
right("08-fair", "BCEG", "A text.")
right("08-fair", "b, c, e, g", "Lower case with commas.")
right("08-fair", tuple("begc"), "A tuple in another order.")
wrong("08-fair", ..., STUB)
wrong("08-fair", ["A", "D", "F"], "These three are fair; the unfair ones are asked for.")
wrong("08-fair", ["B", "C", "E"], "G too: who sees the names may see what is expected.")
wrong("08-fair", ["B", "C", "G"], "E too: X is cut off before it can calculate.")
wrong("08-fair", ["B", "E", "G"], "C too: a base model was never trained to follow instructions.")
wrong(
    "08-fair",
    ["C", "E", "G"],
    "B too: a model without its template is not asked as it was trained.",
)
wrong("08-fair", ["B", "C", "E", "F", "G"], "F is fair: both have the same setting.")
wrong("08-fair", ["B", "C", "D", "E", "G"], "D is fair: both are scored by the same rule.")
wrong(
    "08-fair",
    ["A", "B", "C", "E", "G"],
    "A is fair: the same questions are what a comparison needs.",
)
wrong("08-fair", "ABCDEFG", "Not all of them are unfair.")
wrong("08-fair", "B", "There are more.")
wrong("08-fair", [], "Some of them are unfair.")
wrong("08-fair", "The templates differ", "Answer with letters; there are several.")
wrong("08-fair", 4, "Which four? Answer with letters.")


# ------------------------------------------------------------------------ 08-bootstrap
def boot_loop(differences, draws):
    generator = random.Random(1)
    means = []
    for _ in range(draws):
        again = [generator.choice(differences) for _ in differences]
        means.append(sum(again) / len(again))
    means.sort()
    return means[int(0.025 * draws)], means[int(0.975 * draws) - 1]


def boot_numpy(differences, draws):
    rng = np.random.default_rng()
    picked = rng.choice(np.asarray(differences, dtype=float), size=(draws, len(differences)))
    return tuple(np.percentile(picked.mean(axis=1), [2.5, 97.5]))


def boot_choices(differences, draws):
    means = [
        statistics.fmean(random.choices(differences, k=len(differences))) for _ in range(draws)
    ]
    return [float(end) for end in np.quantile(means, (0.025, 0.975))]


def boot_counts(differences, draws):
    """Draws how often each value comes up instead of the questions themselves."""
    values, counts = np.unique(differences, return_counts=True)
    n = len(differences)
    rng = np.random.default_rng(7)
    means = rng.multinomial(n, counts / n, size=draws) @ values / n
    return np.quantile(means, [0.025, 0.975])


def boot_torch(differences, draws):
    data = torch.tensor(differences, dtype=torch.float64)
    places = torch.randint(len(data), (draws, len(data)))
    means = data[places].mean(1)
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


right("08-bootstrap", boot_loop, "With loops and a sorted list.")
right("08-bootstrap", boot_numpy, "Vectorised.")
right("08-bootstrap", boot_choices, "random.choices draws with replacement; a list of two.")
right("08-bootstrap", boot_counts, "The same draws as counts; an array of two.")
if torch:
    right("08-bootstrap", boot_torch, "With PyTorch.")


def boot_means(differences, draws, size=None):
    rng = np.random.default_rng(3)
    size = len(differences) if size is None else size
    return rng.choice(np.asarray(differences, dtype=float), size=(draws, size)).mean(axis=1)


def boot_no_replacement(differences, draws):
    means = [
        statistics.fmean(random.sample(list(differences), len(differences))) for _ in range(draws)
    ]
    return tuple(np.percentile(means, [2.5, 97.5]))


def boot_exhausts(differences, draws):
    """Empties its input and then fails."""
    means = []
    for _ in range(draws):
        again = [differences.pop() for _ in range(len(differences))]
        means.append(sum(again) / len(again))
    return tuple(np.percentile(means, [2.5, 97.5]))


wrong("08-bootstrap", ..., STUB)
wrong(
    "08-bootstrap",
    boot_no_replacement,
    "Without replacement each draw is the same list in another order: the interval has no width.",
)
wrong(
    "08-bootstrap",
    boot_exhausts,
    "It takes the questions out of its input, so nothing is left to draw.",
)
wrong(
    "08-bootstrap",
    lambda d, n: tuple(np.percentile(boot_means(d, n), [5, 95])),
    "This is the 90 % interval: 2.5 % are left out on each side.",
)
wrong(
    "08-bootstrap",
    lambda d, n: tuple(np.percentile(boot_means(d, n), [0.025, 0.975])),
    "np.percentile counts in percent: 2.5 and 97.5.",
)
wrong(
    "08-bootstrap",
    lambda d, n: (boot_means(d, n).min(), boot_means(d, n).max()),
    "These are the smallest and the largest mean; the interval leaves out 2.5 % on each side.",
)
wrong(
    "08-bootstrap",
    lambda d, n: tuple(np.percentile(d, [2.5, 97.5])),
    "These are the ends of the differences themselves; draw again and take means.",
)
wrong(
    "08-bootstrap",
    lambda d, n: tuple(np.percentile(boot_means(d, n) * len(d), [2.5, 97.5])),
    "These are sums; the mean difference is asked for.",
)
wrong("08-bootstrap", lambda d, n: sum(d) / len(d), "This is the mean; its interval is asked for.")
wrong(
    "08-bootstrap",
    lambda d, n: tuple(np.percentile(boot_means(d, n), [97.5, 2.5])),
    "The lower end comes first.",
)
wrong(
    "08-bootstrap",
    lambda d, n: tuple(np.percentile(boot_means(d, len(d), n), [2.5, 97.5])),
    "Draw as many questions as there are, `draws` times; here it is the other way round.",
)
wrong(
    "08-bootstrap",
    lambda d, n: tuple(np.percentile(boot_means(d, n, 1), [2.5, 97.5])),
    "Each draw has only one question; it needs as many as there are.",
)
wrong(
    "08-bootstrap", lambda d, n: list(boot_means(d, n)), "These are all means; return the two ends."
)
wrong(
    "08-bootstrap",
    lambda d, n: float(np.std(boot_means(d, n))),
    "This is the standard error, not the interval.",
)
wrong(
    "08-bootstrap",
    lambda d, n: tuple(100 * np.percentile(boot_means(d, n), [2.5, 97.5])),
    "These are points of a hundred; a share is asked for.",
)
wrong("08-bootstrap", lambda d, n: (-0.25, 0.75), "This is the example's interval for all lists.")
wrong(
    "08-bootstrap",
    lambda d, n: tuple(np.percentile(np.abs(boot_means(d, n)), [2.5, 97.5])),
    "The sign is lost: it says which model is better.",
)
wrong("08-bootstrap", lambda d, n: print(boot_loop(d, n)), PRINTS)
wrong(
    "08-bootstrap",
    lambda d, n: tuple(np.percentile(boot_means([x for x in d if x], n), [2.5, 97.5])),
    "Questions without a difference count too; do not leave them out.",
)
wrong("08-bootstrap", (-0.25, 0.75), CALLED)

# --------------------------------------------------------------------------- 08-scorer


def scorer_loop(text):
    for line in text.splitlines():
        if line.strip():
            words = [word for word in line.split() if any(c.isalnum() for c in word)]
            return len(words) == 1
    return False


def scorer_strip(text):
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not lines:
        return False
    words = [re.sub(r"^[\W_]+|[\W_]+$", "", word) for word in lines[0].split()]
    return len(list(filter(None, words))) == 1


def scorer_re(text):
    first = next((line for line in text.splitlines() if line.strip()), "")
    return re.fullmatch(r"[\W_]*\w+(?:['’.-]\w+)*[\W_]*", first) is not None


def scorer_next(text):
    line = next(filter(str.strip, text.splitlines()), "")
    return sum(any(map(str.isalnum, word)) for word in line.split()) == 1


right("08-scorer", scorer_loop, "With a loop; a word has a letter or a digit.")
right("08-scorer", scorer_strip, "Punctuation is stripped from each word.")
right("08-scorer", scorer_re, "With a pattern that allows don't and well-known.")
right("08-scorer", scorer_next, "With next() and a default.")


def scorer_raises(text):
    return len(text.strip().splitlines()[0].split()) == 1


def scorer_first_line(text):
    lines = text.split("\n")
    return len(lines[0].split()) == 1


def scorer_whole(text):
    return len(text.split()) == 1


def scorer_alpha(text):
    return text.isalpha()


def scorer_empty_true(text):
    return len(text.split("\n")[0].split()) <= 1


def scorer_word_characters(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return bool(lines) and len(re.findall(r"\w+", lines[0])) == 1


def scorer_ascii(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return bool(lines) and re.fullmatch(r"\W*[A-Za-z]+\W*", lines[0], re.ASCII) is not None


def scorer_counts(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return len(lines[0].split()) if lines else 0


def scorer_last_line(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return bool(lines) and len(lines[-1].split()) == 1


def scorer_any_line(text):
    return any(len(line.split()) == 1 for line in text.splitlines())


def scorer_blank_count(text):
    return bool(text) and text.strip().split("\n")[0].strip().count(" ") == 1


def scorer_expected(text):
    return text.strip().strip(".") == "Paris"


def scorer_fault(text):
    return None if scorer_loop(text) else "not one word"


wrong("08-scorer", ..., STUB)
wrong("08-scorer", scorer_raises, "An empty answer has no first line: this raises an IndexError.")
wrong("08-scorer", scorer_first_line, "Empty lines at the beginning must be skipped.")
wrong("08-scorer", scorer_whole, "Only the first line counts; more lines may follow.")
wrong("08-scorer", scorer_alpha, 'Punctuation does not matter, but "Paris." is refused.')
wrong("08-scorer", scorer_empty_true, "An empty answer has no word, so it is not right.")
wrong("08-scorer", scorer_word_characters, "don't is one word; \\w+ finds two.")
wrong("08-scorer", scorer_ascii, "Zürich and 42 are words too.")
wrong("08-scorer", scorer_counts, "Return True or False, not the number of words.")
wrong("08-scorer", scorer_last_line, "The first line counts, not the last one.")
wrong("08-scorer", scorer_any_line, "Only the first line that is not empty counts.")
wrong("08-scorer", scorer_blank_count, "One blank means two words.")
wrong("08-scorer", scorer_expected, "Any word is right, not only Paris.")
wrong("08-scorer", scorer_fault, "Return True or False here, not the fault or None.")
wrong("08-scorer", lambda text: True, "It must also refuse answers.")
wrong("08-scorer", lambda text: print(scorer_loop(text)), PRINTS)
wrong("08-scorer", True, CALLED)
wrong(
    "08-scorer", lambda text: len(text) < 10, "The length in characters says nothing about words."
)

# ----------------------------------------------------------------------------- 08-seat
# bradley_terry(session, seat=True): left seat -0.583, interval -0.848 to -0.317
right("08-seat", -0.58, "Two digits, cut off.")
right("08-seat", -0.583, "Three digits.")
right("08-seat", -0.59, "−0.583 rounded up.")
right("08-seat", "-0.58", "A text.")
right("08-seat", "−0.58 log-odds", "With the real minus sign and the unit.")
right("08-seat", np.float64(-0.5825868220), "A NumPy number.")
right("08-seat", Fraction(-583, 1000), "A Fraction.")
if torch:
    right("08-seat", torch.tensor(-0.5826), "A tensor with one number.")
wrong("08-seat", ..., STUB)
wrong("08-seat", 0.58, "The sign: the left seat loses, so its gain is negative.")
wrong("08-seat", 0, "The interval from −0.85 to −0.32 does not contain 0.")
wrong("08-seat", -0.196, "This is the strength of an entrant; look at the row of the seat.")
wrong("08-seat", -0.848, "This is the lower end of the interval, not the estimate.")
wrong("08-seat", -0.317, "This is the upper end of the interval, not the estimate.")
wrong("08-seat", 0.36, "This is a share of wins; the log-odds are asked for.")
wrong("08-seat", 0.558, "These are the odds; take their logarithm.")
wrong("08-seat", -0.266, "This is half of the interval's width.")
wrong("08-seat", -58, "Log-odds are no percent: −0.58.")
wrong("08-seat", "the right seat", "Give the number for the left seat.")
wrong("08-seat", (-0.848, -0.317), "This is the interval; give the estimate.")
wrong("08-seat", -1.17, "Twice too large: the seat counts once for each vote.")
wrong("08-seat", 0.093, "This is the strength of base, few-shot.")


# --------------------------------------------------------------------------- 09-labels
def labels_loop(ids, turns):
    labels = [-100] * len(ids)
    for start, stop in turns:
        for place in range(start, stop):
            labels[place] = ids[place]
    return labels


def labels_slices(ids, turns):
    labels = [-100 for _ in ids]
    for start, stop in turns:
        labels[start:stop] = ids[start:stop]
    return labels


def labels_numpy(ids, turns):
    ids = np.asarray(ids)
    learned = np.zeros(len(ids), dtype=bool)
    for start, stop in turns:
        learned[start:stop] = True
    return np.where(learned, ids, -100).tolist()


def labels_set(ids, turns):
    places = {place for start, stop in turns for place in range(start, stop)}
    return tuple(i if place in places else -100 for place, i in enumerate(ids))


right("09-labels", labels_loop, "With loops.")
right("09-labels", labels_slices, "With slices.")
right("09-labels", labels_numpy, "With NumPy, as a list.")
right("09-labels", labels_set, "With a set of places; a tuple.")
right(
    "09-labels",
    lambda ids, turns: [
        i if any(start <= n < stop for start, stop in turns) else -100 for n, i in enumerate(ids)
    ],
    "A comprehension.",
)
right("09-labels", lambda ids, turns: np.array(labels_loop(ids, turns)), "An array of the labels.")


def labels_variant(ids, turns, *, before=0, after=0, fill=-100):
    labels = [fill] * len(ids)
    for start, stop in turns:
        for place in range(max(start + before, 0), min(stop + after, len(ids))):
            labels[place] = ids[place]
    return labels


def labels_mutates(ids, turns):
    keep = {place for start, stop in turns for place in range(start, stop)}
    for place in range(len(ids)):
        if place not in keep:
            ids[place] = -100
    return ids


def labels_by_value(ids, turns):
    learned = {i for start, stop in turns for i in ids[start:stop]}
    return [i if i in learned else -100 for i in ids]


def labels_hidden_turn(ids, turns):
    (start, stop), *_ = turns or [(0, 0)]
    return [i if start <= n < stop else -100 for n, i in enumerate(ids)]


def labels_last_turn(ids, turns):
    labels = []
    for start, stop in turns:
        labels = [i if start <= n < stop else -100 for n, i in enumerate(ids)]
    return labels


def labels_span(ids, turns):
    start, stop = min(t[0] for t in turns), max(t[1] for t in turns)
    return [i if start <= n < stop else -100 for n, i in enumerate(ids)]


wrong("09-labels", ..., STUB)
wrong(
    "09-labels",
    lambda ids, turns: labels_variant(ids, turns, after=1),
    "stop is not included: this learns one token too many.",
)
wrong(
    "09-labels",
    lambda ids, turns: labels_variant(ids, turns, after=-1),
    "The </s> belongs to the turn; without it the model never learns to stop.",
)
wrong(
    "09-labels",
    lambda ids, turns: labels_variant(ids, turns, before=1),
    "The first token of the answer is learned too.",
)
wrong(
    "09-labels",
    lambda ids, turns: labels_variant(ids, turns, fill=0),
    "The mark is -100; 0 is the id of a token.",
)
wrong(
    "09-labels",
    lambda ids, turns: [
        -100 if any(a <= n < b for a, b in turns) else i for n, i in enumerate(ids)
    ],
    "It is turned around: the assistant's tokens are the learned ones.",
)
wrong("09-labels", labels_mutates, "It writes over the ids, which are needed as the input.")
wrong(
    "09-labels", labels_by_value, "The same token can be in the question too: decide by the place."
)
wrong("09-labels", labels_hidden_turn, "Only the first turn is learned; there can be several.")
wrong("09-labels", labels_last_turn, "Only the last turn is learned; there can be several.")
wrong("09-labels", labels_span, "Between two answers is a question, which is not learned.")
wrong(
    "09-labels",
    lambda ids, turns: [i for a, b in turns for i in ids[a:b]],
    "These are the learned ids alone; each token needs a label.",
)
wrong("09-labels", lambda ids, turns: list(ids), "The whole prompt is learned.")
wrong("09-labels", lambda ids, turns: [-100] * len(ids), "Nothing is learned.")
wrong(
    "09-labels",
    lambda ids, turns: [*labels_loop(ids, turns)[1:], -100],
    "Each token's label is its own id; the model shifts them by one.",
)
wrong("09-labels", lambda ids, turns: print(labels_loop(ids, turns)), PRINTS)
wrong("09-labels", [-100, -100, -100, 7, 2], CALLED)

# ----------------------------------------------------------------------------- 09-rank
right("09-rank", 303104, "8 × (5,120 + 32,768).")
right("09-rank", "303,104", "A text with a separator.")
right("09-rank", 8 * 5120 + 8 * 32768, "Two matrices added.")
right("09-rank", 303104.0, "A float with a whole value.")
right("09-rank", np.int64(303104), "A NumPy number.")
right("09-rank", "303104 parameters", "With the unit.")
right(
    "09-rank",
    np.zeros((8, 5120), dtype=np.int8).size + np.zeros((32768, 8), dtype=np.int8).size,
    "Counted from the shapes.",
)
if torch:
    right("09-rank", torch.tensor(303104), "A tensor with one number.")
wrong("09-rank", ..., STUB)
wrong("09-rank", 5120 * 32768, "This is the layer itself, which is frozen.")
wrong(
    "09-rank",
    8 * 5120 * 32768,
    "Two thin matrices: 8 × 5,120 and 32,768 × 8, added and not multiplied.",
)
wrong("09-rank", 8 * 5120, "B is missing: 32,768 × 8.")
wrong("09-rank", 8 * 32768, "A is missing: 8 × 5,120.")
wrong("09-rank", 16 * (5120 + 32768), "The rank is 8 here, not 16.")
wrong("09-rank", 5120 + 32768, "Each side counts r times: multiply by 8.")
wrong("09-rank", 5120 + 32768 + 8, "Multiply by the rank; it is not added.")
wrong("09-rank", 40 * 303104, "One layer is asked for, not forty.")
wrong("09-rank", 4 * 303104, "These are bytes in float32; parameters are asked for.")
wrong("09-rank", 8 * 8, "A and B are not 8 × 8: each has one side of the layer.")
wrong("09-rank", 3 * 303104, "One layer, not the three of the feed-forward part.")
wrong("09-rank", "a few thousand", "Compute the number.")
wrong("09-rank", 303, "Thousands are missing: 303,104.")

# --------------------------------------------------------------------------- 09-memory
right("09-memory", 1.472, "92 million × 4 bytes × 4.")
right("09-memory", 1.47, "Rounded.")
right("09-memory", "1.472 GB", "With the unit.")
right("09-memory", 92e6 * 4 * (1 + 1 + 2) / 1e9, "Computed.")
right("09-memory", Fraction(184, 125), "A Fraction.")
right("09-memory", np.float32(1.472), "A NumPy number.")
right("09-memory", Decimal("1.472"), "A Decimal.")
if torch:
    right("09-memory", torch.tensor(1.472, dtype=torch.float64), "A tensor with one number.")
wrong("09-memory", ..., STUB)
wrong("09-memory", 0.368, "This is the adapter alone; gradients and AdamW's state are missing.")
wrong("09-memory", 0.736, "AdamW's two numbers for each parameter are missing.")
wrong("09-memory", 1.104, "AdamW keeps two numbers for each parameter, not one.")
wrong("09-memory", 92e6 * 16 / 2**30, "This is in GiB; GB has 10⁹ bytes.")
wrong("09-memory", 1472, "This is in MB.")
wrong("09-memory", 1_472_000_000, "These are bytes; divide by 10⁹.")
wrong("09-memory", 0.092, "These are the parameters in billions; each needs 16 bytes.")
wrong("09-memory", 2.944, "float32 has four bytes, not eight.")
wrong("09-memory", 11.776, "These are gigabits: float32 has 32 bits, but four bytes.")
wrong(
    "09-memory",
    5.888,
    "16 bytes for each parameter already has all four numbers; they were counted twice.",
)
wrong("09-memory", 384, "This is full fine-tuning of the 24B.")
wrong("09-memory", "about four times the adapter", "Give the number of GB.")
wrong("09-memory", 0.69, "This is the table's optimizer alone.")

# ------------------------------------------------------------------------- 09-evidence
right("09-evidence", ["B", "D", "F"], "A list of letters.")
right("09-evidence", {"F", "D", "B"}, "A set.")
right("09-evidence", "BDF", "A text.")
right("09-evidence", "b, d, f", "Lower case with commas.")
right("09-evidence", ("D", "F", "B"), "A tuple in another order.")
wrong("09-evidence", ..., STUB)
wrong("09-evidence", ["B"], "A control without a gain and a second seed are good evidence too.")
wrong("09-evidence", ["B", "F"], "D too: a second seed says that it was no luck.")
wrong(
    "09-evidence",
    ["B", "D"],
    "F too: the control shows that the content was learned, not the form.",
)
wrong("09-evidence", ["D", "F"], "B is the main result.")
wrong("09-evidence", ["A", "B", "D", "F"], "A falling training loss can be learning by heart.")
wrong(
    "09-evidence", ["B", "C", "D"], "C is bad news: the gain comes from the form, and F is missing."
)
wrong(
    "09-evidence",
    ["B", "C", "D", "F"],
    "C contradicts: if the control gains as much, only the form was learned.",
)
wrong("09-evidence", ["B", "D", "E", "F"], "E looks at training messages, which it has seen.")
wrong("09-evidence", ["A", "C", "E"], "These three are the ones that are no evidence.")
wrong("09-evidence", "ABCDEF", "Not all of them are.")
wrong("09-evidence", ["A"], "A low training loss is no evidence for new messages.")
wrong("09-evidence", "the loss is low", "Answer with letters, and the loss is no evidence.")
wrong("09-evidence", [], "Some of them are.")

# --------------------------------------------------------------------------- 10-memory
right("10-memory", 5600, "1,100 of questions and 4,500 of answers.")
right("10-memory", "5,600", "A text with a separator.")
right("10-memory", sum(20 * n + 100 * (n - 1) for n in range(1, 11)), "Added up.")
right("10-memory", 5600.0, "A float.")
right("10-memory", "5600 tokens", "With the unit.")
right("10-memory", np.cumsum([20] + [120] * 9).sum(), "With NumPy.")
right("10-memory", Fraction(5600), "A Fraction.")
if torch:
    right("10-memory", torch.tensor(5600), "A tensor with one number.")
wrong("10-memory", ..., STUB)
wrong("10-memory", 200, "Each request sends the earlier questions and answers again.")
wrong("10-memory", 1200, "Each request sends the whole conversation, not only the new turn.")
wrong("10-memory", 6600, "The answer of a request is not in its own prompt.")
wrong("10-memory", 1100, "This is the last request alone; all ten are asked for.")
wrong("10-memory", 12000, "The conversation grows: only the last request has nearly all of it.")
wrong("10-memory", 5400, "The ten new questions themselves are missing: 200 tokens.")
wrong("10-memory", 4500, "These are the answers alone, or nine requests only.")
wrong("10-memory", 5500, "These are the answers, including the last one, which is never sent.")
wrong("10-memory", 6000, "The average prompt has 560 tokens, not half of the whole conversation.")
wrong("10-memory", 1000, "These are the tokens that the model writes.")
wrong("10-memory", 56, "A factor of a hundred is missing.")
wrong("10-memory", 560, "A factor of ten is missing.")
wrong("10-memory", "it grows with the square of the turns", "True; now give the number.")


# ----------------------------------------------------------------------------- 10-edit
def edit_loop(messages, number, text):
    seen, new = 0, []
    for message in messages:
        if message["role"] == "user":
            seen += 1
            if seen == number:
                return [*new, {"role": "user", "content": text}]
        new.append(message)
    raise IndexError(f"there is no question {number}")


def edit_places(messages, number, text):
    places = [n for n, message in enumerate(messages) if message["role"] == "user"]
    return messages[: places[number - 1]] + [{"role": "user", "content": text}]


def edit_copy(messages, number, text):
    new = copy.deepcopy(messages)
    place = [n for n, m in enumerate(new) if m["role"] == "user"][number - 1]
    new[place]["content"] = text
    del new[place + 1 :]
    return new


def edit_takewhile(messages, number, text):
    counted = itertools.accumulate(message["role"] == "user" for message in messages)
    pairs = itertools.takewhile(lambda pair: pair[1] < number, zip(messages, counted))
    return [message for message, _ in pairs] + [dict(role="user", content=text)]


right("10-edit", edit_loop, "With a loop.")
right("10-edit", edit_places, "With the places of the questions.")
right("10-edit", edit_copy, "A deep copy that is then changed.")
right("10-edit", edit_takewhile, "With itertools.")


def edit_positions(messages, number, text):
    return messages[: 2 * (number - 1)] + [{"role": "user", "content": text}]


def edit_position(messages, number, text):
    return messages[: number - 1] + [{"role": "user", "content": text}]


def edit_from_zero(messages, number, text):
    places = [n for n, m in enumerate(messages) if m["role"] == "user"]
    if number >= len(places):
        return [*messages, {"role": "user", "content": text}]
    return messages[: places[number]] + [{"role": "user", "content": text}]


def edit_keeps(messages, number, text):
    place = [n for n, m in enumerate(messages) if m["role"] == "user"][number - 1]
    return [*messages[:place], {"role": "user", "content": text}, *messages[place + 1 :]]


def edit_shallow(messages, number, text):
    new = list(messages)
    place = [n for n, m in enumerate(new) if m["role"] == "user"][number - 1]
    new[place]["content"] = text
    return new[: place + 1]


def edit_in_place(messages, number, text):
    place = [n for n, m in enumerate(messages) if m["role"] == "user"][number - 1]
    del messages[place:]
    messages.append({"role": "user", "content": text})
    return messages


def edit_only_before(messages, number, text):
    place = [n for n, m in enumerate(messages) if m["role"] == "user"][number - 1]
    return messages[:place]


def edit_both(messages, number, text):
    place = [n for n, m in enumerate(messages) if m["role"] == "user"][number - 1]
    return [*messages[: place + 1], {"role": "user", "content": text}]


def edit_no_system(messages, number, text):
    return edit_places([m for m in messages if m["role"] != "system"], number, text)


def edit_no_tools(messages, number, text):
    return edit_places(
        [
            m
            for m in messages
            if m["role"] in ("system", "user", "assistant") and not m.get("tool_calls")
        ],
        number,
        text,
    )


def edit_alone(messages, number, text):
    return [{"role": "user", "content": text}]


def edit_text(messages, number, text):
    place = [n for n, m in enumerate(messages) if m["role"] == "user"][number - 1]
    return [*messages[:place], text]


def edit_none(messages, number, text):
    place = [n for n, m in enumerate(messages) if m["role"] == "user"][number - 1]
    return messages[:place].append({"role": "user", "content": text})


wrong("10-edit", ..., STUB)
wrong(
    "10-edit",
    edit_positions,
    "A system prompt or a tool call moves the places: count the user messages.",
)
wrong("10-edit", edit_position, "This counts messages, not questions.")
wrong("10-edit", edit_from_zero, "The questions are counted from 1.")
wrong(
    "10-edit", edit_keeps, "What followed the question must be gone: it answered the old question."
)
wrong("10-edit", edit_shallow, "The list is new, but the message in it is the old one and changes.")
wrong("10-edit", edit_in_place, "The list that was given changes.")
wrong("10-edit", edit_only_before, "The new question is missing.")
wrong("10-edit", edit_both, "The old question is still there.")
wrong("10-edit", edit_no_system, "What was before the question stays, the system prompt too.")
wrong("10-edit", edit_no_tools, "What was before the question stays, tool calls and results too.")
wrong("10-edit", edit_alone, "The turns before the question must stay.")
wrong("10-edit", edit_text, "The question is a message with a role, not only a text.")
wrong("10-edit", edit_none, "append returns None.")
wrong("10-edit", lambda messages, number, text: print(edit_loop(messages, number, text)), PRINTS)
wrong(
    "10-edit",
    lambda messages, number, text: [*messages, {"role": "user", "content": text}],
    "The new question is appended at the end; it replaces question `number`.",
)


# ------------------------------------------------------------------------ 10-assistant
def assistant_plain(ask, question, tools, image):
    content = question
    if image is not None:
        content = [
            {"type": "text", "text": question},
            {"type": "image_url", "image_url": {"url": image}},
        ]
    messages = [{"role": "user", "content": content}]
    schemas = [schema for schema, _ in tools]
    functions = {schema["function"]["name"]: function for schema, function in tools}
    for _ in range(5):
        reply = ask(messages, schemas)
        calls = reply.get("tool_calls") or []
        if not calls:
            return reply["content"]
        messages.append(reply)
        messages += [run_call(call, functions) for call in calls]
    return None


def assistant_with_loop(ask, question, tools, image):
    """Notebook 05's loop with a function that adds the schemas."""
    parts_ = [{"type": "text", "text": question}]
    if image:
        parts_.insert(0, {"type": "image_url", "image_url": {"url": image}})
    schemas = [pair[0] for pair in tools]
    functions = {pair[0]["function"]["name"]: pair[1] for pair in tools}
    start = [{"role": "user", "content": parts_}]
    return loop_plain(lambda messages: ask(messages, schemas), start, functions)


class Assistant:
    def __init__(self, rounds=5):
        self.rounds = rounds

    def answer(self, ask, question, tools, image):
        text = dict(type="text", text=question)
        picture = [dict(type="image_url", image_url=dict(url=image))] if image is not None else []
        history = ({"role": "user", "content": [text, *picture]},)
        for _ in range(self.rounds):
            reply = ask(list(history), [schema for schema, _f in tools])
            if not reply.get("tool_calls"):
                return reply.get("content")
            history += (reply,)
            for call in reply["tool_calls"]:
                history += (self.result(call, tools),)
        return "no answer after five requests"

    @staticmethod
    def result(call, tools):
        name = call["function"]["name"]
        for schema, function in tools:
            if schema["function"]["name"] == name:
                try:
                    content = str(function(**json.loads(call["function"]["arguments"])))
                except Exception as error:
                    content = json.dumps({"error": f"{type(error).__name__}: {error}"})
                break
        else:
            content = json.dumps({"error": f"there is no tool {name}"})
        return {"role": "tool", "tool_call_id": call["id"], "content": content}


def assistant_recursive(ask, question, tools, image):
    schemas, functions = [], {}
    for schema, function in tools:
        schemas.append(schema)
        functions[schema["function"]["name"]] = function
    content = [{"type": "text", "text": question}]
    if image is not None:
        content.append({"type": "image_url", "image_url": {"url": image}})

    def step(messages, left):
        if not left:
            return None
        reply = ask(messages, schemas)
        if not reply.get("tool_calls"):
            return reply["content"]
        results = [run_call(call, functions) for call in reply["tool_calls"]]
        return step([*messages, reply, *results], left - 1)

    return step([{"role": "user", "content": content}], 5)


right("10-assistant", assistant_plain, "A loop.")
right("10-assistant", assistant_with_loop, "Notebook 05's loop; the image first.")
right("10-assistant", Assistant().answer, "A method.")
right("10-assistant", assistant_recursive, "Recursive.")


def assistant_variant(
    ask,
    question,
    tools,
    image,
    *,
    limit=5,
    run=run_call,
    picture=True,
    by_name=False,
    sent=None,
    once=False,
    result=True,
    assistant=True,
):
    content = [{"type": "text", "text": question}]
    if image is not None and picture:
        content.append({"type": "image_url", "image_url": {"url": image}})
    messages = [{"role": "user", "content": content}]
    schemas = [schema for schema, _ in tools] if sent is None else sent(tools)
    functions = {
        function.__name__ if by_name else schema["function"]["name"]: function
        for schema, function in tools
    }
    for number in range(limit):
        reply = ask(messages, [] if once and number else schemas)
        calls = reply.get("tool_calls") or []
        if not calls:
            return reply["content"]
        if assistant:
            messages.append(reply)
        if result:
            messages += [run(call, functions) for call in calls]
    return None


def assistant_url_in_text(ask, question, tools, image):
    return assistant_variant(ask, f"{question} {image or ''}".strip(), tools, None)


def assistant_image_always(ask, question, tools, image):
    messages = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": question},
                {"type": "image_url", "image_url": {"url": image}},
            ],
        }
    ]
    functions = {schema["function"]["name"]: function for schema, function in tools}
    return loop_plain(lambda m: ask(m, [schema for schema, _ in tools]), messages, functions)


def assistant_own_answer(ask, question, tools, image):
    reply = ask([{"role": "user", "content": question}], [schema for schema, _ in tools])
    for call in reply.get("tool_calls") or []:
        return run_call(call, {s["function"]["name"]: f for s, f in tools})["content"]
    return reply.get("content")


def assistant_forgets(ask, question, tools, image):
    """Sends only the results, without the question."""
    functions = {schema["function"]["name"]: function for schema, function in tools}
    schemas = [schema for schema, _ in tools]
    content = [{"type": "text", "text": question}]
    if image is not None:
        content.append({"type": "image_url", "image_url": {"url": image}})
    messages = [{"role": "user", "content": content}]
    for _ in range(5):
        reply = ask(messages, schemas)
        if not reply.get("tool_calls"):
            return reply["content"]
        messages = [reply, *(run_call(call, functions) for call in reply["tool_calls"])]


def assistant_dict(ask, question, tools, image):
    answers = []
    assistant_plain(lambda m, t: answers.append(ask(m, t)) or answers[-1], question, tools, image)
    return answers[-1]


def assistant_needs_tools(ask, question, tools, image):
    schemas, functions = zip(*tools)
    return assistant_plain(ask, question, list(zip(schemas, functions)), image)


def assistant_calls_function_names(ask, question, tools, image):
    return assistant_variant(ask, question, tools, image, by_name=True)


def assistant_no_image_message(ask, question, tools, image):
    """The image is a message of its own after the question, with another role."""
    messages = [{"role": "user", "content": question}]
    if image is not None:
        messages.append({"role": "assistant", "content": image})
    functions = {schema["function"]["name"]: function for schema, function in tools}
    return loop_plain(lambda m: ask(m, [schema for schema, _ in tools]), messages, functions)


wrong("10-assistant", ..., STUB)
wrong(
    "10-assistant",
    functools.partial(assistant_variant, picture=False),
    "The image is not sent, so the model can only guess.",
)
wrong(
    "10-assistant",
    assistant_url_in_text,
    "The data URL is only text here; it must be an image part.",
)
wrong(
    "10-assistant",
    assistant_image_always,
    "Without an image there must be no image part with None.",
)
wrong(
    "10-assistant",
    assistant_no_image_message,
    "The image belongs into the user's message, as a part of its content.",
)
wrong(
    "10-assistant",
    assistant_calls_function_names,
    "The model knows the name in the schema, which can differ from the function's own name.",
)
wrong(
    "10-assistant",
    functools.partial(assistant_variant, sent=lambda tools: tools),
    "ask takes schemas; these are pairs.",
)
wrong(
    "10-assistant",
    functools.partial(assistant_variant, sent=lambda tools: []),
    "The tools are not offered, so the model cannot call them.",
)
wrong(
    "10-assistant",
    functools.partial(
        assistant_variant, sent=lambda tools: [schema["function"]["name"] for schema, _ in tools]
    ),
    "Names alone do not describe a tool: send the schemas.",
)
wrong(
    "10-assistant",
    functools.partial(assistant_variant, once=True),
    "The tools are offered in the first request only; a model can call again.",
)
wrong(
    "10-assistant",
    functools.partial(assistant_variant, run=run_unsafe),
    "A tool that fails stops the assistant; the model should read the error.",
)
wrong(
    "10-assistant",
    functools.partial(assistant_variant, run=run_silent),
    "The error is hidden from the model.",
)
wrong(
    "10-assistant",
    functools.partial(assistant_variant, run=run_no_id),
    "The results have no tool_call_id.",
)
wrong(
    "10-assistant",
    functools.partial(assistant_variant, result=False),
    "The results are never sent.",
)
wrong(
    "10-assistant",
    functools.partial(assistant_variant, assistant=False),
    "The model's message with the calls is missing before the results.",
)
wrong(
    "10-assistant", functools.partial(assistant_variant, limit=50), "After 5 requests it must end."
)
wrong("10-assistant", functools.partial(assistant_variant, limit=6), "Six requests: one too many.")
wrong(
    "10-assistant",
    functools.partial(assistant_variant, limit=1),
    "It ends after the first request, so the model never sees a result.",
)
wrong("10-assistant", assistant_own_answer, "The model writes the answer; send it the result.")
wrong("10-assistant", assistant_forgets, "The question must be sent again with the results.")
wrong("10-assistant", assistant_dict, "Return the text, not the message.")
wrong("10-assistant", assistant_needs_tools, "Without tools this raises: the list can be empty.")
wrong("10-assistant", loop_plain, "This is the loop of notebook 05; it takes other arguments.")
wrong(
    "10-assistant",
    lambda ask, question, tools, image: print(assistant_plain(ask, question, tools, image)),
    PRINTS,
)
wrong(
    "10-assistant",
    lambda ask, question, tools, image: "The square is red.",
    "This is one answer for all questions.",
)
