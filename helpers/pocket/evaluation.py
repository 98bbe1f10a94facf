"""What the pocket model can do, counted on held-out cases: `python -m helpers.pocket evaluate`.

Greedy decoding throughout. A greedy decoder writes exactly the right reply if, and only if, at each
of its tokens the right next one is the likeliest, and one pass tells that for many replies at once.
Where another reply would be right as well, those that fail there are generated and read: a call's
JSON can be spelt in other tokens or its keys stand in another order, and any words will do where no
tool serves, or around a tool's value. The nine characters of a call's id are given, as the pocket
server gives them.
"""

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
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
CASES, QUICK_CASES = 300, 40
REPLY_TOKENS = 40  # within which an answer in words must be there
ROWS = 24  # judged between two movements of the progress bar

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
        accept: judges a generated reply; None where only the exchange's own is right.
    """

    exchange: Exchange
    accept: Callable[[list[int]], bool] | None = None


@dataclass
class Question:
    """Cases that share a beginning, and the skill they count for."""

    skill: str
    cases: list[Case]


def questions(writer: Writer, cases: int = CASES, seed: int = SEED) -> Iterator[Question]:
    """All held-out questions but chat and counterfactuals, ``cases`` for each skill."""
    for skill, name, per_group in (
        ("known", "tool call, known tools", 10),
        ("unseen", "tool call, schemas never seen", 10),
        ("two", "two calls in one turn", 10),
    ):
        for group in _groups(skill, cases, per_group, seed):
            yield Question(name, [_call_case(writer, case) for case in group])
    for group in _groups("none", cases, 10, seed):
        exchanges = [writer.tool_case(case, "given") for case in group]
        yield Question("no suitable tool, no call", [Case(e, _no_call) for e in exchanges])
    for group in _groups("result", cases, 10, seed):
        yield Question("the tool's result in the answer", [_result_case(writer, c) for c in group])
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
                        chosen.append(case)
                for skill in {case.skill for case in chosen}:
                    same = [Case(writer.picture_case(c)) for c in chosen if c.skill == skill]
                    yield Question(_NAMES.get(skill, f"picture: {skill}"), same)


def pairs(writer: Writer, count: int = CASES, seed: int = SEED) -> Iterator[list[Question]]:
    """Counterfactual pairs, half about tools and half about pictures, each as its questions."""
    for both in tool_data.counterfactual_pairs("held_out", pairs=count // 2, seed=seed):
        make = _result_case if both[0].must_contain else _call_case
        yield [Question(PAIRS, [make(writer, case) for case in both])]
    for both in scenes.counterfactual_pairs("held_out", pairs=count - count // 2, seed=seed):
        # Two rows: what the pictures share is their tokens' ids, not what they show.
        yield [Question(PAIRS, [Case(writer.picture_case(case))]) for case in both]


def conversations(writer: Writer, count: int, seed: int = SEED) -> Iterator[Question]:
    """The model card's conversation: the largest country on a map, then its population."""
    for number in range(count):
        rng = random.Random(f"conversation {seed} {number}")
        first, second = mixed_exchanges(writer, "held_out", rng)
        yield Question("conversation: largest country, tools at hand", [Case(first)])
        population = Case(second, _same_calls(writer, second.reply))
        yield Question("conversation: that country's population", [population])


