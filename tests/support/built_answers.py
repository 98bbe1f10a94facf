"""Answers to the exercises that ask for a function or a request, and what a fair teacher says.

Each case is an exercise's name, an answer, and None if it is right, else words that the hint must
have. Answers come in many types, and with many faults: they print, write files, loop without an
end, forget `return`, yield, stop with an error, or change what they are given.
"""

import functools
import json
import math
import tempfile
from collections import OrderedDict
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pydantic
import torch

CASES = []


# What no exercise takes


def endless(*_):
    while True:
        pass


def endless_list(*_):
    found = []
    while True:
        found.append([0] * 1_000_000)


def recursive(*arguments):
    return recursive(*arguments)


def prints_without_end(*_):
    while True:
        print("a long line of text " * 100)


WRITTEN = Path(tempfile.gettempdir()) / "an-answer-wrote-this"


def writes(*_):
    with open(WRITTEN, "w") as file:
        file.write("x")
    return 1


def connects(*_):
    import socket

    return socket.create_connection(("127.0.0.1", 9), timeout=1)


def starts_a_program(*_):
    import subprocess

    return subprocess.run(["true"])


def leaves(*_):
    import os

    os._exit(0)


def exits(*_):
    raise SystemExit(0)


def raises(*_):
    raise ZeroDivisionError("mine")


def stub(*_):
    raise NotImplementedError


async def asynchronous(*_):
    return 1


# (answer, words of the hint), for every build exercise
FAULTS = [
    (lambda *_: None, "Is a `return` missing?"),
    (stub, "still a stub"),
    (raises, "stopped with an error in line 2"),
    (recursive, "calls itself without an end"),
    (exits, "stopped with an error"),
    (asynchronous, "`async`"),
    (lambda: 1, "possible to call it like this"),
    (3.5, "should be a function, not a number"),
    (None, "should be a function, not None"),
    ("answer", "should be a function, not a string"),
    (np.float64(2), "should be a function"),
]
# The same, but they take seconds: for one exercise.
SLOW_FAULTS = [
    (endless, "did not end in time"),
    (endless_list, "too much memory"),
    (prints_without_end, "prints without an end"),
    (writes, "writes a file"),
    (connects, "opens a connection"),
    (starts_a_program, "starts a program"),
    (leaves, "ended the program"),
]

# 00-history


def history(messages, reply, question):
    new = list(messages)
    new.append({"role": "assistant", "content": reply})
    new.append({"role": "user", "content": question})
    return new


def history_in_place(messages, reply, question):
    messages.append({"role": "assistant", "content": reply})
    messages.append({"role": "user", "content": question})
    return messages


def said(role, text):
    return {"role": role, "content": text}


CASES += [
    ("00-history", history, None),
    ("00-history", lambda m, r, q: (*m, said("assistant", r), said("user", q)), None),
    ("00-history", lambda m, r, q: [*m, dict(role="assistant", content=r), said("user", q)], None),
    ("00-history", functools.partial(history), None),
    ("00-history", history_in_place, "It changes the list"),
    ("00-history", lambda m, r, q: [*m, said("user", q)], "put it before"),
    ("00-history", lambda m, r, q: [said("user", q)], "put it before"),
    ("00-history", lambda m, r, q: [*m, said("user", r), said("user", q)], '"assistant"'),
    ("00-history", lambda m, r, q: [*m, said("assistant", r), said("assistant", q)], '"user"'),
    ("00-history", lambda m, r, q: [m[-1], said("assistant", r), said("user", q)], "missing"),
    ("00-history", lambda m, r, q: [*m, said("user", q), said("assistant", r)], "last message"),
    ("00-history", lambda m, r, q: q, "list of dicts"),
]

# 01-kv


def kv(layers, heads, size, tokens, users):
    return 2 * layers * heads * size * 2 * tokens * users


def kv_talks(layers, heads, size, tokens, users):
    print("one token:", 2 * layers * heads * size * 2)
    return kv(layers, heads, size, tokens, users)


CASES += [
    ("01-kv", kv, None),
    ("01-kv", lambda *shape: 4 * math.prod(shape), None),
    ("01-kv", lambda *shape: np.int64(4) * np.prod(shape), None),
    ("01-kv", lambda *shape: Fraction(4 * math.prod(shape)), None),
    ("01-kv", lambda *shape: Decimal(4 * math.prod(shape)), None),
    ("01-kv", lambda *shape: torch.tensor(4 * math.prod(shape)), None),
    ("01-kv", lambda *shape: [4 * math.prod(shape)], None),
    ("01-kv", lambda *shape: f"{4 * math.prod(shape)} bytes", None),
    ("01-kv", kv_talks, None),
    ("01-kv", lambda *shape: 2 * math.prod(shape), "That is half"),
    ("01-kv", lambda *shape: math.prod(shape), "two factors of 2"),
    ("01-kv", lambda *shape: 8 * math.prod(shape), "at 16 bits a number takes 2 bytes"),
    ("01-kv", lambda *shape: 32 * math.prod(shape), "in bits"),
    ("01-kv", lambda *shape: 4 * math.prod(shape) / 1024**3, "in GiB"),
    ("01-kv", lambda *shape: 4 * math.prod(shape) / 1e9, "in GB"),
    ("01-kv", lambda *shape: 4 * math.prod(shape) / 1024, "in KiB"),
    ("01-kv", lambda a, b, c, tokens, users: 4 * a * b * c * tokens, "Each user has a cache"),
    ("01-kv", lambda a, b, c, tokens, users: 4 * a * b * c * users, "That is one token"),
    ("01-kv", lambda *_: 163840, "That is one token"),
    ("01-kv", lambda *_: 20, "should be 163,840"),
]

# 01-gqa


