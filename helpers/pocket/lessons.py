"""Lessons: conversations as token rows, in which questions on the same beginning share it.

Tools and pictures stand at the beginning of a conversation and are most of its length. Several
questions about the same ones are therefore laid out as one row, a trunk and its branches:

    <s>[AVAILABLE_TOOLS]…[/AVAILABLE_TOOLS] | [INST]one[/INST]… | [INST]two[/INST]… | …

Every branch sees the trunk and itself, and its positions go on from the trunk's end, so that the
model computes what it would compute for each conversation alone, at a third of the work.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from mistral_common.protocol.instruct.chunk import ImageChunk, TextChunk
from mistral_common.protocol.instruct.messages import UserMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

from helpers.pocket.scenes import PictureCase, Words
from helpers.pocket.tekken import CONTROL_IDS
from helpers.pocket.tool_data import ToolCase

END, CALLS, CALL_ID, ARGS = (
    CONTROL_IDS[token] for token in ("</s>", "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]")
)


@dataclass
class Exchange:
    """A prompt and the reply that it should get, as token ids.

    Attributes:
        learn: for each reply token, whether it counts in the loss.
        pictures: the prompt's pictures, float32 arrays of shape (3, height, width).
        soft: the base's own distribution over each reply token, where it is the teacher:
            (ids, probabilities), both of shape (reply tokens, kept).
        words: of each picture, the words that describe its cells, where they are known.
    """

    prompt: list[int]
    reply: list[int]
    learn: list[bool]
    pictures: list[np.ndarray] = field(default_factory=list)
    soft: tuple[np.ndarray, np.ndarray] | None = None
    words: tuple[Words, ...] = ()


@dataclass
class Row:
    """A trunk and its branches; see the module's text.

    Attributes:
        told: for each picture, the words to put in place of what the eye sees in it, or None.
    """

    trunk: list[int]
    branches: list[tuple[list[int], Exchange]]  # the rest of the prompt with the reply, its source
    pictures: list[np.ndarray]
    told: list[Words | None]

    def __len__(self) -> int:
        return len(self.trunk) + sum(len(tokens) for tokens, _ in self.branches)


class Writer:
    """Turns conversations into exchanges, by mistral_common's V11 encoding."""

    def __init__(self, tokenizer: MistralTokenizer):
        self._tokenizer = tokenizer
        self._raw = tokenizer.instruct_tokenizer.tokenizer

    def text(self, text: str) -> list[int]:
        return self._raw.encode(text, bos=False, eos=False)

    def read(self, tokens: list[int]) -> str:
        """Tokens as text, control tokens left out."""
        return self._raw.decode(tokens)

    def prompt(self, messages: list, tools: list[dict] | None = None):
        """Token ids and pictures of a conversation up to the reply.

        Args:
            messages: OpenAI's dicts, or mistral_common's own messages where they hold pictures.
        """
        if all(isinstance(message, dict) for message in messages):
            request = ChatCompletionRequest.from_openai(messages=messages, tools=tools)
        else:
            plain = ChatCompletionRequest.from_openai(
                messages=[m if isinstance(m, dict) else _STAND_IN for m in messages], tools=tools
            )
            mixed = [
                old if isinstance(old, UserMessage) else new
                for old, new in zip(messages, plain.messages, strict=True)
            ]
            request = plain.model_copy(update={"messages": mixed})
        encoded = self._tokenizer.encode_chat_completion(request)
        return encoded.tokens, encoded.images

    def answer(self, messages, text: str, tools: list[dict] | None = None) -> Exchange:
        """An exchange that ends in plain text."""
        prompt, pictures = self.prompt(messages, tools)
        reply = [*self.text(text), END]
        return Exchange(prompt, reply, [True] * len(reply), pictures)

    def calls(self, messages, calls: list[dict], tools: list[dict], ids: str) -> Exchange:
        """An exchange that ends in tool calls.

        Args:
            calls: OpenAI's `tool_calls`.
            ids: "numbered" writes 000000001, 000000002 …, which the model learns to write by
                itself; "given" keeps the calls' own ids and leaves them out of the loss, since
                nobody can guess a random id (the pocket server chooses it, too).
        """
        prompt, pictures = self.prompt(messages, tools)
        reply, learn = [], []
        for number, call in enumerate(calls, start=1):
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            call_id = self.text(f"{number:09d}" if ids == "numbered" else call["id"])
            values = json.dumps(json.loads(arguments), ensure_ascii=False)
            for part, counts in (
                ([CALLS, *self.text(name), CALL_ID], True),
                (call_id, ids == "numbered"),
                ([ARGS, *self.text(values)], True),
            ):
                reply += part
                learn += [counts] * len(part)
        return Exchange(prompt, [*reply, END], [*learn, True], pictures)

    def tool_case(self, case: ToolCase, ids: str) -> Exchange:
        if case.reply.get("tool_calls"):
            return self.calls(case.messages, case.reply["tool_calls"], case.tools, ids)
        return self.answer(case.messages, case.reply["content"], case.tools)

    def picture_case(self, case: PictureCase, *, text_first: bool = False) -> Exchange:
        exchange = self.answer([picture_message(case, text_first=text_first)], case.answer)
        return replace(exchange, words=case.words)


