"""Which tokens of a conversation are learned: the assistant's, and the end of each of its turns.

mistral_common renders the conversation, as it does when the model is served. A label is the token's
own id, or -100: PyTorch's cross-entropy leaves such positions out. The model shifts the labels by
one position itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mistral_common.exceptions import MistralCommonException
from mistral_common.protocol.instruct.normalize import get_normalizer
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.validator import ValidationMode, get_validator
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

NOT_LEARNED = -100


@dataclass(frozen=True)
class Example:
    """A conversation as token ids, and the labels, of the same length."""

    ids: list[int]
    labels: list[int]

    @property
    def learned(self) -> int:
        """The number of tokens that are learned."""
        return sum(label != NOT_LEARNED for label in self.labels)


def encode(tokenizer: MistralTokenizer, messages: list[dict[str, str]]) -> Example:
    """A conversation in OpenAI's form as ids and labels.

    Each of the assistant's turns is found by rendering the conversation up to it and with it.

    Args:
        tokenizer: such as `helpers.wire.from_file` reads from a model's tekken.json.

    Raises:
        ValueError: Mistral's format forbids the conversation, or its format puts an earlier turn
            elsewhere when the conversation goes on.
    """
    ids = _render(tokenizer, messages, ValidationMode.finetuning)
    labels = [NOT_LEARNED] * len(ids)
    for place, message in enumerate(messages):
        if message["role"] == "assistant":
            prompt, turn = (_render(tokenizer, messages[:end]) for end in (place, place + 1))
            if turn[: len(prompt)] != prompt or ids[: len(turn)] != turn:
                raise ValueError(
                    "The format of this tokenizer moves a part of the prompt when the conversation "
                    "goes on. So the assistant's tokens cannot be found: use one turn a line."
                )
            labels[len(prompt) : len(turn)] = turn[len(prompt) :]
    return Example(ids, labels)


def _render(
    tokenizer: MistralTokenizer, messages: list[dict], mode: ValidationMode | None = None
) -> list[int]:
    version = tokenizer.instruct_tokenizer.tokenizer.version
    try:
        request = ChatCompletionRequest.from_openai(messages=messages)
        if mode is not None:
            get_validator(version, mode=mode).validate_messages(request.messages)
        request = get_normalizer(version, None).from_chat_completion_request(request)
        return list(tokenizer.instruct_tokenizer.encode_instruct(request).tokens)
    except MistralCommonException as error:
        raise ValueError(f"Mistral's format forbids this conversation: {error}") from error


def end_id(tokenizer: MistralTokenizer) -> int:
    """The id of `</s>`, with which the assistant ends a turn."""
    return tokenizer.instruct_tokenizer.tokenizer.eos_id


def pad_id(tokenizer: MistralTokenizer) -> int:
    """The id of `<pad>`, which fills the shorter rows of a batch; it must not be `</s>`."""
    return tokenizer.instruct_tokenizer.tokenizer.pad_id


def faults(example: Example, end: int) -> list[str]:
    """What is wrong with the labels of an example; an empty list means nothing was found.

    Of a prompt that is learned, it sees the first token only.

    Args:
        end: the id of the token that ends a turn.
    """
    found = []
    if not example.learned:
        return ["Nothing is learned: has the template no mark of what the assistant writes?"]
    if example.labels[0] != NOT_LEARNED:
        found.append("The prompt is learned too: the model is taught to write users' messages.")
    learned = [label != NOT_LEARNED for label in example.labels]
    following = [*learned[1:], False]
    ends = [
        token
        for token, own, later in zip(example.ids, learned, following, strict=True)
        if own and not later
    ]
    if any(token != end for token in ends):
        found.append("The end of an answer is not learned: the tuned model would not stop.")
    return found


def batch(examples: Sequence[Example], pad: int) -> dict[str, torch.Tensor]:
    """Examples as rows of one length, filled on the right: what a model's forward pass takes.

    Args:
        pad: the token that fills.

    Returns:
        `input_ids`, `attention_mask` (0 where filled) and `labels` (-100 where filled), each
        int64 of shape (examples, tokens of the longest).

    Raises:
        ValueError: there are no examples.
    """
    if not examples:
        raise ValueError("There are no examples to make a batch of.")
    width = max(len(example.ids) for example in examples)

    def rows(values: list[list[int]], fill: int) -> torch.Tensor:
        return torch.tensor([row + [fill] * (width - len(row)) for row in values])

    return {
        "input_ids": rows([example.ids for example in examples], pad),
        "attention_mask": rows([[1] * len(example.ids) for example in examples], 0),
        "labels": rows([example.labels for example in examples], NOT_LEARNED),
    }
