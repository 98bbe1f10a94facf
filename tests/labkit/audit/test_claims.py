"""The claims file, and that each computed verdict follows from the numbers it is given."""

import json
import re
from datetime import date

import pytest
import yaml
from pydantic import ValidationError

from helpers.model import configs
from labkit.audit import claim_checks, claims, published_scores
from labkit.audit.claim_checks import CHECKS

ALL = claims.read().claims
COMPUTED = [claim for claim in ALL if claim.how == "computed"]


def test_five_articles_and_enough_that_is_recomputed():
    assert set(claims.sources()["language"]) == {"Portuguese", "Japanese", "Chinese"}
    assert len(claims.sources()) == 5
    assert len(ALL) >= 55
    assert len(COMPUTED) >= 20


@pytest.mark.parametrize("claim", COMPUTED, ids=lambda claim: claim.id)
def test_the_computation_gives_the_verdict_and_the_value_on_file(claim):
    assert claim.compute() == (claim.value, claim.verdict)


def test_a_wrong_verdict_or_value_would_be_seen(monkeypatch):
    right = claims.load("small32-infinite-halved")
    for fault in ({"verdict": "right"}, {"value": "−50.0 %"}):
        wrong = right.model_copy(update=fault)
        planted = claims.Claims(
            sources={"card-ja": claims.read().sources["card-ja"]}, claims=[wrong]
        )
        monkeypatch.setattr(claims, "read", lambda planted=planted: planted)
        assert not claims.recompute()["agrees"].any()
        assert claims.main(["--recompute"]) == 1


# Other numbers in the claim, another verdict: the checks do not know the answer.
OTHER_NUMBERS = [
    ("small3-parameters", {"billions": 22}, "wrong"),
    ("small3-mmlu", {"percent": 80}, "right"),
    ("small3-150-tokens", {"tokens_per_s": 70}, "plausible"),
    ("small3-150-tokens", {"gpu": "H200", "tokens_per_s": 104}, "plausible"),
    ("small3-fewer-layers", {"rivals": ["mistral-7b-v0.3"]}, "wrong"),
    ("small3-three-times-faster", {"times": 6}, "misleading"),
    ("small3-matches-llama", {"rival": "Gemma 2 27B"}, "right"),
    ("small3-rtx-4090", {"cards": ["T4 (Colab)"]}, "misleading"),
    ("openrouter-model-id", {"model": "mistralai/mistral-small-24b-instruct-2501"}, "right"),
    (
        "openrouter-first-choice",
        {"reply": {"choices": [{"message": {"content": "hello"}}]}},
        "right",
    ),
    ("openrouter-first-choice", {"reply": {"choices": None}}, "misleading"),
    ("small32-infinite-halved", {"after": 1.055}, "right"),
    ("small32-never-worse", {"groups": ["instructions"]}, "right"),
    ("small32-languages", {"claimed": 25}, "half true"),
    ("small32-languages", {"listed": ["English", "English"], "claimed": 2}, "half true"),
    ("small32-55-gb", {"gigabytes": 48}, "wrong"),
    ("small32-picture-limit", {"old": '{"image": 10}'}, "right"),
    ("small32-max-tokens", {"max_tokens": 16384}, "right"),
    ("small32-tool-ids", {"ids": ["call_abc1"]}, "wrong"),
    ("small32-tool-ids", {"ids": ["bbc5b7ede\n"]}, "wrong"),
    ("mistral7b-window", {"window": 8192}, "wrong"),
    ("mistral7b-window", {"later": "mistral-7b-v0.1"}, "right"),
    ("mistral7b-five-times", {"billions": 23}, "wrong"),
    ("llama2-context", {"tokens": 4096}, "right"),
    ("essay-wildbench", {"score": 52.3, "rival": "Llama 3.3 70B"}, "right"),
    ("essay-wildbench", {"rival": "Llama 3.3 70B"}, "wrong"),
    ("essay-humaneval", {"score": 84.8, "rival": "Gemma 2 27B"}, "right"),
    ("essay-layers", {"percent": 50, "rivals": ["llama-3.3-70b"]}, "right"),
    ("essay-layers", {"percent": 30}, "wrong"),
    ("essay-dynamic-window", {"config": "mistral-7b-v0.1"}, "plausible"),
    ("essay-a100", {"seconds": 60}, "plausible"),
    ("essay-a100-llama", {"gpu": "H200", "seconds": 2048}, "plausible"),
    ("essay-16-gb", {"gigabytes": 24}, "right"),
    ("essay-16-gb", {"gigabytes": 15}, "wrong"),
    ("essay-price", {"usd_per_million": 0.06}, "plausible"),
    ("essay-gsm8k", {"points": 5}, "plausible"),
    ("essay-kv-quarter", {"share": 0.5}, "wrong"),
    ("essay-colab", {"card": "RTX 4090"}, "plausible"),
    ("essay-14-gb", {"gigabytes": 13}, "wrong"),
    ("essay-roadmap-vision", {"config": "mistral-small-3.1-2503"}, "wrong"),
    ("essay-roadmap-vision", {"later": "mistral-small-3-2501"}, "unverifiable"),
    ("essay-roadmap-128k", {"tokens": 200_000}, "wrong"),
]


