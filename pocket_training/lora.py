"""Stage two's model: LoRA on the text model's linear layers, and the control tokens' rows."""

import math

import torch

from pocket_model.adapter import TARGET_MODULES, VISION_PREFIXES
from pocket_model.tekken import CONTROL_COUNT
from pocket_training import vision_stage
from pocket_training.packing import Batch

SEED = 0
RANK, SCALING = 16, 2.0


class LoRALinear(torch.nn.Module):
    """A frozen linear layer and the low-rank change that is trained: W x + scaling · B A x."""

    def __init__(self, linear: torch.nn.Linear, rank: int, scaling: float = SCALING):
        super().__init__()
        self.weight = linear.weight.requires_grad_(False)
        self.scaling = scaling
        self.lora_A = torch.nn.Parameter(torch.empty(rank, linear.in_features))
        self.lora_B = torch.nn.Parameter(torch.zeros(linear.out_features, rank))
        torch.nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        linear = torch.nn.functional.linear
        return linear(x, self.weight) + self.scaling * linear(linear(x, self.lora_A), self.lora_B)


class Student(torch.nn.Module):
    """An assembled model with what is trained of it: LoRA layers and the control tokens' rows.

    Args:
        model: from `architecture.assemble`, float32, its vision tower already trained.
        vectors: from `vision_stage.word_vectors`.
        half: multiply in bfloat16, while what is trained stays float32. See
            `processor.dtype_for_many_rows` for where this is faster.
    """

    def __init__(self, model, vectors: torch.Tensor, *, half: bool = False):
        super().__init__()
        self.half = half
        self.model = model.requires_grad_(False)
        self.register_buffer("vectors", vectors)
        rows = model.get_input_embeddings().weight
        self.control_rows = torch.nn.Parameter(rows[:CONTROL_COUNT].clone())
        self.lora_layers: dict[str, LoRALinear] = {}
        torch.manual_seed(SEED)
        for name, module in list(model.named_modules()):
            if ".language_model." in name and name.endswith(TARGET_MODULES):
                self.lora_layers[name] = LoRALinear(module, RANK)
                model.set_submodule(name, self.lora_layers[name])

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """The parameters that change, by their names in the adapter file.

        The names end in `.lora_a` and `.lora_b` there, since the committed file has them so.
        """
        parameters = {"control_rows": self.control_rows}
        for name, layer in self.lora_layers.items():
            parameters[f"{name}.lora_a"] = layer.lora_A
            parameters[f"{name}.lora_b"] = layer.lora_B
        return parameters

    def adapter_state(self) -> dict[str, torch.Tensor]:
        """All tensors of the adapter file: the vision tower too, and the scaling folded into B."""
        tensors = self.model.named_parameters()
        state = {name: t.detach() for name, t in tensors if name.startswith(VISION_PREFIXES)}
        for name, parameter in self.trainable().items():
            state[name] = parameter.detach() * (SCALING if name.endswith(".lora_b") else 1.0)
        return state

    def embed(self, batch: Batch) -> torch.Tensor:
        """A batch's input embeddings, (B, L, hidden), with pictures encoded or their labels."""
        embedding, ids = torch.nn.functional.embedding, batch.input_ids
        table = self.model.get_input_embeddings().weight
        control = embedding(ids.clamp(max=CONTROL_COUNT - 1), self.control_rows)
        states = torch.where((ids < CONTROL_COUNT)[..., None], control, embedding(ids, table))
        if not batch.pictures:
            return states
        tokens = []
        for picture, labels in zip(batch.pictures, batch.oracle_labels, strict=True):
            if labels is None:
                pixels = torch.from_numpy(picture)[None].to(table.device)
                with torch.no_grad():
                    tokens.append(vision_stage.encode_images(self.model, pixels)[0])
            else:
                tokens.append(vision_stage.targets(labels, self.vectors))
        is_image = (ids == self.model.config.image_token_id)[..., None]
        return states.masked_scatter(is_image, torch.cat(tokens))

    def losses(self, batch: Batch) -> torch.Tensor:
        """Each predicted token's loss in nats, (T,)."""
        batch = batch.to(self.control_rows.device)
        states = self.embed(batch)
        with torch.autocast(states.device.type, torch.bfloat16, enabled=self.half):
            states = self.model.model.language_model(
                inputs_embeds=states,
                attention_mask=batch.attention_mask,
                position_ids=batch.position_ids,
                use_cache=False,
            ).last_hidden_state
        predictors = states.float().flatten(0, 1)[batch.predictors]
        # Two products, since only the control tokens' rows are trained.
        others = self.model.get_input_embeddings().weight[CONTROL_COUNT:]
        logits = torch.cat([predictors @ self.control_rows.T, predictors @ others.T], dim=-1)
        logs = logits.log_softmax(dim=-1)
        losses = -logs.gather(1, batch.labels[:, None])[:, 0]
        soft_losses = -(logs[batch.soft_rows].gather(1, batch.soft_ids) * batch.soft_shares).sum(-1)
        return losses.index_copy(0, batch.soft_rows, soft_losses)
