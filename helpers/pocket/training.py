"""Train the pocket model: first its eye alone, then the text model by LoRA on everything.

`python -m helpers.pocket train` runs both stages, writes a checkpoint every 50 steps, goes on
from the last one after an interruption, and at the end writes `data/pocket/parts.safetensors`.
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

from helpers.pocket import chats, eye, scenes, tekken, tool_data
from helpers.pocket.architecture import assemble
from helpers.pocket.build import load_base
from helpers.pocket.conversations import mixed_exchanges
from helpers.pocket.engine import bf16_matmul_is_fast
from helpers.pocket.fetch import fetch_gguf
from helpers.pocket.lessons import Batch, Exchange, Writer, batch, row
from helpers.pocket.parts import EYE, HELD_OUT_REPLIES, LINEARS, PARTS, save_parts
from helpers.pocket.tekken import CONTROL_COUNT

SEED = 0
EYE_STEPS, EYE_BATCH, EYE_RATE = 5900, 48, 1.2e-3
STEPS, RATE = 3580, 1.2e-3
RANK, SCALE = 16, 2.0
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


class LowRank(torch.nn.Module):
    """A frozen linear and the low-rank change that is trained: W x + SCALE · B A x."""

    def __init__(self, linear: torch.nn.Linear, rank: int):
        super().__init__()
        self.weight = linear.weight.requires_grad_(False)
        self.a = torch.nn.Parameter(torch.empty(rank, linear.in_features))
        self.b = torch.nn.Parameter(torch.zeros(linear.out_features, rank))
        torch.nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        change = torch.nn.functional.linear(torch.nn.functional.linear(x, self.a), self.b)
        return torch.nn.functional.linear(x, self.weight) + SCALE * change


class Student(torch.nn.Module):
    """An assembled model with its trainable parts: LoRA pairs and the control tokens' rows.

    Args:
        model: from `architecture.assemble`, float32, its eye already taught.
        vectors: from `eye.word_vectors`.
        half: multiply in bfloat16, what is trained staying float32: about twice as fast where the
            processor has instructions for it.
    """

    def __init__(
        self,
        model,
        vectors: torch.Tensor,
        rank: int = RANK,
        seed: int = SEED,
        *,
        half: bool = False,
    ):
        super().__init__()
        self.half = half
        self.model = model.requires_grad_(False)
        self.register_buffer("vectors", vectors)
        rows = model.get_input_embeddings().weight
        self.control_rows = torch.nn.Parameter(rows[:CONTROL_COUNT].clone())
        self.pairs: dict[str, LowRank] = {}
        torch.manual_seed(seed)
        for name, module in list(model.named_modules()):
            if ".language_model." in name and name.split(".")[-1] in LINEARS:
                pair = LowRank(module, rank)
                model.get_submodule(name.rpartition(".")[0]).__setattr__(name.split(".")[-1], pair)
                self.pairs[name] = pair

    def trained(self) -> dict[str, torch.nn.Parameter]:
        """The parameters that change, by the names of `data/pocket/parts.safetensors`."""
        found = {"control_rows": self.control_rows}
        for name, pair in self.pairs.items():
            found[f"{name}.lora_a"], found[f"{name}.lora_b"] = pair.a, pair.b
        return found

    def parts(self) -> dict[str, torch.Tensor]:
        """Everything that `data/pocket` keeps: the eye too, and SCALE folded into B."""
        kept = {n: p.detach() for n, p in self.model.named_parameters() if n.startswith(EYE)}
        for name, part in self.trained().items():
            kept[name] = part.detach() * (SCALE if name.endswith(".lora_b") else 1.0)
        return kept

    def embedded(self, lesson: Batch) -> torch.Tensor:
        """A batch's input embeddings, (B, L, hidden), pictures seen by the eye."""
        table = self.model.get_input_embeddings().weight
        states = torch.nn.functional.embedding(lesson.ids, table)
        control = (lesson.ids < CONTROL_COUNT)[..., None]
        own = torch.nn.functional.embedding(
            lesson.ids.clamp(max=CONTROL_COUNT - 1), self.control_rows
        )
        states = torch.where(control, own, states)
        if lesson.pictures:
            with torch.no_grad():
                seen = [
                    eye.see(self.model, torch.from_numpy(picture)[None].to(table.device))[0]
                    if words is None
                    else eye.targets(words, self.vectors)
                    for picture, words in zip(lesson.pictures, lesson.told, strict=True)
                ]
            here = (lesson.ids == self.model.config.image_token_id)[..., None]
            states = states.masked_scatter(here, torch.cat(seen))
        return states

    def losses(self, lesson: Batch) -> torch.Tensor:
        """Each predicted token's loss in nats, (T,)."""
        lesson = lesson.to(self.control_rows.device)
        states = self.embedded(lesson)
        with torch.autocast(states.device.type, torch.bfloat16, enabled=self.half):
            states = self.model.model.language_model(
                inputs_embeds=states,
                attention_mask=lesson.allowed,
                position_ids=lesson.positions,
                use_cache=False,
            ).last_hidden_state
        asked = states.float().flatten(0, 1)[lesson.where]
        # Two products, since only the control tokens' rows are trained.
        others = self.model.get_input_embeddings().weight[CONTROL_COUNT:]
        logits = torch.cat([asked @ self.control_rows.T, asked @ others.T], dim=-1)
        logs = logits.log_softmax(dim=-1)
        found = -logs.gather(1, lesson.labels[:, None])[:, 0]
        if lesson.soft is not None:
            at, ids, shares = lesson.soft
            found = found.clone()
            found[at] = -(logs[at].gather(1, ids) * shares).sum(dim=-1)
        return found


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
        (group,) = tool_data.tool_groups(
            "train", skill, groups=1, per_group=TOOL_QUESTIONS[skill], seed=rng.randrange(2**31)
        )
        ids = rng.choice(["numbered", "given"])
        drawn.append((skill, row([writer.tool_case(case, ids) for case in group])))
    for _ in range(PICTURE_ROWS):
        kind = _pick(rng, PICTURE_KINDS)
        groups = scenes.picture_groups(
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
            chosen = chats.prompts(split, count, SEED)
            torch.save(chats.replies(base, tokenizer, places, chosen, seed=SEED), kept)
        # Written by this program a moment ago, or by an earlier run of it.
        said[split] = torch.load(kept, weights_only=False)
    chats.save_tests(said["held_out"], target / HELD_OUT_REPLIES.name)

    model = assemble(base.cpu(), tokenizer, places).to(device)
    del base
    vectors = eye.word_vectors(model, writer.text)
    teach_eye(model, vectors, work)
    half = device != "cpu" or bf16_matmul_is_fast()
    student = Student(model, vectors, half=half).to(device)
    teach_text(student, writer, chats.exchanges(writer, said["train"]), work)
    save_parts(student.parts(), target / PARTS.name)


def teach_eye(model, vectors: torch.Tensor, folder: Path, *, steps: int = EYE_STEPS) -> None:
    """Stage one: tower and projector learn to describe each cell; see `eye`. In place."""
    learned = {n: p for n, p in model.named_parameters() if n.startswith(EYE)}
    model.requires_grad_(False)
    for parameter in learned.values():
        parameter.requires_grad_(True)
    optimiser = torch.optim.AdamW(
        learned.values(), lr=EYE_RATE, betas=(0.9, 0.98), weight_decay=0.01
    )
    done = _resume(folder / "eye.pt", learned, optimiser)
    source = eye.batches(size=EYE_BATCH, seed=SEED + done)
    bar = tqdm(range(done, steps), initial=done, total=steps, desc="the eye", unit="step")
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = rate(step, steps, EYE_RATE, warm=100)
        pictures, words = (tensor.to(vectors.device) for tensor in next(source))
        loss = eye.loss(eye.see(model, pictures), words, vectors)
        _step(loss, optimiser, learned.values())
        bar.set_postfix(loss=f"{loss.item():.4f}")
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps:
            _save(folder / "eye.pt", step + 1, learned, optimiser)
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
