"""Stage one's data and loss: each image token becomes a sum of words that the text model knows.

Take a 28 × 28 pixel cell with a red circle at the top left of the picture. Its token becomes the
sum of the word embeddings of " red", " circle", " top", " left" … So the text model meets pictures
as words on top of one another, and needs little training to read them.
"""

import random
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from PIL import Image

from pocket_model.chat_format import ChatFormat
from pocket_training import scenes
from pocket_training.messages import user_images
from pocket_training.styles import SIDE

CELLS = SIDE // scenes.CELL  # of a canvas, on each side
# How often each kind of scene is shown: shapes carry most of the words, and digits are the hardest.
KINDS = ("shapes",) * 12 + ("bars",) * 3 + ("regions",) + ("number",) * 5
SCALES = (1, 1, 1.5, 2, 3)  # of the drawn picture over what the model sees
# Of telling which words are in a token, and the weight of mistakes beside that of the distance.
SHARPNESS, MISREAD = 10.0, 0.3

# Pictures travel between processes as bytes, which are a quarter of what float32 takes. A level is
# about 1.4 of the 255 of an image file.
LEVELS, ZERO = 50, 115

Labelled = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # pixels, sizes, words of the cells


def pixels(chat_format: ChatFormat, picture: Image.Image) -> np.ndarray:
    """A picture as the model takes it: float32, shape (3, height, width)."""
    return chat_format.encode([user_images([picture], "")]).pictures[0]


@cache
def vocabulary() -> list[str]:
    """Every word that describes a cell."""
    words = {"empty", "sea", "region", "bar", "number", "outlined"}
    words |= {"largest", "smallest", "tallest", "shortest", *scenes.ORDINALS, *"0123456789"}
    words |= {*scenes.COLORS, *scenes.FURTHER_COLORS, *scenes.SHAPES, *scenes.FURTHER_SHAPES}
    words |= {*scenes.ROWS, *scenes.COLUMNS, *scenes.NUMBERS[1:], *scenes.TIMES[1:]}
    return sorted(words | {*scenes.SAME[1:]})


def word_vectors(model, encode: Callable[[str], list[int]]) -> torch.Tensor:
    """The embedding of each word of `vocabulary()`, shape (words, hidden).

    Args:
        encode: text to token ids; a word of several tokens gets the sum of their rows.
    """
    rows = model.get_input_embeddings().weight.detach()
    spelled = [word if word.isdigit() else f" {word}" for word in vocabulary()]
    return torch.stack([rows[encode(word)].sum(dim=0) for word in spelled])


def encode_images(
    model, pixels: torch.Tensor, sizes: torch.Tensor, *, half: bool = False
) -> torch.Tensor:
    """Image tokens of pictures of any sizes, each at the top left of a canvas.

    It uses the same encoder and projector as `model.get_image_features`. That method puts all
    pictures of a batch into one long sequence. Here they stay apart, so that attention costs no
    more than for one.

    Args:
        pixels: the canvases, (pictures, 3, side, side): as the model takes them, or as bytes from
            `on_canvases`.
        sizes: (pictures, 2), height and width of each in cells.
        half: multiply in bfloat16.

    Returns:
        float32 (pictures, cells of a canvas, hidden). Cells outside a picture mean nothing.
    """
    encoder, projector = model.model.vision_tower, model.model.multi_modal_projector
    if pixels.dtype == torch.uint8:
        pixels = (pixels.float() - ZERO) / LEVELS
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=half):
        return _encoded(encoder, projector, pixels, sizes).float()


