"""The loop on tiny models and on the pocket model; its figures are trl's."""

import random
import subprocess
import sys

import pytest
import torch
from tiny_models import text_model

from helpers import wire
from helpers.compare import ways
from helpers.finetune import adapters, data, labels, loop, trl_loop
from helpers.model.loading import load_4bit
from helpers.paths import DATA

EXAMPLES = [
    labels.Example([1, 5 + n, 9, 30 + n, 2], [-100, -100, -100, 30 + n, 2]) for n in range(8)
]


def tuned_tiny(seed=0):
    return adapters.add(text_model(), rank=4, alpha=8, seed=seed)


def test_batches_use_every_example_before_one_comes_again():
    made = loop.batches(EXAMPLES, size=3, steps=8, pad=0, seed=1)
    assert len(made) == 8
    seen = [row[1].item() - 5 for each in made for row in each["input_ids"]]
    assert sorted(seen[:8]) == sorted(seen[8:16]) == list(range(8))
    again = loop.batches(EXAMPLES, size=3, steps=8, pad=0, seed=1)
    assert all(torch.equal(a["labels"], b["labels"]) for a, b in zip(made, again, strict=True))
    other = loop.batches(EXAMPLES, size=3, steps=8, pad=0, seed=2)
    assert not all(torch.equal(a["labels"], b["labels"]) for a, b in zip(made, other, strict=True))


