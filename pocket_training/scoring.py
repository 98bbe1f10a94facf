"""Scores a model's greedy replies, many at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from bitsandbytes.functional import dequantize_4bit
from tqdm import tqdm
from transformers import DynamicCache, Mistral3ForConditionalGeneration

from pocket_model.build import Quantization
from pocket_model.server.decoder import without_idle_heads
from pocket_model.server.linears import HEAD, dequantized, is_twice
from pocket_training.decoding import GROUPED, PackedLinear, additive, growing_cache, image_outputs
from pocket_training.exam_cases import REPLY_TOKENS, Case, Question
from pocket_training.examples import ARGS, CALL_ID, END, TOOL_CALLS, Example
from pocket_training.packing import Batch, PackedRow, batches_by_length, collate, pack

SPARE_TOKENS = 16  # by which a call may be longer than the one expected
ENOUGH = 0.7  # of the drafts computed at a time are not done yet
MAX_PADDING = 1.2  # a row that is filled up to twice its length takes four times as long to attend


def load_in_float32(folder: Path, quantization: Quantization) -> Mistral3ForConditionalGeneration:
    """A built model that computes in float32 on the weights of a quantization: alike on every CPU.

    Args:
        folder: from `build.ensure_built`.
    """
    source = folder / "nf4" if quantization == "nf4" else folder
    model = Mistral3ForConditionalGeneration.from_pretrained(source, dtype=torch.float32)
    text, config = model.model.language_model, model.config.text_config
    last = f"layers.{config.num_hidden_layers - 1}."
    with torch.no_grad():
        for parameter in model.parameters():  # a file with 4-bit layers keeps its own type
            if parameter.is_floating_point():
                parameter.data = parameter.float()
        weights = {
            f"{name}.weight": _weights(
                module, quantization, is_twice(name, last=name.startswith(last))
            )
            for name, module in text.named_modules()
            if isinstance(module, torch.nn.Linear)
        }
        heads = [config.num_attention_heads, *[config.num_key_value_heads] * 2]
        without_idle_heads(weights, heads, config.head_dim)
        for name, weight in weights.items():
            text.set_submodule(name.removesuffix(".weight"), PackedLinear(weight), strict=True)
        model.lm_head = PackedLinear(_weights(model.lm_head, HEAD[quantization]))
        for name, module in list(model.named_modules()):
            if isinstance(module, torch.nn.Linear):  # of the vision encoder
                model.set_submodule(name, PackedLinear(module.weight.detach()), strict=True)
    model.model.language_model.set_attn_implementation(GROUPED)
    return model.eval()


def _weights(
    layer: torch.nn.Linear, quantization: Quantization, twice: bool = False
) -> torch.Tensor:
    """A layer's weights as the quantization has them, in float32."""
    state = getattr(layer.weight, "quant_state", None)  # of a 4-bit layer
    if state is not None:
        state.dtype = torch.float32  # with bf16, which the file names, it would round them
        return dequantize_4bit(layer.weight.data, state)
    return dequantized(layer.weight, quantization, twice=twice)


