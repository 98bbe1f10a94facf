"""Exercises of notebook 06, Latency."""

import math
from typing import Any

from labkit.exercises.answers import WrongForm, call, items, kind, mapping, number
from labkit.exercises.asking import Model
from labkit.exercises.engine import USE, build, exercise, number_exercise, test

build(
    "06-stream",
    hint=(
        "Which delta is the first that a user can read, and how many tokens come after it?",
        'Look at "One request, on a timeline": the definitions under the picture.',
        "Half of it: ttft is the time of the first event with a text that is not empty. How many "
        "gaps are between the tokens?",
    ),
    example="answer(EVENTS) → {'ttft': 300, 'tpot': 13.33, 'e2e': 350}",
)

# (milliseconds, text of the delta, tokens in all if the event has the usage)
EVENTS = [
    (100, "", None),
    (300, "A", None),
    (340, "BCD", None),
    (345, "", None),
    (346, "", 4),
    (350, "", None),
]


def _times(answer: Any, events: list[tuple]) -> dict[str, Any]:
    result = call(answer, list(events), shown="answer(EVENTS)")
    found = mapping(result, "a dict of times", whole=True)
    given = {str(key).strip().lower(): v for key, v in found.items()}
    if not {"ttft", "tpot", "e2e"} <= set(given):
        raise WrongForm('It should return a dict with the keys "ttft", "tpot" and "e2e".')
    return given


def _time(answer: Any, key: str, events: list[tuple] = EVENTS) -> float:
    return number(_times(answer, events)[key], key, ("ms", "milliseconds"))


@test("06-stream", "ttft: the first delta with text")
def time_to_first_token(answer: Any) -> str | None:
    """A delta with only the role does not count."""
    ttft = _time(answer, "ttft")
    if ttft == 100:
        return "At 100 ms only the role came: there is no text to read yet."
    if 0 < ttft < 1:
        return "That is in seconds; the question asks for milliseconds."
    return None if ttft == 300 else "TTFT: when did the first delta with text come?"


@test("06-stream", "tpot: by tokens, and not by deltas")
def time_per_token(answer: Any) -> str | None:
    """The usage has the number of tokens."""
    tpot = _time(answer, "tpot")
    for wrong, said in {
        40: "The second delta has three tokens, and usage reports four in all.",
        10: "The clock starts at the first token, so divide by n - 1.",
        12.5: "The clock stops at the last token's text, and it is divided by n - 1.",
        16.6667: "It ends with the last text, and not with the end of the stream.",
        85: "The time to the first token is not a part of it.",
        0.01333: "That is in seconds; the question asks for milliseconds.",
    }.items():
        if math.isclose(tpot, wrong, rel_tol=0.005):
            return said
    if math.isclose(tpot, 40 / 3, rel_tol=0.01):
        return None
    return "TPOT: (last - first) / (n - 1), from the first token to the last."


@test("06-stream", "e2e: until the stream is over")
def end_to_end(answer: Any) -> str | None:
    """The end of the stream included."""
    return None if _time(answer, "e2e") == 350 else "End to end: until the last event of all."


@test("06-stream", "an answer of one token has no tpot")
def one_token(answer: Any) -> str | None:
    """Nothing is divided by zero."""
    events = [(200, "Yes", None), (210, "", 1), (220, "", None)]
    try:
        tpot = _times(answer, events)["tpot"]
    except WrongForm as wrong:
        if "stopped with an error" in str(wrong):
            return "With one token, n - 1 is 0: return None for tpot, and divide nothing."
        raise
    if tpot is None or (isinstance(tpot, float) and math.isnan(tpot)):
        return None
    return "After a single token there is no time per token: return None for tpot."


@test("06-stream", "another stream")
def another_stream(answer: Any) -> str | None:
    """No number of the example is fixed in the function."""
    events = [(50, "", None), (80, "It", None), (100, "is", None), (130, "7", None), (131, "", 3)]
    found = _times(answer, events)
    right = {"ttft": 80, "tpot": 25, "e2e": 131}
    for key, expected in right.items():
        value = number(found[key], key, ("ms", "milliseconds"))
        if not math.isclose(value, expected, rel_tol=0.01):
            return f"Of another stream, {key} should be {expected} ms, not {found[key]}."
    return None


number_exercise(
    "06-rate",
    320,
    hint=(
        "How many tokens per second does one of the eight get?",
        'Look at "One user and several": the streams run at the same time.',
        "Half of it: one stream gives 1 / 0.025 tokens per second.",
    ),
    mistakes={
        40: "That is one stream; there are eight at once.",
        5: "The streams do not share a rate: each gives 40 tokens per second.",
        0.2: "That is in seconds; the question asks for tokens per second.",
    },
    units=("tokens per second", "tokens/s", "tokens/second", "tok/s", "t/s"),
)


TIMES_LONGER = 5


def _send_prompts(answer: Any, model: Model) -> str | None:
    import time

    counts = []
    for prompt in items(answer):
        begun = time.perf_counter()
        reply = model.ask(_short(prompt), [{"role": "user", "content": prompt}], max_tokens=1)
        seconds = time.perf_counter() - begun
        counts.append(reply.usage.prompt_tokens)
        model.replies[-1] = (
            _short(prompt),
            f"{counts[-1]} prompt tokens, first token after {seconds:.2f} s",
        )
    model.note("The time is mostly prefill. A server that has seen a prompt before is faster.")
    if counts[1] < TIMES_LONGER * counts[0]:
        return (
            f"The second has {counts[1]} tokens, the first {counts[0]}: less than "
            f"{TIMES_LONGER} times as many."
        )
    return None


def _short(prompt: str) -> str:
    return prompt if len(prompt) <= 40 else f"{prompt[:40]}… ({len(prompt):,} characters)"


@exercise(
    "06-prompts",
    hint=(
        "What does a server do before the first token of an answer, and with how many tokens?",
        'Look at "A longer prompt". A string times a number repeats it.',
        'Half of it: ["Name a color.", "Name a color. " * …]. The format adds tokens to both.',
    ),
    kind=USE,
    send=_send_prompts,
    needs_reply=True,
)
def judge_prompts(answer: Any) -> str | None:
    """Two prompts, the second much longer."""
    if isinstance(answer, str | dict):
        raise WrongForm("The answer should be a list of two strings.")
    prompts = items(answer, "a list of two strings")
    if len(prompts) != 2 or not all(isinstance(each, str) for each in prompts):
        kinds = ", ".join(map(kind, prompts[:4])) or "nothing"
        raise WrongForm(f"The answer should be a list of two strings. It has: {kinds}.")
    short, long = prompts
    if not short.strip() or not long.strip():
        raise WrongForm("One of the prompts is empty.")
    if len(long) > 20_000:
        raise WrongForm("The second prompt is too long for the pocket model: use 10,000 letters.")
    if len(short) > len(long):
        return "The short prompt comes first."
    return None
