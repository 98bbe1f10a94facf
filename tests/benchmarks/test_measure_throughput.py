"""The arithmetic of the throughput benchmark. No server is started."""

import importlib
import re

import pytest

from helpers.paths import ROOT

BASELINES = {"fast": "plain", "plain": "plain"}


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        yield importlib.import_module("measure_throughput")


def rows(rates, beside="alone", users=1):
    """A row for each round of each server, in the order in which a round measures them."""
    return [
        {"round": number, "beside": beside, "users": users, "server": server, "tokens_per_s": rate}
        for number, pair in enumerate(zip(*rates.values(), strict=True))
        for server, rate in reversed(list(zip(rates, pair, strict=True)))
    ]


def test_the_roofline_grows_with_users_until_their_caches_count(script):
    assert script.roofline(100e6, 0, 1, 10e9) == 100
    assert script.roofline(100e6, 0, 4, 10e9) == 400
    assert script.roofline(100e6, 25e6, 4, 10e9) == 200  # the caches are as large as the weights


def test_a_ratio_is_to_the_baseline_in_the_same_round(script):
    # The machine became slower: the rates say so, the ratios 4, 5 and 3 do not.
    measured = rows({"fast": [400, 250, 60], "plain": [100, 50, 20]})
    table = script.summarize(measured, BASELINES, {(1, "fast"): 500, (1, "plain"): 100})
    fast = table.loc["alone", 1, "fast"]
    assert fast["tokens/s"].to_dict() == {"median": 250, "min": 60, "max": 400}
    assert fast["% of the roofline"].to_dict() == {"median": 50, "min": 12, "max": 80}
    assert fast["ratio"].to_dict() == {"median": 4, "min": 3, "max": 5}
    assert set(table.loc["alone", 1, "plain"]["ratio"]) == {1}


def test_conditions_are_not_mixed(script):
    measured = rows({"fast": [300], "plain": [100]})
    measured += rows({"fast": [80], "plain": [10]}, beside="busy")
    measured += rows({"fast": [900], "plain": [90]}, users=4)
    limits = {(users, server): 100 * users for users in (1, 4) for server in BASELINES}
    table = script.summarize(measured, BASELINES, limits)
    ratios = table["ratio", "median"].xs("fast", level="server")
    assert ratios.to_dict() == {("alone", 1): 3, ("alone", 4): 10, ("busy", 1): 8}
    assert table.loc[("alone", 4, "fast"), ("% of the roofline", "median")] == 225


def test_without_the_baseline_there_is_no_ratio(script):
    table = script.summarize(rows({"fast": [300]}), BASELINES, {(1, "fast"): 600})
    assert table["ratio"].isna().all(axis=None)
    assert table.loc[("alone", 1, "fast"), ("% of the roofline", "median")] == 50


def test_the_text_has_the_interval_of_each_figure_and_the_servers_in_order(script):
    measured = rows({"fast": [400, 250, 60], "plain": [100, 50, 20]})
    limits = {(1, "fast"): 500, (1, "plain"): 100}
    lines = script.as_text(script.summarize(measured, BASELINES, limits)).splitlines()
    fast, plain = (re.split(r"\s{2,}", line)[-4:] for line in lines[-2:])
    assert fast == ["fast", "250 [60–400]", "50 [12–80]", "4.00 [3.00–5.00]"]
    assert plain == ["plain", "50 [20–100]", "50 [20–100]", "1.00 [1.00–1.00]"]
