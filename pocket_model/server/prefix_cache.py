"""Beginnings of prompts that come again, computed once: earlier turns, and tools behind them.

A prompt is cut where a list of tools or a user's turn begins, and the pieces are computed one
after another. The cuts depend on the prompt alone. So a reply does not depend on what was asked
before: a piece that is kept has the very numbers that computing it again would give.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import torch
from transformers import DynamicCache, Mistral3ForConditionalGeneration

from pocket_model.loading import placed
from pocket_model.tekken import CONTROL_IDS

CUTS = {CONTROL_IDS["[AVAILABLE_TOOLS]"], CONTROL_IDS["[INST]"]}


PICTURE_END = CONTROL_IDS["[IMG_END]"]


LEAST_TOKENS = 48  # in a piece: a shorter one costs as much as a token of the answer


MOST_TOKENS = 4096  # kept in all: 126 MB in bfloat16 (31 KB a token), twice that in float32


# Keys and values of one piece, layer by layer, each of shape (1, heads, tokens, head size).
Piece = list[tuple[torch.Tensor, torch.Tensor]]


def cuts(prompt: list[int]) -> list[int]:
    """Where the pieces of a prompt end; what follows the last one is not kept."""
    found = [0]
    for place, token in enumerate(prompt):
        if token in CUTS and place - found[-1] >= LEAST_TOKENS:
            found.append(place)
    return found[1:]


class Prefixes:
    """The pieces computed last, for one model; not safe to share between threads."""

    def __init__(
        self,
        model: Mistral3ForConditionalGeneration,
        inputs: Callable[[list[np.ndarray]], dict[str, torch.Tensor]],
        most_tokens: int = MOST_TOKENS,
    ):
        """``inputs`` makes the model's inputs of pictures."""
        self._model, self._inputs = model.model, inputs
        self._most = most_tokens
        self._kept: OrderedDict[bytes, Piece] = OrderedDict()

    @torch.inference_mode()
    def begin(
        self, prompt: list[int], pictures: list[np.ndarray]
    ) -> tuple[DynamicCache, list[np.ndarray], int]:
        """A cache that holds a prompt's pieces.

        Returns:
            the cache, the pictures that it does not hold, and how many tokens were not computed.
        """
        cache = DynamicCache(config=self._model.config.text_config)
        start = reused = 0
        used, beginning = [], hashlib.sha256()
        for end in cuts(prompt):
            piece = prompt[start:end]
            here = piece.count(PICTURE_END)
            beginning.update(np.array(piece).tobytes())
            for picture in pictures[:here]:  # equal image tokens may show different pictures
                beginning.update(picture.tobytes())
            key = beginning.digest()
            if key in self._kept:
                for layer, (keys, values) in enumerate(self._kept[key]):
                    cache.update(keys, values, layer)
                reused += end - start
            else:
                self._model(
                    **placed(piece, start),
                    past_key_values=cache,
                    **self._inputs(pictures[:here]),
                )
                self._kept[key] = [  # copies: a view would hold the memory of all before it
                    (layer.keys[:, :, start:].clone(), layer.values[:, :, start:].clone())
                    for layer in cache.layers
                ]
            used.append(key)
            start, pictures = end, pictures[here:]
        for key in reversed(used):  # the last to be forgotten is the first, which others begin with
            self._kept.move_to_end(key)
        self._forget()
        return cache, pictures, reused

    def _forget(self) -> None:
        """Drop what was not asked for the longest, until the rest fits."""
        while sum(piece[0][0].shape[2] for piece in self._kept.values()) > self._most:
            self._kept.popitem(last=False)
