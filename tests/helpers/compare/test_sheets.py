"""Sheets: what is written down, what is refused, and a replay on a real server."""

import json
import os
import shutil
from contextlib import closing

import pytest
from scripted_chat import lab_of, running, says

from helpers import budget, connect
from helpers.compare import questions, runs, sheets
from helpers.compare.ways import AT_ONCE, Way
from helpers.connection import choices
from helpers.paths import DATA
from labkit import cli
from pocket_model.build import DEFAULT_QUANTIZATION, folder_name

SHIPPED = DATA / "compare" / "pocket-and-base.json"


@pytest.fixture
def made(tmp_path):
    """A comparison of two ways on the pocket server, its sheet and its answers."""
    file = tmp_path / "questions.jsonl"
    rows = [vars(q) for q in questions.load(DATA / "compare" / "questions.jsonl")[:8:4]]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked, lab = questions.load(file), connect("pocket")
    settings = {"temperature": 0, "max_tokens": 8, **lab.seed(1)}
    entrants = [
        runs.on_server(name, lab, Way("chat", system), **settings)
        for name, system in (("chat", ""), ("system", "Answer with one word."))
    ]
    answers = runs.collect(asked, entrants, tmp_path / "first.jsonl")
    scored = runs.score(asked, answers)
    path = sheets.save(sheets.make("Two ways", file, entrants, scored), tmp_path / "first.json")
    yield path, file, answers
    lab.close()


@pytest.mark.pocket
def test_a_replay_gives_the_same_answers(made, tmp_path):
    path, _, answers = made
    sheet, _ = sheets.read(path)
    assert sheets.recorded(path) == answers
    table, new = sheets.replay(path, tmp_path / "again.jsonl")
    assert table["same answers"].tolist() == [1, 1]
    assert table["on file"].tolist() == table["here"].tolist() == [*sheet["right"].values()]
    assert new["entrants"] == sheet["entrants"]
    assert new["prompts_sha256"] == sheet["prompts_sha256"]


@pytest.mark.pocket
def test_the_command(made, tmp_path, capsys):
    path, _, _ = made
    arguments = ["compare", "--sheet", str(path), "--out", str(tmp_path / "out")]
    assert cli.main(arguments) == cli.SUCCESS
    shown = capsys.readouterr().out
    assert "same answers" in shown
    assert (tmp_path / "out" / "first.jsonl").exists()
    sheet = json.loads(path.read_text())
    sheet["right"]["chat"] += 1
    path.write_text(json.dumps(sheet))
    assert cli.main(arguments) == cli.FINDING


def test_the_shipped_answers_are_those_of_todays_entrants():
    """Answers belong to a number of prompts in a batch: a replay would ask anew with another."""
    sheet = json.loads(SHIPPED.read_text())
    assert {entrant["sampling"]["batch"] for entrant in sheet["entrants"]} == {AT_ONCE}


def test_a_paid_backend_needs_a_cap(tmp_path, monkeypatch, capsys):
    sheet = json.loads(SHIPPED.read_text())
    source = {"backend": "openrouter", "model": "mistralai/mistral-small-3.2-24b-instruct"}
    sheet["entrants"][0] |= {"source": source}
    path = tmp_path / "paid.json"
    path.write_text(json.dumps(sheet))
    arguments = ["compare", "--sheet", str(path), "--out", str(tmp_path / "out")]
    for name in (budget.CAP_VARIABLE, budget.SPENT_VARIABLE):  # so that both are restored
        monkeypatch.setenv(name, "0")
    monkeypatch.delenv("OPENROUTER_API_KEY", raising=False)
    assert cli.main(arguments) == cli.BAD_INPUT
    assert "openrouter costs money" in (shown := capsys.readouterr().err)
    assert "--max-usd" in shown
    assert cli.main([*arguments, "--max-usd", "0.05"]) == cli.BAD_INPUT
    assert "OPENROUTER_API_KEY" in capsys.readouterr().err  # it got as far as the key
    assert os.environ[budget.CAP_VARIABLE] == "0.05"


@pytest.mark.parametrize("entrants", [{}, 3, [3], [{"name": "A"}], [{"name": "A", "source": {}}]])
def test_a_sheet_with_incomplete_entrants_is_refused_in_a_line(tmp_path, capsys, entrants):
    path = tmp_path / "sheet.json"
    path.write_text(json.dumps(json.loads(SHIPPED.read_text()) | {"entrants": entrants}))
    assert cli.main(["compare", "--sheet", str(path)]) == cli.BAD_INPUT
    assert "incomplete" in capsys.readouterr().err


@pytest.mark.parametrize("backend", ["openrouter", "vllm", "custom"])
def test_a_sheet_sends_no_key_to_a_server_that_the_user_did_not_choose(
    tmp_path, monkeypatch, capsys, backend
):
    address = "https://other.example/v1"
    sheet = json.loads(SHIPPED.read_text())
    sheet["entrants"][0]["source"] = {"backend": backend, "model": "m", "address": address}
    path = tmp_path / "sheet.json"
    path.write_text(json.dumps(sheet))
    assert cli.main(["compare", "--sheet", str(path), "--max-usd", "1"]) == cli.BAD_INPUT
    error = capsys.readouterr().err
    assert address in error
    assert choices.variable(backend, "URL") in error
    monkeypatch.setenv(choices.variable(backend, "URL"), address + "/")
    sheets.read(path)  # now the user has chosen it


