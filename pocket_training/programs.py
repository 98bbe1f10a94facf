"""Questions as small functional programs over a scene's things, answered by running them.

A program is a nested tuple: the name of an operation, then what it takes. "What color is the
square?" is

    ("query", "color", ("unique", ("filter", "kind", "square", ("scene",))))

The model is the question generator of CLEVR (Johnson et al., 2017). A program that has more than
one reading in a scene raises `Unclear`, one that asks for what is not there raises `Absent`.
"""

from collections.abc import Callable

Thing = dict
Program = tuple

ANY = ("scene",)
SIDE_MARGIN = 0.12  # of the picture's side: nearer than this, neither is left of the other
LARGER = 1.25  # sizes of a smaller ratio count as equal: none of them is the larger


class Unclear(ValueError):
    """The question has more than one answer, or none that a person would be sure of."""


class Absent(ValueError):
    """What the question asks about is not in the picture."""


def run(program: Program, things: list[Thing]):
    """The answer: a value, a number, a truth, a thing, or a list of things.

    Raises:
        Unclear: more than one thing fits, or the picture is at the edge of two answers.
        Absent: nothing fits.
    """
    name, *arguments = program
    values = [run(a, things) if isinstance(a, tuple) else a for a in arguments]
    return OPERATIONS[name](things, *values)


def _attribute(thing: Thing, attribute: str):
    value = thing[attribute]
    if value is None:
        raise Unclear(attribute)
    return value


def _scene(things: list[Thing]) -> list[Thing]:
    return things


def _filter(things, attribute: str, value: str, among: list[Thing]) -> list[Thing]:
    return [thing for thing in among if _attribute(thing, attribute) == value]


def _unique(things, among: list[Thing]) -> Thing:
    if not among:
        raise Absent
    if len(among) > 1:
        raise Unclear("more than one")
    return among[0]


SIDES: dict[str, Callable[[Thing, Thing], float]] = {
    "left": lambda thing, other: other["x"] - thing["x"],
    "right": lambda thing, other: thing["x"] - other["x"],
    "above": lambda thing, other: other["y"] - thing["y"],
    "below": lambda thing, other: thing["y"] - other["y"],
}


def _relate(things, side: str, other: Thing) -> list[Thing]:
    found = []
    for thing in things:
        if thing is other:
            continue
        by = SIDES[side](thing, other)
        if abs(by) < SIDE_MARGIN:
            raise Unclear(side)
        if by > 0:
            found.append(thing)
    return found


def _most(things, attribute: str, among: list[Thing]) -> Thing:
    """The thing with clearly the most of an attribute."""
    return _extreme(among, attribute, largest=True)


def _least(things, attribute: str, among: list[Thing]) -> Thing:
    return _extreme(among, attribute, largest=False)


def _extreme(among: list[Thing], attribute: str, *, largest: bool) -> Thing:
    if not among:
        raise Absent
    first, *rest = sorted(among, key=lambda thing: thing[attribute], reverse=largest)
    if not rest:
        raise Unclear("only one")
    if attribute == "size":
        big, small = sorted((first["size"], rest[0]["size"]), reverse=True)
        if big < LARGER * small:
            raise Unclear("about as large")
    return first


def _equal(things, one, other) -> bool:
    return one == other


def _more(things, one: float, other: float) -> bool:
    return one > other


def _larger(things, one: Thing, other: Thing) -> bool:
    if one is other:
        raise Unclear("the same thing")
    return _most(things, "size", [one, other]) is one


OPERATIONS: dict[str, Callable] = {
    "scene": _scene,
    "filter": _filter,
    "unique": _unique,
    "relate": _relate,
    "most": _most,
    "least": _least,
    "query": lambda things, attribute, thing: _attribute(thing, attribute),
    "count": lambda things, among: len(among),
    "exist": lambda things, among: bool(among),
    "equal": _equal,
    "more": _more,
    "larger": _larger,
}


def filtered(wanted: dict[str, str], among: Program = ANY) -> Program:
    """The program that filters by all attributes of `wanted`."""
    for attribute, value in wanted.items():
        among = ("filter", attribute, value, among)
    return among
