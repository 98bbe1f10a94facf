"""The explorer of labels shows what the labels are."""

import pytest

from helpers import wire
from helpers.finetune.labels import Example, encode
from helpers.widgets import labels

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello <b>"}]


def test_every_token_is_there_and_says_whether_it_is_learned():
    tokenizer = wire.tokenizer()
    right = encode(tokenizer, CHAT)
    hidden = Example(right.ids, [-100] * len(right.ids))
    made = labels.explore({"right": right, "hidden": hidden}, tokenizer)
    tokens = made.data["examples"]["right"]["tokens"]
    assert [token["id"] for token in tokens] == right.ids
    assert [token["learned"] for token in tokens] == [label != -100 for label in right.labels]
    assert made.table.loc["right", "what is learned"] == "Hello <b></s>"
    assert made.table.loc["right", "fault"] == "none found"
    assert made.table.loc["hidden", "what is learned"] == "(nothing)"
    assert "Nothing is learned" in made.table.loc["hidden", "fault"]
    assert "<b>" not in made._repr_html_().split("<script>")[1]  # a text ends no script


def test_nothing_to_show_is_told():
    with pytest.raises(ValueError, match="nothing to show"):
        labels.explore({}, wire.tokenizer())
