"""The Tekken file says what the base's own tokenizer says, and lays a conversation out as V11."""

import base64
import io
import json
import random

import gguf
import numpy as np
import pytest
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from helpers import wire
from helpers.paths import DATA
from pocket_model import tekken

LANGUAGES = json.loads((DATA / "languages.json").read_text(encoding="utf-8"))["sentences"]

TEXTS = [
    "",
    " ",
    "a",
    "   leading and trailing   ",
    "one\ttab\n\n\nthree lines \r\n and a carriage return\r",
    "no-break\u00a0space, thin\u2009space, ideographic\u3000space, line\u2028separator\x85",
    "in 2026: 3.14159, 1,000,000 and  42 after two spaces,   7 after three\n  8",
    "½ ² ٣٤ ५६ Ⅷ 七 1st 2nd x86_64 v1.2.3",
    "It's, they're, I'VE, we'll, I'm, he'd, can't; ’s is another apostrophe",
    "def f(x: int) -> str:\n    return f'{x!r}' if x >= 0 else \"-\"  # 100 %\n",
    '{"name": "get_weather", "arguments": {"city": "São Paulo", "days": 3}}',
    "for (int i=0;i<10;++i){a[i]^=0xFF;}\t// done",
    "naïve café, cafe\u0301, Ωμέγα, Москва, 日本語, 한국어, हिन्दी, العربية, ไทย",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🎉🎉 \u200b\ufeff\x00\x07\x7f",
    "[INST] </s> <|im_end|> [IMG]",
]

# What random texts are made of: kinds of characters that the splitting pattern tells apart.
ALPHABETS = [
    "abcXYZéßñ",
    " \t\n\r\x0b\x0c\xa0\u2003\u3000\x85\x1c",
    "0123456789²½٣५Ⅷ",
    "'’`\"stremvld",
    ".,;:!?-_/\\()[]{}<>@#$%^&*+=|~",
    "αβγДжяאבتثहकาเ日本語한글",
    "\u0301\u0308\u093f\u200d\ufe0f\U0001f389\U0001f469",
]


@pytest.fixture(scope="module")
def converted(base_tokenizer):
    return tekken.convert(base_tokenizer)


@pytest.fixture(scope="module")
def mistral(converted, tmp_path_factory):
    return MistralTokenizer.from_file(
        tekken.write(converted[0], tmp_path_factory.mktemp("tokenizer"))
    )


@pytest.fixture(scope="module")
def tokenizer(mistral):
    return mistral.instruct_tokenizer.tokenizer


@pytest.fixture(scope="module")
def truth(gguf_file):
    """The base's tokenizer put together from the GGUF file alone.

    The file names its kind of splitting "smollm"; llama.cpp and SmolLM2's own tokenizer.json have
    it as single digits first, then GPT-2's pattern. transformers' GGUF reader leaves the digits
    out, so its tokenizer is not the truth here.
    """
    fields = gguf.GGUFReader(gguf_file).fields
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"
    words = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    vocab = {word: index for index, word in enumerate(words)}
    built = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    built.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    return built


def random_texts(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    texts = []
    for _ in range(count):
        alphabets = rng.sample(ALPHABETS, rng.randint(1, len(ALPHABETS)))
        letters = (rng.choice(rng.choice(alphabets)) for _ in range(rng.randint(1, 40)))
        texts.append("".join(letters))
    return texts


def random_bytes(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [
        rng.randbytes(rng.randint(1, 40)).decode("utf-8", errors="replace") for _ in range(count)
    ]


def random_characters(count: int, seed: int) -> list[str]:
    """Any characters that UTF-8 can write, most of them in no alphabet."""
    rng = random.Random(seed)
    allowed = (*range(0xD800), *range(0xE000, 0x110000))
    return ["".join(chr(rng.choice(allowed)) for _ in range(8)) for _ in range(count)]


def in_the_base(tokens: list[int], base_ids: np.ndarray) -> list[int]:
    return base_ids[np.array(tokens, dtype=int)].tolist()


@pytest.mark.parametrize("language", LANGUAGES)
def test_tokens_equal_the_bases_in_every_language(language, tokenizer, truth, converted):
    text = LANGUAGES[language]["text"]
    ours = tokenizer.encode(text, bos=False, eos=False)
    assert in_the_base(ours, converted[1]) == truth.encode(text).ids


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_equal_the_bases_in_code_digits_and_spaces(text, tokenizer, truth, converted):
    ours = tokenizer.encode(text, bos=False, eos=False)
    assert in_the_base(ours, converted[1]) == truth.encode(text).ids


def test_tokens_equal_the_bases_in_random_texts(tokenizer, truth, converted):
    texts = random_texts(3000, seed=1) + random_bytes(2000, seed=2)
    compared = 0
    for text, expected in zip(texts, truth.encode_batch(texts), strict=True):
        ours = in_the_base(tokenizer.encode(text, bos=False, eos=False), converted[1])
        # A byte that the base lacks it drops without a word, and joins what stood beside it.
        if -1 not in ours:
            assert ours == expected.ids, repr(text)
            compared += 1
    assert compared > 1500


def test_every_text_comes_back(tokenizer, converted):
    base_ids = converted[1]
    missing = np.flatnonzero(base_ids[tekken.CONTROL_COUNT :] == -1)
    assert len(missing) == 21
    assert missing.max() < 256  # single bytes, all of them
    texts = [*TEXTS, *random_texts(500, seed=4), *random_characters(1000, seed=3)]
    used = set()
    for text in texts:
        tokens = tokenizer.encode(text, bos=False, eos=False)
        used |= set(tokens)
        assert tokenizer.decode(tokens) == text
    # Some texts did need bytes that the base lacks.
    assert used & set((missing + tekken.CONTROL_COUNT).tolist())


def test_the_file_has_every_byte_and_word_once(converted):
    file, base_ids = converted
    words = [base64.b64decode(entry["token_bytes"]) for entry in file["vocab"]]
    assert words[:256] == [bytes([value]) for value in range(256)]
    assert len(set(words)) == len(words) == len(base_ids) - tekken.CONTROL_COUNT
    taken = base_ids[base_ids >= 0]
    assert len(set(taken.tolist())) == len(taken)


def test_control_tokens_have_the_numbers_of_mistrals_own_files():
    for token in Tekkenizer.DEPRECATED_SPECIAL_TOKENS:
        assert tekken.CONTROL_IDS[token["token_str"]] == token["rank"]


def test_control_tokens_typed_by_a_user_stay_text(mistral, tokenizer):
    typed = "".join(tekken.CONTROL_TOKENS.values())
    request = ChatCompletionRequest.from_openai(messages=[{"role": "user", "content": typed}])
    tokens = mistral.encode_chat_completion(request).tokens
    inside = tokens[2:-1]
    assert [token for token in tokens if token < tekken.CONTROL_COUNT] == [1, 3, 4]
    assert tokenizer.decode(inside) == typed


def test_a_vocabulary_that_is_not_bytes_and_merges_is_refused():
    letters = list(bytes_to_unicode().values())
    vocab = {word: index for index, word in enumerate([*letters, "unmerged"])}
    unfit = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab=vocab, merges=[])))
    with pytest.raises(ValueError, match="single bytes and merges"):
        tekken.convert(unfit)


