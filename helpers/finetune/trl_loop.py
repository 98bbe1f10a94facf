"""The same training by trl's SFTTrainer. It needs requirements-train.txt."""

import tempfile
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from helpers.finetune.labels import Example

if TYPE_CHECKING:
    from peft import PeftModel

MISSING = "trl is not installed here: pip install -r requirements-train.txt -c constraints.txt"


def installed() -> bool:
    """Whether trl and datasets are there."""
    return all(find_spec(name) is not None for name in ("trl", "datasets"))


def train(
    model: "PeftModel",
    tokenizer: Any,
    examples: Sequence[Example],
    *,
    batch: int,
    steps: int,
    rate: float,
) -> list[float]:
    """Train with SFTTrainer on examples in their order; returns each step's loss.

    The settings are those of `loop.train`. SFTTrainer's own are others: bf16 autocast, gradient
    checkpointing, a lower rate and random batches.
    """
    from datasets import Dataset
    from transformers import PrinterCallback
    from transformers.utils import logging
    from trl import SFTConfig, SFTTrainer

    logging.set_verbosity_error()
    rows = Dataset.from_list([{"input_ids": e.ids, "labels": e.labels} for e in examples])
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # trl uses older names of transformers
        settings = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=batch,
            max_steps=steps,
            learning_rate=rate,
            lr_scheduler_type="linear",
            max_grad_norm=1.0,
            weight_decay=0.0,
            optim="adamw_torch",
            train_sampling_strategy="sequential",
            dataset_kwargs={"skip_prepare_dataset": True},  # the labels are made already
            max_length=None,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=not torch.cuda.is_available(),
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = SFTTrainer(model, settings, train_dataset=rows, processing_class=tokenizer)
        trainer.remove_callback(PrinterCallback)  # the losses are returned
        trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
