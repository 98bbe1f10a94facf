"""Adapters: which layers they change, what is saved, and onto which model they fit."""

import json
import sys
from importlib.metadata import version

import pytest
import torch
from tiny_models import text_model, vision_model

from helpers.finetune import adapters, labels, loop
from helpers.model import configs, training
from helpers.model.loading import load_4bit

TENSORS = labels.batch([labels.Example([1, 5, 9, 30, 2], [-100, -100, -100, 30, 2])], 0)


def changed_layers(model) -> set[str]:
    return {name.split(".lora_A")[0] for name, _ in model.named_parameters() if ".lora_A" in name}


def trained(model, name="default"):
    model = adapters.add(model, rank=4, name=name)
    loop.train(model, [TENSORS] * 3, rate=1e-2)
    return model


def logits(model):
    with torch.no_grad():
        return model(TENSORS["input_ids"]).logits


@pytest.mark.parametrize("make", [text_model, vision_model])
def test_the_language_model_alone_gets_an_adapter(make):
    model = adapters.add(make(), rank=4)
    found = changed_layers(model)
    assert len(found) == 7 * 2
    assert not [name for name in found if "vision" in name or "projector" in name]


def test_by_the_ends_of_names_the_vision_tower_would_get_one_too():
    model = adapters.add(vision_model(), rank=4, targets=list(training.LINEARS))
    assert any("vision_tower" in name for name in changed_layers(model))


def test_the_trainable_share_counts_4_bit_weights_as_one_each(text_folder):
    in_4_bits = adapters.add(load_4bit(text_folder, force=True).model, rank=4)
    in_full = adapters.add(text_model(), rank=4)
    assert adapters.trainable_share(in_4_bits) == adapters.trainable_share(in_full)
    count, share = adapters.trainable_share(in_full)
    assert count == training.adapter_parameters(in_full.config, 4)
    assert share == pytest.approx(count / sum(p.numel() for p in in_full.parameters()))


def test_seeds_differ_and_repeat():
    def first(seed):
        model = adapters.add(text_model(), rank=4, seed=seed)
        return next(p.detach() for n, p in model.named_parameters() if "lora_A" in n)

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


def test_an_adapter_that_was_saved_and_loaded_gives_equal_logits(tmp_path):
    model = trained(text_model())
    before = logits(text_model())
    folder = adapters.save(model, tmp_path / "adapter")
    again = adapters.load(text_model(), folder)
    assert torch.equal(logits(again), logits(model))
    assert not torch.equal(logits(again), before)
    with again.disable_adapter():
        assert torch.equal(logits(again), before)


def test_several_adapters_of_one_base_are_told_apart(tmp_path):
    model = trained(text_model(), name="one")
    one = adapters.save(model, tmp_path, name="one")
    adapters.add(model, rank=4, name="two", seed=5)
    loop.train(model, [TENSORS] * 3, rate=1e-2)
    two = adapters.save(model, tmp_path, name="two")
    expected = logits(model)
    again = adapters.load(adapters.load(text_model(), one, name="one"), two, name="two")
    assert torch.equal(logits(again), expected)
    again.set_adapter("one")
    assert not torch.equal(logits(again), expected)


def test_another_base_is_refused_with_both_fingerprints(tmp_path):
    model = trained(text_model())
    folder = adapters.save(model, tmp_path / "adapter")
    other = text_model()
    with torch.no_grad():
        other.get_input_embeddings().weight[3] += 1
    with pytest.raises(adapters.AdapterError, match="trained on another model") as error:
        adapters.load(other, folder)
    assert adapters.fingerprint(other) in str(error.value)
    assert adapters.fingerprint(text_model()) in str(error.value)
    with pytest.raises(adapters.AdapterError, match="trained on another model"):
        adapters.load(vision_model(), folder)  # another architecture


def test_a_base_has_one_fingerprint_in_bf16_and_in_4_bits(text_folder):
    full = configs.auto_class(text_model().config).from_pretrained(text_folder)
    assert adapters.fingerprint(full) == adapters.fingerprint(
        load_4bit(text_folder, force=True).model
    )
    assert adapters.fingerprint(adapters.add(full, rank=4)) == adapters.fingerprint(full)


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_a_folder_without_an_adapter_is_told(tmp_path, content):
    if content is not None:
        (tmp_path / adapters.BASE).write_text(content)
    with pytest.raises(adapters.AdapterError, match="has no adapter of this kit"):
        adapters.load(text_model(), tmp_path)


def test_an_old_torchao_as_on_colab_stops_nothing(tmp_path, monkeypatch):
    """peft itself ends with an error: shown first, so that the test cannot pass without cause."""
    (tmp_path / "torchao").mkdir()
    (tmp_path / "torchao/__init__.py").touch()
    info = tmp_path / "torchao-0.10.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torchao\nVersion: 0.10.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert version("torchao") == "0.10.0"
    import peft
    from peft.import_utils import is_torchao_available

    is_torchao_available.cache_clear()
    config = peft.LoraConfig(r=4, target_modules=["q_proj"])
    with pytest.raises(ImportError, match="incompatible version of torchao"):
        peft.get_peft_model(text_model(), config)
    is_torchao_available.cache_clear()
    assert adapters.add(text_model(), rank=4)
    assert "torchao" not in sys.modules
    is_torchao_available.cache_clear()


def test_what_is_beside_an_adapter_names_its_base(tmp_path):
    folder = adapters.save(trained(text_model()), tmp_path / "adapter")
    saved = json.loads((folder / adapters.BASE).read_text())
    assert saved == {"base": adapters.fingerprint(text_model())}
