"""Exercises of notebook 02, Load it in 4 bits."""

import math
import re
from typing import Any

from labkit.exercises.answers import WrongForm, alone, call, items, number
from labkit.exercises.engine import build, exercise, number_exercise, test

number_exercise(
    "02-bits",
    4.5,
    hint=(
        "What is stored for a block, besides the codes of its weights?",
        'Look at "Will it fit?": each block of 64 weights has one scale.',
        "Half of it: the codes take 4 bits, and the scale of 32 bits is shared by 64 weights.",
    ),
    mistakes={
        4.13: "That is with double quantization.",
        36.0: "64 weights share the scale: divide its 32 bits by 64.",
        4.0: "The codes take 4 bits, but each block of 64 also has a scale.",
        4.127: "That is with double quantization.",
        4.125: "That is close to double quantization: there the scales have 8 bits, not 32.",
        4.25: "The scale is a float32: 32 bits.",
    },
    tolerance=1e-4,
    units=("bits", "bit", "bits per parameter", "bits/parameter"),
)


# Linear layers of Mistral Small 3.2.
_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")
_VISION = tuple(
    f"model.vision_tower.transformer.layers.{layer}.{part}.{name}"
    for layer in range(24)
    for part, names in (("attention", _ATTENTION), ("feed_forward", _FEED_FORWARD))
    for name in names
)
_PROJECTOR = tuple(
    f"model.multi_modal_projector.{name}"
    for name in ("linear_1", "linear_2", "patch_merger.merging_layer")
)
_LANGUAGE = tuple(
    f"model.language_model.layers.{layer}.{part}.{name}"
    for layer in range(40)
    for part, names in (("self_attn", _ATTENTION), ("mlp", _FEED_FORWARD))
    for name in names
)


def _keeps(name: str, path: str) -> bool:
    """Whether transformers 5 keeps a module for a name: it reads the name as a pattern."""
    try:
        found = re.match(rf"(?:{name})(?:(?<=\.)|(?=\.|$))", path)
    except re.error:
        found = None
    return bool(found) or path.endswith(name)


@exercise(
    "02-skip",
    hint=(
        "Which three parts stay in 16 bits, and where does the path of each begin?",
        'Look at "The skip list": transformers 5 compares names from the start of the path.',
        'Half of it: ["model.vision_tower", …]. Write three names; the output layer has no prefix.',
    ),
)
def judge_skip_list(answer: Any) -> str | None:
    """The modules that must stay in 16 bits, as transformers 5 matches their names."""
    names = {str(item).strip() for item in items(answer)}
    if {"vision_tower", "multi_modal_projector"} & names:
        return "A name must match from the start of the path: what is before vision_tower?"
    names.discard("")

    def kept(path: str) -> bool:
        return any(_keeps(name, path) for name in names)

    if not kept("lm_head"):
        if any(name.endswith(".lm_head") for name in names):
            return "lm_head is not below `model`: its path begins with lm_head."
        return "The list replaces the defaults: the module that predicts the tokens is missing."
    if missing := sum(not all(map(kept, part)) for part in (_VISION, _PROJECTOR)):
        return f"Of the vision part, {missing} of 2 modules would still be quantized."
    if any(map(kept, _LANGUAGE)):
        return "That would keep the language model in full precision too."
    asked_for = (*_VISION, *_PROJECTOR, "lm_head")
    for name in sorted(names):
        if not any(_keeps(name, path) for path in asked_for):
            return f"{name!r} was not asked for: three names are enough."
    return None


# The 16 values of NF4: https://arxiv.org/abs/2305.14314, appendix E, as bitsandbytes has them.
NF4 = [
    -1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.09105004, 0.0,
    0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0,
]  # fmt: skip

build(
    "02-nf4",
    hint=(
        "What is the largest number that a block of weights divided by its scale can have?",
        'Look at "One block of weights": one scale, and the number of the nearest value.',
        "Half of it: scale = max(abs(w) for w in weights). Divide by it before you search. What if "
        "it is 0?",
    ),
    example="answer([0.5, -2.0, 0.0], VALUES) → (2.0, [10, 0, 7])",
)


