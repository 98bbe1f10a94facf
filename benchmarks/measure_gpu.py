"""Size and speed of the 24B's architecture on a GPU, with random weights and no network.

    python benchmarks/measure_gpu.py --model mistral-small-3.2-2506 --work /fast/disk

Random weights say nothing about quality. They say everything about size and speed, because bytes,
kernels and memory traffic are those of the real model. The script writes the weights (48 GB at
full size), loads them in bf16 and through `load_4bit`, and times both. Then it saves the 4-bit
model, loads that again, and measures steps of LoRA training on it. One JSON file holds the
results. It is written after each step, so that an interruption loses one step only.

    python benchmarks/measure_gpu.py --reduced

does all of that at a small fraction of the size, on any machine, to try the script itself.
"""

import argparse
import gc
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import TypeVar

import psutil
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from tqdm import tqdm
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging

from helpers import machine
from helpers.finetune import adapters
from helpers.model import configs, loading, memory, sizes, speed, training
from helpers.model.checkpoints import check_disk
from helpers.paths import DATA

Result = TypeVar("Result")

SHARD_BYTES = 4_500_000_000
# With the proportions of the 24B: grouped heads, a wide feed-forward part, an untied head.
REDUCED_TEXT = {
    "num_hidden_layers": 2,
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 4096,
}
REDUCED_VISION = {
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "head_dim": 32,
    "image_size": 112,
}
# Settings: tokens of the prompt, sequences at once. The first is timed with every kind of cache.
FULL = {
    "settings": [(512, 1), (512, 8), (512, 32), (4096, 1)],
    "new_tokens": 64,
    "repeats": 2,
    "context": 8192,
    "train_tokens": 2048,
}
SMALL = {
    "settings": [(32, 1), (32, 2)],
    "new_tokens": 8,
    "repeats": 1,
    "context": 64,
    "train_tokens": 32,
}
RANK = 16  # of the adapter, as in notebook 09


def shape(name: str, reduced: bool) -> PretrainedConfig:
    """A model's configuration; a small one of the same kind if `reduced`."""
    config = configs.load(name)
    if reduced:
        config.get_text_config().update(REDUCED_TEXT)
        if config.model_type == "mistral3":
            config.vision_config.update(REDUCED_VISION)
    return config


