"""The offline tools: against other sources of the same facts, and against abuse."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pint import UndefinedUnitError

from helpers.paths import DATA
from helpers.tools import describe
from labkit import toolbox


@pytest.mark.parametrize("function", toolbox.TOOLS)
def test_every_tool_can_be_described(function):
    schema = describe(function)["function"]
    assert schema["name"] == function.__name__
    assert all(p["description"] for p in schema["parameters"]["properties"].values())


def test_populations_are_the_tables():
    table = json.loads((DATA / "population.json").read_text())
    assert "GeoNames" in table["source"]
    assert table["read"]
    assert len(table["people"]) > 200
    france = toolbox.get_current_population("France", "millions")
    assert france == pytest.approx(table["people"]["France"] / 1e6, abs=0.05)
    assert 60 < france < 75  # whatever the year
    assert toolbox.get_current_population(" france", "thousands") == pytest.approx(
        1000 * france, rel=1e-3
    )
    with pytest.raises(LookupError, match="Atlantis"):
        toolbox.get_current_population("Atlantis", "millions")


@pytest.mark.parametrize(
    ("value", "source", "target", "wanted"),  # exact by definition of the units
    [
        (1, "inch", "millimeters", 25.4),
        (1, "mile", "kilometers", 1.609344),
        (1, "pound", "grams", 453.592),
        (100, "degC", "degF", 212),
        (2, "weeks", "hours", 336),
        (1, "kilobytes", "bytes", 1000),
    ],
)
def test_units(value, source, target, wanted):
    assert toolbox.convert_units(value, source, target) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(("source", "target"), [("miles", "hours"), ("parsnips", "meters")])
def test_impossible_conversions_say_why(source, target):
    with pytest.raises(Exception, match=r"(?i)convert|defined"):
        toolbox.convert_units(1, source, target)


@pytest.mark.parametrize(
    "unit",
    [
        "9**9**9",
        "m^(9^9^9)",
        "(9**9)**9",
        "9⁹⁹⁹⁹⁹",
        "kibibyte**(9*9*9*9*9*9*9*9*9*9)",
        "m**9e9",
        "m" * 100_000,
        "🙂",
        "\ud800",
        "__import__('os')",
    ],
)
def test_a_unit_that_pint_would_compute_for_ever_is_refused(unit):
    for source, target in ((unit, "m"), ("m", unit)):
        # What pint says of a text without any name depends on the version of Python.
        with pytest.raises((ValueError, UndefinedUnitError), match=r"is not (a unit|defined)"):
            toolbox.convert_units(1, source, target)


@pytest.mark.parametrize(
    ("source", "target", "wanted"),
    [
        ("cubic meters", "liters", 1000),
        ("m³", "l", 1000),
        ("m**3", "l", 1000),
        ("m ^ 3", "l", 1000),
        ("kilometers per hour", "m/s", 0.277778),
        ("J/(kg K)", "m²/s²/K", 1),
        ("m s**-2", "cm/s^2", 100),
    ],
)
def test_units_with_small_powers_are_read(source, target, wanted):
    assert toolbox.convert_units(1, source, target) == pytest.approx(wanted, rel=1e-5)


NUMBERS = st.one_of(st.integers(0, 10**6), st.floats(0.001, 1e6).map(lambda x: round(x, 3)))
EXPRESSIONS = st.recursive(
    NUMBERS.map(str),
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from("+-*/"), inner),
    max_leaves=6,
)


@given(EXPRESSIONS)
def test_calculates_as_python_does(expression):
    try:
        wanted = eval(expression)  # made above: numbers and four operators
    except ZeroDivisionError:
        with pytest.raises(ZeroDivisionError):
            toolbox.calculate(expression)
        return
    if len(expression) <= toolbox.MAX_CHARACTERS:
        assert math.isclose(toolbox.calculate(expression), wanted)


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').getcwd()",
        "open('x')",
        "().__class__",
        "[1, 2][0]",
        "x + 1",
        "True + 1",
        "'a' * 9",
        "9 ** 9 ** 9",
        "10 ** 100000",
        "(9 ** 999) ** 999",
        "(-8) ** 0.5",
        "1e308 * 10",
        "1e308 * 10 - 1e308 * 10",
        "1 if 2 else 3",
        "lambda: 1",
        "2 +",
        "",
        "1; 2",
        "(" * 90,
        "1+" * 150 + "1",
    ],
)
def test_refuses_what_is_no_arithmetic(expression):
    with pytest.raises(ValueError, match=r"\w"):
        toolbox.calculate(expression)


@pytest.mark.parametrize(
    ("query", "notebook"),
    [("double quantization", "02"), ("seed", "03"), ("KV cache", "01"), ("tool_choice", "05")],
)
def test_search_finds_the_notebook(query, notebook):
    assert notebook in {hit["notebook"][:2] for hit in toolbox.search_notebooks(query)}


def test_search_says_when_there_is_nothing():
    with pytest.raises(LookupError, match="zzyzx"):
        toolbox.search_notebooks("zzyzx")