@pytest.mark.parametrize("count", [80, 84, 300])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_examples_of_about_one_length_share_a_batch(count, seed):
    random_ = random.Random(0)
    lengths = [random_.randrange(27, 60) for _ in range(count)]
    examples = [labels.Example([1] * length, [-100] * length) for length in lengths]
    made = loop.batches(examples, 8, 2 * count // 8, pad=0, seed=seed)
    filled = sum((each["attention_mask"] == 0).sum() for each in made)
    assert filled < 0.1 * sum(each["input_ids"].numel() for each in made)


def test_few_examples_fill_large_batches():
    made = loop.batches(EXAMPLES[:3], size=8, steps=2, pad=0)
    assert [each["input_ids"].shape[0] for each in made] == [8, 8]


def test_the_loss_falls_and_the_base_stays():
    model = tuned_tiny()
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    losses = loop.train(model, [labels.batch(EXAMPLES, 0)] * 60, rate=3e-2)
    assert len(losses) == 60
    assert losses[-1] < losses[0] - 0.5  # a random head of this size cannot say much more
    for name, parameter in model.named_parameters():
        assert name not in frozen or torch.equal(parameter, frozen[name])


def test_the_loss_is_that_of_the_learned_tokens_alone():
    model = tuned_tiny()
    tensors = labels.batch([EXAMPLES[0], labels.Example([1, 2], [-100, 2])], 0)
    seen = []
    (loss,) = loop.train(model, [tensors], rate=0.0, on_step=seen.append)
    with torch.no_grad():
        logs = model(tensors["input_ids"], attention_mask=tensors["attention_mask"]).logits
        logs = logs.log_softmax(-1)
    expected = -(logs[0, 2, 30] + logs[0, 3, 2] + logs[1, 0, 2]) / 3
    assert loss == pytest.approx(expected.item(), rel=1e-4)
    assert seen == [[loss]]


def test_every_lora_matrix_gets_a_gradient():
    """B from the first step; A from the second on, since B begins at zero."""
    model = tuned_tiny()
    matrices = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert len(matrices) == 2 * 7 * 2  # A and B, seven layers, two blocks
    before = {name: parameter.detach().clone() for name, parameter in matrices.items()}
    tensors = [labels.batch(EXAMPLES, 0)] * 3
    loop.train(model, tensors[:1], rate=1e-2)
    moved = {name: not torch.equal(matrices[name], before[name]) for name in matrices}
    assert moved == {name: "lora_B" in name for name in matrices}
    loop.train(model, tensors, rate=1e-2)
    assert not any(torch.equal(matrices[name], before[name]) for name in matrices)


def test_nothing_trainable_is_told():
    model = text_model().requires_grad_(False)
    with pytest.raises(loop.TrainingError, match="Nothing is trainable"):
        loop.train(model, [labels.batch(EXAMPLES, 0)])


def test_a_loss_that_is_no_number_stops_with_the_step():
    model = tuned_tiny()
    with torch.no_grad():
        model.get_output_embeddings().weight[0, 0] = float("inf")
    with pytest.raises(loop.TrainingError, match=r"in step 1: lower the rate"):
        loop.train(model, [labels.batch(EXAMPLES, 0)])


OUT_OF_MEMORY = """
import resource, torch
from tiny_models import text_model
from helpers.finetune import adapters, labels, loop
model = adapters.add(text_model(), rank=4)
example = labels.Example([1] * 20_000, [2] * 20_000)
tensors = labels.batch([example] * 64, 0)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000,) * 2)
try:
    loop.train(model, [tensors])
except loop.TrainingError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is Linux's")
def test_out_of_memory_says_what_to_lower_first():
    command = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}\n{OUT_OF_MEMORY}"]
    done = subprocess.run(command, capture_output=True, text=True)
    said = done.stdout
    assert "The memory ran out in training" in said, done.stderr[-2000:]
    places = [said.index(words) for words in ("fewer examples", "shorter", "checkpointing", "rank")]
    assert places == sorted(places)


def test_another_error_is_not_called_one_of_memory():
    with pytest.raises(IndexError):
        loop.train(tuned_tiny(), [labels.batch([labels.Example([95, 200], [-100, 1])], 0)])


@pytest.fixture(scope="module")
def pocket(model_folder):
    """The pocket model in 4 bits, ready to be trained; not to be asked in evaluation mode.

    It computes in float32: in bf16 the two loops round differently, and Adam's first step enlarges
    that to a hundredth of the next loss.
    """
    return load_4bit(model_folder, compute_dtype=torch.float32)


@pytest.fixture(scope="module")
def examples(model_folder):
    tokenizer = wire.from_file(model_folder / "tekken.json")
    lines = data.read(DATA / "finetune" / "train.jsonl")[:4]
    return lines, data.encode(lines, tokenizer, longest=96), labels.pad_id(tokenizer)


@pytest.mark.slow
@pytest.mark.pocket
def test_a_tuned_model_ends_its_answers(model_folder, examples):
    """By heart, the pocket model in 4 bits writes each record and then `</s>`."""
    lines, encoded, pad = examples
    loaded = load_4bit(model_folder)
    model = adapters.add(loaded.model, seed=0)
    loop.train(model, [labels.batch(encoded, pad)] * 14, rate=4e-3)
    asker = ways.InMemory(model.eval(), loaded.tokenizer, {})
    way = ways.Way("chat", system=lines[0]["messages"][0]["content"])
    asked = [line["messages"][1]["content"] for line in lines]
    told = [line["messages"][2]["content"] for line in lines]
    assert list(asker.ask(way, asked, max_tokens=40)) == told  # 40: far more than they need


@pytest.mark.slow
@pytest.mark.pocket
@pytest.mark.skipif(not trl_loop.installed(), reason=trl_loop.MISSING)
def test_sfttrainer_gives_the_loops_losses(pocket, examples):
    _, encoded, pad = examples
    model = adapters.add(pocket.model, name="loop", seed=7)
    pairs = [labels.batch(encoded[n : n + 2], pad) for n in (0, 2)]
    ours = loop.train(model, pairs, rate=1e-3)
    adapters.add(model, name="trl", seed=7)
    theirs = trl_loop.train(model, pocket.tokenizer, encoded, batch=2, steps=2, rate=1e-3)
    assert theirs == pytest.approx(ours, abs=0.002)
