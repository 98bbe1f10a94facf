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

What is enforced of JSON Schema 2020-12, and of older drafts that `$schema` names:

- Enforced: types, `const`, `enum`, the limits of numbers, lengths and counts, `pattern`,
  `properties` and the other keywords for arrays and objects, `anyOf`, `allOf`, and a `$ref` to a
  place in the schema, such as `#/$defs/x`. The properties come in the order of the schema.
- Enforced as a pattern of characters: `date`, `time`, `date-time`, `duration`, `email`, `hostname`,
  `ipv4`, `ipv6`, `uuid`, `uri`. 29 February exists in every year. Other formats are ignored.
- `oneOf` if its options exclude one another: by their types, by their consts, or by the consts of a
  property, which becomes required.
- Never enforced: that the names of properties beyond `properties` differ. Who reads the JSON has
  the last of them, so that there may be fewer than `minProperties`.
- Refused: `not`, `if`, `contains`, `uniqueItems`, `propertyNames`, the keywords `dependent…` and
  `unevaluated…`, `dependencies`, other references, an `$id` inside, other uses of `oneOf`,
  look-around and backreferences in patterns, integers beyond 2**53, schemas of which a part
  contains itself without an end, and schemas that are too large (see `schemas`).

A tool that is not `strict` is refused only if its parameters are no JSON schema of an object, or
too large. What cannot be enforced is left out of its schema. If the rest cannot be enforced either,
its arguments may be any object. OpenAI's and vLLM's servers enforce nothing for such tools.
"""

import json
from collections import deque

import numpy as np
import torch
from llguidance import LLMatcher, LLParserLimits
from mistral_common.guidance.tokenizer import from_mistral_tokenizer

from pocket_model.call_id import CALL_ID_PATTERN, new_call_id
from pocket_model.chat_format import ChatFormat
from pocket_model.server.schemas import SchemaError, prepared

_JSON_STYLE = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
# Four items for each optional property of an object, and a schema may have 2,000 of them.
_LIMITS = LLParserLimits(max_items_in_row=10_000, step_max_items=500_000)
# Keywords that may describe arguments outside "properties".
_OPEN_KEYWORDS = {"additionalProperties", "anyOf", "oneOf", "allOf", "$ref", "patternProperties"}


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
        min_tokens: int = 0,
    ) -> "Guide":
        """The guide for one request.

        Args:
            tools: the functions that may be called (`name`, `parameters`, `strict`).
            must_call: whether the reply must be a call.
            parallel: whether a reply may have several calls.
            schema: a JSON schema for a reply that is not a call.
            used_ids: call ids of the conversation; a new id must differ from them.
            min_tokens: the reply does not end before it has so many tokens, unless the grammar
                allows nothing but its end.

        Raises:
            SchemaError: the schema, or that of a strict tool, cannot be enforced.
        """
        answers = {tool["name"]: self._arguments_rule(tool) for tool in tools or []}
        calls = self._matcher(self._call_rules(answers, parallel)) if tools else None
        reply = calls if must_call else None
        if schema is not None and not must_call:
            json_rule = self._json_rule(schema)
            rules = self._call_rules(answers, parallel, json_rule) if tools else [json_rule]
            reply = self._matcher(rules)
        return Guide(self._format, calls, reply, set(used_ids), min_tokens)

    def _arguments_rule(self, tool: dict) -> str:
        """The rule for a tool's arguments: any object if the tool is not strict and that fails."""
        schema = _arguments_schema(tool.get("parameters"))
        try:
            return self._json_rule(schema, lenient=not tool.get("strict"))
        except SchemaError as error:
            if tool.get("strict"):
                message = f"{error}. Without `strict`, the tool is taken as it is"
                raise SchemaError(message, tool["name"]) from error
            return self._json_rule({"type": "object"})

    def _json_rule(self, schema: dict, *, lenient: bool = False) -> str:
        """A rule for JSON that fits a schema, tried alone."""
        # `prepared` has seen to it that no value fits two options of a oneOf.
        guidance = _JSON_STYLE | {"coerce_one_of": True, "lenient": lenient}
        ready = prepared(schema, lenient=lenient)
        rule = f"%json {json.dumps(ready | {'x-guidance': guidance})}"
        self._matcher([rule])
        return rule

    def _call_rules(
        self, arguments: dict[str, str], parallel: bool, alternative: str | None = None
    ) -> list[str]:
        """The rules of a Lark grammar for calls, or for an alternative to them.

        Args:
            arguments: each tool's rule for its arguments.
        """
        call_id, args = self._format.call_id_token_id, self._format.args_token_id
        rules = ["calls+" if parallel else "calls"]
        if alternative:
            rules[0] += f" | {alternative}"
        one_of = [
            f'"{name}" <[{call_id}]> ID <[{args}]> {rule}' for name, rule in arguments.items()
        ]
        # One pair of brackets around all calls: they share the token before them.
        rules.append(f"calls: <[{self._format.tool_calls_token_id}]> ({' | '.join(one_of)})")
        rules.append(f"ID: /{CALL_ID_PATTERN}/")
        return rules

    def _matcher(self, rules: list[str]) -> LLMatcher:
        grammar = LLMatcher.grammar_from_lark("\n".join([f"start: {rules[0]}", *rules[1:]]))
        matcher = LLMatcher(self._vocabulary, grammar, log_level=0, limits=_LIMITS)
        # Some faults appear only in the first mask.
        if matcher.is_error() or not any(matcher.compute_bitmask()) or matcher.is_error():
            raise SchemaError(_reason(matcher) or "no value fits it")
        return matcher


class Guide:
    """Masks tokens for one request, and follows the tokens that were chosen.

    Args:
        calls: the grammar of calls, None if no call is possible.
        reply: the grammar of the whole reply, None for free text.
        used_ids: call ids that a new one must differ from.
        min_tokens: the end token is not allowed before, unless nothing else is.
    """

    def __init__(
        self,
        chat_format: ChatFormat,
        calls: LLMatcher | None,
        reply: LLMatcher | None,
        used_ids: set[str],
        min_tokens: int = 0,
    ):
        self._format = chat_format
        self._calls = calls
        self._matcher = reply
        self._used_ids = used_ids
        self._tokens_before_end = min_tokens
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
        end = self._format.end_token_id
        if self._matcher is None:
            masked = logits.clone()
            masked[self._forbidden] = float("-inf")
            if self._tokens_before_end > 0:
                masked[end] = float("-inf")
            return masked
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.unpackbits(bits, bitorder="little")[: len(logits)].astype(bool)
        if self._matcher.is_error() or not allowed.any():
            # An exception here would end every request of a batch. So only this one ends.
            reason = _reason(self._matcher) or "no token fits"
            self.error = f"the answer cannot go on under its schema ({reason}); simplify the schema"
            return only_token(logits, end)
        if self._tokens_before_end > 0 and allowed.sum() > 1:
            allowed[end] = False
        return logits.masked_fill(~torch.from_numpy(allowed), float("-inf"))

    def advance(self, token: int, generator: torch.Generator | None = None) -> None:
        """Follow the token that was chosen.

        Args:
            token: its id.
            generator: draws a call's id; None for torch's global generator.
        """
        self._tokens_before_end -= 1
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
    message = matcher.get_error().split("\n")[0].strip()
    return message.split("failed to compile JSON schema: ")[-1][:200]


def _arguments_schema(parameters: dict | None) -> dict:
    """The schema of a call's arguments: an object, closed unless its schema opens it."""
    schema = {"type": "object"} | (parameters or {})
    if not _OPEN_KEYWORDS & schema.keys():
        schema["additionalProperties"] = False
    return schema
