"""Rows, losses and training steps, on a model of the pocket's classes with two thin layers.

What a shared row computes is compared with each conversation computed alone, and losses with
numpy, scipy and transformers.
"""

import functools
import json
import random
from itertools import pairwise

import numpy as np
import pytest
import torch
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.validator import ValidationMode
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from safetensors.torch import load_file
from scipy.stats import entropy
from tiny_models import thin_model

from pocket_model.adapter import VISION_PREFIXES, merge_adapter, save_adapter
from pocket_model.build import ADAPTER_FILE
from pocket_model.tekken import CONTROL_IDS
from pocket_training import chat_tasks, lora, picture_tasks, scenes, tool_tasks, train, vision_stage
from pocket_training.examples import END, Example
from pocket_training.messages import system, user
from pocket_training.packing import batches_by_length, collate, fill_lines, pack


def new_student(encode, **options) -> lora.Student:
    model = thin_model()
    return lora.Student(model, vision_stage.word_vectors(model, encode), **options)


@pytest.mark.parametrize("kind", ["known", "two", "result", "mixed", "shapes", "two_pictures"])
def test_a_shared_row_computes_what_each_conversation_alone_computes(examples_of, encode, kind):
    examples = examples_of(kind)
    student = new_student(encode)
    with torch.no_grad():
        for layer in student.lora_layers.values():
            torch.nn.init.normal_(layer.lora_B, std=0.1)
        shared = student.losses(collate([[pack(examples)]]))
        alone = torch.cat([student.losses(collate([[pack([example])]])) for example in examples])
    assert len(pack(examples)) < sum(len(e.prompt) + len(e.reply) for e in examples)
    torch.testing.assert_close(shared, alone, atol=2e-4, rtol=0)


def test_rows_side_by_side_do_not_touch_each_other(examples_of, encode):
    student = new_student(encode)
    rows = [pack(examples_of(kind)) for kind in ("none", "shapes", "bars")]
    with torch.no_grad():
        together = student.losses(collate([[row] for row in rows]))
        alone = torch.cat([student.losses(collate([[row]])) for row in rows])
    torch.testing.assert_close(together, alone, atol=2e-4, rtol=0)


def test_rows_joined_on_one_line_compute_what_each_alone_computes(examples_of, encode):
    student = new_student(encode)
    rows = [pack(examples_of(kind)) for kind in ("none", "shapes", "corrected", "bars")]
    with torch.no_grad():
        for layer in student.lora_layers.values():
            torch.nn.init.normal_(layer.lora_B, std=0.1)
        batch = collate([rows])
        joined = student.losses(batch)
        alone = [student.losses(collate([[row]])) for row in rows]
    assert batch.input_ids.shape == (1, sum(map(len, rows)))
    assert batch.owners.bincount().tolist() == list(map(len, alone))
    torch.testing.assert_close(joined, torch.cat(alone), atol=2e-4, rtol=0)


def test_a_layer_rounded_to_nf4_computes_as_bitsandbytes_does():
    functional = pytest.importorskip("bitsandbytes").functional
    torch.manual_seed(0)
    linear = torch.nn.Linear(128, 64, bias=False)
    layer = lora.LoRALinear(linear, 4)
    with torch.no_grad():
        layer.lora_B.normal_(std=0.1)
        exact = layer(torch.eye(128))
        layer.round_to_nf4()
        layer.compute_rounded(True)
        changed = linear.weight + lora.SCALING * layer.lora_B @ layer.lora_A
        packed, state = functional.quantize_4bit(changed, quant_type="nf4", blocksize=64)
        expected = functional.dequantize_4bit(packed, state)
        x = torch.randn(3, 128)
        torch.testing.assert_close(layer(x), x @ expected.T, atol=1e-3, rtol=0)
        layer.compute_rounded(False)
        torch.testing.assert_close(layer(torch.eye(128)), exact)


