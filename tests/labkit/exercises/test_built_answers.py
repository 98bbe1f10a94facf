"""Exercises that ask for a function or a request: right answers of any type, and wrong ones."""

import re

import pytest
from built_answers import CASES, FAULTS, SLOW_FAULTS, WRITTEN
from obedient_model import serving
from solutions import solve

from helpers.backends import Lab
from helpers.connection.client import make_client
from labkit.exercises import apart, engine
from labkit.exercises.engine import BUILD, USE, assess, load_all

EXERCISES = load_all()
BUILDS = [name for name, exercise in EXERCISES.items() if exercise.kind == BUILD]
JARGON = re.compile(r"\w*(Error|Exception)\b|NoneType|Traceback|<class|object at 0x|instance of")


@pytest.fixture(scope="module")
def obedient():
    """A lab whose model does what it is told, and its server."""
    with serving() as served:
        yield served


def expect(found, words):
    """The verdict is right, or it says `words`."""
    assert found.right is (words is None), found.message
    if words is None:
        return
    assert words in found.message
    assert not JARGON.search(found.message), found.message
    assert len(found.message) <= 300, found.message
    assert found.message.endswith((".", "!", "?", "…", "answer, lab)")), found.message


@pytest.mark.parametrize(
    ("name", "answer", "words"), CASES, ids=[f"{c[0]}-{n}" for n, c in enumerate(CASES)]
)
def test_a_right_answer_passes_and_a_wrong_one_gets_its_sentence(name, answer, words, obedient):
    lab = obedient[0] if EXERCISES[name].needs_reply else None
    expect(assess(name, answer, lab), words)


@pytest.mark.parametrize("name", BUILDS)
def test_common_faults_get_words(name):
    for fault, words in FAULTS:
        expect(assess(name, fault), words)


@pytest.mark.parametrize(
    ("fault", "words"), SLOW_FAULTS, ids=[fault.__name__ for fault, _ in SLOW_FAULTS]
)
def test_no_answer_does_harm(fault, words):
    expect(assess("01-kv", fault), words)
    assert not WRITTEN.exists()


def test_a_loop_without_end_in_a_later_test_does_not_hide_the_first(monkeypatch):
    monkeypatch.setattr(apart, "SECONDS", 3.0)

    def answer(layers, heads, size, tokens, users):
        while users > 1:
            pass
        return 4 * layers * heads * size * tokens

    found = assess("01-kv", answer)
    assert [hint if hint in (None, ...) else "said" for _, hint in found.tests] == [
        None, None, "said", ...,
    ]  # fmt: skip
    assert "did not end in time" in found.message


def test_what_the_function_prints_is_shown():
    def answer(layers, heads, size, tokens, users):
        print("tokens:", tokens, end="")
        return 4 * layers * heads * size * tokens * users

    found = assess("01-kv", answer)
    assert found.right
    assert found.printed.startswith("tokens: 1\n")


def test_an_answer_that_uses_a_connection_of_the_notebook_is_told_so(obedient):
    lab, _ = obedient
    found = assess("00-history", lambda messages, reply, question: lab.client)
    assert not found.right
    assert "such as a connection" in found.message


def failed(name, answer):
    """The names of the tests that an answer fails."""
    return [test for test, hint in assess(name, answer).tests if hint]


