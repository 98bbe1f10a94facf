"""Train the pocket model: first its vision tower alone, then the text model by LoRA on everything.

`python -m pocket_training train` runs both stages and writes a checkpoint every minute. After an
interruption it goes on from the last one. At the end it writes `data/pocket/adapter.safetensors`.
Every step draws its rows from its own number. So on the same device the same seed and steps give
the same run, interrupted or not, with or without processes that draw ahead.
"""

import contextlib
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader, Dataset
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
from pocket_training.chat_tasks import Reply
from pocket_training.examples import ExampleEncoder
from pocket_training.lora import SEED, Student
from pocket_training.mixed_tasks import mixed_examples
from pocket_training.packing import Batch, PackedRow, collate, fill_lines, pack

try:
    import resource
except ImportError:  # on Windows, which has no such limit
    resource = None

VISION_STEPS, VISION_BATCH, VISION_RATE = 12000, 48, 1.2e-3
TEXT_STEPS, TEXT_RATE = 3000, 1e-3
DECAY_SHARE = 1 / 3  # of a stage: in it the learning rate falls
VISION_SHARE = 0.2  # of the text stage's rate: how fast the vision encoder goes on learning there
CHECKPOINT_EVERY_S = 60.0
MOST_STEPS = 10**6  # of any stage
LOG_EVERY = 10  # steps
CHATS = {"train": 1600, "held_out": 300}
CHATS_AT_ONCE = 40  # of the base's replies; on a GPU ten times as many
# On a GPU a step's rows fill batches of these shapes (lines, tokens of a line), since its work is
# recorded for each shape. Attention computes whole lines, so short rows have lines of their own.
GPU_SHAPES = ((32, 384), (10, 1280))
# There stage one sees a picture again in later steps, since drawing takes longer than learning.
REPLAYS, KEPT_STEPS = 3, 200
# In the last part of the text stage every other step computes with the linear layers rounded to 4
# bits, and every so many steps they are rounded anew. So the model learns to be right in NF4 too.
NF4_FROM, NF4_EVERY = 0.75, 50

# One step's rows, drawn by these weights. A tool row holds several questions about the same tools,
# a picture row several about the same picture.
TOOL_SKILLS = dict(known=7, unseen=6, command=9, none=7, two=11, result=6, corrected=3)
TOOL_QUESTIONS = dict(known=7, unseen=5, command=6, none=5, two=4, result=3, corrected=3)
PICTURE_KINDS = {"shapes": 14, "bars": 4, "regions": 3, "number": 8, "two": 6}
PICTURE_QUESTIONS = {"shapes": 11, "bars": 6, "regions": 4, "number": 3, "two": 7}
FOLLOW_UP_SHARE = 0.15  # of the picture rows: a question that follows another and its answer
FORGOTTEN_SHARE = 0.02  # of the picture rows: the questions come without the picture
MIX = 2, 4, 6  # rows about tools, about pictures, and of chat
# Chats with tools at hand that none of them is about: so many share the tools of a row.
TOOL_CHAT_SHARE, TOOL_CHATS = 0.5, 4
ORACLE_SHARE = 0.15  # of the picture rows: a picture's labels take the place of its encoding
MIXED_SHARE = 0.1  # of the tool rows: the model card's conversation with a tool and a map
# Beside them a step draws pictures for the first stage's loss, by this weight: answers alone teach
# the vision encoder little about what nobody asks.
DESCRIBED, DESCRIBED_WEIGHT = 16, 0.3
LABELS_PER_STEP = 250  # about as many tokens count in a step; the sum divided by it is a mean


@dataclass(frozen=True)
class Plan:
    """How a run is done.

    Attributes:
        start: an adapter file to go on from; None begins with a random vision tower.
        vision_minutes, text_minutes: train for so long, whatever the number of steps. The seed
            then no longer gives the same run, because a faster machine does more steps.
        vision_rate, text_rate: each stage's highest learning rate; a run that goes on from a
            trained adapter needs lower ones.
        rows: so many times the rows and pictures of a step; more than one pays on a GPU.
        mix: a step's rows about tools, about pictures, and of chat.
        frozen_vision: the vision encoder does not learn in the text stage. A short run that is to
            change something else spares it, and takes less time.
        kept_share: of the weights of `start` in the result. What a short run has changed by the way
            comes back sooner than what it was for (Wortsman et al., arXiv:2109.01903).
        nf4_from: from this share of the text stage on, every other step computes in 4 bits.
        chats: so many times the base's replies to learn from.
        workers: processes that draw rows and pictures ahead; 0 draws them in between.
        seed: of the rows and pictures; a run that goes on should not see those of the first again.
    """

    start: Path | None = None
    device: str = "cpu"
    vision_steps: int = VISION_STEPS
    text_steps: int = TEXT_STEPS
    vision_minutes: float | None = None
    text_minutes: float | None = None
    vision_rate: float = VISION_RATE
    text_rate: float = TEXT_RATE
    rows: int = 1
    mix: tuple[int, int, int] = MIX
    frozen_vision: bool = False
    kept_share: float = 0.0
    nf4_from: float = NF4_FROM
    chats: int = 1
    workers: int = 0
    seed: int = SEED

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"


