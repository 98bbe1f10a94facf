"""The labels of training examples, token by token: what is learned, and what is only read."""

from collections.abc import Mapping

import pandas as pd
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

from helpers.finetune.labels import NOT_LEARNED, Example, end_id, faults
from helpers.widgets.explorer import Explorer
from helpers.widgets.tokens import piece


def explore(examples: Mapping[str, Example], tokenizer: MistralTokenizer) -> Explorer:
    """Look at examples with their labels.

    Args:
        examples: what to look at, by name.
        tokenizer: the one that made them.
    """
    tekken = tokenizer.instruct_tokenizer.tokenizer
    shown, rows = {}, {}
    for name, example in examples.items():
        pairs = zip(example.ids, example.labels, strict=True)
        tokens = [
            piece(tekken, token) | {"learned": label != NOT_LEARNED} for token, label in pairs
        ]
        found = faults(example, end_id(tokenizer))
        shown[name] = {"tokens": tokens, "faults": found}
        learned = "".join(token["text"] for token in tokens if token["learned"])
        rows[name] = {
            "tokens": len(tokens),
            "learned": example.learned,
            "what is learned": learned or "(nothing)",
            "fault": " ".join(found) or "none found",
        }
    return Explorer("Labels", pd.DataFrame(rows).T, {"examples": shown}, "labels.js")
