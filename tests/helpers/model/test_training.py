"""The memory plan against what peft makes and PyTorch keeps."""

import gc

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import text_model

from helpers.finetune import adapters
from helpers.model import cards, configs, training
from helpers.model.loading import load_4bit

SMALL = "mistral-small-3.2-2506"


def tensors(batch, tokens, vocabulary=90):
    """Random rows, of which the last one is shorter: so there is a mask, as in real batches."""
    ids = torch.randint(1, vocabulary, (batch, tokens), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[-1, -3:] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


@pytest.mark.parametrize("rank", [8, 16])
def test_the_24bs_adapter_has_as_many_parameters_as_peft_makes(rank):
    model = configs.empty_model(configs.load(SMALL))
    config = LoraConfig(r=rank, target_modules=adapters.LANGUAGE_MODEL)
    model = get_peft_model(model, config, low_cpu_mem_usage=True)
    counted = sum(p.numel() for n, p in model.named_parameters() if "lora_" in n)
    assert training.adapter_parameters(SMALL, rank) == counted


@pytest.mark.parametrize(("batch", "tokens"), [(1, 16), (4, 24)])
def test_what_is_planned_is_what_is_kept(batch, tokens):
    """A tiny model in bf16 with adapters in float32; masks and rotary tables are not planned."""
    model = adapters.add(text_model().to(torch.bfloat16), rank=4)
    found = training.measure(model, tensors(batch, tokens))
    plan = training.plan(
        model.config, rank=4, batch=batch, tokens=tokens, scheme="bf16", overhead_bytes=0
    )
    for part in ("weights", "adapter", "gradients", "optimizer", "logits"):
        assert plan.parts[part] == found[part], part
    assert plan.parts["activations"] == pytest.approx(found["activations"], rel=0.05)


@pytest.mark.slow
@pytest.mark.pocket
def test_the_pocket_model_in_4_bits_keeps_what_was_planned(model_folder):
    model = adapters.add(load_4bit(model_folder).model, rank=16)
    found = training.measure(model, tensors(2, 32, vocabulary=40_000))
    plan = training.plan(model.config, rank=16, batch=2, tokens=32, overhead_bytes=0)
    for part in ("weights", "adapter", "gradients", "optimizer", "logits"):
        assert plan.parts[part] == found[part], part
    assert plan.parts["activations"] == pytest.approx(found["activations"], rel=0.002)
    # At the peak the backward pass has not made the gradients of the adapters yet.
    together = sum(plan.parts.values()) - plan.parts["weights"] - plan.parts["adapter"]
    assert together - plan.parts["gradients"] == pytest.approx(found["step"], rel=0.02)


def test_counting_keeps_nothing_after_it():
    """Once it kept 41 GB of a 24B's activations on a GPU: autograd held them, so gc could not."""
    model = adapters.add(text_model(), rank=4)
    batch = tensors(2, 16)

    def alive() -> int:
        gc.collect()
        return sum(isinstance(each, torch.Tensor) for each in gc.get_objects())

    before = alive()
    training.kept_bytes(model, batch)
    assert alive() == before


def test_measuring_changes_no_weight():
    model = adapters.add(text_model(), rank=4)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    training.measure(model, tensors(1, 8))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert all(p.grad is None for p in model.parameters())


def test_checkpointing_keeps_less_and_pytorch_agrees():
    model = adapters.add(text_model().to(torch.bfloat16), rank=4)
    everything, logits = training.kept_bytes(model, tensors(2, 24))
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    less, same = training.kept_bytes(model, tensors(2, 24))
    assert same == logits
    assert less < everything / 3
    text = model.config.get_text_config()
    inputs = text.num_hidden_layers * 48 * 2 * text.hidden_size
    planned = training.plan(
        model.config, rank=4, batch=2, tokens=24, scheme="bf16", checkpointing=True
    )
    assert planned.parts["activations"] == inputs + 48 * training.layer_bytes(text, 4)


def test_the_24b_fits_into_24_gb_with_checkpointing_only_and_never_on_a_t4():
    plans = [
        training.plan(SMALL, rank=16, batch=1, tokens=2048, checkpointing=on)
        for on in (False, True)
    ]
    large, small = cards.gpu("RTX 4090").usable_bytes, cards.gpu("T4").usable_bytes
    assert [plan.fits(large) for plan in plans] == [False, True]
    assert not any(plan.fits(small) for plan in plans)
    assert plans[1].parts["weights"] > 0.9 * small  # the weights alone fill a T4


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"rank": 0}, "rank"), ({"batch": 0}, "batch"), ({"tokens": 10**9}, "tokens")],
)
def test_an_argument_out_of_range_is_named(wrong, says):
    with pytest.raises(ValueError, match=says):
        training.plan(SMALL, **({"rank": 8, "batch": 1, "tokens": 64} | wrong))
