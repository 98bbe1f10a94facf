"""Merged models answer as the adapter beside its base does, up to rounding."""

import shutil
from contextlib import closing

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from helpers import connect, wire
from helpers.finetune import adapters, data, deploy, labels, loop
from helpers.model import configs
from helpers.paths import DATA


@pytest.fixture(scope="module")
def examples(model_folder):
    tokenizer = wire.from_file(model_folder / "tekken.json")
    lines = data.read(DATA / "finetune" / "train.jsonl")[:2]
    return data.encode(lines, tokenizer, longest=96), labels.pad_id(tokenizer)


def in_float32(folder):
    config = AutoConfig.from_pretrained(folder)
    return configs.auto_class(config).from_pretrained(folder, config=config, dtype=torch.float32)


@pytest.fixture(scope="module")
def tuned(model_folder, examples, tmp_path_factory):
    """The pocket model with an adapter after eight steps, and where the adapter is."""
    encoded, pad = examples
    model = adapters.add(in_float32(model_folder), rank=4)
    loop.train(model, [labels.batch(encoded, pad)] * 8, rate=1e-2)
    folder = adapters.save(model, tmp_path_factory.mktemp("tuned") / "adapter")
    return model.eval(), folder


@pytest.fixture(scope="module")
def merged(model_folder, tuned, tmp_path_factory):
    return deploy.merge(model_folder, tuned[1], tmp_path_factory.mktemp("merged") / "model")


@pytest.mark.slow
@pytest.mark.pocket
def test_a_merged_model_predicts_what_the_adapter_predicts(model_folder, tuned, merged, examples):
    reference = deploy.predictions(tuned[0], examples[0])
    same = deploy.predictions(in_float32(merged), examples[0])
    before = deploy.predictions(in_float32(model_folder), examples[0])
    assert deploy.mean_divergence(reference, reference) == 0
    moved = deploy.mean_divergence(reference, same)
    assert moved < 0.02 < deploy.mean_divergence(reference, before)  # bf16 alone lies between
    assert len(reference[0].targets) == examples[0][0].learned
    assert reference[0].targets.tolist()[-1] == examples[0][0].ids[-1]
    probabilities = np.exp(reference[0].log_probabilities.numpy()).sum(1)
    assert probabilities == pytest.approx(np.ones_like(probabilities), abs=1e-4)


@pytest.mark.slow
@pytest.mark.pocket
def test_the_pocket_server_answers_with_the_merged_model(merged):
    """It gives a record of the form that training taught, and the base does not."""
    line = data.read(DATA / "finetune" / "train.jsonl")[0]
    request = {"messages": line["messages"][:-1], "temperature": 0, "max_tokens": 24}

    def answer(lab):
        reply = lab.client.chat.completions.create(model=lab.model, **request)
        return reply.choices[0].message.content

    with deploy.served(merged) as address:
        assert answer(connect(address)).startswith('{"topic": "')
    with closing(connect("pocket")) as lab:
        assert not answer(lab).startswith('{"topic": "')


def test_a_server_that_does_not_start_says_why(tmp_path):
    with (
        pytest.raises(RuntimeError, match="The pocket server did not start"),
        deploy.served(tmp_path),
    ):
        pass


@pytest.mark.slow
def test_an_adapter_of_another_base_is_not_merged(model_folder, tuned, tmp_path, text_folder):
    other = shutil.copytree(text_folder, tmp_path / "other")  # which other tests use too
    (other / "tekken.json").touch()
    with pytest.raises(adapters.AdapterError, match="another model"):
        deploy.merge(other, tuned[1], tmp_path / "out")
    assert not (tmp_path / "out").exists()
