"""The pocket model's two engines: one request at a time, or a continuous batch.

Both give a request's tokens as an asynchronous stream and stop working on a request as soon as
its stream is closed. The work itself is transformers': `generate` and the continuous-batching
manager. Pictures pass through `generate` in both.
"""

import asyncio
import itertools
import queue
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    Mistral3ForConditionalGeneration,
    MistralForCausalLM,
    StoppingCriteriaList,
)
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessorList,
)

from helpers.pocket.sampling import EachRequest, OneRequest, Sampler

# 4,096 tokens of cache shared by at most 16 requests: 252 MB in float32 (61 KB a token).
BATCH_REQUESTS = 16
PAGE_TOKENS = 64
CACHE_TOKENS = 4096
PREFILL_TOKENS = 512


class EngineError(RuntimeError):
    """The engine failed on a request; the message carries its reason."""


@dataclass
class Request:
    """One prompt and its limits: token ids, tokens to generate, the end token, a sampler.

    `pictures` are float32 arrays of shape (3, height, width), in the order of their image tokens.
    """

    prompt: list[int]
    max_tokens: int
    end_token_id: int
    sampler: Sampler
    pictures: list[np.ndarray] = field(default_factory=list)


def load_model(
    folder: Path, quantization: str | None, batching: bool
) -> Mistral3ForConditionalGeneration:
    """Load the built model the way that suits this processor.

    bf16 halves the bytes a decoding step reads, but a CPU without bf16 instructions multiplies
    many rows at a time several times slower in it than in float32. There a batch runs in float32,
    and a single request reads bf16 weights and widens them for long prompts.

    Args:
        quantization: None, or "nf4" for the 4-bit folder that the build saved.
    """
    slow_bf16 = not _bf16_matmul_is_fast()
    dtype = torch.float32 if slow_bf16 and (batching or quantization) else torch.bfloat16
    model = Mistral3ForConditionalGeneration.from_pretrained(
        folder / quantization if quantization else folder, dtype=dtype, attn_implementation="sdpa"
    )
    if quantization:
        # The saved settings name the dtype of the machine that quantised.
        for layer in model.modules():
            if hasattr(layer, "compute_dtype"):
                layer.compute_dtype = dtype
    if slow_bf16 and dtype == torch.bfloat16:
        _widen_long_prompts(model)
    # transformers squeezes the first axis of the projected pictures. Where one picture of one token
    # is all there is, that axis is the token's: give it another to squeeze.
    model.model.multi_modal_projector.register_forward_hook(lambda _, __, tokens: tokens[None])
    return model.eval()


def _bf16_matmul_is_fast() -> bool:
    """Whether torch multiplies bf16 through oneDNN here; its fallback is about six times slower
    than float32 for a prompt of 256 tokens (measured on a CPU with AVX2 and no AVX-512).

    Asked, not timed: on a busy machine a stopwatch gives both answers.
    """
    onednn = torch.backends.mkldnn.is_available()
    return onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _widen_long_prompts(model: torch.nn.Module, at_least_rows: int = 8) -> None:
    """Multiply in float32 when a linear layer meets many rows, keeping its weights in bf16.

    No linear layer of these models has a bias.
    """

    def widened(layer: torch.nn.Linear):
        def forward(rows: torch.Tensor) -> torch.Tensor:
            if rows.numel() // rows.shape[-1] < at_least_rows:
                return torch.nn.functional.linear(rows, layer.weight)
            return torch.nn.functional.linear(rows.float(), layer.weight.float()).to(rows.dtype)

        return forward

    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.forward = widened(layer)


class SerialEngine:
    """One request at a time through `generate`, first come, first served."""

    broken = False  # an error here ends one request only

    def __init__(self, model: Mistral3ForConditionalGeneration):
        self._model = model
        self._waiting: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True, name="serial-engine").start()

    async def stream(self, request: Request) -> AsyncIterator[int]:
        """Token ids as they are made, the end token included. Raises `EngineError`."""
        tokens = _Tokens(asyncio.get_running_loop())
        self._waiting.put((request, tokens))
        try:
            while (token := await tokens.next()) is not None:
                yield token
        finally:
            tokens.closed = True

    def _work(self) -> None:
        while True:
            request, tokens = self._waiting.get()
            if tokens.closed:
                continue
            try:
                self._generate(request, tokens)
                tokens.finish()
            except Exception as error:  # whatever went wrong must reach the client, not die here
                tokens.fail(error)

    def _generate(self, request: Request, tokens: "_Tokens") -> None:
        settings = GenerationConfig(
            max_new_tokens=request.max_tokens,
            do_sample=False,  # the request's sampler decides; see sampling.py
            eos_token_id=request.end_token_id,
            pad_token_id=request.end_token_id,
        )
        prompt = torch.tensor([request.prompt])
        self._model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            **side_by_side(request.pictures, self._model.model.vision_tower.dtype),
            generation_config=settings,
            logits_processor=LogitsProcessorList([OneRequest(request.sampler)]),
            streamer=tokens,
            stopping_criteria=StoppingCriteriaList([lambda ids, scores: tokens.closed]),
        )


