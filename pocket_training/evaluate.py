"""What the pocket model can do, counted on held-out cases: `python -m pocket_training evaluate`.

Greedy decoding throughout. A greedy decoder writes exactly the right reply if, and only if, at each
of its tokens the right next one is the likeliest, and one pass tells that for many replies at once.
Where another reply would be right as well, those that fail are written on from their first other
token and read: a call's JSON can be spelt in other tokens or its keys stand in another order, and
any words will do where no tool serves, or around a tool's value. The nine characters of a call's id
are given, as the pocket server gives them.
"""

import hashlib
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from tqdm import tqdm
from transformers import Mistral3ForConditionalGeneration

from pocket_model.build import find_adapter
from pocket_training import chat_tasks
from pocket_training.exam_cases import CASES, PAIRS, QUICK_CASES, conversations, pairs, questions
from pocket_training.examples import Exchange, Writer
from pocket_training.score_tables import _order, _row
from pocket_training.scoring import Judge

RULES = 2  # of judging; results under other rules are not compared


def judge(model, writer: Writer, talks: list[tuple[Exchange, float]], cases: int = CASES) -> dict:
    """Run everything; return {"rows": [...], "right": {...}, "seconds": …}.

    Args:
        talks: held-out exchanges whose reply is the base's own, each with the base's own mean
            loss on it, in nats per token.

    Returns:
        ``rows`` is the table (skill, right, of, share, low, high, target); ``right`` each skill's
        verdicts, case by case, for a paired comparison of two models on the same cases.
    """
    started = time.monotonic()
    asker = Judge(model)
    asked = [*questions(writer, cases), *conversations(writer, cases // 10)]
    paired = list(pairs(writer, cases))
    singles = [*asked, *(question for both in paired for question in both)]
    bar = tqdm(total=len(singles) + len(talks), desc="evaluation", unit="row")
    verdicts = iter(asker.verdicts(singles, bar))
    right: dict[str, list[bool]] = {}
    for question, found in zip(asked, verdicts, strict=False):
        for case, verdict in zip(question, found, strict=True):
            right.setdefault(case.skill, []).append(verdict)
    right[PAIRS] = [all(all(next(verdicts)) for _ in both) for both in paired]
    rows = [_row(skill, right[skill]) for skill in sorted(right, key=_order)]
    if talks:
        losses = asker.losses([exchange for exchange, _ in talks])
        bar.update(len(talks))
        base = float(np.mean([loss for _, loss in talks]))
        own = float(np.mean(losses))
        rows.append(
            {
                "skill": "chat kept: loss on the base's replies, over the base's own",
                "of": len(talks),
                "base_nats": round(base, 4),
                "nats": round(own, 4),
                "ratio": round(own / base, 4),
                "target": 1.10,
            }
        )
    bar.close()
    return {"rows": rows, "right": right, "seconds": round(time.monotonic() - started)}


def run(folder: Path, quantization: str | None = None, *, quick: bool = False) -> dict:
    """Judge a built model.

    Args:
        folder: from `build.ensure_built`.
        quantization: "nf4" for the 4-bit copy.
        quick: 30 cases a skill instead of 300, for a first look.
    """
    writer = Writer(MistralTokenizer.from_file(folder / "tekken.json"))
    # float32 arithmetic on the stored bf16 or 4-bit weights: the same on every processor.
    source = folder / "nf4" if quantization == "nf4" else folder
    model = Mistral3ForConditionalGeneration.from_pretrained(source, dtype=torch.float32)
    for layer in model.modules():
        if hasattr(layer, "compute_dtype"):  # the 4-bit layers: their file names bfloat16
            layer.compute_dtype = torch.float32
    cases = QUICK_CASES if quick else CASES
    talks = chat_tasks.load_tests(writer, chat_tasks.HELD_OUT_REPLIES)[:cases]
    result = judge(model, writer, talks, cases)
    options = [*(["--quick"] if quick else []), *(["--quantization nf4"] if quantization else [])]
    command = " ".join(["python -m pocket_training evaluate", *options])
    parts = hashlib.sha256(find_adapter().read_bytes()).hexdigest()
    head = {"command": command, "date": f"{date.today()}", "parts_sha256": parts, "rules": RULES}
    return head | result
