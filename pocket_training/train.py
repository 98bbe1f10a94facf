"""Train the pocket model: first its eye alone, then the text model by LoRA on everything.

`python -m pocket_training train` runs both stages, writes a checkpoint every 50 steps, goes on
from the last one after an interruption, and at the end writes `data/pocket/adapter.safetensors`.
Every step draws its lessons from its own number, so the same seed on the same device gives the
same run, interrupted or not.
"""

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from tqdm import tqdm
from transformers import AutoTokenizer

from pocket_model import tekken
from pocket_model.adapter import VISION_PREFIXES, save_adapter
from pocket_model.architecture import assemble
from pocket_model.base_weights import fetch_gguf
from pocket_model.build import ADAPTER_FILE, load_base
from pocket_model.loading import bf16_matmul_is_fast
from pocket_training import chat_tasks, picture_tasks, tool_tasks, vision_stage
from pocket_training.examples import Exchange, Writer
from pocket_training.lora import SEED, Student
from pocket_training.mixed_tasks import mixed_exchanges
from pocket_training.packing import batch, row

EYE_STEPS, EYE_BATCH, EYE_RATE = 5900, 48, 1.2e-3


STEPS, RATE = 3580, 1.2e-3


CHECKPOINT_EVERY = 50


CHATS = {"train": 1080, "held_out": 300}


# One step's lessons. A tool row holds several questions on the same tools, a picture row several
# on the same picture.
TOOL_SKILLS = {"known": 8, "unseen": 6, "none": 3, "two": 13, "result": 7}


TOOL_QUESTIONS = {"known": 7, "unseen": 5, "none": 5, "two": 4, "result": 3}


PICTURE_KINDS = {"shapes": 12, "bars": 3, "regions": 3, "number": 1, "two": 8}


PICTURE_QUESTIONS = {"shapes": 10, "bars": 4, "regions": 3, "number": 1, "two": 7}


TOOL_ROWS, PICTURE_ROWS, CHAT_ROWS = 3, 2, 4


TOLD_SHARE = 0.3  # of the picture rows: the words of a picture stand in for what the eye sees


MIXED_SHARE = 0.12  # of the tool rows: the model card's conversation with a tool and a map


LABELS_PER_STEP = 250  # about as many tokens count in a step: it makes a sum a mean


def lessons(step: int, writer: Writer, talks: list[Exchange], seed: int = SEED):
    """One step's rows, each with its kind: a list of (kind, row)."""
    rng = random.Random(f"lessons {seed} {step}")
    drawn = []
    for _ in range(TOOL_ROWS):
        if rng.random() < MIXED_SHARE:
            told = rng.random() < TOLD_SHARE
            drawn.append(("mixed", row(mixed_exchanges(writer, "train", rng), told=told)))
            continue
        skill = _pick(rng, TOOL_SKILLS)
        (group,) = tool_tasks.tool_groups(
            "train", skill, groups=1, per_group=TOOL_QUESTIONS[skill], seed=rng.randrange(2**31)
        )
        ids = rng.choice(["numbered", "given"])
        drawn.append((skill, row([writer.tool_case(case, ids) for case in group])))
    for _ in range(PICTURE_ROWS):
        kind = _pick(rng, PICTURE_KINDS)
        groups = picture_tasks.picture_groups(
            "train",
            kind,
            groups=1,
            per_group=PICTURE_QUESTIONS[kind],
            seed=rng.randrange(2**31),
        )
        for group in groups:
            text_first = kind == "two" and rng.random() < 0.3
            exchanges = [writer.picture_case(c, text_first=text_first) for c in group]
            told = rng.random() < TOLD_SHARE
            drawn.append((f"picture {kind}", row(exchanges, told=told)))
    drawn += [("chat", row([talk])) for talk in rng.sample(talks, CHAT_ROWS)]
    return drawn


def portions(drawn: list, waste: float = 1.2) -> list[list]:
    """Rows of like length together, so that padding adds no more than a fifth of the work."""
    cut: list[list] = []
    for one in sorted(drawn, key=lambda pair: len(pair[1])):
        if cut:
            longest = len(one[1])
            padded = longest * (len(cut[-1]) + 1)
            if padded <= waste * (sum(len(other) for _, other in cut[-1]) + longest):
                cut[-1].append(one)
                continue
        cut.append([one])
    return cut


def _pick(rng: random.Random, shares: dict[str, int]) -> str:
    return rng.choices(list(shares), weights=list(shares.values()))[0]


def rate(step: int, steps: int, peak: float, warm: int) -> float:
    """Learning rate: a linear warm-up, then half a cosine down to a fiftieth of the peak."""
    if step < warm:
        return peak * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