def side_by_side(pictures: list[np.ndarray], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Pictures of any sizes as `generate` takes them: padded to the largest, the sizes beside."""
    if not pictures:
        return {}
    sizes = torch.tensor([picture.shape[1:] for picture in pictures])
    height, width = sizes.amax(dim=0).tolist()
    pixels = torch.zeros(len(pictures), 3, height, width, dtype=dtype)
    for canvas, picture in zip(pixels, pictures, strict=True):
        canvas[:, : picture.shape[1], : picture.shape[2]] = torch.from_numpy(picture)
    return {"pixel_values": pixels, "image_sizes": sizes}


def language_part(model: Mistral3ForConditionalGeneration) -> MistralForCausalLM:
    """The text model with its head, as a model of its own over the very same weights."""
    with torch.device("meta"):  # its own weights would only be thrown away
        text = MistralForCausalLM(model.config.text_config)
    text.model, text.lm_head = model.model.language_model, model.lm_head
    return text


class BatchEngine:
    """Many requests at once through transformers' continuous-batching manager.

    The manager knows text only, so requests with pictures go one at a time beside the batch.

    `broken` turns True when the manager's thread has ended: this engine answers no more.
    """

    def __init__(self, model: Mistral3ForConditionalGeneration):
        from transformers.generation import ContinuousBatchingConfig

        self._beside = SerialEngine(model)
        self._ids = itertools.count()
        self._manager = language_part(model).init_continuous_batching(
            generation_config=GenerationConfig(do_sample=False, eos_token_id=-1),
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=PAGE_TOKENS,
                num_blocks=CACHE_TOKENS // PAGE_TOKENS,
                max_batch_tokens=PREFILL_TOKENS,
                max_requests_per_batch=BATCH_REQUESTS,
            ),
        )
        processors = ContinuousBatchingLogitsProcessorList(LogitsProcessorList([EachRequest()]))
        processors.tensors_required = 1  # counted only for processors the library itself converts
        self._manager.logit_processor = processors
        self._manager.start()
        self.broken = False

    async def stream(self, request: Request) -> AsyncIterator[int]:
        """Token ids as they are made, the end token included. Raises `EngineError`."""
        if request.pictures:
            async with aclosing(self._beside.stream(request)) as tokens:
                async for token in tokens:
                    yield token
            return
        request_id = f"request-{next(self._ids)}"
        outputs: asyncio.Queue = asyncio.Queue()
        self._manager.register_result_handler(request_id, outputs.put_nowait)
        sent, finished = 0, False
        try:
            accepted = self._manager.add_request(
                request.prompt,
                request_id=request_id,
                max_new_tokens=request.max_tokens,
                eos_token_id=request.end_token_id,
                streaming=True,
                sampler=request.sampler,
            )
            if accepted is None:  # its thread has ended, which it does on any error of its own
                finished = self.broken = True
                raise EngineError("the batching engine has failed; the server ends, ask again")
            while not finished:
                output = await outputs.get()
                if output.error:
                    self.broken = not self._manager.is_running()
                    raise EngineError(output.error)
                # Each output holds all tokens so far; take what is new.
                finished, tokens = output.is_finished(), list(output.generated_tokens)
                for token in tokens[sent:]:
                    yield token
                sent = len(tokens)
        finally:
            if not finished:
                self._manager.cancel_request(request_id)
            self._manager.output_router.result_handlers.pop(request_id, None)


class _Tokens:
    """Carries tokens from the engine's thread to the event loop (a transformers streamer)."""

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self._loop = loop
        self._queue: asyncio.Queue = asyncio.Queue()
        self._prompt_seen = False
        self.closed = False

    async def next(self) -> int | None:
        """The next token, or None at the end. Raises `EngineError`."""
        item = await self._queue.get()
        if isinstance(item, EngineError):
            raise item
        return item

    def put(self, token_ids: torch.Tensor) -> None:
        if self._prompt_seen:  # the first call carries the prompt
            self._send(int(token_ids))
        self._prompt_seen = True

    def end(self) -> None:
        """Called by `generate`; `finish` or `fail` ends the stream once it has returned."""

    def finish(self) -> None:
        self._send(None)

    def fail(self, error: Exception) -> None:
        self._send(EngineError(f"{type(error).__name__}: {error}"))

    def _send(self, item: int | EngineError | None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)
