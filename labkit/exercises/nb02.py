"""Exercises of notebook 02, Load it in 4 bits."""

import re
from typing import Any

from labkit.exercises.answers import items
from labkit.exercises.engine import exercise, number_exercise

number_exercise(
    "02-bits",
    4.5,
    hint="Each block of 64 weights has one scale. Without double quantization it is a float32.",
    mistakes={
        4.0: "The codes take 4 bits, but each block of 64 also has a scale.",
        4.127: "That is with double quantization.",
        4.125: "That is close to double quantization: there the scales have 8 bits, not 32.",
        4.25: "The scale is a float32: 32 bits.",
    },
    tolerance=1e-4,
    units=("bits", "bit", "bits per parameter", "bits/parameter"),
)


RIGHT_SKIP_LIST = {"model.vision_tower", "model.multi_modal_projector", "lm_head"}


@exercise(
    "02-skip", hint="Write three names. Two of them are paths that begin at the top of the model."
)
def judge_skip_list(answer: Any) -> str | None:
    """The modules that must stay in 16 bits, as transformers 5 matches their names."""
    names = {str(item).strip() for item in items(answer)}
    if {"vision_tower", "multi_modal_projector"} & names:
        return "A name must match from the start of the path: what is before vision_tower?"
    if "lm_head" not in names:
        return "The list replaces the defaults: the module that predicts the tokens is missing."
    missing = RIGHT_SKIP_LIST - names
    if missing:
        return f"Of the vision part, {len(missing)} of 2 modules would still be quantized."
    if any("language_model" in name or name == "model" for name in names):
        return "That would keep the language model in full precision too."
    if extra := sorted(names - {*RIGHT_SKIP_LIST}):
        return f"{extra[0]!r} was not asked for: three names are enough."
    return None


@exercise(
    "02-save", hint="On some CPUs the weights in memory are no longer those that were quantized."
)
def judge_function_before_saving(answer: Any) -> str | None:
    """The function that loads the exact quantized weights again."""
    text = getattr(answer, "__name__", answer)  # the function itself is a good answer too
    if isinstance(text, list | tuple) and len(text) == 1:
        text = text[0]
    if not isinstance(text, str):
        return "The answer should be the name of a function, as a string."
    name = re.sub(r"\(.*", "", text, flags=re.DOTALL).strip(" `").rsplit(".", 1)[-1]
    if name == "load_4bit":
        return None
    if name == "can_save":
        return "That tells you whether it is too late. What helps if it is?"
    if name in ("save_pretrained", "save_4bit"):
        return "That would save weights whose scales were rounded."
    if not name:
        return "The name is empty."
    return f"{name} does not restore the weights as they were quantized."