def gqa(q, k, v, causal=True, scale=True, share=lambda head, group, kv: head // group, axis=-1):
    group = len(q) // len(k)
    tokens, size = q.shape[1:]
    out = []
    for head in range(len(q)):
        shared = share(head, group, len(k))
        scores = q[head] @ k[shared].T / (size**0.5 if scale else 1)
        if causal:
            scores = np.where(np.tri(tokens, dtype=bool), scores, -1e30)
        weights = np.exp(scores - scores.max(axis, keepdims=True))
        out.append(weights / weights.sum(axis, keepdims=True) @ v[shared])
    return np.array(out)


def gqa_torch(q, k, v):
    q, k, v = map(torch.tensor, (q, k, v))
    attend = torch.nn.functional.scaled_dot_product_attention
    return attend(q[None], k[None], v[None], is_causal=True, enable_gqa=True)[0]


def gqa_loops(q, k, v):
    heads, tokens, size = q.shape
    result = [[[0.0] * size for _ in range(tokens)] for _ in range(heads)]
    for h in range(heads):
        g = h // (heads // len(k))
        for t in range(tokens):
            e = [math.exp(sum(q[h][t] * k[g][s]) / math.sqrt(size)) for s in range(t + 1)]
            for s in range(t + 1):
                for i in range(size):
                    result[h][t][i] += e[s] / sum(e) * v[g][s][i]
    return result


CASES += [
    ("01-gqa", gqa, None),
    ("01-gqa", gqa_torch, None),
    ("01-gqa", gqa_loops, None),
    ("01-gqa", lambda q, k, v: gqa(q, k, v, causal=False), "future is not masked"),
    ("01-gqa", lambda q, k, v: gqa(q, k, v, scale=False), "square root"),
    ("01-gqa", lambda q, k, v: gqa(q, k, v, False, False), "the mask and the scale"),
    ("01-gqa", lambda q, k, v: gqa(q, k, v, share=lambda h, _, kv: h % kv), "head // group"),
    ("01-gqa", lambda q, k, v: gqa(q, k, v, axis=0), "over the keys"),
    ("01-gqa", lambda q, k, v: gqa(q, k, v)[0], "array of shape"),
    ("01-gqa", lambda q, k, v: q, "over the keys"),
    ("01-gqa", lambda q, k, v: "done", "array of numbers"),
]

# 02-nf4


def nf4(weights, values):
    scale = max(map(abs, weights))
    shares = [w / scale if scale else 0 for w in weights]
    return scale, [min(range(16), key=lambda n: abs(values[n] - s)) for s in shares]


def nf4_numpy(weights, values):
    weights, values = np.array(weights), np.array(values)
    scale = np.abs(weights).max()
    shares = weights / scale if scale else weights
    return scale, np.abs(shares[:, None] - values).argmin(axis=1)


def nf4_as_dict(weights, values):
    scale, numbers = nf4(weights, values)
    return {"scale": scale, "numbers": tuple(numbers)}


def nf4_below(weights, values):
    scale = max(map(abs, weights))
    shares = [w / scale if scale else 0 for w in weights]
    return scale, [max(n for n in range(16) if values[n] <= s) for s in shares]


def nf4_values(weights, values):
    scale, numbers = nf4(weights, values)
    return scale, [values[n] for n in numbers]


def nf4_zero_division(weights, values):
    scale = max(map(abs, weights))
    return scale, [min(range(16), key=lambda n: abs(values[n] - w / scale)) for w in weights]


def nf4_unscaled(weights, values):
    scale = max(map(abs, weights))
    return scale, [min(range(16), key=lambda n: abs(values[n] - w)) for w in weights]


CASES += [
    ("02-nf4", nf4, None),
    ("02-nf4", nf4_numpy, None),
    ("02-nf4", nf4_as_dict, None),
    ("02-nf4", lambda w, v: list(nf4(w, v)), None),
    ("02-nf4", nf4_below, "next value below"),
    ("02-nf4", nf4_values, "and not the value"),
    ("02-nf4", nf4_zero_division, "nothing can be divided by it"),
    ("02-nf4", nf4_unscaled, "Divide each weight by the scale"),
    ("02-nf4", lambda w, v: (max(w), nf4(w, v)[1]), "absolute values first"),
    ("02-nf4", lambda w, v: (min(w, key=lambda x: -abs(x)), nf4(w, v)[1]), "scale is positive"),
    ("02-nf4", lambda w, v: (max(map(abs, w)), [n + 1 for n in nf4(w, v)[1]]), "Count from 0"),
    ("02-nf4", lambda w, v: nf4(w, v)[1], "two things"),
    ("02-nf4", lambda w, v: (nf4(w, v)[0], nf4(w, v)[1][:1]), "need 3 numbers"),
    ("02-nf4", lambda w, v: (sum(map(abs, w)) / len(w), nf4(w, v)[1]), "the scale is 1.5"),
]

# 03-retry


def pause(status, attempt, retry_after):
    if attempt >= 5 or not (status in {408, 429} or 500 <= status < 600):
        return False
    return 2 ** (attempt - 1) if retry_after is None else retry_after


def pause_or(status, attempt, retry_after):
    if attempt >= 5 or status not in {408, 429, 500, 502, 503}:
        return False
    return retry_after or 2 ** (attempt - 1)


def pause_numpy(status, attempt, retry_after):
    right = pause(status, attempt, retry_after)
    return right if right is False else np.float32(right)


def pause_text(status, attempt, retry_after):
    right = pause(status, attempt, retry_after)
    return right if right is False else f"{right} s"


def changed(function, **new):
    def answer(status, attempt, retry_after):
        result = function(status, attempt, retry_after)
        for name, value in new.items():
            if name == f"s{status}":
                return value
        return result

    return answer


CASES += [
    ("03-retry", pause, None),
    ("03-retry", pause_numpy, None),
    ("03-retry", pause_text, None),
    ("03-retry", pause_or, "0 counts as false"),
    ("03-retry", changed(pause, s401=1), "the key is wrong"),
    ("03-retry", changed(pause, s402=1), "the credit is used up"),
    ("03-retry", changed(pause, s404=2.0), "no such model"),
    ("03-retry", changed(pause, s400=0), "the request itself is wrong"),
    ("03-retry", changed(pause, s408=False), "408 (a timeout) can pass"),
    ("03-retry", changed(pause, s500=False), "500"),
    ("03-retry", lambda s, a, r: pause(s, a, None), "The server says 7 seconds"),
    ("03-retry", lambda s, a, r: pause(s, a, r) and (r if r is not None else 2**a), "begins at 0"),
    (
        "03-retry",
        lambda s, a, r: pause(s, a, r) is not False and (a if r is None else r),
        "twice the one before",
    ),
    ("03-retry", lambda s, a, r: pause(s, min(a, 4), r), "After attempt 5 return False"),
    ("03-retry", lambda s, a, r: s in {408, 429, 500, 502, 503}, "seconds to wait"),
    ("03-retry", lambda s, a, r: "later", "number"),
]

# 03-stream


def stream(lines, until=True, comments=True, none=True, empty=True, blank=False):
    text = ""
    for line in lines:
        if comments and not line.startswith("data:"):
            continue
        data = line[6:] if blank else line[5:].strip()
        if until and data.strip() == "[DONE]":
            break
        if data.strip() in ("", "[DONE]"):
            continue
        choices = json.loads(data)["choices"]
        if empty and not choices:
            continue
        piece = choices[0]["delta"].get("content", "")
        text += (piece or "") if none else piece
    return text


def stream_yields(lines):
    for line in lines:
        if line == "data: [DONE]" or line == "data:[DONE]":
            return
        if line.startswith("data:"):
            for choice in json.loads(line[5:])["choices"]:
                yield choice["delta"].get("content") or ""


CASES += [
    ("03-stream", stream, None),
    ("03-stream", lambda lines: "".join(stream_yields(lines)), None),
    ("03-stream", lambda lines: functools.reduce(str.__add__, stream_yields(lines), ""), None),
    ("03-stream", stream_yields, "`yield`"),
    ("03-stream", lambda lines: list(stream_yields(lines)), "not a list"),
    ("03-stream", lambda lines: stream(lines, until=False), "After [DONE]"),
    ("03-stream", lambda lines: stream(lines, comments=False), "a comment. Skip it"),
    ("03-stream", lambda lines: stream(lines, none=False), "Content can be null"),
    ("03-stream", lambda lines: stream(lines, empty=False), "empty list of choices"),
    ("03-stream", lambda lines: " ".join(stream_yields(lines)), "add none between"),
    ("03-stream", lambda lines: "".join(p.strip() for p in stream_yields(lines)), "do not strip"),
    ("03-stream", lambda lines: stream(lines, blank=True), "blank after `data:` may be missing"),
    ("03-stream", lambda lines: "".join(lines), "in delta, content"),
    ("03-stream", lambda lines: len(lines), "return a string"),
    ("03-stream", lambda lines: json.loads(lines[0]), "stopped with an error"),
]

# 03-format: a request

BOTH = {"city": {"type": "string"}, "country": {"type": "string"}}


def form(schema, **more):
    return {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, **more}}


