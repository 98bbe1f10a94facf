"""Train the pocket model: first its vision tower alone, then the text model by LoRA on everything.

`python -m pocket_training train` runs both stages and writes a checkpoint every 50 steps. After an
interruption it goes on from the last one. At the end it writes `data/pocket/adapter.safetensors`.
Every step draws its rows from its own number, so the same seed on the same device gives the same
run, interrupted or not.
"""

import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import AutoTokenizer

from pocket_model import tekken
from pocket_model.adapter import VISION_PREFIXES, save_adapter
from pocket_model.architecture import assemble
from pocket_model.base_weights import fetch_gguf, load_base
from pocket_model.build import ADAPTER_FILE
from pocket_model.cache import atomic_write
from pocket_model.chat_format import ChatFormat
from pocket_model.processor import dtype_for_many_rows
from pocket_training import chat_tasks, picture_tasks, tool_tasks, vision_stage
from pocket_training.examples import Example, ExampleEncoder
from pocket_training.lora import SEED, Student
from pocket_training.mixed_tasks import mixed_examples
from pocket_training.packing import PackedRow, batches_by_length, collate, pack

VISION_STEPS, VISION_BATCH, VISION_RATE = 5900, 48, 1.2e-3
TEXT_STEPS, TEXT_RATE = 3580, 1.2e-3
CHECKPOINT_EVERY = 50
CHATS = {"train": 1080, "held_out": 300}

# One step's rows, drawn by these weights. A tool row holds several questions about the same tools,
# a picture row several about the same picture.
TOOL_SKILLS = {"known": 8, "unseen": 6, "none": 3, "two": 13, "result": 7}
TOOL_QUESTIONS = {"known": 7, "unseen": 5, "none": 5, "two": 4, "result": 3}
PICTURE_KINDS = {"shapes": 12, "bars": 3, "regions": 3, "number": 1, "two": 8}
PICTURE_QUESTIONS = {"shapes": 10, "bars": 4, "regions": 3, "number": 1, "two": 7}
TOOL_ROWS, PICTURE_ROWS, CHAT_ROWS = 3, 2, 4
ORACLE_SHARE = 0.3  # of the picture rows: a picture's labels take the place of its encoding
MIXED_SHARE = 0.12  # of the tool rows: the model card's conversation with a tool and a map
MAX_PADDING = 1.2  # a batch's tokens with padding over those without it
LABELS_PER_STEP = 250  # about as many tokens count in a step; the sum divided by it is a mean


def train(work: Path, target: Path, *, device: str = "cpu") -> None:
    """Both stages, from the base to `target` (the adapter file and the held-out replies).

    Args:
        work: a folder for the base, checkpoints and the log. It is kept, so that an interrupted
            run goes on and a finished one is not repeated.
        target: the folder of `data/pocket`, or one of your own.
    """
    # In a folder of its own: beside the base, transformers would take it for the base's tokenizer.
    tekken_folder = work / "tekken"
    for folder in (tekken_folder, target):
        folder.mkdir(parents=True, exist_ok=True)
    gguf = next(work.glob("*.gguf"), None) or fetch_gguf(work)
    tokenizer = AutoTokenizer.from_pretrained(work, gguf_file=gguf.name)
    base = load_base(gguf).to(device)
    content, base_ids = tekken.convert(tokenizer)
    chat_format = ChatFormat(tekken.write(content, tekken_folder))
    replies = {}
    for split, count in CHATS.items():
        kept = work / f"replies-{split}-{count}.pt"
        if not kept.is_file():
            chats = chat_tasks.prompts(split, count, SEED)
            torch.save(chat_tasks.replies(base, tokenizer, base_ids, chats, seed=SEED), kept)
        # Written by this program a moment ago, or by an earlier run of it.
        replies[split] = torch.load(kept, weights_only=False)
    chat_tasks.save_held_out(replies["held_out"], target / chat_tasks.HELD_OUT_REPLIES.name)

    model = assemble(base.cpu(), tokenizer, base_ids).to(device)
    del base
    vectors = vision_stage.word_vectors(model, chat_format.encode_text)
    train_vision(model, vectors, chat_format, work, steps=VISION_STEPS)
    half = device != "cpu" or dtype_for_many_rows() == torch.bfloat16
    student = Student(model, vectors, half=half).to(device)
    chat_examples = chat_tasks.chat_examples(chat_format, replies["train"])
    train_text(student, ExampleEncoder(chat_format), chat_examples, work, steps=TEXT_STEPS)
    save_adapter(student.adapter_state(), target / ADAPTER_FILE.name)


def train_vision(
    model, vectors: torch.Tensor, chat_format: ChatFormat, folder: Path, *, steps: int
) -> None:
    """Stage one, in place: tower and projector learn to describe each cell (`vision_stage`)."""
    parameters = {n: p for n, p in model.named_parameters() if n.startswith(VISION_PREFIXES)}
    model.requires_grad_(False)
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    run = _Run(folder / "vision_stage.pt", parameters, VISION_RATE, warm_up=100, decay=0.01)
    source = vision_stage.batches(chat_format, size=VISION_BATCH, seed=SEED + run.done)
    for _, bar in run.steps(steps, "the vision tower"):
        pixels, labels = (tensor.to(vectors.device) for tensor in next(source))
        loss = vision_stage.loss(vision_stage.encode_images(model, pixels), labels, vectors)
        loss.backward()
        bar.set_postfix(loss=f"{loss.item():.4f}")
    model.requires_grad_(False)