def hello(**changes) -> chat_tasks.Reply:
    """A chat of one question and its reply of two tokens, with alternatives for each."""
    soft = (np.array([[600, 700], [END, 600]]), np.array([[0.9, 0.1], [0.8, 0.2]]))
    own = {"messages": [user("Hello")], "tokens": [600, END], "soft_targets": soft}
    return chat_tasks.Reply(**own | {"losses": np.zeros(2)} | changes)


def test_chats_are_also_learned_with_tools_at_hand(encoder):
    """The reply is the base's, whether tools are shown or not; a row shares its tools."""
    with_system = hello(messages=[system("Be brief."), user("Hello")])
    rows = [
        row
        for step in range(8)
        for kind, row in train.draw_rows(step, encoder, [hello(), with_system] * 20, times=2)
        if kind == "chat with tools"
    ]
    tools = CONTROL_IDS["[AVAILABLE_TOOLS]"]
    assert 2 < len(rows) < 14
    assert all(row.prefix[:2] == [CONTROL_IDS["<s>"], tools] for row in rows)
    assert {tuple(e.reply) for row in rows for _, e in row.continuations} == {(600, END)}
    assert all(e.soft_targets is not None for row in rows for _, e in row.continuations)
    known = {"get_current_population", "get_weather"}
    assert not any(name in encoder.chat_format.decode(r.prefix) for r in rows for name in known)


def test_steps_can_be_drawn_ahead_by_other_processes(encoder):
    chats = [hello()] * 20
    draw = train._Drawn(lambda step: train.draw_rows(step, encoder, chats), 5)
    options = {"batch_size": None, "sampler": range(3, 5), "collate_fn": train._as_it_is}
    ahead = train.DataLoader(draw, num_workers=2, **options)
    for step, rows in zip((3, 4), ahead, strict=True):
        own = train.draw_rows(step, encoder, chats)
        assert [kind for kind, _ in rows] == [kind for kind, _ in own]
        assert [row.prefix for _, row in rows] == [row.prefix for _, row in own]


def test_another_seed_draws_other_rows(encoder):
    def questions(seed: int) -> set[tuple[int, ...]]:
        rows = train.draw_rows(0, encoder, [], seed=seed)
        return {tuple(tokens) for _, row in rows for tokens, _ in row.continuations}

    assert questions(0) == questions(train.SEED)
    assert not questions(0) & questions(1)


@pytest.mark.parametrize(("max_tokens", "max_padding"), [(500, 1e9), (1e9, 1.2)])
def test_batches_are_as_large_as_their_limits_allow(max_tokens, max_padding):
    lengths = random.Random(0).choices(range(1, 200), k=100)

    def fits(batch: list[int]) -> bool:
        padded = max(batch) * len(batch)
        return padded <= max_tokens and padded <= max_padding * sum(batch)

    batches = list(batches_by_length(lengths, int, max_tokens=max_tokens, max_padding=max_padding))
    assert [length for batch in batches for length in batch] == sorted(lengths)
    assert all(fits(batch) for batch in batches)
    assert not any(fits([*batch, following[0]]) for batch, following in pairwise(batches))


def test_lines_take_every_row_that_fits_once():
    lengths = random.Random(0).choices(range(1, 130), k=100)
    lines = fill_lines(lengths, int, 120)
    assert sorted(n for line in lines for n in line) == sorted(n for n in lengths if n <= 120)
    assert max(map(sum, lines)) <= 120
    # First fit: of any two lines, the later one's rows had no room on the earlier one.
    assert all(sum(first) + sum(second) > 120 for first, second in pairwise(lines))


def test_lines_of_a_fixed_shape_compute_what_each_row_alone_computes(examples_of, encode):
    student = new_student(encode)
    rows = [pack(examples_of(kind)) for kind in ("none", "shapes", "bars")]
    with torch.no_grad():
        for layer in student.lora_layers.values():
            torch.nn.init.normal_(layer.lora_B, std=0.1)
        plain = student.losses(collate([[row] for row in rows]))
        shape = (5, sum(map(len, rows)) + 9)
        padded = student.losses(collate([rows[:2], rows[2:]], shape=shape))
    torch.testing.assert_close(padded, plain, atol=2e-4, rtol=0)