def place(properties=BOTH, required=("city", "country"), **more):
    return {"type": "object", "properties": properties, "required": list(required), **more}


CASES += [
    ("03-format", form(place()), None),
    ("03-format", form(place(additionalProperties=False), strict=True), None),
    ("03-format", OrderedDict(form(place(required=("country", "city")))), None),
    ("03-format", form({**place(), "description": "a place"}), None),
    ("03-format", place(), "the schema alone"),
    ("03-format", {"type": "json_object"}, "any JSON is allowed"),
    ("03-format", {"type": "json_schema", "schema": place()}, 'under the key "json_schema"'),
    ("03-format", {"type": "json_schema", "json_schema": {"schema": place()}}, '"name" is missing'),
    ("03-format", {"type": "json_schema", "json_schema": {"name": "x"}}, '"schema"'),
    ("03-format", form(place(required=["city"])), 'see "required"'),
    ("03-format", form(place({**BOTH, "city": {}})), "should be strings"),
    ("03-format", form(place({**BOTH, "city": {"type": "text"}})), "not valid"),
    ("03-format", form(place({**BOTH, "city": {"type": "number"}})), "accept a city and a country"),
    ("03-format", json.dumps(form(place())), "not a string"),
    ("03-format", [], "a dict"),
]

# 05-loop


def loop(ask, messages, functions, rounds=5, id_=True, keep=True, catch=True, first=False):
    messages = list(messages)
    for _ in range(rounds):
        message = ask(messages)
        if not message.get("tool_calls"):
            return message["content"]
        if keep:
            messages.append(message)
        for called in message["tool_calls"][: 1 if first else None]:
            try:
                given = json.loads(called["function"]["arguments"])
                result = functions[called["function"]["name"]](**given)
            except Exception as error:
                if not catch:
                    raise
                result = f"error: {error}"
            more = {"tool_call_id": called["id"]} if id_ else {}
            messages.append({"role": "tool", "content": str(result), **more})
    return "no answer"


def loop_raises_at_the_end(ask, messages, functions):
    text = loop(ask, messages, functions)
    if text == "no answer":
        raise RuntimeError("too many rounds")
    return text


def loop_by_itself(ask, messages, functions, left=5):
    if not left:
        return "too many"
    message = ask(messages)
    if "tool_calls" not in message:
        return message["content"]
    results = []
    for called in message["tool_calls"]:
        function = functions.get(called["function"]["name"])
        try:
            content = str(function(**json.loads(called["function"]["arguments"])))
        except Exception as error:
            content = f"failed: {error!r} of {called['function']['name']}"
        results.append({"role": "tool", "tool_call_id": called["id"], "content": content})
    return loop_by_itself(ask, [*messages, message, *results], functions, left - 1)


