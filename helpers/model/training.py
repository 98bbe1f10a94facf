"""The memory that LoRA training takes: planned from a configuration, and measured in a step.

The plan counts what PyTorch keeps for the backward pass of a Mistral block (transformers 5, SDPA
attention, peft's adapters in float32, everything else in 16 bits). A test compares it with the
tensors that are really kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from helpers.model import configs, fit, sizes
from helpers.model.memory import allocated_peak, memory_footprint
from helpers.model.sizes import expect_tokens, expect_whole

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

# The linear layers of a block, each as (inputs, outputs).
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class TrainingPlan:
    """What training needs, in bytes.

    Attributes:
        parts: bytes by part, for a training step at its peak.
        overhead_bytes: an allowance for CUDA's context and fragmentation, on a GPU.
    """

    parts: dict[str, int]
    overhead_bytes: int = fit.OVERHEAD_BYTES

    @property
    def total_bytes(self) -> int:
        return sum(self.parts.values()) + self.overhead_bytes

    def fits(self, memory_bytes: int) -> bool:
        """Whether it fits into so much memory, such as `cards.gpu("4090").usable_bytes`."""
        return self.total_bytes <= memory_bytes


def adapter_parameters(model: str | PretrainedConfig, rank: int) -> int:
    """The parameters of LoRA on all linear layers of the language model.

    A layer of `inputs` × `outputs` gets rank × (inputs + outputs).
    """
    text = configs.load(model).get_text_config()
    rank = expect_whole("rank", rank)
    shapes = _linear_shapes(text).values()
    return text.num_hidden_layers * rank * sum(inputs + outputs for inputs, outputs in shapes)


def _linear_shapes(text: PretrainedConfig) -> dict[str, tuple[int, int]]:
    hidden, wide = text.hidden_size, text.intermediate_size
    queries = text.num_attention_heads * text.head_dim
    keys = text.num_key_value_heads * text.head_dim
    return {
        "q_proj": (hidden, queries),
        "k_proj": (hidden, keys),
        "v_proj": (hidden, keys),
        "o_proj": (queries, hidden),
        "gate_proj": (hidden, wide),
        "up_proj": (hidden, wide),
        "down_proj": (wide, hidden),
    }


def plan(
    model: str | PretrainedConfig,
    *,
    rank: int,
    batch: int,
    tokens: int,
    scheme: str = "nf4-dq",
    checkpointing: bool = False,
    overhead_bytes: int = fit.OVERHEAD_BYTES,
) -> TrainingPlan:
    """The memory of LoRA training on all linear layers of the language model, with AdamW.

    Args:
        model: a name of `helpers.model.configs`, or a configuration.
        batch, tokens: examples in a batch, and tokens of each, the filled ones included.
        scheme: of the frozen weights, a name of `sizes.SCHEMES`.
        checkpointing: keep only each layer's input, and compute the rest again in the backward
            pass (gradient checkpointing).

    Raises:
        ValueError: an argument out of range. The message names it.
    """
    config = configs.load(model)
    text, trained = config.get_text_config(), adapter_parameters(config, rank)
    positions = expect_whole("batch", batch) * expect_tokens("tokens", tokens, config)
    layer = positions * layer_bytes(text, rank)
    activations = text.num_hidden_layers * layer
    if checkpointing:
        activations = text.num_hidden_layers * positions * 2 * text.hidden_size + layer
    parts = {
        "weights": sizes.weight_bytes(config, scheme),
        "adapter": 4 * trained,
        "gradients": 4 * trained,
        "optimizer": 8 * trained,  # AdamW keeps two numbers for each
        "activations": activations,
        "logits": positions * text.vocab_size * 4,  # log-probabilities in float32
        # Their gradient in float32, and copies of both in 16 bits.
        "working space": positions * text.vocab_size * (4 + 2 + 2),
    }
    if scheme.startswith("nf4"):
        # One layer at a time is turned back into 16 bits.
        parts["working space"] += 2 * text.hidden_size * text.intermediate_size
    return TrainingPlan(parts, overhead_bytes)


def layer_bytes(text: PretrainedConfig, rank: int) -> int:
    """What one layer keeps for each token until the backward pass, in bytes.

    In float32: the input of each adapter (five of the hidden size, one of the queries', one of
    the feed-forward width), the seven results of rank r, the inputs of both norms with a number
    each, and a number for each head. In 16 bits: three tensors of the feed-forward width, queries,
    keys, values and the attention's result. Rows of different lengths need a mask, with which
    transformers repeats keys and values for all heads of the queries.
    """
    hidden, wide, heads = text.hidden_size, text.intermediate_size, text.num_attention_heads
    queries = heads * text.head_dim
    in_float32 = 5 * hidden + queries + wide + len(LINEARS) * rank + 2 * hidden + 2 + heads
    in_16_bits = 3 * wide + 2 * queries + 2 * queries
    return 4 * in_float32 + 2 * in_16_bits


def kept_bytes(model: PreTrainedModel, tensors: dict[str, torch.Tensor]) -> tuple[int, int]:
    """What PyTorch keeps for the backward pass of a batch, counted: activations, logits.

    The model's own weights do not count. Each memory counts once, however many tensors share it.

    Args:
        tensors: `input_ids`, `attention_mask` and `labels`, each (examples, tokens).
    """
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        # Detached: an operation that keeps its own result would keep itself, for good.
        tensor = tensor.detach()
        place = tensor.untyped_storage().data_ptr()
        if place not in own:
            kept[place] = tensor
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(**tensors).loss
    vocabulary = model.config.get_text_config().vocab_size
    of_vocabulary = [t for t in kept.values() if t.ndim > 1 and t.shape[-1] == vocabulary]
    logits = sum(t.untyped_storage().nbytes() for t in of_vocabulary)
    everything = sum(t.untyped_storage().nbytes() for t in kept.values())
    del loss
    return everything - logits, logits


def measure(model: PreTrainedModel, tensors: dict[str, torch.Tensor]) -> dict[str, int]:
    """The memory of a training step by part, counted, and its peak, measured.

    It makes two steps with a learning rate of 0, so that nothing is learned. The second one is
    measured: from then on the optimizer has its numbers.

    Returns:
        bytes of weights, adapter, gradients, optimizer, activations and logits; and "step", the
        peak above weights and adapter (see `allocated_peak`).
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    adapter = sum(parameter.nbytes for parameter in trained)
    weights = int(memory_footprint(model).loc["total", "bytes"]) - adapter
    optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=0.0)

    def step() -> None:
        model(**tensors).loss.backward()
        optimizer.step()

    model.train()
    step()
    states = [value for state in optimizer.state.values() for value in state.values()]
    found = {
        "weights": weights,
        "adapter": adapter,
        "gradients": sum(parameter.grad.nbytes for parameter in trained),
        "optimizer": sum(value.nbytes for value in states if value.ndim),
    }
    optimizer.zero_grad()
    found["step"] = found["optimizer"] + allocated_peak(step, model.device)
    optimizer.zero_grad()
    found["activations"], found["logits"] = kept_bytes(model, tensors)
    return found
