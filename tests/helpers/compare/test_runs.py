"""Runs: every answer is kept, a run resumes, and a fault of a rule is not a wrong answer."""

import json

import pytest
from scripted_chat import MODEL, lab_of, running, says

from helpers.compare import questions, runs, scorers
from helpers.compare.questions import Question
from helpers.compare.ways import Way
from pocket_model import progress

ASKED = [
    Question("a", "one", "Say red.", {"rule": "says", "any_of": ["red"]}),
    Question("b", "one", "Say blue.", {"rule": "says", "any_of": ["blue"]}),
    Question("c", "two", "Say 5.", {"rule": "number", "value": 5}),
]
CHAT = Way("chat")


def entrant(name, *answers, error=None, seen=None):
    """An entrant with written answers. It raises `error` when they are used up."""

    def ask(prompts):
        if seen is not None:
            seen.append(list(prompts))
        yield from answers
        if error:
            raise error

    return runs.Entrant(name, ask, {"model": name}, CHAT, {"temperature": 0})


def test_answers_come_in_order_and_are_kept(tmp_path):
    path = tmp_path / "new" / "answers.jsonl"
    found = runs.collect(ASKED, [entrant("A", "red", "no", "5"), entrant("B", "1", "2", "3")], path)
    assert found == {"A": {"a": "red", "b": "no", "c": "5"}, "B": {"a": "1", "b": "2", "c": "3"}}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(r["entrant"], r["question"], r["answer"]) for r in lines][:2] == [
        ("A", "a", "red"),
        ("A", "b", "no"),
    ]


def test_a_backend_that_dies_loses_nothing(tmp_path):
    path, seen = tmp_path / "answers.jsonl", []
    dying = entrant("A", "red", "blue", error=ConnectionError("reset by peer"))
    with pytest.raises(runs.BrokenOff, match=r"A answered 2 of 3 questions.*kept in answers.jsonl"):
        runs.collect(ASKED, [dying], path)
    found = runs.collect(ASKED, [entrant("A", "5", seen=seen)], path)
    assert seen == [["Say 5."]]
    assert found["A"] == {"a": "red", "b": "blue", "c": "5"}
    runs.collect(ASKED, [entrant("A", error=AssertionError("asked again"), seen=seen)], path)
    assert len(seen) == 1


def test_a_kill_in_the_middle_of_a_line_loses_that_line_only(tmp_path):
    path = tmp_path / "answers.jsonl"
    runs.collect(ASKED[:2], [entrant("A", "red", "blue")], path)
    path.write_bytes(path.read_bytes()[:-9])
    seen = []
    runs.collect(ASKED, [entrant("A", "blue again", "5", seen=seen)], path)
    assert seen == [["Say blue.", "Say 5."]]


def test_a_server_that_fails_half_way(tmp_path):
    """A real connection: two answers, then a refused key; afterwards the rest."""
    path = tmp_path / "answers.jsonl"
    with running() as server:
        lab = lab_of(server.url)
        asking = [runs.on_server("chat", lab, Way("chat", "Be brief."), temperature=0)]
        refused = {"error": {"message": "bad key", "code": 401}}
        server.script = [says("red"), says("blue"), (401, refused)]
        with pytest.raises(runs.BrokenOff, match=r"chat answered 2 of 3 questions.*401"):
            runs.collect(ASKED, asking, path)
        server.script = [says("5")]
        assert runs.collect(ASKED, asking, path)["chat"] == {"a": "red", "b": "blue", "c": "5"}
        assert len(server.seen) == 4
        assert server.seen[-1]["messages"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Say 5."},
        ]
        assert server.seen[-1]["model"] == MODEL
        lab.close()


def test_an_entrant_that_gives_too_few_answers(tmp_path):
    with pytest.raises(runs.BrokenOff, match=r"1 of 3 .*it gave no more answers"):
        runs.collect(ASKED, [entrant("A", "red")], tmp_path / "answers.jsonl")


def test_other_settings_are_other_answers(tmp_path):
    path = tmp_path / "answers.jsonl"
    first = entrant("A", "1", "2", "3")
    runs.collect(ASKED, [first], path)
    for field, value in (
        ("source", {"model": "other"}),
        ("way", Way("chat", "Hi")),
        ("sampling", {"temperature": 1}),
    ):
        changed = runs.Entrant(**{**vars(first), field: value})
        assert runs.key(changed, ASKED[0]) != runs.key(first, ASKED[0])
    renamed = runs.Entrant(**{**vars(first), "name": "another name"})
    assert runs.key(renamed, ASKED[0]) == runs.key(first, ASKED[0])


