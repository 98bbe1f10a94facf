"""Tools that do real work without a network: the functions that notebook 05 offers a model.

Each is an ordinary function with type hints and a docstring, as `helpers.tools.describe` needs it.
A question without an answer raises an exception that says why. `run_tools` sends its message to
the model.
"""

import ast
import json
import math
import operator
import re
from functools import cache
from typing import TYPE_CHECKING, Literal

import nbformat

from helpers.paths import DATA, NOTEBOOKS

if TYPE_CHECKING:
    import pint

# Limits of `calculate`: characters of the expression, bits of a number. 9**9**9 would never end.
MAX_CHARACTERS, MAX_BITS = 200, 4096


@cache
def _people() -> dict[str, int]:
    table = json.loads((DATA / "population.json").read_text(encoding="utf-8"))
    return {name.casefold(): people for name, people in table["people"].items()}


def get_current_population(country: str, unit: Literal["millions", "thousands"]) -> float:
    """
    Get the up-to-date population of a given country.

    Args:
        country: The country to find the population of.
        unit: The unit for the population.
    """
    # The description is a quotation from the model card. data/population.json has its date.
    people = _people().get(country.strip().casefold())
    if people is None:
        raise LookupError(f"no country named {country!r} in the table")
    return round(people / {"millions": 1e6, "thousands": 1e3}[unit], 1)


@cache
def _units() -> "pint.UnitRegistry":
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
    for unit in (from_unit, to_unit):
        _require_unit(unit)
    units = _units()
    try:
        # ".to" also adds an offset: degC and degF have different zero points.
        return float(f"{units.Quantity(value, from_unit).to(to_unit).magnitude:.6g}")
    except (AssertionError, UnicodeError) as error:  # pint has no words for some texts
        raise ValueError(f"{from_unit!r} or {to_unit!r} is not a unit") from error


def _require_unit(text: str) -> None:
    """Refuse what pint would compute for ever: in a unit, 9**9**9 is a number as well."""
    from pint.util import string_preprocessor  # writes "cubic m", "m³" and "m^3" as m**3

    known = string_preprocessor(text) if len(text) <= MAX_CHARACTERS else "**"
    # A power is a name's, and its exponent has one digit.
    powers = re.findall(r"[^\W\d]\w*\s*\*\*\s*(?:\(-?\d\)|-?\d)(?![\w.]|\s*\*\*)", known)
    if known.count("**") != len(powers):
        raise ValueError(f"{text[:40]!r} is not a unit such as meters, km/h or m**2")


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
    # Never eval() the text of a model: it can be any code. This walks the expression's syntax
    # tree, which may have numbers and seven operators; anything else is refused.
    if len(expression) > MAX_CHARACTERS:
        raise ValueError(f"longer than {MAX_CHARACTERS} characters")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except SyntaxError as error:
        raise ValueError(f"not an arithmetic expression: {expression!r}") from error
    result = _value(tree.body)
    if isinstance(result, float) and not math.isfinite(result):
        raise ValueError("the result would be too large")
    return result


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
    """Every section of the notebooks: notebook, heading, text."""
    sections = []
    for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        for section in re.split(r"^(?=#)", prose, flags=re.MULTILINE):
            if section.strip():
                heading = section.splitlines()[0].lstrip("# ")
                sections.append((path.stem, heading, section))
    return sections


def search_notebooks(query: str) -> list[dict]:
    """
    Search the notebooks for a topic.

    Args:
        query: What to look for.
    """
    wanted = _words(query)
    ranked = []
    for notebook, heading, text in _sections():
        words = _words(text)
        matches = set(wanted) & set(words)
        if matches:
            in_heading = len(set(wanted) & set(_words(heading)))
            share = sum(words.count(word) for word in matches) / len(words)
            ranked.append((len(matches), in_heading, share, notebook, heading))
    if not ranked:
        raise LookupError(f"no notebook mentions {query!r}")
    best = sorted(ranked, reverse=True)[:3]
    return [{"notebook": notebook, "section": heading} for *_, notebook, heading in best]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


TOOLS = [get_current_population, convert_units, calculate, search_notebooks]
