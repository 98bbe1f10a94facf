"""What the pocket model can do, counted on held-out cases: `python -m helpers.pocket evaluate`.

Greedy decoding throughout. A greedy decoder writes exactly the right reply if, and only if, at each
of its tokens the right next one is the likeliest, and one pass tells that for many replies at once.
Where another reply would be right as well, those that fail are written on from their first other
token and read: a call's JSON can be spelt in other tokens or its keys stand in another order, and
any words will do where no tool serves, or around a tool's value. The nine characters of a call's id
are given, as the pocket server gives them.
"""

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from scipy.stats import binomtest
from tqdm import tqdm
from transformers import DynamicCache, Mistral3ForConditionalGeneration

from helpers.pocket import chats, scenes, tool_data
from helpers.pocket.build import parts_file
from helpers.pocket.conversations import mixed_exchanges
from helpers.pocket.engine import side_by_side
from helpers.pocket.lessons import (
    ARGS,
    CALL_ID,
    CALLS,
    END,
    Exchange,
    Row,
    Writer,
    batch,
    row,
)
from helpers.pocket.parts import HELD_OUT_REPLIES

RULES = 2  # of judging; results under other rules are not compared
SEED = 1
CASES, QUICK_CASES = 300, 30
PER_TOOLS = 10  # cases about the same tools
REPLY_TOKENS = 40  # within which an answer in words must be there
SPARE_TOKENS = 16  # by which a call may be longer than the one expected

PAIRS = "counterfactual pairs"
TARGETS = {
    "tool call, known tools": 0.97,
    "tool call, schemas never seen": 0.85,
    "no suitable tool, no call": 0.95,
    "two calls in one turn": 0.85,
    "the tool's result in the answer": 0.97,
    "picture: colour": 0.95,
    "picture: shape": 0.95,
    "picture: count": 0.95,
    "picture: position": 0.95,
    "picture: largest": 0.95,
    "picture: tallest bar": 0.95,
    "picture: largest region": 0.95,
    "two pictures: which one": 0.85,
    PAIRS: 0.90,
}
_PICTURES = {
    "colour": "shapes",
    "shape": "shapes",
    "count": "shapes",
    "position": "shapes",
    "largest": "shapes",
    "tallest": "bars",
    "region": "regions",
    "number": "number",
    "two pictures": "two",
}
_NAMES = {
    "tallest": "picture: tallest bar",
    "region": "picture: largest region",
    "number": "picture: number",
    "two pictures": "two pictures: which one",
}


@dataclass
class Case:
    """An exchange to judge.

    Attributes:
        skill: what it counts for.
        accept: judges a generated reply; None where only the exchange's own is right.
    """

    skill: str
    exchange: Exchange
    accept: Callable[[list[int]], bool] | None = None


Question = list[Case]  # cases that share a beginning: the same tools or the same picture


def questions(writer: Writer, cases: int = CASES, seed: int = SEED) -> Iterator[Question]:
    """All held-out questions but chat and counterfactuals, ``cases`` for each skill."""
    for kind, skill in (
        ("known", "tool call, known tools"),
        ("unseen", "tool call, schemas never seen"),
        ("two", "two calls in one turn"),
    ):
        for group in _groups(kind, cases, seed):
            yield [_call_case(skill, writer, case) for case in group]
    for group in _groups("none", cases, seed):
        exchanges = [writer.tool_case(case, "given") for case in group]
        yield [Case("no suitable tool, no call", each, _no_call) for each in exchanges]
    for group in _groups("result", cases, seed):
        yield [_result_case("the tool's result in the answer", writer, case) for case in group]
    left = {skill: cases for skill in _PICTURES}
    for kind in dict.fromkeys(_PICTURES.values()):
        number = 0
        while any(left[skill] for skill, drawn in _PICTURES.items() if drawn == kind):
            number += 1
            groups = scenes.picture_groups(
                "held_out", kind, groups=1, seed=seed * 100_000 + number, per_group=12
            )
            for group in groups:
                # A question that two things of a scene give alike would be counted twice.
                asked = {(c.skill, c.question): c for c in group if left.get(c.skill, 0)}
                chosen = []
                for case in asked.values():
                    if left[case.skill]:
                        left[case.skill] -= 1
                        name = _NAMES.get(case.skill, f"picture: {case.skill}")
                        chosen.append(Case(name, writer.picture_case(case)))
                if chosen:
                    yield chosen


