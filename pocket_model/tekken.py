"""The base's byte-level BPE as a Tekken file, Mistral's tokenizer format since Nemo.

Both are byte-pair encodings over UTF-8; they differ in the layout of the file. A Tekken file
begins with a block of control tokens and the 256 single bytes. The results of the merges follow
in their order. The tokens stay the same, so the base's embedding rows only change their order.
"""

import base64
import json
from pathlib import Path

import numpy as np

# The control tokens of Mistral's V11 vocabulary: id, name, and tokens of the base. A control
# token's embedding begins as the mean of theirs (all are trained afterwards). Mistral Small 3.2
# reserves a thousand ids; 40 are enough for the tokens that it uses, under the same ids.
CONTROL_TABLE = [
    (0, "<unk>", ()),
    (1, "<s>", ("<|endoftext|>",)),
    (2, "</s>", ("<|im_end|>",)),
    (3, "[INST]", ("<|im_start|>", "user")),
    (4, "[/INST]", ("<|im_end|>", "<|im_start|>", "assistant")),
    (5, "[AVAILABLE_TOOLS]", ("Ġtools",)),
    (6, "[/AVAILABLE_TOOLS]", ("<|im_end|>",)),
    (7, "[TOOL_RESULTS]", ("Ġresult",)),
    (8, "[/TOOL_RESULTS]", ("<|im_end|>",)),
    (9, "[TOOL_CALLS]", ("Ġcall",)),
    (10, "[IMG]", ()),
    (11, "<pad>", ()),
    (12, "[IMG_BREAK]", ("Ċ",)),
    (13, "[IMG_END]", ("Ġpicture",)),
    (14, "[PREFIX]", ()),
    (15, "[MIDDLE]", ()),
    (16, "[SUFFIX]", ()),
    (17, "[SYSTEM_PROMPT]", ("<|im_start|>", "system")),
    (18, "[/SYSTEM_PROMPT]", ("<|im_end|>",)),
    (19, "[TOOL_CONTENT]", ("Ġcontent",)),
    (32, "[ARGS]", ("Ġwith",)),
    (33, "[CALL_ID]", ("Ġid",)),
]
CONTROL_TOKENS = {token_id: token for token_id, token, _ in CONTROL_TABLE}
CONTROL_IDS = {token: token_id for token_id, token, _ in CONTROL_TABLE}
CONTROL_COUNT = 40

# GPT-2's splitting pattern, with which the base was trained. Here every digit is a token of its
# own too, as in the base, which splits digits in a separate step.
PATTERN = r"\p{N}|'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"

# A picture's longer side is scaled down to 168 pixels: at most 6 × 6 image tokens.
# Patch size and merge are those of Small 3.1 and 3.2, where the longer side is 1540 pixels.
IMAGE = {"image_patch_size": 14, "max_image_size": 168, "spatial_merge_size": 2}


def convert(base_tokenizer) -> tuple[dict, np.ndarray]:
    """The content of a Tekken file, and the base's id of each of its tokens.

    Args:
        base_tokenizer: the base's fast tokenizer, from `transformers.AutoTokenizer`.

    Returns:
        The file as a dict, and an int array of shape (vocabulary,). It holds the base's token id
        for each Tekken id, or -1 for the bytes and control tokens that the base lacks.

    Raises:
        ValueError: a Tekken file cannot hold the base's vocabulary.
    """
    bpe = json.loads(base_tokenizer.backend_tokenizer.to_str())["model"]
    merged = ["".join(pair) for pair in bpe["merges"]]
    # Here, since it takes half a second, and a server needs only the constants of this module.
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    as_byte = {letter: byte for byte, letter in bytes_to_unicode().items()}
    letters = sorted(as_byte, key=as_byte.get)
    controls = {token.content for token in base_tokenizer.added_tokens_decoder.values()}
    # A merge that gives a token twice, or a token without a merge, would shift the ranks.
    if len(set(merged)) != len(merged) or set(bpe["vocab"]) - controls - set(merged) - set(letters):
        raise ValueError("The base's vocabulary holds more than single bytes and merges.")

    tokens = letters + merged
    vocab = []
    for rank, token in enumerate(tokens):
        token_bytes = bytes(as_byte[letter] for letter in token)
        text = token_bytes.decode("utf-8", errors="replace")
        vocab.append(
            {
                "rank": rank,
                "token_bytes": base64.b64encode(token_bytes).decode("ascii"),
                "token_str": None if "\ufffd" in text else text,
            }
        )
    content = {
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
    base_ids = [-1] * CONTROL_COUNT + [bpe["vocab"].get(token, -1) for token in tokens]
    return content, np.array(base_ids)


def write(content: dict, folder: Path) -> Path:
    """Save a Tekken file's content as `tekken.json` in `folder`; return its path."""
    path = folder / "tekken.json"
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path
