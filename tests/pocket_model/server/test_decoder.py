"""The server's text model against transformers' own, in all of its forms."""

import copy
import functools
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import bitsandbytes.functional as bitsandbytes
import pytest
import torch
from safetensors.torch import load_file
from tiny_models import sharp_model
from torch.nn.functional import scaled_dot_product_attention
from transformers import Mistral3ForConditionalGeneration

from helpers.paths import ROOT
from pocket_model.build import QUANTIZATIONS
from pocket_model.processor import bf16_matmul_is_fast
from pocket_model.server import decoder as decoder_module
from pocket_model.server import linears
from pocket_model.server.decoder import Decoder, KeyValues
from pocket_model.server.engine import MANY_ROWS
from pocket_model.server.prefix_cache import PIECE_TOKENS

VOCABULARY = 49_196
COMPARED = 8  # of the last tokens of each prompt
NO_BF16_INSTRUCTIONS = {"ONEDNN_MAX_CPU_ISA": "AVX2"}  # bf16_matmul_is_fast is False with it


def random_ids(count: int, seed: int = 0) -> list[int]:
    noise = random.Random(seed)
    return [noise.randrange(1000, VOCABULARY) for _ in range(count)]


def read(decoder: Decoder, prompt: list[int], pieces=(), *, many: bool = False) -> torch.Tensor:
    """The last hidden states of all tokens, read in pieces of these lengths, the rest at once."""
    cache, states = decoder.key_values(len(prompt)), []
    for length in [*pieces, len(prompt)]:
        piece = prompt[cache.length : cache.length + length]
        if piece:
            states.append(decoder.run(decoder.embed(piece), [(cache, len(piece))], many=many))
    assert cache.length == len(prompt)
    return torch.cat(states)


