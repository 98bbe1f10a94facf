"""The engine for many requests at once, over transformers' continuous-batching manager."""

import asyncio
import itertools
from collections.abc import AsyncIterator
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
from transformers.generation import ContinuousBatchingConfig
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessor,
    ContinuousBatchingLogitsProcessorList,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from pocket_model.server.engine import EngineEvent, EngineRequest, Failed, Prefilled, Token
from pocket_model.server.grammar import only_token
from pocket_model.server.sampling import Sampler
from pocket_model.server.serial_engine import SerialEngine

# 4,096 tokens of cache, shared by at most 16 requests: 252 MB in float32 (61 KB a token).
MAX_REQUESTS = 16
PAGE_TOKENS = 64
CACHE_TOKENS = 4096
PREFILL_TOKENS = 512
PER_REQUEST_ATTENTION = "sdpa_per_request"


class PerRequestSampling(ContinuousBatchingLogitsProcessor):
    """Gives every request in a batch its own sampler.

    The library's own logits processors know temperature and top-p of each request. But they draw
    for all requests from one random stream, so that a seed would have no meaning.
    """

    supported_kwargs: ClassVar[dict[str, type]] = {"sampler": Sampler}
    ignored_kwargs: ClassVar[tuple[str, ...]] = ()

    def __init__(self):
        self._samplers: list[Sampler] = []

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        """Fill nothing in: the samplers are passed as objects, not as numbers in a tensor."""
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list) -> torch.Tensor:
        """Called before a step with the requests whose next token it will choose."""
        states = [request.state for request in requests_with_new_token]
        self._samplers = [state.logit_processor_kwargs["sampler"] for state in states]
        return torch.zeros(len(states), dtype=torch.int32)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """Sample from `scores`, shape (requests, vocabulary), and leave only those tokens."""
        for row, sampler in enumerate(self._samplers):
            scores[row] = only_token(scores[row], sampler.sample(scores[row]))
        return scores


def _per_request_attention(module, query, key, value, attention_mask, *, cache=None, **options):
    """transformers' `sdpa`, for one request of the batch after the other.

    With one mask for all, the order of a request's sums would depend on the other requests. So
    would their rounding.
    """
    if cache is None:  # a request of the image engine
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    key, value = cache.update(key, value, module.layer_idx, options)
    query_lengths = options["cu_seq_lens_q"].diff().tolist()
    key_lengths = options["cu_seq_lens_k"].diff().tolist()
    outputs = []
    for queries, keys, values in zip(
        query.split(query_lengths, dim=2),
        key.split(key_lengths, dim=2),
        value.split(key_lengths, dim=2),
        strict=True,
    ):
        new, seen = queries.shape[2], keys.shape[2]
        visible = torch.ones(new, seen, dtype=torch.bool).tril(seen - new)[None, None]
        mask = None if new == 1 else visible
        output, _ = sdpa_attention_forward(
            module, queries, keys, values, mask, scaling=options["scaling"]
        )
        outputs.append(output)
    return torch.cat(outputs, dim=1), None


AttentionInterface.register(PER_REQUEST_ATTENTION, _per_request_attention)
AttentionMaskInterface.register(PER_REQUEST_ATTENTION, lambda *_, **__: None)


def as_causal_lm(model: Mistral3ForConditionalGeneration) -> MistralForCausalLM:
    """The text model with its head, as a model of its own that shares the weights."""
    with torch.device("meta"):  # no memory for weights that are replaced at once
        causal_lm = MistralForCausalLM(model.config.text_config)
    causal_lm.model, causal_lm.lm_head = model.model.language_model, model.lm_head
    return causal_lm


class BatchEngine:
    """Many requests at once.

    The library's manager accepts text only, so requests with pictures go to an engine of their
    own, one at a time.

    A request's logits do not depend on the other requests in the batch: in bfloat16 they are
    equal to the bit, in float32 except for rounding. There are two exceptions. Prompts of more
    than `PREFILL_TOKENS` together are divided to fit a step, and NF4 layers multiply as
    bitsandbytes does.

    `broken` turns True when the manager's thread has ended: this engine answers no more.
    """

    def __init__(self, model: Mistral3ForConditionalGeneration):
        self._image_engine = SerialEngine(model)
        self._request_numbers = itertools.count()
        self._manager = as_causal_lm(model).init_continuous_batching(
            generation_config=GenerationConfig(do_sample=False, eos_token_id=-1),
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=PAGE_TOKENS,
                num_blocks=CACHE_TOKENS // PAGE_TOKENS,
                max_batch_tokens=PREFILL_TOKENS,
                max_requests_per_batch=MAX_REQUESTS,
            ),
        )
        # Set afterwards: the manager accepts no attention that it does not know.
        self._manager.model.set_attn_implementation(PER_REQUEST_ATTENTION)
        sampling = LogitsProcessorList([PerRequestSampling()])
        processors = ContinuousBatchingLogitsProcessorList(sampling)
        processors.tensors_required = 1  # the library counts only those that it converts
        self._manager.logit_processor = processors
        self._manager.start()
        self.broken = False

    def stream(self, request: EngineRequest) -> AsyncIterator[EngineEvent]:
        """The events of a request; closing the stream stops the work on it."""
        return (self._image_engine.stream if request.pictures else self._stream_text)(request)

    def close(self) -> None:
        """End the manager's thread."""
        self._manager.stop()

    async def _stream_text(self, request: EngineRequest) -> AsyncIterator[EngineEvent]:
        request_id = f"request-{next(self._request_numbers)}"
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
            if accepted is None:  # the manager's thread ends on any error of its own
                finished = self.broken = True
                yield Failed("the batching engine has failed and this server ends; ask again")
                return
            yield Prefilled(cached_tokens=0)
            while not finished:
                output = await outputs.get()
                if output.error:
                    self.broken = not self._manager.is_running()
                    yield Failed(output.error)
                    return
                if request.sampler.error:
                    yield Failed(request.sampler.error, status=400)
                    return
                # Each output holds all tokens so far, and its list may grow meanwhile.
                finished, tokens = output.is_finished(), list(output.generated_tokens)
                for token in tokens[sent:]:
                    yield Token(token)
                sent = len(tokens)
        finally:
            if not finished:
                self._manager.cancel_request(request_id)
            self._manager.output_router.result_handlers.pop(request_id, None)
