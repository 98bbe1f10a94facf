"""TODO."""

from typing import Any

from labkit.exercises.engine import exercise, number

exercise(
    "02-bits",
    hint="each block of 64 weights shares one scale; without double quantisation it is float32.",
    solution="answer = 4 + 32 / 64",
)(
    number(
        4.5,
        {
            4.0: "The codes take 4 bits, but each block of 64 also has a scale.",
            4.127: "That is with double quantisation.",
            4.125: "That is nearly what double quantisation gives: its scales have 8 bits, not 32.",
            4.25: "The scale is a float32: 32 bits.",
        },
        tolerance=1e-4,
    )
)


@exercise(
    "02-skip",
    hint="three names, two of them with a path from the top of the model.",
    solution='answer = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]',
)
def _skip(answer: Any) -> str | None:
    if not isinstance(answer, list | tuple | set):
        return "A list of module names is wanted."
    given = set(answer)
    if {"vision_tower", "multi_modal_projector"} & given:
        return "Names match from the start of the path: what stands before vision_tower?"
    if "lm_head" not in given:
        return "The list replaces the defaults: what turns hidden states into words is missing."
    missing = {"model.vision_tower", "model.multi_modal_projector"} - given
    if missing:
        return f"Of the vision part, {len(missing)} of 2 modules would still be quantised."
    if any("language_model" in name or name == "model" for name in given):
        return "That would keep the language model in full precision too."
    return None


@exercise(
    "02-save",
    hint="on some processors the weights in memory are no longer those that were quantised.",
    solution='answer = "load_4bit"',
)
def _save(answer: Any) -> str | None:
    if not isinstance(answer, str):
        return "The name of a function is wanted, as text."
    name = answer.strip().removesuffix("()").rsplit(".", 1)[-1]
    if name == "load_4bit":
        return None
    if name == "saves_whole":
        return "That tells whether it is too late. What helps when it is?"
    if name in ("save_pretrained", "save_4bit"):
        return "That would save weights whose scales were rounded."
    return f"{answer} does not bring back the weights as they were quantised."
