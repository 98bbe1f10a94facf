"""The vision encoder: pictures to image tokens, by transformers' own classes."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from pocket_model.processor import bf16_matmul_is_fast

PARTS = ("vision_tower", "multi_modal_projector")


class VisionEncoder:
    """A built model's vision encoder and projector.

    They are loaded for the first picture: to import transformers' classes takes longer than the
    rest of a server's start.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._model: torch.nn.ModuleDict | None = None

    def encode(self, pictures: list[np.ndarray]) -> torch.Tensor:
        """The image tokens of all pictures, float32 of shape (tokens, hidden).

        Args:
            pictures: float32 arrays of shape (3, height, width), of any sizes.
        """
        model = self._model = self._model or _load(self._folder)
        return torch.cat(image_tokens(*(model[part] for part in PARTS), pictures)).float()


def _load(folder: Path) -> torch.nn.ModuleDict:
    from transformers import Mistral3Config, PixtralVisionModel
    from transformers.models.mistral3.modeling_mistral3 import Mistral3MultiModalProjector

    config = Mistral3Config.from_dict(json.loads((folder / "config.json").read_text()))
    modules = (PixtralVisionModel(config.vision_config), Mistral3MultiModalProjector(config))
    model = torch.nn.ModuleDict(dict(zip(PARTS, modules, strict=True)))
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(PARTS)]  # noqa: SIM118
        model.load_state_dict({name: file.get_tensor(name) for name in names})
    dtype = torch.bfloat16 if bf16_matmul_is_fast() else torch.float32
    return model.to(dtype).eval().requires_grad_(False)


def image_tokens(
    tower: torch.nn.Module, projector: torch.nn.Module, pictures: list[np.ndarray]
) -> list[torch.Tensor]:
    """Each picture's tokens, (tokens, hidden).

    One picture at a time: of several, transformers computes the scores between all their patches,
    and hides those of other pictures. So its time grows with the square of their number.
    """
    tokens = []
    for picture in pictures:
        inputs = image_inputs([picture], tower.dtype)
        output = tower(inputs["pixel_values"], image_sizes=inputs["image_sizes"])
        tokens.append(projector(output.last_hidden_state.squeeze(0), inputs["image_sizes"]))
    return tokens


def image_inputs(pictures: list[np.ndarray], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The model's inputs for pictures: `pixel_values` padded to the largest, and `image_sizes`.

    Args:
        pictures: arrays of shape (3, height, width), of any sizes.
        dtype: of the vision encoder.
    """
    if not pictures:
        return {}
    sizes = torch.tensor([picture.shape[1:] for picture in pictures])
    height, width = sizes.amax(dim=0).tolist()
    pixels = torch.zeros(len(pictures), 3, height, width, dtype=dtype)
    for canvas, picture in zip(pixels, pictures, strict=True):
        canvas[:, : picture.shape[1], : picture.shape[2]] = torch.from_numpy(picture)
    return {"pixel_values": pixels, "image_sizes": sizes}