def _encoded(encoder, projector, pixels: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    patches = encoder.patch_conv(pixels.to(encoder.patch_conv.weight.dtype))
    _, _, rows, columns = patches.shape
    grid = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    positions = torch.stack([axis.flatten() for axis in grid], dim=-1).to(pixels.device)
    states = encoder.ln_pre(patches.flatten(2).transpose(1, 2))
    angles = encoder.patch_positional_embedding(states, positions)
    merge = projector.patch_merger.spatial_merge_size
    shown = (positions // merge < sizes[:, None]).all(-1)[:, None, None]
    states = encoder.transformer(states, shown, position_embeddings=angles).last_hidden_state
    states = projector.norm(states).transpose(1, 2).unflatten(2, (rows, columns))
    states = torch.nn.functional.unfold(states, merge, stride=merge).transpose(1, 2)
    states = projector.patch_merger.merging_layer(states)
    return projector.linear_2(projector.act(projector.linear_1(states)))


def cells_shown(sizes: torch.Tensor) -> torch.Tensor:
    """Which cells of a canvas show the picture, row by row: (pictures, 2) to (pictures, cells)."""
    steps = torch.arange(CELLS, device=sizes.device)
    return ((steps < sizes[:, :1])[:, :, None] & (steps < sizes[:, 1:])[:, None]).flatten(1)


def on_canvases(pictures: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (3, height, width) as `pixels`, in bytes, and `sizes` of `encode_images`."""
    pixels = torch.zeros(len(pictures), 3, SIDE, SIDE, dtype=torch.uint8)
    for canvas, picture in zip(pixels, pictures, strict=True):
        levels = (picture * LEVELS + ZERO).round().clip(0, 255).astype(np.uint8)
        canvas[:, : picture.shape[1], : picture.shape[2]] = torch.from_numpy(levels)
    sizes = [[length // scenes.CELL for length in picture.shape[1:]] for picture in pictures]
    return pixels, torch.tensor(sizes).reshape(-1, 2)


def multi_hot(labels: scenes.CellLabels) -> torch.Tensor:
    """Which words describe each cell of a canvas: bool of shape (cells, words)."""
    places = _places()
    hot = torch.zeros(CELLS, CELLS, len(places), dtype=torch.bool)
    for row, cells in enumerate(labels):
        for column, cell in enumerate(cells):
            hot[row, column, [places[word] for word in cell]] = True
    return hot.flatten(0, 1)


@cache
def _places() -> dict[str, int]:
    return {word: place for place, word in enumerate(vocabulary())}


def readout(vectors: torch.Tensor) -> torch.Tensor:
    """The matrix that takes image tokens to the share of each word in them, by least squares.

    Returns:
        shape (hidden, words): `tokens @ readout(vectors)` is near 1 for a word that is in.
    """
    return torch.linalg.pinv(vectors.double()).to(vectors.dtype)


def loss(
    tokens: torch.Tensor,
    labels: torch.Tensor,
    shown: torch.Tensor,
    vectors: torch.Tensor,
    reader: torch.Tensor | None = None,
) -> torch.Tensor:
    """How far image tokens are from the words they should be, a scalar.

    The squared distance makes a token a sum of word embeddings. The cross-entropy of reading each
    word out of it spends the effort on the words that are still mistaken. Cells that show
    something weigh four times those of the background, which are the most.

    Args:
        tokens: shape (pictures, cells, hidden).
        labels: from `multi_hot`, shape (pictures, cells, words).
        shown: from `cells_shown`, (pictures, cells).
        reader: `readout(vectors)`, if it is known.
    """
    reader = readout(vectors) if reader is None else reader
    labels = labels.to(vectors.dtype)
    weight = shown * (1 + 3 * (labels.sum(-1) > 1).float())
    distance = (tokens - labels @ vectors).pow(2).mean(-1) / vectors.pow(2).mean()
    misread = torch.nn.functional.binary_cross_entropy_with_logits(
        SHARPNESS * (tokens @ reader - 0.5), labels, reduction="none"
    ).sum(-1)
    return ((distance + MISREAD * misread) * weight).sum() / weight.sum()


class Describe:
    """The loss of a model's vision encoder on labelled pictures, with the readout made once."""

    def __init__(self, model, vectors: torch.Tensor, *, half: bool = False):
        self.model, self.half = model, half
        self.vectors, self.reader = vectors, readout(vectors)

    def __call__(self, pixels, sizes, labels) -> torch.Tensor:
        """From what `draw_batch` gives, a scalar."""
        tokens = encode_images(self.model, pixels, sizes, half=self.half)
        return loss(tokens, labels, cells_shown(sizes), self.vectors, self.reader)


def draw_batch(chat_format: ChatFormat, *, size: int, seed: int, step: int) -> Labelled:
    """A step's pictures, drawn from its own number.

    Returns:
        pixels (pictures, 3, side, side), sizes (pictures, 2) and labels (pictures, cells, words).
    """
    # The word in the seed is arbitrary; another one would give another run.
    rng = random.Random(f"eye {seed} {step}")
    pictures, labels = [], []
    for _ in range(size):
        scene = scenes.SCENES[rng.choice(KINDS)](rng, "train")
        pictures.append(pixels(chat_format, scene.draw(rng.choice(SCALES))))
        labels.append(multi_hot(scene.cell_labels()))
    return *on_canvases(pictures), torch.stack(labels)
