"""How the embedded model's replies to another author's test set are made and counted."""

import random

import pytest
import torch

from pocket_model.tekken import CONTROL_IDS
from pocket_model.vision import image_inputs
from pocket_training.scoring import load_in_float32
from pocket_training.stranger import evaluate


@pytest.fixture(scope="module")
def cases():
    return evaluate.load_cases()


@pytest.fixture(scope="module")
def model(model_folder):
    return load_in_float32(model_folder, "bf16")


@pytest.fixture(scope="module")
def some(cases):
    """Cases of different lengths, with one picture, two or none, and with tools."""
    names = ("colour", "two_pictures", "everyday", "tool_known")
    return [next(case for case in cases if case["skill"] == name) for name in names]


def test_every_case_can_be_asked(cases, encoder):
    assert {case["skill"] for case in cases} == set(evaluate.SKILLS)
    for case in random.Random(0).sample(cases, 200):
        shown = str(case["messages"]).count("'type': 'image_url'")
        prompt = evaluate.encode(encoder.chat_format, case)
        assert len(prompt.pictures) == shown
        assert len(prompt.ids) + evaluate.REPLY_TOKENS < 8192


def test_a_reply_is_the_same_among_others_and_alone(model, encoder, some):
    prompts = [evaluate.encode(encoder.chat_format, case) for case in some]
    together = dict(evaluate.answer(model, encoder.chat_format, prompts))
    for number, prompt in enumerate(prompts):
        ((_, alone),) = evaluate.answer(model, encoder.chat_format, [prompt])
        assert together[number] == alone
    assert all(reply["content"] or reply["tool_calls"] for reply in together.values())


def test_replies_are_read_as_the_pocket_server_reads_them(encoder):
    text, control = encoder.chat_format.encode_text, CONTROL_IDS
    call = [control["[TOOL_CALLS]"], *text("ring"), control["[CALL_ID]"], *text("000000001")]
    whole = evaluate._message(encoder.chat_format, [*call, control["[ARGS]"], *text('{"a": 1}')])
    assert whole["tool_calls"] == [{"name": "ring", "arguments": '{"a": 1}'}]
    broken = evaluate._message(encoder.chat_format, call)
    assert broken["tool_calls"] == [{"name": "", "arguments": ""}]
    assert evaluate._message(encoder.chat_format, text("Red."))["content"] == "Red."


def test_a_pair_is_right_only_if_both_replies_are(monkeypatch):
    wanted = {"id": "", "messages": [{"role": "user", "content": "?"}], "expect": {"any_of": ["a"]}}
    cases = [wanted | {"skill": "colour", "id": number} for number in range(3)]
    cases += [wanted | {"skill": "counterfactual", "pair": pair} for pair in (1, 1, 2, 2)]
    said = ["a", "b", "a", "a", "b", "a", "a"]
    monkeypatch.setattr(evaluate, "encode", lambda *_: None)
    replies = [(number, {"content": text}) for number, text in enumerate(said)]
    monkeypatch.setattr(evaluate, "answer", lambda *_: reversed(replies))
    result = evaluate.score(None, None, cases)
    counted = [(row["skill"], row["right"], row["of"]) for row in result["rows"]]
    assert counted == [("picture: colour", 2, 3), ("counterfactual pairs", 1, 2)]
    assert result["right"]["counterfactual pairs"] == [False, True]


def test_replies_are_those_of_transformers_generate(model, encoder, some):
    prompts = [evaluate.encode(encoder.chat_format, case) for case in some]
    found = dict(evaluate.answer(model, encoder.chat_format, prompts))
    for number, prompt in enumerate(prompts):
        has_tools = evaluate.HAS_TOOLS in prompt.ids
        limit = evaluate.REPLY_TOKENS if has_tools else evaluate.WORD_TOKENS
        made = model.generate(
            input_ids=torch.tensor([prompt.ids]),
            max_new_tokens=limit,
            do_sample=False,
            eos_token_id=CONTROL_IDS["</s>"],
            pad_token_id=CONTROL_IDS["<pad>"],
            **image_inputs(prompt.pictures, torch.float32),
        )[0, len(prompt.ids) :].tolist()
        made = made[: made.index(CONTROL_IDS["</s>"])] if CONTROL_IDS["</s>"] in made else made
        assert evaluate._message(encoder.chat_format, made) == found[number]