def test_two_entrants_of_one_name_and_a_file_of_something_else(tmp_path):
    with pytest.raises(ValueError, match="name of its own"):
        runs.collect(ASKED, [entrant("A"), entrant("A")], tmp_path / "answers.jsonl")
    other = tmp_path / "other.jsonl"
    other.write_text('{"question": "a"}\n')
    with pytest.raises(ValueError, match="something else than a comparison's answers"):
        runs.collect(ASKED, [entrant("A")], other)


def test_scores_and_reasons():
    scored = runs.score(ASKED, {"A": {"a": "red", "b": "green", "c": "five"}})
    assert scored.rights == {"A": {"a": True, "b": False, "c": True}}
    assert scored.wrong == {"A": {"b": "none of ['blue']"}}
    assert scored.unscored == {}


def test_a_scorer_that_raises_counts_for_nobody(monkeypatch):
    def broken(answer, value):
        raise ZeroDivisionError("mine")

    monkeypatch.setitem(scorers.SCORERS, "number", broken)
    answers = {"A": dict.fromkeys("abc", "red"), "B": dict.fromkeys("abc", "blue")}
    scored = runs.score(ASKED, answers)
    assert scored.unscored == {"c": "ZeroDivisionError: mine"}
    assert scored.rights == {"A": {"a": True, "b": False}, "B": {"a": False, "b": True}}


def test_a_scorer_that_raises_for_one_entrant_only_counts_for_nobody(monkeypatch):
    def fragile(answer, value):
        return None if answer == "x" else answer[99]

    monkeypatch.setitem(scorers.SCORERS, "number", fragile)
    scored = runs.score(ASKED, {"A": dict.fromkeys("abc", "x"), "B": dict.fromkeys("abc", "")})
    assert [*scored.unscored] == ["c"]
    assert {*scored.rights["A"]} == {*scored.rights["B"]} == {"a", "b"}
    assert "c" not in scored.wrong["A"] | scored.wrong["B"]


def test_a_missing_answer_is_said():
    with pytest.raises(ValueError, match="B has no answer to b"):
        runs.score(ASKED, {"A": dict.fromkeys("abc", ""), "B": {"a": "", "c": ""}})


def test_a_server_gets_no_bare_text(tmp_path):
    with running() as server:
        lab = lab_of(server.url)
        asking = runs.on_server("plain", lab, Way("plain"))
        with pytest.raises(runs.BrokenOff):
            runs.collect(ASKED, [asking], tmp_path / "answers.jsonl")
        assert server.seen == []
        lab.close()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "no questions"),
        ('{"id": "a", "family": "f", "prompt": "p"}\n', "question 1: wanted are"),
        ('{"id": "a", "family": "f", "prompt": "p", "rule": {}}\n' * 2, "'a' is there twice"),
        ("nonsense\n{}\n", "line 1 is not a JSON object"),
    ],
)
def test_a_damaged_file_of_questions(tmp_path, lines, message):
    path = tmp_path / "questions.jsonl"
    path.write_text(lines)
    with pytest.raises(ValueError, match=message):
        questions.load(path)


def test_the_hash_changes_with_prompt_and_rule_only():
    before = questions.prompts_hash(ASKED)
    assert questions.prompts_hash(list(ASKED)) == before
    for field, value in (("prompt", "Say red!"), ("rule", {"rule": "exact", "text": "red"})):
        changed = [Question(**{**vars(ASKED[0]), field: value}), *ASKED[1:]]
        assert questions.prompts_hash(changed) != before


def test_a_running_notebook_shows_how_many_answers_there_are(tmp_path, monkeypatch):
    shown = []

    class View:
        def begin(self, title):
            shown.append(title)

        def show(self, doing, done, seconds):
            shown.append(doing)

        def end(self, sentence):
            shown.append("ended")

    monkeypatch.setattr(progress, "_choose_view", lambda lines: View())
    monkeypatch.setattr(runs, "Progress", lambda title, **_: progress.Progress(title))
    runs.collect(ASKED[:2], [entrant("A", "red", "no")], tmp_path / "answers.jsonl")
    assert shown == ["Asking", "starting", "A: 0 of 2", "A: 1 of 2", "ended"]
    shown.clear()
    dying = entrant("B", "red", error=ConnectionError("reset by peer"))
    with pytest.raises(runs.BrokenOff):
        runs.collect(ASKED, [dying], tmp_path / "broken.jsonl")
    assert shown[-1] == "ended"
