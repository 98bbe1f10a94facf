"""Ordinary chat: the base's own replies, so that the pocket model keeps what the base knew.

The base answers in its own format (ChatML). Its words, and how likely it found the alternatives,
are then taught in Mistral's format. The held-out split has other subjects and other phrasings.
"""

import copy
import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import pre_tokenizers
from tqdm import tqdm

from pocket_model.build import POCKET_DATA
from pocket_model.chat_format import ChatFormat
from pocket_model.tekken import CONTROL_IDS
from pocket_training import grammar, words
from pocket_training.examples import Example
from pocket_training.messages import system, user

HELD_OUT_REPLIES = POCKET_DATA / "held_out_replies.json"
HeldOut = list[tuple[Example, float]]  # each with the base's mean loss on its reply, in nats
# Of the chats: a phrasing with a subject.
SUBJECT_SHARE = {"train": 0.2, "held_out": 0.35}
TOLD_SHARE = 0.25  # of the training chats: a question about something that the user has told
CARELESS_SHARE = 0.45  # of the training chats: typed in a hurry
KEPT = 24  # alternatives kept for each token of a reply: over 98 % of the base's probability
LONGEST = 56  # tokens of a reply
# All of the base's own distribution.
SAMPLING = dict(do_sample=True, temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=LONGEST)
GREEDY = dict(do_sample=False, max_new_tokens=LONGEST)


@dataclass
class Reply:
    """A chat and the base's reply; token ids are Tekken's.

    Attributes:
        messages: OpenAI's dicts, the last one a user's.
        tokens: the reply, its end token included if the base ended there.
        soft_targets: the base's likeliest next tokens: ids and probabilities, both of shape
            (reply tokens, KEPT).
        losses: (reply tokens,) the base's own −log probability of each token, in nats.
    """

    messages: list[dict]
    tokens: list[int]
    soft_targets: tuple[np.ndarray, np.ndarray]
    losses: np.ndarray


def prompts(split: str, count: int, seed: int) -> list[list[dict]]:
    """`count` conversations to answer: different questions, a fifth with a system prompt.

    In training a part of them is about what the user has told, and many are typed in a hurry.
    """
    rng = random.Random(f"chat {split} {seed}")
    told = round(count * TOLD_SHARE) if split == "train" else 0
    chats = []
    for question in _questions(split, count - told, rng):
        chat = [user(question)]
        if rng.random() < 1 / 5:
            chat.insert(0, system(rng.choice(words.chats().system_prompts[split])))
        chats.append(chat)
    chats += [_told(rng) for _ in range(told)]
    if split == "train":
        for chat in chats:
            if rng.random() < CARELESS_SHARE:
                chat[-1] = user(grammar.careless(chat[-1]["content"], words.chats().shortened, rng))
    return rng.sample(chats, count)


def _questions(split: str, count: int, rng: random.Random) -> list[str]:
    """`count` different questions."""
    lists = words.chats()
    questions = dict.fromkeys(lists.other_questions[split][:count])
    tries = 0
    while len(questions) < count:
        if (tries := tries + 1) > 20 * count:
            raise ValueError(f"there are only {len(questions)} {split} chats, not {count}")
        if rng.random() < SUBJECT_SHARE[split]:
            phrasing = rng.choice(lists.phrasings[split])
            question = phrasing.format(rng.choice(lists.subjects[split]))
        else:
            template = rng.choice(lists.open[split])
            question = grammar.tidy(grammar.write(template, lists.rules, split, rng))
        questions[grammar.typed(question, split, rng)] = None
    return list(questions)


def _told(rng: random.Random) -> list[dict]:
    """A fact and a question about it: in one message, or in two with a word between them."""
    lists = words.chats()
    kind = rng.choice(lists.told)
    tell, ask = grammar.choose(rng.choice(kind.tell), rng), rng.choice(kind.ask)
    slots: dict[str, str] = {}
    for field in sorted(grammar.fields(tell + ask)):
        rule = lists.rules[re.sub(r"_2$", "", field)]
        slots[field] = rng.choice([word for word in rule if word not in slots.values()])
    tell, ask = (grammar.tidy(text.format(**slots)) for text in (tell, ask))
    if rng.random() < 0.5:
        return [user(f"{tell} {ask}")]
    noted = {"role": "assistant", "content": rng.choice(lists.noted)}
    return [user(tell), noted, user(ask)]