@dataclass
class Scorer:
    """Asks a model questions and tells which replies are right.

    Attributes:
        model: a built model, in evaluation mode. Its attention becomes `attend_in_groups`.
        tokens: how many tokens one pass works on at a time.
        tokens_lenient: the same for questions whose replies may have to be continued. It is
            larger: every token that is generated reads all the weights, for however many replies.
    """

    model: Mistral3ForConditionalGeneration
    tokens: int = 2500
    tokens_lenient: int = 10_000

    def __post_init__(self):
        self.model.model.language_model.set_attn_implementation(GROUPED)

    def score(self, questions: list[Question]) -> list[list[bool]]:
        """For each question and case, whether a greedy decoder's reply is right."""
        rows = [pack([case.example for case in question]) for question in questions]
        lenient = [any(case.accept for case in question) for question in questions]
        scores: list[list[bool]] = [[] for _ in questions]
        bar = tqdm(total=len(questions), desc="evaluation", unit="row")
        for kind, tokens in ((True, self.tokens_lenient), (False, self.tokens)):
            chosen = [number for number in range(len(rows)) if lenient[number] == kind]
            for numbers in batches_by_length(
                chosen, lambda n: len(rows[n]), max_tokens=tokens, max_padding=MAX_PADDING
            ):
                batch = [(questions[number], rows[number]) for number in numbers]
                for number, right in zip(numbers, self._score_batch(batch), strict=True):
                    scores[number] = right
                bar.update(len(numbers))
        bar.close()
        return scores

    @torch.no_grad()
    def losses(self, examples: list[Example]) -> list[float]:
        """Each example's mean loss in nats per reply token."""
        rows = [pack([example]) for example in examples]
        losses = [0.0] * len(rows)
        numbered = range(len(rows))
        for numbers in batches_by_length(numbered, lambda n: len(rows[n]), max_tokens=self.tokens):
            batch = collate([[rows[n]] for n in numbers])
            logs = self._logits(self._states(batch), batch).log_softmax(-1)
            by_token = -logs.gather(1, batch.labels[:, None])[:, 0]
            lengths = [sum(examples[n].loss_mask) for n in numbers]
            for number, part in zip(numbers, by_token.split(lengths), strict=True):
                losses[number] = part.mean().item()
        return losses

    @torch.no_grad()
    def _score_batch(self, rows: list[tuple[Question, PackedRow]]) -> list[list[bool]]:
        batch = collate([[row] for _, row in rows])
        lenient = any(case.accept for question, _ in rows for case in question)
        cache = growing_cache(self.model.config.text_config) if lenient else None
        pictures = [picture for _, row in rows for picture in row.pictures]
        states = self._states(batch, pictures, cache)
        likeliest = iter(self._logits(states, batch).argmax(-1).tolist())
        scores: list[list[bool]] = []
        drafts = []
        for number, (question, row) in enumerate(rows):
            scores.append([])
            end = len(row.prefix)
            for case, (tokens, example) in zip(question, row.continuations, strict=True):
                end += len(tokens)
                reply = [
                    next(likeliest) if predicted else token
                    for token, predicted in zip(example.reply, example.loss_mask, strict=True)
                ]
                scores[-1].append(reply == example.reply)
                if reply != example.reply and case.accept:
                    same = next(n for n, token in enumerate(reply) if token != example.reply[n])
                    predictor = end - len(example.reply) + same - 1
                    slot = (number, len(scores[-1]) - 1)
                    drafts.append(_Draft(slot, predictor, case, reply[: same + 1]))
        if drafts:
            self._continue(batch, cache, drafts)
        for draft in drafts:
            row_number, index = draft.slot
            scores[row_number][index] = draft.case.accept(draft.tokens)
        return scores

    def _continue(self, batch: Batch, cache: DynamicCache, drafts: list["_Draft"]) -> None:
        """Go on greedily from each draft's last token, to its end or its limit. In place.

        Every row goes on with as many drafts as the longest has; spare ones are never read.
        """
        mask, positions = batch.attention_mask[:, 0], batch.position_ids
        rows = range(len(positions))
        places = {id(draft): draft.predictor for draft in drafts}  # of a draft, in its row
        slots = 0
        while going := [draft for draft in drafts if not draft.done]:
            if slots == 0 or len(going) < ENOUGH * slots:  # to leave drafts out takes time too
                numbers = sorted({draft.slot[0] for draft in going})
                by_row = [[draft for draft in going if draft.slot[0] == n] for n in numbers]
                width = max(map(len, by_row))
                kept = torch.tensor([rows.index(number) for number in numbers])
                if len(kept) < len(rows):
                    cache.batch_select_indices(kept)
                rows, slots = numbers, width * len(numbers)
                columns = torch.zeros(len(numbers), width, dtype=torch.long)
                for index, row in enumerate(by_row):
                    columns[index, : len(row)] = torch.tensor([places[id(d)] for d in row])
                mask, positions = mask[kept[:, None], columns], positions[kept[:, None], columns]
                places = {id(d): column for row in by_row for column, d in enumerate(row)}
                own = torch.eye(width, dtype=torch.bool).expand(len(numbers), -1, -1)
                last = torch.zeros_like(columns)
            for index, row in enumerate(by_row):
                last[index, : len(row)] = torch.tensor([draft.tokens[-1] for draft in row])
            positions = positions + 1
            mask = torch.cat([mask, own], dim=-1)  # each new token attends to its own draft
            states = self.model.model.language_model(
                input_ids=last,
                attention_mask=additive(mask[:, None], self.model.dtype),
                position_ids=positions,
                past_key_values=cache,
            ).last_hidden_state
            likeliest = self.model.lm_head(states).argmax(-1).tolist()
            for row, tokens in zip(by_row, likeliest, strict=True):
                for draft, token in zip(row, tokens, strict=False):
                    if not draft.done:
                        draft.add(token)

    def _states(
        self,
        batch: Batch,
        pictures: Sequence[np.ndarray] = (),
        cache: DynamicCache | None = None,
    ) -> torch.Tensor:
        return self.model.model(
            input_ids=batch.input_ids,
            attention_mask=additive(batch.attention_mask, self.model.dtype),
            position_ids=batch.position_ids,
            past_key_values=cache,
            use_cache=cache is not None,
            **image_outputs(self.model, list(pictures)),
        ).last_hidden_state

    def _logits(self, states: torch.Tensor, batch: Batch) -> torch.Tensor:
        return self.model.lm_head(states.flatten(0, 1)[batch.predictors]).float()


@dataclass
class _Draft:
    """A reply that is not the expected one, as far as it is generated.

    Attributes:
        slot: its row in the batch, and its number in the row.
        predictor: the position in its row whose state predicted the last of `tokens`.
        tokens: the tokens so far. Each call gets the id that it has in the expected reply.
    """

    slot: tuple[int, int]
    predictor: int
    case: Case
    tokens: list[int]

    def __post_init__(self):
        reply = self.case.example.reply
        starts = [index + 1 for index, token in enumerate(reply) if token == CALL_ID]
        ids = [reply[start : reply.index(ARGS, start)] for start in starts]
        self._calls = bool(ids)
        self._limit = max(REPLY_TOKENS, len(reply) + SPARE_TOKENS) if ids else REPLY_TOKENS
        self._ids = ids[self.tokens[:-1].count(CALL_ID) :]
        self._forced: list[int] = []
        self._begin_id()

    @property
    def done(self) -> bool:
        missing = self._calls and self.tokens[0] != TOOL_CALLS  # words will not become calls
        return missing or self.tokens[-1] == END or len(self.tokens) >= self._limit

    def add(self, token: int) -> None:
        """Append the model's token, or the given id's."""
        self.tokens.append(self._forced.pop(0) if self._forced else token)
        self._begin_id()

    def _begin_id(self) -> None:
        if self.tokens[-1] == CALL_ID and self._ids:
            self._forced = self._ids.pop(0)