def train(work: Path, target: Path, plan: Plan | None = None) -> None:
    """Both stages, from the base to `target` (the adapter file and the held-out replies).

    Args:
        work: a folder for the base, checkpoints and the log. It is kept, so that an interrupted
            run goes on and a finished one is not repeated.
        target: the folder of `data/pocket`, or one of your own.
    """
    plan = plan or Plan(vision_steps=VISION_STEPS, text_steps=TEXT_STEPS)
    if plan.on_gpu:
        torch.set_float32_matmul_precision("high")
    # In a folder of its own: beside the base, transformers would take it for the base's tokenizer.
    tekken_folder = work / "tekken"
    for folder in (tekken_folder, target):
        folder.mkdir(parents=True, exist_ok=True)
    gguf = next(work.glob("*.gguf"), None) or fetch_gguf(work)
    tokenizer = AutoTokenizer.from_pretrained(work, gguf_file=gguf.name)
    base = load_base(gguf).to(plan.device)
    content, base_ids = tekken.convert(tokenizer)
    chat_format = ChatFormat(tekken.write(content, tekken_folder))
    replies = {}
    for split, count in CHATS.items():
        count *= plan.chats if split == "train" else 1
        kept = work / f"replies-{split}-{count}.pt"
        if not kept.is_file():
            chats = chat_tasks.prompts(split, count, SEED)
            size = CHATS_AT_ONCE * (10 if plan.on_gpu else 1)
            options = {"seed": SEED, "size": size, "greedy": split == "train"}
            made = chat_tasks.replies(base, tokenizer, base_ids, chats, **options)
            torch.save(made, kept)
        # Written by this program a moment ago, or by an earlier run of it.
        replies[split] = torch.load(kept, weights_only=False)
    chat_tasks.save_held_out(replies["held_out"], target / chat_tasks.HELD_OUT_REPLIES.name)

    model = assemble(base.cpu(), tokenizer, base_ids).to(plan.device)
    del base
    if plan.start:
        saved = {n: t for n, t in load_file(plan.start).items() if n.startswith(VISION_PREFIXES)}
        model.load_state_dict(saved, strict=False)
    vectors = vision_stage.word_vectors(model, chat_format.encode_text)
    half = plan.on_gpu or dtype_for_many_rows() == torch.bfloat16
    train_vision(model, vectors, chat_format, work, plan, half=half)
    options = {"frozen_vision": plan.frozen_vision, "half": half, "graphs": plan.on_gpu}
    student = Student(model, vectors, **options).to(plan.device)
    if plan.start:
        student.start_from(plan.start)
    train_text(student, ExampleEncoder(chat_format), replies["train"], work, plan)
    state = student.adapter_state()
    if plan.start:
        before, share = load_file(plan.start), plan.kept_share
        # What `start` lacks stays the run's: it can be an encoder alone.
        state = {n: t.lerp(before[n].to(t), share) if n in before else t for n, t in state.items()}
    save_adapter(state, target / ADAPTER_FILE.name)


