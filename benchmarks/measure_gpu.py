"""Size and speed of the 24B's true shape on a graphics card, with random weights and no network.

    python benchmarks/measure_gpu.py --model mistral-small-3.2-2506 --work /fast/disk

Random weights say nothing of quality and everything of size and speed: the bytes, the kernels and
the memory traffic are the real ones. The script builds the weights (48 GB for the full shape),
loads them in bf16 and through `load_4bit`, times both, saves the 4-bit model and loads that again.
One JSON file holds everything, rewritten after each step, so that an interruption loses one step.

    python benchmarks/measure_gpu.py --reduced

does all of that at a small fraction of the size, on any processor, to try the script itself.
"""

import argparse
import gc
import json
import platform
import shutil
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import psutil
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from tqdm import tqdm
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from helpers.model import configs, loading, memory, sizes, speed
from helpers.model.checkpoints import check_disk

SHARD_BYTES = 4_500_000_000
# Of the 24B's proportions: grouped heads, a wide feed-forward part, an untied head.
REDUCED_TEXT = {
    "num_hidden_layers": 2,
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 4096,
}
REDUCED_EYES = {
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "head_dim": 32,
    "image_size": 112,
}
FULL = {"prompts": [512, 4096], "batches": [1, 8, 32], "new_tokens": 128, "context": 8192}
SMALL = {"prompts": [32], "batches": [1, 2], "new_tokens": 8, "context": 64}


def shape(name: str, reduced: bool) -> PretrainedConfig:
    """A model's configuration, made small if asked for."""
    config = configs.load(name)
    if reduced:
        config.get_text_config().update(REDUCED_TEXT)
        if config.model_type == "mistral3":
            config.vision_config.update(REDUCED_EYES)
    return config


def build(config: PretrainedConfig, folder: Path) -> int:
    """Write a checkpoint of random bf16 weights in shards; return its bytes."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = configs.empty_model(config)
    wanted = dict(model.named_parameters())
    total = sum(2 * parameter.numel() for parameter in wanted.values())
    check_disk(total, folder, "The random checkpoint")
    folder.mkdir(parents=True)
    config.dtype = torch.bfloat16
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder)

    shards: list[dict[str, torch.Tensor]] = [{}]
    places, held = {}, 0
    torch.manual_seed(0)
    bar = tqdm(total=total, desc="random weights", unit="B", unit_scale=True)
    for number, (name, parameter) in enumerate(wanted.items()):
        size = 2 * parameter.numel()
        if held and held + size > SHARD_BYTES:
            _write(shards[-1], folder, len(shards))
            shards[-1] = {}
            shards.append({})
            held = 0
        tensor = torch.empty(parameter.shape, dtype=torch.bfloat16, device=device)
        tensor = tensor.fill_(1.0) if parameter.ndim == 1 else tensor.normal_(0, 0.02)
        shards[-1][name] = tensor.cpu()
        places[name] = len(shards)
        held += size
        bar.update(size)
        if number + 1 == len(wanted):
            _write(shards[-1], folder, len(shards))
    bar.close()
    index = {
        "metadata": {"total_size": total},
        "weight_map": {name: _shard_name(place) for name, place in places.items()},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return total


def _write(tensors: dict[str, torch.Tensor], folder: Path, number: int) -> None:
    save_file(tensors, folder / _shard_name(number), metadata={"format": "pt"})


def _shard_name(number: int) -> str:
    return f"model-{number:05d}.safetensors"


def hardware() -> dict:
    """What this runs on."""
    found = {
        "processor": f"{psutil.cpu_count(logical=False)} cores, {platform.machine()}",
        "memory_bytes": psutil.virtual_memory().total,
        "card": None,
    }
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        found |= {
            "card": card.name,
            "card_bytes": card.total_memory,
            "compute_capability": f"{card.major}.{card.minor}",
            "cuda": torch.version.cuda,
        }
    return found


def load_bf16(config: PretrainedConfig, folder: Path):
    sees = config.model_type == "mistral3"
    auto_class = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return auto_class.from_pretrained(folder, dtype=torch.bfloat16, device_map=device).eval()


def timed(load):
    """A load's result with its seconds and its peak of memory in bytes."""
    release()
    with memory.Peak() as peak:
        start = time.perf_counter()
        result = load()
        seconds = time.perf_counter() - start
    return result, {"seconds": round(seconds, 2), "peak_bytes": peak.bytes - peak.before}


