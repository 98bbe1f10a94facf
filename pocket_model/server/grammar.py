"""Which tokens may come next: plain text, tool calls and JSON that fit a schema.

A `Guide` belongs to one request. Before each token it masks the tokens that may not come, and
after it it advances by the chosen one. The grammars are llguidance's, over the bytes of the Tekken
vocabulary; mistral_common's own grammars leave out the `[CALL_ID]` of V11.

Three decisions:

- A call's name must be one of the tools, and its arguments must fit that tool's schema. This also
  holds if the model was free not to call: a call that cannot be parsed is of no use.
- Arguments that a schema does not name are not allowed, unless the schema itself allows them.
- JSON is written as `json.dumps` writes it, since the model was trained on that. If spaces and
  line breaks were free, a small model might write nothing else.
"""

import json
from collections import deque

import numpy as np
import torch
from llguidance import LLMatcher
from mistral_common.guidance.tokenizer import from_mistral_tokenizer

from pocket_model.call_id import CALL_ID_PATTERN, new_call_id
from pocket_model.chat_format import ChatFormat

_JSON_STYLE = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
# Keywords that may describe arguments outside "properties".
_OPEN_KEYWORDS = {"additionalProperties", "anyOf", "oneOf", "allOf", "$ref", "patternProperties"}


class SchemaError(ValueError):
    """A JSON schema that cannot be made into a grammar; the message says why."""


class Grammars:
    """Makes the guides of requests, for one chat format."""

    def __init__(self, chat_format: ChatFormat):
        self._format = chat_format
        self._vocabulary = from_mistral_tokenizer(chat_format.tokenizer)

    def guide(
        self,
        tools: list[dict] | None = None,
        *,
        must_call: bool = False,
        parallel: bool = True,
        schema: dict | None = None,
        used_ids: set[str] = frozenset(),
    ) -> "Guide":
        """The guide for one request.

        Args:
            tools: the functions that may be called (`name`, `parameters`).
            must_call: whether the reply must be a call.
            parallel: whether a reply may have several calls.
            schema: a JSON schema for a reply that is not a call.
            used_ids: call ids of the conversation; a new id must differ from them.

        Raises:
            SchemaError: a schema has a keyword or value that the grammar library cannot enforce.
        """
        calls = self._matcher(self._call_rules(tools, parallel)) if tools else None
        reply = calls if must_call else None
        if schema is not None and not must_call:
            json_rule = f"%json {_styled(schema)}"
            rules = self._call_rules(tools, parallel, json_rule) if tools else [json_rule]
            reply = self._matcher(rules)
        return Guide(self._format, calls, reply, set(used_ids))

    def _call_rules(
        self, tools: list[dict], parallel: bool, alternative: str | None = None
    ) -> list[str]:
        """The rules of a Lark grammar for calls, or for an alternative to them."""
        call_id, args = self._format.call_id_token_id, self._format.args_token_id
        rules = ["calls+" if parallel else "calls"]
        if alternative:
            rules[0] += f" | {alternative}"
        one_of = []
        for tool in tools:
            schema = _styled(_arguments_schema(tool.get("parameters")))
            one_of.append(f'"{tool["name"]}" <[{call_id}]> ID <[{args}]> %json {schema}')
        # One pair of brackets around all calls: they share the token before them.
        rules.append(f"calls: <[{self._format.tool_calls_token_id}]> ({' | '.join(one_of)})")
        rules.append(f"ID: /{CALL_ID_PATTERN}/")
        return rules

    def _matcher(self, rules: list[str]) -> LLMatcher:
        grammar = LLMatcher.grammar_from_lark("\n".join([f"start: {rules[0]}", *rules[1:]]))
        matcher = LLMatcher(self._vocabulary, grammar, log_level=0)
        if matcher.is_error():
            raise SchemaError(f"the schema cannot be enforced: {_reason(matcher)}")
        return matcher


class Guide:
    """Masks tokens for one request, and follows the tokens that were chosen.

    Args:
        calls: the grammar of calls, None if no call is possible.
        reply: the grammar of the whole reply, None for free text.
        used_ids: call ids that a new one must differ from.
    """

    def __init__(
        self,
        chat_format: ChatFormat,
        calls: LLMatcher | None,
        reply: LLMatcher | None,
        used_ids: set[str],
    ):
        self._format = chat_format
        self._calls = calls
        self._matcher = reply
        self._used_ids = used_ids
        self._forced: deque[int] = deque()
        self.error: str | None = None
        allowed = {chat_format.end_token_id}
        if calls is not None:
            allowed.add(chat_format.tool_calls_token_id)
        self._forbidden = [id_ for id_ in chat_format.control_token_ids if id_ not in allowed]

    def mask(self, logits: torch.Tensor) -> torch.Tensor:
        """A copy of `logits`, shape (vocabulary,), with -inf for tokens that may not come.

        Only needed if there is no `forced_token`.
        """
        if self._matcher is None:
            masked = logits.clone()
            masked[self._forbidden] = float("-inf")
            return masked
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.unpackbits(bits, bitorder="little")[: len(logits)].astype(bool)
        if self._matcher.is_error() or not allowed.any():
            # An exception here would end every request of a batch. So only this one ends.
            self.error = _reason(self._matcher) or "no token fits the schema"
            return only_token(logits, self._format.end_token_id)
        return logits.masked_fill(~torch.from_numpy(allowed), float("-inf"))

    def advance(self, token: int, generator: torch.Generator | None = None) -> None:
        """Follow the token that was chosen.

        Args:
            token: its id.
            generator: draws a call's id; None for torch's global generator.
        """
        if self._forced:
            self._forced.popleft()
        if token == self._format.tool_calls_token_id and self._matcher is None:
            self._matcher = self._calls
        if self._matcher is not None and self.error is None:
            self._matcher.consume_token(token)
        if token == self._format.call_id_token_id:
            call_id = self._format.encode_text(self._new_call_id(generator))
            self._forced.extend([*call_id, self._format.args_token_id])
        elif self._matcher is not None and self.error is None and not self._forced:
            self._forced.extend(self._matcher.compute_ff_tokens())

    @property
    def forced_token(self) -> int | None:
        """The next token if only one text can follow, as in the rest of a name, an id or a key.

        A forced text is tokenized by itself, from the end of the last free token.
        """
        return self._forced[0] if self._forced else None

    def _new_call_id(self, generator: torch.Generator | None) -> str:
        def random_below(size: int) -> int:
            return int(torch.randint(size, (), generator=generator))

        while (call_id := new_call_id(random_below)) in self._used_ids:
            pass
        self._used_ids.add(call_id)
        return call_id


def only_token(logits: torch.Tensor, token: int) -> torch.Tensor:
    """Logits of the shape (vocabulary,) with which no token but this one can be chosen."""
    masked = torch.full_like(logits, float("-inf"))
    masked[token] = 0.0
    return masked


def _reason(matcher: LLMatcher) -> str:
    return matcher.get_error().split("\n")[0].strip()


def _styled(schema: dict) -> str:
    return json.dumps(schema | {"x-guidance": _JSON_STYLE})


def _arguments_schema(parameters: dict | None) -> dict:
    """The schema of a call's arguments: an object, closed unless its schema opens it."""
    schema = {"type": "object"} | (parameters or {})
    if not _OPEN_KEYWORDS & schema.keys():
        schema["additionalProperties"] = False
    return schema
