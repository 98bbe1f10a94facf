"""An adapter merged into its base: one model again, which any program can serve."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, PreTrainedModel

from helpers.finetune import adapters
from helpers.finetune.labels import NOT_LEARNED, Example
from helpers.model.configs import auto_class
from helpers.model.loading import unpacked
from helpers.model.quality import Predictions, kl_divergence


def merge(base: str | Path, adapter: str | Path, out: str | Path) -> Path:
    """Merge an adapter into its base in bf16, and save the result with the tokenizer.

    Args:
        base: the base's folder, in transformers' format.
        adapter: from `adapters.save`.
        out: the new model's folder.

    Raises:
        adapters.AdapterError: the adapter belongs to another base.
    """
    base, out = Path(base), Path(out)
    config = AutoConfig.from_pretrained(base)
    model = auto_class(config).from_pretrained(base, config=config, dtype=torch.bfloat16)
    merged = adapters.load(model, adapter).merge_and_unload()
    merged.save_pretrained(out)
    shutil.copy(base / "tekken.json", out)
    return out


@torch.no_grad()
def predictions(model: PreTrainedModel, examples: Sequence[Example]) -> list[Predictions]:
    """What a model predicts for each learned token of some examples, one `Predictions` each."""
    found = []
    for example in examples:
        ids = torch.tensor([example.ids], device=model.device)
        with unpacked(model):
            logs = model(input_ids=ids).logits[0, :-1].float().log_softmax(-1).cpu()
        labels = torch.tensor(example.labels[1:])
        learned = labels != NOT_LEARNED
        found.append(Predictions(logs[learned], labels[learned]))
    return found


def mean_divergence(reference: Sequence[Predictions], other: Sequence[Predictions]) -> float:
    """The mean Kullback-Leibler divergence of learned tokens from the reference, in nats."""
    pairs = zip(reference, other, strict=True)
    return float(np.concatenate([kl_divergence(a, b) for a, b in pairs]).mean())


@contextmanager
def served(folder: str | Path) -> Iterator[str]:
    """The address of a pocket server that answers with a tuned copy of the pocket model.

    The server runs while the `with` block does. Its address is for `helpers.connect`.

    Args:
        folder: from `merge`.

    Raises:
        RuntimeError: the server did not start; the message has its last words.
    """
    with tempfile.TemporaryDirectory() as scratch:
        info, said = Path(scratch) / "server.json", Path(scratch) / "said.txt"
        command = [sys.executable, "-m", "pocket_model", "serve", "--folder", str(folder)]
        command += ["--quantization", "bf16", "--info", str(info)]
        with said.open("wb") as sink:
            process = subprocess.Popen(command, stdout=sink, stderr=sink)
        try:
            while not info.exists():
                if process.poll() is not None:
                    last = said.read_text(errors="replace").strip().splitlines()[-3:]
                    raise RuntimeError("\n".join(["The pocket server did not start:", *last]))
                time.sleep(0.1)
            yield f"http://127.0.0.1:{json.loads(info.read_text())['port']}/v1"
        finally:
            process.terminate()
            process.wait()