def train(work: Path, target: Path, *, device: str = "cpu") -> None:
    """Both stages, from the base to ``target`` (the parts file and the held-out replies).

    Args:
        work: a folder for the base, checkpoints and the log; kept, so that an interrupted run
            goes on and a finished one is not repeated.
        target: the folder of `data/pocket`.
    """
    work.mkdir(parents=True, exist_ok=True)
    target.mkdir(parents=True, exist_ok=True)
    gguf = next(work.glob("*.gguf"), None) or fetch_gguf(work)
    tokenizer = AutoTokenizer.from_pretrained(work, gguf_file=gguf.name)
    base = load_base(gguf).to(device)
    file, places = tekken.convert(tokenizer)
    # In a folder of its own: beside the base, transformers would take it for the base's tokenizer.
    beside = work / "tekken"
    beside.mkdir(exist_ok=True)
    writer = Writer(MistralTokenizer.from_file(tekken.write(file, beside)))
    said = {}
    for split, count in CHATS.items():
        kept = work / f"replies-{split}-{count}.pt"
        if not kept.is_file():
            chosen = chat_tasks.prompts(split, count, SEED)
            torch.save(chat_tasks.replies(base, tokenizer, places, chosen, seed=SEED), kept)
        # Written by this program a moment ago, or by an earlier run of it.
        said[split] = torch.load(kept, weights_only=False)
    chat_tasks.save_tests(said["held_out"], target / chat_tasks.HELD_OUT_REPLIES.name)

    model = assemble(base.cpu(), tokenizer, places).to(device)
    del base
    vectors = vision_stage.word_vectors(model, writer.text)
    teach_eye(model, vectors, work)
    half = device != "cpu" or bf16_matmul_is_fast()
    student = Student(model, vectors, half=half).to(device)
    teach_text(student, writer, chat_tasks.exchanges(writer, said["train"]), work)
    save_adapter(student.parts(), target / ADAPTER_FILE.name)


def teach_eye(model, vectors: torch.Tensor, folder: Path, *, steps: int = EYE_STEPS) -> None:
    """Stage one: tower and projector learn to describe each cell; see `eye`. In place."""
    learned = {n: p for n, p in model.named_parameters() if n.startswith(VISION_PREFIXES)}
    model.requires_grad_(False)
    for parameter in learned.values():
        parameter.requires_grad_(True)
    optimiser = torch.optim.AdamW(
        learned.values(), lr=EYE_RATE, betas=(0.9, 0.98), weight_decay=0.01
    )
    done = _resume(folder / "vision_stage.pt", learned, optimiser)
    source = vision_stage.batches(size=EYE_BATCH, seed=SEED + done)
    bar = tqdm(range(done, steps), initial=done, total=steps, desc="the eye", unit="step")
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = rate(step, steps, EYE_RATE, warm=100)
        pictures, words = (tensor.to(vectors.device) for tensor in next(source))
        loss = vision_stage.loss(vision_stage.see(model, pictures), words, vectors)
        _step(loss, optimiser, learned.values())
        bar.set_postfix(loss=f"{loss.item():.4f}")
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps:
            _save(folder / "vision_stage.pt", step + 1, learned, optimiser)
    model.requires_grad_(False)


def teach_text(
    student: Student,
    writer: Writer,
    talks: list[Exchange],
    folder: Path,
    *,
    steps: int = STEPS,
) -> None:
    """Stage two: LoRA pairs and control rows on tools, pictures and chat. In place.

    Every step's losses by kind are appended to ``folder/losses.jsonl``.
    """
    learned = student.trained()
    optimiser = torch.optim.AdamW(learned.values(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.0)
    done = _resume(folder / "text.pt", learned, optimiser)
    student.train()
    bar = tqdm(range(done, steps), initial=done, total=steps, desc="the text model", unit="step")
    with (folder / "losses.jsonl").open("a", encoding="utf-8") as log:
        for step in bar:
            for group in optimiser.param_groups:
                group["lr"] = rate(step, steps, RATE, warm=20)
            found: dict[str, list[float]] = {}
            tokens = 0
            for portion in portions(lessons(step, writer, talks)):
                lesson = batch([one for _, one in portion])
                losses = student.losses(lesson)
                (losses.sum() / LABELS_PER_STEP).backward()
                owners = (lesson.where // lesson.ids.shape[1]).tolist()
                for owner, loss in zip(owners, losses.tolist(), strict=True):
                    found.setdefault(portion[owner][0], []).append(loss)
                tokens += sum(len(one) for _, one in portion)
            figures = {k: round(sum(each) / len(each), 4) for k, each in sorted(found.items())}
            _step(None, optimiser, learned.values())
            bar.set_postfix(figures)
            log.write(json.dumps({"step": step, "tokens": tokens, **figures}) + "\n")
            log.flush()
            if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps:
                _save(folder / "text.pt", step + 1, learned, optimiser)
    student.eval()


def _step(loss: torch.Tensor | None, optimiser, parameters: Iterator) -> None:
    if loss is not None:
        loss.backward()
    torch.nn.utils.clip_grad_norm_(list(parameters), 1.0)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


def _save(path: Path, step: int, learned: dict, optimiser) -> None:
    values = {name: parameter.detach() for name, parameter in learned.items()}
    unfinished = path.with_suffix(".tmp")
    torch.save({"step": step, "learned": values, "optimiser": optimiser.state_dict()}, unfinished)
    unfinished.replace(path)


def _resume(path: Path, learned: dict, optimiser) -> int:
    """Steps done by an earlier run whose checkpoint lies at ``path``; 0 without one."""
    if not path.is_file():
        return 0
    saved = torch.load(path, weights_only=True)
    with torch.no_grad():
        for name, parameter in learned.items():
            parameter.copy_(saved["learned"][name])
    optimiser.load_state_dict(saved["optimiser"])
    return saved["step"]