def _groups(skill: str, cases: int, per_group: int, seed: int):
    groups = -(-cases // per_group)
    return tool_data.tool_groups("held_out", skill, groups=groups, per_group=per_group, seed=seed)


def _call_case(writer: Writer, case: tool_data.ToolCase) -> Case:
    exchange = writer.tool_case(case, "given")
    return Case(exchange, _same_calls(writer, exchange.reply))


def _result_case(writer: Writer, case: tool_data.ToolCase) -> Case:
    exchange = writer.tool_case(case, "given")
    return Case(exchange, _contains(writer, case.must_contain))


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
    """A model that is asked rows of exchanges.

    Args:
        model: a built `Mistral3ForConditionalGeneration`, in evaluation mode.
        tokens: how many tokens one pass works on at a time.
        tokens_decoded: how many tokens of prompts are answered at a time: more, since a step of
            decoding reads all the weights however few tokens it works on.
    """

    def __init__(self, model, tokens: int = 1500, tokens_decoded: int = 8000):
        self.model = model.eval()
        self.tokens = tokens
        self.tokens_decoded = tokens_decoded

    def exact(self, rows: list[Row]) -> list[list[bool]]:
        """For each row and exchange, whether a greedy decoder would write exactly the reply."""
        found = []
        for group in _portions(rows, self.tokens):
            lesson, states = self._states(group)
            right = self._logits(states, lesson.where).argmax(-1) == lesson.labels
            right, at = right.tolist(), 0
            for one in group:
                verdicts = []
                for _, exchange in one.branches:
                    counted = sum(exchange.learn)
                    verdicts.append(all(right[at : at + counted]))
                    at += counted
                found.append(verdicts)
        return found

    def losses(self, rows: list[Row]) -> list[float]:
        """Each row's mean loss in nats per reply token; one exchange a row."""
        found = []
        for group in _portions(rows, self.tokens):
            lesson, states = self._states(group)
            logs = self._logits(states, lesson.where).log_softmax(-1)
            each, at = -logs.gather(1, lesson.labels[:, None])[:, 0], 0
            for one in group:
                counted = sum(one.branches[0][1].learn)
                found.append(each[at : at + counted].mean().item())
                at += counted
        return found

    def replies(self, rows: list[Row], most: int = REPLY_TOKENS) -> list[list[list[int]]]:
        """Greedy replies to each row's prompts, the end token included.

        Where one calls a tool, the ids of the right reply are put in.
        """
        found, done = [], 0
        prompts = [
            row([Exchange(e.prompt, [], [], e.pictures) for _, e in one.branches]) for one in rows
        ]
        for group in _portions(prompts, self.tokens_decoded):
            asked = rows[done : done + len(group)]
            ids = [[_given_ids(exchange) for _, exchange in one.branches] for one in asked]
            found += self._decode(group, ids, most)
            done += len(group)
        return found

    @torch.no_grad()
    def _decode(self, rows: list[Row], ids: list, most: int) -> list[list[list[int]]]:
        lesson = batch(rows)
        cache = DynamicCache(config=self.model.config.text_config)
        states = self._run(lesson, cache)
        # Every row goes on with as many branches as the longest has; spare ones are never read.
        width = max(len(one.branches) for one in rows)
        ends = torch.zeros(len(rows), width, dtype=torch.long)
        for number, one in enumerate(rows):
            lengths = [len(tokens) for tokens, _ in one.branches]
            ends[number, : len(lengths)] = len(one.trunk) - 1 + torch.tensor(lengths).cumsum(0)
        each = torch.arange(len(rows))[:, None]
        allowed = lesson.allowed[:, 0][each, ends]  # (B, width, L): what each last token sees
        position = lesson.positions[each, ends]
        last = states[each, ends]
        own = torch.eye(width, dtype=torch.bool).expand(len(rows), -1, -1)
        said: list[list[list[int]]] = [[[] for _ in one.branches] for one in rows]
        put_in: list[list[list[int]]] = [[[] for _ in one.branches] for one in rows]
        for step in range(most):
            tokens = self.model.lm_head(last).float().argmax(-1)
            for number, replies in enumerate(said):
                for place, reply in enumerate(replies):
                    if reply and reply[-1] == END:
                        continue
                    if given := put_in[number][place]:
                        tokens[number, place] = given.pop(0)
                    reply.append(tokens[number, place].item())
                    if reply[-1] == CALL_ID and ids[number][place]:
                        put_in[number][place] = ids[number][place].pop(0)
            if step + 1 == most or all(END in reply for replies in said for reply in replies):
                return said
            position = position + 1
            allowed = torch.cat([allowed, own], dim=-1)  # and each new token sees its own kind
            last = self.model.model.language_model(
                input_ids=tokens,
                attention_mask=allowed[:, None],
                position_ids=position,
                past_key_values=cache,
            ).last_hidden_state
        return said

    @torch.no_grad()
    def _states(self, rows: list[Row]):
        lesson = batch(rows)
        return lesson, self._run(lesson)

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


def _portions(rows: list[Row], tokens: int) -> Iterator[list[Row]]:
    """Rows side by side, no more than that many tokens at a time, padding included."""
    portion: list[Row] = []
    for one in rows:
        longest = max(len(other) for other in [*portion, one])
        if portion and longest * (len(portion) + 1) > tokens:
            yield portion
            portion = []
        portion.append(one)
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
    right: dict[str, list[bool]] = {}
    asked = [[q] for q in [*questions(writer, cases), *conversations(writer, cases // 10)]]
    asked += pairs(writer, cases)
    singles = [question for group in asked for question in group]
    bar = tqdm(total=len(singles) + len(talks), desc="evaluation", unit="row")
    verdicts = _verdicts(asker, singles, bar)
    for group in asked:
        found = [verdict for question in group for verdict in verdicts[id(question)]]
        skill = group[0].skill
        right.setdefault(skill, []).extend([all(found)] if skill == PAIRS else found)
    rows = [_row(skill, right[skill]) for skill in sorted(right, key=_order)]
    if talks:
        losses = asker.losses([row([exchange]) for exchange, _ in talks])
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
        quick: 40 cases a skill instead of 300, for a first look.
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


def _verdicts(asker: Judge, asked: list[Question], bar: tqdm) -> dict[int, list[bool]]:
    """Each question's verdicts, case by case, under its identity."""
    # Similar lengths side by side: less padding.
    rows = [(question, row([case.exchange for case in question.cases])) for question in asked]
    rows.sort(key=lambda pair: len(pair[1]))
    found: dict[int, list[bool]] = {}
    for start in range(0, len(rows), ROWS):
        portion = rows[start : start + ROWS]
        verdicts = asker.exact([one for _, one in portion])
        for (question, _), judged in zip(portion, verdicts, strict=True):
            found[id(question)] = judged
        bar.update(len(portion))
    _look_again(asker, asked, found)
    return found


def _look_again(asker: Judge, asked: list[Question], found: dict[int, list[bool]]) -> None:
    """Generate what may be right though it is not the expected reply, and judge that. In place."""
    doubted = []
    for question in asked:
        wrong = [n for n, right in enumerate(found[id(question)]) if not right]
        if wrong and question.cases[0].accept:
            doubted.append((question, wrong, row([question.cases[n].exchange for n in wrong])))
    # Replies of like length side by side: a portion takes as many steps as its longest.
    doubted.sort(key=lambda one: _longest_reply(one[2]))
    for start in tqdm(range(0, len(doubted), ROWS), desc="a second look", unit="portion"):
        portion = doubted[start : start + ROWS]
        most = max(REPLY_TOKENS, _longest_reply(portion[-1][2]) + 16)
        replies = asker.replies([one for _, _, one in portion], most)
        for (question, wrong, _), said in zip(portion, replies, strict=True):
            for number, reply in zip(wrong, said, strict=True):
                found[id(question)][number] = question.cases[number].accept(reply)


def _longest_reply(one: Row) -> int:
    return max(len(exchange.reply) for _, exchange in one.branches)


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
