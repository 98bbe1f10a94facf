"""Streamed calls are joined as OpenAI's own client joins them, and by id where that fails."""

import json
import random

import pytest
from openai.lib.streaming._deltas import accumulate_delta

from helpers.widgets import call_pieces

TOOLS = ["get_weather", "send_note"]


def piece(index, call_id=None, name=None, arguments=None) -> dict:
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": call_id, "function": function}


def in_pieces(calls: list[dict], indices: list[int], rng: random.Random) -> list[dict]:
    """Pieces of calls, at random places, one call after another."""
    pieces = []
    for call, index in zip(calls, indices, strict=True):
        name, text = call["name"], call["arguments"]
        cut = rng.randrange(1, len(name))
        pieces += [piece(index, call["id"], name[:cut], ""), piece(index, None, name[cut:])]
        while text:
            length = rng.randrange(1, 6)
            pieces.append(piece(index, None, None, text[:length]))
            text = text[length:]
    return pieces


CALLS = [
    {"id": "aaaaaaaa1", "name": "get_weather", "arguments": '{"city": "Nice"}'},
    {"id": "bbbbbbbb2", "name": "send_note", "arguments": json.dumps({"text": "Mind the 🌊!"})},
]


@pytest.mark.parametrize("seed", range(20))
def test_by_index_it_is_what_openais_client_makes(seed):
    pieces = in_pieces(CALLS, [0, 1], random.Random(seed))
    snapshot: dict = {}
    for each in pieces:
        delta = {"tool_calls": [{**each, "function": dict(each["function"])}]}
        snapshot = accumulate_delta(snapshot, delta)
    theirs = [
        {"id": call["id"], **{k: call["function"][k] for k in ("name", "arguments")}}
        for call in snapshot["tool_calls"]
    ]
    assert call_pieces.join(pieces, by="index") == theirs == CALLS


@pytest.mark.parametrize("seed", range(20))
def test_calls_that_share_an_index_are_told_apart_by_id(seed):
    pieces = in_pieces(CALLS, [0, 0], random.Random(seed))
    assert call_pieces.join(pieces, by="id") == CALLS
    (only,) = call_pieces.join(pieces, by="index")
    assert only["name"] == "get_weathersend_note"
    assert "there is no tool" in call_pieces.fault(only, TOOLS)


@pytest.mark.parametrize("by", ["index", "id"])
@pytest.mark.parametrize("seed", range(5))
def test_calls_that_come_in_turns_are_kept_apart(by, seed):
    rng = random.Random(seed)
    streams = [in_pieces([call], [index], rng) for index, call in enumerate(CALLS)]
    first, second = streams
    mixed = [first.pop(0)]  # the first call begins first
    while first or second:
        mixed.append((first or second).pop(0) if rng.random() < 0.5 else (second or first).pop(0))
    assert call_pieces.join(mixed, by=by) == CALLS


def test_without_a_piece_there_is_nothing_to_show():
    with pytest.raises(ValueError, match="at least one piece"):
        call_pieces.explore([], TOOLS)


def test_each_fault_is_said():
    good = {"id": "aaaaaaaa1", "name": "get_weather", "arguments": "{}"}
    assert call_pieces.fault(good, TOOLS) == ""
    assert "not JSON" in call_pieces.fault(good | {"arguments": '{"city": "Ni'}, TOOLS)
    assert "'get_'" in call_pieces.fault(good | {"name": "get_"}, TOOLS)


def test_the_table_and_the_page_have_every_rule():
    pieces = in_pieces(CALLS, [0, 0], random.Random(1))
    made = call_pieces.explore(pieces, TOOLS)
    assert made.table["can be run"].tolist() == [0, 0, 2, 0]
    assert made.table["calls"].tolist() == [1, 1, 2, 2]
    for rule, steps in made.data["made"].items():
        by, names = rule.split()
        for count, calls in enumerate(steps, start=1):
            joined = call_pieces.join(pieces[:count], by=by, names=names)
            assert [{k: v for k, v in call.items() if k != "fault"} for call in calls] == joined
