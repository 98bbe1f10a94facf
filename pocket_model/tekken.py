"""The base's byte-level BPE as a Tekken file, Mistral's tokenizer format since Nemo.

Both are byte-pair encodings over UTF-8; they differ in how the file is laid out. Tekken wants the
256 single bytes first and then every merge result in the order of its merge, under a block of
control tokens. The words stay the same, so the base's embedding rows only change places.
"""

import base64
import json
from pathlib import Path

import numpy as np
from transformers.convert_slow_tokenizer import bytes_to_unicode

# The control tokens of Mistral's V11 vocabulary, by id. Mistral Small 3.2 reserves a thousand ids
# for them; 40 are enough for the ones it uses, at its own numbers.
CONTROL_TOKENS = {
    0: "<unk>",
    1: "<s>",
    2: "</s>",
    3: "[INST]",
    4: "[/INST]",
    5: "[AVAILABLE_TOOLS]",
    6: "[/AVAILABLE_TOOLS]",
    7: "[TOOL_RESULTS]",
    8: "[/TOOL_RESULTS]",
    9: "[TOOL_CALLS]",
    10: "[IMG]",
    11: "<pad>",
    12: "[IMG_BREAK]",
    13: "[IMG_END]",
    14: "[PREFIX]",
    15: "[MIDDLE]",
    16: "[SUFFIX]",
    17: "[SYSTEM_PROMPT]",
    18: "[/SYSTEM_PROMPT]",
    19: "[TOOL_CONTENT]",
    32: "[ARGS]",
    33: "[CALL_ID]",
}
CONTROL_IDS = {token: rank for rank, token in CONTROL_TOKENS.items()}
CONTROL_COUNT = 40

# GPT-2's splitting pattern, by which the base was trained, except that every digit is a word of
# its own: the base's "Digits" step, folded into the pattern.
PATTERN = r"\p{N}|'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"

# Pictures: the longer side is shrunk to 112 pixels, so that one is at most 4 × 4 tokens.
# Patch and merge are those of Small 3.1 and 3.2, whose longer side is 1540.
IMAGE = {"image_patch_size": 14, "max_image_size": 112, "spatial_merge_size": 2}


def convert(base_tokenizer) -> tuple[dict, np.ndarray]:
    """A Tekken file's content, and where each of its tokens stands in the base's vocabulary.

    Args:
        base_tokenizer: the base's fast tokenizer, as `transformers.AutoTokenizer` reads it.

    Returns:
        The file as a dict, and an int array of shape (vocabulary,): the base's token id for each
        Tekken id, or -1 for the bytes and control tokens that the base does not have.

    Raises:
        ValueError: the base's vocabulary is not what a Tekken file can hold.
    """
    bpe = json.loads(base_tokenizer.backend_tokenizer.to_str())["model"]
    merged = ["".join(pair) for pair in bpe["merges"]]
    as_byte = {letter: byte for byte, letter in bytes_to_unicode().items()}
    letters = [letter for letter, _ in sorted(as_byte.items(), key=lambda pair: pair[1])]
    controls = {token.content for token in base_tokenizer.added_tokens_decoder.values()}
    # A merge that gives a token twice, or a token without a merge, would shift the ranks.
    if len(set(merged)) != len(merged) or set(bpe["vocab"]) - controls - set(merged) - set(letters):
        raise ValueError("The base's vocabulary is not made of single bytes and merges alone.")

    words = letters + merged
    vocab = []
    for rank, word in enumerate(words):
        token = bytes(as_byte[letter] for letter in word)
        text = token.decode("utf-8", errors="replace")
        shown = None if "\ufffd" in text else text
        encoded = base64.b64encode(token).decode("ascii")
        vocab.append({"rank": rank, "token_bytes": encoded, "token_str": shown})
    file = {
        "config": {
            "pattern": PATTERN,
            "num_vocab_tokens": len(vocab),
            "default_vocab_size": len(vocab) + CONTROL_COUNT,
            "default_num_special_tokens": CONTROL_COUNT,
            "version": "v11",
        },
        "vocab": vocab,
        "special_tokens": [
            {
                "rank": rank,
                "token_str": CONTROL_TOKENS.get(rank, f"<SPECIAL_{rank}>"),
                "is_control": True,
            }
            for rank in range(CONTROL_COUNT)
        ],
        "image": IMAGE,
    }
    places = [-1] * CONTROL_COUNT + [bpe["vocab"].get(word, -1) for word in words]
    return file, np.array(places)


def write(file: dict, folder: Path) -> Path:
    """Save a Tekken file's content as ``tekken.json`` in ``folder``."""
    path = folder / "tekken.json"
    path.write_text(json.dumps(file, ensure_ascii=False), encoding="utf-8")
    return path
