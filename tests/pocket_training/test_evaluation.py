"""The evaluation: its cases, what counts as right, and the tables.

What one pass scores as exact is compared with what transformers' own `generate` writes.
"""

import numpy as np
import pytest
import torch
from tiny_models import thin_model
from transformers import Mistral3ForConditionalGeneration

from pocket_model.build import QUANTIZATIONS
from pocket_training import evaluate, exam_cases, score_tables, scoring
from pocket_training.examples import ARGS, CALL_ID, END, TOOL_CALLS, Example


def test_scores_mean_what_generate_would_write(examples_of):
    """Replies that `generate` writes are right; one token off, and its own is continued."""
    model = thin_model(seed=4)
    scorer = scoring.Scorer(model, tokens=700)
    asked, written = [], []
    for kind in ("known", "shapes"):
        for prompt, pictures in [(e.prompt, e.pictures) for e in examples_of(kind)[:3]]:
            ids = torch.tensor([prompt])
            images = {}
            if pictures:
                images["pixel_values"] = torch.from_numpy(np.stack(pictures))
                images["image_sizes"] = torch.tensor([p.shape[1:] for p in pictures])
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=exam_cases.REPLY_TOKENS,
                eos_token_id=END,
                **images,
            )
            written.append(out[0, len(prompt) :].tolist())
            reply = written[-1][:6]
            asked.append(Example(prompt, reply, [True] * len(reply), pictures))
    questions = [
        [exam_cases.Case("-", example) for example in asked[part]]
        for part in (slice(0, 3), slice(3, 6))
    ]
    assert scorer.score(questions) == [[True] * 3, [True] * 3]
    for number, example in enumerate(asked):
        example.reply[number] += 1
    assert scorer.score(questions) == [[False] * 3, [False] * 3]

    replies = {}
    for number, case in enumerate(case for question in questions for case in question):
        case.accept = lambda reply, number=number: replies.update({number: reply}) or number < 3
    assert scorer.score(questions) == [[True] * 3, [False] * 3]
    assert [replies[number] for number in range(6)] == written


def test_the_table_counts_and_bounds():
    row = score_tables.share_row(*exam_cases.SKILLS["picture_colour"], [True] * 285 + [False] * 15)
    assert row["skill"] == "picture: colour"
    assert (row["right"], row["of"], row["share"], row["target"]) == (285, 300, 0.95, 0.97)
    # Wilson's interval by its formula.
    p, n, z = 0.95, 300, 1.959964
    middle, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert row["low"] == pytest.approx((middle - half) / (1 + z * z / n), abs=1e-4)
    assert row["high"] == pytest.approx((middle + half) / (1 + z * z / n), abs=1e-4)
    assert "285 of 300" in score_tables.as_text(score_tables.table({"rows": [row]}))


def test_paired_differences_are_bounded_as_often_as_said():
    """Newcombe's interval on simulated pairs holds the true difference 95 times in 100."""
    draw = np.random.default_rng(0)
    shares = np.array([0.80, 0.02, 0.08, 0.10])  # both, gained, lost, neither
    held = 0
    for _ in range(400):
        kinds = draw.choice(4, size=300, p=shares)
        new, old = np.isin(kinds, [0, 1]), np.isin(kinds, [0, 2])
        low, high = score_tables.newcombe_interval(new, old)
        held += low <= shares[1] - shares[2] <= high
    assert 0.92 <= held / 400 <= 0.99


def test_a_paired_comparison_counts_case_by_case():
    new = {"right": {"picture: colour": [True, True, False, True]}}
    old = {"right": {"picture: colour": "1011"}}
    (row,) = score_tables.paired(new, old)
    assert (row["gained"], row["lost"], row["of"], row["difference"]) == (1, 1, 4, 0.0)
    assert row["low"] < 0 < row["high"]
    assert "picture: colour" in score_tables.as_text(score_tables.paired_table([row]))
    with pytest.raises(ValueError, match="different ways"):
        score_tables.paired(new, old | {"scoring_version": 1})
    # The first cases are the same. Skills that only one of the two has are left out.
    (row,) = score_tables.paired(new | {"right": new["right"] | {"more": [True]}}, {
        "right": {"picture: colour": "101", "other": "1"}
    })  # fmt: skip
    assert (row["skill"], row["gained"], row["lost"], row["of"]) == ("picture: colour", 1, 1, 3)


def test_results_with_nothing_in_common_are_not_compared():
    with pytest.raises(ValueError, match="no case in common"):
        score_tables.paired({"right": {"a": [True]}}, {"right": {"b": "1"}})