def pairs(writer: Writer, count: int = CASES, seed: int = SEED) -> Iterator[list[Question]]:
    """Counterfactual pairs, half about tools and half about pictures, each as its questions."""
    for both in tool_data.counterfactual_pairs("held_out", pairs=count // 2, seed=seed):
        make = _result_case if both[0].must_contain else _call_case
        yield [[make(PAIRS, writer, case) for case in both]]
    for both in scenes.counterfactual_pairs("held_out", pairs=count - count // 2, seed=seed):
        # Two rows: what the pictures share is their tokens' ids, not what they show.
        yield [[Case(PAIRS, writer.picture_case(case))] for case in both]


def conversations(writer: Writer, count: int, seed: int = SEED) -> Iterator[Question]:
    """The model card's conversation: the largest country on a map, then its population."""
    for number in range(count):
        rng = random.Random(f"conversation {seed} {number}")
        first, second = mixed_exchanges(writer, "held_out", rng)
        yield [
            Case("conversation: largest country, tools at hand", first),
            Case(
                "conversation: that country's population",
                second,
                _same_calls(writer, second.reply),
            ),
        ]


def _groups(kind: str, cases: int, seed: int):
    groups = -(-cases // PER_TOOLS)
    return tool_data.tool_groups("held_out", kind, groups=groups, per_group=PER_TOOLS, seed=seed)


def _call_case(skill: str, writer: Writer, case: tool_data.ToolCase) -> Case:
    exchange = writer.tool_case(case, "given")
    return Case(skill, exchange, _same_calls(writer, exchange.reply))


def _result_case(skill: str, writer: Writer, case: tool_data.ToolCase) -> Case:
    exchange = writer.tool_case(case, "given")
    return Case(skill, exchange, _contains(writer, case.must_contain))


def _same_calls(writer: Writer, reply: list[int]) -> Callable[[list[int]], bool]:
    wanted = _calls(writer, reply)
    assert wanted, "not a reply of calls"
    return lambda said: _calls(writer, said) == wanted


def _calls(writer: Writer, reply: list[int]) -> list[tuple[str, str]] | None:
    """Name and arguments of each call in a reply, keys sorted; None where it is anything else."""
    if reply[0] != CALLS or reply[-1] != END:
        return None
    starts = [place for place, token in enumerate(reply) if token == CALLS]
    found = []
    for start, end in zip(starts, [*starts[1:], len(reply) - 1], strict=True):
        call = reply[start + 1 : end]
        if CALL_ID not in call or ARGS not in call:
            return None
        name = writer.read(call[: call.index(CALL_ID)])
        try:
            arguments = json.loads(writer.read(call[call.index(ARGS) + 1 :]))
        except ValueError:
            return None
        # As text: in Python 1 equals both true and 1.0.
        found.append((name, json.dumps(arguments, sort_keys=True)))
    return found


def _given_ids(exchange: Exchange) -> list[list[int]]:
    """The tokens of each call's id in the right reply."""
    reply = exchange.reply
    starts = [place + 1 for place, token in enumerate(reply) if token == CALL_ID]
    return [reply[start : reply.index(ARGS, start)] for start in starts]


def _no_call(reply: list[int]) -> bool:
    return CALLS not in reply and reply[-1] == END and len(reply) <= REPLY_TOKENS


def _contains(writer: Writer, wanted: tuple[str, ...]) -> Callable[[list[int]], bool]:
    return lambda reply: all(part in writer.read(reply[:REPLY_TOKENS]) for part in wanted)


class Judge:
    """A model that is asked questions.

    Args:
        model: a built `Mistral3ForConditionalGeneration`, in evaluation mode.
        tokens: how many tokens one pass works on at a time.
        tokens_lenient: the same where replies may have to be written on: more, since every token
            that is written reads all the weights, for however many replies.
    """

    def __init__(self, model, tokens: int = 2500, tokens_lenient: int = 6000):
        self.model = model.eval()
        self.tokens, self.tokens_lenient = tokens, tokens_lenient

    def verdicts(self, asked: list[Question], bar: tqdm | None = None) -> list[list[bool]]:
        """For each question and case, whether a greedy decoder's reply is right.

        Args:
            bar: is moved on by one for each question.
        """
        rows = [row([case.exchange for case in question]) for question in asked]
        found: list[list[bool]] = [[] for _ in asked]
        lenient = [any(case.accept for case in question) for question in asked]
        kinds = [
            _portions([(n, rows[n]) for n in range(len(rows)) if lenient[n] == kind], tokens)
            for kind, tokens in ((True, self.tokens_lenient), (False, self.tokens))
        ]
        for portion in chain(*kinds):
            numbers = [n for n, _ in portion]
            judged = self._judge([asked[n] for n in numbers], [one for _, one in portion])
            for number, each in zip(numbers, judged, strict=True):
                found[number] = each
            if bar is not None:
                bar.update(len(portion))
        return found

    @torch.no_grad()
    def losses(self, exchanges: list[Exchange]) -> list[float]:
        """Each exchange's mean loss in nats per reply token."""
        rows = [row([exchange]) for exchange in exchanges]
        found = [0.0] * len(rows)
        for portion in _portions(list(enumerate(rows)), self.tokens):
            lesson = batch([one for _, one in portion])
            logs = self._logits(self._run(lesson), lesson.where).log_softmax(-1)
            each, at = -logs.gather(1, lesson.labels[:, None])[:, 0], 0
            for number, one in portion:
                counted = sum(one.branches[0][1].learn)
                found[number] = each[at : at + counted].mean().item()
                at += counted
        return found

    @torch.no_grad()
    def _judge(self, asked: list[Question], rows: list[Row]) -> list[list[bool]]:
        lesson = batch(rows)
        lenient = any(case.accept for question in asked for case in question)
        cache = DynamicCache(config=self.model.config.text_config) if lenient else None
        states = self._run(lesson, cache)
        likeliest = iter(self._logits(states, lesson.where).argmax(-1).tolist())
        found, drafts = [], []
        for number, (question, one) in enumerate(zip(asked, rows, strict=True)):
            found.append([])
            place = len(one.trunk)
            for case, (tokens, exchange) in zip(question, one.branches, strict=True):
                place += len(tokens)
                reply = [
                    next(likeliest) if counts else token
                    for token, counts in zip(exchange.reply, exchange.learn, strict=True)
                ]
                found[-1].append(reply == exchange.reply)
                if reply != exchange.reply and case.accept:
                    same = next(n for n, token in enumerate(reply) if token != exchange.reply[n])
                    predicts = place - len(exchange.reply) + same - 1
                    drafts.append(
                        _Draft(number, len(found[-1]) - 1, predicts, case, reply[: same + 1])
                    )
        if drafts:
            self._write_on(lesson, cache, drafts)
        for draft in drafts:
            found[draft.row][draft.branch] = draft.case.accept(draft.said)
        return found

    @torch.no_grad()
    def _write_on(self, lesson, cache: DynamicCache, drafts: list["_Draft"]) -> None:
        """Go on greedily from each draft's last token, to its end or its limit. In place."""
        numbers = sorted({draft.row for draft in drafts})
        cache.batch_select_indices(torch.tensor(numbers))
        beside = [[draft for draft in drafts if draft.row == number] for number in numbers]
        # Every row goes on with as many drafts as the longest has; spare ones are never read.
        width = max(len(some) for some in beside)
        last = torch.zeros(len(numbers), width, dtype=torch.long)
        before = torch.zeros_like(last)  # where the token before the last stands
        for place, some in enumerate(beside):
            last[place, : len(some)] = torch.tensor([draft.said[-1] for draft in some])
            before[place, : len(some)] = torch.tensor([draft.predicts for draft in some])
        rows = torch.tensor(numbers)[:, None]
        allowed = lesson.allowed[:, 0][rows, before]  # (B, width, L): what each of those sees
        position = lesson.positions[rows, before]
        own = torch.eye(width, dtype=torch.bool).expand(len(numbers), -1, -1)
        while any(not draft.done for draft in drafts):
            position = position + 1
            allowed = torch.cat([allowed, own], dim=-1)  # and each new token sees its own kind
            states = self.model.model.language_model(
                input_ids=last,
                attention_mask=allowed[:, None],
                position_ids=position,
                past_key_values=cache,
            ).last_hidden_state
            last = self.model.lm_head(states).argmax(-1)
            for place, some in enumerate(beside):
                for branch, draft in enumerate(some):
                    if not draft.done:
                        last[place, branch] = draft.add(last[place, branch].item())

    def _run(self, lesson, cache=None) -> torch.Tensor:
        return self.model.model(
            input_ids=lesson.ids,
            attention_mask=lesson.allowed,
            position_ids=lesson.positions,
            past_key_values=cache,
            use_cache=cache is not None,
            **side_by_side(lesson.pictures, self.model.model.vision_tower.dtype),
        ).last_hidden_state

    @torch.no_grad()
    def _logits(self, states: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        return self.model.lm_head(states.flatten(0, 1)[where]).float()


@dataclass
class _Draft:
    """A reply that is not the expected one, as far as it is written.

    Attributes:
        row, branch: where it stands in its batch of rows.
        predicts: the place in its row whose state predicted the last token of ``said``.
        said: the tokens so far. Where a call begins its id, the right reply's ids are put in.
    """

    row: int
    branch: int
    predicts: int
    case: Case
    said: list[int]

    def __post_init__(self):
        reply, given = self.case.exchange.reply, _given_ids(self.case.exchange)
        self._limit = max(REPLY_TOKENS, len(reply) + SPARE_TOKENS) if given else REPLY_TOKENS
        self._ids = given[self.said[:-1].count(CALL_ID) :]
        self._put_in: list[int] = []
        self._begin_id()

    @property
    def done(self) -> bool:
        return self.said[-1] == END or len(self.said) >= self._limit

    def add(self, token: int) -> int:
        """Write the model's token, or the given id's; return which."""
        token = self._put_in.pop(0) if self._put_in else token
        self.said.append(token)
        self._begin_id()
        return token

    def _begin_id(self) -> None:
        if self.said[-1] == CALL_ID and self._ids:
            self._put_in = self._ids.pop(0)


def _portions(rows: list[tuple[int, Row]], tokens: int) -> Iterator[list[tuple[int, Row]]]:
    """Numbered rows side by side, no more than that many tokens at a time, padding included.

    From the shortest to the longest: with similar lengths side by side there is less padding.
    """
    portion: list[tuple[int, Row]] = []
    longest = 0
    for number, one in sorted(rows, key=lambda pair: len(pair[1])):
        longest = max(longest, len(one))
        if portion and longest * (len(portion) + 1) > tokens:
            yield portion
            portion, longest = [], len(one)
        portion.append((number, one))
    if portion:
        yield portion


def judge(model, writer: Writer, talks: list[tuple[Exchange, float]], cases: int = CASES) -> dict:
    """Run everything; return {"rows": [...], "right": {...}, "seconds": …}.

    Args:
        talks: held-out exchanges whose reply is the base's own, each with the base's own mean
            loss on it, in nats per token.

    Returns:
        ``rows`` is the table (skill, right, of, share, low, high, target); ``right`` each skill's
        verdicts, case by case, for a paired comparison of two models on the same cases.
    """
    started = time.monotonic()
    asker = Judge(model)
    asked = [*questions(writer, cases), *conversations(writer, cases // 10)]
    paired = list(pairs(writer, cases))
    singles = [*asked, *(question for both in paired for question in both)]
    bar = tqdm(total=len(singles) + len(talks), desc="evaluation", unit="row")
    verdicts = iter(asker.verdicts(singles, bar))
    right: dict[str, list[bool]] = {}
    for question, found in zip(asked, verdicts, strict=False):
        for case, verdict in zip(question, found, strict=True):
            right.setdefault(case.skill, []).append(verdict)
    right[PAIRS] = [all(all(next(verdicts)) for _ in both) for both in paired]
    rows = [_row(skill, right[skill]) for skill in sorted(right, key=_order)]
    if talks:
        losses = asker.losses([exchange for exchange, _ in talks])
        bar.update(len(talks))
        base = float(np.mean([loss for _, loss in talks]))
        own = float(np.mean(losses))
        rows.append(
            {
                "skill": "chat kept: loss on the base's replies, over the base's own",
                "of": len(talks),
                "base_nats": round(base, 4),
                "nats": round(own, 4),
                "ratio": round(own / base, 4),
                "target": 1.10,
            }
        )
    bar.close()
    return {"rows": rows, "right": right, "seconds": round(time.monotonic() - started)}


def run(folder: Path, quantization: str | None = None, *, quick: bool = False) -> dict:
    """Judge a built model.

    Args:
        folder: from `build.ensure_built`.
        quantization: "nf4" for the 4-bit copy.
        quick: 30 cases a skill instead of 300, for a first look.
    """
    writer = Writer(MistralTokenizer.from_file(folder / "tekken.json"))
    # float32 arithmetic on the stored bf16 or 4-bit weights: the same on every processor.
    source = folder / "nf4" if quantization == "nf4" else folder
    model = Mistral3ForConditionalGeneration.from_pretrained(source, dtype=torch.float32)
    for layer in model.modules():
        if hasattr(layer, "compute_dtype"):  # the 4-bit layers: their file names bfloat16
            layer.compute_dtype = torch.float32
    cases = QUICK_CASES if quick else CASES
    talks = chats.load_tests(writer, HELD_OUT_REPLIES)[:cases]
    result = judge(model, writer, talks, cases)
    options = [*(["--quick"] if quick else []), *(["--quantization nf4"] if quantization else [])]
    command = " ".join(["python -m helpers.pocket evaluate", *options])
    parts = hashlib.sha256(parts_file().read_bytes()).hexdigest()
    head = {"command": command, "date": f"{date.today()}", "parts_sha256": parts, "rules": RULES}
    return head | result


def _order(skill: str) -> tuple[int, str]:
    names = list(TARGETS)
    return (names.index(skill) if skill in names else len(names), skill)


def _row(skill: str, verdicts: list[bool]) -> dict:
    """One line of the table, with Wilson's 95 % interval."""
    test = binomtest(sum(verdicts), len(verdicts))
    low, high = test.proportion_ci(method="wilson")
    return {
        "skill": skill,
        "right": sum(verdicts),
        "of": len(verdicts),
        "share": round(sum(verdicts) / len(verdicts), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "target": TARGETS.get(skill),
    }


def table(result: dict) -> str:
    """The result as text, one line a skill."""
    lines = [f"{'skill':46} {'right':>9} {'share':>7}  {'95 % interval':15} target"]
    for line in result["rows"]:
        if "ratio" in line:
            lines.append(
                f"{line['skill'][:46]:46} {line['of']:>9} {line['ratio']:>7.3f}  "
                f"{'':15} ≤ {line['target']:.2f}"
            )
            continue
        target = f"{line['target']:.0%}" if line["target"] else "–"
        count = f"{line['right']}/{line['of']}"
        interval = f"{line['low']:.1%} – {line['high']:.1%}"
        lines.append(f"{line['skill']:46} {count:>9} {line['share']:>7.1%}  {interval:15} {target}")
    return "\n".join(lines)


def markdown(result: dict) -> str:
    """The result as the table of the model card."""
    lines = ["| skill | right | share | 95 % interval | target |", "|---|---|---|---|---|"]
    for line in result["rows"]:
        if "ratio" in line:
            count, share, interval = line["of"], f"{line['ratio']:.3f} ×", ""
            target = f"≤ {line['target']:.2f} ×"
        else:
            count, share = f"{line['right']} of {line['of']}", f"{line['share']:.1%}"
            interval = f"{line['low']:.1%} – {line['high']:.1%}"
            target = f"{line['target']:.0%}" if line["target"] else "none"
        lines.append(f"| {line['skill']} | {count} | {share} | {interval} | {target} |")
    return "\n".join(lines)


def paired(result: dict, saved: dict) -> list[dict]:
    """Each skill of two results on the same cases: what one gets right beyond the other.

    Args:
        result: of `run`, or saved.
        saved: what it is compared with.

    Returns:
        one dict a skill: "gained" and "lost" cases, "of", and the "difference" of shares with
        its 95 % interval ("low", "high") by Newcombe's score method for paired proportions
        (Statistics in Medicine 17, 1998, method 10).

    Raises:
        ValueError: the two were judged by other rules, or not asked the same number of cases.
    """
    if result.get("rules") != saved.get("rules"):
        raise ValueError("the two were judged by different rules; evaluate both anew")
    lines = []
    for skill, verdicts in result["right"].items():
        new, old = (
            np.array([v in (True, "1") for v in r]) for r in (verdicts, saved["right"][skill])
        )
        if len(new) != len(old):
            raise ValueError(f"{skill}: {len(new)} cases against {len(old)}; ask both the same")
        low, high = _newcombe(new, old)
        lines.append(
            {
                "skill": skill,
                "gained": int((new & ~old).sum()),
                "lost": int((old & ~new).sum()),
                "of": len(new),
                "difference": round(float(new.mean() - old.mean()), 4),
                "low": round(low, 4),
                "high": round(high, 4),
            }
        )
    return lines


def _newcombe(new: np.ndarray, old: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the difference of two paired proportions."""
    n, shares, bounds = len(new), [new.mean(), old.mean()], []
    for verdicts in (new, old):
        bounds.append(binomtest(int(verdicts.sum()), n).proportion_ci(method="wilson"))
    both, neither = (new & old).sum(), (~new & ~old).sum()
    gained, lost = (new & ~old).sum(), (old & ~new).sum()
    spread = (both + gained) * (both + lost) * (neither + gained) * (neither + lost)
    product = both * neither - gained * lost
    if product > n / 2:  # the method's continuity correction
        product -= n / 2
    elif product > 0:
        product = 0
    phi = product / np.sqrt(spread) if spread else 0.0
    difference = shares[0] - shares[1]
    down, up = (shares[0] - bounds[0].low, bounds[0].high - shares[0])
    down_old, up_old = (shares[1] - bounds[1].low, bounds[1].high - shares[1])
    low = difference - np.sqrt(down**2 - 2 * phi * down * up_old + up_old**2)
    high = difference + np.sqrt(up**2 - 2 * phi * up * down_old + down_old**2)
    return float(low), float(high)


def paired_table(lines: list[dict]) -> str:
    """`paired`'s lines as text."""
    text = [f"{'skill':46} {'gained':>6} {'lost':>6} {'of':>5} {'difference':>11}  95 % interval"]
    for line in lines:
        interval = f"{line['low']:+.1%} … {line['high']:+.1%}"
        text.append(
            f"{line['skill']:46} {line['gained']:>6} {line['lost']:>6} {line['of']:>5} "
            f"{line['difference']:>+11.1%}  {interval}"
        )
    return "\n".join(text)


def save(result: dict, path: Path) -> None:
    """Write a result as JSON; the verdicts as strings of 0 and 1, case by case."""
    marks = {
        skill: "".join("01"[v] for v in verdicts) for skill, verdicts in result["right"].items()
    }
    path.write_text(
        json.dumps(result | {"right": marks}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
