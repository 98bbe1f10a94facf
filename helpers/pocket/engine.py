"""The pocket model's two engines: one request at a time, or a continuous batch.

Both give a request's tokens as an asynchronous stream and stop working on a request as soon as
its stream is closed. A batch is transformers' continuous-batching manager. One request at a time
is a loop of its own over transformers' model and cache: `generate` has no place for tokens that
need no model, and of those a tool call is mostly made. Pictures pass through that loop in both.
"""

import asyncio
import itertools
import queue
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    GenerationConfig,
    LogitsProcessorList,
    Mistral3ForConditionalGeneration,
    MistralForCausalLM,
)
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessorList,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from helpers.pocket.prefixes import Prefixes, placed
from helpers.pocket.sampling import EachRequest, Sampler

# 4,096 tokens of cache shared by at most 16 requests: 252 MB in float32 (61 KB a token).
BATCH_REQUESTS = 16
PAGE_TOKENS = 64
CACHE_TOKENS = 4096
PREFILL_TOKENS = 512

AT_ONCE = 64  # tokens of an answer between two looks at whether somebody still waits for it


class EngineError(RuntimeError):
    """The engine failed on a request; the message carries its reason."""


@dataclass
class Request:
    """One prompt and its limits: token ids, tokens to generate, the end token, a sampler.

    `pictures` are float32 arrays of shape (3, height, width), in the order of their image tokens.
    `reused` is set by the engine: how many tokens of the prompt it had from an earlier one.
    """

    prompt: list[int]
    max_tokens: int
    end_token_id: int
    sampler: Sampler
    pictures: list[np.ndarray] = field(default_factory=list)
    reused: int = 0


def load_model(
    folder: Path, quantization: str | None, batching: bool
) -> Mistral3ForConditionalGeneration:
    """Load the built model the way that suits this processor.

    bf16 halves the bytes a decoding step reads, but a CPU without bf16 instructions multiplies
    many rows at a time several times slower in it than in float32. There a batch runs in float32,
    and a single request reads bf16 weights, widens them for many rows and attends in float32.

    Args:
        quantization: None, or "nf4" for the 4-bit folder that the build saved.
    """
    slow_bf16 = not bf16_matmul_is_fast()
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
        _widen_for_many_rows(model)
        model.set_attn_implementation(WIDE_ATTENTION)
    if batching and dtype == torch.bfloat16:
        _pair_single_rows(model)
    # transformers squeezes the first axis of the projected pictures. Where one picture of one token
    # is all there is, that axis is the token's: give it another to squeeze.
    model.model.multi_modal_projector.register_forward_hook(lambda _, __, tokens: tokens[None])
    return model.eval()


