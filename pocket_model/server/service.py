"""From a chat request to the engine, and from the engine's tokens to the events of an answer."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from pocket_model.build import (
    DEFAULT_QUANTIZATION,
    DEFAULT_TEMPERATURE,
    MODEL_ID,
    Quantization,
)
from pocket_model.chat_format import ChatFormat, FormatError, Prompt
from pocket_model.pictures import ImageError, PictureReader
from pocket_model.reply import ReplyEvent, ReplyReader, TextPiece
from pocket_model.server.decoder import Decoder
from pocket_model.server.engine import MAX_REQUESTS, Engine
from pocket_model.server.errors import ApiError, shortened
from pocket_model.server.events import EngineRequest, Failed, Prefilled, Token
from pocket_model.server.grammar import Grammars, Guide
from pocket_model.server.protocol import ChatRequest, NamedTool
from pocket_model.server.sampling import Sampler
from pocket_model.server.schemas import SchemaError
from pocket_model.vision import VisionEncoder


@dataclass(frozen=True)
class Finished:
    """The end of an answer.

    Attributes:
        reason: OpenAI's finish reason: "stop", "length" or "tool_calls".
        usage: OpenAI's token counts.
    """

    reason: str
    usage: dict


@dataclass(frozen=True)
class Counted:
    """Another token was generated; what it adds to the text comes next, if anything.

    Attributes:
        usage: OpenAI's token counts so far.
    """

    usage: dict


@dataclass(frozen=True)
class Likely:
    """How likely the model found a token of the text; what it adds to the text comes next, if any.

    Attributes:
        entry: of OpenAI's `logprobs.content`.
    """

    entry: dict


AnswerEvent = ReplyEvent | Counted | Likely | Finished | Failed


class ChatService:
    """A loaded model with its chat format and its engine.

    Attributes:
        context: most tokens of a prompt and its answer together.
        weight_bytes: what a decoding step reads of the weights.
        token_bytes: of a token's keys and values.
        usage: tokens of all requests so far.
    """

    def __init__(
        self,
        folder: Path,
        quantization: Quantization = DEFAULT_QUANTIZATION,
        batching: bool = False,
    ):
        self._format = ChatFormat(folder / "tekken.json")
        self._grammars = Grammars(self._format)
        source = folder / "nf4" if quantization == "nf4" else folder
        # In a thread that ends. Every thread that computes keeps helpers of its own, and with
        # more of them than cores, libgomp lets none wait awake: half the speed.
        with ThreadPoolExecutor(1) as loading:
            decoder = loading.submit(Decoder, source, quantization).result()
        self.engine = Engine(decoder, VisionEncoder(folder), MAX_REQUESTS if batching else 1)
        self.context = self.engine.context
        self.weight_bytes, self.token_bytes = decoder.weight_bytes, decoder.token_bytes
        self.usage = {"prompt_tokens": 0, "completion_tokens": 0}

    def to_engine_request(self, body: ChatRequest) -> EngineRequest:
        """The engine's request for a body. Raises `ApiError`."""
        if body.model != MODEL_ID:
            name = shortened(body.model)
            message = f"There is no model {name!r}; this server has {MODEL_ID!r}."
            raise ApiError(404, message, "model", "model_not_found")
        prompt = self._encode(body)
        max_tokens = min(body.token_limit, self.context - len(prompt.ids))
        # vLLM's extras for load generators. Stop strings still end the answer, and so does a
        # grammar that permits nothing more.
        guide = self._guide(body, max_tokens if body.ignore_eos else body.min_tokens)
        temperature = DEFAULT_TEMPERATURE if body.temperature is None else body.temperature
        return EngineRequest(
            prompt=prompt.ids,
            max_tokens=max_tokens,
            end_token_id=self._format.end_token_id,
            sampler=Sampler(
                temperature,
                body.top_p,
                body.seed,
                guide,
                logprobs=body.top_logprobs if body.logprobs else None,
            ),
            pictures=prompt.pictures,
        )

    def _encode(self, body: ChatRequest) -> Prompt:
        # First a lower limit: to tokenize a text that is far too long takes much time and memory.
        least = body.prompt_characters // self._format.longest_token
        if least >= self.context:
            raise self._too_long(f"at least {least}")
        try:
            prompt = self._format.encode(_read_messages(body), body.prompt_tools)
        except FormatError as error:
            raise ApiError(400, f"messages: {shortened(str(error), 300)}", "messages") from error
        if len(prompt.ids) >= self.context:
            raise self._too_long(str(len(prompt.ids)))
        return prompt

    def _too_long(self, tokens: str) -> ApiError:
        message = (
            f"The prompt has {tokens} tokens. This model's maximum context length is "
            f"{self.context} tokens, prompt and answer together. Shorten the messages."
        )
        return ApiError(400, message, "messages", "context_length_exceeded")

    def _guide(self, body: ChatRequest, min_tokens: int) -> Guide:
        # A named tool is called exactly once, as OpenAI's guide to function calling says.
        one_call = body.parallel_tool_calls is False or isinstance(body.tool_choice, NamedTool)
        try:
            return self._grammars.guide(
                body.callable_functions,
                must_call=body.must_call,
                parallel=not one_call,
                schema=body.json_schema,
                used_ids=body.call_ids,
                min_tokens=min_tokens,
            )
        except SchemaError as error:
            param = "response_format.json_schema.schema" if body.json_schema else "tools"
            if error.tool:
                names = [tool.function.name for tool in body.tools]
                param = f"tools.{names.index(error.tool)}.function.parameters"
            message = f"{param}: the schema cannot be enforced: {error}"
            raise ApiError(400, message, param) from error

    def _log_probability(self, token: Token) -> dict:
        """An entry of OpenAI's `logprobs.content`."""

        def entry(token_id: int, logprob: float) -> dict:
            data = list(self._format.token_bytes(token_id))
            return {"token": self._format.token_text(token_id), "logprob": logprob, "bytes": data}

        likely = token.log_probability
        others = [entry(*each) for each in likely.likeliest]
        return entry(token.id, likely.own) | {"top_logprobs": others}

    async def stream_reply(
        self,
        request: EngineRequest,
        stops: list[str],
        *,
        prefix: str = "",
        count_tokens: bool = False,
    ) -> AsyncIterator[AnswerEvent]:
        """The events of one answer, as they are generated; `Finished` or `Failed` is the last.

        Args:
            stops: strings that end the text; in a call's arguments they have no effect.
            prefix: the answer's beginning, which is in the prompt; it comes with the first token.
            count_tokens: whether `Counted` comes with each token.
        """
        reader = ReplyReader(self._format, stops)
        usage = {"prompt_tokens": len(request.prompt), "completion_tokens": 0}
        reason, cached_tokens = "length", 0
        try:
            async with aclosing(self.engine.stream(request)) as events:
                async for event in events:
                    match event:
                        case Prefilled():
                            cached_tokens = event.cached_tokens
                        case Failed():
                            yield event
                            return
                        case Token():
                            if prefix and not usage["completion_tokens"]:
                                yield TextPiece(prefix)
                            usage["completion_tokens"] += 1
                            if count_tokens:
                                yield Counted(usage | {"total_tokens": sum(usage.values())})
                            if event.id == request.end_token_id:
                                reason = "tool_calls" if reader.has_calls else "stop"
                                break
                            before, pieces = reader.in_text, reader.add(event.id)
                            if event.log_probability and before and reader.in_text:
                                yield Likely(self._log_probability(event))
                            for piece in pieces:
                                yield piece
                            if reader.stopped:
                                reason = "stop"
                                break
        finally:  # tokens of an answer whose client has left count too
            for name, tokens in usage.items():
                self.usage[name] += tokens
        for piece in reader.rest():
            yield piece
        usage["total_tokens"] = sum(usage.values())
        if cached_tokens:
            usage["prompt_tokens_details"] = {"cached_tokens": cached_tokens}
        yield Finished(reason, usage)


def _read_messages(body: ChatRequest) -> list[dict]:
    """The messages as `ChatFormat.encode` takes them. Raises `ApiError` for a bad picture."""
    pictures = PictureReader()
    messages = []
    for number, message in enumerate(body.messages):
        try:
            messages.append(message.as_dict(pictures.read))
        except ImageError as error:
            where = f"messages.{number}"
            raise ApiError(400, f"{where}.{error}", where, "image") from error
    return messages
