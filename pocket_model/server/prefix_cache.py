"""Prompts in pieces, and the keys and values of their beginnings kept for prompts that begin alike.

A conversation's next request begins with all of its earlier turns, and other requests with the
same tools. So a prompt is divided where a list of tools or a user's turn begins. Its prefixes are
computed one after another. The boundaries depend on the prompt alone, and a cached prefix has the
numbers that computing it again would give. So a reply does not depend on earlier requests.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch

from pocket_model.server.decoder import KeyValues
from pocket_model.tekken import CONTROL_IDS

BOUNDARY_TOKENS = {CONTROL_IDS["[AVAILABLE_TOOLS]"], CONTROL_IDS["[INST]"]}
PICTURE_END = CONTROL_IDS["[IMG_END]"]
INSIDE_PICTURE = {CONTROL_IDS["[IMG]"], CONTROL_IDS["[IMG_BREAK]"]}
PIECE_TOKENS = 256  # computed at once; in between, others get a token, or a client has left
MIN_PREFIX_TOKENS = 48  # between boundaries; fewer take no longer than one token of the answer
MAX_CACHED_TOKENS = 4096  # 126 MB in bfloat16 (31 KB a token), twice that in float32


@dataclass(frozen=True)
class Piece:
    """Tokens of a prompt that are computed at once.

    Attributes:
        pictures: those whose image tokens are in this piece.
        prefix: the key of the prefix that ends with this piece, if one does.
    """

    tokens: list[int]
    pictures: list[np.ndarray]
    prefix: bytes | None


def boundaries(prompt: list[int]) -> list[int]:
    """Where the prefixes of a prompt end; the tokens after the last one are not cached."""
    ends = [0]
    for position, token in enumerate(prompt):
        if token in BOUNDARY_TOKENS and position - ends[-1] >= MIN_PREFIX_TOKENS:
            ends.append(position)
    return ends[1:]


def pieces(prompt: list[int], pictures: list[np.ndarray]) -> list[Piece]:
    """A prompt in its order, in pieces of `PIECE_TOKENS` or a few more: no picture is divided."""
    found: list[Piece] = []
    start, prompt_hash = 0, hashlib.sha256()
    for end in [*boundaries(prompt), len(prompt)]:
        prompt_hash.update(np.array(prompt[start:end]).tobytes())
        for tokens in _divided(prompt[start:end]):
            count = tokens.count(PICTURE_END)
            here, pictures = pictures[:count], pictures[count:]
            for picture in here:  # equal image tokens may stand for different pictures
                prompt_hash.update(picture.tobytes())
            start += len(tokens)
            prefix = prompt_hash.digest() if start == end < len(prompt) else None
            found.append(Piece(tokens, here, prefix))
    return found


def _divided(tokens: list[int]) -> list[list[int]]:
    parts, start = [], 0
    while start < len(tokens):
        end = start + PIECE_TOKENS
        while end < len(tokens) and tokens[end - 1] in INSIDE_PICTURE:
            end += 1
        parts.append(tokens[start:end])
        start = end
    return parts


class PrefixCache:
    """The prefixes used last, for one model; not safe to share between threads.

    Args:
        max_tokens: limit of all cached prefixes together.
    """

    def __init__(self, max_tokens: int = MAX_CACHED_TOKENS):
        self._max_tokens = max_tokens
        # By their keys: keys and values from one boundary to the next, as `KeyValues.part` gives
        # them. The one used last is the last.
        self.prefixes: OrderedDict[bytes, torch.Tensor] = OrderedDict()

    def take(self, cache: KeyValues, prompt: list[Piece]) -> int:
        """Fill an empty cache with a prompt's prefixes; returns how many of its pieces they are."""
        taken = 0
        for count, piece in enumerate(prompt, start=1):
            if piece.prefix:
                if piece.prefix not in self.prefixes:
                    break
                cache.append(self.prefixes[piece.prefix])
                taken = count
        return taken

    def keep(self, cache: KeyValues, prompt: list[Piece]) -> None:
        """Keep the prefixes of a prompt whose tokens `cache` has."""
        keys, start, end = [], 0, 0
        for piece in prompt:
            end += len(piece.tokens)
            if piece.prefix:
                if piece.prefix not in self.prefixes:
                    self.prefixes[piece.prefix] = cache.part(start, end)
                keys.append(piece.prefix)
                start = end
        for key in reversed(keys):  # the first prefix, which most prompts share, stays longest
            self.prefixes.move_to_end(key)
        while sum(part.shape[-2] for part in self.prefixes.values()) > self._max_tokens:
            self.prefixes.popitem(last=False)
