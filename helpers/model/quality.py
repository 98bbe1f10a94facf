"""What quantization costs: how far a model's predictions move, and how much worse they get.

Both models predict the same text, token by token. The Kullback-Leibler divergence between their
predictions says how far these moved; the perplexity says if they got worse.
"""

from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel


@dataclass(frozen=True)
class Predictions:
    """A model's predictions along a text.

    Attributes:
        log_probabilities: natural logarithms, float32 on the CPU, shape (tokens − 1, vocabulary).
        targets: ids of the tokens that followed, int64, shape (tokens − 1,).
    """

    log_probabilities: torch.Tensor
    targets: torch.Tensor

    @property
    def losses(self) -> np.ndarray:
        """The cross-entropy loss of each token in nats, shape (tokens − 1,)."""
        return -self.log_probabilities.gather(1, self.targets[:, None])[:, 0].numpy()

    @property
    def perplexity(self) -> float:
        """e to the mean loss: the model is as unsure as among so many equally likely tokens."""
        return float(np.exp(self.losses.mean()))


@torch.no_grad()
def predictions(model: PreTrainedModel, token_ids: list[int], chunk: int = 512) -> Predictions:
    """Predict each token of a text from the tokens before it, at most `chunk` of them.

    Raises:
        ValueError: fewer than two tokens.
    """
    if len(token_ids) < 2:
        raise ValueError(f"token_ids: expected at least two, got {len(token_ids)}")
    parts = []
    for start in range(0, len(token_ids) - 1, chunk):
        ids = torch.tensor([token_ids[start : start + chunk + 1]], device=model.device)
        logits = model(input_ids=ids[:, :-1]).logits[0]
        parts.append(logits.float().log_softmax(-1).cpu())
    return Predictions(torch.cat(parts), torch.tensor(token_ids[1:]))


def kl_divergence(full: Predictions, quantized: Predictions) -> np.ndarray:
    """Kullback-Leibler divergence at each token, in nats, shape (tokens − 1,).

    It is zero if both models predict the same. It grows if the quantized model gives little
    probability to tokens that are likely for the full one.
    """
    p, q = full.log_probabilities, quantized.log_probabilities
    return (p.exp() * (p - q)).sum(-1).clamp(min=0).numpy()


def compare(full: Predictions, others: dict[str, Predictions]) -> list[dict]:
    """One row per model: perplexity, difference in loss with its 95 % interval, divergence.

    Losses and divergences are in nats. The interval (`low` to `high`) is the normal one for the
    mean of the paired differences. Neighbouring tokens are not independent, so the true interval
    is somewhat wider.
    """
    rows = [{"model": "full", "perplexity": full.perplexity}]
    for name, other in others.items():
        differences = other.losses - full.losses
        half_width = 1.96 * differences.std(ddof=1) / np.sqrt(len(differences))
        agrees = other.log_probabilities.argmax(-1) == full.log_probabilities.argmax(-1)
        divergences = kl_divergence(full, other)
        rows.append(
            {
                "model": name,
                "perplexity": other.perplexity,
                "loss_difference": float(differences.mean()),
                "low": float(differences.mean() - half_width),
                "high": float(differences.mean() + half_width),
                "mean_divergence": float(divergences.mean()),
                "p99_divergence": float(np.quantile(divergences, 0.99)),
                "same_first_choice": float(agrees.float().mean()),
            }
        )
    return rows
