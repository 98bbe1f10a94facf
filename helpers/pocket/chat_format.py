"""The pocket model's tokenizer and chat format: the one place that knows them.

Everything that turns messages into tokens, or tokens into text, goes through `ChatFormat`. At
present it is the base model's own tokenizer and its ChatML layout.
"""

from pathlib import Path

from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerFast

DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


class ChatFormat:
    """Messages to token ids and back, for one built model folder."""

    def __init__(self, folder: Path):
        self._tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        markers = ["<|im_start|>", "<|im_end|>"]
        self._start, self.end_token_id = self._tokenizer.convert_tokens_to_ids(markers)

    def encode(self, messages: list[dict]) -> list[int]:
        """Token ids of a conversation, ending where the assistant's answer begins.

        Equal to the base's chat template, but each text is encoded apart from the control
        tokens, so that a "<|im_end|>" typed by a user stays text.

        Args:
            messages: dicts with `role` ("system", "user", "assistant") and `content` (str).
        """
        if messages[0]["role"] != "system":
            messages = [{"role": "system", "content": DEFAULT_SYSTEM}, *messages]
        newline = self._encode_text("\n")
        ids = []
        for message in messages:
            body = self._encode_text(f"{message['role']}\n{message['content']}")
            ids += [self._start, *body, self.end_token_id, *newline]
        return [*ids, self._start, *self._encode_text("assistant\n")]

    def decode(self, token_ids: list[int]) -> str:
        """Text of generated tokens, control tokens left out."""
        return self._tokenizer.decode(token_ids, skip_special_tokens=True)

    def stream_decoder(self):
        """A function from one token id to the text it completes ("" while bytes are missing)."""
        stream = DecodeStream(skip_special_tokens=True)
        tokenizer = self._tokenizer.backend_tokenizer
        return lambda token_id: stream.step(tokenizer, token_id) or ""

    def _encode_text(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
