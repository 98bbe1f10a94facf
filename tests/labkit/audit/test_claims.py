"""The claims file, the table of it, and the command that shows both."""

import re
from datetime import date

import pytest
import yaml
from pydantic import ValidationError

from labkit.audit import claims, published_scores
from labkit.cli import main

ALL = claims.read().claims
COMPUTED = [claim for claim in ALL if claim.how == "computed"]


def test_five_articles_and_enough_that_is_recomputed():
    articles = claims.read().sources.values()
    assert {article.language for article in articles} == {"Portuguese", "Japanese", "Chinese"}
    assert len(articles) == 5
    assert len(ALL) >= 55
    assert len(COMPUTED) >= 20


def test_a_wrong_verdict_or_value_would_be_seen(monkeypatch):
    right = claims.load("small32-infinite-halved")
    for fault in ({"verdict": "right"}, {"value": "−50.0 %"}):
        wrong = right.model_copy(update=fault)
        sources = {"card-ja": claims.read().sources["card-ja"]}
        planted = claims.Claims(topics=[wrong.topic], sources=sources, claims=[wrong])
        monkeypatch.setattr(claims, "read", lambda planted=planted: planted)
        assert not claims.recompute()["agrees"].any()
        assert main(["claims", "--recompute"]) == 1


# --- the file -------------------------------------------------------------------------------------


def test_dates_quotes_and_sources_by_what_they_are():
    for claim in ALL:
        assert claim.quote.strip(), claim.id
        assert claim.date <= date.today(), claim.id
    text = claims.FILE.read_text(encoding="utf-8") + "".join(
        path.read_text(encoding="utf-8") for path in published_scores.FOLDER.glob("*.json")
    )
    assert not re.search(r"(^|\s)/[a-z]+/|source 0\d|\.txt\b", text)  # named by title, not by file


FAULTS = {
    "computed without a check": {"check": None},
    "a check that does not exist": {"check": "guess"},
    "a check on what is only sourced": {"how": "sourced"},
    "a verdict of its own": {"verdict": "true"},
    "a topic of its own": {"topic": "things"},
    "no source": {"sources": []},
    "a source that is not listed": {"sources": ["elsewhere"]},
    "a field that does not exist": {"opinion": "good"},
    "a date that is none": {"date": "lately"},
}


def _file(**fault) -> dict:
    raw = yaml.safe_load(claims.FILE.read_text(encoding="utf-8"))
    raw["claims"][0] |= fault
    return raw


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_row_with_a_fault_is_refused(fault):
    claims.Claims.model_validate(_file())
    with pytest.raises(ValidationError):
        claims.Claims.model_validate(_file(**fault))


def test_two_rows_of_one_name_are_refused():
    raw = _file()
    raw["claims"].append(raw["claims"][0])
    with pytest.raises(ValidationError, match="more than one claim is called small3-parameters"):
        claims.Claims.model_validate(raw)


# --- the table and the command --------------------------------------------------------------------


def test_the_table_shows_every_claim_with_a_verdict():
    frame = claims.table()
    assert len(frame) == len(ALL)
    assert frame["verdict"].isin(list(claims.VERDICTS)).all()


def test_filters():
    assert set(claims.table(verdict="wrong")["verdict"]) == {"wrong"}
    assert set(claims.table(verdict=["wrong", "outdated"])["verdict"]) == {"wrong", "outdated"}
    assert set(claims.table(topic="memory")["topic"]) == {"memory"}
    assert set(claims.table(how="computed").index) == {claim.id for claim in COMPUTED}
    chinese = claims.table(source="chinese", verdict="unverifiable")
    assert "essay-medqa" in chinese.index
    assert chinese["language"].str.contains("Chinese").all()
    assert set(claims.table(source="Mistral 7B").index) == {
        claim.id for claim in ALL if claim.sources == ["review-ja"]
    }


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ({"verdict": "lie"}, "vendor claim"),
        ({"topic": "weather"}, "memory"),
        ({"how": "guessed"}, "sourced"),
        ({"source": "Klingon"}, "apidog-ja"),
    ],
)
def test_an_unknown_word_names_the_known_ones(wanted, named):
    with pytest.raises(ValueError, match=named):
        claims.table(**wanted)


def test_an_unknown_claim_names_the_known_ones():
    with pytest.raises(KeyError, match="small3-mmlu"):
        claims.load("small4-mmlu")


def test_what_is_not_computed_says_so():
    with pytest.raises(ValueError, match="cannot be computed"):
        claims.load("essay-medqa").compute()


def test_the_command(capsys):
    assert main(["claims", "--verdict", "wrong", "--source", "Chinese"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"essay-dynamic-window +wrong +It uses dynamic window attention\.", out)
    assert main(["claims", "--verdict", "lie"]) == 2
    assert "unverifiable" in capsys.readouterr().err


def test_the_command_recomputes(capsys):
    assert main(["claims", "--recompute"]) == 0
    number = len(COMPUTED)
    assert f"{number} recomputed, {number} as the file says" in capsys.readouterr().out
