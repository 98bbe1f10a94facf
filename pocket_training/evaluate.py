"""What the pocket model can do, counted on held-out cases: `python -m pocket_training evaluate`.

Decoding is greedy throughout. A greedy decoder generates exactly the right reply if, and only if,
each of the reply's tokens is the likeliest at its position. One pass tells that for many replies at
once. In some cases another reply would be right as well. There, a reply that fails is continued
greedily from the first differing token, and then read. A call's JSON can have other tokens or
another order of keys. Any words will do if no tool is suitable, or around a tool's value. An answer
about a picture has to say the right value and no other. The nine characters of a call's id are
given, as the pocket server gives them.
"""

import time
from collections.abc import Collection
from datetime import date
from pathlib import Path

from pocket_model.build import Quantization, find_adapter
from pocket_model.cache import sha256_of
from pocket_model.chat_format import ChatFormat
from pocket_training.chat_tasks import HeldOut, load_held_out
from pocket_training.exam_cases import CASES, QUICK_CASES, SKILLS, pairs, questions
from pocket_training.examples import ExampleEncoder
from pocket_training.score_tables import chat_row, share_row
from pocket_training.scoring import Scorer, load_in_float32

CHAT = "chat"  # beside the keys of SKILLS: the chats' loss
SCORING_VERSION = 4  # results of different versions are not compared


def score(
    model,
    encoder: ExampleEncoder,
    chats: HeldOut,
    cases: int = CASES,
    only: Collection[str] = (),
) -> dict:
    """Ask everything; return {"rows": [...], "right": {...}, "seconds": …}.

    Args:
        chats: held-out examples whose reply is the base's own.
        cases: of each skill; the first ones are the same, whatever their number.
        only: keys of `SKILLS`, and CHAT for the chats, to ask about these alone.

    Returns:
        `rows` is the table (skill, right, of, share, low, high, target). `right` has the scores
        of each skill, case by case, for a paired comparison of two models on the same cases.
    """
    started = time.monotonic()
    scorer = Scorer(model)
    single = [
        kept
        for question in questions(encoder, cases)
        if (kept := [case for case in question if not only or case.skill in only])
    ]
    with_pairs = not only or "counterfactual_pairs" in only
    paired = list(pairs(encoder, cases)) if with_pairs else []
    everything = [*single, *(question for pair in paired for question in pair)]
    scores = iter(scorer.score(everything))
    right: dict[str, list[bool]] = {}
    for question in single:
        for case, is_right in zip(question, next(scores), strict=True):
            right.setdefault(case.skill, []).append(is_right)
    if paired:
        # A list, since each question of a pair takes its scores, also after a wrong one.
        rights = [[all(next(scores)) for _ in pair] for pair in paired]
        right["counterfactual_pairs"] = [all(both) for both in rights]
    rows = [share_row(*SKILLS[skill], right[skill]) for skill in SKILLS if skill in right]
    if not only or CHAT in only:
        examples, base_losses = zip(*chats, strict=True)
        rows.append(chat_row(base_losses, scorer.losses(examples)))
    by_label = {SKILLS[skill][0]: scores for skill, scores in right.items()}
    return {"rows": rows, "right": by_label, "seconds": round(time.monotonic() - started)}


def run(
    folder: Path,
    quantization: Quantization = "bf16",
    *,
    quick: bool = False,
    cases: int | None = None,
    only: Collection[str] = (),
) -> dict:
    """Evaluate a built model.

    Args:
        folder: from `build.ensure_built`.
        quantization: of the weights, as the server has them.
        quick: 30 cases a skill instead of 300, for a first look.
        cases: another number of them.
        only: keys of `SKILLS`, and CHAT for the chats, to ask about these alone.
    """
    encoder = ExampleEncoder(ChatFormat(folder / "tekken.json"))
    model = load_in_float32(folder, quantization)
    options = " --quick" * quick + f" --quantization {quantization}" * (quantization != "bf16")
    options += f" --cases {cases}" * bool(cases) + "".join(f" --only {skill}" for skill in only)
    cases = cases or (QUICK_CASES if quick else CASES)
    result = score(model, encoder, load_held_out(encoder.chat_format)[:cases], cases, only)
    return {
        "command": f"python -m pocket_training evaluate{options}",
        "date": f"{date.today()}",
        "adapter_sha256": sha256_of(find_adapter()),
        "scoring_version": SCORING_VERSION,
        **result,
    }
