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
    """Rows as tensors: B lines of L tokens, T of which are to be predicted.

    Attributes:
        input_ids, position_ids: (B, L).
        attention_mask: (B, 1, L, L) bool, true where a token may attend to another. None if the
            rows are joined: then `row_masks` has one for each row.
        row_masks: (1, 1, l, l) bool for each of the joined rows, in their order on the line.
        predictors: (T,) flat indices of the tokens that predict.
        labels: (T,) the tokens they should predict.
        owners: (T,) the number of the row that each is in.
        soft_rows: (S,) indices into T of the tokens that the base's distribution teaches.
        soft_ids, soft_shares: (S, K) those distributions: token ids and probabilities.
        pictures, oracle_labels: of all pictures, in the order of their tokens; see `PackedRow`.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    attention_mask: torch.Tensor | None
    row_masks: list[torch.Tensor]
    predictors: torch.Tensor
    labels: torch.Tensor
    owners: torch.Tensor
    soft_rows: torch.Tensor
    soft_ids: torch.Tensor
    soft_shares: torch.Tensor
    pictures: list[np.ndarray]
    oracle_labels: list[CellLabels | None]

    def to(self, device: torch.device) -> "Batch":
        """The same batch with its tensors on a device; the pictures stay arrays."""
        tensors = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, torch.Tensor)}
        return replace(self, **tensors, row_masks=[mask.to(device) for mask in self.row_masks])


def collate(rows: Sequence[PackedRow], *, joined: bool = False) -> Batch:
    """Rows as one batch: each a line, padded to the longest, or joined to a single line.

    On a joined line nothing is padded, and every matrix product is done once for all rows. A row
    attends to itself only.
    """
    length = sum(map(len, rows)) if joined else max(map(len, rows))
    ids = np.full((1 if joined else len(rows), length), CONTROL_IDS["<pad>"])
    positions = np.zeros_like(ids)
    predictors, labels, owners, soft, masks = [], [], [], [], []
    end = 0
    for number, row in enumerate(rows):
        line, first = (0, end) if joined else (number, 0)
        segment = np.full(len(row) if joined else length, -1)  # -1 for padding
        start = end = first + len(row.prefix)
        ids[line, first:start] = row.prefix
        positions[line, first:start] = range(len(row.prefix))
        segment[: start - first] = 0  # 0 for the prefix, 1 … for the continuations
        for index, (tokens, example) in enumerate(row.continuations, start=1):
            begin, end = end, end + len(tokens)
            ids[line, begin:end] = tokens
            positions[line, begin:end] = range(start - first, start - first + len(tokens))
            segment[begin - first : end - first] = index
            reply_start = line * length + end - len(example.reply)
            learned = np.flatnonzero(example.loss_mask)
            if example.soft_targets is not None:
                targets = [part[learned] for part in example.soft_targets]
                soft.append((len(labels) + np.arange(len(learned)), *targets))
            predictors += (reply_start + learned - 1).tolist()
            labels += [example.reply[offset] for offset in learned]
            owners += [number] * len(learned)
        masks.append(_mask(segment))
    soft = soft or [(np.zeros(0, int), np.zeros((0, 0), int), np.zeros((0, 0)))]
    *soft, shares = (np.concatenate(part) for part in zip(*soft, strict=True))
    arrays = (np.array(predictors), np.array(labels), np.array(owners), *soft)
    return Batch(
        torch.from_numpy(ids),
        torch.from_numpy(positions),
        None if joined else torch.cat(masks),
        masks if joined else [],
        *map(torch.from_numpy, arrays),
        torch.from_numpy(shares).float(),
        pictures=[picture for row in rows for picture in row.pictures],
        oracle_labels=[known for row in rows for known in row.oracle_labels],
    )


def _mask(segment: np.ndarray) -> torch.Tensor:
    """Which token of a line may attend to which, (1, 1, L, L)."""
    before = np.tril(np.ones((len(segment), len(segment)), dtype=bool))
    of_key, of_query = segment[None, :], segment[:, None]
    mask = before & ((of_key == 0) | (of_key == of_query)) & (of_key >= 0)
    mask |= np.eye(len(segment), dtype=bool)  # so that padding attends to something: itself
    return torch.from_numpy(mask[None, None])
