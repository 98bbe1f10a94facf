"""TODO."""

import math

import torch

from pocket_model.adapter import VISION_PREFIXES, TARGET_MODULES
from pocket_model.tekken import CONTROL_COUNT
from pocket_training import vision_stage
from pocket_training.packing import Batch

SEED = 0


RANK, SCALE = 16, 2.0


class LowRank(torch.nn.Module):
    """A frozen linear and the low-rank change that is trained: W x + SCALE · B A x."""

    def __init__(self, linear: torch.nn.Linear, rank: int):
        super().__init__()
        self.weight = linear.weight.requires_grad_(False)
        self.a = torch.nn.Parameter(torch.empty(rank, linear.in_features))
        self.b = torch.nn.Parameter(torch.zeros(linear.out_features, rank))
        torch.nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        change = torch.nn.functional.linear(torch.nn.functional.linear(x, self.a), self.b)
        return torch.nn.functional.linear(x, self.weight) + SCALE * change


class Student(torch.nn.Module):
    """An assembled model with its trainable parts: LoRA pairs and the control tokens' rows.

    Args:
        model: from `architecture.assemble`, float32, its eye already taught.
        vectors: from `vision_stage.word_vectors`.
        half: multiply in bfloat16, what is trained staying float32: about twice as fast where the
            processor has instructions for it.
    """

    def __init__(
        self,
        model,
        vectors: torch.Tensor,
        rank: int = RANK,
        seed: int = SEED,
        *,
        half: bool = False,
    ):
        super().__init__()
        self.half = half
        self.model = model.requires_grad_(False)
        self.register_buffer("vectors", vectors)
        rows = model.get_input_embeddings().weight
        self.control_rows = torch.nn.Parameter(rows[:CONTROL_COUNT].clone())
        self.pairs: dict[str, LowRank] = {}
        torch.manual_seed(seed)
        for name, module in list(model.named_modules()):
            if ".language_model." in name and name.split(".")[-1] in TARGET_MODULES:
                pair = LowRank(module, rank)
                model.get_submodule(name.rpartition(".")[0]).__setattr__(name.split(".")[-1], pair)
                self.pairs[name] = pair

    def trained(self) -> dict[str, torch.nn.Parameter]:
        """The parameters that change, by the names of `data/pocket/adapter.safetensors`."""
        found = {"control_rows": self.control_rows}
        for name, pair in self.pairs.items():
            found[f"{name}.lora_a"], found[f"{name}.lora_b"] = pair.a, pair.b
        return found

    def parts(self) -> dict[str, torch.Tensor]:
        """Everything that `data/pocket` keeps: the eye too, and SCALE folded into B."""
        kept = {n: p.detach() for n, p in self.model.named_parameters() if n.startswith(VISION_PREFIXES)}
        for name, part in self.trained().items():
            kept[name] = part.detach() * (SCALE if name.endswith(".lora_b") else 1.0)
        return kept

    def embedded(self, lesson: Batch) -> torch.Tensor:
        """A batch's input embeddings, (B, L, hidden), pictures seen by the eye."""
        table = self.model.get_input_embeddings().weight
        states = torch.nn.functional.embedding(lesson.ids, table)
        control = (lesson.ids < CONTROL_COUNT)[..., None]
        own = torch.nn.functional.embedding(
            lesson.ids.clamp(max=CONTROL_COUNT - 1), self.control_rows
        )
        states = torch.where(control, own, states)
        if lesson.pictures:
            with torch.no_grad():
                seen = [
                    vision_stage.see(self.model, torch.from_numpy(picture)[None].to(table.device))[
                        0
                    ]
                    if words is None
                    else vision_stage.targets(words, self.vectors)
                    for picture, words in zip(lesson.pictures, lesson.told, strict=True)
                ]
            here = (lesson.ids == self.model.config.image_token_id)[..., None]
            states = states.masked_scatter(here, torch.cat(seen))
        return states

    def losses(self, lesson: Batch) -> torch.Tensor:
        """Each predicted token's loss in nats, (T,)."""
        lesson = lesson.to(self.control_rows.device)
        states = self.embedded(lesson)
        with torch.autocast(states.device.type, torch.bfloat16, enabled=self.half):
            states = self.model.model.language_model(
                inputs_embeds=states,
                attention_mask=lesson.allowed,
                position_ids=lesson.positions,
                use_cache=False,
            ).last_hidden_state
        asked = states.float().flatten(0, 1)[lesson.where]
        # Two products, since only the control tokens' rows are trained.
        others = self.model.get_input_embeddings().weight[CONTROL_COUNT:]
        logits = torch.cat([asked @ self.control_rows.T, asked @ others.T], dim=-1)
        logs = logits.log_softmax(dim=-1)
        found = -logs.gather(1, lesson.labels[:, None])[:, 0]
        if lesson.soft is not None:
            at, ids, shares = lesson.soft
            found = found.clone()
            found[at] = -(logs[at].gather(1, ids) * shares).sum(dim=-1)
        return found
