"""How fast the embedded model decodes in this process, without a server, in several ways.

The ways to compute it are the quantizations of the pocket server, and `EAGER`: transformers' own
model in bf16, which calls a module for each part of a layer.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterable

import pandas as pd
import torch
from transformers import DynamicCache, Mistral3ForConditionalGeneration
from transformers.utils import logging

from pocket_model.build import ensure_built
from pocket_model.progress import Progress
from pocket_model.server.decoder import Decoder

EAGER = "transformers, bf16"
PROMPT = list(range(1000, 1060))  # 60 tokens; which ones does not matter for the time
ROOM = 2000  # tokens

Step = Callable[[], torch.Tensor]


def measure(ways: Iterable[str], *, tokens: int = 12, rounds: int = 3) -> pd.DataFrame:
    """Decode with each way in turn, in every round.

    Returns:
        index: the ways; columns: `MB`, what is read of the weights for a token, and
        `tokens_per_s`, the median of the rounds.
    """
    steps = {way: _eager() if way == EAGER else _lean(way) for way in ways}
    rates: dict[str, list[float]] = {way: [] for way in steps}
    with (
        Progress("Timing a token", quiet_s=2, lines=False) as progress,
        torch.inference_mode(),
    ):
        for step, _ in steps.values():
            step()  # the first one may rearrange weights
        for number in range(rounds):
            progress.update(f"round {number + 1} of {rounds}", number / rounds)
            for way in random.sample(list(steps), len(steps)):
                start = time.perf_counter()
                for _ in range(tokens):
                    steps[way][0]()
                rates[way].append(tokens / (time.perf_counter() - start))
        rows = {
            way: [weight_bytes / 1e6, statistics.median(rates[way])]
            for way, (step, weight_bytes) in steps.items()
        }
    columns = ["MB", "tokens_per_s"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def _lean(quantization: str) -> tuple[Step, int]:
    built = ensure_built()
    decoder = Decoder(built / "nf4" if quantization == "nf4" else built, quantization)
    cache = decoder.key_values(ROOM)
    with torch.inference_mode():
        decoder.run(decoder.embed(PROMPT), [(cache, len(PROMPT))])

    def step() -> torch.Tensor:
        return decoder.logits(decoder.run(decoder.embed([PROMPT[0]]), [(cache, 1)]))

    return step, decoder.weight_bytes


def _eager() -> tuple[Step, int]:
    logging.disable_progress_bar()  # it would stay in a notebook's output
    model = Mistral3ForConditionalGeneration.from_pretrained(ensure_built(), dtype=torch.bfloat16)
    cache = DynamicCache(config=model.config.text_config)
    with torch.inference_mode():
        model(torch.tensor([PROMPT]), past_key_values=cache)
    text = model.model.language_model
    weight_bytes = sum(p.nbytes for p in text.layers.parameters()) + model.lm_head.weight.nbytes
    return lambda: model(torch.tensor([PROMPT[:1]]), past_key_values=cache).logits, weight_bytes
