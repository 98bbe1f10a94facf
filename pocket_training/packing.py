"""Batches of conversations as token rows, in which questions about the same thing share it.

Tools and pictures come at the beginning of a conversation and are most of its length. Several
questions about the same ones therefore become one row, a prefix and its continuations:

    <s>[AVAILABLE_TOOLS]…[/AVAILABLE_TOOLS] | [INST]one[/INST]… | [INST]two[/INST]… | …

Every continuation attends to the prefix and to itself, and its positions go on from the prefix's
end. So the model computes what it would compute for each conversation alone, at a third of the
work.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TypeVar

import numpy as np
import torch

from pocket_model.tekken import CONTROL_IDS
from pocket_training.examples import Example
from pocket_training.scenes import CellLabels

T = TypeVar("T")


@dataclass
class PackedRow:
    """A prefix and its continuations; see the module's text.

    Attributes:
        continuations: the rest of each prompt with the reply, and the example it is from.
        oracle_labels: for each picture, the labels that take the place of what the vision tower
            makes of it, or None.
    """

    prefix: list[int]
    continuations: list[tuple[list[int], Example]]
    pictures: list[np.ndarray]
    oracle_labels: list[CellLabels | None]

    def __len__(self) -> int:
        return len(self.prefix) + sum(len(tokens) for tokens, _ in self.continuations)


def pack(examples: Sequence[Example], *, oracle: bool = False) -> PackedRow:
    """One row of examples: what all their prompts begin with becomes the prefix.

    Args:
        oracle: give the pictures' labels in place of the pictures, if they are known.
    """
    # The last prompt token stays in the continuation: it predicts the reply's first token.
    prompts = (example.prompt[:-1] for example in examples)
    shared = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False))
    prefix = [tokens[0] for tokens in shared]
    in_prefix = prefix.count(CONTROL_IDS["[IMG_END]"])  # pictures in the prefix: once for all
    pictures, labels = [], []
    for number, example in enumerate(examples):
        known = example.cell_labels if oracle and example.cell_labels else None
        first = in_prefix if number else 0
        pictures += example.pictures[first:]
        labels += (known or [None] * len(example.pictures))[first:]
    continuations = [(e.prompt[len(prefix) :] + e.reply, e) for e in examples]
    return PackedRow(prefix, continuations, pictures, labels)


def batches_by_length(
    items: Iterable[T],
    length: Callable[[T], int],
    *,
    max_tokens: float = math.inf,
    max_padding: float = math.inf,
) -> Iterator[list[T]]:
    """Items in batches of similar length, from the shortest to the longest.

    Args:
        length: the tokens of an item.
        max_tokens: of a batch, padding included; a longer item is a batch of its own.
        max_padding: a batch's tokens with padding over those without it.
    """
    batch: list[T] = []
    tokens = 0
    for item in sorted(items, key=length):
        padded = length(item) * (len(batch) + 1)
        tokens += length(item)
        if batch and (padded > max_tokens or padded > max_padding * tokens):
            yield batch
            batch, tokens = [], length(item)
        batch.append(item)
    if batch:
        yield batch


@dataclass
class Batch:
    """Rows as tensors: B rows of L tokens, T of which are to be predicted.

    Attributes:
        input_ids, position_ids: (B, L).
        attention_mask: (B, 1, L, L) bool, true where a token may attend to another.
        predictors: (T,) flat indices of the tokens that predict.
        labels: (T,) the tokens they should predict.
        soft_rows: (S,) indices into T of the tokens that the base's distribution teaches.
        soft_ids, soft_shares: (S, K) those distributions: token ids and probabilities.
        pictures, oracle_labels: of all pictures, in the order of their tokens; see `PackedRow`.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    attention_mask: torch.Tensor
    predictors: torch.Tensor
    labels: torch.Tensor
    soft_rows: torch.Tensor
    soft_ids: torch.Tensor
    soft_shares: torch.Tensor
    pictures: list[np.ndarray]
    oracle_labels: list[CellLabels | None]

    def to(self, device: torch.device) -> "Batch":
        """The same batch with its tensors on a device; the pictures stay arrays."""
        tensors = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, torch.Tensor)}
        return replace(self, **tensors)


def collate(rows: Sequence[PackedRow]) -> Batch:
    """Rows as one batch, padded to the longest."""
    length = max(len(row) for row in rows)
    ids = np.full((len(rows), length), CONTROL_IDS["<pad>"])
    positions = np.zeros_like(ids)
    segment = np.full_like(ids, -1)  # 0 for the prefix, 1 … for the continuations, -1 for padding
    predictors, labels, soft = [], [], []
    for number, row in enumerate(rows):
        start = end = len(row.prefix)
        ids[number, :start] = row.prefix
        positions[number, :start] = range(start)
        segment[number, :start] = 0
        for index, (tokens, example) in enumerate(row.continuations, start=1):
            begin, end = end, end + len(tokens)
            ids[number, begin:end] = tokens
            positions[number, begin:end] = range(start, start + len(tokens))
            segment[number, begin:end] = index
            reply_start = number * length + end - len(example.reply)
            learned = np.flatnonzero(example.loss_mask)
            if example.soft_targets is not None:
                targets = [part[learned] for part in example.soft_targets]
                soft.append((len(labels) + np.arange(len(learned)), *targets))
            predictors += (reply_start + learned - 1).tolist()
            labels += [example.reply[offset] for offset in learned]
    before = np.tril(np.ones((length, length), dtype=bool))
    of_key, of_query = segment[:, None, :], segment[:, :, None]
    mask = before & ((of_key == 0) | (of_key == of_query)) & (of_key >= 0)
    mask |= np.eye(length, dtype=bool)  # so that padding attends to something: itself
    soft = soft or [(np.zeros(0, int), np.zeros((0, 0), int), np.zeros((0, 0)))]
    *soft, shares = (np.concatenate(part) for part in zip(*soft, strict=True))
    arrays = (ids, positions, mask[:, None], np.array(predictors), np.array(labels), *soft)
    return Batch(
        *map(torch.from_numpy, arrays),
        torch.from_numpy(shares).float(),
        pictures=[picture for row in rows for picture in row.pictures],
        oracle_labels=[known for row in rows for known in row.oracle_labels],
    )