def train_vision(
    model,
    vectors: torch.Tensor,
    chat_format: ChatFormat,
    folder: Path,
    plan: Plan,
    *,
    half: bool = False,
) -> None:
    """Stage one, in place: tower and projector learn to describe each cell (`vision_stage`).

    Args:
        half: multiply in bfloat16.
    """
    parameters = {n: p for n, p in model.named_parameters() if n.startswith(VISION_PREFIXES)}
    model.requires_grad_(False)
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    length = {"planned": plan.vision_steps, "minutes": plan.vision_minutes}
    file = folder / "vision_stage.pt"
    run = _Run(file, parameters, plan.vision_rate, warm_up=100, decay=0.01, **length)
    size = VISION_BATCH * plan.rows

    def draw(step: int) -> vision_stage.Labelled:
        return vision_stage.draw_batch(chat_format, size=size, seed=plan.seed, step=step)

    describe = vision_stage.Describe(model, vectors, half=half)
    kept: list[vision_stage.Labelled] = []
    log = (folder / "vision_losses.jsonl").open("a", encoding="utf-8")
    with log:
        for step, drawn, bar in run.steps("the vision encoder", draw, plan):
            shown = [tuple(tensor.to(vectors.device) for tensor in drawn)]
            if plan.on_gpu:
                shown += random.Random(step).sample(kept, min(len(kept), REPLAYS))
                kept = [*kept, shown[0]][-KEPT_STEPS:]
            loss = describe(*(torch.cat(each) for each in zip(*shown, strict=True)))
            loss.backward()
            if step % LOG_EVERY == 0:
                bar.set_postfix(loss=f"{loss.item():.4f}")
                log.write(json.dumps({"step": step, "loss": round(loss.item(), 4)}) + "\n")
                log.flush()
    model.requires_grad_(False)


def train_text(
    student: Student, encoder: ExampleEncoder, chats: list[Reply], folder: Path, plan: Plan
) -> None:
    """Stage two, in place: LoRA layers and control rows learn tools, pictures and chat.

    Every step's losses by kind are appended to `losses.jsonl` in `folder`.
    """
    length = {"planned": plan.text_steps, "minutes": plan.text_minutes}
    file, slow = folder / "text.pt", student.vision
    run = _Run(file, student.trainable(), plan.text_rate, warm_up=20, slow=slow, **length)
    student.train()
    rounded = False
    describe = vision_stage.Describe(student.model, student.vectors, half=student.half)

    def draw(step: int) -> tuple[list[Part], vision_stage.Labelled | None]:
        options = {"times": plan.rows, "mix": plan.mix, "seed": plan.seed}
        parts = draw_parts(step, encoder, chats, joined=not plan.on_gpu, **options)
        if plan.frozen_vision:
            return parts, None
        # Other pictures than the first stage's: with other numbers.
        size, number = DESCRIBED * plan.rows, MOST_STEPS + step
        return parts, vision_stage.draw_batch(
            encoder.chat_format, size=size, seed=plan.seed, step=number
        )

    with (folder / "losses.jsonl").open("a", encoding="utf-8") as log:
        for step, (parts, pictures), bar in run.steps("the text model", draw, plan):
            if run.share(step) >= plan.nf4_from:
                # Also at an interrupted run's first step, from the weights of its checkpoint.
                if step % NF4_EVERY == 0 or not rounded:
                    student.round_to_nf4()
                rounded = True
                student.compute_rounded(step % 2 == 1)
            by_kind: dict[str, list[float]] = {}
            tokens = 0
            if pictures:
                described = describe(*(tensor.to(student.vectors.device) for tensor in pictures))
                (DESCRIBED_WEIGHT * described).backward()
                run.collect_gradients()
            for kinds, batch in parts:
                losses = student.losses(batch)
                (losses.sum() / (LABELS_PER_STEP * plan.rows)).backward()
                run.collect_gradients()
                if step % LOG_EVERY:  # to read a loss, a GPU has to come to rest
                    continue
                tokens += int((batch.segments >= 0).sum())
                for owner, loss in zip(batch.owners.tolist(), losses.tolist(), strict=True):
                    by_kind.setdefault(kinds[owner], []).append(loss)
            if step % LOG_EVERY == 0:
                if pictures:
                    by_kind["described"] = [described.item()]
                means = {k: round(sum(each) / len(each), 4) for k, each in sorted(by_kind.items())}
                bar.set_postfix(means)
                log.write(json.dumps({"step": step, "tokens": tokens, **means}) + "\n")
                log.flush()
    student.eval()


Part = tuple[list[str], Batch]  # the kind of each row, and the rows


def draw_parts(
    step: int, encoder: ExampleEncoder, chats: list[Reply], *, joined: bool, **options
) -> list[Part]:
    """One step's rows as batches: on a CPU one line, on a GPU lines of fixed lengths.

    Args:
        joined: one line.
        options: of `draw_rows`.
    """
    rows = draw_rows(step, encoder, chats, **options)
    if joined:
        return [_part([rows])]
    parts, shorter = [], 0
    for count, tokens in GPU_SHAPES:
        own = [pair for pair in rows if shorter < len(pair[1]) <= tokens]
        lines = fill_lines(own, lambda pair: len(pair[1]), tokens)
        starts = range(0, len(lines), count)
        parts += [_part(lines[start : start + count], (count, tokens)) for start in starts]
        shorter = tokens
    return parts


