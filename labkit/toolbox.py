"""Tools that really do something, without a network: the functions that notebook 05 offers a model.

Each is an ordinary function with type hints and a docstring, as `helpers.tools.describe` wants it.
What cannot be answered raises an exception that says why; `run_tools` hands those words to the
model.
"""

import ast
import json
import operator
import re
from functools import cache
from typing import Literal

from helpers.paths import DATA
from labkit import notebooks

# Longest expression, and most bits of a number, that `calculate` takes: 9**9**9 would never end.
MAX_CHARACTERS, MAX_BITS = 200, 4096


@cache
def _people() -> dict[str, int]:
    table = json.loads((DATA / "population.json").read_text(encoding="utf-8"))
    return table["people"]


def get_current_population(country: str, unit: Literal["millions", "thousands"]) -> float:
    """
    Get the up-to-date population of a given country.

    Args:
        country: The country to find the population of.
        unit: The unit for the population.
    """
    # The description is the model card's, word for word; the table is as old as its file says.
    known = {name.casefold(): people for name, people in _people().items()}
    people = known.get(country.strip().casefold())
    if people is None:
        raise LookupError(f"no country named {country!r} in the table")
    return round(people / {"millions": 1e6, "thousands": 1e3}[unit], 1)


@cache
def _units():
    import pint  # slow to import: it reads its table of units

    return pint.UnitRegistry()


def convert_units(value: float, from_unit: str, to_unit: str) -> float:
    """
    Convert a value from one unit to another.

    Args:
        value: The number to convert.
        from_unit: The unit it is in, such as miles.
        to_unit: The unit it should be in, such as kilometers.
    """
    units = _units()
    # ".to" adds what must be added, too: degC and degF begin at different points.
    return float(f"{units.Quantity(value, from_unit).to(to_unit).magnitude:.6g}")


_BINARY = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY = {ast.USub: operator.neg, ast.UAdd: operator.pos}


def calculate(expression: str) -> float:
    """
    Evaluate an arithmetic expression.

    Args:
        expression: Numbers, + - * / // % ** and brackets.
    """
    # Never eval() what a model wrote: it would run any code at all. This reads the expression's
    # tree and knows numbers and seven operators; whatever else stands there is refused.
    if len(expression) > MAX_CHARACTERS:
        raise ValueError(f"longer than {MAX_CHARACTERS} characters")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except SyntaxError as error:
        raise ValueError(f"not an arithmetic expression: {expression!r}") from error
    return _value(tree.body)


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_value(operand))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            a, b = _value(left), _value(right)
            if isinstance(op, ast.Pow) and abs(a) > 1 and abs(b) * _bits(a) > MAX_BITS:
                raise ValueError("the result would be too large")
            result = _BINARY[type(op)](a, b)
            if isinstance(result, complex):
                raise ValueError("the result is not a real number")
            if _bits(result) > MAX_BITS:
                raise ValueError("the result would be too large")
            return result
    raise ValueError(f"only numbers and + - * / // % ** are known, not {ast.unparse(node)!r}")


def _bits(number: float) -> int:
    return number.bit_length() if isinstance(number, int) else 64


@cache
def _sections() -> list[tuple[str, str, str]]:
    """Every section of the notebooks: (notebook, heading, its words)."""
    found = []
    for path in notebooks.available():
        notebook, heading, body = path.stem, path.stem, []
        for cell in notebooks.read(path).cells:
            if cell.cell_type != "markdown":
                continue
            for line in cell.source.splitlines():
                if line.startswith("#"):
                    found.append((notebook, heading, " ".join(body)))
                    heading, body = line.lstrip("# "), [line]
                body.append(line)
        found.append((notebook, heading, " ".join(body)))
    return [one for one in found if one[2]]


def search_notebooks(query: str) -> list[dict]:
    """
    Search the notebooks for a topic.

    Args:
        query: What to look for.
    """
    words = set(re.findall(r"\w+", query.casefold()))
    ranked = []
    for notebook, heading, body in _sections():
        said = re.findall(r"\w+", body.casefold())
        titled = set(re.findall(r"\w+", heading.casefold()))
        found = words & set(said)
        share = sum(said.count(word) for word in found) / len(said)
        ranked.append((len(found), len(words & titled), share, notebook, heading))
    ranked.sort(reverse=True)
    best = [one for one in ranked if one[0]][:3]
    if not best:
        raise LookupError(f"no notebook mentions {query!r}")
    return [{"notebook": notebook, "section": heading} for *_, notebook, heading in best]


TOOLS = [get_current_population, convert_units, calculate, search_notebooks]
