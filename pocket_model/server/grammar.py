"""What the model may write next: text without control tokens, calls and JSON that fit a schema.

A `Guide` belongs to one request. Before each token it rules out what may not come, after it it
takes note of what came. The grammars are llguidance's, over the very bytes of the Tekken
vocabulary; mistral_common's own grammars leave out the `[CALL_ID]` that V11 has.

Three decisions:

- Once the model has begun a call, its name must be one that was offered and its arguments must
  fit that tool's schema, also where it was free to call or not: nobody can use a call that does
  not parse. `constrain=False` shows what it would have written by itself.
- Arguments that a schema does not name are not allowed, unless it says so itself.
- JSON is written as `json.dumps` writes it, which is how the model has learnt it. Spaces and line
  breaks at will would let a small model write nothing else.
"""

import json
import string
from collections import deque
from functools import cached_property
from threading import Lock

import numpy as np
import torch
from llguidance import LLMatcher

from pocket_model.chat_format import ChatFormat

_ID_LETTERS = string.ascii_letters + string.digits
_ID_LENGTH = 9
_JSON_STYLE = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
# Keywords that may describe arguments outside "properties".
_OPEN_KEYWORDS = {"additionalProperties", "anyOf", "oneOf", "allOf", "$ref", "patternProperties"}


class SchemaError(ValueError):
    """A JSON schema that cannot be made into a grammar; the message says why."""


class Grammars:
    """Makes guides for one chat format."""

    def __init__(self, chat_format: ChatFormat):
        self._format = chat_format
        self._lock = Lock()

    @cached_property
    def _vocabulary(self):
        from mistral_common.guidance.tokenizer import from_mistral_tokenizer

        return from_mistral_tokenizer(self._format.mistral)

    def prepare(self) -> None:
        """Do what the first request with tools or a schema would wait for: part of a second."""
        with self._lock:
            _ = self._vocabulary

    def guide(
        self,
        tools: list[dict] | None = None,
        *,
        must_call: bool = False,
        parallel: bool = True,
        schema: dict | None = None,
        taken_ids: set[str] = frozenset(),
        constrain: bool = True,
    ) -> "Guide":
        """The guide for one request.

        Args:
            tools: the functions that may be called (`name`, `parameters`); None or [] for none.
            must_call: whether the reply must be a call.
            parallel: whether several calls may follow one another.
            schema: a JSON schema for a reply that is not a call.
            taken_ids: call ids of the conversation, which a new one must differ from.
            constrain: False leaves names and arguments to the model.

        Raises:
            SchemaError: a schema has what the grammar library does not know.
        """
        calls = answer = None
        if tools and constrain:
            calls = self._matcher(self._calls(tools, parallel))
        if must_call and constrain:
            answer = calls
        elif schema is not None and constrain:
            rules = f"%json {_styled(schema)}"
            answer = self._matcher(self._calls(tools, parallel, rules) if tools else [rules])
        return Guide(self._format, bool(tools), calls, answer, set(taken_ids), constrain)

    def _calls(self, tools: list[dict], parallel: bool, instead: str | None = None) -> list[str]:
        """A Lark grammar's rules for calls, or for what may stand instead of them."""
        names = self._format
        head, call_id, args = names.tool_calls_id, names.call_id_id, names.args_id
        rules = ["calls+" if parallel else "calls"]
        if instead:
            rules[0] += f" | {instead}"
        one_of = []
        for tool in tools:
            schema = _arguments(tool.get("parameters"))
            one_of.append(f'"{tool["name"]}" <[{call_id}]> ID <[{args}]> %json {_styled(schema)}')
        # One bracket around all: they share the token before them.
        rules.append(f"calls: <[{head}]> ({' | '.join(one_of)})")
        rules.append(f"ID: /[a-zA-Z0-9]{{{_ID_LENGTH}}}/")
        return rules

    def _matcher(self, rules: list[str]) -> LLMatcher:
        with self._lock:
            vocabulary = self._vocabulary
        grammar = LLMatcher.grammar_from_lark("\n".join([f"start: {rules[0]}", *rules[1:]]))
        matcher = LLMatcher(vocabulary, grammar, log_level=0)
        if matcher.is_error():
            reason = matcher.get_error().split("\n")[0].strip()
            raise SchemaError(f"the schema cannot be enforced: {reason}")
        return matcher


class Guide:
    """Rules out tokens for one request, and follows the ones that were chosen."""

    def __init__(
        self,
        chat_format: ChatFormat,
        may_call: bool,
        calls: LLMatcher | None,
        answer: LLMatcher | None,
        taken_ids: set[str],
        constrain: bool,
    ):
        self._format = chat_format
        self._calls = calls
        self._matcher = answer
        self._taken_ids = taken_ids
        self._constrain = constrain
        self._forced: deque[int] = deque()
        self.error: str | None = None
        free = {chat_format.end_token_id}
        if may_call:
            free.add(chat_format.tool_calls_id)
            if not constrain:
                free |= {chat_format.call_id_id, chat_format.args_id}
        self._forbidden = [token for token in chat_format.control_ids if token not in free]

    def mask(self, logits: torch.Tensor) -> torch.Tensor:
        """A copy of `logits`, shape (vocabulary,), with -inf where a token may not come."""
        if self._forced:
            return _only(logits, self._forced[0])
        if self._matcher is None:
            masked = logits.clone()
            masked[self._forbidden] = float("-inf")
            return masked
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.unpackbits(bits, bitorder="little")[: len(logits)].astype(bool)
        if self._matcher.is_error() or not allowed.any():
            # An exception here would end every request of a batch: end this one, and say why.
            self.error = self._matcher.get_error().split("\n")[0] or "no token fits the schema"
            return _only(logits, self._format.end_token_id)
        return logits.masked_fill(~torch.from_numpy(allowed), float("-inf"))

    def accept(self, token: int, generator: torch.Generator | None = None) -> None:
        """Take note of the token that was chosen.

        Args:
            token: its id.
            generator: where a call's id is drawn from; None for torch's global generator.
        """
        if self._forced:
            self._forced.popleft()
        if token == self._format.tool_calls_id and self._matcher is None:
            self._matcher = self._calls
        if self._matcher is not None and self.error is None:
            self._matcher.consume_token(token)
        if token == self._format.call_id_id:
            new = self._new_id(generator)
            self._forced.extend([*self._format.encode_text(new), self._format.args_id])
        elif self._matcher is not None and self.error is None and not self._forced:
            self._forced.extend(self._matcher.compute_ff_tokens())

    @property
    def must_come(self) -> int | None:
        """The next token where there is no choice: in the rest of a name, an id, a key.

        A text that must come is tokenised by itself, from the last free token's end on.
        """
        return self._forced[0] if self._forced else None

    def _new_id(self, generator: torch.Generator | None) -> str:
        while True:
            drawn = torch.randint(len(_ID_LETTERS), (_ID_LENGTH,), generator=generator)
            new = "".join(_ID_LETTERS[place] for place in drawn.tolist())
            if new not in self._taken_ids:
                self._taken_ids.add(new)
                return new


def _only(logits: torch.Tensor, token: int) -> torch.Tensor:
    masked = torch.full_like(logits, float("-inf"))
    masked[token] = 0.0
    return masked


def _styled(schema: dict) -> str:
    return json.dumps(schema | {"x-guidance": _JSON_STYLE})


def _arguments(parameters: dict | None) -> dict:
    """The schema of a call's arguments: an object, closed unless its schema opens it."""
    schema = {"type": "object"} | (parameters or {})
    if not _OPEN_KEYWORDS & schema.keys():
        schema["additionalProperties"] = False
    return schema