def test_a_mark_is_missing_only_where_the_fault_is():
    from built_answers import gqa

    def without_reply(messages, reply, question):
        return [*messages, {"role": "user", "content": question}]

    def by_twos(messages, number, text):
        return [*messages[: 2 * (number - 1)], {"role": "user", "content": text}]

    assert failed("00-history", without_reply) == ["the model's reply comes before it"]
    in_threes = failed("01-gqa", lambda q, k, v: gqa(q, k, v, share=lambda head, *_: head // 3))
    assert in_threes == [
        "neighbouring query heads share a key/value head",
        "the 24B's ratio: 32 query heads, 8 key/value heads",
    ]
    assert failed("10-edit", by_twos) == [
        "the second question: what was before it stays, the tool's messages too",
        "a system message stays, and is no question",
    ]


def test_every_build_exercise_has_named_tests_an_example_and_three_hints():
    for name in BUILDS:
        exercise = EXERCISES[name]
        assert len(exercise.tests) >= 2, name
        assert exercise.example, name
    for name, exercise in EXERCISES.items():
        assert len(exercise.hints) == 3, name
        assert exercise.hints[0].endswith("?"), name
        assert (
            'Look at "' in exercise.hints[1]
            or "notebook" in exercise.hints[1]
            or ("is in" in exercise.hints[1])
        ), name
        assert exercise.hints[2].startswith("Half of it"), name


def test_each_notebook_has_three_exercises_and_one_to_build():
    for number in sorted({name[:2] for name in EXERCISES}):
        own = [exercise for name, exercise in EXERCISES.items() if name[:2] == number]
        assert len(own) >= 3
        assert any(exercise.kind == BUILD for exercise in own)


# What is sent to a model


def sending():
    return [name for name, exercise in EXERCISES.items() if exercise.send]


def test_exercises_that_use_the_model_send_something():
    assert {name for name, each in EXERCISES.items() if each.kind == USE} <= set(sending())


def test_swapping_the_image_the_result_and_the_name_is_seen(obedient):
    from built_answers import assistant

    lab, server = obedient
    found = assess("10-assistant", assistant, lab)
    assert found.right
    assert found.notes == [
        "With this model, the answer followed the tool's result, the schema's name, the image."
    ]
    replies = dict(found.replies)
    assert replies["get_temperature says 31"] == "It is 31."
    assert replies["a blue square"] == "blue"
    assert {tool["function"]["name"] for body in server.seen for tool in body.get("tools", [])} == {
        "get_temperature",
        "read_sensor",
    }


def test_a_model_that_guesses_does_not_make_the_assistant_wrong(obedient, monkeypatch):
    from built_answers import assistant

    guess = {"role": "assistant", "content": "It is 7 degrees, and red."}
    monkeypatch.setattr("obedient_model.reply_to", lambda body: guess)
    found = assess("10-assistant", assistant, obedient[0])
    assert found.right
    assert "It did not follow the tool's result, the image" in found.notes[-1]


def test_the_reply_to_a_picture_is_shown_and_compared(obedient):
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    text = {"type": "text", "text": "What color is the square?"}
    found = assess("04-message", {"role": "user", "content": [text, part]}, obedient[0])
    assert found.right
    assert [reply for _, reply in found.replies] == ["red", "blue"]
    assert found.notes == ["The answer follows the image."]


def test_a_schema_is_offered_as_a_tool_and_the_call_is_shown(obedient):
    from plausible_answers import CASES as plausible

    right = next(answer for name, answer, is_right in plausible if name == "05-schema" and is_right)
    found = assess("05-schema", right, obedient[0])
    assert found.right
    assert found.replies[0][1].startswith('convert({"amount": 20')


def test_a_wrong_answer_that_can_be_sent_is_sent_too(obedient):
    swapped = [
        {"role": "system", "content": "What is the capital of Italy?"},
        {"role": "user", "content": "Answer with one word."},
    ]
    found = assess("00-messages", swapped, obedient[0])
    assert not found.right
    assert found.replies == [("your messages", "2 messages")]


@pytest.mark.parametrize(
    ("settings", "note"),
    [
        ({"temperature": 1.0, "seed": 7}, "the seed works"),
        ({"temperature": 0, "seed": 7}, "because nothing was sampled"),
        ({"seed": 7}, "does not show that a seed works"),
        ({"temperature": 1.0}, "does not show that a seed works"),
    ],
)
def test_two_equal_answers_are_explained(settings, note, obedient):
    (said,) = assess("00-seed", settings, obedient[0]).notes
    assert note in said


def test_an_argument_that_does_not_exist_is_named(obedient):
    found = assess("00-seed", {"temperature": 1.0, "random_seed": 7}, obedient[0])
    assert not found.right
    assert "does not exist: random_seed." in found.message


def test_only_a_right_rule_is_said_to_be_broken_by_the_pocket_model(obedient):
    from dataclasses import replace

    pocket = replace(obedient[0], model="pocket-small")
    rule = {"role": "system", "content": "Answer with one word."}
    for country, notes in (("Italy", 1), ("Japan", 0)):
        asked = {"role": "user", "content": f"What is the capital of {country}?"}
        assert len(assess("00-messages", [rule, asked], pocket).notes) == notes


@pytest.mark.parametrize("answer", ["Rome", None, {"role": "user"}, 5])
def test_what_is_no_request_is_not_sent(answer, obedient):
    lab, server = obedient
    before = len(server.seen)
    assert not assess("00-messages", answer, lab).right
    assert len(server.seen) == before


def test_a_server_that_is_gone_takes_nothing_away():
    with serving() as (_, server):
        port = server.server_port
    client = make_client(f"http://127.0.0.1:{port}/v1", "no-key")
    lab = Lab("custom", client, "gone", frozenset(), "a test")
    right = [
        {"role": "system", "content": "Answer with one word."},
        {"role": "user", "content": "What is the capital of Italy?"},
    ]
    found = assess("00-messages", right, lab)
    assert found.right
    assert found.notes
    assert not JARGON.search(found.notes[0]), found.notes
    found = assess("06-prompts", ["Hi", "word " * 100], lab)
    assert not found.right
    assert "not judged yet" in found.message


def test_a_request_that_the_server_refuses_is_wrong_and_says_why(obedient):
    lab, server = obedient
    server.error = (400, {"error": {"message": "temperature is too high", "code": 400}})
    try:
        found = assess("00-seed", {"temperature": 1.9, "seed": 1}, lab)
    finally:
        server.error = None
    assert not found.right
    assert "temperature is too high" in found.message


@pytest.mark.pocket
@pytest.mark.parametrize("name", ["00-messages", "06-prompts", "07-prefix", "03-format"])
def test_the_pocket_model_replies(name, lab):
    found = engine.assess(name, solve(name), lab)
    assert found.right, found.message
    assert found.replies