def as_the_engine_reads(decoder: Decoder, prompt: list[int]) -> torch.Tensor:
    """The logits of the last tokens."""
    many = len(prompt) >= MANY_ROWS
    pieces = [PIECE_TOKENS] * (len(prompt) // PIECE_TOKENS)
    with torch.inference_mode():
        return decoder.logits(read(decoder, prompt, pieces, many=many)[-COMPARED:])


def as_transformers_does(model, prompt: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        ids = torch.tensor([prompt])
        return model(input_ids=ids, logits_to_keep=COMPARED).logits[0].float()


def mean_difference(some: list[torch.Tensor], others: list[torch.Tensor]) -> float:
    return (torch.cat(some) - torch.cat(others)).abs().mean().item()


# --- float32: the same arithmetic ------------------------------------------------------------


@pytest.fixture(scope="module")
def thin():
    return sharp_model(seed=2)


@pytest.fixture(scope="module")
def thin_folder(thin, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("thin")
    thin.save_pretrained(folder)
    return folder


@pytest.fixture
def thin_decoder(thin_folder, monkeypatch) -> Decoder:
    monkeypatch.setattr(linears._Widened, "wide", torch.float32)  # bf16 on a CPU with AMX
    return Decoder(thin_folder, "bf16")


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 16, 23, 24, 25, 63, 64, 65, 127, 300, 1000])
def test_a_float32_model_has_transformers_logits_however_it_is_read(
    thin, thin_decoder, length, many
):
    prompt = random_ids(length, seed=length)
    noise = random.Random(length)
    cuts = [noise.randint(1, 1 + length // 3) for _ in range(8)]
    ways = {"at once": [], "in pieces": cuts, "token by token": [1] * min(length, 130)}
    with torch.inference_mode():
        exact = thin(input_ids=torch.tensor([prompt]), logits_to_keep=40).logits[0]
        for way, pieces in ways.items():
            states = read(thin_decoder, prompt, pieces, many=many)
            assert states.shape == (length, 64)
            mine = thin_decoder.logits(states[-40:])
            assert (mine - exact).abs().max() < 1e-4, way


def test_conversations_that_are_run_together_have_transformers_logits(thin, thin_decoder):
    prompts = [random_ids(length, seed=length) for length in (30, 1, 90, 7)]
    with torch.inference_mode():
        exact = [thin(input_ids=torch.tensor([prompt])).logits[0] for prompt in prompts]
        caches = [thin_decoder.key_values(100) for _ in prompts]
        for start, end in ((0, 1), (1, 5), (5, 6), (6, 100)):  # some have no token left
            parts = [prompt[start:end] for prompt in prompts]
            spans = [(cache, len(part)) for cache, part in zip(caches, parts, strict=True) if part]
            tokens = [token for part in parts for token in part]
            logits = thin_decoder.logits(thin_decoder.run(thin_decoder.embed(tokens), spans))
            wanted = torch.cat([each[start:end] for each in exact])
            assert (logits - wanted).abs().max() < 1e-4
    assert [cache.length for cache in caches] == [30, 1, 90, 7]


def test_the_context_is_the_models(thin, thin_decoder):
    assert thin_decoder.context == thin.config.text_config.max_position_embeddings == 2048


# --- bf16: as close to float32 as transformers' own bf16 -------------------------------------


WORDS = ["the", "sea", "a", "river", "bread", "and", "bees", "in", "winter", "東京", "naïve", "why"]
WORDS += [
    '{"a": [1, 2.5]}',
    "<b>",
    "how many people live near Oslo?",
    "add 17 to 25",
    "a poem on fog",
]


@pytest.fixture(scope="module")
def prompts(chat_format) -> list[list[int]]:
    """50 of 1 to 1,500 tokens: random ids, and conversations with and without tools."""
    noise = random.Random(7)

    def text(words: int) -> str:
        return " ".join(noise.choices(WORDS, k=words))

    def turns(*words: int) -> list[dict]:
        roles = ["user", "assistant"] * len(words)
        return [{"role": role, "content": text(n)} for role, n in zip(roles, words, strict=False)]

    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tools = [
        {"type": "function", "function": {"name": name, "parameters": parameters}}
        for name in ("get_weather", "book_a_train")
    ]
    found = [random_ids(length, length) for length in (1, 1, 2, 3, 5, 9, 16, 23, 24, 25, 40, 90)]
    found += [chat_format.encode(turns(n)).ids for n in range(1, 21)]
    found += [chat_format.encode(turns(n, 5, n)).ids for n in range(1, 11)]
    system = {"role": "system", "content": "You are brief."}
    found += [chat_format.encode([system, *turns(3 * n)], tools[: n % 3]).ids for n in range(1, 7)]
    long = chat_format.encode(turns(1500)).ids
    found += [long[500:760], long[:1500]]
    assert len(found) == 50
    assert {min(map(len, found)), max(map(len, found))} == {1, 1500}
    return found


@pytest.fixture(scope="module")
def exact_model(model_folder):
    """The built model in transformers' float32."""
    model = Mistral3ForConditionalGeneration.from_pretrained(model_folder, dtype=torch.float32)
    return model.eval()


@pytest.fixture(scope="module")
def half_model(model_folder):
    """The built model in transformers' bf16, whose rounding is the measure for the decoder's."""
    model = Mistral3ForConditionalGeneration.from_pretrained(model_folder, dtype=torch.bfloat16)
    return model.eval()


@pytest.mark.slow
def test_bf16_is_as_close_to_float32_as_transformers_is(
    prompts, exact_model, half_model, model_folder
):
    decoder = Decoder(model_folder, "bf16")
    exact = [as_transformers_does(exact_model, prompt) for prompt in prompts]
    half = [as_transformers_does(half_model, prompt) for prompt in prompts]
    mine = [as_the_engine_reads(decoder, prompt) for prompt in prompts]
    rounding = mean_difference(half, exact)
    assert mean_difference(mine, exact) <= rounding
    long = slice(-2, None)
    assert mean_difference(mine[long], exact[long]) <= 1.1 * mean_difference(
        half[long], exact[long]
    )
    exact, mine = torch.cat(exact), torch.cat(mine)
    best = exact.topk(2).values
    is_near_tie = best[:, 0] - best[:, 1] < 2 * rounding
    is_other = mine.argmax(-1) != exact.argmax(-1)
    assert is_near_tie.float().mean() < 0.3
    assert is_other.float().mean() < 0.05
    assert not (is_other & ~is_near_tie).any()


# --- the rounded forms -----------------------------------------------------------------------


def in_int8(weight: torch.Tensor) -> torch.Tensor:
    """127 steps on each side of zero up to a row's largest weight, their size in bf16."""
    step = (weight.abs().amax(dim=1, keepdim=True) / 127).bfloat16().double()
    return (weight / step).nan_to_num().round().clamp(-127, 127) * step  # some rows are zeros


def in_int4(weight: torch.Tensor) -> torch.Tensor:
    """16 values, at equal steps, over the range of each 32 weights of a row."""
    groups = weight.reshape(len(weight), -1, 32)
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    step = ((high - low) / 15).bfloat16().double()
    middle = (low + 8 * step).bfloat16().double()
    steps = ((groups - middle) / step).nan_to_num().round().clamp(-8, 7)
    return (steps * step + middle).reshape(weight.shape)


def in_nf4(file: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    """A weight of the 4-bit copy, by bitsandbytes."""
    parts = {key.removeprefix(f"{name}."): file[key] for key in file if key.startswith(f"{name}.")}
    state = bitsandbytes.QuantState.from_dict(parts, device=torch.device("cpu"))
    return bitsandbytes.dequantize_4bit(file[name], state)


def rounded_model(exact_model, quantization: str, folder: Path):
    """transformers' float32 model with rounded weights; the embeddings stay as they are."""
    model = copy.deepcopy(exact_model)
    file = load_file(folder / "nf4" / "model.safetensors")
    last = len(model.model.language_model.layers) - 1
    twice = (f"layers.{last}.", "v_proj")  # where int8 has two bytes for a weight
    with torch.no_grad():
        for name, layer in model.model.language_model.named_modules():
            if isinstance(layer, torch.nn.Linear):
                weight = layer.weight.double()
                match quantization:
                    case "int8" if not any(part in name for part in twice):
                        weight = in_int8(weight)
                    case "int4":
                        weight = in_int4(weight)
                    case "nf4":
                        weight = in_nf4(file, f"language_model.model.{name}.weight")
                layer.weight.copy_(weight)
        if quantization in ("int8", "int4"):
            head = in_int8(model.lm_head.weight.double()).float()
            model.lm_head.weight = torch.nn.Parameter(head)
    return model


@pytest.fixture(scope="module")
def short_prompts(prompts) -> list[list[int]]:
    return [prompt for prompt in prompts if 3 <= len(prompt) <= 80][::3]


@pytest.fixture(scope="module")
def rounding(short_prompts, exact_model, half_model) -> float:
    """What transformers' bf16 changes."""
    exact, half = (
        [as_transformers_does(model, prompt) for prompt in short_prompts]
        for model in (exact_model, half_model)
    )
    return mean_difference(exact, half)


@pytest.fixture(scope="module")
def rounded_logits(short_prompts, exact_model, model_folder):
    """The logits of a float32 model with weights of a form."""

    @functools.cache
    def logits(quantization: str) -> list[torch.Tensor]:
        model = rounded_model(exact_model, quantization, model_folder)
        return [as_transformers_does(model, prompt) for prompt in short_prompts]

    return logits


def built(quantization: str, folder: Path) -> Decoder:
    return Decoder(folder / "nf4" if quantization == "nf4" else folder, quantization)


@pytest.mark.parametrize("has_bf16", [True, False])
@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_every_form_has_the_logits_of_its_rounded_weights(
    quantization, has_bf16, short_prompts, rounding, rounded_logits, model_folder, monkeypatch
):
    """But for the rounding of activations; with bf16 instructions, if there are any, or without."""
    attended = set()

    def attention(query, keys, values, **options):
        attended.update((query.dtype, keys.dtype, values.dtype))
        return scaled_dot_product_attention(query, keys, values, **options)

    monkeypatch.setattr(decoder_module, "scaled_dot_product_attention", attention)
    if not has_bf16:
        for module in (decoder_module, linears):
            monkeypatch.setattr(module, "bf16_matmul_is_fast", lambda: False)
    decoder = built(quantization, model_folder)
    mine = [as_the_engine_reads(decoder, prompt) for prompt in short_prompts]
    if quantization == "nf4":
        rounding *= 1.2  # bitsandbytes rounds the weights once more, to bf16
    assert mean_difference(mine, rounded_logits(quantization)) <= rounding
    others = [each for each in QUANTIZATIONS if each != quantization]
    for other in others:  # or the weights' rounding would be lost in that of activations
        assert mean_difference(mine, rounded_logits(other)) > rounding
    has_bf16 = has_bf16 and bf16_matmul_is_fast()
    assert attended == {torch.bfloat16 if has_bf16 else torch.float32}
    # The cache is small in any case.
    assert decoder.key_values(1).tensor.dtype == torch.bfloat16


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_the_bytes_of_a_step_are_those_of_layers_and_head(quantization, model_folder):
    folder = model_folder / "nf4" if quantization == "nf4" else model_folder
    file = load_file(folder / "model.safetensors")
    layers = {name: file[name] for name in file if "language" in name and "_proj.weight" in name}
    if quantization != "nf4":
        for name, weight in layers.items():  # without the heads that are zeros
            used = weight.any(0), weight.any(1)
            layers[name] = weight[:, used[0]] if "o_proj" in name else weight[used[1]]
        assert sum(map(torch.numel, layers.values())) == 30 * 576 * (960 + 576 + 3 * 1536)
    head = file["language_model.model.embed_tokens.weight"]
    # Without bf16 instructions, bf16 weights are held in float32.
    times = 1 if bf16_matmul_is_fast() else 2
    twice = [each for name, each in layers.items() if ".layers.29." in name or "v_proj" in name]
    expected = {
        # a byte, and two bytes for a row; some weights are two numbers
        "int8": sum(each.numel() + 2 * len(each) for each in [*layers.values(), *twice, head]),
        "bf16": times * sum(each.nbytes for each in [*layers.values(), head]),
        # half a byte, and four bytes for 32 weights; the head in int8
        "int4": sum(each.numel() * 5 // 8 for each in layers.values())
        + head.numel()
        + 2 * len(head),
        "nf4": sum(each.nbytes for each in layers.values()) + times * head.nbytes,
    }[quantization]
    assert Decoder(folder, quantization).weight_bytes == expected


def test_heads_are_cut_only_if_no_layer_uses_them():
    size, group, hidden = 4, 2, 8

    def attention(layers: list[list[int]], heads: int) -> dict[str, torch.Tensor]:
        """Weights of so many query heads, of which each layer uses some."""
        tensors = {}
        for number, used in enumerate(layers):
            output = torch.zeros(hidden, heads * size)
            for head in used:
                output[:, head * size : (head + 1) * size] = 1
            shapes = {"q": heads * size, "k": heads * size // group, "v": heads * size // group}
            name = f"layers.{number}.self_attn"
            tensors |= {f"{name}.{k}_proj.weight": torch.ones(n, hidden) for k, n in shapes.items()}
            tensors[f"{name}.o_proj.weight"] = output
        return tensors

    for layers, kept in (
        ([[0], [1]], 1),
        ([[0], [2]], 2),  # another head of that group is idle, and stays
        ([[0], [5]], 3),
        ([[], [0]], 1),  # a layer of zeros
        ([[], []], 1),
    ):
        tensors = attention(layers, heads=6)
        assert decoder_module.without_idle_heads(tensors, [6, 3, 3], size) == [
            kept * group, kept, kept,
        ]  # fmt: skip
        for number in range(2):
            name = f"layers.{number}.self_attn"
            assert len(tensors[f"{name}.q_proj.weight"]) == kept * group * size
            assert len(tensors[f"{name}.k_proj.weight"]) == kept * size
            assert len(tensors[f"{name}.v_proj.weight"]) == kept * size
            assert tensors[f"{name}.o_proj.weight"].shape == (hidden, kept * group * size)


# --- several conversations at a time ---------------------------------------------------------


def copy_of(decoder: Decoder, cache: KeyValues) -> KeyValues:
    other = decoder.key_values(cache.capacity)
    other.append(cache.part(0, cache.length))
    return other


@pytest.mark.parametrize(
    ("quantization", "has_bf16"),
    [("bf16", True), ("int8", True), ("int4", True), ("int8", False), ("int4", False)],
)
def test_a_conversations_numbers_do_not_depend_on_the_others(
    quantization, has_bf16, model_folder, monkeypatch
):
    """To the bit, with one new token each, and with as many as a schema forces."""
    if quantization == "bf16" and not bf16_matmul_is_fast():
        pytest.skip("without bf16 instructions, bf16 weights are multiplied in float32")
    if not has_bf16:
        for module in (decoder_module, linears):
            monkeypatch.setattr(module, "bf16_matmul_is_fast", lambda: False)
    decoder = built(quantization, model_folder)
    noise = random.Random(3)
    lengths = [1, 40, 2, 24, 23, 7, 90, 1, 3, 30, 12, 5]
    with torch.inference_mode():
        caches = []
        for length in lengths:
            caches.append(decoder.key_values(length + noise.randint(70, 900)))
            prompt = decoder.embed(random_ids(length, seed=length))
            decoder.run(prompt, [(caches[-1], length)], many=length >= MANY_ROWS)
        for counts in ([1] * 12, [1, 40, 2, 1, 17], [1, 1]):
            parts = [random_ids(count, seed=number) for number, count in enumerate(counts)]
            together = [copy_of(decoder, cache) for cache in caches[: len(counts)]]
            states = decoder.run(
                decoder.embed([token for part in parts for token in part]),
                list(zip(together, counts, strict=True)),
            )
            logits = decoder.logits(states)
            for part, cache, other, own_states, own_logits in zip(
                parts, caches, together, states.split(counts), logits.split(counts), strict=False
            ):
                alone = copy_of(decoder, cache)
                found = decoder.run(decoder.embed(part), [(alone, len(part))])
                assert torch.equal(found, own_states)
                assert torch.equal(decoder.logits(found), own_logits)
                assert other.length == alone.length == cache.length + len(part)
                assert torch.equal(alone.part(0, alone.length), other.part(0, other.length))


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_new_tokens_do_not_depend_on_the_number_of_threads(quantization, model_folder):
    """To the bit: the engine changes that number while it computes."""
    if quantization in ("bf16", "nf4"):
        if not bf16_matmul_is_fast():
            pytest.skip("without bf16 instructions, these weights are multiplied in float32")
        if torch.cpu._is_amx_tile_supported():
            pytest.skip("how oneDNN divides products among threads with AMX is not known here")
    decoder, before, found = built(quantization, model_folder), torch.get_num_threads(), []
    with torch.inference_mode():
        caches = [decoder.key_values(300) for _ in range(7)]
        for number, cache in enumerate(caches):
            prompt = random_ids(20 + 40 * number, seed=number)
            decoder.run(decoder.embed(prompt), [(cache, len(prompt))], many=True)
        try:
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                for count in (7, 1):
                    spans = [(copy_of(decoder, cache), 1) for cache in caches[:count]]
                    states = decoder.run(decoder.embed(random_ids(count)), spans)
                    found.append((count, decoder.logits(states)))
        finally:
            torch.set_num_threads(before)
    for count, logits in found:
        first = next(other for number, other in found if number == count)
        assert torch.equal(logits, first)


# --- other processors ------------------------------------------------------------------------


# Prints the likeliest token after each token of a text, and by how much, in all forms.
LIKELIEST = """
import json, sys, torch
from pathlib import Path
from pocket_model.processor import bf16_matmul_is_fast
from pocket_model.server.decoder import Decoder

folder, text = Path(sys.argv[1]), json.loads(sys.argv[2])
found = {"bf16 is fast": bf16_matmul_is_fast()}
found["capability"] = torch.backends.cpu.get_cpu_capability()
half = len(text) // 2  # as the engine does: a prompt, and tokens of an answer
with torch.inference_mode():
    for name in ("int8", "bf16", "int4", "nf4"):
        decoder = Decoder(folder / "nf4" if name == "nf4" else folder, name)
        cache = decoder.key_values(len(text))
        states = [decoder.run(decoder.embed(text[:half]), [(cache, half)], many=True)]
        states += [decoder.run(decoder.embed([id]), [(cache, 1)]) for id in text[half:]]
        best = decoder.logits(torch.cat(states)).topk(2)
        margins = best.values[:, 0] - best.values[:, 1]
        found[name] = list(zip(best.indices[:, 0].tolist(), margins.tolist()))
print(json.dumps(found))
"""


def likeliest(folder: Path, text: list[int], **environment: str) -> dict:
    command = [sys.executable, "-c", LIKELIEST, str(folder), json.dumps(text)]
    result = subprocess.run(
        command, env=os.environ | environment, cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def text(chat_format) -> list[int]:
    question = chat_format.encode([{"role": "user", "content": "What is the capital of Italy?"}])
    return question.ids + chat_format.encode_text("The capital of Italy is Rome.")


@pytest.fixture(scope="module")
def likeliest_here(model_folder, text) -> dict:
    return likeliest(model_folder, text)


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [{"ATEN_CPU_CAPABILITY": "avx2"}, {"ATEN_CPU_CAPABILITY": "default"}, NO_BF16_INSTRUCTIONS],
    ids=["AVX2", "no vector instructions", "no bf16 instructions"],
)
def test_other_processors_choose_the_same_tokens(environment, model_folder, text, likeliest_here):
    found = likeliest(model_folder, text, **environment)
    if environment == NO_BF16_INSTRUCTIONS:
        assert not found["bf16 is fast"]
    else:
        assert found["capability"] == environment["ATEN_CPU_CAPABILITY"].upper()
    for quantization in QUANTIZATIONS:
        here = likeliest_here[quantization]
        # bf16 has steps of 0.125 for logits from 16 to 32.
        clear = [number for number, (_, margin) in enumerate(here) if margin > 0.5]
        assert len(clear) > len(text) / 2
        there = found[quantization]
        assert [there[number][0] for number in clear] == [here[number][0] for number in clear]


# --- the cache -------------------------------------------------------------------------------


def test_keys_and_values_are_copied_in_parts_and_appended_in_order():
    cache = KeyValues((2, 2, 3, 20, 4), torch.bfloat16)
    assert (cache.length, cache.capacity) == (0, 20)
    some = torch.randn(2, 2, 3, 7, 4).bfloat16()
    cache.append(some[..., :5, :])
    cache.append(some[..., 5:, :])
    assert (cache.length, cache.capacity) == (7, 20)
    assert torch.equal(cache.part(0, 7), some)
    part = cache.part(2, 6)
    assert torch.equal(part, some[..., 2:6, :])
    assert part.untyped_storage().nbytes() == part.nbytes  # it keeps no memory of the others
    cache.tensor.zero_()
    assert torch.equal(part, some[..., 2:6, :])


def test_a_cache_has_room_for_its_capacity_and_no_more(thin_decoder):
    cache = thin_decoder.key_values(10)
    assert cache.capacity == 10
    assert cache.tensor.shape == (2, 2, 2, 10, 16)  # layers, both, key-value heads, head size
    with torch.inference_mode():
        thin_decoder.run(thin_decoder.embed(random_ids(8)), [(cache, 8)])
        for more in (3, 100):
            with pytest.raises(ValueError, match="no room"):
                thin_decoder.run(thin_decoder.embed(random_ids(more)), [(cache, more)])
            with pytest.raises(RuntimeError):
                cache.append(torch.zeros(2, 2, 2, more, 16))
        assert cache.length == 8
        thin_decoder.run(thin_decoder.embed(random_ids(2)), [(cache, 2)])
        with pytest.raises(ValueError, match="no room"):  # torch would drop a single one
            thin_decoder.run(thin_decoder.embed(random_ids(1)), [(cache, 1)])
    assert cache.length == 10


def test_keys_and_values_of_another_conversation_can_be_continued(thin_decoder, thin):
    prompt = random_ids(40)
    with torch.inference_mode():
        exact = thin(input_ids=torch.tensor([prompt])).logits[0, 25:]
        first = thin_decoder.key_values(40)
        thin_decoder.run(thin_decoder.embed(prompt[:30]), [(first, 30)])
        other = thin_decoder.key_values(45)
        for start, end in ((0, 11), (11, 25)):
            other.append(first.part(start, end))
        logits = thin_decoder.logits(
            thin_decoder.run(thin_decoder.embed(prompt[25:]), [(other, 15)])
        )
    assert (logits - exact).abs().max() < 1e-4
