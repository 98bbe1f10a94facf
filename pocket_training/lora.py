"""Stage two's model: LoRA on the text model's linear layers, the control tokens' rows, the encoder.

The vision encoder and the projector come trained from stage one and go on learning, by smaller
steps: now from the answers.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AttentionInterface

from pocket_model.adapter import TARGET_MODULES, VISION_PREFIXES
from pocket_model.tekken import CONTROL_COUNT
from pocket_training import vision_stage
from pocket_training.packing import Batch

SEED = 0
RANK, SCALING = 24, 2.0


# The 16 values of NF4 (Dettmers et al., 2023), and the weights that share a scale.
NF4 = (-1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0)
NF4 += (0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0)
NF4_BLOCK = 64


def nf4_error(weight: torch.Tensor) -> torch.Tensor:
    """What rounding to NF4 adds to a weight, of its own shape."""
    blocks = weight.float().reshape(-1, NF4_BLOCK)
    scale = blocks.abs().amax(dim=1, keepdim=True).clamp(min=1e-12)
    values = torch.tensor(NF4, device=weight.device)
    nearest = torch.bucketize(blocks / scale, (values[1:] + values[:-1]) / 2)
    return (values[nearest] * scale - blocks).reshape(weight.shape)


class LoRALinear(torch.nn.Module):
    """A frozen linear layer and the low-rank change that is trained: W x + scaling · B A x.

    Args:
        half: keep W in bfloat16. Autocast would widen and round it again in every step.
    """

    def __init__(self, linear: torch.nn.Linear, rank: int, *, half: bool = False):
        super().__init__()
        weight = linear.weight.detach()
        self.register_buffer("weight", weight.to(torch.bfloat16) if half else weight)
        self.lora_A = torch.nn.Parameter(torch.empty(rank, linear.in_features))
        self.lora_B = torch.nn.Parameter(torch.zeros(linear.out_features, rank))
        self.exact: torch.Tensor | None = None
        self.rounded: torch.Tensor | None = None
        torch.nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        linear = torch.nn.functional.linear
        x = x.to(self.weight.dtype)  # once for both products
        return linear(x, self.weight) + linear(SCALING * linear(x, self.lora_A), self.lora_B)

    @torch.no_grad()
    def round_to_nf4(self) -> None:
        """Keep the weight as it is now, with the change, when it is rounded to NF4."""
        if self.exact is None:
            self.exact = self.weight.clone()
        changed = self.exact.float() + SCALING * self.lora_B @ self.lora_A
        self.rounded = (self.exact.float() + nf4_error(changed)).to(self.exact.dtype)

    @torch.no_grad()
    def compute_rounded(self, rounded: bool) -> None:
        """Compute with the rounded weight, or with the exact one again."""
        # In place: a CUDA graph reads the weight from where it was when it was recorded.
        self.weight.copy_(self.rounded if rounded else self.exact)


def _vision_parameters(model) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return (pair for pair in model.named_parameters() if pair[0].startswith(VISION_PREFIXES))


ROW_BY_ROW = "row_by_row"


def _attend_row_by_row(module, query, key, value, attention_mask, *, scaling, row_masks, **_):
    """Attention on a joined line: each row attends to itself, by its own mask."""
    lengths = [mask.shape[-1] for mask in row_masks]
    parts = (states.split(lengths, dim=2) for states in (query, key, value))
    attend = torch.nn.functional.scaled_dot_product_attention
    found = [
        attend(q, k, v, attn_mask=mask, scale=scaling, enable_gqa=True)
        for q, k, v, mask in zip(*parts, row_masks, strict=True)
    ]
    return torch.cat(found, dim=2).transpose(1, 2), None


AttentionInterface.register(ROW_BY_ROW, _attend_row_by_row)


class Layers(torch.nn.Module):
    """The text model from its input embeddings to its last hidden state."""

    def __init__(self, text):
        super().__init__()
        self.layers, self.norm = text.layers, text.norm

    def forward(self, states, mask, cos, sin, **options) -> torch.Tensor:
        for layer in self.layers:
            states = layer(states, attention_mask=mask, position_embeddings=(cos, sin), **options)
        return self.norm(states)


class Student(torch.nn.Module):
    """An assembled model with what is trained of it: LoRA layers and the control tokens' rows.

    Args:
        model: from `architecture.assemble`, float32, its vision tower already trained.
        vectors: from `vision_stage.word_vectors`.
        frozen_vision: the vision encoder stays as it is.
        half: multiply in bfloat16, while what is trained stays float32. See
            `processor.dtype_for_many_rows` for where this is faster.
        graphs: on a GPU, compile the layers, record their work for each shape of a batch once, and
            replay it. Python's own time is most of a step of so small a model, and this saves it.
    """

    def __init__(
        self,
        model,
        vectors: torch.Tensor,
        *,
        frozen_vision: bool = False,
        half: bool = False,
        graphs: bool = False,
    ):
        super().__init__()
        self.half = half
        self.graphs: dict[torch.Size, Callable] | None = {} if graphs else None
        self.model = model.requires_grad_(False)
        self.vision = dict(_vision_parameters(model))
        for parameter in self.vision.values():
            parameter.requires_grad_(not frozen_vision)
        self.register_buffer("vectors", vectors)
        rows = model.get_input_embeddings().weight
        self.control_rows = torch.nn.Parameter(rows[:CONTROL_COUNT].clone())
        self.lora_layers: dict[str, LoRALinear] = {}
        torch.manual_seed(SEED)
        for name, module in list(model.named_modules()):
            if ".language_model." in name and name.endswith(TARGET_MODULES):
                self.lora_layers[name] = LoRALinear(module, RANK, half=half)
                model.set_submodule(name, self.lora_layers[name])
        self.layers = Layers(model.model.language_model)

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """The parameters that change, by their names in the adapter file."""
        return {name: each for name, each in self._adapter().items() if each.requires_grad}

    def _adapter(self) -> dict[str, torch.nn.Parameter]:
        """All that the adapter file has, by its names there.

        The names end in `.lora_a` and `.lora_b` there, since the committed file has them so.
        """
        parameters = {"control_rows": self.control_rows, **self.vision}
        for name, layer in self.lora_layers.items():
            parameters[f"{name}.lora_a"] = layer.lora_A
            parameters[f"{name}.lora_b"] = layer.lora_B
        return parameters

    def adapter_state(self) -> dict[str, torch.Tensor]:
        """All tensors of the adapter file: as they are trained, and the scaling folded into B."""
        return {
            name: parameter.detach() * (SCALING if name.endswith(".lora_b") else 1.0)
            for name, parameter in self._adapter().items()
        }

    def start_from(self, path: Path) -> None:
        """Take what an adapter file has."""
        saved = load_file(path)
        with torch.no_grad():
            for name, parameter in self._adapter().items():
                if name not in saved:  # the encoder alone, from a run without a second stage
                    continue
                share = SCALING if name.endswith(".lora_b") else 1.0
                parameter.copy_(saved[name].float() / share)

    def round_to_nf4(self) -> None:
        """Keep all linear layers as they are now in 4 bits, for `compute_rounded`."""
        for layer in self.lora_layers.values():
            layer.round_to_nf4()

    def compute_rounded(self, rounded: bool) -> None:
        """Compute as if all linear layers were in 4 bits, or exactly again."""
        for layer in self.lora_layers.values():
            layer.compute_rounded(rounded)

    def embed(self, batch: Batch) -> torch.Tensor:
        """A batch's input embeddings, (B, L, hidden), with pictures encoded or their labels."""
        embedding, ids = torch.nn.functional.embedding, batch.input_ids
        table = self.model.get_input_embeddings().weight
        control = embedding(ids.clamp(max=CONTROL_COUNT - 1), self.control_rows)
        states = torch.where((ids < CONTROL_COUNT)[..., None], control, embedding(ids, table))
        if not len(batch.pixels):
            return states
        encode = vision_stage.encode_images
        tokens = encode(self.model, batch.pixels, batch.sizes, half=self.half)
        of_words = batch.cell_words.to(self.vectors.dtype) @ self.vectors
        tokens = torch.where(batch.oracle[:, None, None], of_words, tokens)
        is_image = (ids == self.model.config.image_token_id)[..., None]
        in_order = tokens[vision_stage.cells_shown(batch.sizes)]
        return states.masked_scatter(is_image, in_order.to(states.dtype))

    def _replay(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The layers' output as a CUDA graph computes it, recorded at a shape's first use."""
        shape = inputs[0].shape
        if shape not in self.graphs:
            if not self.graphs:  # the layers are alike: what is compiled for one serves all
                for layer in self.model.model.language_model.layers:
                    layer.compile(dynamic=False)
            # Recorded on inputs of its own. A graph keeps the places of what it was recorded with.
            examples = tuple(each.detach().clone() for each in inputs)
            examples[0].requires_grad_(inputs[0].requires_grad)
            with torch.autocast("cuda", torch.bfloat16, enabled=self.half, cache_enabled=False):
                layers = Layers(self.model.model.language_model).train()
                self.graphs[shape] = torch.cuda.make_graphed_callables(layers, examples)
        return self.graphs[shape](*inputs)

    def losses(self, batch: Batch) -> torch.Tensor:
        """Each predicted token's loss in nats, (T,)."""
        batch = batch.to(self.control_rows.device)
        states = self.embed(batch)
        text = self.model.model.language_model
        text.set_attn_implementation(ROW_BY_ROW if batch.joined else "sdpa")
        angles = text.rotary_emb(states, batch.position_ids)
        with torch.autocast(states.device.type, torch.bfloat16, enabled=self.half):
            if batch.joined:
                states = self.layers(states, None, *angles, row_masks=batch.row_masks)
            elif self.graphs is not None:
                states = self._replay(states, batch.attention_mask, *angles)
            else:
                states = self.layers(states, batch.attention_mask, *angles)
        predictors = states.float().flatten(0, 1)[batch.predictors]
        # Two products, since only the control tokens' rows are trained.
        others = self.model.get_input_embeddings().weight[CONTROL_COUNT:]
        logits = torch.cat([predictors @ self.control_rows.T, predictors @ others.T], dim=-1)
        logs = logits.log_softmax(dim=-1)
        losses = -logs.gather(1, batch.labels[:, None])[:, 0]
        soft_losses = -(logs[batch.soft_rows].gather(1, batch.soft_ids) * batch.soft_shares).sum(-1)
        return losses.index_copy(0, batch.soft_rows, soft_losses)
