"""Notebook 09's training with several seeds, and its control: how much of a gain is luck.

    python benchmarks/measure_fine_tune.py

Each run trains an adapter as the notebook does, and asks the held-out messages. The control's
records are shuffled, each time in another way. The figure is the mean share of right records after
training, minus the mean share of the control. It takes three minutes on two cores.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import mean

from tqdm import tqdm

from helpers import wire
from helpers.compare import ways
from helpers.finetune import adapters, data, labels, loop, support
from helpers.model.loading import load_4bit
from helpers.paths import DATA
from labkit.audit.measurements import report
from pocket_model.build import ensure_built

WAY = ways.Way("chat", system=support.SYSTEM)


def main() -> None:
    """Train, ask and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=6, help="of each kind")
    runs = range(parser.parse_args().runs)
    base = ensure_built()
    tokenizer = wire.from_file(base / "tekken.json")
    train = data.read(DATA / "finetune" / "train.jsonl")
    held_out = data.read(DATA / "finetune" / "held_out.jsonl")
    asked = [line["messages"][1]["content"] for line in held_out]
    # Two instances: one that has answered on a CPU passes no gradient.
    student, answering = load_4bit(base).model, load_4bit(base)
    if student.device.type == "cpu":  # as in the notebook
        student.set_attn_implementation("eager")
    tuned, right = answering.model, {"main": [], "control": []}
    for kind, seed in tqdm([(kind, seed) for seed in runs for kind in right], unit="run"):
        name = f"{kind}-{seed}"
        lines = train if kind == "main" else support.shuffled(train, seed)
        examples = data.encode(lines, tokenizer, longest=96)
        pad = labels.pad_id(tokenizer)
        rows = loop.batches(examples, support.BATCH, support.STEPS, pad, seed)
        sizes = {"rank": support.RANK, "alpha": support.ALPHA}
        student = adapters.add(student, **sizes, name=name, seed=seed)
        loop.train(student, rows, rate=support.RATE)
        with tempfile.TemporaryDirectory() as folder:
            tuned = adapters.load(tuned, adapters.save(student, Path(folder), name=name), name=name)
        asker = ways.InMemory(tuned, answering.tokenizer, {})
        answers = asker.ask(WAY, asked, max_tokens=24, at_once=64)
        faults = [
            support.record_fault(answer, line["messages"])
            for answer, line in zip(answers, held_out, strict=True)
        ]
        right[kind].append(faults.count(None))
    gain = (mean(right["main"]) - mean(right["control"])) / len(held_out)
    report(round(gain, 3), "share of right records", right=right, of=len(held_out))


if __name__ == "__main__":
    main()
