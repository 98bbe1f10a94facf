"""The published tables of scores, and their origin."""

import pytest

from labkit.audit import published_scores


def test_published_tables_say_whose_they_are():
    assert len(published_scores.names()) >= 4
    for name in published_scores.names():
        scores = published_scores.load(name)
        models = [tuple(row.scores) for row in scores.rows]
        assert len(set(models)) == 1, f"{name}: a row lacks a model"
        assert scores.date <= scores.read
        assert str(scores.date) in published_scores.table(name).attrs["source"]


def test_the_table_of_3_2():
    table = published_scores.table("small-3.2-2506")
    assert len(table) == 17
    assert table.loc["WildBench v2", "Small 3.2"] == 65.33
    rows = published_scores.load("small-3.2-2506").rows
    lower = [row.benchmark for row in rows if not row.higher_is_better]
    assert lower == ["infinite generations (internal)"]


def test_shares_of_people_add_up():
    human = published_scores.table("small-3-2501-human").drop(columns=["group", "unit"])
    assert human.sum().tolist() == pytest.approx([1.0] * 4)


def test_an_unknown_table_names_the_known_ones():
    with pytest.raises(KeyError, match="small-3-2501-human"):
        published_scores.load("small-4")
