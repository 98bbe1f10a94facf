"""What quantisation costs: how far a model's predictions move, and how much worse they are.

Both on the same text, token by token: the Kullback-Leibler divergence from the full model's
predictions to the quantised one's says how far they moved, the perplexity which way it hurt.
"""

from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel


@dataclass(frozen=True)
class Predictions:
    """A model's predictions along a text.

    Attributes:
        log_probabilities: natural logarithms, float32, shape (tokens − 1, vocabulary).
        targets: the tokens that came, shape (tokens − 1,).
    """

    log_probabilities: torch.Tensor
    targets: torch.Tensor

    @property
    def nats(self) -> np.ndarray:
        """Each token's loss, shape (tokens − 1,)."""
        return -self.log_probabilities.gather(1, self.targets[:, None])[:, 0].numpy()

    @property
    def perplexity(self) -> float:
        """e to the mean loss: among how many equally likely tokens the model seems to choose."""
        return float(np.exp(self.nats.mean()))


@torch.no_grad()
def predictions(model: PreTrainedModel, token_ids: list[int], chunk: int = 512) -> Predictions:
    """Predict each token of a text from those before it, at most ``chunk`` of them.

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


def divergence(full: Predictions, quantised: Predictions) -> np.ndarray:
    """Kullback-Leibler divergence at each token, in nats, shape (tokens − 1,).

    Zero where both predict alike; it grows as the quantised model forgets what the full one
    thought possible.
    """
    p, q = full.log_probabilities, quantised.log_probabilities
    return (p.exp() * (p - q)).sum(-1).clamp(min=0).numpy()


def compare(full: Predictions, others: dict[str, Predictions]) -> list[dict]:
    """One row a model: perplexity, the difference in loss with its 95 % interval, divergence.

    The interval is the normal one of the mean paired difference, token by token; neighbouring
    tokens are not independent, so the true one is somewhat wider.
    """
    rows = [{"model": "full", "perplexity": full.perplexity}]
    for name, other in others.items():
        worse = other.nats - full.nats
        half = 1.96 * worse.std(ddof=1) / np.sqrt(len(worse))
        agrees = other.log_probabilities.argmax(-1) == full.log_probabilities.argmax(-1)
        moved = divergence(full, other)
        rows.append(
            {
                "model": name,
                "perplexity": other.perplexity,
                "loss_difference": float(worse.mean()),
                "low": float(worse.mean() - half),
                "high": float(worse.mean() + half),
                "mean_divergence": float(moved.mean()),
                "p99_divergence": float(np.quantile(moved, 0.99)),
                "same_first_choice": float(agrees.float().mean()),
            }
        )
    return rows
