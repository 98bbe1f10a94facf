"""TODO."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import ClassVar

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
    ContinuousBatchingLogitsProcessor,
    ContinuousBatchingLogitsProcessorList,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from pocket_model.server.engine import EngineError, Request
from pocket_model.server.sampling import Sampler, _only
from pocket_model.server.serial_engine import SerialEngine


class EachRequest(ContinuousBatchingLogitsProcessor):
    """Every request's own sampler in a continuous batch; `scores` is [requests, vocabulary].

    The engine's built-in per-request warpers know temperature and top-p, but draw all requests
    from one random stream, so that a seed would mean nothing.
    """

    supported_kwargs: ClassVar[dict[str, type]] = {"sampler": Sampler}
    ignored_kwargs: ClassVar[tuple[str, ...]] = ()

    def __init__(self):
        self._samplers: list[Sampler] = []

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        """Nothing to fill: the samplers travel as objects, not as numbers in a tensor."""
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list) -> torch.Tensor:
        """Called right before a step with the requests whose next token it will choose."""
        states = [request.state for request in requests_with_new_token]
        self._samplers = [state.logit_processor_kwargs["sampler"] for state in states]
        return torch.zeros(len(states), dtype=torch.int32)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        for row, sampler in enumerate(self._samplers):
            _only(scores, row, sampler.choose(scores[row]))
        return scores


# 4,096 tokens of cache shared by at most 16 requests: 252 MB in float32 (61 KB a token).
BATCH_REQUESTS = 16


PAGE_TOKENS = 64


CACHE_TOKENS = 4096


PREFILL_TOKENS = 512


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
