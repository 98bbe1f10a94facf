"""The prompts of ordinary chats: what is asked, what the user has told, and how it is typed."""

import re
from difflib import SequenceMatcher
from random import Random

import pytest

from pocket_training import chat_tasks, grammar, words


def test_every_fact_and_every_question_about_it_can_be_written():
    lists = words.chats()
    for kind in lists.told:
        fields = grammar.fields(" ".join(kind.tell + kind.ask))
        assert {re.sub(r"_2$", "", field) for field in fields} <= lists.rules.keys()
        # A second word of a rule, as `color_2`, needs a first one.
        assert {f[:-2] for f in fields if f.endswith("_2")} <= fields


def test_a_fact_has_two_different_words_of_a_rule(monkeypatch):
    kind = words.Told(tell=["{color} and {color_2}."], ask=["{color}, {color_2}?"])
    lists = words.chats().model_copy(update={"told": [kind]})
    monkeypatch.setattr(words, "chats", lambda: lists)
    told = [chat_tasks._told(Random(seed)) for seed in range(200)]
    for chat in told:
        text = " ".join(m["content"] for m in chat if m["role"] == "user").lower()
        first, second, *asked = re.findall(r"\w+", text.replace(" and", ""))
        assert first != second
        assert asked == [first, second]
    assert {len(chat) for chat in told} == {1, 3}


def test_training_asks_about_facts_and_in_a_hurry_and_the_evaluation_does_not():
    train, held_out = (chat_tasks.prompts(split, 300, 5) for split in ("train", "held_out"))
    roles = [[m["role"] for m in chat if m["role"] != "system"] for chat in train]
    assert all(r in (["user"], ["user", "assistant", "user"]) for r in roles)
    assert 20 <= sum(len(r) == 3 for r in roles) <= 55  # half of a quarter
    assert all(len(chat) == 1 or chat[0]["role"] == "system" for chat in held_out)

    def begun_in_lower_case(chats):
        return sum(chat[-1]["content"][0].islower() for chat in chats)

    assert begun_in_lower_case(train) > 60
    assert begun_in_lower_case(held_out) < 60


@pytest.mark.parametrize("text", ["What is the colour of a banana?", "Hi!", "?", "", "Why? No."])
def test_what_is_typed_in_a_hurry_can_still_be_read(text):
    typed = [grammar.careless(text, {"what": "wat"}, Random(seed)) for seed in range(300)]
    for each in typed:
        alike = SequenceMatcher(None, each.lower(), text.lower().rstrip("?.")).ratio()
        assert alike > 0.75 or len(text) < 10
    if text.startswith("What"):
        assert any(each.lower().startswith("wat ") for each in typed)
        assert len(set(typed)) > 150