def _part(lines: "list[Rows]", shape: tuple[int, int] | None = None) -> Part:
    kinds = [kind for line in lines for kind, _ in line]
    return kinds, collate([[row for _, row in line] for line in lines], shape=shape)


Rows = list[tuple[str, PackedRow]]


def draw_rows(
    step: int,
    encoder: ExampleEncoder,
    chats: list[Reply],
    *,
    times: int = 1,
    mix: tuple[int, int, int] = MIX,
    seed: int = SEED,
) -> Rows:
    """One step's rows, each with its kind: `times` as many of each as `mix` says."""
    # An older word, kept: the seed must give the same run.
    rng = random.Random(f"lessons {seed} {step}")
    rows: Rows = []
    tool_rows, picture_rows, chat_rows = (each * times for each in mix)
    for _ in range(tool_rows):
        if rng.random() < MIXED_SHARE:
            oracle = rng.random() < ORACLE_SHARE
            rows.append(("mixed", pack(mixed_examples(encoder, "train", rng), oracle=oracle)))
            continue
        skill = _pick(rng, TOOL_SKILLS)
        options = {"per_group": TOOL_QUESTIONS[skill], "seed": rng.randrange(2**31)}
        (group,) = tool_tasks.tool_groups("train", skill, groups=1, **options)
        ids = rng.choice(["numbered", "given"])
        rows.append((skill, pack([encoder.tool_example(case, ids) for case in group])))
    for _ in range(picture_rows):
        kind = _pick(rng, PICTURE_KINDS)
        options = {"per_group": PICTURE_QUESTIONS[kind], "seed": rng.randrange(2**31)}
        (group,) = picture_tasks.picture_groups("train", kind, groups=1, **options)
        share = rng.random()
        if share < FORGOTTEN_SHARE:
            cases = picture_tasks.without_pictures(group)
            rows.append(("no picture", pack([encoder.picture_example(case) for case in cases])))
            continue
        text_first = kind == "two" and rng.random() < 0.3
        follow_up = share > 1 - FOLLOW_UP_SHARE and len(group) > 1
        before = group.pop(rng.randrange(len(group))) if follow_up else None
        examples = [
            encoder.picture_example(case, text_first=text_first, earlier=before) for case in group
        ]
        oracle = rng.random() < ORACLE_SHARE
        rows.append((f"picture {kind}", pack(examples, oracle=oracle)))
    chat_format = encoder.chat_format
    for reply in rng.sample(chats, min(len(chats), chat_rows)):
        rows.append(("chat", pack([chat_tasks.chat_example(chat_format, reply)])))
    for _ in range(times):
        if len(chats) < TOOL_CHATS or rng.random() >= TOOL_CHAT_SHARE:
            continue
        # A system prompt would come before the tools, and they could not be shared.
        replies = [r for r in rng.sample(chats, TOOL_CHATS) if len(r.messages) == 1]
        tools = tool_tasks.tools_beside_chat("train", rng)
        examples = [chat_tasks.chat_example(chat_format, reply, tools) for reply in replies]
        if examples:
            rows.append(("chat with tools", pack(examples)))
    return rows


def _pick(rng: random.Random, weights: dict[str, int]) -> str:
    return rng.choices(list(weights), weights=list(weights.values()))[0]


def learning_rate(step: int, share: float, peak: float, warm_up: int) -> float:
    """A linear warm-up, then the peak, and in the last third a line down to a fiftieth of it.

    The part at the peak does not depend on the number of steps. So a run that is given more time
    goes on from its checkpoint as if it had been longer from the beginning.

    Args:
        share: of the stage that is done, 0 to 1.
    """
    if step < warm_up:
        return peak * (step + 1) / warm_up
    left = (1 - share) / DECAY_SHARE
    return peak * max(0.02, min(1.0, left))


class _Drawn(Dataset):
    """What `draw` gives for each step."""

    def __init__(self, draw: Callable, steps: int):
        self.draw, self.count = draw, steps

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int):
        return self.draw(step)


