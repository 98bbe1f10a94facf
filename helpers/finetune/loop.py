"""A training loop in plain PyTorch."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

import torch

from helpers.finetune.labels import Example, batch

WHAT_TO_LOWER = """The memory ran out in training ({reason}). Lower first what costs most:
1. fewer examples in a batch; activations and logits shrink with it;
2. shorter examples, for the same reason;
3. model.gradient_checkpointing_enable(): one layer's activations at a time, a third more time;
4. fewer layers with an adapter, or a lower rank: this saves the least.
`helpers.model.training.plan` says how much each of them saves."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what to change."""


def batches(
    examples: Sequence[Example], size: int, steps: int, pad: int, seed: int = 0
) -> list[dict[str, torch.Tensor]]:
    """As many batches as there are steps, shuffled; the examples begin again when they end.

    Examples of about one length share a batch, so little of it is filled up.
    """
    if not examples:
        raise ValueError("There are no examples to make batches of.")
    random_, order = random.Random(seed), []
    while len(order) < size * steps:
        shuffled = random_.sample(range(len(examples)), len(examples))
        shuffled.sort(key=lambda number: len(examples[number].ids))  # equal lengths stay shuffled
        free = -len(order) % size  # in the last batch of the pass before, which has its longest
        cut = max(len(shuffled) - free, 0)
        whole = cut - cut % size
        groups = [shuffled[start : start + size] for start in range(0, whole, size)]
        random_.shuffle(groups)
        order += [*shuffled[cut:], *chain(*groups), *shuffled[whole:cut]]
    rows = [order[start : start + size] for start in range(0, size * steps, size)]
    return [batch([examples[number] for number in row], pad) for row in rows]


def train(
    model: torch.nn.Module,
    batches: Sequence[dict[str, torch.Tensor]],
    *,
    rate: float = 1e-3,
    on_step: Callable[[list[float]], None] = lambda losses: None,
) -> list[float]:
    """Train what is trainable in a model, one step for each batch.

    Args:
        model: its forward pass takes a batch and returns a `loss`.
        rate: the highest learning rate; it falls to 0 in a straight line.
        on_step: called after each step with the losses so far.

    Returns:
        each step's loss before the step, in nats per learned token.

    Raises:
        TrainingError: nothing is trainable, the loss is not a number, or the memory ran out.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise TrainingError("Nothing is trainable: give the model an adapter (adapters.add).")
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / len(batches))
    losses: list[float] = []
    model.train()
    with _memory_errors_in_words():
        for tensors in batches:
            tensors = {name: tensor.to(model.device) for name, tensor in tensors.items()}
            loss = model(**tensors).loss
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"The loss is {loss.item()} in step {len(losses) + 1}: lower the rate."
                )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            on_step(losses)
    return losses


@contextmanager
def _memory_errors_in_words() -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        reason = (str(error) or "out of memory").splitlines()[0]
        # On a CPU torch raises a plain RuntimeError.
        of_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not of_memory and "alloc" not in reason.lower():
            raise
        raise TrainingError(WHAT_TO_LOWER.format(reason=reason)) from error