CASES += [
    ("05-loop", loop, None),
    ("05-loop", loop_by_itself, None),
    ("05-loop", loop_raises_at_the_end, None),
    ("05-loop", lambda a, m, f: loop(a, m, f, rounds=3), "5 requests are allowed"),
    ("05-loop", lambda a, m, f: loop(a, m, f, id_=False), "id of its call"),
    ("05-loop", lambda a, m, f: loop(a, m, f, keep=False), "user, assistant, tool"),
    ("05-loop", lambda a, m, f: loop(a, m, f, catch=False), "the error as the result"),
    ("05-loop", lambda a, m, f: loop(a, m, f, first=True), "Two calls need two results"),
    ("05-loop", lambda a, m, f: loop(a, m, f, rounds=100), "a limit"),
    ("05-loop", lambda a, m, f: loop(a, m, f, rounds=7), "End it after 5"),
    ("05-loop", lambda a, m, f: a(m), "return its content"),
    ("05-loop", lambda a, m, f: a(m)["content"], "run the tool and ask the model again"),
    ("05-loop", lambda a, m, f: (loop(a, m, f), a(m))[0], "One request was enough"),
]

# 06-stream


def times(events):
    texts = [time for time, text, _ in events if text]
    count = max(tokens or 0 for *_, tokens in events)
    tpot = (texts[-1] - texts[0]) / (count - 1) if count > 1 else None
    return {"ttft": texts[0], "tpot": tpot, "e2e": events[-1][0]}


def times_with(**new):
    return lambda events: times(events) | new


def times_divided(events):
    texts = [time for time, text, _ in events if text]
    count = max(tokens or 0 for *_, tokens in events)
    return times(events) | {"tpot": (texts[-1] - texts[0]) / (count - 1)}


def times_by_deltas(events):
    texts = [time for time, text, _ in events if text]
    return times(events) | {"tpot": np.diff(texts).mean() if len(texts) > 1 else None}


def times_by_n(events):
    found, count = times(events), max(tokens or 0 for *_, tokens in events)
    return found | {"tpot": found["tpot"] and found["tpot"] * (count - 1) / count}


CASES += [
    ("06-stream", times, None),
    ("06-stream", lambda e: {k: v and np.float32(v) for k, v in times(e).items()}, None),
    ("06-stream", lambda e: {k.upper(): v for k, v in times(e).items()}, None),
    ("06-stream", lambda e: times(e) | {"tpot": times(e)["tpot"] or 0}, "return None for tpot"),
    ("06-stream", lambda e: times(e) | {"tpot": times(e)["tpot"] or float("nan")}, None),
    ("06-stream", lambda e: {k: f"{v} ms" if v else v for k, v in times(e).items()}, None),
    ("06-stream", lambda e: times(e) | {"ttft": e[0][0]}, "only the role came"),
    ("06-stream", lambda e: times(e) | {"ttft": times(e)["ttft"] / 1000}, "in seconds"),
    ("06-stream", times_by_deltas, "second delta has three tokens"),
    ("06-stream", times_by_n, "divide by n - 1"),
    ("06-stream", times_with(tpot=(350 - 300) / 3), "not with the end"),
    ("06-stream", times_with(tpot=85), "time to the first token is not a part"),
    ("06-stream", times_divided, "divide nothing"),
    ("06-stream", lambda e: times(e) | {"e2e": e[-3][0]}, "until the last event"),
    ("06-stream", times_with(ttft=300, tpot=40 / 3, e2e=350), "single token"),
    ("06-stream", lambda e: tuple(times(e).values()), "a dict"),
    ("06-stream", lambda e: {"ttft": 300}, '"ttft", "tpot" and "e2e"'),
]

# 06-prompts: two requests

COLOR = "Name a color."

CASES += [
    ("06-prompts", [COLOR, "Name a color. " * 60], None),
    ("06-prompts", (COLOR, "sea " * 400), None),
    ("06-prompts", np.array([COLOR, "Name a color. " * 60]), None),
    ("06-prompts", ["Name a color. " * 60, COLOR], "short prompt comes first"),
    ("06-prompts", [COLOR, COLOR + " Please."], "less than 5 times"),
    ("06-prompts", [COLOR, COLOR * 2], "less than 5 times"),
    ("06-prompts", [COLOR], "list of two strings"),
    ("06-prompts", COLOR, "list of two strings"),
    ("06-prompts", [1, 5], "list of two strings"),
    ("06-prompts", [COLOR, "  "], "empty"),
    ("06-prompts", [COLOR, COLOR * 10_000], "too long"),
    ("06-prompts", {"first": COLOR}, "list of two strings"),
]

# 07-conversations


def fits(gpu, weights, per_token, tokens):
    return max(0, int((0.9 * gpu - weights) / (per_token * tokens)))


