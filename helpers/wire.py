"""What a conversation looks like to the model: Mistral's wire formats, through mistral_common.

The tokenizer files of Small 3.x lie beside their weights on the hub. mistral_common ships an older
one (V3) of the same vocabulary family, so the later formats are made from that: same words, same
layout of a conversation. Only the numbers of the newer control tokens may differ from the 24B's.
"""

import copy
import json
from functools import cache
from pathlib import Path

import mistral_common
from mistral_common.protocol.instruct.normalize import get_normalizer
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.validator import ValidationMode, get_validator
from mistral_common.tokens.tokenizers.base import (
    SpecialTokenPolicy,
    SpecialTokens,
    TokenizerVersion,
)
from mistral_common.tokens.tokenizers.image import ImageConfig
from mistral_common.tokens.tokenizers.instruct import (
    InstructTokenizerV7,
    InstructTokenizerV11,
    InstructTokenizerV13,
)
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer, load_image_encoder
from mistral_common.tokens.tokenizers.tekken import Tekkenizer

SHIPPED = Path(mistral_common.__file__).parent / "data" / "tekken_240911.json"
INSTRUCT = {
    TokenizerVersion.v7: InstructTokenizerV7,
    TokenizerVersion.v11: InstructTokenizerV11,
    TokenizerVersion.v13: InstructTokenizerV13,
}
PIXTRAL_IMAGES = {"image_patch_size": 14, "max_image_size": 1540, "spatial_merge_size": 2}


def tokenizer(version: str = "v11") -> MistralTokenizer:
    """Mistral's tokenizer with the wire format ``version``: ``"v7"``, ``"v11"`` or ``"v13"``.

    Small 3 and 3.1 speak v7, 3.2 speaks v11. Pictures are counted by Small 3.1's and 3.2's rule:
    patches of 14 pixels, merged 2 × 2, after shrinking the longer side to 1540.
    """
    if version not in INSTRUCT:
        raise ValueError(f"no wire format {version!r} here: {', '.join(INSTRUCT)}")
    return _tokenizer(TokenizerVersion(version))


@cache
def _tokenizer(version: TokenizerVersion) -> MistralTokenizer:
    vocabulary = copy.copy(_vocabulary())  # the words are shared: reading them takes a second
    vocabulary._version = version
    return MistralTokenizer(
        INSTRUCT[version](
            vocabulary, image_encoder=load_image_encoder(vocabulary.image, vocabulary)
        ),
        validator=get_validator(version, mode=ValidationMode.test),
        request_normalizer=get_normalizer(version, None),
    )


@cache
def _vocabulary() -> Tekkenizer:
    """The shipped file's words, with the control tokens of all versions."""
    file = json.loads(SHIPPED.read_text(encoding="utf-8"))
    known = list(Tekkenizer.DEPRECATED_SPECIAL_TOKENS)
    later = [token for token in SpecialTokens if token not in {t["token_str"] for t in known}]
    added = [
        {"rank": rank, "token_str": str(token), "is_control": True}
        for rank, token in enumerate(later, start=len(known))
    ]
    return Tekkenizer(
        file["vocab"],
        known + added,
        pattern=file["config"]["pattern"],
        vocab_size=file["config"]["default_vocab_size"],
        num_special_tokens=file["config"]["default_num_special_tokens"],
        version=TokenizerVersion.v11,
        image_config=ImageConfig(**PIXTRAL_IMAGES),
    )


def tokens(
    messages: list[dict], tools: list[dict] | None = None, version: str = "v11"
) -> list[int]:
    """The token ids of a conversation in OpenAI's form, as the model would read it.

    Raises mistral_common's exceptions for what the format forbids, such as a wrong tool-call id.
    """
    request = ChatCompletionRequest.from_openai(messages=messages, tools=tools)
    return tokenizer(version).encode_chat_completion(request).tokens


def text(token_ids: list[int], version: str = "v11") -> str:
    """Token ids as readable text, control tokens such as ``[INST]`` kept."""
    return tokenizer(version).decode(token_ids, special_token_policy=SpecialTokenPolicy.KEEP)


def count_tokens(words: str, file: str | Path | None = None) -> int:
    """How many tokens a text is, without any that begin or end it.

    Args:
        file: a ``tekken.json``, such as the pocket model's; without one Mistral's own vocabulary.
    """
    found = tokenizer() if file is None else _from_file(Path(file))
    return len(found.instruct_tokenizer.tokenizer.encode(words, bos=False, eos=False))


@cache
def _from_file(path: Path) -> MistralTokenizer:
    return MistralTokenizer.from_file(path)