def bf16_matmul_is_fast() -> bool:
    """Whether torch multiplies bf16 through oneDNN here. Its fallback multiplies many rows several
    times slower than float32 (measured: `pocket-bf16-prompt` in data/measurements).

    Asked, not timed: on a busy machine a stopwatch gives both answers.
    """
    onednn = torch.backends.mkldnn.is_available()
    return onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _widen_for_many_rows(model: torch.nn.Module, at_least_rows: int = 5) -> None:
    """Multiply in float32 when a linear layer meets many rows, keeping its weights in bf16.

    The fallback takes as long for each row as for the first, and widening as long as for four.
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


def _pair_single_rows(model: torch.nn.Module) -> None:
    """Multiply a row that comes alone as one of two: alone, oneDNN may add it up in another order.

    Two rows or more it multiplies alike, so that a request's numbers do not hang on its company.
    """

    def paired(layer: torch.nn.Linear):
        def forward(rows: torch.Tensor) -> torch.Tensor:
            if rows.numel() > rows.shape[-1]:
                return torch.nn.functional.linear(rows, layer.weight)
            pair = rows.expand(*rows.shape[:-2], 2, rows.shape[-1])
            return torch.nn.functional.linear(pair, layer.weight)[..., :1, :]

        return forward

    for layer in model.modules():
        if type(layer) is torch.nn.Linear:
            layer.forward = paired(layer)


WIDE_ATTENTION = "sdpa_in_float32"


def _attend_in_float32(module, query, key, value, attention_mask, **options):
    """transformers' `sdpa`, in float32: torch's kernel for bf16 is several times slower here
    (measured: `pocket-bf16-attention`)."""
    if attention_mask is not None and attention_mask.is_floating_point():
        attention_mask = attention_mask.float()
    output, weights = sdpa_attention_forward(
        module, query.float(), key.float(), value.float(), attention_mask, **options
    )
    return output.to(query.dtype), weights


AttentionInterface.register(WIDE_ATTENTION, _attend_in_float32)
AttentionMaskInterface.register(WIDE_ATTENTION, sdpa_mask)

EACH_ALONE = "sdpa_each_request_alone"


def _attend_each_alone(module, query, key, value, attention_mask, *, cache=None, **options):
    """transformers' `sdpa`, in a batch for one request after the other.

    In one piece, behind a mask, a request's sums run in an order that hangs on its company, and
    so do their roundings.
    """
    if cache is None:  # a request beside the batch
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    key, value = cache.update(key, value, module.layer_idx, options)
    outputs = []
    for (query_start, query_end), (key_start, key_end) in zip(
        itertools.pairwise(options["cu_seq_lens_q"].tolist()),
        itertools.pairwise(options["cu_seq_lens_k"].tolist()),
        strict=True,
    ):
        new, seen = query_end - query_start, key_end - key_start
        visible = torch.ones(new, seen, dtype=torch.bool).tril(seen - new)
        output, _ = sdpa_attention_forward(
            module,
            query[:, :, query_start:query_end],
            key[:, :, key_start:key_end],
            value[:, :, key_start:key_end],
            None if new == 1 else visible[None, None],
            scaling=options["scaling"],
        )
        outputs.append(output)
    return torch.cat(outputs, dim=1), None


AttentionInterface.register(EACH_ALONE, _attend_each_alone)
AttentionMaskInterface.register(EACH_ALONE, lambda *_, **__: None)


class SerialEngine:
    """One request at a time, first come, first served.

    What an earlier prompt began with is not computed again; see `prefixes`.
    """

    broken = False  # an error here ends one request only

    def __init__(self, model: Mistral3ForConditionalGeneration):
        self._model = model
        self._inputs = partial(side_by_side, dtype=model.model.vision_tower.dtype)
        self._prefixes = Prefixes(model, self._inputs)
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
                self._answer(request, tokens)
                tokens.finish()
            except Exception as error:  # whatever went wrong must reach the client, not die here
                tokens.fail(error)

    @torch.inference_mode()
    def _answer(self, request: Request, tokens: "_Tokens") -> None:
        cache, pictures, request.reused = self._prefixes.begin(request.prompt, request.pictures)
        seen = self._inputs(pictures)
        new, left = request.prompt[cache.get_seq_length() :], request.max_tokens
        while True:
            output = self._model(
                **placed(new, cache.get_seq_length()),
                past_key_values=cache,
                logits_to_keep=1,
                **seen,
            )
            most = min(left, AT_ONCE)
            new, seen = request.sampler.go_on(output.logits[0, -1].float(), most), {}
            for token in new:
                tokens.put(token)
                left -= 1
                if token == request.end_token_id or not left or tokens.closed:
                    return


def side_by_side(pictures: list[np.ndarray], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Pictures of any sizes as the model takes them: padded to the largest, the sizes beside."""
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

    A request's numbers do not hang on its company: to the bit where the batch is in bfloat16, to a
    rounding in float32. (Two exceptions: prompts of more than `PREFILL_TOKENS` together are cut to
    fit a step, and NF4 layers multiply as bitsandbytes does.)

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
        # Only now: the manager takes no name that it does not know, and would make masks.
        self._manager.model.set_attn_implementation(EACH_ALONE)
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
    """Carries tokens from the engine's thread to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self._loop = loop
        self._queue: asyncio.Queue = asyncio.Queue()
        self.closed = False

    async def next(self) -> int | None:
        """The next token, or None at the end. Raises `EngineError`."""
        item = await self._queue.get()
        if isinstance(item, EngineError):
            raise item
        return item

    def finish(self) -> None:
        self.put(None)

    def fail(self, error: Exception) -> None:
        self.put(EngineError(f"{type(error).__name__}: {error}"))

    def put(self, item: int | EngineError | None) -> None:
        """A token, what went wrong, or None for the end."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)
