"""What the embedded model makes of another author's test set: `evaluate --stranger`.

Decoding is greedy. The model writes each reply to its end, or to 160 tokens if there are tools and
48 if there are none. `judge` reads it by the case's own rules. The test set was finished before any
model of this kit had answered it.
"""

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm

from pocket_model.build import Quantization, find_adapter
from pocket_model.cache import sha256_of
from pocket_model.chat_format import ChatFormat, Prompt
from pocket_model.reply import read_reply
from pocket_model.tekken import CONTROL_IDS
from pocket_training.decoding import growing_cache, image_outputs
from pocket_training.packing import batches_by_length
from pocket_training.score_tables import share_row
from pocket_training.scoring import load_in_float32
from pocket_training.stranger import judge

FOLDER = Path(__file__).parents[2] / "data" / "stranger"
# The longest right reply, with two calls, has 128 tokens; in words alone it has far fewer.
REPLY_TOKENS, WORD_TOKENS = 160, 48
HAS_TOOLS = CONTROL_IDS["[AVAILABLE_TOOLS]"]
BATCH_TOKENS = 6000  # of the prompts answered at a time, padding included
QUICK_CASES = 20  # of each skill

# The skills by file, in the order of the table: the label and the target, the least share right.
SKILLS: dict[str, tuple[str, float | None]] = {
    "tool_known": ("tool call, known tools", 0.93),
    "tool_new": ("tool call, schemas never seen", 0.88),
    "tool_none": ("no suitable tool, no call", 0.95),
    "tool_two": ("two calls in one turn", 0.82),
    "tool_result": ("the tool's result in the answer", 0.95),
    "tool_follow_up": ("a second request after a result", None),
    "colour": ("picture: colour", 0.92),
    "shape": ("picture: shape", 0.92),
    "count": ("picture: count", 0.88),
    "yes_no": ("picture: is there …?", 0.92),
    "position": ("picture: position", 0.92),
    "largest_smallest": ("picture: largest or smallest", 0.92),
    "bars": ("picture: bars", 0.92),
    "map": ("picture: map", 0.92),
    "digits": ("picture: number", 0.90),
    "two_pictures": ("two pictures", 0.90),
    "counterfactual": ("counterfactual pairs", 0.90),
    "unanswerable": ("picture: what is not there", 0.85),
    "everyday": ("everyday questions, without a picture", None),
    "leakage": ("nothing of pictures without a picture", 1.0),
}


def load_cases(quick: bool = False) -> list[dict]:
    """The cases of all skills; a few of each if `quick`."""
    cases = []
    for skill in SKILLS:
        lines = (FOLDER / "cases" / f"{skill}.jsonl").read_text(encoding="utf-8").splitlines()
        cases += map(json.loads, lines[: QUICK_CASES if quick else None])
    return cases


def encode(chat_format: ChatFormat, case: dict) -> Prompt:
    """A case's conversation as tokens, with its pictures."""
    messages = [dict(message) for message in case["messages"]]
    for message in messages:
        if isinstance(message["content"], list):
            message["content"] = [_part(part) for part in message["content"]]
    return chat_format.encode(messages, case.get("tools"))


def _part(part: dict) -> dict:
    if part["type"] != "image_url":
        return part
    with Image.open(FOLDER / part["image_url"]["url"]) as picture:
        return {"type": "image", "image": picture.convert("RGB")}


@torch.no_grad()
def answer(model, chat_format: ChatFormat, prompts: list[Prompt]) -> Iterator[tuple[int, dict]]:
    """Each prompt's number and the reply, an assistant message in OpenAI's form."""
    pad, end = CONTROL_IDS["<pad>"], CONTROL_IDS["</s>"]
    numbered = range(len(prompts))
    batches = batches_by_length(numbered, lambda n: len(prompts[n].ids), max_tokens=BATCH_TOKENS)
    for numbers in batches:
        rows = [prompts[number].ids for number in numbers]
        width = max(map(len, rows))
        ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
        pictures = [picture for number in numbers for picture in prompts[number].pictures]
        images = image_outputs(model, pictures)
        limits = [REPLY_TOKENS if HAS_TOOLS in row else WORD_TOKENS for row in rows]
        for number, tokens in zip(numbers, _generate(model, ids, limits, images), strict=True):
            tokens = tokens[: tokens.index(end)] if end in tokens else tokens
            yield number, _message(chat_format, tokens)


