"""TODO."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import torch
from tqdm import tqdm
from transformers import DynamicCache

from pocket_model.loading import image_inputs
from pocket_training.exam_cases import REPLY_TOKENS, Case, Question
from pocket_training.examples import ARGS, CALL_ID, END, Exchange
from pocket_training.packing import Row, batch, row

SPARE_TOKENS = 16  # by which a call may be longer than the one expected


def _given_ids(exchange: Exchange) -> list[list[int]]:
    """The tokens of each call's id in the right reply."""
    reply = exchange.reply
    starts = [place + 1 for place, token in enumerate(reply) if token == CALL_ID]
    return [reply[start : reply.index(ARGS, start)] for start in starts]


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
            **image_inputs(lesson.pictures, self.model.model.vision_tower.dtype),
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
