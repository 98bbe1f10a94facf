"""The pocket model's chat format, Mistral's V11: conversations to tokens, and tokens to text.

mistral_common, Mistral AI's own package, encodes the prompt, as it does for the 24B. Training and
serving both encode through this module. `reply` reads what the model generates.
"""

import codecs
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mistral_common.exceptions import MistralCommonException
from mistral_common.protocol.instruct.normalize import get_normalizer
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.tool_calls import Tool
from mistral_common.protocol.instruct.validator import ValidationMode, get_validator
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer


class FormatError(ValueError):
    """A conversation that Mistral's format cannot express; the message says why."""


@dataclass
class Prompt:
    """An encoded conversation.

    Attributes:
        ids: token ids, image tokens included.
        pictures: the preprocessed pictures in order, float32 arrays of shape (3, height, width).
    """

    ids: list[int]
    pictures: list[np.ndarray] = field(default_factory=list)


class ChatFormat:
    """Encodes conversations and decodes tokens, for one `tekken.json` file.

    Attributes:
        longest_token: bytes of the longest text token, so the most characters of any token.
    """

    def __init__(self, tekken_file: Path):
        self.tokenizer = MistralTokenizer.from_file(tekken_file)
        self._tekken = self.tokenizer.instruct_tokenizer.tokenizer
        # "serving" is mistral_common's strictest mode: every call needs its result, and the last
        # message must be a user's or a tool's.
        self._validator = get_validator(self._tekken.version, ValidationMode.serving)
        self._normalizer = get_normalizer(self._tekken.version)
        self.control_token_ids = sorted(self._tekken.special_ids)
        self.end_token_id = self._tekken.eos_id
        texts = range(self._tekken.num_special_tokens, self._tekken.n_words)
        self.longest_token = max(len(self._tekken.id_to_byte_piece(id_)) for id_ in texts)
        self.tool_calls_token_id = self._tekken.get_special_token("[TOOL_CALLS]")
        self.call_id_token_id = self._tekken.get_special_token("[CALL_ID]")
        self.args_token_id = self._tekken.get_special_token("[ARGS]")

    def encode(self, messages: list[dict], tools: list[dict] | None = None) -> Prompt:
        """Encode a conversation up to where the assistant's reply begins.

        Args:
            messages: dicts with `role`, `content`, and `tool_calls` or `tool_call_id`, as in
                OpenAI's protocol. A picture, however, is `{"type": "image", "image": …}` with a
                PIL image. "[INST]" and other control tokens in a text are encoded as plain text.
            tools: tools in OpenAI's form.

        Raises:
            FormatError: roles in a wrong order, ids that do not match, an empty assistant turn, or
                a text that cannot be tokenized.
        """
        try:
            request = ChatCompletionRequest.model_validate(
                {
                    "messages": messages,
                    "tools": [Tool.from_openai(tool) for tool in tools] if tools else None,
                },
                extra="ignore",
            )
            # The steps of `encode_chat_completion`, without its check of the tools' schemas: it
            # wants Python's regular expressions, while a schema has JavaScript's.
            self._validator.validate_messages(request.messages)
            request = self._normalizer.from_chat_completion_request(request)
            encoded = self.tokenizer.instruct_tokenizer.encode_instruct(request)
        except MistralCommonException as error:
            raise FormatError(error.message) from error
        except (ValueError, RecursionError) as error:
            # The pattern that splits texts into words gives up at a million blanks in a row.
            raise FormatError(f"the conversation cannot be tokenized: {error}") from error
        return Prompt(encoded.tokens, encoded.images)

    def encode_text(self, text: str) -> list[int]:
        """Encode a plain text, such as a reply's; the result holds no control tokens."""
        return self._tekken.encode(text, bos=False, eos=False)

    def token_bytes(self, token_id: int) -> bytes:
        """A token's bytes: a part of a character, perhaps; of a control token, none."""
        return self._tekken.id_to_byte_piece(token_id)

    def token_text(self, token_id: int) -> str:
        """How a token is shown: its text, or a control token's name."""
        if token_id < self._tekken.num_special_tokens:
            return self._tekken.id_to_piece(token_id)
        return self.token_bytes(token_id).decode("utf-8", errors="replace")

    def decode(self, token_ids: list[int]) -> str:
        """Decode generated tokens to text; control tokens are left out."""
        return b"".join(map(self.token_bytes, token_ids)).decode("utf-8", errors="replace")

    def stream_decoder(self) -> Callable[[int], str]:
        """A function from one token id to the text it completes ("" while bytes are missing)."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        return lambda token_id: decoder.decode(self.token_bytes(token_id))