def train_text(
    student: Student, encoder: ExampleEncoder, chats: list[Example], folder: Path, *, steps: int
) -> None:
    """Stage two, in place: LoRA layers and control rows learn tools, pictures and chat.

    Every step's losses by kind are appended to `losses.jsonl` in `folder`.
    """
    run = _Run(folder / "text.pt", student.trainable(), TEXT_RATE, warm_up=20)
    student.train()
    with (folder / "losses.jsonl").open("a", encoding="utf-8") as log:
        for step, bar in run.steps(steps, "the text model"):
            by_kind: dict[str, list[float]] = {}
            rows = draw_rows(step, encoder, chats)
            for part in batches_by_length(rows, lambda r: len(r[1]), max_padding=MAX_PADDING):
                batch = collate([row for _, row in part])
                losses = student.losses(batch)
                (losses.sum() / LABELS_PER_STEP).backward()
                owners = (batch.predictors // batch.input_ids.shape[1]).tolist()
                for owner, loss in zip(owners, losses.tolist(), strict=True):
                    by_kind.setdefault(part[owner][0], []).append(loss)
            means = {k: round(sum(each) / len(each), 4) for k, each in sorted(by_kind.items())}
            bar.set_postfix(means)
            tokens = sum(len(row) for _, row in rows)
            log.write(json.dumps({"step": step, "tokens": tokens, **means}) + "\n")
            log.flush()
    student.eval()


Rows = list[tuple[str, PackedRow]]


def draw_rows(step: int, encoder: ExampleEncoder, chats: list[Example]) -> Rows:
    """One step's rows, each with its kind."""
    # An older word, kept: the seed must give the same run.
    rng = random.Random(f"lessons {SEED} {step}")
    rows: Rows = []
    for _ in range(TOOL_ROWS):
        if rng.random() < MIXED_SHARE:
            oracle = rng.random() < ORACLE_SHARE
            rows.append(("mixed", pack(mixed_examples(encoder, "train", rng), oracle=oracle)))
            continue
        skill = _pick(rng, TOOL_SKILLS)
        options = {"per_group": TOOL_QUESTIONS[skill], "seed": rng.randrange(2**31)}
        (group,) = tool_tasks.tool_groups("train", skill, groups=1, **options)
        ids = rng.choice(["numbered", "given"])
        rows.append((skill, pack([encoder.tool_example(case, ids) for case in group])))
    for _ in range(PICTURE_ROWS):
        kind = _pick(rng, PICTURE_KINDS)
        options = {"per_group": PICTURE_QUESTIONS[kind], "seed": rng.randrange(2**31)}
        for group in picture_tasks.picture_groups("train", kind, groups=1, **options):
            text_first = kind == "two" and rng.random() < 0.3
            examples = [encoder.picture_example(case, text_first=text_first) for case in group]
            oracle = rng.random() < ORACLE_SHARE
            rows.append((f"picture {kind}", pack(examples, oracle=oracle)))
    return rows + [("chat", pack([example])) for example in rng.sample(chats, CHAT_ROWS)]


def _pick(rng: random.Random, weights: dict[str, int]) -> str:
    return rng.choices(list(weights), weights=list(weights.values()))[0]


def learning_rate(step: int, steps: int, peak: float, warm_up: int) -> float:
    """A linear warm-up, then half a cosine down to a fiftieth of the peak."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    done = (step - warm_up) / max(1, steps - warm_up)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


@dataclass
class _Run:
    """A stage's parameters, optimizer and checkpoint; goes on from a checkpoint that is there.

    Attributes:
        rate: the highest learning rate, reached after `warm_up` steps.
        done: steps done by an earlier run.
    """

    checkpoint: Path
    parameters: dict[str, torch.nn.Parameter]
    rate: float
    warm_up: int
    decay: float = 0.0
    done: int = 0

    def __post_init__(self):
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=self.rate, betas=(0.9, 0.98), weight_decay=self.decay
        )
        if self.checkpoint.is_file():
            saved = torch.load(self.checkpoint, weights_only=True)
            self.done = saved["step"]
            self.optimizer.load_state_dict(saved["optimizer"])
            for name, parameter in self.parameters.items():
                parameter.data.copy_(saved["parameters"][name])

    def steps(self, steps: int, name: str) -> Iterator[tuple[int, tqdm]]:
        """The steps left to do, each with the progress bar.

        The caller computes the gradients. Before the next step they are applied and, every so
        many steps and after the last, a checkpoint is written.
        """
        bar = tqdm(range(self.done, steps), initial=self.done, total=steps, desc=name, unit="step")
        for step in bar:
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(step, steps, self.rate, self.warm_up)
            yield step, bar
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps:
                self._save(step + 1)

    def _save(self, step: int) -> None:
        values = {name: parameter.detach() for name, parameter in self.parameters.items()}
        optimizer = self.optimizer.state_dict()
        with atomic_write(self.checkpoint) as unfinished:
            torch.save({"step": step, "parameters": values, "optimizer": optimizer}, unfinished)