@torch.no_grad()
def replies(
    base,
    tokenizer,
    base_ids: np.ndarray,
    chats: list[list[dict]],
    *,
    seed: int,
    size: int = 40,
    greedy: bool = False,
) -> list[Reply]:
    """The base's replies, sampled, with the alternatives it saw.

    A reply is left out if it has a control token that Tekken does not know.

    Args:
        base: the base model in float32.
        tokenizer: its own fast tokenizer, with its chat template.
        base_ids: shape (vocabulary,), from `tekken.convert`.
        chats: conversations, from `prompts`.
        size: chats answered at a time.
        greedy: answer every other batch by the likeliest tokens. Sampled replies seldom pass
            where a greedy one does, so both have to be taught.
    """
    to_tekken = np.full(int(base_ids.max()) + 1, -1)
    to_tekken[base_ids[base_ids >= 0]] = np.flatnonzero(base_ids >= 0)
    tokenizer = as_trained(tokenizer)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    to_tekken[end] = CONTROL_IDS["</s>"]
    torch.manual_seed(seed)
    made = []
    starts = tqdm(range(0, len(chats), size), desc="the base's own replies", unit="batch")
    for number, start in enumerate(starts):
        batch = chats[start : start + size]
        choice = GREEDY if greedy and number % 2 else SAMPLING
        inputs = tokenizer.apply_chat_template(
            batch, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        ).to(base.device)
        options = {"eos_token_id": end, "pad_token_id": end, "output_logits": True}
        out = base.generate(**inputs, **choice, **options, return_dict_in_generate=True)
        logs = torch.stack(out.logits, dim=1)
        generated = out.sequences[:, inputs["input_ids"].shape[1] :].tolist()
        for chat, ids, log in zip(batch, generated, logs, strict=True):
            length = ids.index(end) + 1 if end in ids else len(ids)
            if (to_tekken[ids[:length]] >= 0).all():
                made.append(_reply(chat, ids[:length], log[:length], to_tekken))
    return made


def _reply(chat: list[dict], ids: list[int], logits: torch.Tensor, to_tekken: np.ndarray) -> Reply:
    """A reply from the base's token ids and logits, (reply tokens, its vocabulary)."""
    logs = logits.float().log_softmax(dim=-1)
    losses = -logs[range(len(ids)), ids].cpu().numpy()
    logs[:, np.flatnonzero(to_tekken < 0)] = -torch.inf
    shares, likeliest = logs.exp().topk(KEPT)
    shares /= shares.sum(-1, keepdim=True)
    soft_targets = (to_tekken[likeliest.cpu().numpy()], shares.cpu().numpy())
    return Reply(chat, to_tekken[ids].tolist(), soft_targets, losses)


def as_trained(tokenizer):
    """The base's tokenizer with every digit a token of its own, as it was trained.

    The GGUF file says so ("smollm"), but transformers leaves the step out when it reads one.
    """
    tokenizer = copy.deepcopy(tokenizer)
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_])
    tokenizer.padding_side = "left"
    return tokenizer


def chat_example(chat_format: ChatFormat, reply: Reply, tools: list[dict] | None = None) -> Example:
    """A reply in Mistral's format, with the base's distribution to learn from.

    Args:
        tools: OpenAI's schemas, shown before the question. The base did not see them, and its
            answer in words is the right one.
    """
    return _example(chat_format, reply.messages, reply.tokens, reply.soft_targets, tools)


def _example(
    chat_format: ChatFormat, messages: list[dict], reply: list[int], soft=None, tools=None
) -> Example:
    prompt = chat_format.encode(messages, tools)
    return Example(prompt.ids, reply, [True] * len(reply), soft_targets=soft)


def save_held_out(replies: list[Reply], path: Path) -> None:
    """Keep held-out replies for the evaluation: messages, token ids, the base's mean loss."""
    lines = []
    for reply in replies:
        nats = round(float(reply.losses.mean()), 5)
        kept = {"messages": reply.messages, "tokens": reply.tokens, "nats": nats}
        lines.append(json.dumps(kept, ensure_ascii=False))
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def load_held_out(chat_format: ChatFormat, path: Path = HELD_OUT_REPLIES) -> HeldOut:
    """What `save_held_out` kept."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    return [(_example(chat_format, r["messages"], r["tokens"]), r["nats"]) for r in kept]