@pytest.mark.parametrize(("claim_id", "other", "verdict"), OTHER_NUMBERS)
def test_the_verdict_follows_the_numbers(claim_id, other, verdict):
    claim = claims.load(claim_id)
    assert CHECKS[claim.check](**(claim.given | other)).verdict == verdict


def test_every_check_is_used():
    assert {claim.check for claim in COMPUTED} == set(CHECKS)


def test_by_hand():
    """The best-known figures, without the kit's own arithmetic."""
    change, rate, ratio = 100 * (1.29 / 2.11 - 1), 2048 / 13.7, 41.2 / 13.7
    assert (change, rate, ratio) == pytest.approx((-38.9, 149.5, 3.007), abs=0.05)
    blocks, head = 40 * (2 * 5120 * 4096 + 2 * 5120 * 1024 + 3 * 5120 * 32768), 131072 * 5120
    assert 2039e9 / (2 * (blocks + head)) == pytest.approx(44.5, abs=0.05)
    assert "149.5 tokens/s; at most 44.5 " in claims.load("essay-a100").value
    assert 2 * 40 * 8 * 128 * 2 == 160 * 1024
    assert 2 * 40 * 32 * 128 * 2 == 640 * 1024
    human = published_scores.table("small-3-2501-human").groupby("group")["Llama 3.3 70B"].sum()
    assert human["for the other"] == pytest.approx(0.41, abs=0.005)
    assert human["for Small 3"] == pytest.approx(0.36, abs=0.005)
    assert "41 % to 36 %" in claims.load("small3-matches-llama").evidence


@pytest.mark.parametrize(
    "tool_id", ["bbc5b7ede", "3e92V6Vfo", "call_abc1", "a1b2c3d4", "a1b2c3d4e5", "abc defgh"]
)
def test_the_rule_for_tool_ids_is_mistral_commons(tool_id):
    from mistral_common.exceptions import InvalidFunctionCallException
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.protocol.instruct.validator import MistralRequestValidatorV3

    call = {"id": tool_id, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Call f."},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": tool_id, "name": "f", "content": "done"},
    ]
    request = ChatCompletionRequest.from_openai(messages=messages)
    try:
        MistralRequestValidatorV3().validate_request(request)
        taken = True
    except InvalidFunctionCallException:
        taken = False
    assert (CHECKS["tool_call_ids"]([tool_id]).verdict == "right") == taken


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


def test_the_model_and_the_legend_have_the_same_verdicts():
    assert set(claims.VERDICTS) == set(claims.Verdict.__args__)


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
    assert claims.main(["--verdict", "wrong", "--source", "Chinese"]) == 0
    out = capsys.readouterr().out
    assert "WRONG         It uses dynamic window attention." in out
    assert claims.main(["--verdict", "lie"]) == 2
    assert "unverifiable" in capsys.readouterr().err


def test_the_command_recomputes(capsys):
    assert claims.main(["--recompute"]) == 0
    number = len(COMPUTED)
    assert f"{number} recomputed, {number} as the file says" in capsys.readouterr().out


# --- the published tables -------------------------------------------------------------------------


def test_published_tables_say_whose_they_are():
    assert len(published_scores.names()) >= 4
    for name in published_scores.names():
        one = published_scores.load(name)
        models = [tuple(row.scores) for row in one.rows]
        assert len(set(models)) == 1, f"{name}: a row lacks a model"
        assert one.date <= one.read
        assert str(one.date) in published_scores.table(name).attrs["source"]


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


def test_a_price_list_of_another_day_is_read(tmp_path, monkeypatch):
    prices = {"models": {"mistralai/x": {"input": 0.3, "output": 0.4}}}
    (tmp_path / "prices.json").write_text(json.dumps(prices), encoding="utf-8")
    monkeypatch.setattr(claim_checks, "DATA", tmp_path)
    assert CHECKS["price"]("mistralai/x", 0.38) == ("$0.30 in and $0.40 out", "plausible")


def test_layers_come_from_the_configs():
    names = ["mistral-small-3-2501", "llama-3.3-70b", "qwen2.5-32b", "gemma-2-27b"]
    layers = [configs.load(name).get_text_config().num_hidden_layers for name in names]
    assert layers == [40, 80, 64, 46]