def _allow_open_files() -> None:
    """As many open files as the system lets this process have: every tensor drawn ahead is one."""
    if resource:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(ValueError, OSError):  # some systems allow fewer than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _as_it_is(drawn):
    return drawn


@dataclass
class _Run:
    """A stage's parameters, optimizer and checkpoint; goes on from a checkpoint that is there.

    Attributes:
        rate: the highest learning rate, reached after `warm_up` steps.
        planned: the steps of the stage.
        minutes: or how long it is to take; then `planned` does not count.
        slow: those of the parameters that take `VISION_SHARE` of the rate.
        done, seconds: steps done by an earlier run, and the time they took.
    """

    checkpoint: Path
    parameters: dict[str, torch.nn.Parameter]
    rate: float
    warm_up: int
    planned: int
    minutes: float | None = None
    decay: float = 0.0
    slow: dict[str, torch.nn.Parameter] = field(default_factory=dict)
    done: int = 0
    seconds: float = 0.0

    def __post_init__(self):
        self._sums: list[torch.Tensor] = []
        self._started = time.monotonic()
        fast = [p for name, p in self.parameters.items() if name not in self.slow]
        groups = [{"params": fast, "share": 1.0}]
        if self.slow:
            groups.append({"params": list(self.slow.values()), "share": VISION_SHARE})
        self.optimizer = torch.optim.AdamW(
            groups, lr=self.rate, betas=(0.9, 0.98), weight_decay=self.decay
        )
        if self.checkpoint.is_file():
            saved = torch.load(self.checkpoint, weights_only=True)
            self.done, self.seconds = saved["step"], saved.get("seconds", 0.0)
            self.optimizer.load_state_dict(saved["optimizer"])
            for name, parameter in self.parameters.items():
                parameter.data.copy_(saved["parameters"][name])

    def share(self, step: int) -> float:
        """How much of the stage is done before a step, 0 to 1."""
        if self.minutes is None:
            return step / self.planned
        return min(1.0, self._time_taken() / (60 * self.minutes))

    def _time_taken(self) -> float:
        return self.seconds + time.monotonic() - self._started

    def steps(self, name: str, draw: Callable, plan: Plan) -> Iterator[tuple[int, Any, tqdm]]:
        """The steps left to do, each with what `draw` gives for it and the progress bar.

        The caller computes the gradients. Before the next step they are applied. Once a minute and
        after the last step a checkpoint is written.
        """
        if plan.workers:
            _allow_open_files()
        self._started = time.monotonic()
        steps = self.planned if self.minutes is None else MOST_STEPS
        drawn = DataLoader(
            _Drawn(draw, steps),
            batch_size=None,
            sampler=range(self.done, steps),
            num_workers=plan.workers,
            collate_fn=_as_it_is,
        )
        numbers = range(self.done, steps)
        saved = time.monotonic()
        total = self.planned if self.minutes is None else None
        bar = tqdm(iter(numbers), name, total, initial=self.done, unit="step")
        for step, rows in zip(bar, drawn, strict=False):
            if self.minutes is not None and self.share(step) >= 1:
                self._save(step)
                break
            rate = learning_rate(step, self.share(step), self.rate, self.warm_up)
            for group in self.optimizer.param_groups:
                group["lr"] = group["share"] * rate
            yield step, rows, bar
            self.collect_gradients()
            for parameter, gradient in zip(self.parameters.values(), self._sums, strict=True):
                parameter.grad = gradient
            self._sums = []
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            if time.monotonic() - saved > CHECKPOINT_EVERY_S or step + 1 == steps:
                self._save(step + 1)
                saved = time.monotonic()

    def collect_gradients(self) -> None:
        """Add the gradients to those of this step's other batches.

        autograd would add them to the first batch's in place. A CUDA graph writes its gradients to
        the same place at every replay, so that they have to be taken from there.
        """
        parameters = [p for p in self.parameters.values() if p.requires_grad]
        found = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        if self._sums:
            torch._foreach_add_(self._sums, found)
        else:
            self._sums = [gradient.clone() for gradient in found]
        for parameter in parameters:
            parameter.grad = None

    def _save(self, step: int) -> None:
        saved = {
            "step": step,
            "seconds": self._time_taken(),
            "parameters": {name: value.detach() for name, value in self.parameters.items()},
            "optimizer": self.optimizer.state_dict(),
        }
        with atomic_write(self.checkpoint) as unfinished:
            torch.save(saved, unfinished)