def test_a_smaller_number_of_cases_has_the_first_of_a_larger_one(encoder):
    """A short evaluation is compared with a long one case by case."""

    def asked(cases: int) -> dict[str, list]:
        by_skill: dict[str, list] = {}
        for question in exam_cases.questions(encoder, cases):
            for case in question:
                example = case.example
                key = (example.prompt, example.reply, [p.tobytes() for p in example.pictures])
                by_skill.setdefault(case.skill, []).append(key)
        by_skill["pairs"] = [
            [(case.example.prompt, case.example.reply) for question in pair for case in question]
            for pair in exam_cases.pairs(encoder, cases)
        ]
        return by_skill

    few, many = asked(10), asked(30)
    for skill, cases in few.items():
        assert many[skill][: len(cases)] == cases, skill


def test_every_skill_has_its_cases(encoder):
    counts: dict[str, int] = {}
    for question in exam_cases.questions(encoder, cases=10):
        for case in question:
            counts[case.skill] = counts.get(case.skill, 0) + 1
    mixed = {"mixed_country": 1, "mixed_population": 1}
    expected = dict.fromkeys(exam_cases.SKILLS, 10) | mixed
    del expected["counterfactual_pairs"]
    assert counts == expected
    assert len(list(exam_cases.pairs(encoder, 8))) == 8


def test_a_result_has_a_row_for_each_skill(encoder, examples_of, monkeypatch):
    class FirstIsWrong:
        """Finds the first case of each question wrong, and a loss of two nats everywhere."""

        def __init__(self, model):
            pass

        def score(self, questions):
            return [[number > 0 for number in range(len(question))] for question in questions]

        def losses(self, examples):
            return [2.0] * len(examples)

    monkeypatch.setattr(evaluate, "Scorer", FirstIsWrong)
    result = evaluate.score(None, encoder, [(examples_of("none")[0], 1.6)], cases=10)
    labels = [label for label, _ in exam_cases.SKILLS.values()]
    *rows, last = result["rows"]
    assert [row["skill"] for row in rows] == labels
    assert set(result["right"]) == set(labels)
    right = {row["skill"]: (row["right"], row["of"]) for row in rows}
    assert right["tool call, known tools"] == (9, 10)
    assert right["conversation: that country's population"] == (1, 1)
    assert right["counterfactual pairs"] == (0, 10)
    assert (last["nats"], last["ratio"]) == (2.0, 1.25)

    only = ["tools_known", evaluate.CHAT]
    few = evaluate.score(None, encoder, [(examples_of("none")[0], 1.6)], cases=10, only=only)
    assert few["rows"] == [rows[0], last]
    without = evaluate.score(None, encoder, [], cases=10, only=only[:1])
    assert without["rows"] == rows[:1]


def test_a_pair_is_right_if_both_its_questions_are(encoder, monkeypatch):
    """Also after a pair whose first question was wrong: it must not shift the others' scores."""

    class SomeAreWrong:
        def __init__(self, model):
            pass

        def score(self, questions):
            # A pair of pictures is two questions, a pair about tools is one with two cases.
            assert [len(question) for question in questions] == [1, 1, 2] * 3
            right = [[True] * len(question) for question in questions]
            right[0], right[3], right[4], right[8] = [False], [False], [False], [True, False]
            return right

    monkeypatch.setattr(evaluate, "Scorer", SomeAreWrong)
    result = evaluate.score(None, encoder, [], cases=6, only=["counterfactual_pairs"])
    assert result["right"] == {"counterfactual pairs": [False, True, False, True, True, False]}


@pytest.fixture
def call(encode):
    """A function that gives a call as tokens, its arguments in tokens of one letter if wished."""

    def tokens(name: str, arguments: str, *, letters: bool = False) -> list[int]:
        parts = arguments if letters else [arguments]
        written = [token for part in parts for token in encode(part)]
        return [TOOL_CALLS, *encode(name), CALL_ID, *encode("000000001"), ARGS, *written]

    return tokens


