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
from itertools import accumulate, takewhile
from typing import TypeVar

import numpy as np
import torch

from pocket_model.tekken import CONTROL_IDS
from pocket_training.examples import Example
from pocket_training.scenes import CellLabels
from pocket_training.vision_stage import CELLS, multi_hot, on_canvases, vocabulary

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


def fill_lines(items: Iterable[T], length: Callable[[T], int], tokens: int) -> list[list[T]]:
    """Items on lines of so many tokens: the longest first, each on the first line with room for it.

    Longer items than a line are left out.
    """
    lines: list[list[T]] = []
    free: list[int] = []
    for item in sorted(items, key=length, reverse=True):
        size = length(item)
        if size > tokens:
            continue
        place = next((n for n, room in enumerate(free) if room >= size), len(lines))
        if place == len(lines):
            lines.append([])
            free.append(tokens)
        lines[place].append(item)
        free[place] -= size
    return lines


@dataclass
class Batch:
    """Rows as tensors: B lines of L tokens, T of which are to be predicted.

    A line has one row or several. Each attends to itself only.

    Attributes:
        input_ids, position_ids: (B, L).
        rows: (B, L): the number of the row that each token is in, -1 for padding.
        segments: (B, L): 0 for a row's prefix, 1 … for its continuations, -1 for padding.
        joined: the lengths of several rows on a single line without padding; else None.
        predictors: (T,) flat indices of the tokens that predict.
        labels: (T,) the tokens they should predict.
        owners: (T,) the number of the row that each is in.
        soft_rows: (S,) indices into T of the tokens that the base's distribution teaches.
        soft_ids, soft_shares: (S, K) those distributions: token ids and probabilities.
        pixels, sizes: the pictures in the order of their tokens, from `vision_stage.on_canvases`.
        oracle: (n,) bool, of which pictures the labels take the place.
        cell_words: those labels, (n, cells, words) from `vision_stage.multi_hot`; else False.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    rows: torch.Tensor
    segments: torch.Tensor
    joined: list[int] | None
    predictors: torch.Tensor
    labels: torch.Tensor
    owners: torch.Tensor
    soft_rows: torch.Tensor
    soft_ids: torch.Tensor
    soft_shares: torch.Tensor
    pixels: torch.Tensor
    sizes: torch.Tensor
    oracle: torch.Tensor
    cell_words: torch.Tensor

    @property
    def attention_mask(self) -> torch.Tensor:
        """Which token of a line may attend to which, (B, 1, L, L) bool."""
        mask = _mask(self.segments)
        return mask & (self.rows[:, None, :, None] == self.rows[:, None, None, :])

    @property
    def row_masks(self) -> list[torch.Tensor]:
        """The same for each row of a single line, (1, 1, l, l), in their order."""
        return [_mask(row) for row in self.segments.split(self.joined, dim=1)]

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        tensors = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, torch.Tensor)}
        return replace(self, **tensors)


def collate(lines: Sequence[Sequence[PackedRow]], *, shape: tuple[int, int] | None = None) -> Batch:
    """Lines of rows as one batch, padded to the longest.

    Args:
        shape: (B, L) to pad to, with empty lines too.
    """
    longest = max(sum(map(len, line)) for line in lines)
    joined = list(map(len, lines[0])) if len(lines) == 1 < len(lines[0]) and not shape else None
    count, length = shape or (len(lines), longest)
    ids = np.full((count, length), CONTROL_IDS["<pad>"])
    positions, places, segments = np.zeros_like(ids), np.full_like(ids, -1), np.full_like(ids, -1)
    predictors, labels, owners, soft = [], [], [], []
    rows = [row for line in lines for row in line]
    firsts = [accumulate(map(len, line[:-1]), initial=0) for line in lines]
    starts = [(line, first) for line, each in enumerate(firsts) for first in each]
    for number, (row, (line, first)) in enumerate(zip(rows, starts, strict=True)):
        places[line, first : first + len(row)] = number
        start = end = first + len(row.prefix)
        ids[line, first:start] = row.prefix
        positions[line, first:start] = range(len(row.prefix))
        segments[line, first:start] = 0
        for index, (tokens, example) in enumerate(row.continuations, start=1):
            begin, end = end, end + len(tokens)
            ids[line, begin:end] = tokens
            positions[line, begin:end] = range(start - first, start - first + len(tokens))
            segments[line, begin:end] = index
            reply_start = line * length + end - len(example.reply)
            learned = np.flatnonzero(example.loss_mask)
            if example.soft_targets is not None:
                targets = [part[learned] for part in example.soft_targets]
                soft.append((len(labels) + np.arange(len(learned)), *targets))
            predictors += (reply_start + learned - 1).tolist()
            labels += [example.reply[offset] for offset in learned]
            owners += [number] * len(learned)
    soft = soft or [(np.zeros(0, int), np.zeros((0, 0), int), np.zeros((0, 0)))]
    *soft, shares = (np.concatenate(part) for part in zip(*soft, strict=True))
    arrays = (np.array(predictors), np.array(labels), np.array(owners), *soft)
    pictures = [picture for row in rows for picture in row.pictures]
    known = [labels for row in rows for labels in row.oracle_labels]
    cell_words = torch.zeros(len(known), CELLS**2, len(vocabulary()), dtype=torch.bool)
    for words, labels in zip(cell_words, known, strict=True):
        if labels is not None:
            words.copy_(multi_hot(labels))
    return Batch(
        torch.from_numpy(ids),
        torch.from_numpy(positions),
        torch.from_numpy(places),
        torch.from_numpy(segments),
        joined,
        *map(torch.from_numpy, arrays),
        torch.from_numpy(shares).float(),
        *on_canvases(pictures),
        torch.tensor([labels is not None for labels in known], dtype=torch.bool),
        cell_words,
    )


def _mask(segments: torch.Tensor) -> torch.Tensor:
    """Which token of a line may attend to which: (B, L) to (B, 1, L, L)."""
    of_query, of_key = segments[:, :, None], segments[:, None, :]
    length = segments.shape[1]
    everywhere = torch.ones(length, length, dtype=torch.bool, device=segments.device)
    mask = everywhere.tril() & ((of_key == 0) | (of_key == of_query)) & (of_key >= 0)
    # Padding attends to something, itself.
    return (mask | torch.eye(length, dtype=torch.bool, device=segments.device))[:, None]