def test_a_sheet_is_not_compared_with_itself(tmp_path, capsys):
    path = tmp_path / SHIPPED.name
    shutil.copy(SHIPPED, path)
    shutil.copy(SHIPPED.with_suffix(".jsonl"), path.with_suffix(".jsonl"))
    assert cli.main(["compare", "--sheet", str(path), "--out", str(tmp_path)]) == cli.BAD_INPUT
    assert "choose another --out" in capsys.readouterr().err
    assert path.read_bytes() == SHIPPED.read_bytes()


@pytest.mark.pocket
def test_the_precision_is_that_of_the_server():
    for quantization in (None, "bf16"):
        with closing(connect("pocket", quantization=quantization)) as lab:
            entrant = runs.on_server("chat", lab, Way("chat"), max_tokens=4)
        assert entrant.source["precision"] == (quantization or DEFAULT_QUANTIZATION)
        assert "address" not in entrant.source


@pytest.mark.pocket
def test_changed_questions_are_refused(made, tmp_path, capsys):
    path, file, _ = made
    file.write_text(file.read_text().replace("France", "Spain"))
    with pytest.raises(sheets.SheetError, match="has changed since"):
        sheets.read(path)
    assert cli.main(["compare", "--sheet", str(path)]) == cli.BAD_INPUT
    assert "would not be comparable" in capsys.readouterr().err
    file.unlink()
    with pytest.raises(sheets.SheetError, match="cannot be read"):
        sheets.read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("nonsense", "is not JSON"),
        ("[]", "is no sheet"),
        ('{"title": "x"}', "lacks questions"),
    ],
)
def test_what_is_no_sheet(tmp_path, content, message):
    path = tmp_path / "sheet.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(sheets.SheetError, match=message):
        sheets.read(path)


@pytest.mark.parametrize(
    "entrant",
    [
        {"name": "A"},
        {"name": "A", "source": {}, "way": {}, "sampling": {}},
        {
            "name": "A",
            "source": {"memory": "pocket"},
            "way": {"template": "poem", "system": "", "examples": []},
            "sampling": {},
        },
    ],
)
def test_an_incomplete_entrant(entrant):
    with (
        pytest.raises(sheets.SheetError, match="incomplete"),
        sheets.entrants({"entrants": [entrant]}),
    ):
        pass


def test_a_sheet_says_how_it_was_made_and_has_no_key(tmp_path):
    with running() as server:
        lab = lab_of(server.url, key="secret-" + "k" * 20)
        server.script = [says("Paris")]
        asked = questions.load(DATA / "compare" / "questions.jsonl")[:1]
        entrant = runs.on_server("chat", lab, Way("chat"), temperature=0.15, max_tokens=4)
        scored = runs.score(asked, runs.collect(asked, [entrant], tmp_path / "answers.jsonl"))
        sheet = sheets.make("One", DATA / "compare" / "questions.jsonl", [entrant], scored)
        lab.close()
    assert sheet["entrants"][0]["source"]["revision"] == runs.NOT_TOLD
    assert sheet["entrants"][0]["sampling"] == {"temperature": 0.15, "max_tokens": 4}
    assert sheet["right"] == {"chat": 1}
    assert {"date", "hardware", "versions"} <= sheet.keys()
    assert "secret" not in json.dumps(sheet) + (tmp_path / "answers.jsonl").read_text()


def test_the_committed_sheet_belongs_to_its_answers_and_questions(tmp_path):
    sheet, asked = sheets.read(SHIPPED)
    right = runs.score(asked, sheets.recorded(SHIPPED)).rights
    assert {name: sum(rights.values()) for name, rights in right.items()} == sheet["right"]
    shutil.copy(SHIPPED.with_suffix(".jsonl"), tmp_path / "answers.jsonl")
    specs = {spec["name"]: spec for spec in sheet["entrants"]}
    known = runs.read(tmp_path / "answers.jsonl")
    for name, spec in specs.items():
        way = Way(**{**spec["way"], "examples": tuple(map(tuple, spec["way"]["examples"]))})
        again = runs.Entrant(name, None, spec["source"], way, spec["sampling"])
        assert all(runs.key(again, question) in known for question in asked)


def test_the_committed_sheet_is_of_the_model_that_is_built_today():
    """Else notebook 08 would compare the base with a model that nobody has any more."""
    sources = [entrant["source"] for entrant in sheets.read(SHIPPED)[0]["entrants"]]
    pocket = [source["revision"] for source in sources if source["memory"] == "pocket"]
    assert pocket == [folder_name()] * 2


def test_inspects_file_belongs_to_the_same_questions():
    content = json.loads((DATA / "compare" / "inspect.json").read_text())
    asked = questions.load(DATA / "compare" / "questions.jsonl")
    assert content["prompts_sha256"] == questions.prompts_hash(asked)
    answers = {"chat": {sample["id"]: sample["answer"] for sample in content["samples"]}}
    right = runs.score(asked, answers).rights["chat"]
    assert right == {sample["id"]: sample["kit"] for sample in content["samples"]}
    share = sum(sample["right"] for sample in content["samples"]) / len(asked)
    assert content["metrics"]["accuracy"] == pytest.approx(share)
