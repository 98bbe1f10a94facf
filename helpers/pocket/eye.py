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

from helpers.pocket import scenes
from helpers.pocket.tekken import CONTROL_IDS, IMAGE

# How often each kind of scene is shown: shapes carry most of the words.
KINDS = ("shapes",) * 6 + ("bars", "bars", "regions", "number")

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
    words |= {*scenes.COLOURS, *scenes.SHAPES, *scenes.ROWS, *scenes.COLUMNS, *"0123456789"}
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


def targets(words: scenes.Words, vectors: torch.Tensor) -> torch.Tensor:
    """What a scene's image tokens should be: shape (cells, hidden), rows first."""
    index = {word: place for place, word in enumerate(vocabulary())}
    cells = [cell for row in words for cell in row]
    return torch.stack([vectors[[index[word] for word in cell]].sum(dim=0) for cell in cells])


def read_back(tokens: torch.Tensor, vectors: torch.Tensor) -> list[set[str]]:
    """The words in each image token, by least squares: those with a share above one half.

    Args:
        tokens: shape (cells, hidden).
    """
    shares = torch.linalg.lstsq(vectors.T.double(), tokens.T.double()).solution.T
    words = vocabulary()
    return [{words[i] for i in (row > 0.5).nonzero().flatten().tolist()} for row in shares]


def batches(vectors: torch.Tensor, *, size: int, seed: int):
    """Endless training batches: pixels (size, 3, h, w) and targets (size, cells, hidden)."""
    rng = random.Random(f"eye {seed}")
    waiting: dict[tuple, list] = {}
    while True:
        scene = scenes.SCENES[rng.choice(KINDS)](rng, "train")
        seen = pixels(scene.draw(rng.choice([1, 1, 2, 3])))
        shelf = waiting.setdefault(seen.shape, [])
        shelf.append((seen, targets(scene.words(), vectors)))
        if len(shelf) == size:
            images, goals = zip(*waiting.pop(seen.shape), strict=True)
            yield torch.from_numpy(np.stack(images)), torch.stack(goals)