def _quantized(answer: Any, weights: list[float]) -> tuple[float, list[int]]:
    result = call(answer, list(weights), list(NF4), shown="answer(weights, VALUES)")
    if isinstance(result, dict):
        result = list(result.values())
    if not isinstance(result, list | tuple) or len(result) != 2:
        raise WrongForm("It should return two things: the scale and a list of numbers.")
    scale = number(alone(result[0]), "The scale")
    if isinstance(result[1], str | bytes):
        raise WrongForm("The second thing should be a list of numbers from 0 to 15.")
    numbers = [number(each, "Each number") for each in items(result[1], "a list of numbers")]
    if len(numbers) != len(weights):
        raise WrongForm(f"{len(weights)} weights need {len(weights)} numbers, not {len(numbers)}.")
    return scale, numbers


@test("02-nf4", "the scale is the largest absolute value")
def scale_is_absmax(answer: Any) -> str | None:
    """The sign of the largest weight does not matter."""
    if math.isclose(_quantized(answer, [0.5, 1.5, -0.25])[0], 1.5, rel_tol=1e-5):
        scale = _quantized(answer, [0.5, -2.0, 0.0])[0]
        if math.isclose(scale, 2.0, rel_tol=1e-5):
            return None
        if scale < 0:
            return "A scale is positive: of -2.0 take the absolute value."
        return "The largest weight can be negative: take absolute values first."
    return "Of 0.5, 1.5 and -0.25 the scale is 1.5."


@test("02-nf4", "each weight becomes the number of the nearest value")
def numbers_of_nearest(answer: Any) -> str | None:
    """Numbers from 0 to 15, by distance and not by rounding down."""
    weights = [0.5, -2.0, 0.0, 1.9, -0.3, 0.7]
    numbers = _quantized(answer, weights)[1]
    right = [min(range(16), key=lambda n: abs(NF4[n] - w / 2)) for w in weights]
    if numbers == right:
        return None
    if all(-1 <= each <= 1 for each in numbers):
        return "Return the number of each value in VALUES, from 0 to 15, and not the value."
    if numbers == [each + 1 for each in right]:
        return "Count from 0: the value -1.0 has the number 0."
    if numbers == [min(range(16), key=lambda n: abs(NF4[n] - w)) for w in weights]:
        return "Divide each weight by the scale before you look for the nearest value."
    below = [max((n for n in range(16) if NF4[n] <= w / 2), default=0) for w in weights]
    if numbers == below:
        return "That is the next value below. The nearest one can also be above."
    return f"For {weights} the numbers should be {right}, not {[int(each) for each in numbers]}."


@test("02-nf4", "a block of 64 weights")
def whole_block(answer: Any) -> str | None:
    """No weight is further from its value than half of the widest gap."""
    weights = [math.sin(1.7 * n) * (1 + n % 5) / 50 for n in range(64)]
    scale, numbers = _quantized(answer, weights)
    if any(each % 1 or not 0 <= each <= 15 for each in numbers):
        return "Each number should be a whole one from 0 to 15: that is what 4 bits hold."
    error = max(abs(NF4[int(each)] * scale - w) for each, w in zip(numbers, weights, strict=True))
    return None if error <= 0.153 * scale else "Some weights come back as another value."


@test("02-nf4", "a block of zeros")
def block_of_zeros(answer: Any) -> str | None:
    """Padding is made of zeros, and its scale is zero."""
    try:
        scale, numbers = _quantized(answer, [0.0] * 4)
    except WrongForm as wrong:
        if "stopped with an error" in str(wrong) or "finite" in str(wrong):
            return "A block of zeros has the scale 0, and nothing can be divided by it."
        raise
    if scale * NF4[int(numbers[0]) % 16] == 0 and set(numbers) == {7}:
        return None
    return "Each zero should get the number of the value 0.0, which is 7. 0 / 0 is no number."
