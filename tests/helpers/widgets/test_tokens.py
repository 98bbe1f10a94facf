"""Tokens as Mistral's own library makes them."""

import pytest
from mistral_common.protocol.instruct.request import ChatCompletionRequest

from helpers import wire
from helpers.widgets import tokens

TEXTS = ["Mistral Small tokenizes.", "naïve 🌊 水", "", " a  b\n", "[INST] </s>", "हिन्दी में"]
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi! [INST]"},
]


@pytest.fixture(scope="module")
def tekken_file(model_folder):
    return model_folder / "tekken.json"


@pytest.mark.parametrize("text", TEXTS)
def test_the_tokens_are_the_tokenizers(text, tekken_file):
    tekken = wire.tokenizer().instruct_tokenizer.tokenizer
    found = tokens.split(text)
    assert [token["id"] for token in found] == tekken.encode(text, bos=False, eos=False)
    data = b"".join(
        bytes.fromhex(token["text"]) if token["kind"] == "part" else token["text"].encode()
        for token in found
    )
    assert data.decode() == text
    assert not any(token["kind"] == "control" for token in found)  # whatever a user types
    assert len(tokens.split(text, tekken_file)) == wire.count_tokens(text, tekken_file)


def test_a_chats_control_tokens_are_told_apart():
    found = tokens.split(CHAT)
    request = ChatCompletionRequest.from_openai(messages=CHAT)
    assert [t["id"] for t in found] == wire.tokenizer().encode_chat_completion(request).tokens
    names = [token["text"] for token in found if token["kind"] == "control"]
    assert names == ["<s>", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[INST]", "[/INST]"]


def test_the_table_has_what_the_page_has(tekken_file):
    made = tokens.explore({"a": "Hello 水", "chat": CHAT}, files={"pocket": tekken_file})
    assert made.table.loc["a", "bytes"] == len("Hello 水".encode())
    assert made.table.loc["a", "characters"] == 7
    for name in ("a", "chat"):
        for kind in (tokens.MISTRAL, "pocket"):
            assert made.table.loc[name, kind] == len(made.data["texts"][name]["tokens"][kind])
