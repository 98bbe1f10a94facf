"""Conversations as token ids: the prompt, the reply, and what of the reply is learned."""

import json
from dataclasses import dataclass, field, replace

import numpy as np

from pocket_model.chat_format import ChatFormat
from pocket_model.tekken import CONTROL_IDS
from pocket_training.messages import assistant, user, user_images
from pocket_training.picture_tasks import PictureCase
from pocket_training.scenes import CellLabels
from pocket_training.tool_tasks import ToolCase

_NAMES = ("</s>", "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]")
END, TOOL_CALLS, CALL_ID, ARGS = (CONTROL_IDS[name] for name in _NAMES)


@dataclass
class Example:
    """A prompt and the reply that it should get, as token ids.

    Attributes:
        loss_mask: for each reply token, whether it counts in the loss.
        pictures: the prompt's pictures, float32 arrays of shape (3, height, width).
        soft_targets: the base's own distribution over each reply token, if the base is the
            teacher: (ids, probabilities), both of shape (reply tokens, kept).
        cell_labels: of each picture, the words that describe its cells, if they are known.
    """

    prompt: list[int]
    reply: list[int]
    loss_mask: list[bool]
    pictures: list[np.ndarray] = field(default_factory=list)
    soft_targets: tuple[np.ndarray, np.ndarray] | None = None
    cell_labels: tuple[CellLabels, ...] = ()


class ExampleEncoder:
    """Encodes conversations and their replies in the pocket model's chat format."""

    def __init__(self, chat_format: ChatFormat):
        self.chat_format = chat_format

    def text_example(
        self, messages: list[dict], text: str, tools: list[dict] | None = None
    ) -> Example:
        """An example whose reply is plain text; messages as `ChatFormat.encode` takes them."""
        prompt = self.chat_format.encode(messages, tools)
        reply = [*self.chat_format.encode_text(text), END]
        return Example(prompt.ids, reply, [True] * len(reply), prompt.pictures)

    def calls_example(
        self, messages: list[dict], calls: list[dict], tools: list[dict], ids: str
    ) -> Example:
        """An example whose reply is tool calls.

        Args:
            calls: OpenAI's `tool_calls`.
            ids: "numbered" writes 000000001, 000000002 …, which the model learns to write by
                itself. "given" keeps the calls' own ids and leaves them out of the loss: nobody
                can guess a random id, and the pocket server chooses it as well.
        """
        prompt, encode = self.chat_format.encode(messages, tools), self.chat_format.encode_text
        reply, loss_mask = [], []
        for number, call in enumerate(calls, start=1):
            name, arguments = call["function"]["name"], json.loads(call["function"]["arguments"])
            call_id = f"{number:09d}" if ids == "numbered" else call["id"]
            for tokens, learned in (
                ([TOOL_CALLS, *encode(name), CALL_ID], True),
                (encode(call_id), ids == "numbered"),
                ([ARGS, *encode(json.dumps(arguments, ensure_ascii=False))], True),
            ):
                reply += tokens
                loss_mask += [learned] * len(tokens)
        return Example(prompt.ids, [*reply, END], [*loss_mask, True], prompt.pictures)

    def tool_example(self, case: ToolCase, ids: str) -> Example:
        if calls := case.reply.get("tool_calls"):
            return self.calls_example(case.messages, calls, case.tools, ids)
        return self.text_example(case.messages, case.reply["content"], case.tools)

    def picture_example(
        self,
        case: PictureCase,
        *,
        text_first: bool = False,
        earlier: PictureCase | None = None,
    ) -> Example:
        """An example whose reply is the answer about the case's pictures.

        Args:
            text_first: the question before the pictures.
            earlier: a case about the same pictures that was asked and answered before.
        """
        first = earlier or case
        messages = [user_images(case.pictures, first.question, text_first=text_first)]
        if earlier:
            messages += [assistant(earlier.answer), user(case.question)]
        example = self.text_example(messages, case.answer)
        return replace(example, cell_labels=case.cell_labels)