def _generate(model, ids: torch.Tensor, limits: list[int], images: dict) -> list[list[int]]:
    """Greedy replies. Rows that are done leave the batch, unlike in transformers' `generate`."""
    cache = growing_cache(model.config.text_config)
    mask = (ids != CONTROL_IDS["<pad>"]).long()
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    options = {"past_key_values": cache, "logits_to_keep": 1}
    logits = model(
        input_ids=ids, attention_mask=mask, position_ids=positions, **options, **images
    ).logits
    replies: list[list[int]] = [[] for _ in limits]
    rows, positions = list(range(len(limits))), positions[:, -1:]
    while True:
        tokens = logits[:, -1].argmax(-1)
        going = []
        for place, (row, token) in enumerate(zip(rows, tokens.tolist(), strict=True)):
            if CONTROL_IDS["</s>"] not in replies[row] and len(replies[row]) < limits[row]:
                replies[row].append(token)
                going.append(place)
        if not going:
            return replies
        if len(going) < 0.8 * len(rows):  # to leave out rows takes time too
            places = torch.tensor(going)
            cache.batch_select_indices(places)
            mask, positions, tokens = mask[places], positions[places], tokens[places]
            rows = [rows[place] for place in going]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=-1)
        positions = positions + 1
        logits = model(
            input_ids=tokens[:, None], attention_mask=mask, position_ids=positions, **options
        ).logits


def _message(chat_format: ChatFormat, tokens: list[int]) -> dict:
    reply = read_reply(chat_format, tokens)
    calls = [{"name": call.name, "arguments": call.arguments} for call in reply.tool_calls]
    unfinished = tokens.count(CONTROL_IDS["[TOOL_CALLS]"]) - len(calls)
    calls += [{"name": "", "arguments": ""}] * unfinished  # a call all the same, and a wrong one
    return {"role": "assistant", "content": reply.content, "tool_calls": calls}


def score(model, chat_format: ChatFormat, cases: list[dict]) -> dict:
    """Ask everything; return {"rows": [...], "right": {label: [...]}}.

    Counterfactual pairs count as one case, which is right if both replies are.
    """
    prompts = [encode(chat_format, case) for case in cases]
    is_right = [False] * len(cases)
    answers = answer(model, chat_format, prompts)
    for number, reply in tqdm(answers, total=len(cases), desc="another's test set", unit="case"):
        is_right[number] = not judge.faults(cases[number], reply)
    by_skill: dict[str, dict[str, bool]] = {}
    for case, right in zip(cases, is_right, strict=True):
        scores = by_skill.setdefault(case["skill"], {})
        name = case.get("pair", case["id"])
        scores[name] = scores.get(name, True) and right
    right = {skill: list(scores.values()) for skill, scores in by_skill.items()}
    return {
        "rows": [share_row(*SKILLS[skill], right[skill]) for skill in SKILLS if skill in right],
        "right": {SKILLS[skill][0]: scores for skill, scores in right.items()},
    }


def run(folder: Path, quantization: Quantization = "bf16", *, quick: bool = False) -> dict:
    """Evaluate a built model.

    Args:
        folder: from `build.ensure_built`.
        quantization: of the weights, as the server has them.
        quick: 20 cases a skill, for a first look.
    """
    model = load_in_float32(folder, quantization)
    result = score(model, ChatFormat(folder / "tekken.json"), load_cases(quick))
    options = " --quick" * quick + f" --quantization {quantization}" * (quantization != "bf16")
    return {
        "command": f"python -m pocket_training evaluate --stranger{options}",
        "date": f"{date.today()}",
        "adapter_sha256": sha256_of(find_adapter()),
        **result,
    }
