"""Recorded runs of `benchmarks/measure_gpu.py`: the 24B's shape and random weights on a real GPU.

A run says nothing about quality. Its file in `data/measurements/runs` has the command, the machine,
the versions and the date.
"""

import json
from typing import Any

import pandas as pd

from helpers.model import cards, configs, sizes
from helpers.paths import DATA

FOLDER = DATA / "measurements" / "runs"
Run = dict[str, Any]


def load(name: str = "mistral-small-3.2-2506") -> Run:
    """The run of a model, by a name of `helpers.model.configs`. Print `source(run)` beside it.

    Raises:
        FileNotFoundError: no run of this model is recorded.
    """
    return json.loads((FOLDER / f"{name}-full.json").read_text(encoding="utf-8"))


def source(run: Run) -> str:
    """Command, machine, versions and date of a run, in three lines."""
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    return f"{run['command']}, {run['date']}\n{run['hardware']['machine']}\n{versions}"


def speeds(run: Run, gpu: str) -> pd.DataFrame:
    """The speeds of a run beside the most that the memory of its GPU allows.

    Args:
        gpu: the run's GPU, a name for `cards.gpu`: its maker's bandwidth gives `at most`.

    Returns:
        a row for each setting: `weights`, `prompt` (tokens), `users` (sequences at once),
        `cache`, `tokens/s` of all together, `step (ms)`, `at most`, `share` of that and
        `first token (s)`.
        "compiled" is a static cache and a compiled step; `step (ms)` is the time of one step,
        which makes a token for each user. What could not be run is left out.

    Raises:
        ValueError: the run is of another GPU.
    """
    if gpu.lower() not in run["hardware"]["gpu"].lower():
        raise ValueError(f"gpu: the run is of {run['hardware']['gpu']}, not of {gpu}")
    config, bandwidth = configs.load(run["model"]), cards.gpu(gpu).bandwidth
    rows = []
    for row in run["speeds"]:
        if "failed" in row:
            continue
        prompt, users = row["prompt_tokens"], row["batch"]
        scheme, context = row["scheme"], prompt + row["new_tokens"] // 2
        most = sizes.decode_limit(config, scheme, bandwidth, context=context, batch=users)
        rows.append({
            "weights": scheme,
            "prompt": prompt,
            "users": users,
            "cache": "compiled" if row["compiled"] else row["cache"],
            "tokens/s": row["decode_tokens_per_s"],
            "step (ms)": 1000 * users / row["decode_tokens_per_s"],
            "at most": most,
            "share": row["decode_tokens_per_s"] / most,
            "first token (s)": row["ttft_s"],
        })  # fmt: skip
    return pd.DataFrame(rows)


def failures(run: Run) -> list[str]:
    """What could not be run, and why; each reason once."""
    return list(dict.fromkeys(row["failed"] for row in run["speeds"] if "failed" in row))


def memory(run: Run, scheme: str) -> pd.DataFrame:
    """`memory_table` of a run, in GB: predicted from the configuration, measured on the GPU."""
    table = pd.DataFrame.from_dict(run["memory"][scheme], orient="index").rename_axis("part")
    table[["predicted", "measured"]] /= 1e9
    return table.rename(columns={"predicted": "predicted (GB)", "measured": "measured (GB)"})


def training(run: Run) -> pd.DataFrame:
    """The memory of a step of LoRA training at its peak, planned and measured, in GiB.

    Weights, adapter and the peak above them, without CUDA's own memory. The index says whether
    gradient checkpointing was on. A step that did not fit is left out.
    """
    rows = {}
    for row in run["training"]:
        if "measured" not in row:
            continue
        measured = row["measured"]
        rows["checkpointing" if row["checkpointing"] else "keep all"] = {
            "planned": sum(row["planned"].values()) / 2**30,
            "measured": sum(measured[part] for part in ("weights", "adapter", "step")) / 2**30,
        }
    return pd.DataFrame.from_dict(rows, orient="index")
