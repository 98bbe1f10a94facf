"""Lessons: conversations as token rows, in which questions on the same beginning share it.

Tools and pictures stand at the beginning of a conversation and are most of its length. Several
questions about the same ones are therefore laid out as one row, a trunk and its branches:

    <s>[AVAILABLE_TOOLS]…[/AVAILABLE_TOOLS] | [INST]one[/INST]… | [INST]two[/INST]… | …

Every branch sees the trunk and itself, and its positions go on from the trunk's end, so that the
model computes what it would compute for each conversation alone, at a third of the work.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pocket_model.tekken import CONTROL_IDS
from pocket_training.examples import Exchange
from pocket_training.scenes import Words


@dataclass
class Row:
    """A trunk and its branches; see the module's text.

    Attributes:
        told: for each picture, the words to put in place of what the eye sees in it, or None.
    """

    trunk: list[int]
    branches: list[tuple[list[int], Exchange]]  # the rest of the prompt with the reply, its source
    pictures: list[np.ndarray]
    told: list[Words | None]

    def __len__(self) -> int:
        return len(self.trunk) + sum(len(tokens) for tokens, _ in self.branches)


def row(exchanges: Sequence[Exchange], *, told: bool = False) -> Row:
    """One row of exchanges: what all their prompts begin with becomes the trunk.

    Args:
        told: give the words of the pictures in place of the pictures, where they are known.
    """
    prompts = [exchange.prompt for exchange in exchanges]
    shared = 0
    # The last prompt token stays in the branch: it predicts the reply's first token.
    for tokens in zip(*(prompt[:-1] for prompt in prompts), strict=False):
        if len(set(tokens)) > 1:
            break
        shared += 1
    branches = [(e.prompt[shared:] + e.reply, e) for e in exchanges]
    trunk = prompts[0][:shared]
    common = trunk.count(CONTROL_IDS["[IMG_END]"])  # pictures that stand in the trunk: once
    shown = []
    for number, exchange in enumerate(exchanges):
        known = exchange.words if told and exchange.words else [None] * len(exchange.pictures)
        both = list(zip(exchange.pictures, known, strict=True))
        shown += both[:common] * (number == 0) + both[common:]
    return Row(trunk, branches, [picture for picture, _ in shown], [words for _, words in shown])


@dataclass
class Batch:
    """Rows as tensors: B rows of L tokens, T of which are to be predicted.

    Attributes:
        ids, positions: (B, L).
        allowed: (B, 1, L, L) bool, true where a token may look.
        where: (T,) flat indices of the tokens that predict.
        labels: (T,) the tokens they should predict.
        soft: (indices into T, ids (S, K), probabilities (S, K)) of the base's distributions.
        pictures, told: all pictures, in the order of their tokens; see `Row`.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    allowed: torch.Tensor
    where: torch.Tensor
    labels: torch.Tensor
    soft: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None
    pictures: list[np.ndarray]
    told: list[Words | None]

    def to(self, device: torch.device) -> "Batch":
        """The same batch with its tensors on a device; the pictures stay arrays."""
        soft = tuple(part.to(device) for part in self.soft) if self.soft else None
        tensors = {
            name: getattr(self, name).to(device)
            for name in ("ids", "positions", "allowed", "where", "labels")
        }
        return Batch(**tensors, soft=soft, pictures=self.pictures, told=self.told)


def batch(rows: Sequence[Row]) -> Batch:
    """Lay rows side by side, padded to the longest."""
    length = max(len(one) for one in rows)
    ids = np.full((len(rows), length), CONTROL_IDS["<pad>"])
    positions = np.zeros_like(ids)
    part = np.full_like(ids, -1)  # 0 for the trunk, 1 … for the branches, -1 for padding
    where, labels, soft_at, soft_ids, soft_shares = [], [], [], [], []
    for number, one in enumerate(rows):
        start = len(one.trunk)
        ids[number, :start] = one.trunk
        positions[number, :start] = range(start)
        part[number, :start] = 0
        at = start
        for place, (tokens, exchange) in enumerate(one.branches, start=1):
            end = at + len(tokens)
            ids[number, at:end] = tokens
            positions[number, at:end] = range(start, start + len(tokens))
            part[number, at:end] = place
            first = end - len(exchange.reply)
            for offset, counts in enumerate(exchange.learn):
                if not counts:
                    continue
                if exchange.soft is not None:
                    soft_at.append(len(where))
                    soft_ids.append(exchange.soft[0][offset])
                    soft_shares.append(exchange.soft[1][offset])
                where.append(number * length + first + offset - 1)
                labels.append(exchange.reply[offset])
            at = end
    before = np.tril(np.ones((length, length), dtype=bool))
    seen = (part[:, None, :] == 0) | (part[:, None, :] == part[:, :, None])
    allowed = before & seen & (part[:, None, :] >= 0) | np.eye(length, dtype=bool)
    soft = None
    if soft_at:
        soft = (
            torch.tensor(soft_at),
            torch.from_numpy(np.stack(soft_ids)).long(),
            torch.from_numpy(np.stack(soft_shares)).float(),
        )
    return Batch(
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        allowed=torch.from_numpy(allowed[:, None]),
        where=torch.tensor(where),
        labels=torch.tensor(labels),
        soft=soft,
        pictures=[picture for one in rows for picture in one.pictures],
        told=[words for one in rows for words in one.told],
    )
