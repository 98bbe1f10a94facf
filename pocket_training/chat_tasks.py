"""Ordinary chat: the base's own replies, so that the pocket model keeps what the base knew.

The base answers in its own format (ChatML); its words, and how likely it found the alternatives,
are then taught in Mistral's format. Subjects and phrasings of the held-out split are others.
"""

import copy
import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import pre_tokenizers
from tqdm import tqdm

from pocket_model.build import POCKET_DATA
from pocket_model.tekken import CONTROL_IDS
from pocket_training import words
from pocket_training.examples import Exchange, Writer

HELD_OUT_REPLIES = POCKET_DATA / "held_out_replies.json"
KEPT = 24  # alternatives kept for each token of a reply: over 98 % of the base's probability
REPLY_TOKENS = 56

@dataclass
class Reply:
    """A chat and what the base said: token ids are Tekken's.

    Attributes:
        messages: OpenAI's dicts, the last one a user's.
        tokens: the reply, its end token included when the base ended there.
        soft_ids, soft_shares: (reply tokens, KEPT), the base's likeliest next tokens.
        losses: (reply tokens,) the base's own −log probability of each token, in nats.
    """

    messages: list[dict]
    tokens: list[int]
    soft_ids: np.ndarray
    soft_shares: np.ndarray
    losses: np.ndarray


def prompts(split: str, count: int, seed: int) -> list[list[dict]]:
    """``count`` different conversations to answer; a third of them with a system prompt."""
    rng = random.Random(f"chat {split} {seed}")
    lists = words.chats()
    questions = [p.format(s) for p in lists.phrasings[split] for s in lists.subjects[split]]
    questions = lists.other_questions[split] + rng.sample(questions, len(questions))
    chats = []
    for question in questions[:count]:
        chat = [{"role": "user", "content": question}]
        if rng.random() < 1 / 3:
            chat.insert(0, {"role": "system", "content": rng.choice(lists.system_prompts[split])})
        chats.append(chat)
    if len(chats) < count:
        raise ValueError(f"there are only {len(chats)} {split} chats, not {count}")
    return rng.sample(chats, count)


@torch.no_grad()
def replies(base, tokenizer, places: np.ndarray, chats, *, seed: int, size: int = 40):
    """The base's replies, drawn from its own distribution (temperature 1), with alternatives.

    Args:
        base: the base model in float32.
        tokenizer: its own fast tokenizer, with its chat template.
        places: shape (vocabulary,), from `tekken.convert`.
        chats: conversations, from `prompts`.
        size: chats answered at a time.

    Returns:
        A list of `Reply`, in the order of ``chats``.
    """
    to_tekken = np.full(int(places.max()) + 1, -1)
    to_tekken[places[places >= 0]] = np.flatnonzero(places >= 0)
    tokenizer = _as_trained(tokenizer)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    to_tekken[end] = CONTROL_IDS["</s>"]
    torch.manual_seed(seed)
    made = []
    for start in tqdm(range(0, len(chats), size), desc="the base's own replies", unit="batch"):
        group = chats[start : start + size]
        asked = tokenizer.apply_chat_template(
            group, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        width = asked["input_ids"].shape[1]
        out = base.generate(
            **asked,
            do_sample=True,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            max_new_tokens=REPLY_TOKENS,
            eos_token_id=end,
            pad_token_id=end,
            return_dict_in_generate=True,
            output_logits=True,
        )
        logs = torch.stack(out.logits, dim=1).log_softmax(dim=-1)
        for number, chat in enumerate(group):
            said = out.sequences[number, width:].tolist()
            length = said.index(end) + 1 if end in said else len(said)
            tokens = to_tekken[said[:length]]
            if (tokens < 0).any():  # a control token of the base's that Tekken does not know
                continue
            log = logs[number, :length].clone()
            losses = -log[range(length), said[:length]].numpy()
            log[:, torch.from_numpy(np.flatnonzero(to_tekken < 0))] = -torch.inf
            shares, ids = log.exp().topk(KEPT)
            made.append(
                Reply(
                    messages=chat,
                    tokens=tokens.tolist(),
                    soft_ids=to_tekken[ids.numpy()],
                    soft_shares=(shares / shares.sum(-1, keepdim=True)).numpy(),
                    losses=losses,
                )
            )
    return made


def _as_trained(tokenizer):
    """The base's tokenizer with every digit a word of its own, as it was trained.

    The GGUF file says so ("smollm"); transformers' reader of such files leaves the step out.
    """
    tokenizer = copy.deepcopy(tokenizer)
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_])
    tokenizer.padding_side = "left"
    return tokenizer


def exchanges(writer: Writer, said: list[Reply]) -> list[Exchange]:
    """The replies in Mistral's format, with the base's distribution to learn from."""
    made = []
    for one in said:
        prompt, _ = writer.prompt(one.messages)
        counted = [True] * len(one.tokens)
        soft = (one.soft_ids, one.soft_shares)
        made.append(Exchange(prompt, one.tokens, counted, soft=soft))
    return made


def save_tests(said: list[Reply], path: Path) -> None:
    """Keep held-out replies for the evaluation: messages, token ids, the base's mean loss."""
    kept = [
        {"messages": r.messages, "tokens": r.tokens, "nats": round(float(r.losses.mean()), 5)}
        for r in said
    ]
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in kept)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def load_tests(writer: Writer, path: Path) -> list[tuple[Exchange, float]]:
    """What `save_tests` kept: each exchange, and the base's mean loss on its reply in nats."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    return [
        (
            Exchange(writer.prompt(one["messages"])[0], one["tokens"], [True] * len(one["tokens"])),
            one["nats"],
        )
        for one in kept
    ]
