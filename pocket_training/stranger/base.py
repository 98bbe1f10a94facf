"""What the base itself answers to another author's everyday questions: `evaluate --base`.

The embedded model should answer as many of them as the model that it was made from.
"""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import AutoTokenizer

from pocket_model.base_weights import fetch_gguf, load_base
from pocket_training import chat_tasks
from pocket_training.score_tables import share_row
from pocket_training.stranger import judge
from pocket_training.stranger.evaluate import SKILLS, WORD_TOKENS, load_cases

CASES_AT_ONCE = 20


@torch.no_grad()
def answer(base, tokenizer, cases: list[dict]) -> Iterator[str]:
    """The base's greedy replies, in its own chat format."""
    tokenizer = chat_tasks.as_trained(tokenizer)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    options = {"max_new_tokens": WORD_TOKENS, "do_sample": False}
    for start in range(0, len(cases), CASES_AT_ONCE):
        chats = [case["messages"] for case in cases[start : start + CASES_AT_ONCE]]
        inputs = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        made = base.generate(**inputs, eos_token_id=end, pad_token_id=end, **options)
        for tokens in made[:, inputs["input_ids"].shape[1] :].tolist():
            tokens = tokens[: tokens.index(end)] if end in tokens else tokens
            yield tokenizer.decode(tokens)


def run(work: Path) -> dict:
    """Ask the base every everyday question.

    Args:
        work: a folder for the base's file.
    """
    gguf = next(work.glob("*.gguf"), None) or fetch_gguf(work)
    tokenizer = AutoTokenizer.from_pretrained(work, gguf_file=gguf.name)
    cases = [case for case in load_cases() if case["skill"] == "everyday"]
    replies = answer(load_base(gguf), tokenizer, cases)
    told = tqdm(replies, total=len(cases), desc="the base", unit="case")
    right = [
        not judge.faults(case, {"role": "assistant", "content": text, "tool_calls": []})
        for case, text in zip(cases, told, strict=True)
    ]
    label, _ = SKILLS["everyday"]
    return {
        "command": "python -m pocket_training evaluate --base",
        "date": f"{date.today()}",
        "rows": [share_row(label, None, right)],
        "right": {label: right},
    }
