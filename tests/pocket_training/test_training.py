"""Lessons, training steps and the judge, on a model of the pocket's classes with two thin layers.

What a shared row computes is compared with each conversation computed alone, and what the judge
calls exact with what transformers' own `generate` writes.
"""

import functools
import json
import random

import numpy as np
import pytest
import torch
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from safetensors.torch import load_file
from tiny_models import thin_model

from pocket_model import tekken
from pocket_model.adapter import EYE, HELD_OUT_REPLIES, PARTS, apply_parts, save_parts
from pocket_training import (
    chat_tasks,
    exam_cases,
    lora,
    picture_tasks,
    scenes,
    score_tables,
    scoring,
    tool_tasks,
    train,
    vision_stage,
)
from pocket_training.examples import ARGS, CALL_ID, CALLS, END, Exchange, Writer
from pocket_training.mixed_tasks import mixed_exchanges
from pocket_training.packing import batch, row


@pytest.fixture(scope="module")
def tekken_folder(base_tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tekken")
    tekken.write(tekken.convert(base_tokenizer)[0], folder)
    return folder


@pytest.fixture(scope="module")
def writer(tekken_folder):
    return Writer(MistralTokenizer.from_file(tekken_folder / "tekken.json"))


def student_of(writer: Writer) -> lora.Student:
    model = thin_model()
    return lora.Student(model, vision_stage.word_vectors(model, writer.text))


def exchanges(writer: Writer, kind: str) -> list[Exchange]:
    if kind == "mixed":
        return mixed_exchanges(writer, "train", random.Random(3))
    if kind in tool_tasks.SKILLS:
        (group,) = tool_tasks.tool_groups("train", kind, groups=1, per_group=3, seed=5)
        return [writer.tool_case(case, "numbered") for case in group]
    group = next(picture_tasks.picture_groups("train", kind, groups=1, seed=5))
    return [writer.picture_case(case) for case in group]


@pytest.mark.parametrize("kind", ["known", "two", "result", "mixed", "shapes", "two_pictures"])
def test_a_shared_row_computes_what_each_conversation_alone_computes(writer, kind):
    asked = exchanges(writer, "two" if kind == "two_pictures" else kind)
    if kind == "two_pictures":
        asked = [
            writer.picture_case(case)
            for case in next(picture_tasks.picture_groups("train", "two", groups=1, seed=5))
        ]
    student = student_of(writer)
    with torch.no_grad():
        for pair in student.pairs.values():
            torch.nn.init.normal_(pair.b, std=0.1)
        shared = student.losses(batch([row(asked)]))
        alone = torch.cat([student.losses(batch([row([one])])) for one in asked])
    assert len(row(asked)) < sum(len(one.prompt) + len(one.reply) for one in asked)
    torch.testing.assert_close(shared, alone, atol=2e-4, rtol=0)


def test_rows_side_by_side_do_not_touch_each_other(writer):
    student = student_of(writer)
    rows = [row(exchanges(writer, kind)) for kind in ("none", "shapes", "bars")]
    with torch.no_grad():
        together = student.losses(batch(rows))
        alone = torch.cat([student.losses(batch([one])) for one in rows])
    torch.testing.assert_close(together, alone, atol=2e-4, rtol=0)


def test_what_is_learnt_is_what_mistral_common_writes(writer, tekken_folder):
    """The reply's tokens equal those of a whole conversation encoded for fine-tuning."""
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.protocol.instruct.validator import ValidationMode

    finetuning = MistralTokenizer.from_file(
        tekken_folder / "tekken.json", ValidationMode.finetuning
    )
    for skill in ("known", "two", "none", "result"):
        (group,) = tool_tasks.tool_groups("train", skill, groups=1, per_group=3, seed=9)
        for case in group:
            exchange = writer.tool_case(case, "given")
            request = ChatCompletionRequest.from_openai(
                messages=[*case.messages, case.reply], tools=case.tools
            )
            whole = finetuning.encode_chat_completion(request).tokens
            assert whole == exchange.prompt + exchange.reply


def test_random_ids_are_not_learnt_and_numbered_ones_are(writer):
    (group,) = tool_tasks.tool_groups("train", "two", groups=1, per_group=1, seed=2)
    given, numbered = (writer.tool_case(group[0], ids) for ids in ("given", "numbered"))
    assert all(numbered.learn)
    hidden = [t for t, counts in zip(given.reply, given.learn, strict=True) if not counts]
    ids = "".join(call["id"] for call in group[0].reply["tool_calls"])
    assert writer.read(hidden) == ids
    assert "000000001" in writer.read(numbered.reply)


def test_the_eye_sees_what_the_stock_model_sees():
    model = thin_model()
    pictures = [scenes.random_bars(random.Random(k), "train").draw() for k in range(20)]
    pictures = [vision_stage.pixels(one) for one in pictures if one.size == (112, 112)][:3]
    stacked = torch.from_numpy(np.stack(pictures))
    with torch.no_grad():
        own = vision_stage.see(model, stacked)
        stock = model.model.get_image_features(stacked, torch.tensor([[112, 112]] * 3))
    torch.testing.assert_close(own, torch.stack(list(stock.pooler_output)), atol=1e-5, rtol=0)


def test_words_laid_on_top_of_one_another_are_read_back(writer):
    model = thin_model()
    vectors = torch.randn(len(vision_stage.vocabulary()), 576)
    scene = scenes.random_shapes(random.Random(1), "train", count=4)
    words = [set(cell) for line in scene.words() for cell in line]
    assert vision_stage.read_back(vision_stage.targets(scene.words(), vectors), vectors) == words
    assert vision_stage.word_vectors(model, writer.text).shape == (
        len(vision_stage.vocabulary()),
        64,
    )


def test_words_can_stand_in_for_what_the_eye_sees(writer):
    """With the words told, the picture's tokens are sums of embeddings; else the eye's."""
    case = next(picture_tasks.picture_groups("train", "shapes", groups=1, seed=5))[0]
    student, exchange = student_of(writer), writer.picture_case(case)
    rows = student.model.get_input_embeddings().weight
    (cells,) = case.words
    expected = [
        sum(rows[writer.text(w if w.isdigit() else f" {w}")].sum(dim=0) for w in cell)
        for line in cells
        for cell in line
    ]
    with torch.no_grad():
        seen, told = (batch([row([exchange], told=told)]) for told in (False, True))
        here = told.ids[0] == student.model.config.image_token_id
        torch.testing.assert_close(student.embedded(told)[0, here], torch.stack(expected))
        by_eye = vision_stage.see(student.model, torch.from_numpy(exchange.pictures[0])[None])[0]
        torch.testing.assert_close(student.embedded(seen)[0, here], by_eye)
        assert torch.equal(student.embedded(seen)[0, ~here], student.embedded(told)[0, ~here])


def test_a_misread_word_costs_what_numpy_says():
    vectors = torch.randn(len(vision_stage.vocabulary()), 128)
    words = vision_stage.described(scenes.random_shapes(random.Random(1), "train", count=4).words())
    wrong = words.clone()
    place = words.sum(-1).argmax()
    red, blue = (vision_stage.vocabulary().index(word) for word in ("red", "blue"))
    wrong[place, [red, blue]] = 1 - wrong[place, [red, blue]]
    right, off = (
        vision_stage.loss((w @ vectors)[None], words[None], vectors) for w in (words, wrong)
    )
    assert off > right + 0.1
    gap = ((wrong - words) @ vectors).pow(2).mean(-1).numpy() / vectors.pow(2).mean().item()
    weight = np.where(words.sum(-1) > 1, 4, 1)
    shares = vision_stage.SHARPNESS * (wrong.numpy() - 0.5)
    misread = np.logaddexp(0, shares) - shares * words.numpy()
    expected = ((gap + vision_stage.MISREAD * misread.sum(-1)) * weight).mean() / weight.mean()
    assert off.item() == pytest.approx(expected, rel=1e-3)


def test_soft_lessons_are_kullback_leibler_up_to_the_teachers_entropy(writer):
    """The loss against a distribution equals scipy's, on the student's own probabilities."""
    from scipy.stats import entropy

    student = student_of(writer)
    prompt, reply = writer.prompt([{"role": "user", "content": "Hi"}])[0], [100, END]
    ids, shares = np.array([[100, 200], [END, 300]]), np.array([[0.7, 0.3], [0.9, 0.1]])
    soft = Exchange(prompt, reply, [True, True], soft=(ids, shares))
    with torch.no_grad():
        found = student.losses(batch([row([soft])])).numpy()
        whole = student.model(input_ids=torch.tensor([prompt + reply])).logits[0].softmax(-1)
    for place in range(2):
        q = whole[len(prompt) - 1 + place].numpy()[ids[place]]
        expected = entropy(shares[place], q) + entropy(shares[place])
        # scipy normalises q; undo that.
        assert found[place] == pytest.approx(expected - np.log(q.sum()), abs=1e-4)


def test_training_resumes_where_it_was_interrupted(writer, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "CHECKPOINT_EVERY", 2)
    monkeypatch.setattr(train, "TOOL_ROWS", 1)
    monkeypatch.setattr(train, "PICTURE_ROWS", 1)
    talk = Exchange([1, 3, 500, 4], [600, END], [True, True])

    def run(folder, *stops):
        folder.mkdir()
        for stop in stops:
            student = student_of(writer)
            if stop < stops[-1]:
                # As if the process had died after this step's checkpoint.
                monkeypatch.setattr(train, "tqdm", functools.partial(_Until, stop=stop))
            talks = [talk] * train.CHAT_ROWS
            train.teach_text(student, writer, talks, folder, steps=stops[-1])
            monkeypatch.undo()
            for name, value in (("CHECKPOINT_EVERY", 2), ("TOOL_ROWS", 1), ("PICTURE_ROWS", 1)):
                monkeypatch.setattr(train, name, value)
        return student

    whole, halves = run(tmp_path / "whole", 4), run(tmp_path / "halves", 2, 4)
    for name, parameter in whole.trained().items():
        assert torch.equal(parameter, halves.trained()[name]), name
    logs = [(tmp_path / f / "losses.jsonl").read_text() for f in ("whole", "halves")]
    assert logs[0] == logs[1]
    assert [json.loads(line)["step"] for line in logs[0].splitlines()] == [0, 1, 2, 3]


class _Until:
    """A progress bar that ends early, as an interrupted run does."""

    def __init__(self, steps, stop, **_):
        self._steps = [step for step in steps if step < stop]

    def __iter__(self):
        return iter(self._steps)

    def set_postfix(self, *_, **__):
        pass


def test_the_whole_recipe_runs_and_goes_on(gguf_file, tmp_path, monkeypatch):
    """On the real base, a few steps of each stage: twice, the second time further."""
    work, target = tmp_path / "work", tmp_path / "parts"
    work.mkdir()
    (work / gguf_file.name).symlink_to(gguf_file)
    for name, value in {
        "CHATS": {"train": 2, "held_out": 2},
        "EYE_BATCH": 2,
        "EYE_STEPS": 2,
        "TOOL_ROWS": 1,
        "PICTURE_ROWS": 1,
        "CHAT_ROWS": 1,
        "STEPS": 1,
    }.items():
        monkeypatch.setattr(train, name, value)
    # Defaults are bound when a function is made.
    monkeypatch.setitem(train.teach_eye.__kwdefaults__, "steps", 2)
    monkeypatch.setitem(train.teach_text.__kwdefaults__, "steps", 1)
    train.train(work, target)
    replies = {path: path.stat().st_mtime_ns for path in work.glob("replies-*")}
    first = load_file(target / PARTS.name)
    monkeypatch.setitem(train.teach_text.__kwdefaults__, "steps", 2)
    train.train(work, target)
    second = load_file(target / PARTS.name)
    logged = (work / "losses.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in logged] == [0, 1]
    assert replies == {path: path.stat().st_mtime_ns for path in work.glob("replies-*")}
    assert len(replies) == 2
    shipped = {name: tensor.shape for name, tensor in load_file(PARTS).items()}
    assert {name: tensor.shape for name, tensor in second.items()} == shipped
    # The eye was taught in the first run, the text model in both.
    changed = {name for name in shipped if not torch.equal(first[name], second[name])}
    assert changed
    assert not any(name.startswith(EYE) for name in changed)
    assert json.loads((target / HELD_OUT_REPLIES.name).read_text())


def test_multiplying_in_half_precision_teaches_nearly_the_same(writer):
    lesson = batch([row(exchanges(writer, kind)) for kind in ("known", "shapes")])
    found = {}
    for half in (False, True):
        model = thin_model()
        student = lora.Student(model, vision_stage.word_vectors(model, writer.text), half=half)
        losses = student.losses(lesson)
        losses.mean().backward()
        slopes = [parameter.grad.flatten() for parameter in student.trained().values()]
        found[half] = losses, torch.cat(slopes)
        assert all(slope.dtype == torch.float32 for slope in slopes)
    # bfloat16 has three significant digits.
    torch.testing.assert_close(found[True][0], found[False][0], atol=0.1, rtol=0)
    assert not torch.equal(found[True][0], found[False][0])
    assert torch.cosine_similarity(found[True][1], found[False][1], dim=0) > 0.99


def test_saved_parts_make_the_student_again(writer, tmp_path):
    student = student_of(writer)
    with torch.no_grad():
        for parameter in student.trained().values():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    save_parts(student.parts(), tmp_path / "parts.safetensors")
    built = apply_parts(thin_model(), tmp_path / "parts.safetensors")
    lesson = batch([row(exchanges(writer, "known"))])
    with torch.no_grad():
        own = student.losses(lesson)
        states = built.model.language_model(
            input_ids=lesson.ids, attention_mask=lesson.allowed, position_ids=lesson.positions
        ).last_hidden_state
        logs = built.lm_head(states.flatten(0, 1)[lesson.where]).log_softmax(-1)
    theirs = -logs.gather(1, lesson.labels[:, None])[:, 0]
    # The file holds bfloat16: three significant digits.
    torch.testing.assert_close(own, theirs, atol=0.1, rtol=0)


def test_verdicts_mean_what_generate_would_write(writer):
    """Replies that `generate` writes are right; one token off, and its own is written on."""
    model = thin_model(seed=4)
    judge = scoring.Judge(model, tokens=700)
    asked, written = [], []
    for kind in ("known", "shapes"):
        for prompt, pictures in [(e.prompt, e.pictures) for e in exchanges(writer, kind)[:3]]:
            ids = torch.tensor([prompt])
            seen = {}
            if pictures:
                seen["pixel_values"] = torch.from_numpy(np.stack(pictures))
                seen["image_sizes"] = torch.tensor([p.shape[1:] for p in pictures])
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=exam_cases.REPLY_TOKENS,
                eos_token_id=END,
                **seen,
            )
            written.append(out[0, len(prompt) :].tolist())
            reply = written[-1][:6]
            asked.append(Exchange(prompt, reply, [True] * len(reply), pictures))
    questions = [
        [exam_cases.Case("-", exchange) for exchange in asked[part]]
        for part in (slice(0, 3), slice(3, 6))
    ]
    assert judge.verdicts(questions) == [[True] * 3, [True] * 3]
    for number, exchange in enumerate(asked):
        exchange.reply[number] += 1
    assert judge.verdicts(questions) == [[False] * 3, [False] * 3]

    said = {}
    for number, case in enumerate(case for question in questions for case in question):
        case.accept = lambda reply, number=number: said.update({number: reply}) or number < 3
    assert judge.verdicts(questions) == [[True] * 3, [False] * 3]
    assert [said[number] for number in range(6)] == written


def test_the_table_counts_and_bounds(monkeypatch):
    line = score_tables._row("picture: colour", [True] * 285 + [False] * 15)
    assert (line["right"], line["of"], line["share"], line["target"]) == (285, 300, 0.95, 0.95)
    # Wilson's interval by its formula.
    p, n, z = 0.95, 300, 1.959964
    middle, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert line["low"] == pytest.approx((middle - half) / (1 + z * z / n), abs=1e-4)
    assert line["high"] == pytest.approx((middle + half) / (1 + z * z / n), abs=1e-4)
    assert "285/300" in score_tables.table({"rows": [line]})


def test_paired_differences_are_bounded_as_often_as_said():
    """Newcombe's interval on simulated pairs holds the true difference 95 times in 100."""
    draw = np.random.default_rng(0)
    shares = np.array([0.80, 0.02, 0.08, 0.10])  # both, gained, lost, neither
    held = 0
    for _ in range(400):
        kinds = draw.choice(4, size=300, p=shares)
        new, old = np.isin(kinds, [0, 1]), np.isin(kinds, [0, 2])
        low, high = score_tables._newcombe(new, old)
        held += low <= shares[1] - shares[2] <= high
    assert 0.92 <= held / 400 <= 0.99


def test_a_paired_comparison_counts_case_by_case():
    new = {"right": {"picture: colour": [True, True, False, True]}}
    old = {"right": {"picture: colour": "1011"}}
    (line,) = score_tables.paired(new, old)
    assert (line["gained"], line["lost"], line["of"], line["difference"]) == (1, 1, 4, 0.0)
    assert line["low"] < 0 < line["high"]
    assert "picture: colour" in score_tables.paired_table([line])
    with pytest.raises(ValueError, match="different rules"):
        score_tables.paired(new, old | {"rules": 1})
    with pytest.raises(ValueError, match="4 cases against 3"):
        score_tables.paired(new, {"right": {"picture: colour": "101"}})


def test_every_target_has_its_cases(writer):
    counts: dict[str, int] = {}
    for question in exam_cases.questions(writer, cases=6):
        for case in question:
            counts[case.skill] = counts.get(case.skill, 0) + 1
    wanted = set(exam_cases.TARGETS) - {"counterfactual pairs"}
    assert wanted <= set(counts)
    assert all(counts[skill] >= 6 for skill in wanted), counts
    assert len(list(exam_cases.pairs(writer, 8))) == 8


def spelled(writer, name: str, arguments: str, *, letters: bool = False) -> list[int]:
    """A call as tokens; with ``letters``, its arguments are spelt in tokens of one letter."""
    parts = arguments if letters else [arguments]
    written = [token for part in parts for token in writer.text(part)]
    return [CALLS, *writer.text(name), CALL_ID, *writer.text("000000001"), ARGS, *written]


def test_calls_are_the_same_if_their_arguments_are(writer):
    wanted = spelled(writer, "get", '{"city": "Havana", "days": 2}')
    accepts = exam_cases._same_calls(writer, [*wanted, END])
    other = spelled(writer, "get", '{"city": "Havana", "days": 2}', letters=True)
    assert other != wanted
    assert accepts([*other, END])
    assert accepts([*spelled(writer, "get", '{"days": 2, "city": "Havana"}'), END])
    for wrong in (
        [*wanted],  # never ends
        [*wanted, *wanted, END],  # twice
        [*writer.text("Well: "), *wanted, END],
        [*spelled(writer, "got", '{"city": "Havana", "days": 2}'), END],
        [*spelled(writer, "get", '{"city": "Havana", "days": 2.0}'), END],
        [*spelled(writer, "get", '{"city": "Havana", "days": true}'), END],
        [*spelled(writer, "get", '{"city": "Havana", "days": 2'), END],
        [*writer.text("Havana, 2"), END],
    ):
        assert not accepts(wrong)


def test_calls_that_one_pass_calls_wrong_are_written_on(writer):
    """A model that writes the right call in letters is right, and gets the ids put in."""
    reply = [*spelled(writer, "get", '{"city": "Havana"}'), END]
    own = [*spelled(writer, "get", '{"city": "Havana"}', letters=True), END]
    same = next(n for n, token in enumerate(own) if token != reply[n])
    exchange = Exchange(writer.text("Where?"), reply, [True] * len(reply))
    model = thin_model(seed=4)

    class Scripted(torch.nn.Module):
        """Writes ``rest`` after the ``first`` tokens that one pass finds the likeliest."""

        def __init__(self, first: list[int], rest: list[int]):
            super().__init__()
            self.first, self.rest = first, iter(rest)

        def forward(self, states):
            once = states.ndim == 2
            chosen = torch.tensor(self.first if once else [[next(self.rest)]])
            return torch.nn.functional.one_hot(chosen, model.config.text_config.vocab_size)

    def verdict(first: list[int], rest: list[int]) -> bool:
        model.lm_head = Scripted(first, rest)
        case = exam_cases.Case("two", exchange, exam_cases._same_calls(writer, reply))
        return scoring.Judge(model).verdicts([[case]]) == [[True]]

    padding = [0] * (len(reply) - same - 1)
    assert verdict(reply, [])
    assert verdict([*own[: same + 1], *padding], own[same + 1 :])
    assert not verdict([*own[: same + 1], *padding], [*own[same + 1 : -3], END])
    # It leaves the name behind and would write nines as the id, where the server has another.
    at = reply.index(CALL_ID)
    given = writer.text("000000001")
    nines = writer.text("999999999")[: len(given)]
    letters = [token for letter in "get" for token in writer.text(letter)]
    assert letters != writer.text("get")
    calls = [CALLS, *letters, CALL_ID, *nines, *own[own.index(ARGS) :]]
    assert verdict([*calls[:2], *[0] * (len(reply) - 2)], calls[2:])
    assert at == 2  # the name is one token, which is why the letters part at once


def test_the_expected_reply_is_itself_accepted(writer):
    """Or one pass could not speak for it."""
    asked = [*exam_cases.questions(writer, cases=20), *exam_cases.conversations(writer, 3)]
    asked += [question for pair in exam_cases.pairs(writer, 16) for question in pair]
    cases = [case for question in asked for case in question if case.accept]
    assert len(cases) > 100
    for case in cases:
        assert case.accept(case.exchange.reply)


def test_no_call_and_contained_values_are_judged_on_the_reply(writer):
    assert exam_cases._no_call([*writer.text("Paris."), END])
    assert not exam_cases._no_call([CALLS, *writer.text("get"), END])
    assert not exam_cases._no_call(writer.text("and so on and on"))
    accepts = exam_cases._contains(writer, ("67.8",))
    assert accepts([*writer.text("It has 67.8 million."), END])
    assert not accepts([*writer.text("It has 67 million."), END])


def test_chats_are_different_in_both_splits_and_kept_for_the_test(writer, tmp_path):
    train, held_out = (chat_tasks.prompts(s, 200, 0) for s in ("train", "held_out"))
    assert not {str(c[-1]) for c in train} & {str(c[-1]) for c in held_out}
    said = [
        chat_tasks.Reply(
            held_out[0], [500, 600, END], np.zeros((3, 2)), np.zeros((3, 2)), np.ones(3)
        )
    ]
    chat_tasks.save_tests(said, tmp_path / "replies.json")
    ((exchange, nats),) = chat_tasks.load_tests(writer, tmp_path / "replies.json")
    assert (exchange.reply, nats) == ([500, 600, END], 1.0)
    assert exchange.prompt == writer.prompt(held_out[0])[0]