def test_what_is_learned_is_what_mistral_common_writes(encoder, tekken_file):
    """The reply's tokens equal those of a whole conversation encoded for fine-tuning."""
    finetuning = MistralTokenizer.from_file(tekken_file, ValidationMode.finetuning)
    for skill in ("known", "two", "none", "result"):
        (group,) = tool_tasks.tool_groups("train", skill, groups=1, per_group=3, seed=9)
        for case in group:
            example = encoder.tool_example(case, "given")
            request = ChatCompletionRequest.from_openai(
                messages=[*case.messages, case.reply], tools=case.tools
            )
            whole = finetuning.encode_chat_completion(request).tokens
            assert whole == example.prompt + example.reply


def test_random_ids_are_not_learned_and_numbered_ones_are(encoder):
    (group,) = tool_tasks.tool_groups("train", "two", groups=1, per_group=1, seed=2)
    given, numbered = (encoder.tool_example(group[0], ids) for ids in ("given", "numbered"))
    assert all(numbered.loss_mask)
    hidden = [t for t, counts in zip(given.reply, given.loss_mask, strict=True) if not counts]
    ids = "".join(call["id"] for call in group[0].reply["tool_calls"])
    assert encoder.chat_format.decode(hidden) == ids
    assert "000000001" in encoder.chat_format.decode(numbered.reply)


def test_pictures_are_encoded_as_the_stock_model_does(encoder):
    """Pictures of several sizes, each on a canvas, as if each were alone."""
    model = thin_model()
    drawn = [scenes.random_shapes(random.Random(k), "train").draw() for k in range(40)]
    pictures = [vision_stage.pixels(encoder.chat_format, picture) for picture in drawn]
    pixels, sizes = vision_stage.on_canvases(pictures)
    assert len(set(map(tuple, sizes.tolist()))) > 2
    with torch.no_grad():
        own = vision_stage.encode_images(model, pixels, sizes)
        shown = vision_stage.cells_shown(sizes)
        for canvas, picture, tokens, here in zip(pixels, pictures, own, shown, strict=True):
            size = torch.tensor([picture.shape[1:]])
            levels = canvas[:, : picture.shape[1], : picture.shape[2]].float()
            seen = (levels - vision_stage.ZERO) / vision_stage.LEVELS
            # Bytes: half a level away at most, which is less than one of an image file's 255.
            assert np.abs(seen.numpy() - picture).max() <= 0.501 / vision_stage.LEVELS
            stock = model.model.get_image_features(seen[None], size)
            (expected,) = stock.pooler_output
            torch.testing.assert_close(tokens[here], expected, atol=1e-5, rtol=0)


def test_words_in_one_token_are_read_back(encode):
    words = vision_stage.vocabulary()
    vectors = torch.randn(len(words), 576)
    labels = scenes.random_shapes(random.Random(1), "train", count=4).cell_labels()
    size = torch.tensor([[len(labels), len(labels[0])]])
    hot = vision_stage.multi_hot(labels)[vision_stage.cells_shown(size)[0]]
    shares = hot.float() @ vectors @ vision_stage.readout(vectors)
    found = [{words[i] for i in (row > 0.5).nonzero().flatten().tolist()} for row in shares]
    assert found == [set(cell) for line in labels for cell in line]
    assert vision_stage.word_vectors(thin_model(), encode).shape == (len(words), 64)


