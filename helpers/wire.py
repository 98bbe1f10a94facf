"""Conversations as the model reads them: Mistral's wire formats, through mistral_common.

The tokenizer files of Small 3.x are published with their weights. mistral_common contains an older
file (V3) of the same vocabulary family, and the later formats are made from that: the same text
tokens and the same layout of a conversation. Only the ids of the newer control tokens may differ
from those of the 24B.
"""

import copy
import json
from functools import cache
from pathlib import Path

import mistral_common
from mistral_common.protocol.instruct.chunk import AudioURLChunk, ImageURLChunk
from mistral_common.protocol.instruct.normalize import get_normalizer
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.validator import ValidationMode, get_validator
from mistral_common.tokens.tokenizers import base, instruct
from mistral_common.tokens.tokenizers.image import ImageConfig
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer, load_image_encoder
from mistral_common.tokens.tokenizers.tekken import Tekkenizer

SHIPPED = Path(mistral_common.__file__).parent / "data" / "tekken_240911.json"
INSTRUCT = {
    "v7": instruct.InstructTokenizerV7,
    "v11": instruct.InstructTokenizerV11,
    "v13": instruct.InstructTokenizerV13,
}
# Small 3.1 and 3.2: patches of 14 pixels, merged 2 × 2, after shrinking the longer side to 1540.
PIXTRAL_IMAGES = {"image_patch_size": 14, "max_image_size": 1540, "spatial_merge_size": 2}


@cache
def tokenizer(version: str = "v11") -> MistralTokenizer:
    """Mistral's tokenizer with the wire format `version`: "v7", "v11" or "v13".

    Small 3 and 3.1 use v7, 3.2 uses v11. Image tokens are counted by the rule of Small 3.1 and 3.2.

    Raises:
        ValueError: another version.
    """
    if version not in INSTRUCT:
        raise ValueError(f"no wire format {version!r} here: {', '.join(INSTRUCT)}")
    number = base.TokenizerVersion(version)
    vocabulary = copy.copy(_vocabulary())  # a shallow copy: reading the file takes a second
    vocabulary._version = number
    image_encoder = load_image_encoder(vocabulary.image, vocabulary)
    return MistralTokenizer(
        INSTRUCT[version](vocabulary, image_encoder=image_encoder),
        validator=get_validator(number, mode=ValidationMode.test),
        request_normalizer=get_normalizer(number, None),
    )


@cache
def _vocabulary() -> Tekkenizer:
    """The text tokens of the shipped file, with the control tokens of all versions."""
    file = json.loads(SHIPPED.read_text(encoding="utf-8"))
    config = file["config"]
    special = list(Tekkenizer.DEPRECATED_SPECIAL_TOKENS)
    known = {token["token_str"] for token in special}
    for token in base.SpecialTokens:
        if token not in known:
            special.append({"rank": len(special), "token_str": str(token), "is_control": True})
    return Tekkenizer(
        file["vocab"],
        special,
        pattern=config["pattern"],
        vocab_size=config["default_vocab_size"],
        num_special_tokens=config["default_num_special_tokens"],
        version=base.TokenizerVersion.v11,
        image_config=ImageConfig(**PIXTRAL_IMAGES),
    )


def encode(
    messages: list[dict], tools: list[dict] | None = None, version: str = "v11"
) -> list[int]:
    """The token ids of a conversation in OpenAI's form, as the model reads it.

    Offline: nothing is fetched or opened, so each picture must be in the message, as a data URL.

    Raises:
        mistral_common.exceptions.MistralCommonException: the format forbids something in it, such
            as a tool-call id of another form.
        ValueError: a picture is given by its address.
    """
    request = ChatCompletionRequest.from_openai(messages=messages, tools=tools)
    for message in request.messages:
        for part in message.content if isinstance(message.content, list) else []:
            if isinstance(part, (ImageURLChunk, AudioURLChunk)):
                _refuse_address(part.get_url() if isinstance(part, ImageURLChunk) else part.url)
    return tokenizer(version).encode_chat_completion(request).tokens


def _refuse_address(url: str) -> None:
    """mistral_common itself would fetch an `http:` address and open a `file:` one."""
    if not url.startswith("data:"):
        raise ValueError(
            f"Tokens are counted offline, so a picture must be in the message, not at {url[:80]!r}:"
            ' give a data URL ("data:image/png;base64,…"), which helpers.images.image_part makes.'
        )


def decode(token_ids: list[int], version: str = "v11") -> str:
    """Token ids as readable text, with control tokens such as `[INST]`."""
    return tokenizer(version).decode(token_ids, special_token_policy=base.SpecialTokenPolicy.KEEP)


def count_tokens(text: str, file: str | Path | None = None) -> int:
    """The number of tokens of a text, without begin and end tokens.

    Args:
        file: a `tekken.json`, such as the pocket model's; Mistral's own vocabulary if None.
    """
    chosen = tokenizer() if file is None else from_file(Path(file))
    return len(chosen.instruct_tokenizer.tokenizer.encode(text, bos=False, eos=False))


from_file = cache(MistralTokenizer.from_file)
