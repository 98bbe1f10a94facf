"""Streamed tool calls arrive in pieces: how to join them, and what a broken stream does to that."""

import json
from collections.abc import Sequence
from typing import Any, Literal

import pandas as pd

from helpers.widgets.explorer import Explorer

By = Literal["index", "id"]
Names = Literal["joined", "first"]
BY: dict[By, str] = {"index": "the same index", "id": "a new id begins a call"}
NAMES: dict[Names, str] = {"joined": "join its pieces", "first": "take the first piece"}


def join(pieces: Sequence[dict], *, by: By = "id", names: Names = "joined") -> list[dict]:
    """The calls that the pieces make, in the order in which they begin.

    Args:
        pieces: of a stream's `delta.tool_calls`, in OpenAI's form.
        by: which call a piece belongs to: that of its `index`, as OpenAI defines it; or the same,
            but a new `id` begins a call. Some servers give parallel calls the same index.
        names: what a second piece of a name does: it is joined, or it is left out.

    Returns:
        {"id", "name", "arguments"} of each call; the id is None if none came.
    """
    calls: list[dict[str, Any]] = []
    places: dict[Any, int] = {}
    for piece in pieces:
        function = piece.get("function") or {}
        index, call_id = piece.get("index"), piece.get("id")
        place = places.setdefault(index, len(calls))
        known = calls[place]["id"] if place < len(calls) else None
        if by == "id" and call_id and known not in (None, call_id):
            place = places[index] = len(calls)
        if place == len(calls):
            calls.append({"id": None, "name": "", "arguments": ""})
        call, name = calls[place], function.get("name") or ""
        call["id"] = call["id"] or call_id
        call["name"] = call["name"] + name if names == "joined" else call["name"] or name
        call["arguments"] += function.get("arguments") or ""
    return calls


def fault(call: dict, tools: Sequence[str]) -> str:
    """Why a call cannot be run; "" if it can.

    Args:
        call: from `join`.
        tools: the names of the tools that there are.
    """
    if call["name"] not in tools:
        return f"there is no tool {call['name']!r}"
    try:
        json.loads(call["arguments"])
    except ValueError as error:
        return f"the arguments are not JSON: {error}"
    return ""


def explore(pieces: Sequence[dict], tools: Sequence[str]) -> Explorer:
    """Put a stream's pieces together, one after another, by other rules.

    Args:
        pieces: of a stream's `delta.tool_calls`, in OpenAI's form.
        tools: the names of the tools that there are.

    Raises:
        ValueError: there is no piece.
    """
    if not pieces:
        raise ValueError("There is nothing to put together: give at least one piece of a call.")
    made = {
        f"{by} {names}": [
            [
                call | {"fault": fault(call, tools)}
                for call in join(pieces[: count + 1], by=by, names=names)
            ]
            for count in range(len(pieces))
        ]
        for by in BY
        for names in NAMES
    }
    rows = {
        (BY[by], NAMES[names]): {
            "calls": len(last := made[f"{by} {names}"][-1]),
            "can be run": sum(not call["fault"] for call in last),
        }
        for by in BY
        for names in NAMES
    }
    table = pd.DataFrame(rows).T.rename_axis(["joined by", "a name in pieces"])
    data = {
        "pieces": [json.dumps(piece, ensure_ascii=False) for piece in pieces],
        "by": list(BY.items()),
        "names": list(NAMES.items()),
        "made": made,
    }
    return Explorer("Tool calls in pieces", table, data, "call_pieces.js")
