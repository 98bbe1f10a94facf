"""TODO."""

import json
from dataclasses import dataclass, field, replace

import numpy as np
from mistral_common.protocol.instruct.chunk import ImageChunk, TextChunk
from mistral_common.protocol.instruct.messages import UserMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

from pocket_model.tekken import CONTROL_IDS
from pocket_training.picture_tasks import PictureCase
from pocket_training.scenes import Words
from pocket_training.tool_tasks import ToolCase

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