# --- conversations ---------------------------------------------------------------------------

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_current_population",
            "description": "Population of a country.",
            "parameters": {
                "type": "object",
                "properties": {"country": {"type": "string"}, "unit": {"enum": ["millions"]}},
                "required": ["country"],
            },
        },
    }
]


def call(identifier: str, country: str) -> dict:
    arguments = json.dumps({"country": country})
    function = {"name": "get_current_population", "arguments": arguments}
    return {"id": identifier, "type": "function", "function": function}


def picture(width: int, height: int) -> dict:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, "PNG")
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


USER = {"role": "user", "content": "Wie viele Menschen? 日本 42"}
CONVERSATIONS = {
    "one turn": ([USER], None),
    "system": ([{"role": "system", "content": "Be brief."}, USER], None),
    "three turns": ([USER, {"role": "assistant", "content": "1."}, USER], None),
    "tools": ([{"role": "system", "content": "Be brief."}, USER], TOOLS),
    "two calls and results": (
        [
            USER,
            {"role": "assistant", "tool_calls": [call("abcdefgh1", "FR"), call("2bcdefghi", "DE")]},
            {"role": "tool", "tool_call_id": "abcdefgh1", "content": '{"millions": 68}'},
            {"role": "tool", "tool_call_id": "2bcdefghi", "content": "83 million"},
            {"role": "assistant", "content": "68 and 83 million."},
            USER,
        ],
        TOOLS,
    ),
    # Small enough for both vocabularies' largest sizes, so that neither shrinks it.
    "picture": (
        [{"role": "user", "content": [{"type": "text", "text": "What?"}, picture(84, 56)]}],
        None,
    ),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_conversation_has_the_layout_of_mistrals_own_vocabulary(name, mistral, tokenizer):
    messages, tools = CONVERSATIONS[name]
    request = ChatCompletionRequest.from_openai(messages=messages, tools=tools)
    tokens = mistral.encode_chat_completion(request).tokens
    expected = wire.decode(wire.encode(messages, tools))
    assert tokenizer.decode(tokens, special_token_policy=SpecialTokenPolicy.KEEP) == expected


@pytest.mark.parametrize(
    ("size", "columns", "rows"),
    [
        ((112, 112), 4, 4),
        ((168, 168), 6, 6),
        ((1540, 1540), 6, 6),
        ((200, 100), 6, 3),
        ((100, 200), 3, 6),
        ((28, 28), 1, 1),
        ((29, 28), 2, 1),
        ((84, 56), 3, 2),
        ((1000, 10), 6, 1),
        ((1, 1), 1, 1),
    ],
)
def test_a_picture_takes_a_token_for_28_by_28_pixels(size, columns, rows, mistral):
    request = ChatCompletionRequest.from_openai(
        messages=[{"role": "user", "content": [picture(*size)]}]
    )
    encoded = mistral.encode_chat_completion(request)
    image, line_break, end = (
        tekken.CONTROL_IDS[name] for name in ("[IMG]", "[IMG_BREAK]", "[IMG_END]")
    )
    expected = ([image] * columns + [line_break]) * rows
    expected[-1] = end
    assert encoded.tokens[2:-1] == expected
    assert encoded.images[0].shape == (3, rows * 28, columns * 28)