def build(config: PretrainedConfig, folder: Path) -> int:
    """Write a checkpoint of random bf16 weights in shards; returns the bytes of its weights.

    Raises:
        LoadError: the disk is too small.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = configs.empty_model(config)
    parameters = dict(model.named_parameters())
    total = sum(2 * parameter.numel() for parameter in parameters.values())
    check_disk(total, folder, "The random checkpoint")
    folder.mkdir(parents=True)
    config.dtype = torch.bfloat16
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)

    weight_map: dict[str, str] = {}
    shard: dict[str, torch.Tensor] = {}
    shard_number, shard_bytes = 1, 0
    torch.manual_seed(0)
    with tqdm(total=total, desc="random weights", unit="B", unit_scale=True) as bar:
        for name, parameter in parameters.items():
            size = 2 * parameter.numel()
            if shard and shard_bytes + size > SHARD_BYTES:
                save_file(shard, folder / _shard_name(shard_number), metadata={"format": "pt"})
                shard, shard_number, shard_bytes = {}, shard_number + 1, 0
            tensor = torch.empty(parameter.shape, dtype=torch.bfloat16, device=device)
            tensor = tensor.fill_(1.0) if parameter.ndim == 1 else tensor.normal_(0, 0.02)
            shard[name] = tensor.cpu()
            weight_map[name] = _shard_name(shard_number)
            shard_bytes += size
            bar.update(size)
    save_file(shard, folder / _shard_name(shard_number), metadata={"format": "pt"})
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return total


def _shard_name(number: int) -> str:
    return f"model-{number:05d}.safetensors"


def hardware() -> dict:
    """The machine in words, and the figures of its memory and its GPU."""
    figures = {"machine": machine.hardware(), "memory_bytes": psutil.virtual_memory().total}
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        figures |= {
            "gpu": gpu.name,
            "gpu_bytes": gpu.total_memory,
            "compute_capability": f"{gpu.major}.{gpu.minor}",
            "cuda": torch.version.cuda,
        }
    return figures


def load_bf16(config: PretrainedConfig, folder: Path) -> PreTrainedModel:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    auto_class = configs.auto_class(config)
    return auto_class.from_pretrained(folder, dtype=torch.bfloat16, device_map=device).eval()


def timed(load: Callable[[], Result]) -> tuple[Result, dict]:
    """The result of `load`, its seconds and the bytes of memory at its peak."""
    release()
    with memory.PeakMemory() as peak:
        start = time.perf_counter()
        result = load()
        seconds = time.perf_counter() - start
    return result, {"seconds": round(seconds, 2), "peak_bytes": peak.bytes - peak.before}


def speeds(model: PreTrainedModel, scheme: str, plan: dict, settings: list) -> Iterator[dict]:
    """The speed with each setting of a plan; a failure is recorded with its reason.

    The first setting is timed with a static cache too, and on a GPU with a compiled step.
    """
    cases = [(*setting, "dynamic", False) for setting in settings]
    cases.append((*settings[0], "static", False))
    if torch.cuda.is_available():
        cases.append((*settings[0], "static", True))
    for prompt, batch, cache, compiled in cases:
        setting = {"prompt_tokens": prompt, "batch": batch, "cache": cache, "compiled": compiled}
        options = {name: plan[name] for name in ("new_tokens", "repeats")}
        start = time.perf_counter()
        try:
            row = speed.time_generation(model, **setting, **options)
        except (RuntimeError, NotImplementedError) as error:
            row = setting | {"failed": (str(error) or type(error).__name__).splitlines()[0]}
        release()
        row = {"scheme": scheme, "seconds_in_all": time.perf_counter() - start} | row
        print(json.dumps(row), flush=True)
        yield row


def release() -> None:
    """Free the memory of models that are no longer used."""
    gc.collect()
    torch._dynamo.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def measure_4bit(full: Path, saved: Path, plan: dict, result: dict, keep: Callable) -> None:
    """Load, time and save the checkpoint in `full` in 4 bits; add the figures to `result`.

    `full` is deleted before the 4-bit model is written to `saved`, so that the disk need not hold
    both. `keep` writes the result after each step.
    """
    for double_quant in (False, True):
        scheme = "nf4-dq" if double_quant else "nf4"
        loaded, result["loads"][scheme] = timed(
            lambda dq=double_quant: loading.load_4bit(
                full, double_quant=dq, context=plan["context"]
            )
        )
        keep()
        if double_quant:
            shutil.rmtree(full)
            start = time.perf_counter()
            loading.save_4bit(loaded, saved)
            seconds = round(time.perf_counter() - start, 2)
            bytes_saved = sum(path.stat().st_size for path in saved.iterdir())
            result["saved"] = {"seconds": seconds, "bytes": bytes_saved}
            logits = logits_of(loaded.model)
        table = memory.memory_table(loaded.model, context=plan["context"])
        result["memory"][scheme] = json.loads(table.to_json(orient="index"))
        keep()
        settings = plan["settings"] if double_quant else plan["settings"][:1]
        for row in speeds(loaded.model, scheme, plan, settings):
            result["speeds"].append(row)
            keep()
        del loaded  # before the next load: the GPU need not hold two models
    again, result["loads"]["nf4-dq saved"] = timed(lambda: loading.load_4bit(saved))
    result["reload_is_bit_identical"] = torch.equal(logits, logits_of(again.model))
    keep()
    for row in training_steps(again.model, plan["train_tokens"]):
        result["training"].append(row)
        keep()


def logits_of(model: PreTrainedModel) -> torch.Tensor:
    """The logits of one random prompt, (1, 32, vocabulary)."""
    with torch.no_grad(), loading.unpacked(model):
        return model(input_ids=speed.random_prompt(model, 32, 1)).logits.cpu()


def training_steps(model: PreTrainedModel, tokens: int) -> Iterator[dict]:
    """The memory and the time of a step of LoRA training, without and with checkpointing.

    The batch is one example of `tokens` tokens. `planned` is what notebook 09 plans.
    """
    student = adapters.add(model, rank=RANK)
    ids = speed.random_prompt(model, tokens, 1)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    for checkpointing in (False, True):
        if checkpointing:
            student.gradient_checkpointing_enable({"use_reentrant": False})
        planned = training.plan(
            model.config, rank=RANK, batch=1, tokens=tokens, checkpointing=checkpointing
        )
        row = {"tokens": tokens, "rank": RANK, "checkpointing": checkpointing}
        row |= {"planned": planned.parts}
        try:
            row["measured"] = training.measure(student, batch)
            row["seconds"] = step_seconds(student, batch)
        except RuntimeError as error:  # it may not fit
            row["failed"] = str(error).splitlines()[0]
        student.zero_grad()
        release()
        yield row


def step_seconds(student: PreTrainedModel, batch: dict) -> float:
    """The seconds of a forward and a backward pass: the least of three."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        student(**batch).loss.backward()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
        student.zero_grad()
    return min(seconds)


def main(argv: list[str] | None = None) -> int:
    """Measure everything. Returns 0, or 1 if the folder for the weights exists."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", default="mistral-small-3.2-2506", help="a name of helpers.model.configs"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("random-weights"), help="deleted at the end"
    )
    parser.add_argument("--out", type=Path, help="default: data/measurements/runs/…")
    parser.add_argument("--reduced", action="store_true", help="a small size, to try the script")
    options = parser.parse_args(argv)
    logging.set_verbosity_error()
    plan = SMALL if options.reduced else FULL
    config = shape(options.model, options.reduced)
    label = f"{options.model}-{'reduced' if options.reduced else 'full'}"
    out = options.out or DATA / "measurements" / "runs" / f"{label}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    if options.work.exists():
        print(f"{options.work} exists. Delete it, or choose another folder with --work.")
        return 1

    result = {
        "what": "size and speed of a model's architecture with random weights; not its quality",
        "command": f"python benchmarks/measure_gpu.py {' '.join(argv or sys.argv[1:])}".strip(),
        "date": f"{date.today()}",
        "model": options.model,
        "reduced": options.reduced,
        "parameters": sizes.parameters(config),
        "hardware": hardware(),
        "versions": machine.versions(),
        "predicted_bytes": {s: sizes.weight_bytes(config, s) for s in ("bf16", "nf4", "nf4-dq")},
        "loads": {},
        "memory": {},
        "speeds": [],
        "training": [],
    }

    def keep() -> None:
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

    full = options.work / "bf16"
    try:
        result["checkpoint_bytes"] = build(config, full)
        keep()
        model, result["loads"]["bf16"] = timed(lambda: load_bf16(config, full))
        keep()
        for row in speeds(model, "bf16", plan, plan["settings"]):
            result["speeds"].append(row)
            keep()
        del model
        measure_4bit(full, options.work / "nf4", plan, result, keep)
    finally:
        shutil.rmtree(options.work, ignore_errors=True)
    print(f"Measured: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