def test_calls_are_the_same_if_their_arguments_are(encoder, encode, call):
    expected = call("get", '{"city": "Havana", "days": 2}')
    accepts = exam_cases.same_calls(encoder.chat_format, [*expected, END])
    other = call("get", '{"city": "Havana", "days": 2}', letters=True)
    assert other != expected
    assert accepts([*other, END])
    assert accepts([*call("get", '{"days": 2, "city": "Havana"}'), END])
    for wrong in (
        [*expected],  # never ends
        [*expected, *expected, END],  # twice
        [*expected, TOOL_CALLS, *encode("get"), END],  # a second one that breaks off
        [TOOL_CALLS, *encode("get"), ARGS, *expected[expected.index(ARGS) + 1 :], END],  # no id
        [*encode("Well: "), *expected, END],
        [*call("got", '{"city": "Havana", "days": 2}'), END],
        [*call("get", '{"city": "Havana", "days": 2.0}'), END],
        [*call("get", '{"city": "Havana", "days": true}'), END],
        [*call("get", '{"city": "Havana", "days": 2'), END],
        [*encode("Havana, 2"), END],
    ):
        assert not accepts(wrong)


def test_calls_in_other_tokens_are_continued(encoder, encode, call):
    """A model that writes the right call in letters is right, and gets the ids put in."""
    reply = [*call("get", '{"city": "Havana"}'), END]
    own = [*call("get", '{"city": "Havana"}', letters=True), END]
    same = next(n for n, token in enumerate(own) if token != reply[n])
    example = Example(encode("Where?"), reply, [True] * len(reply))
    model = thin_model(seed=4)

    class Scripted(torch.nn.Module):
        """Writes `rest` after the `first` tokens that one pass finds the likeliest."""

        def __init__(self, first: list[int], rest: list[int]):
            super().__init__()
            self.first, self.rest = first, iter(rest)

        def forward(self, states):
            one_pass = states.ndim == 2
            chosen = torch.tensor(self.first if one_pass else [[next(self.rest)]])
            return torch.nn.functional.one_hot(chosen, model.config.text_config.vocab_size)

    def is_right(first: list[int], rest: list[int]) -> bool:
        model.lm_head = Scripted(first, rest)
        accept = exam_cases.same_calls(encoder.chat_format, reply)
        case = exam_cases.Case("tools_two", example, accept)
        return scoring.Scorer(model).score([[case]]) == [[True]]

    padding = [0] * (len(reply) - same - 1)
    assert is_right(reply, [])
    assert is_right([*own[: same + 1], *padding], own[same + 1 :])
    assert not is_right([*own[: same + 1], *padding], [*own[same + 1 : -3], END])
    # It leaves the name behind and would write nines as the id; the server has another there.
    at = reply.index(CALL_ID)
    given = encode("000000001")
    nines = encode("999999999")[: len(given)]
    letters = [token for letter in "get" for token in encode(letter)]
    assert letters != encode("get")
    calls = [TOOL_CALLS, *letters, CALL_ID, *nines, *own[own.index(ARGS) :]]
    assert is_right([*calls[:2], *[0] * (len(reply) - 2)], calls[2:])
    assert at == 2  # the name is one token, which is why the letters differ at once


def test_the_expected_reply_is_itself_accepted(encoder):
    """Or one pass could not decide for it."""
    asked = list(exam_cases.questions(encoder, cases=30))
    asked += [question for pair in exam_cases.pairs(encoder, 16) for question in pair]
    cases = [case for question in asked for case in question if case.accept]
    assert len(cases) > 100
    for case in cases:
        assert case.accept(case.example.reply)


def test_replies_without_calls_and_with_values_are_judged_by_their_tokens(encoder, encode):
    assert exam_cases.makes_no_call([*encode("Paris."), END])
    assert not exam_cases.makes_no_call([TOOL_CALLS, *encode("get"), END])
    assert not exam_cases.makes_no_call(encode("and so on and on"))
    accepts = exam_cases.contains(encoder.chat_format, ("67.8",))
    assert accepts([*encode("It has 67.8 million."), END])
    assert not accepts([*encode("It has 67 million."), END])


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_every_quantization_computes_in_float32(quantization, model_folder):
    model = scoring.load_in_float32(model_folder, quantization)
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[1, 3, 500, 4]])).logits
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@pytest.mark.parametrize("quantization", ["bf16", "nf4"])
def test_the_evaluated_model_is_the_one_in_the_files(quantization, model_folder):
    source = model_folder / "nf4" if quantization == "nf4" else model_folder
    model = Mistral3ForConditionalGeneration.from_pretrained(source, dtype=torch.float32).eval()
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.float()
    for module in model.modules():
        if hasattr(module, "compute_dtype"):  # a 4-bit layer
            module.compute_dtype = torch.float32
            module.support_avx512bf16_for_cpu = False  # its kernel rounds activations to bf16
    ids = torch.randint(100, 4000, (2, 150), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model(input_ids=ids).logits
        found = scoring.load_in_float32(model_folder, quantization)(input_ids=ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-2)
