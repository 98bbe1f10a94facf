"""Teach the vision tower alone: each image token becomes a sum of words the text model knows.

A picture's 28 × 28 pixel cell with a red circle at the top left becomes the sum of the word
embeddings of " red", " circle", " top", " left" … The text model then meets pictures as words
laid on top of one another, and needs little training to read them.
"""

import random

import numpy as np
import torch
from mistral_common.protocol.instruct.chunk import ImageChunk
from mistral_common.tokens.tokenizers.image import ImageConfig, ImageEncoder, SpecialImageIDs
from PIL import Image

from pocket_model.tekken import CONTROL_IDS, IMAGE
from pocket_training import scenes

# How often each kind of scene is shown: shapes carry most of the words.
KINDS = ("shapes",) * 7 + ("bars", "regions", "number")
SHARPNESS, MISREAD = 10.0, 0.3  # of reading a word out, and its weight beside the distance

_ENCODER = ImageEncoder(
    ImageConfig(**IMAGE),
    SpecialImageIDs(
        img=CONTROL_IDS["[IMG]"],
        img_break=CONTROL_IDS["[IMG_BREAK]"],
        img_end=CONTROL_IDS["[IMG_END]"],
    ),
)


def pixels(picture: Image.Image) -> np.ndarray:
    """A picture as the model reads it, by mistral_common: float32, shape (3, height, width)."""
    return _ENCODER(ImageChunk(image=picture)).image


def vocabulary() -> list[str]:
    """Every word that describes a cell."""
    words = {"white", "sea", "region", "bar", "number", "largest", "tallest", "shortest"}
    words |= {
        *scenes.COLOURS,
        *scenes.FURTHER_COLOURS,
        *scenes.SHAPES,
        *scenes.ROWS,
        *scenes.COLUMNS,
    }
    words |= set("0123456789")
    return sorted(words | {*scenes.NUMBERS[1:], "once", "twice", "triple", "fourth", "fifth"})


def word_vectors(model, encode) -> torch.Tensor:
    """The embedding of each word of `vocabulary()`, shape (words, hidden).

    Args:
        encode: text to token ids; a word of several tokens gets the sum of their rows.
    """
    rows = model.get_input_embeddings().weight.detach()
    spelled = [word if word.isdigit() else f" {word}" for word in vocabulary()]
    return torch.stack([rows[encode(word)].sum(dim=0) for word in spelled])


def see(model, batch: torch.Tensor) -> torch.Tensor:
    """Image tokens of equally large pictures: (pictures, 3, height, width) to (…, cells, hidden).

    The same tower and projector as `model.get_image_features`, which lays all pictures of a batch
    into one long sequence; here they stay apart, so that attention costs no more than one.
    """
    tower, projector = model.model.vision_tower, model.model.multi_modal_projector
    patches = tower.patch_conv(batch.to(tower.patch_conv.weight.dtype))
    _, _, rows, columns = patches.shape
    grid = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    places = torch.stack([axis.flatten() for axis in grid], dim=-1).to(batch.device)
    states = tower.ln_pre(patches.flatten(2).transpose(1, 2))
    angles = tower.patch_positional_embedding(states, places)
    states = tower.transformer(states, None, position_embeddings=angles).last_hidden_state
    states = projector.norm(states).transpose(1, 2).unflatten(2, (rows, columns))
    merge = projector.patch_merger.spatial_merge_size
    states = torch.nn.functional.unfold(states, merge, stride=merge).transpose(1, 2)
    states = projector.patch_merger.merging_layer(states)
    return projector.linear_2(projector.act(projector.linear_1(states)))


def described(words: scenes.Words) -> torch.Tensor:
    """Which words describe each cell: ones and zeros of shape (cells, words), rows first."""
    index = {word: place for place, word in enumerate(vocabulary())}
    cells = [cell for row in words for cell in row]
    found = torch.zeros(len(cells), len(index))
    for place, cell in enumerate(cells):
        found[place, [index[word] for word in cell]] = 1.0
    return found


def targets(words: scenes.Words, vectors: torch.Tensor) -> torch.Tensor:
    """What a scene's image tokens should be: shape (cells, hidden), rows first."""
    return described(words).to(vectors.device) @ vectors


def reader(vectors: torch.Tensor) -> torch.Tensor:
    """What takes image tokens to the share of each word in them, by least squares.

    Returns:
        shape (hidden, words): ``tokens @ reader(vectors)`` is near 1 where the word is in.
    """
    return torch.linalg.pinv(vectors.double()).to(vectors.dtype)


def read_back(tokens: torch.Tensor, vectors: torch.Tensor) -> list[set[str]]:
    """The words in each image token: those with a share above one half.

    Args:
        tokens: shape (cells, hidden).
    """
    words, shares = vocabulary(), tokens @ reader(vectors)
    return [{words[i] for i in (row > 0.5).nonzero().flatten().tolist()} for row in shares]


def loss(tokens: torch.Tensor, words: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """How far image tokens are from the words they should be, a scalar.

    The squared distance makes a token a sum of word embeddings; the cross-entropy of reading each
    word out of it spends the effort on the words that are still mistaken. Cells that show
    something weigh four times those of the ground, which are the most.

    Args:
        tokens: shape (pictures, cells, hidden).
        words: from `described`, shape (pictures, cells, words).
    """
    weight = 1 + 3 * (words.sum(-1) > 1).float()
    distance = (tokens - words @ vectors).pow(2).mean(-1) / vectors.pow(2).mean()
    misread = torch.nn.functional.binary_cross_entropy_with_logits(
        SHARPNESS * (tokens @ reader(vectors) - 0.5), words, reduction="none"
    ).sum(-1)
    return ((distance + MISREAD * misread) * weight).mean() / weight.mean()


def batches(*, size: int, seed: int):
    """Endless training batches: pixels (size, 3, h, w) and words (size, cells, words)."""
    rng = random.Random(f"eye {seed}")
    waiting: dict[tuple, list] = {}
    while True:
        kind = rng.choice(KINDS)
        scene = scenes.SCENES[kind](rng, "train")
        seen = pixels(scene.draw(rng.choice([1, 1, 2, 3])))
        shelf = waiting.setdefault(seen.shape, [])
        shelf.append((seen, described(scene.words())))
        if len(shelf) == size:
            images, words = zip(*waiting.pop(seen.shape), strict=True)
            yield torch.from_numpy(np.stack(images)), torch.stack(words)
