"""TODO."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pocket_training import picture_tasks, tool_tasks
from pocket_training.examples import ARGS, CALL_ID, CALLS, END, Exchange, Writer
from pocket_training.mixed_tasks import mixed_exchanges

SEED = 1


CASES, QUICK_CASES = 300, 30


PER_TOOLS = 10  # cases about the same tools


REPLY_TOKENS = 40  # within which an answer in words must be there


PAIRS = "counterfactual pairs"


TARGETS = {
    "tool call, known tools": 0.97,
    "tool call, schemas never seen": 0.85,
    "no suitable tool, no call": 0.95,
    "two calls in one turn": 0.85,
    "the tool's result in the answer": 0.97,
    "picture: colour": 0.95,
    "picture: shape": 0.95,
    "picture: count": 0.95,
    "picture: position": 0.95,
    "picture: largest": 0.95,
    "picture: tallest bar": 0.95,
    "picture: largest region": 0.95,
    "two pictures: which one": 0.85,
    PAIRS: 0.90,
}


_PICTURES = {
    "colour": "shapes",
    "shape": "shapes",
    "count": "shapes",
    "position": "shapes",
    "largest": "shapes",
    "tallest": "bars",
    "region": "regions",
    "number": "number",
    "two pictures": "two",
}


_NAMES = {
    "tallest": "picture: tallest bar",
    "region": "picture: largest region",
    "number": "picture: number",
    "two pictures": "two pictures: which one",
}


@dataclass
class Case:
    """An exchange to judge.

    Attributes:
        skill: what it counts for.
        accept: judges a generated reply; None where only the exchange's own is right.
    """

    skill: str
    exchange: Exchange
    accept: Callable[[list[int]], bool] | None = None


Question = list[Case]  # cases that share a beginning: the same tools or the same picture


def questions(writer: Writer, cases: int = CASES, seed: int = SEED) -> Iterator[Question]:
    """All held-out questions but chat and counterfactuals, ``cases`` for each skill."""
    for kind, skill in (
        ("known", "tool call, known tools"),
        ("unseen", "tool call, schemas never seen"),
        ("two", "two calls in one turn"),
    ):
        for group in _groups(kind, cases, seed):
            yield [_call_case(skill, writer, case) for case in group]
    for group in _groups("none", cases, seed):
        exchanges = [writer.tool_case(case, "given") for case in group]
        yield [Case("no suitable tool, no call", each, _no_call) for each in exchanges]
    for group in _groups("result", cases, seed):
        yield [_result_case("the tool's result in the answer", writer, case) for case in group]
    left = {skill: cases for skill in _PICTURES}
    for kind in dict.fromkeys(_PICTURES.values()):
        number = 0
        while any(left[skill] for skill, drawn in _PICTURES.items() if drawn == kind):
            number += 1
            groups = picture_tasks.picture_groups(
                "held_out", kind, groups=1, seed=seed * 100_000 + number, per_group=12
            )
            for group in groups:
                # A question that two things of a scene give alike would be counted twice.
                asked = {(c.skill, c.question): c for c in group if left.get(c.skill, 0)}
                chosen = []
                for case in asked.values():
                    if left[case.skill]:
                        left[case.skill] -= 1
                        name = _NAMES.get(case.skill, f"picture: {case.skill}")
                        chosen.append(Case(name, writer.picture_case(case)))
                if chosen:
                    yield chosen


def pairs(writer: Writer, count: int = CASES, seed: int = SEED) -> Iterator[list[Question]]:
    """Counterfactual pairs, half about tools and half about pictures, each as its questions."""
    for both in tool_tasks.counterfactual_pairs("held_out", pairs=count // 2, seed=seed):
        make = _result_case if both[0].must_contain else _call_case
        yield [[make(PAIRS, writer, case) for case in both]]
    for both in picture_tasks.counterfactual_pairs("held_out", pairs=count - count // 2, seed=seed):
        # Two rows: what the pictures share is their tokens' ids, not what they show.
        yield [[Case(PAIRS, writer.picture_case(case))] for case in both]


def conversations(writer: Writer, count: int, seed: int = SEED) -> Iterator[Question]:
    """The model card's conversation: the largest country on a map, then its population."""
    for number in range(count):
        rng = random.Random(f"conversation {seed} {number}")
        first, second = mixed_exchanges(writer, "held_out", rng)
        yield [
            Case("conversation: largest country, tools at hand", first),
            Case(
                "conversation: that country's population",
                second,
                _same_calls(writer, second.reply),
            ),
        ]


def _groups(kind: str, cases: int, seed: int):
    groups = -(-cases // PER_TOOLS)
    return tool_tasks.tool_groups("held_out", kind, groups=groups, per_group=PER_TOOLS, seed=seed)


def _call_case(skill: str, writer: Writer, case: tool_tasks.ToolCase) -> Case:
    exchange = writer.tool_case(case, "given")
    return Case(skill, exchange, _same_calls(writer, exchange.reply))


def _result_case(skill: str, writer: Writer, case: tool_tasks.ToolCase) -> Case:
    exchange = writer.tool_case(case, "given")
    return Case(skill, exchange, _contains(writer, case.must_contain))


def _same_calls(writer: Writer, reply: list[int]) -> Callable[[list[int]], bool]:
    wanted = _calls(writer, reply)
    assert wanted, "not a reply of calls"
    return lambda said: _calls(writer, said) == wanted


def _calls(writer: Writer, reply: list[int]) -> list[tuple[str, str]] | None:
    """Name and arguments of each call in a reply, keys sorted; None where it is anything else."""
    if reply[0] != CALLS or reply[-1] != END:
        return None
    starts = [place for place, token in enumerate(reply) if token == CALLS]
    found = []
    for start, end in zip(starts, [*starts[1:], len(reply) - 1], strict=True):
        call = reply[start + 1 : end]
        if CALL_ID not in call or ARGS not in call:
            return None
        name = writer.read(call[: call.index(CALL_ID)])
        try:
            arguments = json.loads(writer.read(call[call.index(ARGS) + 1 :]))
        except ValueError:
            return None
        # As text: in Python 1 equals both true and 1.0.
        found.append((name, json.dumps(arguments, sort_keys=True)))
    return found


def _no_call(reply: list[int]) -> bool:
    return CALLS not in reply and reply[-1] == END and len(reply) <= REPLY_TOKENS


def _contains(writer: Writer, wanted: tuple[str, ...]) -> Callable[[list[int]], bool]:
    return lambda reply: all(part in writer.read(reply[:REPLY_TOKENS]) for part in wanted)