CASES += [
    ("07-conversations", fits, None),
    ("07-conversations", lambda *a: float(fits(*a)), None),
    ("07-conversations", lambda *a: np.int64(fits(*a)), None),
    ("07-conversations", lambda *a: f"{fits(*a)} conversations", None),
    ("07-conversations", lambda g, w, p, t: (0.9 * g - w) / (p * t), "whole conversations"),
    ("07-conversations", lambda g, w, p, t: math.ceil((0.9 * g - w) / (p * t)), "Round down"),
    ("07-conversations", lambda g, w, p, t: 0.9 * g // (p * t), "weights are on the same GPU"),
    ("07-conversations", lambda g, w, p, t: (g - w) // (p * t), "90 % of the memory"),
    ("07-conversations", lambda g, w, p, t: 0.9 * (g - w) // (p * t), "the weights included"),
    ("07-conversations", lambda g, w, p, t: (0.9 * g - w) // p, "in tokens"),
    ("07-conversations", lambda g, w, p, t: (0.9 * g - w) // (p * t), "no conversation does"),
    ("07-conversations", lambda *_: 18, "2 fit"),
    ("07-conversations", lambda *_: "many", "number"),
]

# 07-prefix: two requests

SEA = "The sea was calm, and the boats lay in the harbor. " * 10


def request(system, question):
    return [said("system", system), said("user", question)]


CASES += [
    ("07-prefix", [request(SEA, "What was calm?"), request(SEA, "Where?")], None),
    ("07-prefix", (tuple(request(SEA, "Who?")), tuple(request(SEA, "Where?"))), None),
    ("07-prefix", [[said("user", SEA + "Who?")], [said("user", SEA + "Where?")]], None),
    ("07-prefix", [request(SEA, "Who?")] * 2, "two different things"),
    (
        "07-prefix",
        [[said("user", "Who? " + SEA)], [said("user", "What? " + SEA)]],
        "They end alike",
    ),
    ("07-prefix", [request("Be brief.", "Who?"), request("Be brief.", "Where?")], "too short"),
    ("07-prefix", [request("a" + SEA, "A?"), request("b" + SEA[::-1], "B?")], "begin alike for"),
    ("07-prefix", [SEA + "Who?", SEA + "Where?"], "each a list of messages"),
    ("07-prefix", request(SEA, "Who?"), "each a list of messages"),
    ("07-prefix", [request(SEA, "Who?")], "list of two requests"),
    ("07-prefix", [[{"role": "user"}], [{"role": "user"}]], '"role" and "content"'),
]

# 08-bootstrap


def bootstrap(differences, draws, ends=(2.5, 97.5), of=np.mean, replace=True, size=None):
    rng = np.random.default_rng(0)
    size = size or len(differences)
    drawn = [of(rng.choice(differences, size, replace=replace)) for _ in range(draws)]
    return np.percentile(drawn, ends)


def bootstrap_plain(differences, draws):
    import random

    means = sorted(
        sum(random.choices(differences, k=len(differences))) / len(differences)
        for _ in range(draws)
    )
    return means[int(0.025 * draws)], means[int(0.975 * draws) - 1]


def bootstrap_normal(differences, draws):
    mean, error = np.mean(differences), np.std(differences) / len(differences) ** 0.5
    return mean - 1.96 * error, mean + 1.96 * error


CASES += [
    ("08-bootstrap", bootstrap, None),
    ("08-bootstrap", bootstrap_plain, None),
    ("08-bootstrap", lambda d, n: dict(zip(("low", "high"), bootstrap(d, n), strict=True)), None),
    ("08-bootstrap", lambda d, n: tuple(map(Fraction, bootstrap(d, n))), None),
    # the interval of the normal distribution is no bootstrap, but right as well
    ("08-bootstrap", bootstrap_normal, None),
    ("08-bootstrap", lambda d, n: bootstrap(d, n, replace=False), "with replacement"),
    ("08-bootstrap", lambda d, n: bootstrap(d, n, (5, 95)), "That holds 90 %"),
    ("08-bootstrap", lambda d, n: np.percentile(d, [2.5, 97.5]), "single differences"),
    ("08-bootstrap", lambda d, n: bootstrap(d, n, of=np.sum), "and not the mean"),
    ("08-bootstrap", lambda d, n: bootstrap(d, n, (25, 75)), "too narrow"),
    ("08-bootstrap", lambda d, n: bootstrap(d, n, size=30), "too wide"),
    ("08-bootstrap", lambda d, n: bootstrap(d, n)[::-1], "low end comes first"),
    ("08-bootstrap", lambda d, n: np.mean(d), "two numbers"),
    ("08-bootstrap", lambda d, n: ("low", "high"), "number"),
]

# 10-assistant


def assistant(ask, question, tools, image, rounds=5, catch=True, offer=True, part=True, keep=True):
    content = question
    if image:
        parts = [{"type": "text", "text": question}] if part else []
        content = [*parts, {"type": "image_url", "image_url": {"url": image}}]
    messages = [{"role": "user", "content": content}]
    functions = {schema["function"]["name"]: function for schema, function in tools}
    for _ in range(rounds):
        message = ask(messages, [schema for schema, _ in tools] if offer else [])
        if not message.get("tool_calls"):
            return message["content"]
        if keep:
            messages.append(message)
        for called in message["tool_calls"]:
            name = called["function"]["name"]
            try:
                result = functions[name](**json.loads(called["function"]["arguments"]))
            except Exception as error:
                if not catch:
                    raise
                result = f"error: {error}"
            messages.append({"role": "tool", "tool_call_id": called["id"], "content": str(result)})
    return "no answer"


class Assistant:
    """Some write a class."""

    rounds = 5

    def __call__(self, ask, question, tools, image):
        return assistant(ask, question, tools, image, self.rounds)


def assistant_first_tool(ask, question, tools, image):
    only = [(schema, tools[-1][1]) for schema, _ in tools]
    return assistant(ask, question, only, image)


def assistant_fixed_name(ask, question, tools, image):
    def asked(messages, schemas):
        message = ask(messages, schemas)
        for called in message.get("tool_calls", []):
            if called["function"]["name"] != "get_temperature":
                raise KeyError(called["function"]["name"])
        return message

    return assistant(asked, question, tools, image)


def assistant_text_only(ask, question, tools, image):
    return assistant(ask, question, tools, None)


def assistant_url_as_text(ask, question, tools, image):
    return assistant(ask, question + (f" {image}" if image else ""), tools, None)


def assistant_url_bare(ask, question, tools, image):
    def asked(messages, schemas):
        changed = json.loads(json.dumps(messages))
        for each in changed:
            for part in each["content"] if isinstance(each["content"], list) else []:
                if part["type"] == "image_url":
                    part["image_url"] = image
        return ask(changed, schemas)

    return assistant(asked, question, tools, image)


def assistant_image_once(ask, question, tools, image):
    def asked(messages, schemas):
        if len(messages) > 1:
            messages = [{"role": "user", "content": question}, *messages[1:]]
        return ask(messages, schemas)

    return assistant(asked, question, tools, image)


def assistant_gives_pairs(ask, question, tools, image):
    return ask([{"role": "user", "content": question}], tools)["content"]


def assistant_guesses(ask, question, tools, image):
    return "It is 7."


CASES += [
    ("10-assistant", assistant, None),
    ("10-assistant", Assistant(), None),
    (
        "10-assistant",
        lambda ask, question, tools=(), image=None: assistant(ask, question, list(tools), image),
        None,
    ),
    ("10-assistant", lambda *a: assistant(*a, rounds=200), "a limit"),
    ("10-assistant", lambda *a: assistant(*a, rounds=7), "End it after 5"),
    ("10-assistant", lambda *a: assistant(*a, catch=False), "If a tool fails"),
    ("10-assistant", lambda *a: assistant(*a, offer=False), "offered no tool"),
    ("10-assistant", lambda *a: assistant(*a, part=False), "text part"),
    ("10-assistant", lambda *a: assistant(*a, keep=False), "Before a result comes its call"),
    ("10-assistant", assistant_first_tool, "the wrong one ran"),
    ("10-assistant", assistant_fixed_name, "whatever the name is"),
    ("10-assistant", assistant_text_only, "sees no image"),
    ("10-assistant", assistant_url_as_text, "sees no image"),
    ("10-assistant", assistant_url_bare, '{"url": image}'),
    ("10-assistant", assistant_image_once, "in every request"),
    ("10-assistant", assistant_gives_pairs, "the schemas alone"),
    ("10-assistant", assistant_guesses, "content of the message is the question itself"),
]

# What a learner answered who worked through the notebooks, and what the verdict should have said


def loop_that_tells(said=lambda error: str(error), caught=Exception, **more):
    """The loop above, with another text for an error, or with fewer errors caught."""

    def answer(ask, messages, functions, tools=None):
        messages = list(messages)
        for _ in range(5):
            message = ask(messages) if tools is None else ask(messages, tools)
            if not message.get("tool_calls"):
                return message["content"]
            messages.append(message)
            for called in message["tool_calls"]:
                function = called["function"]
                try:
                    content = functions[function["name"]](**json.loads(function["arguments"]))
                    content = content if more.get("raw") else str(content)
                except caught as error:
                    content = said(error)
                messages.append({"role": "tool", "tool_call_id": called["id"], "content": content})
        return "no answer"

    return answer


def assistant_with(loop):
    """An assistant without images that uses a loop."""

    def answer(ask, question, tools, image):
        text = {"type": "text", "text": question}
        picture = [{"type": "image_url", "image_url": {"url": image}}] if image else []
        functions = {schema["function"]["name"]: function for schema, function in tools}
        schemas = [schema for schema, _ in tools]
        return loop(ask, [{"role": "user", "content": [text, *picture]}], functions, schemas)

    return answer


def loop_of_the_lesson(ask, messages, functions):
    """With the lesson's own `run`, which looks names up in the lesson's functions."""
    return loop_that_tells()(ask, messages, {"add": max})


def assistant_by_python_names(ask, question, tools, image):
    named = [({"function": {"name": function.__name__}}, function) for _, function in tools]
    sent = [schema for schema, _ in tools]
    return assistant_with(loop_that_tells())(lambda m, _: ask(m, sent), question, named, image)


def assistant_first_call(ask, question, tools, image):
    def asked(messages, schemas):
        message = ask(messages, schemas)
        if "tool_calls" in message:
            message["tool_calls"] = message["tool_calls"][:1]
        return message

    return assistant(asked, question, tools, image)


def assistant_offers_once(ask, question, tools, image):
    def asked(messages, schemas):
        return ask(messages, schemas if len(messages) == 1 else [])

    return assistant(asked, question, tools, image)


def tokens_unrounded(width, height):
    share = min(1, 1540 / max(width, height))
    return math.ceil(height * share / 28) * (math.ceil(width * share / 28) + 1)


class Place(pydantic.BaseModel):
    city: str
    country: str


class WithAllKinds:
    """A class with what a class can have."""

    def __init__(self):
        self.bytes = 2

    @property
    def factors(self):
        return self.bytes * 2

    @staticmethod
    def product(numbers):
        return math.prod(numbers)

    @classmethod
    def size(cls, *numbers):
        return cls.product(numbers) * cls().factors


SOME = (KeyError, TypeError, ValueError)
WITH_IMAGE = [
    {"type": "text", "text": "Is the square red or blue?"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
]
SKIPPED = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]
CONVERT = {
    "type": "function",
    "function": {
        "name": "convert",
        "description": "Convert an amount of money.",
        "parameters": {
            "type": "object",
            "properties": {
                "amount": {"type": "number"},
                "currency": {"type": "string", "enum": ["EUR", "USD"]},
            },
            "required": ["amount", "currency"],
        },
    },
}

CASES += [
    # 1: an error that the model does not read
    ("05-loop", loop_that_tells(), None),
    ("05-loop", loop_that_tells(lambda _: "error"), "The tool said 'code 7413', but the model"),
    ("05-loop", loop_that_tells(lambda _: ""), "but the model reads ''"),
    ("05-loop", loop_that_tells(lambda error: error), "is a string"),
    ("10-assistant", assistant_with(loop_that_tells()), None),
    ("10-assistant", assistant_with(loop_that_tells(lambda _: "error")), "the model reads 'error'"),
    ("10-assistant", assistant_with(loop_that_tells(lambda _: "")), "the model reads ''"),
    # 2: only some errors are caught
    ("05-loop", loop_that_tells(caught=SOME), "a tool fails in any way"),
    ("05-loop", loop_that_tells(caught=(KeyError, ValueError)), "a tool fails in any way"),
    ("05-loop", loop_that_tells(caught=(ConnectionError, ValueError)), "a tool does not exist"),
    ("05-loop", loop_that_tells(caught=(ConnectionError, KeyError)), "arguments are no JSON"),
    ("10-assistant", assistant_with(loop_that_tells(caught=SOME)), "If a tool fails, go on"),
    # 3: the capstone is as strict as the loop
    ("10-assistant", assistant_first_call, "Run all calls"),
    ("10-assistant", assistant_offers_once, "to every request"),
    ("10-assistant", assistant_with(loop_that_tells(raw=True)), "a string: str(result)"),
    ("05-loop", loop_that_tells(raw=True), "a string: str(result)"),
    # 4: sides that are not rounded after shrinking
    ("04-tokens", tokens_unrounded, "round each side to whole pixels"),
    # 5: a question that names the colors
    ("04-message", said("user", WITH_IMAGE), None),
    ("04-message", said("user", [{**WITH_IMAGE[0], "text": "Hi"}, WITH_IMAGE[1]]), "two words"),
    # 6: layers that are not quantized anyway, and patterns
    ("02-skip", [*SKIPPED, "model.language_model.embed_tokens"], "was not asked for"),
    ("02-skip", [*SKIPPED, "model.language_model.norm"], "was not asked for"),
    ("02-skip", [*SKIPPED, "model.language_model.layers.3"], "in full precision"),
    ("02-skip", [*SKIPPED, "q_proj"], "language model in full precision"),
    ("02-skip", ["model\\.(vision_tower|multi_modal_projector)", "lm_head"], None),
    ("02-skip", [*SKIPPED, "model.(vision"], "was not asked for"),
    # 11: the name is not found, so the result is an error
    ("05-loop", loop_of_the_lesson, "Look the name up in `functions`"),
    ("10-assistant", assistant_by_python_names, "Take the tool's name from the schema"),
    # 12: attention with a number of the lesson
    ("01-gqa", lambda q, k, v: gqa(q * q.shape[-1] ** 0.5 / 8, k, v), "not 64"),
    ("01-gqa", lambda q, k, v: gqa(q / q.shape[-1] ** 0.5, k, v), "not by the size"),
    ("01-gqa", lambda q, k, v: gqa(q, k, v, share=lambda h, *_: h // 3), "does not exist"),
    ("01-gqa", lambda q, k, v: gqa(q, k, v, share=lambda h, *_: h // 4), "groups of 4 heads"),
    ("01-gqa", lambda q, k, v: gqa(q, k, v, share=lambda *_: 0), "use key/value head 0"),
    ("01-gqa", lambda q, k, v: gqa(q * 3, k, v), "The weights add up to 1"),
    # 13: what Python says
    ("03-stream", lambda lines: [json.loads(line[5:]) for line in lines], "Expecting value"),
    ("03-cost", lambda a, b, c, d: jsn.loads(a), "name 'jsn' is not defined"),  # noqa: F821
    ("03-cost", lambda a, b, c, d: {"a": 1}["b"], "there is no key 'b'"),
    ("03-cost", lambda a, b, c, d: a + None, "'int' and 'None'"),
    ("03-cost", lambda a, b, c, d: object().price, "no attribute 'price'"),
    # 14: a pair of brackets too many
    ("04-message", [said("user", WITH_IMAGE)], "leave the outer [ ] out"),
    ("05-schema", [CONVERT], "leave the outer [ ] out"),
    ("05-schema", CONVERT, None),
    ("00-seed", [{"temperature": 1, "seed": 7}], "leave the outer [ ] out"),
    ("03-format", [form(place())], "leave the outer [ ] out"),
    # 15: the output layer under a wrong path
    ("02-skip", [*SKIPPED[:2], "model.lm_head"], "lm_head is not below `model`"),
    # 16: right and wrong claims
    ("01-claim", {"A", "D"}, "Claim A is true: 32 query heads"),
    ("01-claim", {"A", "B", "D", "E"}, "does not belong in the set"),
    ("01-claim", {"D", "E", "C"}, "Claim B is false"),
    ("01-claim", {"B", "D"}, "B and D are false, as you say. 1 more is false"),
    ("01-claim", {"E"}, "E is false, as you say. 2 more are false"),
    # 18: items that are no messages
    ("00-history", lambda m, r, q: [m, said("assistant", r), said("user", q)], "Item 1 of the"),
    ("00-history", lambda m, r, q: [*m, said("assistant", r), q], "Item 3 of the list is a string"),
    ("10-edit", lambda m, n, text: [*m[:4], text], "Item 5 of the list is a string"),
    # 23: whole numbers in full
    ("01-kv", lambda *s: 4 * math.prod(s) if s[0] == 40 else 8192000, "not 8,192,000"),
    # 24: near misses
    ("02-bits", 4.13, "with double quantization"),
    ("02-bits", 36, "64 weights share"),
    ("01-roofline", 22.67, "without lm_head"),
    ("03-cost", lambda a, b, c, d: (a + b) * c / 1e6, "answer has its own price"),
    ("04-tokens", lambda w, h: 42, "limit of the pocket model"),
    ("04-tokens", lambda w, h: 3080, "not enlarged"),
    # 25: a list of pieces is above; a class in place of a dict
    ("03-format", WithAllKinds, "not a class"),
    ("03-format", Place, "Put its `model_json_schema()` under"),
    # an instance's class, with all that a class can have
    ("01-kv", WithAllKinds().size, None),
]

# What a reviewer found


def linear_layers():
    """The path of each linear layer that should stay in 16 bits."""
    attention, feed_forward = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj")
    tower = "model.vision_tower.transformer.layers"
    for layer in range(24):
        yield from (f"{tower}.{layer}.attention.{name}" for name in attention)
        yield from (f"{tower}.{layer}.feed_forward.{name}" for name in (*feed_forward, "down_proj"))
    for name in ("linear_1", "linear_2", "patch_merger.merging_layer"):
        yield f"model.multi_modal_projector.{name}"
    yield "lm_head"


def without(name):
    return [path for path in linear_layers() if not path.endswith(name)]


def tokens_by(rounded):
    """The number of tokens of an image, with a function that makes a side whole."""

    def answer(width, height):
        share = min(1, 1540 / max(width, height))
        width, height = max(rounded(width * share), 1), max(rounded(height * share), 1)
        return math.ceil(height / 28) * (math.ceil(width / 28) + 1)

    return answer


def assistant_runs(run):
    """An assistant that runs a tool with a function of its own, and goes on after an error."""

    def answer(ask, question, tools, image):
        content = question
        if image:
            content = [
                {"type": "text", "text": question},
                {"type": "image_url", "image_url": {"url": image}},
            ]
        messages = [{"role": "user", "content": content}]
        functions = {schema["function"]["name"]: function for schema, function in tools}
        for _ in range(5):
            message = ask(messages, [schema for schema, _ in tools])
            if not message.get("tool_calls"):
                return message["content"]
            messages.append(message)
            for called in message["tool_calls"]:
                try:
                    text = str(run(functions, called["function"]))
                except Exception as error:
                    text = str(error)
                messages.append({"role": "tool", "tool_call_id": called["id"], "content": text})
        return "no answer"

    return answer


def assistant_sends(change):
    """An assistant that changes the messages of the second request."""

    def answer(ask, question, tools, image):
        def asked(messages, schemas):
            return ask(change(json.loads(json.dumps(messages))), schemas)

        return assistant(asked, question, tools, image)

    return answer


def one_id(messages):
    first = next((m["tool_call_id"] for m in messages if m["role"] == "tool"), "")
    return [m | {"tool_call_id": first} if m["role"] == "tool" else m for m in messages]


def call_before_each_result(messages):
    changed = []
    for message in messages:
        if message["role"] == "tool" and changed[-1]["role"] == "tool":
            changed.append(next(m for m in messages if m["role"] == "assistant"))
        changed.append(message)
    return changed


def without_end(ask, messages, functions, rounds=8):
    messages = list(messages)
    for _ in range(rounds):
        message = ask(messages)
        if not message.get("tool_calls"):
            return message["content"]
        messages.append(message)
        for called in message["tool_calls"]:
            try:
                given = json.loads(called["function"]["arguments"])
                text = str(functions[called["function"]["name"]](**given))
            except Exception as error:
                text = str(error)
            messages.append({"role": "tool", "tool_call_id": called["id"], "content": text})


def assistant_without_end(ask, question, tools, image):
    def end_missing(*arguments, **more):
        found = assistant(*arguments, **more)
        return None if found == "no answer" else found

    return end_missing(ask, question, tools, image, rounds=8)


def assistant_forgets(ask, question, tools, image):
    def asked(messages, schemas):
        return ask(messages[:1], schemas)

    found = assistant(asked, question, tools, image)
    return None if found == "no answer" else found


def unknown_as(text):
    """A loop that tells the model too little of an unknown tool."""
    return loop_that_tells(lambda error: text if isinstance(error, KeyError) else str(error))


def empty_pop(*_):
    return set().pop()


def bare_key_error(*_):
    raise KeyError


def labels(ids, turns):
    found = [-100] * len(ids)
    for start, stop in turns:
        found[start:stop] = ids[start:stop]
    return found


def first_and_new(messages, number, text):
    return [messages[0], said("user", text)]


def gqa_past_the_end(q, k, v):
    return gqa(q, k, v, share=lambda head, *_: int(q[head][99, 0]) if len(q) > 1 else 0)


CASES += [
    # 1: all layers
    ("02-skip", list(linear_layers()), None),
    ("02-skip", without("linear_2"), "1 of 2 modules"),
    ("02-skip", without("layers.7.attention.k_proj"), "1 of 2 modules"),
    ("02-skip", [*SKIPPED, "model.language_model.layers.7.mlp.down_proj"], "in full precision"),
    # 2: the tool gets the city
    ("10-assistant", assistant_runs(lambda f, c: f[c["name"]](c["arguments"])), "json.loads"),
    ("10-assistant", assistant_sends(one_id), "each with the id of its call"),
    ("10-assistant", assistant_sends(call_before_each_result), "message comes once"),
    # 3: rounded, not cut
    ("04-tokens", tokens_by(round), None),
    ("04-tokens", tokens_by(int), "round each side to whole pixels"),
    # 5: as often as it asked
    ("05-loop", without_end, "It asked 8 times. End it after 5"),
    ("05-loop", functools.partial(without_end, rounds=5), None),
    ("10-assistant", assistant_without_end, "It asked 8 times. End it after 5"),
    ("10-assistant", assistant_forgets, "in all 5 requests"),
    # 6: an unknown tool
    ("05-loop", unknown_as("failed"), "'failed'. Name the tool in the result."),
    ("05-loop", loop_that_tells(lambda _: "error"), "'error'. Put the error's text in the"),
    ("10-assistant", assistant_with(unknown_as("failed")), "Name the tool in the result."),
    # 7: brackets that are not too many
    ("07-flag", [{"image": 4}], "a string with a JSON object, not a list."),
    ("00-messages", [[said("user", "Hi")]], "Each message should be a dict, not a list."),
    ("07-prefix", [[request(SEA, "Who?")[:1]]] * 2, "Each message should be a dict, not a list."),
    ("04-message", [said("user", WITH_IMAGE)], "one message, as a dict, not a list: leave"),
    # 8: a pair that is no list of messages
    ("00-history", lambda m, r, q: [*m, ("assistant", r), said("user", q)], "tuple. Make it a"),
    ("00-history", lambda m, r, q: [tuple(m), said("user", q)], "Write * before it"),
    # 9: one of two turns
    ("09-labels", lambda ids, turns: labels(ids, turns[:1]), "copy the ids of every turn"),
    ("09-labels", lambda ids, turns: labels(ids, turns), None),
    # 10: what the error is about
    ("10-assistant", assistant_runs(lambda f, c: f[c["name"]](**c["arguments"])), "json.loads"),
    ("10-assistant", assistant_runs(lambda f, c: f.get(c)(**json.loads(c))), "json.loads"),
    ("10-assistant", assistant_runs(lambda f, c: {}[c["name"]]), "name from the schema"),
    ("10-assistant", assistant_runs(lambda f, c: {}.get(c["name"])()), "name from the schema"),
    # 11: a result that is no JSON
    ("10-assistant", assistant_with(loop_that_tells(lambda e: e)), "is a string: str(error)"),
    # 12: an index of something else
    ("01-gqa", lambda q, k, v: gqa(q, k, v, share=lambda h, *_: h), "does not exist"),
    ("01-gqa", gqa_past_the_end, "Python says: index 99 is out of bounds"),
    # 13: the first message
    ("10-edit", first_and_new, "The first message need not be a system message."),
    # 14: what is nearly right, and keys
    ("01-kv", lambda *s: 4 * math.prod(s) + 1e-7, "not 163,840.0000001"),
    ("04-tokens", lambda w, h: 272.00000001, "not 272.00000001"),
    ("01-kv", empty_pop, "Python says: pop from an empty set."),
    ("01-kv", bare_key_error, "Run it in a cell of its own"),
]