def speeds(model, scheme: str, plan: dict) -> list[dict]:
    """Every way of running it that works here; what fails is recorded with its reason."""
    ways = [("dynamic", False), ("static", False)]
    if torch.cuda.is_available():  # on a processor it would need a compiler and minutes
        ways.append(("static", True))
    rows = []
    for prompt in plan["prompts"]:
        for batch in plan["batches"]:
            for cache, compiled in ways:
                setting = {"prompt_tokens": prompt, "batch": batch, "cache": cache}
                try:
                    row = speed.time_generation(
                        model, new_tokens=plan["new_tokens"], compiled=compiled, **setting
                    )
                except (RuntimeError, NotImplementedError) as error:
                    row = setting | {"compiled": compiled, "failed": str(error).splitlines()[0]}
                    release()
                rows.append({"scheme": scheme} | row)
                print(json.dumps(rows[-1]), flush=True)
    return rows


def release() -> None:
    gc.collect()
    torch._dynamo.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def main(argv: list[str] | None = None) -> int:
    """Measure everything; 0 when done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", default="mistral-small-3.2-2506", help="a name of helpers.model.configs"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("random-weights"), help="emptied at the end"
    )
    parser.add_argument("--out", type=Path, help="default: data/measurements/runs/…")
    parser.add_argument("--reduced", action="store_true", help="a small shape, to try the script")
    options = parser.parse_args(argv)
    logging.set_verbosity_error()
    plan = SMALL if options.reduced else FULL
    config = shape(options.model, options.reduced)
    label = f"{options.model}-{'reduced' if options.reduced else 'full'}"
    out = options.out or configs.DATA / "measurements" / "runs" / f"{label}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    if options.work.exists():
        print(f"{options.work} exists. Delete it, or choose another folder with --work.")
        return 1

    result = {
        "what": "size and speed of a model's shape with random weights; says nothing of quality",
        "command": f"python benchmarks/measure_gpu.py {' '.join(argv or sys.argv[1:])}".strip(),
        "date": f"{date.today()}",
        "model": options.model,
        "reduced": options.reduced,
        "parameters": sizes.parameters(config),
        "hardware": hardware(),
        "versions": {n: version(n) for n in ("torch", "transformers", "bitsandbytes")},
        "predicted_bytes": {s: sizes.weight_bytes(config, s) for s in ("bf16", "nf4", "nf4-dq")},
        "loads": {},
        "ledgers": {},
        "speeds": [],
    }

    def keep() -> None:
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

    full, four = options.work / "bf16", options.work / "nf4"
    try:
        result["checkpoint_bytes"] = build(config, full)
        keep()
        model, result["loads"]["bf16"] = timed(lambda: load_bf16(config, full))
        keep()
        result["speeds"] += speeds(model, "bf16", plan)
        keep()
        del model
        for double_quant in (False, True):
            scheme = "nf4-dq" if double_quant else "nf4"
            loaded, result["loads"][scheme] = timed(
                lambda dq=double_quant: loading.load_4bit(
                    full, double_quant=dq, context=plan["context"]
                )
            )
            if double_quant:
                shutil.rmtree(full)  # done with: the disk need not hold both
                start = time.perf_counter()
                loading.save_4bit(loaded, four)
                saving = round(time.perf_counter() - start, 2)
                bytes_saved = sum(path.stat().st_size for path in four.iterdir())
                result["saved"] = {"seconds": saving, "bytes": bytes_saved}
            table = memory.ledger(loaded.model, context=plan["context"])
            result["ledgers"][scheme] = json.loads(table.to_json(orient="index"))
            keep()
            result["speeds"] += speeds(loaded.model, scheme, plan)
            keep()
            if double_quant:
                prompt = speed.random_prompt(loaded.model, 32, 1)
                with torch.no_grad():
                    expected = loaded.model(input_ids=prompt).logits.cpu()
            del loaded
        again, result["loads"]["nf4-dq saved"] = timed(lambda: loading.load_4bit(four))
        with torch.no_grad():
            found = again.model(input_ids=prompt).logits.cpu()
        result["reload_is_bit_identical"] = bool(torch.equal(expected, found))
        keep()
    finally:
        shutil.rmtree(options.work, ignore_errors=True)
    print(f"Measured: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
