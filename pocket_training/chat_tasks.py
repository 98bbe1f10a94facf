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

from pocket_model.tekken import CONTROL_IDS
from pocket_training.examples import Exchange, Writer

KEPT = 24  # alternatives kept for each token of a reply: over 98 % of the base's probability
REPLY_TOKENS = 56

_SUBJECTS = (
    [
        *("photosynthesis", "the water cycle", "gravity", "volcanoes", "the moon", "tides"),
        *("bread", "cheese", "coffee", "tea", "honey", "rice", "olive oil", "chocolate"),
        *("bicycles", "trains", "ships", "airplanes", "bridges", "clocks", "maps", "money"),
        *("cats", "dogs", "elephants", "bees", "whales", "owls", "ants", "horses", "wolves"),
        *("the Roman Empire", "the Silk Road", "the printing press", "the steam engine"),
        *("friendship", "patience", "courage", "memory", "sleep", "laughter", "music"),
        *("painting", "poetry", "theatre", "chess", "football", "swimming", "gardening"),
        *("fractions", "prime numbers", "triangles", "probability", "algebra", "averages"),
        *("computers", "the internet", "batteries", "electricity", "magnets", "lenses"),
        *("rain", "snow", "deserts", "rivers", "forests", "islands", "mountains", "oceans"),
        *("breakfast", "exercise", "teeth", "the heart", "vaccines", "vitamins", "bones"),
    ],
    [
        *("earthquakes", "rainbows", "comets", "butter", "pepper", "salt", "bananas"),
        *("submarines", "balloons", "windmills", "libraries", "museums", "dolphins"),
        *("foxes", "spiders", "penguins", "the Vikings", "the telescope", "the compass"),
        *("honesty", "curiosity", "dance", "sculpture", "tennis", "sailing", "circles"),
        *("percentages", "robots", "radio", "mirrors", "fog", "glaciers", "caves", "lungs"),
        *("lunch", "walking", "shadows", "paper", "glass", "soap", "bees' wax", "violins"),
    ],
)
_PHRASINGS = (
    [
        "What is interesting about {}?",
        "Tell me about {}.",
        "Explain {} to a child.",
        "Write two sentences about {}.",
        "Why do people care about {}?",
        "Give me three facts about {}.",
        "Write a short poem about {}.",
        "How would you describe {}?",
        "What should I know about {}?",
        "I am writing an essay on {}. How could it begin?",
        "What is a common mistake people make about {}?",
        "Write a funny sentence about {}.",
        "Summarise the history of {}.",
        "What questions could I ask an expert on {}?",
    ],
    [
        "What can you tell me about {}?",
        "Write a few lines on {}.",
        "Could you explain {} briefly?",
        "Why does {} matter?",
        "What is one surprising thing about {}?",
        "Begin a story that has to do with {}.",
        "List two reasons to learn about {}.",
    ],
)
_OTHERS = (
    [
        "Hello!",
        "Good morning. How are you?",
        "Who are you?",
        "What can you do?",
        "Translate to French: Good night.",
        "Is this sentence positive or negative? I love this place.",
        "Rewrite in fewer words: I am of the opinion that we should go now.",
        "Write a Python function that adds two numbers.",
        "What is 7 plus 5?",
        "Give me a synonym for happy.",
        "Write a haiku.",
        "Thank you for your help.",
        "Name five colours.",
        "Suggest a name for a cat.",
        "Correct this sentence: She go to school.",
        "What is the capital of France?",
    ],
    [
        "Hi there!",
        "What is your name?",
        "Translate to Spanish: Thank you.",
        "Give me a synonym for large.",
        "What is 9 minus 4?",
        "Name four animals.",
        "Is this review good or bad? The food was cold.",
        "Suggest a title for a book about the sea.",
    ],
)
_SYSTEMS = (
    [
        "You are a helpful assistant.",
        "Answer in one short sentence.",
        "You are a friendly teacher.",
        "You always answer politely.",
        "Answer as a pirate would.",
        "You are an expert who explains things simply.",
    ],
    ["Be brief.", "You are a patient guide.", "Answer in simple words."],
)


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
    held_out = split == "held_out"
    questions = [p.format(s) for p in _PHRASINGS[held_out] for s in _SUBJECTS[held_out]]
    questions = _OTHERS[held_out] + rng.sample(questions, len(questions))
    chats = []
    for question in questions[:count]:
        chat = [{"role": "user", "content": question}]
        if rng.random() < 1 / 3:
            chat.insert(0, {"role": "system", "content": rng.choice(_SYSTEMS[held_out])})
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
