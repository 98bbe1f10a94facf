"""Keys and values of prompts' beginnings, kept for later prompts that begin alike.

A conversation's next request begins with all of its earlier turns, and other requests with the
same tools. So a prompt is divided where a list of tools or a user's turn begins. Its prefixes are
computed one after another. The boundaries depend on the prompt alone, and a cached prefix has the
numbers that computing it again would give. So a reply does not depend on earlier requests.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator

import numpy as np
import torch
from transformers import DynamicCache, Mistral3ForConditionalGeneration

from pocket_model.loading import image_inputs, position_inputs
from pocket_model.tekken import CONTROL_IDS

BOUNDARY_TOKENS = {CONTROL_IDS["[AVAILABLE_TOOLS]"], CONTROL_IDS["[INST]"]}
PICTURE_END = CONTROL_IDS["[IMG_END]"]
INSIDE_PICTURE = {CONTROL_IDS["[IMG]"], CONTROL_IDS["[IMG_BREAK]"]}
PIECE_TOKENS = 512  # computed at once; between pieces, the engine looks whether the client waits
MIN_PREFIX_TOKENS = 48  # between boundaries; fewer take no longer than one token of the answer
MAX_CACHED_TOKENS = 4096  # 126 MB in bfloat16 (31 KB a token), twice that in float32

# Keys and values from one boundary to the next: for each layer a pair of tensors of shape
# (1, heads, tokens, head size).
CachedPrefix = list[tuple[torch.Tensor, torch.Tensor]]


def boundaries(prompt: list[int]) -> list[int]:
    """Where the prefixes of a prompt end; the tokens after the last one are not cached."""
    ends = [0]
    for position, token in enumerate(prompt):
        if token in BOUNDARY_TOKENS and position - ends[-1] >= MIN_PREFIX_TOKENS:
            ends.append(position)
    return ends[1:]


def pieces(tokens: list[int]) -> Iterator[list[int]]:
    """Parts of a prompt in their order, of `PIECE_TOKENS` or a few more: no picture is divided."""
    start = 0
    while start < len(tokens):
        end = start + PIECE_TOKENS
        while end < len(tokens) and tokens[end - 1] in INSIDE_PICTURE:
            end += 1
        yield tokens[start:end]
        start = end


class PrefixCache:
    """The prefixes used last, for one model; not safe to share between threads.

    Args:
        max_tokens: limit of all cached prefixes together.
    """

    def __init__(
        self,
        model: Mistral3ForConditionalGeneration,
        max_tokens: int = MAX_CACHED_TOKENS,
    ):
        self._model = model.model
        self._max_tokens = max_tokens
        # By the hash of the prompt up to the prefix's end; the one used last is the last.
        self.prefixes: OrderedDict[bytes, CachedPrefix] = OrderedDict()

    @torch.inference_mode()
    def prefill(
        self,
        prompt: list[int],
        pictures: list[np.ndarray],
        before_piece: Callable[[], None] = lambda: None,
    ) -> tuple[DynamicCache, list[np.ndarray], int]:
        """Compute a prompt up to its last piece, or take its prefixes from earlier prompts.

        Args:
            before_piece: called before each piece; what it raises ends the work.

        Returns:
            A cache with those tokens, the pictures after them, and how many of the tokens came
            from earlier prompts.
        """
        cache = DynamicCache(config=self._model.config.text_config)
        start = cached_tokens = 0
        used_keys, prompt_hash = [], hashlib.sha256()
        for end in boundaries(prompt):
            tokens = prompt[start:end]
            picture_count = tokens.count(PICTURE_END)
            here, pictures = pictures[:picture_count], pictures[picture_count:]
            prompt_hash.update(np.array(tokens).tobytes())
            for picture in here:  # equal image tokens may stand for different pictures
                prompt_hash.update(picture.tobytes())
            key = prompt_hash.digest()
            if key in self.prefixes:
                for layer, (keys, values) in enumerate(self.prefixes[key]):
                    cache.update(keys, values, layer)
                cached_tokens += end - start
            else:
                for piece in pieces(tokens):
                    before_piece()
                    here = self._compute(piece, here, cache)
                self.prefixes[key] = [  # copies: a view would keep the memory of all before it
                    (layer.keys[:, :, start:].clone(), layer.values[:, :, start:].clone())
                    for layer in cache.layers
                ]
            used_keys.append(key)
            start = end
        for key in reversed(used_keys):  # the first prefix, which most prompts share, stays longest
            self.prefixes.move_to_end(key)
        self._evict()
        *full, _ = pieces(prompt[start:])
        for piece in full:
            before_piece()
            pictures = self._compute(piece, pictures, cache)
        return cache, pictures, cached_tokens

    def _compute(
        self, tokens: list[int], pictures: list[np.ndarray], cache: DynamicCache
    ) -> list[np.ndarray]:
        """Add tokens to a cache; returns the pictures that are not theirs."""
        count = tokens.count(PICTURE_END)
        self._model(
            **position_inputs(tokens, cache.get_seq_length()),
            past_key_values=cache,
            **image_inputs(pictures[:count], self._model.vision_tower.dtype),
        )
        return pictures[count:]

    def _evict(self) -> None:
        """Drop the prefixes not used for the longest time until the limit is kept."""
        while sum(layers[0][0].shape[2] for layers in self.prefixes.values()) > self._max_tokens:
            self.prefixes.popitem(last=False)