def test_labels_can_take_the_place_of_a_pictures_encoding(encoder, encode):
    """With oracle labels the picture's tokens are sums of embeddings, else the tower's."""
    case = next(picture_tasks.picture_groups("train", "shapes", groups=1, seed=5))[0]
    student, example = new_student(encode), encoder.picture_example(case)
    rows = student.model.get_input_embeddings().weight
    (cells,) = case.cell_labels
    expected = [
        sum(rows[encode(word if word.isdigit() else f" {word}")].sum(dim=0) for word in cell)
        for line in cells
        for cell in line
    ]
    with torch.no_grad():
        plain, oracle = (collate([[pack([example], oracle=o)]]) for o in (False, True))
        here = oracle.input_ids[0] == student.model.config.image_token_id
        torch.testing.assert_close(student.embed(oracle)[0, here], torch.stack(expected))
        pixels, sizes = vision_stage.on_canvases(example.pictures)
        shown = vision_stage.cells_shown(sizes)
        encoded = vision_stage.encode_images(student.model, pixels, sizes)[shown]
        torch.testing.assert_close(student.embed(plain)[0, here], encoded)
        assert torch.equal(student.embed(plain)[0, ~here], student.embed(oracle)[0, ~here])


def test_a_misread_word_costs_what_numpy_says():
    vectors = torch.randn(len(vision_stage.vocabulary()), 128)
    scene = scenes.random_shapes(random.Random(1), "train", count=4)
    labels = vision_stage.multi_hot(scene.cell_labels()).float()
    size = torch.tensor([[len(scene.cell_labels()), len(scene.cell_labels()[0])]])
    shown = vision_stage.cells_shown(size)
    wrong = labels.clone()
    cell = labels.sum(-1).argmax()
    red, blue = (vision_stage.vocabulary().index(word) for word in ("red", "blue"))
    wrong[cell, [red, blue]] = 1 - wrong[cell, [red, blue]]
    right, off = (
        vision_stage.loss((w @ vectors)[None], labels[None], shown, vectors)
        for w in (labels, wrong)
    )
    assert off > right + 0.1
    gap = ((wrong - labels) @ vectors).pow(2).mean(-1).numpy() / vectors.pow(2).mean().item()
    weight = np.where(labels.sum(-1) > 1, 4, 1) * shown[0].numpy()
    shares = vision_stage.SHARPNESS * (wrong.numpy() - 0.5)
    misread = np.logaddexp(0, shares) - shares * labels.numpy()
    expected = ((gap + vision_stage.MISREAD * misread.sum(-1)) * weight).sum() / weight.sum()
    assert off.item() == pytest.approx(expected, rel=1e-3)


def test_soft_targets_give_kullback_leibler_up_to_the_teachers_entropy(encoder, encode):
    """The loss against a distribution equals scipy's, on the student's own probabilities."""
    student = new_student(encode)
    prompt = encoder.chat_format.encode([{"role": "user", "content": "Hi"}]).ids
    reply = [100, END]
    ids, shares = np.array([[100, 200], [END, 300]]), np.array([[0.7, 0.3], [0.9, 0.1]])
    soft = Example(prompt, reply, [True, True], soft_targets=(ids, shares))
    with torch.no_grad():
        losses = student.losses(collate([[pack([soft])]])).numpy()
        whole = student.model(input_ids=torch.tensor([prompt + reply])).logits[0].softmax(-1)
    for index in range(2):
        q = whole[len(prompt) - 1 + index].numpy()[ids[index]]
        expected = entropy(shares[index], q) + entropy(shares[index])
        # scipy normalises q; undo that.
        assert losses[index] == pytest.approx(expected - np.log(q.sum()), abs=1e-4)


def test_training_resumes_where_it_was_interrupted(encoder, encode, tmp_path, monkeypatch):
    small = {"CHECKPOINT_EVERY_S": 0.0, "LOG_EVERY": 1, "NF4_EVERY": 2}
    for name, value in small.items():
        monkeypatch.setattr(train, name, value)
    mix = (1, 1, 6)
    chats = [hello()] * 6

    def run(folder, *stops):
        folder.mkdir()
        for stop in stops:
            student = new_student(encode)
            with monkeypatch.context() as patch:
                if stop < stops[-1]:
                    # As if the process had died after this step's checkpoint.
                    patch.setattr(train, "tqdm", functools.partial(_Until, stop=stop))
                plan = train.Plan(text_steps=stops[-1], mix=mix, nf4_from=0.5)
                train.train_text(student, encoder, chats, folder, plan)
        return student

    whole, halves = run(tmp_path / "whole", 4), run(tmp_path / "halves", 2, 4)
    for name, parameter in whole.trainable().items():
        assert torch.equal(parameter, halves.trainable()[name]), name
    logs = [(tmp_path / f / "losses.jsonl").read_text() for f in ("whole", "halves")]
    assert logs[0] == logs[1]
    assert [json.loads(line)["step"] for line in logs[0].splitlines()] == [0, 1, 2, 3]