_STAND_IN = {"role": "user", "content": "-"}


def picture_message(case: PictureCase, *, text_first: bool = False) -> UserMessage:
    """A user message with the case's pictures and its question."""
    chunks = [ImageChunk(image=picture) for picture in case.pictures]
    text = TextChunk(text=case.question)
    return UserMessage(content=[text, *chunks] if text_first else [*chunks, text])


def row(exchanges: Sequence[Exchange], *, told: bool = False) -> Row:
    """One row of exchanges: what all their prompts begin with becomes the trunk.

    Args:
        told: give the words of the pictures in place of the pictures, where they are known.
    """
    prompts = [exchange.prompt for exchange in exchanges]
    shared = 0
    # The last prompt token stays in the branch: it predicts the reply's first token.
    for tokens in zip(*(prompt[:-1] for prompt in prompts), strict=False):
        if len(set(tokens)) > 1:
            break
        shared += 1
    branches = [(e.prompt[shared:] + e.reply, e) for e in exchanges]
    trunk = prompts[0][:shared]
    common = trunk.count(CONTROL_IDS["[IMG_END]"])  # pictures that stand in the trunk: once
    shown = []
    for number, exchange in enumerate(exchanges):
        known = exchange.words if told and exchange.words else [None] * len(exchange.pictures)
        both = list(zip(exchange.pictures, known, strict=True))
        shown += both[:common] * (number == 0) + both[common:]
    return Row(trunk, branches, [picture for picture, _ in shown], [words for _, words in shown])


@dataclass
class Batch:
    """Rows as tensors: B rows of L tokens, T of which are to be predicted.

    Attributes:
        ids, positions: (B, L).
        allowed: (B, 1, L, L) bool, true where a token may look.
        where: (T,) flat indices of the tokens that predict.
        labels: (T,) the tokens they should predict.
        soft: (indices into T, ids (S, K), probabilities (S, K)) of the base's distributions.
        pictures, told: all pictures, in the order of their tokens; see `Row`.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    allowed: torch.Tensor
    where: torch.Tensor
    labels: torch.Tensor
    soft: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None
    pictures: list[np.ndarray]
    told: list[Words | None]

    def to(self, device: torch.device) -> "Batch":
        """The same batch with its tensors on a device; the pictures stay arrays."""
        soft = tuple(part.to(device) for part in self.soft) if self.soft else None
        tensors = {
            name: getattr(self, name).to(device)
            for name in ("ids", "positions", "allowed", "where", "labels")
        }
        return Batch(**tensors, soft=soft, pictures=self.pictures, told=self.told)


def batch(rows: Sequence[Row]) -> Batch:
    """Lay rows side by side, padded to the longest."""
    length = max(len(one) for one in rows)
    ids = np.full((len(rows), length), CONTROL_IDS["<pad>"])
    positions = np.zeros_like(ids)
    part = np.full_like(ids, -1)  # 0 for the trunk, 1 … for the branches, -1 for padding
    where, labels, soft_at, soft_ids, soft_shares = [], [], [], [], []
    for number, one in enumerate(rows):
        start = len(one.trunk)
        ids[number, :start] = one.trunk
        positions[number, :start] = range(start)
        part[number, :start] = 0
        at = start
        for place, (tokens, exchange) in enumerate(one.branches, start=1):
            end = at + len(tokens)
            ids[number, at:end] = tokens
            positions[number, at:end] = range(start, start + len(tokens))
            part[number, at:end] = place
            first = end - len(exchange.reply)
            for offset, counts in enumerate(exchange.learn):
                if not counts:
                    continue
                if exchange.soft is not None:
                    soft_at.append(len(where))
                    soft_ids.append(exchange.soft[0][offset])
                    soft_shares.append(exchange.soft[1][offset])
                where.append(number * length + first + offset - 1)
                labels.append(exchange.reply[offset])
            at = end
    before = np.tril(np.ones((length, length), dtype=bool))
    seen = (part[:, None, :] == 0) | (part[:, None, :] == part[:, :, None])
    allowed = before & seen & (part[:, None, :] >= 0) | np.eye(length, dtype=bool)
    soft = None
    if soft_at:
        soft = (
            torch.tensor(soft_at),
            torch.from_numpy(np.stack(soft_ids)).long(),
            torch.from_numpy(np.stack(soft_shares)).float(),
        )
    return Batch(
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        allowed=torch.from_numpy(allowed[:, None]),
        where=torch.tensor(where),
        labels=torch.tensor(labels),
        soft=soft,
        pictures=[picture for one in rows for picture in one.pictures],
        told=[words for one in rows for words in one.told],
    )
