"""Perplexity and divergence against numpy and scipy, on a model's own logits."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from tiny_models import TEXT

from helpers.model import quality


@pytest.fixture(scope="module")
def model():
    from transformers import AutoModelForCausalLM, MistralConfig

    torch.manual_seed(3)
    return AutoModelForCausalLM.from_config(MistralConfig(**TEXT)).eval()


IDS = list(range(5, 45))


def test_perplexity_is_e_to_the_mean_loss(model):
    predicted = quality.predictions(model, IDS)
    with torch.no_grad():
        loss = model(input_ids=torch.tensor([IDS]), labels=torch.tensor([IDS])).loss
    assert predicted.perplexity == pytest.approx(float(loss.exp()), rel=1e-5)


def test_in_chunks_every_token_is_predicted_once(model):
    predicted = quality.predictions(model, IDS, chunk=7)
    assert predicted.targets.tolist() == IDS[1:]
    assert predicted.log_probabilities.shape == (len(IDS) - 1, TEXT["vocab_size"])
    with torch.no_grad():
        second = model(input_ids=torch.tensor([IDS[7:14]])).logits[0].log_softmax(-1)
    torch.testing.assert_close(predicted.log_probabilities[7:14], second)


def test_divergence_is_scipys(model):
    full = quality.predictions(model, IDS)
    noise = torch.randn_like(full.log_probabilities)
    other = quality.Predictions((full.log_probabilities + noise).log_softmax(-1), full.targets)
    expected = entropy(
        full.log_probabilities.double().exp().numpy().T,
        other.log_probabilities.double().exp().numpy().T,
    )
    np.testing.assert_allclose(quality.kl_divergence(full, other), expected, rtol=1e-3, atol=1e-5)
    assert quality.kl_divergence(full, full).max() < 1e-6


def test_a_worse_model_is_seen_as_worse(model):
    full = quality.predictions(model, IDS)
    sharp = torch.full_like(full.log_probabilities, -20.0)
    sharp.scatter_(1, full.targets[:, None], 0.0)
    oracle = quality.Predictions(sharp.log_softmax(-1), full.targets)
    first, second = quality.compare(oracle, {"random": full})
    assert first["perplexity"] == pytest.approx(1, abs=1e-3)
    assert second["loss_difference"] > 0
    assert second["low"] < second["loss_difference"] < second["high"]
    difference = full.losses - oracle.losses
    assert second["loss_difference"] == pytest.approx(difference.mean(), rel=1e-6)
    half = 1.96 * difference.std(ddof=1) / np.sqrt(len(difference))
    assert second["high"] - second["loss_difference"] == pytest.approx(half, rel=1e-6)


def test_one_token_is_no_text(model):
    with pytest.raises(ValueError, match="at least two"):
        quality.predictions(model, [5])