def test_a_stage_can_have_a_time_instead_of_steps(encoder, encode, tmp_path, monkeypatch):
    """The rate falls in the time's last third. The time of an interrupted run counts too."""
    monkeypatch.setattr(train, "CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr(train, "DESCRIBED", 1)
    now = [0.0]
    monkeypatch.setattr(train.time, "monotonic", lambda: now[0])
    shares, rates = [], []

    def rate(step, share, peak, warm_up):
        now[0] += 10  # the time that a step takes
        shares.append(share)
        rates.append(learning_rate(max(step, warm_up), share, peak, warm_up))
        return rates[-1]

    learning_rate = train.learning_rate
    monkeypatch.setattr(train, "learning_rate", rate)
    plan = train.Plan(text_steps=0, text_minutes=1.5, text_rate=0.3, mix=(1, 0, 6))
    chats = [hello()] * 6
    with monkeypatch.context() as patch:
        patch.setattr(train, "tqdm", functools.partial(_Until, stop=4))
        train.train_text(new_student(encode), encoder, chats, tmp_path, plan)
    now[0] += 1000  # nobody trained in between
    train.train_text(new_student(encode), encoder, chats, tmp_path, plan)
    assert shares == pytest.approx([step / 9 for step in range(9)])
    assert rates == pytest.approx([0.3] * 7 + [0.2, 0.1])


class _Until:
    """A progress bar that ends early, as an interrupted run does."""

    def __init__(self, steps, *_, stop, **__):
        self._steps = [step for step in steps if step < stop]

    def __iter__(self):
        return iter(self._steps)

    def set_postfix(self, *_, **__):
        pass


@pytest.mark.slow
def test_the_whole_recipe_runs_and_goes_on(gguf_file, tmp_path, monkeypatch):
    """On the real base, a few steps of each stage: twice, the second time further."""
    work, target = tmp_path / "work", tmp_path / "adapter"
    work.mkdir()
    (work / gguf_file.name).symlink_to(gguf_file)
    for name, value in {
        "CHATS": {"train": 2, "held_out": 2},
        "VISION_BATCH": 2,
        "VISION_STEPS": 2,
        "TEXT_STEPS": 1,
        "LOG_EVERY": 1,
    }.items():
        monkeypatch.setattr(train, name, value)

    def plan(**changes):
        steps = {"vision_steps": train.VISION_STEPS, "text_steps": train.TEXT_STEPS}
        return train.Plan(**steps, mix=(1, 1, 1), **changes)

    train.train(work, target, plan())
    replies = {path: path.stat().st_mtime_ns for path in work.glob("replies-*")}
    first = load_file(target / ADAPTER_FILE.name)
    monkeypatch.setattr(train, "TEXT_STEPS", 2)
    train.train(work, target, plan())
    second = load_file(target / ADAPTER_FILE.name)
    logged = (work / "losses.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in logged] == [0, 1]
    assert replies == {path: path.stat().st_mtime_ns for path in work.glob("replies-*")}
    assert len(replies) == 2
    shipped = {name: tensor.shape for name, tensor in load_file(ADAPTER_FILE).items()}
    assert {name: tensor.shape for name, tensor in second.items()} == shipped
    # The second run goes on with the text stage alone, in which the vision encoder learns too.
    changed = {name for name in shipped if not torch.equal(first[name], second[name])}
    assert {name.startswith(VISION_PREFIXES) for name in changed} == {True, False}
    assert not (work / "vision_losses.jsonl").read_text().splitlines()[2:]
    assert json.loads((target / chat_tasks.HELD_OUT_REPLIES.name).read_text())
    # From the adapter of that run, with an encoder that stays as it is.
    further = tmp_path / "further"
    further.mkdir()
    for kept in [work / gguf_file.name, *replies]:
        (further / kept.name).symlink_to(kept)
    monkeypatch.setattr(train, "VISION_STEPS", 0)
    train.train(further, further, plan(start=target / ADAPTER_FILE.name, frozen_vision=True))
    third = load_file(further / ADAPTER_FILE.name)
    changed = {name for name in shipped if not torch.equal(second[name], third[name])}
    assert changed
    assert not any(name.startswith(VISION_PREFIXES) for name in changed)
    # With half of the old weights kept; the run is finished, so it learns no more.
    start = target / ADAPTER_FILE.name
    train.train(further, further, plan(start=start, frozen_vision=True, kept_share=0.5))
    mixed = load_file(further / ADAPTER_FILE.name)
    for name, tensor in mixed.items():
        expected = (second[name].float() + third[name].float()) / 2
        torch.testing.assert_close(tensor.float(), expected, rtol=0.01, atol=1e-4)


def test_multiplying_in_half_precision_teaches_nearly_the_same(examples_of, encode):
    batch = collate([[pack(examples_of(kind))] for kind in ("known", "shapes")])
    results = {}
    for half in (False, True):
        student = new_student(encode, half=half)
        losses = student.losses(batch)
        losses.mean().backward()
        slopes = [parameter.grad.flatten() for parameter in student.trainable().values()]
        results[half] = losses, torch.cat(slopes)
        assert all(slope.dtype == torch.float32 for slope in slopes)
    # bfloat16 has three significant digits.
    torch.testing.assert_close(results[True][0], results[False][0], atol=0.1, rtol=0)
    assert not torch.equal(results[True][0], results[False][0])
    assert torch.cosine_similarity(results[True][1], results[False][1], dim=0) > 0.99


def test_a_saved_adapter_makes_the_student_again(examples_of, encode, tmp_path):
    student = new_student(encode)
    with torch.no_grad():
        for parameter in student.trainable().values():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    save_adapter(student.adapter_state(), tmp_path / "adapter.safetensors")
    built = merge_adapter(thin_model(), tmp_path / "adapter.safetensors")
    batch = collate([[pack(examples_of("known"))]])
    with torch.no_grad():
        own = student.losses(batch)
        states = built.model.language_model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
        ).last_hidden_state
        logs = built.lm_head(states.flatten(0, 1)[batch.predictors]).log_softmax(-1)
    theirs = -logs.gather(1, batch.labels[:, None])[:, 0]
    # The file holds bfloat16: three significant digits.
    torch.testing.assert_close(own, theirs, atol=0.1, rtol=0)


def test_training_goes_on_from_an_adapter_file(encode, tmp_path):
    student, other = new_student(encode), new_student(encode)
    with torch.no_grad():
        for parameter in student.trainable().values():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    save_adapter(student.adapter_state(), tmp_path / "adapter.safetensors")
    other.start_from(tmp_path / "adapter.safetensors")
    for name, parameter in student.trainable().items():
        torch.testing.assert_close(other.trainable()[name], parameter, atol=1e-2, rtol=1e-2)


def test_chats_are_different_in_both_splits_and_kept_for_the_test(encoder, tmp_path):
    train_chats, held_out = (chat_tasks.prompts(s, 200, 0) for s in ("train", "held_out"))
    assert not {str(c[-1]) for c in train_chats} & {str(c[-1]) for c in held_out}
    targets = (np.zeros((3, 2)), np.zeros((3, 2)))
    reply = chat_tasks.Reply(held_out[0], [500, 600, END], targets, np.ones(3))
    chat_tasks.save_held_out([reply], tmp_path / "replies.json")
    ((example, nats),) = chat_tasks.load_held_out(encoder.chat_format, tmp_path / "replies.json")
    assert (example.reply, nats) == ([500, 600, END], 1.0)
    assert example.prompt == encoder.chat_format.encode(held_out[0]).ids
