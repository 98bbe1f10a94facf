"""TODO."""

import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

from pocket_model import loading
from pocket_model.build import DEFAULT_TEMPERATURE, MODEL_ID
from pocket_model.chat_format import ChatFormat, FormatError
from pocket_model.pictures import PictureReader
from pocket_model.reply import ReplyReader, StopText
from pocket_model.server import batch_engine, engine
from pocket_model.server import serial_engine as engines
from pocket_model.server.grammar import Grammars, SchemaError
from pocket_model.server.protocol import ChatRequest
from pocket_model.server.sampling import Sampler


class ApiError(Exception):
    """An error in OpenAI's form: HTTP status, message, the parameter at fault, a code."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str = "invalid"):
        super().__init__(message)
        self.status = status
        self.body = {
            "error": {
                "message": message,
                "type": "server_error" if status >= 500 else "invalid_request_error",
                "param": param,
                "code": code,
            }
        }


class Pocket:
    """A loaded model, its format and its engine, and the count of tokens served."""

    def __init__(self, folder: Path, quantization: str | None = None, batching: bool = False):
        model = loading.load_model(folder, quantization, batching)
        self.format = ChatFormat(folder)
        self.grammars = Grammars(self.format)
        threading.Thread(target=self.grammars.prepare, daemon=True).start()
        self.context = model.config.text_config.max_position_embeddings
        self.engine = (batch_engine.BatchEngine if batching else engines.SerialEngine)(model)
        self.usage = {"prompt_tokens": 0, "completion_tokens": 0}
        # A batch's cache is shared, so one request may fill no more than all of it.
        if batching:
            self.context = min(self.context, batch_engine.CACHE_TOKENS)

    def prepare(self, body: ChatRequest, constrain: bool = True) -> engine.Request:
        """The engine's request for a body. Raises `ApiError`.

        Args:
            constrain: False leaves calls and JSON to the model, to see what it has learnt.
        """
        if body.model != MODEL_ID:
            message = f"The model {body.model!r} is not here; this server has {MODEL_ID!r}."
            raise ApiError(404, message, "model", "model_not_found")
        reader = PictureReader()
        messages = []
        for place, message in enumerate(body.messages):
            try:
                messages.append(message.as_dict(reader))
            except ValueError as error:
                raise ApiError(400, f"messages.{place}: {error}", "messages", "image") from error
        try:
            # Told of tools that it may not call, the model would write a call in plain words.
            offered = [] if body.tool_choice == "none" else body.tools or []
            tools = [tool.model_dump() for tool in offered]
            prompt = self.format.encode(messages, tools)
            guide = self.grammars.guide(
                body.callable_functions,
                must_call=body.must_call,
                parallel=body.parallel_tool_calls is not False,
                schema=body.schema_wanted,
                taken_ids=body.call_ids,
                constrain=constrain,
            )
        except FormatError as error:
            raise ApiError(400, f"messages: {error}", "messages") from error
        except SchemaError as error:
            where = "tools" if body.schema_wanted is None else "response_format"
            raise ApiError(400, f"{where}: {error}", where) from error
        if len(prompt.ids) + 1 > self.context:
            message = (
                f"The prompt has {len(prompt.ids)} tokens, and the context holds {self.context}, "
                "the answer included. Shorten the messages."
            )
            raise ApiError(400, message, "messages", "context_length_exceeded")
        temperature = DEFAULT_TEMPERATURE if body.temperature is None else body.temperature
        return engine.Request(
            prompt=prompt.ids,
            max_tokens=min(body.token_limit, self.context - len(prompt.ids)),
            end_token_id=self.format.end_token_id,
            sampler=Sampler(temperature, body.top_p, body.seed, guide),
            pictures=prompt.pictures,
        )

    async def answer(self, request: engine.Request, stops: list[str]) -> AsyncIterator[dict]:
        """Events of one answer, in the order in which they are made.

        `{"text": str}`, `{"call": {"id", "name"}}` followed by `{"arguments": str}` pieces, and
        last `{"finish_reason": str, "usage": dict}`. Stop strings end text, never a call.
        """
        reader, text = ReplyReader(self.format), StopText(stops)
        usage = {"prompt_tokens": len(request.prompt), "completion_tokens": 0}
        reason = "length"
        try:
            async with aclosing(self.engine.stream(request)) as tokens:
                async for token in tokens:
                    usage["completion_tokens"] += 1
                    if token == request.end_token_id:
                        reason = "tool_calls" if reader.calls else "stop"
                        break
                    event = reader.add(token)
                    if "text" in event:
                        event["text"] = text.add(event["text"])
                    elif "call" in event and (rest := text.rest()):
                        yield {"text": rest}
                    if any(event.values()):
                        yield event
                    if text.hit:
                        reason = "stop"
                        break
        finally:  # what was made for a client that left counts too
            for name, tokens_used in usage.items():
                self.usage[name] += tokens_used
        if request.sampler.guide.error:
            raise engine.EngineError(request.sampler.guide.error)
        if rest := text.rest():
            yield {"text": rest}
        usage["total_tokens"] = sum(usage.values())
        if request.reused:
            usage["prompt_tokens_details"] = {"cached_tokens": request.reused}
        yield {"finish_reason": reason, "usage": usage}
